"""Windows of latents become frames: of pictures here, of displacements by the prior itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
from jaxtyping import UInt8

from ..controls.regions import idle, laid_over, moving, part
from ..priors.protocol import VideoPrior
from ..process import Video
from ..render.colour import anchor
from ..render.freeze import feather, freeze
from ..render.native import native
from .base import Tiling

Frame = UInt8[np.ndarray, "H W 3"]


class Painter(Protocol):
    """A film painted window by window: no more than one is held."""

    def go_on(self, x: Video, lead: int) -> int:
        """The next window, `lead` of whose latent frames were shown before; returns how many new frames it brings."""
        ...

    def frames(self) -> Iterator[Frame]:
        """The present window's new frames, at the painting's size."""
        ...


class PictureFilm:
    """Frames decoded from pictures; strokes and colours are carried from the painting by flow from the film's frame 0."""

    def __init__(self, prior: VideoPrior, tiles: Tiling) -> None:
        self.prior, self.tiles, self.left = prior, tiles, tiles.total
        self.x: Video | None = None
        self.opening: Video | None = None
        self.first: Frame | None = None
        self.lead = self.count = 0

    def go_on(self, x: Video, lead: int) -> int:
        """See `Painter`."""
        self.x, self.lead = x, lead
        if self.opening is None:
            self.opening = x
        per = self.tiles.per_latent
        made = min(1 + (x.shape[2] - 1) * per, self.tiles.shot.frames)
        self.skip = 1 + (lead - 1) * per if lead else 0
        self.count = min(made - self.skip, self.left)
        self.left -= self.count
        return self.count

    def frames(self) -> Iterator[Frame]:
        """See `Painter`. A window's shared frames are decoded with it and left out: a temporal decoder looks back."""
        assert self.x is not None and self.opening is not None
        if self.first is None:
            self.first = self._decoded(self.opening)[0]
        generated = self._decoded(self.x)[self.skip : self.skip + self.count]
        painting = self.tiles.shot.painting
        painted = native(itertools.chain([self.first], generated), painting)
        next(painted)
        for frame, still in painted:
            yield anchor(frame, painting, still)

    def _decoded(self, x: Video) -> UInt8[np.ndarray, "F h w 3"]:
        video = self.prior.decode(x, self.tiles.shot)[0].float().clamp(-1, 1)
        return ((video.permute(1, 2, 3, 0) + 1) * 127.5).round().byte().cpu().numpy()


class Frozen:
    """A painter whose frames keep the painting's own pixels where nothing may move."""

    def __init__(self, painter: Painter, painting: Frame, free: np.ndarray) -> None:
        """`free`: (H, W) in [0, 1], 1 moves."""
        self.painter, self.painting, self.weights = painter, painting, feather(free)

    def go_on(self, x: Video, lead: int) -> int:
        """See `Painter`."""
        return self.painter.go_on(x, lead)

    def frames(self) -> Iterator[Frame]:
        """See `Painter`."""
        for frame in self.painter.frames():
            yield freeze(frame, self.painting, self.weights)


class Regions:
    """A film of displacements with regions: each painted by its own words and strength, over the whole picture's."""

    def __init__(self, prior: Any, tiles: Tiling) -> None:
        """`prior`: one that paints films itself."""
        self.shot = tiles.shot
        shots = [part(tiles.shot, region) for region in tiles.shot.regions]
        self.still = idle(tiles.shot)
        below = [] if self.still else [replace(tiles.shot, regions=())]
        self.reels: list[Painter] = [prior.reel(shot, tiles.total) for shot in below + shots]
        self.count = 0

    def go_on(self, x: Video, lead: int) -> int:
        """See `Painter`."""
        counts = [reel.go_on(x, lead) for reel in self.reels]
        self.count = counts[0]
        return self.count

    def frames(self) -> Iterator[Frame]:
        """See `Painter`."""
        streams: list[Iterable[Frame]] = [reel.frames() for reel in self.reels]
        whole = itertools.repeat(self.shot.painting, self.count) if self.still else streams.pop(0)
        yield from laid_over(whole, streams, self.shot)


def painter(prior: VideoPrior, tiles: Tiling) -> Painter:
    """Who paints this film: the prior itself where its latents are displacements."""
    own: Painter
    if not tiles.moves:
        own = PictureFilm(prior, tiles)
    else:
        own = Regions(prior, tiles) if tiles.shot.regions else cast(Any, prior).reel(tiles.shot, tiles.total)
    free = moving(tiles.shot)
    return own if free is None else Frozen(own, tiles.shot.painting, free)
