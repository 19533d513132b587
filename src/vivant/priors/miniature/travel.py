"""What leaves its place: where such things start, and which way they go, read from a motion field."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from .edges import overlap, resize


def spread(x: np.ndarray, cells: int) -> np.ndarray:
    """A map grown by this many cells in every direction."""
    return cv2.dilate(x, np.ones((2 * cells + 1, 2 * cells + 1), np.uint8))


def travelling(
    move: Float[np.ndarray, "L h w 2"], reach: Float[np.ndarray, "h w"], quiet: float
) -> Float[np.ndarray, "h w"]:
    """Where things start (0..1) that leave their place: their sources stay put while they move on.

    `reach`: the longest displacement of each cell; under `quiet` a cell counts as still.
    """
    origin = np.zeros(reach.shape, np.float32)
    if len(move) < 2 or min(reach.shape) < 4:
        return origin
    count, labels = cv2.connectedComponents((reach > quiet).astype(np.uint8))
    for label in range(1, count):
        speed = np.hypot(move[..., 0], move[..., 1]) * (labels == label)
        peaks = speed.max((1, 2))
        keys = np.flatnonzero(peaks > 0.1 * peaks.max())
        claims = [_sources(m, s > 0.5 * s.max()) for m, s in zip(move[keys], speed[keys], strict=True)]
        last = resize(speed[keys[-1]], claims[0].shape[::-1]) > 0.4 * peaks[keys[-1]]
        first = claims[0] > 0.3
        if overlap(claims[-1] > 0.3, first) > overlap(last, first) + 0.15:
            whole = np.median(claims, 0).astype(np.float32)
            origin = np.maximum(origin, cv2.resize(whole, origin.shape[::-1], interpolation=cv2.INTER_AREA))
    return origin


def followed(move: Float[np.ndarray, "L h w 2"], mine: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "L 2"]:
    """The way of a thing that starts at `mine`, in fractions of the sides: the motion around it, followed from key to key."""
    way = [np.zeros(2, np.float32)]
    for m in move:
        ahead = carried(mine, way[-1])
        weight = spread(ahead, 3) * np.hypot(m[..., 0], m[..., 1]) ** 2
        total = float(weight.sum())
        way.append(-(m * weight[..., None]).sum((0, 1)) / total if total > 1e-9 else way[-1])
    return np.stack(way[1:])


def carried(mine: Float[np.ndarray, "h w"], way: Float[np.ndarray, "2"]) -> Float[np.ndarray, "h w"]:
    """A map moved by `way`, in fractions of the sides."""
    rows, columns = mine.shape
    ahead = np.array([[1, 0, way[0] * columns], [0, 1, way[1] * rows]], np.float32)
    return cv2.warpAffine(mine, ahead, (columns, rows))


def _sources(move: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The places (4h 4w) that the active cells (h w) look at through `move` (h w 2)."""
    rows, columns = 4 * active.shape[0], 4 * active.shape[1]
    fine = (
        resize(move * active[..., None], (columns, rows)) / np.maximum(resize(active, (columns, rows)), 0.1)[..., None]
    )
    y, x = np.nonzero(resize(active, (columns, rows)) > 0.5)
    tx, ty = np.rint(x + fine[y, x, 0] * columns), np.rint(y + fine[y, x, 1] * rows)
    ok = (tx >= 0) & (tx < columns) & (ty >= 0) & (ty < rows)
    hits = np.bincount((ty[ok] * columns + tx[ok]).astype(int), minlength=rows * columns).reshape(rows, columns)
    return cv2.GaussianBlur(np.minimum(hits, 1).astype(np.float32), (0, 0), 0.8)
