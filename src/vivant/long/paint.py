"""Windows of latents become frames: of pictures here, of displacements by the prior itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

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
    """A painter whose frames keep the painting's own pixels outside the motion mask."""

    def __init__(self, painter: Painter, tiles: Tiling) -> None:
        self.painter, self.painting = painter, tiles.shot.painting
        assert tiles.shot.controls.mask is not None
        self.weights = feather(tiles.shot.controls.mask)

    def go_on(self, x: Video, lead: int) -> int:
        """See `Painter`."""
        return self.painter.go_on(x, lead)

    def frames(self) -> Iterator[Frame]:
        """See `Painter`."""
        for frame in self.painter.frames():
            yield freeze(frame, self.painting, self.weights)


def painter(prior: VideoPrior, tiles: Tiling) -> Painter:
    """Who paints this film: the prior itself where its latents are displacements."""
    own: Painter = (
        getattr(prior, "reel")(tiles.shot, tiles.total) if tiles.moves else PictureFilm(prior, tiles)  # noqa: B009
    )
    return own if tiles.shot.controls.mask is None else Frozen(own, tiles)
