"""Fréchet distance between two samples of features, from the features themselves or from running moments."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import InputError
from .sample import SmallSampleWarning, is_quiet, pair, quiet, subset

SMALL = 10
"""Samples with fewer clips than this many times the width of their features have their bias measured."""

SPLITS = 4


class Moments(NamedTuple):
    """Number of clips, mean and unbiased covariance of a sample, in float64."""

    size: int
    mean: Float[Tensor, " D"]
    covariance: Float[Tensor, "D D"]


def moments(x: Float[Tensor, "N D"]) -> Moments:
    """The moments of a sample. A running form: `vivant.metrics.torch_metrics.FrechetVideoDistance`."""
    x = x.to(torch.float64)
    mean = x.mean(0)
    centred = x - mean
    return Moments(len(x), mean, centred.T @ centred / max(len(x) - 1, 1))


def frechet_distance(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> float:
    """‖μa − μb‖² + tr(Σa + Σb − 2 (Σa Σb)^½), 0 or more (Unterthiner et al. 2019, FVD eq. 2; Dowson & Landau 1982).

    N and M may differ. tr (Σa Σb)^½ is the sum of the singular values of Xa Xbᵀ, X the centred features over √(N − 1):
    no matrix root, exact too where there are fewer clips than features. Warns with `SmallSampleWarning`, which says the
    measured bias, where the smaller sample has fewer than 10 clips per feature. Raises `InputError`.
    """
    a, b = pair(a, b)
    value = _distance(a, b)
    if min(len(a), len(b)) < SMALL * a.shape[1] and not is_quiet():
        _warn(value, a, b)
    return value


def frechet_of_moments(a: Moments, b: Moments) -> float:
    """The same distance from moments alone. Raises `InputError` for widths that differ."""
    if a.mean.shape != b.mean.shape:
        raise InputError(f"expected moments of one width, got {len(a.mean)} and {len(b.mean)}")
    factors = []
    for each in (a, b):
        values, vectors = torch.linalg.eigh(each.covariance)
        factors.append(values.clamp_min(0).sqrt()[:, None] * vectors.T)
    b_mean = b.mean.to(a.mean.device)
    return _combine(a.mean - b_mean, factors[0], factors[1].to(a.mean.device))


def frechet_bias(
    a: Float[Tensor, "N D"], b: Float[Tensor, "M D"], rng: torch.Generator | None = None, splits: int = SPLITS
) -> float:
    """How much the distance is too high for lack of clips, measured: its rise when both samples are halved.

    The bias falls as 1/N (Chong & Forsyth 2020), so what halving adds is what the whole sample has too much. Below a few
    clips per feature the law starts to fail and the figure is a lower bound. At least 4 clips a side, else infinite.
    """
    a, b = pair(a, b)
    if min(len(a), len(b)) < 4:
        return float("inf")
    rng = rng or torch.Generator().manual_seed(0)
    with quiet():
        halves = [_distance(subset(a, len(a) // 2, rng), subset(b, len(b) // 2, rng)) for _ in range(splits)]
        return max(0.0, sum(halves) / splits - _distance(a, b))


def _warn(value: float, a: Tensor, b: Tensor) -> None:
    bias = frechet_bias(a, b)
    amount = f"about {bias:.3g} of {value:.3g} is bias" if bias < float("inf") else "its bias cannot even be measured"
    warnings.warn(
        f"{len(a)} against {len(b)} clips are few for {a.shape[1]} features: {amount}; compare only at equal counts, or add clips",
        SmallSampleWarning, stacklevel=3,
    )  # fmt: skip


def _distance(a: Tensor, b: Tensor) -> float:
    mean_a, mean_b = a.mean(0), b.mean(0)
    return _combine(mean_a - mean_b, _factor(a - mean_a), _factor(b - mean_b))


def _factor(centred: Tensor) -> Tensor:
    """A matrix F of at most D rows with Fᵀ F the covariance."""
    rows = centred / (len(centred) - 1) ** 0.5
    return torch.linalg.qr(rows, mode="r").R if rows.shape[0] > rows.shape[1] else rows


def _combine(shift: Tensor, a: Tensor, b: Tensor) -> float:
    overlap = torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, float(shift.square().sum() + a.square().sum() + b.square().sum() - 2 * overlap))
