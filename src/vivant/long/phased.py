"""Phased inference with shared noise reschedule: "Controllable Longer Image Animation" §3.4, eq. 9 to 12."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from ..awaken import distilled
from ..noise import white
from ..priors.combine import watched
from ..priors.protocol import Denoiser, VideoPrior
from ..process import Level, Prediction, Video, diffuse
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


def shared_steps(gamma: float, steps: int) -> int:
    """M = ⌊γ·T⌋ (eq. 9): how many of the first clip's T steps the later clips take over."""
    return math.floor(gamma * steps + 1e-9)


def order(clips: int, length: int, rng: Generator) -> Tensor:
    """Eq. 12: where each frame of the later clips takes its noise from, (clips, length), in 0 … length-1.

    The noise sequences of all clips are put one after another and shuffled as one. Each clip's sequence repeats n(t), so
    a frame of the long sequence is known by its place within a clip; its ε is its own wherever it goes.
    """
    return (torch.randperm(clips * length, generator=rng, device=rng.device) % length).view(clips, length)


def rescheduled(n: Video, places: Tensor, omega: float, rng: Generator) -> Video:
    """Eq. 11, shuffled: ñ = n(t)[places] + ω·ε. `n`: (1, C, L, h, w); `places`: (L,)."""
    return n[:, :, places.to(n.device)] + omega * white(n, rng)


def anchored(x: Video, head: Video) -> Video:
    """A clip (1, C, L, h, w) that begins with `head` (1, C, o, h, w) and fades back into its own way by its end.

    Every clip of a film thereby ends where the first one did: nothing can drift off, however many there are.
    """
    shared, length = head.shape[2], x.shape[2]
    u = torch.linspace(0, 1, length - shared + 1, device=x.device, dtype=x.dtype)[1:].view(1, 1, -1, 1, 1)
    fade = 1 - u * u * (3 - 2 * u)
    rest = x[:, :, shared:] + fade * (head[:, :, -1:] - x[:, :, shared - 1 : shared])
    return torch.cat([head, rest], 2)


def recorded(denoise: Denoiser, step: int, into: dict[str, Tensor]) -> Denoiser:
    """Keep what the denoiser says at its evaluation number `step`: x̂0, and n(t) = ε̂ (eq. 10), at no further cost."""
    calls = 0

    def call(z: Video, level: Level) -> Prediction:
        nonlocal calls
        said = denoise(z, level)
        if calls == step:
            into.update(x0=said.x0, n=said.eps)
        calls += 1
        return said

    return call


def phased(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, total: int, rng: Generator,
    settings: Settings = Settings(), kept: Kept | None = None, on_call: OnCall = lambda level: None,
    below: Below | None = None,
) -> Iterator[Piece]:  # fmt: skip
    """The first clip in full; later clips share its steps up to M and resample the rest (eq. 9). See `methods.Method`.

    T + (K-1)·(T-M) evaluations for K clips, beside the distillation, which is done once. The paper leaves open how a
    clip that repeats the first one's outline follows on the clip before: here its clean estimate at M is led over from
    the frames shared with that clip (`anchored`), which are then held while the remaining steps are taken.
    """
    kept = kept or Forgets()
    tiles = tiling(prior, shot, total, settings)
    shot, base = tiles.shot, base_seed(rng)
    levels = prior.levels(shot, shot.steps)
    shared = shared_steps(settings.gamma, len(levels) - 1)
    bound = watched(prior.bind([shot], child(base, -1)), on_call)
    first: dict[str, Tensor] = {}
    places = order(max(tiles.count - 1, 1), tiles.length, child(base, -2))

    def make(k: int, before: Video | None) -> Video:
        own = child(base, k)
        denoise = bound if below is None else below.around(bound, k)
        if before is None:
            start = distilled(prior if below is None else below.beneath(prior), shot, proxy, child(base, -1), on_call)
            z = noised(prior, start, levels[0], own)
            x = solver(prior)(recorded(denoise, shared, first), z, levels, own)
            if "x0" not in first:  # γ = 1: nothing is left to resample
                first.update(x0=x, n=torch.zeros_like(x))
            kept.put("first", first)
            return x
        if not first:
            first.update({name: v.to(home(prior)) for name, v in (kept.get("first") or {}).items()})
        head = None if tiles.moves else before[:, :, -tiles.overlap :].to(first["x0"])
        x = first["x0"] if head is None else anchored(first["x0"], head)
        if shared >= len(levels) - 1:
            return x
        z = diffuse(x, rescheduled(first["n"], places[k - 1], settings.omega, own), levels[shared])
        return joined(solver(prior, whole=False)(held(denoise, head), z, levels[shared:], own), head)

    for k, x in enumerate(windows(kept, tiles.count, make, home(prior))):
        yield Piece(x, tiles.overlap if k else 0)
