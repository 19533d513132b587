"""Kernel distance between two samples of features: the unbiased squared maximum mean discrepancy."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from .sample import pair

BLOCK = 2048
"""Rows of a kernel matrix held at once."""


def kernel_distance(
    a: Float[Tensor, "N D"], b: Float[Tensor, "M D"], degree: int = 3, scale: float | None = None, offset: float = 1.0
) -> float:
    """Unbiased MMD² with the kernel (scale · x·y + offset)^degree, by default (x·y / D + 1)³: KVD on video features.

    Unterthiner et al. 2019, sec. 3.2, with Bińkowski et al. 2018, eq. 4. Unbiased: 0 on average for equal distributions,
    slightly negative values included, at any count; N and M may differ. Memory grows with N · 2048 and never with N · M.
    Raises `InputError`.
    """
    a, b = pair(a, b)
    scale = 1 / a.shape[1] if scale is None else scale

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (scale * x @ y.T + offset) ** degree

    def total(x: Tensor, y: Tensor) -> float:
        return sum(float(kernel(x[i : i + BLOCK], y).sum()) for i in range(0, len(x), BLOCK))

    def within(x: Tensor) -> float:
        own = float(((scale * x.square().sum(1) + offset) ** degree).sum())
        return (total(x, x) - own) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * total(a, b) / (len(a) * len(b))
