"""What a base model must offer: four methods. Everything above this file works with any prior that has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from ..process import Level, Prediction, Video
from ..shot import Shot


class Denoiser(Protocol):
    """Conditions bound, guidance applied: from noisy clips and their level to (x0, eps)."""

    def __call__(self, z: Video, level: Level) -> Prediction: ...


@dataclass(frozen=True)
class Card:
    """What a base model is and what it defaults to."""

    name: str
    frames: int
    """frames of a clip"""
    fps: int
    steps: int
    guidance: float
    size: tuple[int, int] | None
    """(width, height) it generates at; None: any, the painting's own"""
    solver: str = "dpmpp_2m"
    gain: float = 1.0
    """factor on the VSDS step sizes that suits this model's latents"""
    distil_evaluations: int | None = None
    """how many of the first ⌊p·T⌋ + 1 levels VSDS visits; None: all, as in the paper"""
    loops: bool = False
    """whether it makes loops by itself when the shot asks; others are led round by `cyclic`"""


class VideoPrior(Protocol):
    """A base model. `shots` is one shot per clip of the batch: both paths of a painting go through as one batch of two."""

    card: Card

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        """`steps + 1` levels from the noisiest on, ending at (1, 0, ·)."""
        ...

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """Each painting held still, as latents (B, C, L, h, w)."""
        ...

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """A denoiser for B = len(shots) clips, each conditioned on its own shot."""
        ...

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """Latents to frames in [-1, 1]."""
        ...


@runtime_checkable
class PaintsNative(Protocol):
    """A prior that paints frames at the painting's own size, one at a time (no clip is held in memory)."""

    def frames(self, x: Video, shot: Shot) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The frames of one clip (batch of 1), 8-bit sRGB."""
        ...


@runtime_checkable
class StartsItself(Protocol):
    """A prior with its own way from a clean clip to the noisy one its solver begins with (FrameInit, DCTInit …)."""

    def start(self, x: Video, level: Level, rng: Generator) -> Video:
        """From clean latents (B, C, L, h, w) to the start at `level`, the noisiest."""
        ...


@runtime_checkable
class SolvesItself(Protocol):
    """A prior with its own solver (a pipeline's scheduler), in place of the one its card names."""

    def solve(self, denoise: Denoiser, z: Video, levels: Sequence[Level], rng: Generator) -> Video:
        """From noisy latents at `levels[0]` to the clip at `levels[-1]`."""
        ...
