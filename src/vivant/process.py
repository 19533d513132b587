"""The diffusion process every prior shares: z = a·x0 + s·ε, and the 2×2 solve that undoes it.

A network emits F = p·x0 + q·ε. Whatever (p, q) is (ε: 0, 1; v: -s, a; flow: -1, 1), `recover` gives back both
x0 and ε, so that solvers and distillation never divide and never branch on a model's parameterisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Video: TypeAlias = Float[Tensor, "B C L h w"]
"""Latents: B clips, C channels, L latent frames of h×w."""

Form = Literal["epsilon", "v_prediction", "flow", "sample"]


class Level(NamedTuple):
    """One noise level: z = a·x0 + s·ε; `t` is the network's own clock (an index, ¼·ln σ, 1000·σ …)."""

    a: float
    s: float
    t: float


class Prediction(NamedTuple):
    """What a denoiser believes: the clean clip and the noise; a·x0 + s·eps equals its input."""

    x0: Video
    eps: Video


def recover(z: Video, out: Video, level: Level, p: float, q: float) -> Prediction:
    """Solve (z, out) = ((a, s), (p, q))·(x0, ε) for both unknowns.

    `z`, `out`: (B, C, L, h, w). The determinant a·q - s·p is 1 for v and flow at every level, a for ε: only
    ε-prediction at a = 0 has no answer, and raises `ZeroDivisionError`.
    """
    det = level.a * q - level.s * p
    if det == 0:
        raise ZeroDivisionError(f"F = {p}·x0 + {q}·ε says nothing about x0 at a={level.a}, s={level.s}")
    return Prediction(x0=(q * z - level.s * out) / det, eps=(level.a * out - p * z) / det)


def coefficients(form: Form, level: Level) -> tuple[float, float]:
    """(p, q) of F = p·x0 + q·ε for a named output form at this level."""
    table: dict[str, tuple[float, float]] = {
        "epsilon": (0.0, 1.0),
        "v_prediction": (-level.s, level.a),
        "flow": (-1.0, 1.0),
        "sample": (1.0, 0.0),
    }
    return table[form]


def diffuse(x: Video, noise: Video, level: Level) -> Video:
    """z = a·x + s·ε: bring a clean clip (B, C, L, h, w) to a noise level."""
    return level.a * x + level.s * noise


def vp_levels(
    alphas_cumprod: Tensor, timesteps: Sequence[int] | Tensor, scale: Tensor | None = None
) -> list[Level]:  # fmt: skip
    """Levels of a variance-preserving schedule at the given integer timesteps, closed by (1, 0, 0).

    `alphas_cumprod`: (T,), in [0, 1]; a = k·√ᾱ, s = √(1-ᾱ). `scale`: k (T,), the factor on the signal of a model
    trained with dynamic rescaling; None: 1.
    """
    bars = alphas_cumprod.double()
    signal = bars.sqrt() if scale is None else scale.double() * bars.sqrt()
    out = [Level(float(signal[int(t)]), float((1 - bars[int(t)]).sqrt()), float(t)) for t in timesteps]
    return [*out, Level(1.0, 0.0, 0.0)]


def scheduler_levels(scheduler: Any, steps: int) -> list[Level]:
    """Levels read from a diffusers scheduler (VP with `alphas_cumprod`, or flow matching with `sigmas`).

    The scheduler's own spacing decides the timesteps; the result has `steps + 1` entries and ends at (1, 0, 0).
    """
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.tolist()
    if hasattr(scheduler, "alphas_cumprod"):
        return vp_levels(scheduler.alphas_cumprod, timesteps)
    sigmas = [float(s) for s in scheduler.sigmas.double()]
    return [Level(1 - s, s, float(t)) for s, t in zip(sigmas, timesteps, strict=False)] + [Level(1.0, 0.0, 0.0)]


def to_flow(level: Level) -> Level:
    """The flow-matching level (1-σ, σ) with the same signal-to-noise ratio a/s; its clock is 1000·σ."""
    sigma = level.s / (level.a + level.s)
    return Level(1 - sigma, sigma, 1000 * sigma)


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """Rescale betas (T,) so that ᾱ_T = 0 (Lin et al. 2023, algorithm 1)."""
    root = (1 - betas).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    bars = root**2
    alphas = torch.cat([bars[:1], bars[1:] / bars[:-1]])
    return 1 - alphas
