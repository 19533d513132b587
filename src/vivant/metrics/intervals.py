"""Intervals of 95 %: of shares (user studies) and of means over clips."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """How often a method was chosen of the times it was shown, and the 95 % interval of that share."""

    chosen: int
    shown: int
    rate: float
    low: float
    high: float


def wilson(chosen: int, shown: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927): (low, high) in [0, 1]; (0, 1) of nothing shown."""
    if shown == 0:
        return 0.0, 1.0
    share, extra = chosen / shown, z * z / shown
    centre, half = share + extra / 2, z * math.sqrt(share * (1 - share) / shown + extra / (4 * shown))
    return max(0.0, (centre - half) / (1 + extra)), min(1.0, (centre + half) / (1 + extra))


def clustered(
    chosen: np.ndarray, shown: np.ndarray, rng: np.random.Generator, draws: int = 2000
) -> tuple[float, float]:
    """Percentile interval of Σ chosen / Σ shown when participants are drawn with replacement; `chosen`, `shown`: (P,)."""
    picked = rng.integers(len(chosen), size=(draws, len(chosen)))
    rates = chosen[picked].sum(1) / np.maximum(shown[picked].sum(1), 1)
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)


def rate_of(chosen: np.ndarray, shown: np.ndarray, interval: str, seed: int) -> Rate:
    """The share of (P,) participants' choices; `interval`: "bootstrap" over participants, or "wilson"."""
    k, n = int(chosen.sum()), int(shown.sum())
    if interval == "bootstrap" and len(chosen) > 1:
        low, high = clustered(chosen, shown, np.random.default_rng(seed))
    else:
        low, high = wilson(k, n)
    return Rate(k, n, k / n if n else 0.0, low, high)


def interval_of_mean(values: np.ndarray, draws: int = 1000) -> tuple[float | None, float | None]:
    """95 % interval of a mean over clips, clips drawn with replacement; none of a single clip."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None, None
    picked = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[picked].mean(1), (0.025, 0.975))
    return float(low), float(high)
