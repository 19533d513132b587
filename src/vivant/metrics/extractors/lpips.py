"""LPIPS as an extractor: features whose squared distance is the published measure."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ...errors import InputError, WeightsError
from .registry import ALEXNET_SHA256
from .weights import fill, place, tensors

HEADS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
"""LPIPS v0.1's linear heads for AlexNet; torchmetrics carries the file."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
TAPS = (1, 4, 7, 9, 11)
"""The activations that are compared: after each ReLU."""


class Lpips:
    """AlexNet activations, unit length along the channels, times the square root of the learned weight over the area.

    Summed squares of differences of these are Σ_l 1/(H_l W_l) Σ_hw ‖w_l ⊙ (ŷ − ŷ₀)‖², Zhang et al. 2018, eq. 1, with
    the weights of LPIPS v0.1. (B, D), where D grows with the frames' size: about 490 000 at 224 × 224.
    """

    name = "lpips"
    takes: Literal["videos", "frames"] = "frames"

    def __init__(self, network: nn.Sequential, heads: list[Tensor], version: str, device: str = "cpu") -> None:
        self.network, self.version, self.device = network.to(device), version, device
        if any(bool((h < 0).any()) for h in heads):
            raise WeightsError("expected the heads of LPIPS without negative weights; install torchmetrics anew")
        self.roots = [h.flatten().sqrt().view(1, -1, 1, 1).to(device) for h in heads]

    @classmethod
    def load(cls, path: Path | None = None, device: str = "cpu", expected: str = ALEXNET_SHA256) -> Lpips:
        """torchvision's AlexNet, and the heads out of torchmetrics, both by their hash. Raises `WeightsError`."""
        state = tensors(path or place("lpips") / "alexnet-owt-7be5be79.pth", "lpips", expected)
        body = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        network = fill(alexnet(), body, "lpips")
        return cls(network, heads(), f"{expected}+{HEADS_SHA256}", device)  # type: ignore[arg-type]

    @torch.no_grad()
    def __call__(self, batch: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Features of frames at their own size. Raises `InputError` for frames under 64 pixels a side."""
        if batch.ndim != 4 or batch.shape[-1] != 3 or min(batch.shape[1:3]) < 64:
            raise InputError(f"expected frames of at least 64×64 as (B, H, W, 3), got {tuple(batch.shape)}")
        x = batch.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        shift, scale = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        x = (x - shift) / scale
        found: list[Tensor] = []
        for i, layer in enumerate(self.network):
            x = layer(x)
            if i in TAPS:
                length = x.square().sum(1, keepdim=True).sqrt() + 1e-8
                area = x.shape[2] * x.shape[3]
                found.append((x / length * self.roots[len(found)] / area**0.5).flatten(1))
        return torch.cat(found, 1)


def alexnet() -> nn.Sequential:
    """The convolutions of AlexNet ("one weird trick", Krizhevsky 2014) up to the last ReLU."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
    )  # fmt: skip


def heads() -> list[Tensor]:
    """The five weight vectors of LPIPS v0.1, AlexNet, out of torchmetrics. Raises `WeightsError`."""
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise WeightsError("expected the heads of LPIPS in torchmetrics, it is not installed; pip install torchmetrics")
    path = Path(spec.origin).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    state = tensors(path, "lpips", HEADS_SHA256)
    return [state[f"lin{i}.model.1.weight"] for i in range(len(TAPS))]
