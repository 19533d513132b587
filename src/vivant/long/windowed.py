"""Gen-L-Video (Wang et al. 2023): overlapping windows are denoised together; where they overlap, their mean decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..awaken import distilled
from ..noise import white
from ..priors.combine import watched
from ..priors.protocol import Denoiser, VideoPrior
from ..process import Level, Prediction, Video, diffuse
from ..shot import Shot
from .attention import fused_over_time
from .base import Below, Forgets, Kept, OnCall, Piece, Settings, Tiling, base_seed, child, home, solver, tiling
from .state import solved

Windows = Float[Tensor, "K C L h w"]


def cut(long: Video, tiles: Tiling) -> Windows:
    """The film's latents (1, C, N, h, w) as windows (K, C, L, h, w)."""
    starts = range(0, tiles.count * tiles.stride, tiles.stride)
    return torch.cat([long[:, :, s : s + tiles.length] for s in starts])


def laid(parts: Windows, tiles: Tiling, weights: Float[Tensor, "K L"]) -> Video:
    """Windows laid over each other, as their weighted mean: (1, C, N, h, w)."""
    total = torch.zeros(1, parts.shape[1], tiles.latents, *parts.shape[3:], dtype=parts.dtype, device=parts.device)
    norm = torch.zeros(tiles.latents, dtype=parts.dtype, device=parts.device)
    for k in range(tiles.count):
        place = slice(k * tiles.stride, k * tiles.stride + tiles.length)
        weight = weights[k].to(norm)
        total[:, :, place] += parts[k : k + 1] * weight.view(1, 1, -1, 1, 1)
        norm[place] += weight
    return total / norm.view(1, 1, -1, 1, 1)


def steps_of(x: Windows) -> Windows:
    """Displacement since the window's beginning, as the step from each latent frame to the next."""
    return torch.diff(x, dim=2, prepend=torch.zeros_like(x[:, :, :1]))


def agreed(x: Windows, tiles: Tiling, weights: Float[Tensor, "K L"]) -> Windows:
    """Windows that agree wherever they overlap: pictures by their mean, displacements by the mean of their steps."""
    if not tiles.moves:
        return cut(laid(x, tiles, weights), tiles)
    return cut(laid(steps_of(x), tiles, weights), tiles).cumsum(2)


def together(denoise: Denoiser, tiles: Tiling, weights: Float[Tensor, "K L"]) -> Denoiser:
    """One denoiser for all windows of a film: asked for each in turn, their clean clips made to agree."""

    def call(z: Windows, level: Level) -> Prediction:
        x0 = agreed(torch.cat([denoise(part, level).x0 for part in z.split(1)]), tiles, weights)
        return Prediction(x0, (z - level.a * x0) / level.s)

    return call


def even(tiles: Tiling) -> Float[Tensor, "K L"]:
    """Gen-L-Video's weights: the plain mean. Models of pictures hold a window's first frame at the painting, so that frame
    counts for nothing in later windows, where another covers it."""
    weights = torch.ones(tiles.count, tiles.length, dtype=torch.float64)
    if not tiles.moves:
        weights[1:, 0] = 1e-6
    return weights


def pieces(x: Windows, tiles: Tiling, weights: Float[Tensor, "K L"]) -> Iterator[Piece]:
    """Finished windows as stretches of the film."""
    if not tiles.moves:
        for k, part in enumerate(x.split(1)):
            yield Piece(part, tiles.overlap if k else 0)
        return
    steps = laid(steps_of(x), tiles, weights)
    for part in steps.split(tiles.length, 2):
        yield Piece(part.cumsum(2), 0)


def joint(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, tiles: Tiling, noise: Video | None,
    weights: Float[Tensor, "K L"], base: int, kept: Kept, on_call: OnCall, below: Below | None = None,
    inside: bool = False,
) -> Iterator[Piece]:  # fmt: skip
    """All windows at once, from one long noise (1, C, N, h, w) that is white where None; they finish together.

    `inside`: the film is denoised as one clip, its windows fused within the network's attention over time.
    """
    shot, device = tiles.shot, home(prior)
    found = kept.get("film")
    if found is None:
        levels, own = prior.levels(shot, shot.steps), child(base, 0)

        def begin() -> Video:
            lower = prior if below is None else below.beneath(prior)
            start = distilled(lower, shot, proxy, child(base, -1), on_call)
            long = noise
            if long is None:
                long = white(start.new_zeros(1, start.shape[1], tiles.latents, *start.shape[3:]), own)
            clean = start.repeat(tiles.count, 1, 1, 1, 1)
            if inside:
                return diffuse(laid(clean, tiles, weights), long.to(start), levels[0])
            return diffuse(agreed(clean, tiles, weights), cut(long.to(start), tiles), levels[0])

        solve = solver(prior, whole=False)
        one = replace(shot, frames=tiles.whole) if inside else shot
        bound = watched(prior.bind([one], child(base, -1)), on_call)
        denoise = bound if inside else together(bound, tiles, weights)
        if below is not None:
            denoise = below.everywhere(denoise, tiles, inside)
        with fused_over_time(prior, tiles.latents, tiles.length, tiles.stride) if inside else nullcontext():
            found = {"x": solved(solve, denoise, begin, levels, own, kept, device)}
        kept.put("film", found)
    x = found["x"].to(device)
    yield from pieces(cut(x, tiles) if inside else x, tiles, weights)


def windowed(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, total: int, rng: Generator,
    settings: Settings = Settings(), kept: Kept | None = None, on_call: OnCall = lambda level: None,
    below: Below | None = None,
) -> Iterator[Piece]:  # fmt: skip
    """Gen-L-Video: at every step the mean of all windows that cover a frame (its eq. 6). See `methods.Method`."""
    tiles, base = tiling(prior, shot, total, settings, joint=True), base_seed(rng)
    yield from joint(prior, shot, proxy, tiles, None, even(tiles), base, kept or Forgets(), on_call, below)
