"""Denoisers compose: each function takes denoisers and gives one back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..process import Level, Prediction, Video
from .protocol import Denoiser


def masked(denoise: Denoiser, still: Video, mask: Float[Tensor, "1 1 1 h w"]) -> Denoiser:
    """Give any prior a motion mask (AnimateAnything eq. 5): outside it the clean clip is the still painting.

    `mask` in [0, 1], 1 moves. ε̂ follows from z = a·x̂0 + s·ε̂, so that the pair stays consistent.
    """

    def call(z: Video, level: Level) -> Prediction:
        x0, eps = denoise(z, level)
        held = still + mask * (x0 - still)
        if level.s == 0:
            return Prediction(held, eps)
        return Prediction(held, (z - level.a * held) / level.s)

    return call


def cyclic(denoise: Denoiser, rng: Generator) -> Denoiser:
    """Give any prior loops without training: at every evaluation the clip is turned along time by another amount.

    The network never sees the same frame as the first, so that no place in the clip becomes its seam (latent shift, as
    in Mobius, Bi et al. 2025). `rng` decides the turns.
    """

    def call(z: Video, level: Level) -> Prediction:
        turn = int(torch.randint(z.shape[2], (1,), generator=rng, device=rng.device))
        x0, eps = denoise(z.roll(turn, 2), level)
        return Prediction(x0.roll(-turn, 2), eps.roll(-turn, 2))

    return call


def watched(denoise: Denoiser, on_call: Callable[[Level], None]) -> Denoiser:
    """Tell `on_call` of every evaluation: progress and counts without a word about them in the algorithm."""

    def call(z: Video, level: Level) -> Prediction:
        on_call(level)
        return denoise(z, level)

    return call
