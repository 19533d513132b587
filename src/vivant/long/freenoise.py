"""FreeNoise (Qiu et al. 2024): one noise, shuffled along the film, and windows fused by how central a frame is in each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..noise import freenoise as shuffled
from ..priors.protocol import VideoPrior
from ..shot import Shot
from .base import Forgets, Kept, OnCall, Piece, Settings, Tiling, base_seed, child, tiling
from .windowed import joint


def central(tiles: Tiling) -> Float[Tensor, "K L"]:
    """Weights that fall off from a window's middle: j and L-1-j, whichever is less, plus one (FreeNoise §3.3)."""
    place = torch.arange(tiles.length, dtype=torch.float64)
    return (torch.minimum(place, tiles.length - 1 - place) + 1).repeat(tiles.count, 1)


def freenoise(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, total: int, rng: Generator,
    settings: Settings = Settings(), kept: Kept | None = None, on_call: OnCall = lambda level: None,
) -> Iterator[Piece]:  # fmt: skip
    """Noise rescheduled with local shuffling (§3.2), windows fused by weight at every step. See `methods.Method`.

    The fusion is of whole windows, not inside the network's attention: it asks nothing of the network but clips of the
    length it was trained on.
    """
    tiles, base = tiling(prior, shot, total, settings, joint=True), base_seed(rng)
    like = prior.still([tiles.shot], child(base, -1))
    long = like.new_zeros(1, like.shape[1], tiles.latents, *like.shape[3:])
    noise = shuffled(long, child(base, -3), tiles.length, tiles.stride)
    yield from joint(prior, shot, proxy, tiles, noise, central(tiles), base, kept or Forgets(), on_call)
