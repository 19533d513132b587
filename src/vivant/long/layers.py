"""Regions in a film: composed at every step ("together"), or each dreamt over the film so far ("in turn").

As `controls.regions` has it for one clip. In turn, a region's film and the film below it are dreamt window by window, side
by side: no more than a window of each is held, but by the methods that denoise all windows together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor

from ..controls.regions import Around, at_latents, idle, part, regional, seams
from ..controls.steer import steered
from ..priors.combine import masked
from ..priors.protocol import Denoiser, VideoPrior
from ..process import Video
from ..shot import Shot
from .base import Kept, OnCall, Piece, Settings, Tiling, base_seed, child, tiling
from .methods import JOINT, method
from .windowed import cut, steps_of


def dream(
    name: str, prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, total: int, rng: Generator, settings: Settings,
    kept: Kept, on_call: OnCall, compose: str = "together",
) -> Iterator[Piece]:  # fmt: skip
    """A film of a shot with regions or without, led along its arrows: `methods.METHODS[name]`, `compose` as in `HOW`."""
    make = method(name)
    if not shot.regions or compose == "together":
        yield from make(regional(prior, shot), shot, proxy, total, rng, settings, kept, on_call)
        return
    # One seed for all layers: models that draw a sample of the painting must see the same one in each.
    seed, tiles = base_seed(rng), tiling(prior, shot, total, settings, name in JOINT)
    alone = replace(shot, regions=())
    if idle(shot):
        film = _still(prior, tiles, child(base_seed(child(seed, 0)), -1), name in JOINT)
    else:
        film = make(steered(prior, alone), alone, proxy, total, child(seed, 0), settings, kept, on_call)
    for i, (region, outline) in enumerate(zip(shot.regions, seams(shot), strict=True), 1):
        told, below = part(shot, region), Lower(film, outline)
        mine = make(
            steered(prior, told), told, proxy, total, child(seed, 0), settings, _Shelf(kept, f"region_{i}_"), on_call, below
        )  # fmt: skip
        film = _over(mine, below)
    yield from film


def layers(shot: Shot, compose: str) -> int:
    """How many films are dreamt one over the other."""
    if not shot.regions or compose == "together":
        return 1
    return len(shot.regions) + (not idle(shot))


def _over(pieces: Iterator[Piece], below: Lower) -> Iterator[Piece]:
    for k, piece in enumerate(pieces):
        lower = below.at(k)
        yield Piece(lower + below.mask(lower) * (piece.x.to(lower) - lower), piece.lead)


def _still(prior: VideoPrior, tiles: Tiling, rng: Generator, joint: bool) -> Iterator[Piece]:
    """A film in which nothing moves, in the pieces a method would give."""
    x = prior.still([replace(tiles.shot, regions=())], rng)
    left = tiles.latents if joint and tiles.moves else tiles.count * tiles.length
    for k in range(-(-left // tiles.length)):
        yield Piece(
            x[:, :, : min(tiles.length, left - k * tiles.length)], tiles.overlap if k and not tiles.moves else 0
        )


class _Shelf:
    """A place of one's own among what is kept."""

    def __init__(self, kept: Kept, name: str) -> None:
        self.kept, self.name = kept, name

    def get(self, name: str) -> dict[str, Tensor] | None:
        """See `Kept`."""
        return self.kept.get(self.name + name)

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """See `Kept`."""
        self.kept.put(self.name + name, tensors)


class Lower:
    """The film so far, its windows drawn as they are asked for, and the outline of the region above it. See `base.Below`."""

    def __init__(self, pieces: Iterator[Piece], outline: Tensor) -> None:
        self.pieces, self.outline = pieces, outline
        self.seen: dict[int, Piece] = {}
        self.count = 0
        self.whole = False

    def mask(self, x: Video) -> Tensor:
        """The region at the size of latents."""
        return at_latents(self.outline, x)

    def at(self, k: int) -> Video:
        """Window k; those before it are let go, unless the whole film was asked for."""
        while self.count <= k:
            self._next()
        if not self.whole:
            self.seen = {i: piece for i, piece in self.seen.items() if i >= k}
        return self.seen[k].x

    def _next(self) -> None:
        self.seen[self.count] = next(self.pieces)
        self.count += 1

    def around(self, denoise: Denoiser, window: int) -> Denoiser:
        """See `Below`."""
        x = self.at(window)
        return masked(denoise, x, self.mask(x))

    def beneath(self, prior: VideoPrior) -> VideoPrior:
        """See `Below`."""
        x = self.at(0)
        return Around(prior, x, self.mask(x))

    def everywhere(self, denoise: Denoiser, tiles: Tiling, long: bool) -> Denoiser:
        """See `Below`."""
        self.whole = True
        for piece in self.pieces:
            self.seen[self.count] = piece
            self.count += 1
        parts = [self.seen[k] for k in range(self.count)]
        if tiles.moves:
            x = cut(torch.cat([steps_of(piece.x) for piece in parts], 2), tiles).cumsum(2)
        else:
            x = torch.cat([piece.x[:, :, piece.lead :] for piece in parts], 2)
            x = x if long else cut(x, tiles)
        return masked(denoise, x, self.mask(x))
