"""Two extractors without weights: statistics of gradients in space and time, the same on every machine."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d, avg_pool2d, avg_pool3d

from ...errors import InputError

LEVELS = 3
FLOOR = 1e-3
"""Gradients weaker than this part of full scale are not told apart."""


class GradientClips:
    """88 numbers a clip: how strong gradients are in 13 directions of space and time, and how sparse; its colours.

    Clips are brought to 16 × 64 × 64, three octaves are looked at. Directions between space and time see motion: a
    texture that moves to the right answers to another one than its mirror image. A stand-in for I3D where that is not
    at hand; distances in these features are not FVD.
    """

    name = "gradients-3d"
    version = "1"
    takes: Literal["videos", "frames"] = "videos"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        half = [(t, y, x) for t in (0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (t, y, x) > (0, 0, 0)]
        directions = torch.tensor(half, dtype=torch.float32)
        self.directions = (directions / directions.norm(dim=1, keepdim=True)).to(device)

    @torch.no_grad()
    def __call__(self, batch: UInt8[Tensor, "B F H W 3"]) -> Float[Tensor, "B 88"]:
        """Features of clips. Raises `InputError` for another shape."""
        if batch.ndim != 5 or batch.shape[-1] != 3:
            raise InputError(f"expected clips as (B, F, H, W, 3), got {tuple(batch.shape)}")
        # Clip by clip, which takes less memory than a batch, and on a CPU half the time: a clip stays in its cache.
        return torch.cat([self._features(clip) for clip in batch])

    def _features(self, clip: UInt8[Tensor, "F H W 3"]) -> Float[Tensor, "1 88"]:
        pixels = clip.to(self.device).permute(3, 0, 1, 2).float()
        light, *others = opponents(adaptive_avg_pool3d(pixels, (16, 64, 64))[None] / 255, 1)
        found = [torch.stack([c.mean((1, 2, 3)), c.std((1, 2, 3))], 1) for c in (light, *others)]
        found.append(adaptive_avg_pool3d(light[:, None], (1, 2, 2)).flatten(1))
        for level in range(LEVELS):
            gradient = torch.stack([_slope(light, (1, 2, 3), along) for along in (1, 2, 3)], 1)
            seen = torch.einsum("nd,bdthw->bnthw", self.directions, gradient)
            mean, root = seen.abs().mean((2, 3, 4)), seen.square().mean((2, 3, 4)).sqrt()
            found += [(mean + FLOOR).log(), (root + FLOOR).log() - (mean + FLOOR).log()]
            if level < LEVELS - 1:
                light = avg_pool3d(light[:, None], 2)[:, 0]
        return torch.cat(found, 1)


class GradientFrames:
    """240 numbers a frame: gradients in 4 directions at three octaves, and colour, on a 4 × 4 grid, at 128 × 128 pixels.

    A stand-in for CLIP, DreamSim and LPIPS between frames where those are not at hand; it knows no meaning and no words,
    and what is measured with it carries its name.
    """

    name = "gradients-2d"
    version = "1"
    takes: Literal["videos", "frames"] = "frames"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        angles = torch.arange(4) * torch.pi / 4
        self.directions = torch.stack([angles.sin(), angles.cos()], 1).to(device)

    @torch.no_grad()
    def __call__(self, batch: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 240"]:
        """Features of frames. Raises `InputError` for another shape."""
        if batch.ndim != 4 or batch.shape[-1] != 3:
            raise InputError(f"expected frames as (B, H, W, 3), got {tuple(batch.shape)}")
        pixels = batch.to(self.device).permute(0, 3, 1, 2).float() / 255
        planes = opponents(adaptive_avg_pool2d(pixels, 128), 1)
        # Light around its middle: with grey as the origin, cosines tell dark pictures from bright ones.
        found = [adaptive_avg_pool2d(torch.stack([planes[0] - 0.5, *planes[1:]], 1), 4).flatten(1)]
        light = planes[0]
        for level in range(LEVELS):
            gradient = torch.stack([_slope(light, (1, 2), along) for along in (1, 2)], 1)
            seen = torch.einsum("nd,bdhw->bnhw", self.directions, gradient).abs()
            found.append((adaptive_avg_pool2d(seen, 4) + FLOOR**2).sqrt().flatten(1))
            if level < LEVELS - 1:
                light = avg_pool2d(light[:, None], 2)[:, 0]
        return torch.cat(found, 1)


def opponents(pixels: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Light, red against blue, green against both, from RGB in 0..1 along `dim`."""
    red, green, blue = pixels.unbind(dim)
    return (red + green + blue) / 3, (red - blue) / 2, green - (red + blue) / 2


def _slope(x: Tensor, dims: tuple[int, ...], along: int) -> Tensor:
    """The smoothed derivative (Sobel's) along one of `dims`, without the border."""
    for dim in dims:
        size = x.shape[dim] - 2
        low, middle, high = x.narrow(dim, 0, size), x.narrow(dim, 1, size), x.narrow(dim, 2, size)
        x = (high - low) / 2 if dim == along else (low + 2 * middle + high) / 4
    return x
