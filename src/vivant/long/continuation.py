"""Direct continuation: every clip is dreamt in full, and begins where the one before ended."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Generator

from ..awaken import distilled
from ..priors.combine import watched
from ..priors.protocol import VideoPrior
from ..process import Video
from ..shot import Shot
from .base import (
    Below,
    Forgets,
    Kept,
    OnCall,
    Piece,
    Settings,
    base_seed,
    child,
    held,
    home,
    joined,
    noised,
    solver,
    tiling,
    windows,
)


def continuation(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, total: int, rng: Generator,
    settings: Settings = Settings(), kept: Kept | None = None, on_call: OnCall = lambda level: None,
    below: Below | None = None,
) -> Iterator[Piece]:  # fmt: skip
    """The baseline of CLIA §3.4, without its round trip through pixels: the shared frames are held as latents.

    The start of Every Painting Awakened is distilled once and set on each clip's beginning. See `methods.Method`.
    """
    kept = kept or Forgets()
    tiles = tiling(prior, shot, total, settings)
    shot, base = tiles.shot, base_seed(rng)
    levels = prior.levels(shot, shot.steps)
    found = kept.get("start")
    if found is None:
        lower = prior if below is None else below.beneath(prior)
        found = {"x": distilled(lower, shot, proxy, child(base, -1), on_call)}
        kept.put("start", found)
    start = found["x"].to(home(prior))
    bound = watched(prior.bind([shot], child(base, -1)), on_call)

    def make(k: int, before: Video | None) -> Video:
        own = child(base, k)
        denoise = bound if below is None else below.around(bound, k)
        if tiles.moves or before is None:
            return solver(prior)(denoise, noised(prior, start, levels[0], own), levels, own)
        head = before[:, :, -tiles.overlap :].to(start)
        x = start + (head[:, :, -1:] - start[:, :, :1])
        x[:, :, : tiles.overlap] = head
        return joined(solver(prior)(held(denoise, head), noised(prior, x, levels[0], own), levels, own), head)

    for k, x in enumerate(windows(kept, tiles.count, make, home(prior))):
        yield Piece(x, tiles.overlap if k else 0)
