"""Monotone curves through measurements, in NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def isotonic(y: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """The never falling sequence nearest to y in least squares (pool adjacent violators, Ayer et al. 1955)."""
    pools: list[tuple[float, int]] = []
    for value in np.asarray(y, np.float64):
        pools.append((float(value), 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (b, n), (a, m) = pools.pop(), pools.pop()
            pools.append(((a * m + b * n) / (m + n), m + n))
    return np.concatenate([np.full(n, v) for v, n in pools])


def pchip(
    x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"], at: Float[np.ndarray, " M"]
) -> Float[np.ndarray, " M"]:
    """The monotone cubic through (x, y) at the places `at` (Fritsch and Butland 1984); level beyond its ends."""
    h, d = np.diff(x), np.diff(y) / np.diff(x)
    slope = np.zeros(len(x))
    if len(x) == 2:
        slope[:] = d[0]
    else:
        u, v = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
        same = d[:-1] * d[1:] > 0
        safe = np.where(same, d[:-1], 1.0), np.where(same, d[1:], 1.0)
        slope[1:-1] = np.where(same, (u + v) / (u / safe[0] + v / safe[1]), 0)
        slope[0], slope[-1] = _end(h[0], h[1], d[0], d[1]), _end(h[-1], h[-2], d[-1], d[-2])
    at = np.clip(at, x[0], x[-1])
    i = np.clip(np.searchsorted(x, at, "right") - 1, 0, len(x) - 2)
    t = (at - x[i]) / h[i]
    bends = h[i] * t * (1 - t) * ((1 - t) * slope[i] - t * slope[i + 1])
    return y[i] + (3 - 2 * t) * t**2 * (y[i + 1] - y[i]) + bends


def _end(h0: float, h1: float, d0: float, d1: float) -> float:
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    if slope * d0 <= 0:
        return 0.0
    return 3 * d0 if d0 * d1 <= 0 and abs(slope) > 3 * abs(d0) else float(slope)


def spearman(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Rank correlation in [-1, 1], ties at their mean rank; 0 where one side is constant."""
    a, b = (_ranks(np.asarray(v, np.float64)) for v in (x, y))
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0


def _ranks(v: np.ndarray) -> np.ndarray:
    _, where, count = np.unique(v, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[where]
