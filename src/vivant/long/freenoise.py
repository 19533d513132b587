"""FreeNoise (Qiu et al. 2024): one noise, shuffled along the film, and windows fused by how central a frame is in each.

Where the network attends over time apart from space, the film is denoised as one clip and its windows are fused within
that attention, as in the paper (`attention`); elsewhere whole windows are fused at every step, which asks nothing of the
network but clips of the length it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from torch import Generator, Tensor

from ..noise import freenoise as shuffled
from ..priors.protocol import VideoPrior
from ..shot import Shot
from . import attention
from .base import Below, Forgets, Kept, OnCall, Piece, Settings, Tiling, base_seed, child, tiling
from .windowed import joint

LONGEST = 2000
"""frames of the longest clip a shot may ask of a network"""


def central(tiles: Tiling) -> Float[Tensor, "K L"]:
    """The weights of `attention.central`, for each window of the film."""
    return attention.central(tiles.length).repeat(tiles.count, 1)


def inside(prior: VideoPrior, tiles: Tiling, settings: Settings = Settings()) -> bool:
    """Whether the windows of this film are fused within the network's attention over time."""
    fits = not tiles.moves and tiles.per_latent == 1 and 1 < tiles.count and tiles.whole <= LONGEST
    return fits and settings.fuse is None and attention.over_time(prior) and not attention.numbered(prior)


def settled(prior: VideoPrior, tiles: Tiling, settings: Settings, room: bool) -> tuple[Settings, list[str]]:
    """Settings for this machine, and what is to be said of them. `room`: whether the film fits in memory as one clip."""
    if tiles.count == 1:
        return settings, []
    if inside(prior, tiles, settings):
        if room:
            return settings, ["FreeNoise: windows are fused within the network's attention over time"]
        settings = replace(settings, fuse="windows")
    if settings.fuse is not None or tiles.whole > LONGEST:
        return settings, [f"FreeNoise: whole windows are fused, {tiles.whole} frames are too many for one clip here"]
    why = "tells each frame of a clip its own" if attention.numbered(prior) else "has no attention over time alone"
    return settings, [f"FreeNoise: whole windows are fused, {prior.card.name} {why}"]


def freenoise(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, total: int, rng: Generator,
    settings: Settings = Settings(), kept: Kept | None = None, on_call: OnCall = lambda level: None,
    below: Below | None = None,
) -> Iterator[Piece]:  # fmt: skip
    """Noise rescheduled with local shuffling (§3.2), windows fused by weight (§3.3). See `methods.Method`."""
    tiles, base = tiling(prior, shot, total, settings, joint=True), base_seed(rng)
    like = prior.still([tiles.shot], child(base, -1))
    long = like.new_zeros(1, like.shape[1], tiles.latents, *like.shape[3:])
    noise = shuffled(long, child(base, -3), tiles.length, tiles.stride)
    within = inside(prior, tiles, settings)
    yield from joint(
        prior, shot, proxy, tiles, noise, central(tiles), base, kept or Forgets(), on_call, below, within
    )  # fmt: skip
