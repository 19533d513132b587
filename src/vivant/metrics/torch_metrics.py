"""One thin torchmetrics class for each metric: sums that stay small over thousands of clips, on CPU or GPU, synchronised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from ..errors import InputError
from . import functional as f
from .extractors import Extractor, TextExtractor, label
from .functional.frames import clip
from .torch_sets import FrechetVideoDistance, KernelVideoDistance

__all__ = [
    "BrushPreservation", "ColourDrift", "DirectionError", "Flicker", "FrameConsistency", "FrechetVideoDistance",
    "FreezeError", "InputConformity", "KernelVideoDistance", "LoopSeam", "MeanOverClips", "MotionInside",
    "MotionMaskPrecision", "MotionScore", "MotionStrengthError", "PerceptualDistance", "Psnr", "Ssim", "StaticScore",
    "TextAlignment",
]  # fmt: skip

Clips = np.ndarray | Tensor | Sequence[np.ndarray]
"""one clip (F, H, W, 3), or several: (B, F, H, W, 3) or a list of clips of any lengths and sizes, uint8"""


class MeanOverClips(Metric):
    """The mean of a function of one clip over all clips; clips that have no value (NaN) are left out and counted."""

    full_state_update = False
    total: Tensor
    count: Tensor
    without: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("without", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def set_dtype(self, dst_type: Any) -> MeanOverClips:
        """Sums stay in float64."""
        return self

    def add(self, values: Iterable[float]) -> None:
        """Add the values of some clips."""
        for value in values:
            known = not np.isnan(value)
            self.total += value if known else 0.0
            self.count += int(known)
            self.without += int(not known)

    def compute(self) -> Tensor:
        """The mean; NaN where no clip had a value."""
        return self.total / self.count if self.count > 0 else torch.tensor(float("nan"), dtype=torch.float64)


def _clips(clips: Clips) -> list[np.ndarray]:
    """One clip or several, as numpy arrays."""
    if isinstance(clips, Tensor):
        clips = clips.cpu().numpy()
    return [clips] if isinstance(clips, np.ndarray) and clips.ndim == 4 else list(clips)


def _each(values: Any, count: int) -> list[Any]:
    """One value for all clips, or a list with one for each. Raises `InputError`."""
    if not isinstance(values, (list, tuple)):
        return [values] * count
    if len(values) != count:
        raise InputError(f"expected one value for each of {count} clips, got {len(values)}")
    return list(values)


class _OfFrames(MeanOverClips):
    """A metric of frames alone."""

    function: Callable[..., float]

    def update(self, clips: Clips) -> None:
        """Add a clip (F, H, W, 3), or several."""
        self.add(type(self).function(c) for c in _clips(clips))


class MotionScore(_OfFrames):
    """See `functional.motion_score`."""

    function = staticmethod(f.motion_score)


class LoopSeam(_OfFrames):
    """See `functional.loop_seam`."""

    higher_is_better = False
    function = staticmethod(f.loop_seam)


class Flicker(_OfFrames):
    """See `functional.flicker`."""

    higher_is_better = False
    function = staticmethod(f.flicker)


class StaticScore(_OfFrames):
    """See `functional.static_score`."""

    higher_is_better = False
    function = staticmethod(f.static_score)


class _Against(MeanOverClips):
    """A metric of frames and one thing they are held against: a painting, a mask, a strength, a real clip."""

    function: Callable[..., float]

    def update(self, clips: Clips, against: Any) -> None:
        """Add a clip, or several with one thing for all or a list of as many."""
        found = _clips(clips)
        self.add(type(self).function(c, a) for c, a in zip(found, _each(against, len(found)), strict=True))


class Psnr(_Against):
    """See `functional.psnr`: clips against real clips."""

    higher_is_better = True
    function = staticmethod(f.psnr)


class Ssim(_Against):
    """See `functional.ssim`: clips against real clips."""

    higher_is_better = True
    function = staticmethod(f.ssim)


class BrushPreservation(_Against):
    """See `functional.brush_preservation`: clips against paintings."""

    higher_is_better = True
    function = staticmethod(f.brush_preservation)


class ColourDrift(_Against):
    """See `functional.colour_drift`: clips against paintings."""

    higher_is_better = False
    function = staticmethod(f.colour_drift)


class MotionMaskPrecision(_Against):
    """See `functional.mask_precision`: clips against masks."""

    higher_is_better = True
    function = staticmethod(f.mask_precision)


class MotionInside(_Against):
    """See `functional.motion_inside`: clips against masks."""

    higher_is_better = True
    function = staticmethod(f.motion_inside)


class MotionStrengthError(_Against):
    """See `functional.strength_error`: clips against the strengths asked for."""

    higher_is_better = False
    function = staticmethod(f.strength_error)


class DirectionError(MeanOverClips):
    """See `functional.direction_error`."""

    higher_is_better = False

    def update(self, clips: Clips, direction: Any, mask: Any = None) -> None:
        """Add clips; `direction` one (x, y) for all or a list of them, so too the mask."""
        found = _clips(clips)
        one = isinstance(direction, tuple)
        ways = [direction] * len(found) if one else _each(direction, len(found))
        self.add(f.direction_error(c, w, m) for c, w, m in zip(found, ways, _each(mask, len(found)), strict=True))


class FreezeError(MeanOverClips):
    """See `functional.freeze_error`: the mean over clips of the mean, and the worst of all in `worst`, in 8-bit steps."""

    higher_is_better = False
    worst: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("worst", torch.zeros((), dtype=torch.float64), dist_reduce_fx="max")

    def update(self, clips: Clips, painting: Any, mask: Any) -> None:
        """Add clips, each with its painting and mask, or one for all."""
        found = _clips(clips)
        pairs = zip(found, _each(painting, len(found)), _each(mask, len(found)), strict=True)
        for error in (f.freeze_error(c, p, m) for c, p, m in pairs):
            self.add([error.mean])
            if not np.isnan(error.max):
                self.worst = torch.maximum(self.worst, torch.as_tensor(error.max, dtype=torch.float64))


class _OfFeatures(MeanOverClips):
    """A metric through an extractor of frames; `label` says what it may be called."""

    higher_is_better = True
    metric: str

    def __init__(self, extractor: Extractor, batch: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extractor, self.batch, self.label = extractor, batch, label(self.metric, extractor)

    def seen(self, clips: list[np.ndarray]) -> list[Tensor]:
        """The frames' features of clips of any lengths, in full batches across clips of one size."""
        out: list[list[Tensor]] = [[] for _ in clips]
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, c in enumerate(clips):
            sizes.setdefault(clip(c).shape[1:], []).append(i)
        for members in sizes.values():
            joined = torch.from_numpy(np.concatenate([clips[i] for i in members]))
            features = torch.cat([self.extractor(part) for part in joined.split(self.batch)])
            for i, part in zip(members, features.split([len(clips[i]) for i in members]), strict=True):
                out[i].append(part)
        return [parts[0] for parts in out]


class FrameConsistency(_OfFeatures):
    """See `functional.frame_consistency`: Tem-Cons with CLIP."""

    metric = "consistency"

    def update(self, clips: Clips) -> None:
        """Add a clip, or several."""
        self.add(f.frame_consistency(x) for x in self.seen(_clips(clips)))


class TextAlignment(_OfFeatures):
    """See `functional.text_alignment`: CLIPSIM with CLIP. Raises `InputError` for an extractor that reads no words."""

    metric = "text"

    def __init__(self, extractor: Extractor, batch: int = 16, **kwargs: Any) -> None:
        if not isinstance(extractor, TextExtractor):
            raise InputError(f"expected an extractor that reads sentences, {extractor.name} reads none; load 'clip'")
        super().__init__(extractor, batch, **kwargs)
        self.reader = extractor

    def update(self, clips: Clips, sentences: str | list[str]) -> None:
        """Add clips, each with its sentence, or one for all."""
        found = _clips(clips)
        words = self.reader.text(_each(sentences, len(found)))
        self.add(f.text_alignment(x, w) for x, w in zip(self.seen(found), words, strict=True))


class InputConformity(_OfFeatures):
    """See `functional.input_conformity`: PIC with DreamSim."""

    metric = "conformity"

    def update(self, clips: Clips, painting: Any) -> None:
        """Add clips, each with its painting, or one for all."""
        found = _clips(clips)
        pictures = self.seen([p[None] for p in _each(painting, len(found))])
        self.add(f.input_conformity(x, p[0]) for x, p in zip(self.seen(found), pictures, strict=True))


class PerceptualDistance(_OfFeatures):
    """See `functional.lpips`: LPIPS with its own extractor; clips against real clips."""

    higher_is_better = False
    metric = "perceptual"

    def update(self, clips: Clips, real: Any) -> None:
        """Add clips, each with its real one."""
        found = _clips(clips)
        self.add(f.lpips(c, r, self.extractor) for c, r in zip(found, _each(real, len(found)), strict=True))
