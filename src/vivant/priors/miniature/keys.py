"""Keyframes of motion: between them, round in a loop, and on from one window to the next."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float


def between(
    keys: Float[np.ndarray, "L ..."], u: float, start: np.ndarray | None = None, slope: np.ndarray | None = None
) -> np.ndarray:
    """The keyframes at time u in [0, L] (keyframe k lies at k+1, rest at 0): a Catmull-Rom spline, smooth in time.

    `start`: the state at 0 where it is not rest; `slope`: how fast it leaves there, per keyframe, where that is known.
    """
    count = len(keys)
    k = min(int(u), count - 1)
    f = u - k
    rest = np.zeros_like(keys[0]) if start is None else start

    def at(j: int) -> np.ndarray:
        if j < 0:
            return keys[0] - 2 * slope if slope is not None else 2 * rest - keys[0]
        if j > count:
            return 2 * keys[-1] - (keys[-2] if count > 1 else rest)
        return keys[j - 1] if j > 0 else rest

    w = 0.5 * np.array([-f + 2 * f**2 - f**3, 2 - 5 * f**2 + 3 * f**3, f + 4 * f**2 - 3 * f**3, f**3 - f**2])
    return sum(np.float32(c) * at(k - 1 + j) for j, c in enumerate(w))  # type: ignore[return-value]


def bent(keys: Float[np.ndarray, "L ..."]) -> Float[np.ndarray, "L ..."]:
    """Keyframes whose last is rest: what the clip has gone by its end is taken off evenly along the way."""
    share = (np.arange(1, len(keys) + 1, dtype=np.float32) / len(keys)).reshape(-1, *[1] * (keys.ndim - 1))
    return keys - share * keys[-1]


class Track:
    """Keyframes (l ...) of one quantity in a window, going on from where and how fast it was at the join."""

    def __init__(self) -> None:
        self.keys: np.ndarray | None = None
        self.start: np.ndarray | None = None
        self.slope: np.ndarray | None = None

    @property
    def end(self) -> np.ndarray | None:
        """Where the window leaves it; None before the first."""
        return None if self.keys is None else self.keys[-1]

    def go_on(self, keys: np.ndarray) -> None:
        """The next window's keyframes, absolute."""
        if self.keys is not None:
            before = self.keys[-2] if len(self.keys) > 1 else self.start
            self.slope = self.keys[-1] - (np.zeros_like(self.keys[-1]) if before is None else before)
            self.start = self.keys[-1]
        self.keys = keys

    def at(self, t: float) -> np.ndarray:
        """The state `t` keyframes into the window."""
        assert self.keys is not None
        return between(self.keys, t, self.start, self.slope)


def composed(first: Float[np.ndarray, "h w 2"], then: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "h w 2"]:
    """The backward displacement of a picture moved by `first` and then by `then`: then(p) + first(p + then(p)).

    Both in fractions of the sides; beyond the border `first` goes on as at it.
    """
    height, width = first.shape[:2]
    x = (np.arange(width, dtype=np.float32) + then[..., 0] * width).astype(np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + then[..., 1] * height).astype(np.float32)
    looked = cv2.remap(first.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return then + looked


def eased(count: int) -> Float[np.ndarray, " count"]:
    """1 falling to 0 over a window's keyframes, with no jolt at either end."""
    u = np.arange(1, count + 1, dtype=np.float32) / count
    return 1 - u * u * (3 - 2 * u)
