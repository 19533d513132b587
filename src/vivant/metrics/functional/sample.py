"""What every distance between samples shares: checks, the small-sample warning, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import InputError, SettingError

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


class SmallSampleWarning(UserWarning):
    """A distance was taken between samples too small for it; the message carries the measured bias."""


class Interval(NamedTuple):
    """A value and the bounds it lies between at the level asked for."""

    value: float
    low: float
    high: float


@contextmanager
def quiet() -> Iterator[None]:
    """No small-sample warnings inside: resampling would measure the bias again with every draw."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def is_quiet() -> bool:
    """Whether warnings are held back here."""
    return _quiet.get()


def features(x: Tensor, what: str = "features", least: int = 2) -> Float[Tensor, "N D"]:
    """(N, D) finite features in float64, or one line saying what is wrong with them. Raises `InputError`."""
    if not isinstance(x, Tensor) or x.ndim != 2:
        shape = tuple(x.shape) if hasattr(x, "shape") else type(x).__name__
        raise InputError(f"expected {what} as an (N, D) tensor, got {shape}")
    if x.shape[0] < least:
        raise InputError(
            f"expected at least {least} clips for a distance between samples, got {x.shape[0]}; add clips, or ask only for the metrics of one clip"
        )
    x = x.to(torch.float64)
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"expected finite {what}, got NaN or infinity; check the clips they come from")
    return x


def pair(a: Tensor, b: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Two samples of features of one width; their counts may differ."""
    a, b = features(a, "the first features", least), features(b, "the second features", least)
    if a.shape[1] != b.shape[1]:
        raise InputError(
            f"expected features of one extractor, got widths {a.shape[1]} and {b.shape[1]}; extract both with the same one"
        )
    return a, b.to(a.device)


def subset(x: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
    """`count` rows drawn without replacement."""
    return x[torch.randperm(len(x), generator=rng)[:count].to(x.device)]


def bootstrap(
    function: Callable[[Tensor, Tensor], float], a: Tensor, b: Tensor, rng: torch.Generator, draws: int = 200,
    level: float = 0.95,
) -> Interval:  # fmt: skip
    """The interval in which function(a, b) lies when clips are drawn anew, both sides with replacement (Efron 1979).

    a, b: (N, …) and (M, …), rows are clips. Resampling repeats rows, which moves statistics such as the Fréchet distance
    upward by themselves; the draws are therefore centred on the value, and the interval shows its spread alone. The
    small-sample bias is a matter of `frechet_bias`. Raises `SettingError` for a level or a count out of range.
    """
    if not 0 < level < 1 or draws < 2:
        raise SettingError(f"expected a level between 0 and 1 and at least 2 draws, got {level} and {draws}")
    value = float(function(a, b))
    values = []
    with quiet():
        for _ in range(draws):
            i, j = (torch.randint(len(x), (len(x),), generator=rng).to(x.device) for x in (a, b))
            values.append(float(function(a[i], b[j])))
    centred = np.asarray(values) - np.mean(values) + value
    low, high = np.quantile(centred, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
