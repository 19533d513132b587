"""From clean latents to the frames that are published: native size, colour anchored, frozen where asked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from ..controls.regions import moving
from ..priors.protocol import PaintsNative, VideoPrior
from ..process import Video
from ..shot import Shot
from .colour import anchor
from .freeze import feather, freeze
from .native import native


def render(prior: VideoPrior, x: Video, shot: Shot) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of one clip (1, C, L, h, w) at the painting's size. A prior that paints natively is streamed."""
    free = moving(shot)
    weights = feather(free) if free is not None else None
    for frame in _frames(prior, x, shot):
        yield frame if weights is None else freeze(frame, shot.painting, weights)


def _frames(prior: VideoPrior, x: Video, shot: Shot) -> Iterator[np.ndarray]:
    if isinstance(prior, PaintsNative):
        yield from prior.frames(x, shot)
        return
    video = prior.decode(x, shot)[0].float().clamp(-1, 1)
    generated = ((video.permute(1, 2, 3, 0) + 1) * 127.5).round().byte().cpu().numpy()
    for frame, still in native(generated, shot.painting):
        yield anchor(frame, shot.painting, still)
