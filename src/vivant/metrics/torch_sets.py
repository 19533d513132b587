"""Distances between sets of clips as torchmetrics classes: running moments, and a bounded sample."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ..errors import InputError
from . import functional as f
from .extractors import Extractor, label
from .functional.frechet import SMALL
from .functional.sample import features as checked
from .functional.sample import is_quiet


class FrechetVideoDistance(Metric):
    """Fréchet distance between real and generated clips from running sums: memory (D, D), whatever the number of clips.

    FVD with the I3D extractor; `label` says what it may be called.
    """

    higher_is_better = False
    full_state_update = False
    real_count: Tensor
    fake_count: Tensor
    real_sum: Tensor

    def __init__(self, extractor: Extractor, width: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extractor, self.label = extractor, label("frechet", extractor)
        self.width = width
        if width is not None:
            self._open(width)

    def _open(self, width: int, device: torch.device | str = "cpu") -> None:
        """States of a width that is known only once features are seen."""
        self.width = width
        for side in ("real", "fake"):
            for name, shape in (("count", ()), ("sum", (width,)), ("outer", (width, width))):
                state = torch.zeros(shape, dtype=torch.float64, device=device)
                self.add_state(f"{side}_{name}", state, dist_reduce_fx="sum")
        self.to(device)

    def set_dtype(self, dst_type: Any) -> FrechetVideoDistance:
        """The sums stay in float64: differences of large squares are taken of them."""
        return self

    def update(self, batch: Tensor, real: bool) -> None:
        """Add (B, F, H, W, 3) uint8 clips, or (B, D) float features that are known already, such as out of the cache."""
        x = checked(_features(batch, self.extractor), least=1)
        if self.width is None:
            self._open(x.shape[1], x.device)
        if x.shape[1] != self.width:
            raise InputError(f"expected features of width {self.width}, got {x.shape[1]}")
        x, side = x.to(self.real_sum.device), "real" if real else "fake"
        for name, value in (("count", torch.tensor(float(len(x)))), ("sum", x.sum(0)), ("outer", x.T @ x)):
            setattr(self, f"{side}_{name}", getattr(self, f"{side}_{name}") + value.to(self.real_sum.device))

    def compute(self) -> Tensor:
        """The distance. Warns below 10 clips a feature; raises `InputError` below two clips a side."""
        if self.width is None or min(int(self.real_count), int(self.fake_count)) < 2:
            raise InputError("expected at least 2 clips a side for a distance between samples; add clips")
        few = min(int(self.real_count), int(self.fake_count))
        if few < SMALL * self.width and not is_quiet():
            warnings.warn(
                f"{few} clips are few for {self.width} features: the distance is too high; `frechet_bias` of the features measures by how much",
                f.SmallSampleWarning, stacklevel=2,
            )  # fmt: skip
        return torch.tensor(f.frechet_of_moments(self._moments("real"), self._moments("fake")), dtype=torch.float64)

    def _moments(self, side: str) -> f.Moments:
        count, total, outer = (getattr(self, f"{side}_{name}") for name in ("count", "sum", "outer"))
        mean = total / count
        return f.Moments(int(count), mean, (outer - count * torch.outer(mean, mean)) / (count - 1))


class KernelVideoDistance(Metric):
    """Kernel distance (KVD with I3D) on at most `most` clips a side, kept by reservoir sampling: memory is bounded.

    Up to `most` clips it is exact. `seed` decides which clips stay beyond that.
    """

    higher_is_better = False
    full_state_update = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, extractor: Extractor, most: int = 8192, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extractor, self.label, self.most = extractor, label("kernel", extractor), most
        self.rng = torch.Generator().manual_seed(seed)
        self.seen = {"real": 0, "fake": 0}
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, batch: Tensor, real: bool) -> None:
        """Add (B, F, H, W, 3) uint8 clips, or (B, D) float features that are known already."""
        features = _features(batch, self.extractor)
        checked(features, least=1)
        side = "real" if real else "fake"
        kept: list[Tensor] = getattr(self, side)
        for row in features.float():
            self.seen[side] += 1
            if len(kept) < self.most:
                kept.append(row[None])
            else:
                # Vitter 1985, algorithm R: every clip stays with the same chance.
                at = int(torch.randint(self.seen[side], (1,), generator=self.rng))
                if at < self.most:
                    kept[at] = row[None]

    def compute(self) -> Tensor:
        """The distance. Raises `InputError` below two clips a side."""
        real, fake = (dim_zero_cat(v) if len(v) else torch.empty(0, 1) for v in (self.real, self.fake))
        return torch.tensor(f.kernel_distance(real, fake), dtype=torch.float64)

    def reset(self) -> None:
        """Forget all clips."""
        super().reset()
        self.seen = {"real": 0, "fake": 0}


def _features(batch: Tensor, extractor: Extractor) -> Tensor:
    """Clips are uint8, features are not."""
    return extractor(batch) if batch.dtype == torch.uint8 else batch
