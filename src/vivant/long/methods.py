"""The long methods by name, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch import Generator

from ..errors import SettingError
from ..priors.protocol import VideoPrior
from ..shot import Shot
from .base import Below, Kept, OnCall, Piece, Settings
from .continuation import continuation
from .freenoise import freenoise
from .phased import phased
from .windowed import windowed


class Method(Protocol):
    """How a film longer than a clip is dreamt: windows of latents, in order, each as soon as it is finished."""

    def __call__(
        self, prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, total: int, rng: Generator,
        settings: Settings = ..., kept: Kept | None = None, on_call: OnCall = ..., below: Below | None = None,
    ) -> Iterator[Piece]:  # fmt: skip
        """A film of `total` frames. `shot.frames` is not looked at: a window has the frames `settings` says.

        `kept`: where what is finished is kept, and found when the film was begun before; `below`: the film so far, where
        this is a region of it. Raises `SettingError`.
        """
        ...


METHODS: dict[str, Method] = {
    "phased": phased,
    "continuation": continuation,
    "windowed": windowed,
    "freenoise": freenoise,
}
JOINT = ("windowed", "freenoise")
"""methods that denoise all windows together: none is finished before the last step"""


def method(name: str) -> Method:
    """The method of this name. Raises `SettingError`."""
    if name not in METHODS:
        raise SettingError(f"expected a method among {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]
