"""Classifier-free guidance as weighted branches: out = Σ wᵢ·Fᵢ with Σ wᵢ = 1, on the network's raw outputs.

Because the weights sum to 1, guiding F, x̂0 or ε̂ is the same thing at a given z, whatever the network's form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .process import Level


def combine(outputs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ wᵢ·Fᵢ over branches of one shape (B, C, L, h, w). The weights must sum to 1."""
    if len(outputs) != len(weights) or not outputs:
        raise ValueError(f"expected one weight a branch, got {len(weights)} weights for {len(outputs)} branches")
    if not math.isclose(math.fsum(weights), 1.0, abs_tol=1e-6):
        raise ValueError(f"expected guidance weights that sum to 1, got {tuple(weights)} (sum {math.fsum(weights)})")
    out = weights[0] * outputs[0]
    for weight, branch in zip(weights[1:], outputs[1:], strict=True):
        out = out + weight * branch
    return out


def text_weights(g: float) -> tuple[float, float]:
    """Weights of [without text, with text]: F_u + g·(F_c - F_u) (Ho & Salimans 2022, eq. 6). g = 1 is no guidance."""
    return 1 - g, g


def three_branch_weights(g_img: float, g_txt: float) -> tuple[float, float, float]:
    """Weights of [nothing, painting only, painting and text]: F_u + g_img·(F_i - F_u) + g_txt·(F_it - F_i).

    InstructPix2Pix's rule (Brooks et al. 2023, eq. 3), as ConsistI2V and DynamiCrafter use it.
    """
    return 1 - g_img, g_img - g_txt, g_txt


def rescale(guided: Tensor, conditional: Tensor, phi: float) -> Tensor:
    """Give guided outputs the conditional's spread, by a share `phi` in [0, 1] (Lin et al. 2023, eq. 15 and 16).

    F_rescaled = F_cfg·std(F_pos)/std(F_cfg); result φ·F_rescaled + (1-φ)·F_cfg. Tensors (B, …), std per clip.
    """
    if not 0 <= phi <= 1:
        raise ValueError(f"expected phi between 0 and 1, got {phi}")
    axes = tuple(range(1, guided.ndim))
    spread = guided.std(axes, keepdim=True)
    ratio = (conditional.std(axes, keepdim=True) / spread).masked_fill(spread == 0, 1.0)
    return guided * (phi * ratio + (1 - phi))


def in_interval(level: Level, low: float, high: float) -> bool:
    """Whether guidance is on at this level (Kynkäänniemi et al. 2024, eq. 5): low < s/a <= high.

    `low`, `high` are noise over signal, the same for every prior; `high` may be infinite, which takes in a = 0.
    """
    sigma = level.s / level.a if level.a > 0 else math.inf
    return low < sigma <= high
