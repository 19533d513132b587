"""A prior in closed form: the exact fake. Its data is a Gaussian around the painting carried by a known motion.

    x0 ~ N(μ, σ²)      x̂0 = μ + a·σ²/(a²σ²+s²)·(z - a·μ)      ε̂ = s/(a²σ²+s²)·(z - a·μ)

Every sampler, guidance rule and distillation step has a known right answer here, in milliseconds and without weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from ..errors import SettingError
from ..process import Form, Level, Prediction, Video, coefficients, recover, vp_levels, zero_terminal_snr
from ..shot import Shot
from .combine import masked
from .protocol import Card, Denoiser

CELL = 8
"""Pixels of the painting to one latent cell, in both directions."""

TRAINED = 1000
"""Training steps of the variance-preserving schedules."""


class AnalyticPrior:
    """Latents (B, 3, frames, H/8, W/8): the painting's colours in [-1, 1], averaged over cells of 8×8 pixels."""

    def __init__(self, form: Form = "epsilon", sigma: float = 0.1, motion: tuple[int, int] = (1, 0)) -> None:
        """`form`: what the stand-in network emits; it also chooses the schedule. `sigma` > 0: the spread of the data.

        `motion`: cells (right, down) that everything moves a frame; what leaves on one side comes back on the other.
        """
        if form not in ("epsilon", "v_prediction", "flow"):
            raise SettingError(f"expected form epsilon, v_prediction or flow, got {form!r}")
        if not (math.isfinite(sigma) and sigma > 0):
            raise SettingError(f"expected a finite sigma > 0, got {sigma}")
        self.card = Card(name="analytic", frames=8, fps=8, steps=25, guidance=1.0, size=None)
        self.form, self.sigma, self.motion = form, sigma, motion

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        """`steps + 1` levels, trailing spacing: scaled-linear for ε, with zero terminal SNR for v, a line for flow."""
        if not 1 <= steps <= TRAINED:
            raise SettingError(f"expected between 1 and {TRAINED} steps, got {steps}")
        if self.form == "flow":
            sigmas = [1 - i / steps for i in range(steps + 1)]
            return [Level(1 - sigma, sigma, 1000 * sigma) for sigma in sigmas]
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAINED, dtype=torch.float64) ** 2
        if self.form == "v_prediction":
            betas = zero_terminal_snr(betas)
        clock = [round(TRAINED * (1 - i / steps)) - 1 for i in range(steps)]
        return vp_levels((1 - betas).cumprod(0), clock)

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """Each painting's cells, repeated over the frames. All take the first shot's size and number of frames."""
        return self._cells(shots).repeat(1, 1, shots[0].frames, 1, 1)

    def mean(self, shots: Sequence[Shot]) -> Video:
        """μ (B, 3, L, h, w): the painting at frame 0, rolled by `motion` cells from each frame to the next."""
        cells = self._cells(shots)
        right, down = self.motion
        moved = [cells.roll((down * i, right * i), dims=(-2, -1)) for i in range(shots[0].frames)]
        return torch.cat(moved, dim=2)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """The exact denoiser of one clip per shot; a shot's motion mask holds the rest still. Draws nothing."""
        centre = self.mean(shots)

        def call(z: Video, level: Level) -> Prediction:
            p, q = coefficients(self.form, level)
            return recover(z, self.emit(z, centre.to(z), level), level, p, q)

        if all(shot.controls.mask is None for shot in shots):
            return call
        return masked(call, self.still(shots, rng), self._masks(shots))

    def emit(self, z: Video, centre: Video, level: Level) -> Video:
        """What a perfectly trained network emits: F = p·E[x0|z] + q·E[ε|z], both in closed form."""
        p, q = coefficients(self.form, level)
        a, s, _ = level
        off = (z - a * centre) / (a**2 * self.sigma**2 + s**2)
        return p * (centre + a * self.sigma**2 * off) + q * (s * off)

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """Each cell a flat square, at the painting's size, clipped to [-1, 1]."""
        height, width = shot.painting.shape[:2]
        flat = F.interpolate(x.transpose(1, 2).flatten(0, 1), size=(height, width), mode="nearest-exact")
        return flat.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2).float().clamp(-1, 1)

    def _cells(self, shots: Sequence[Shot]) -> Float[Tensor, "B 3 1 h w"]:
        size = grid(shots[0])
        small = [cv2.resize(s.painting, size, interpolation=cv2.INTER_AREA) for s in shots]
        pixels = torch.stack([torch.from_numpy(picture) for picture in small])
        return pixels.permute(0, 3, 1, 2)[:, :, None].float() / 127.5 - 1

    def _masks(self, shots: Sequence[Shot]) -> Float[Tensor, "B 1 1 h w"]:
        size = grid(shots[0])
        out = []
        for shot in shots:
            mask = shot.controls.mask
            small = None if mask is None else cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
            out.append(torch.ones(size[::-1]) if small is None else torch.from_numpy(small).float())
        return torch.stack(out)[:, None, None]


def grid(shot: Shot) -> tuple[int, int]:
    """(width, height) of a shot's latents, in cells."""
    height, width = shot.painting.shape[:2]
    return width // CELL, height // CELL
