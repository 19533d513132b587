"""Samplers over a list of levels. Each step asks the denoiser once; none knows how the network is parameterised."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Generator

from .noise import white
from .priors.protocol import Denoiser
from .process import Level, Video

Solver = Callable[[Denoiser, Video, Sequence[Level], Generator], Video]


def ddim(denoise: Denoiser, z: Video, levels: Sequence[Level], rng: Generator | None = None) -> Video:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with η = 0): z' = a'·x̂0 + s'·ε̂.

    `z`: (B, C, L, h, w) at `levels[0]`; returns the clip at `levels[-1]`. On a flow grid this is Euler's method.
    """
    for now, after in pairwise(levels):
        x0, eps = denoise(z, now)
        z = after.a * x0 + after.s * eps
    return z


def posterior_sigma(now: Level, after: Level) -> float:
    """σ = s'·√(1 - (a·s'/(s·a'))²), the noise of the diffusion's own posterior (Song et al. 2021, eq. 16 with η = 1).

    At a = 0 (zero terminal SNR) it is s': all noise is drawn anew.
    """
    return after.s * math.sqrt(max(0.0, 1 - (now.a * after.s / (now.s * after.a)) ** 2))


def ancestral_sigma(eta: float = 1.0) -> Callable[[Level, Level], float]:
    """σ = η·√((1-ᾱ')/(1-ᾱ)·(1-ᾱ/ᾱ')) (Song et al. 2021, eq. 16), ᾱ = 1-s² whatever a is.

    For schedules whose signal is scaled besides, a = k·√ᾱ, and which draw as if it were not; elsewhere it is η times
    `posterior_sigma`.
    """

    def sigma(now: Level, after: Level) -> float:
        share = (1 - now.s**2) / (1 - after.s**2)
        return eta * after.s / now.s * math.sqrt(max(0.0, 1 - share))

    return sigma


def ddim_stochastic(
    denoise: Denoiser, z: Video, levels: Sequence[Level], rng: Generator,
    sigma: Callable[[Level, Level], float] = posterior_sigma, draw: Callable[[Video, Generator], Video] = white,
) -> Video:  # fmt: skip
    """DDIM with fresh noise at every step that ends above s = 0 (Song et al. 2021, eq. 12): σ decides how much.

    z' = a'·x̂0 + √(s'² - σ²)·ε̂ + σ·n. `z`: (B, C, L, h, w) at `levels[0]`; `sigma` takes this level and the next;
    `draw` gives one clip of noise n a step from `rng`. A root that rounds below 0 is 0.
    """
    for now, after in pairwise(levels):
        x0, eps = denoise(z, now)
        fresh = sigma(now, after)
        z = after.a * x0 + math.sqrt(max(0.0, after.s**2 - fresh**2)) * eps
        if fresh > 0:
            z = z + fresh * draw(z, rng)
    return z


def dpmpp_2m(
    denoise: Denoiser, z: Video, levels: Sequence[Level], rng: Generator | None = None,
    before: tuple[Level, Video] | None = None,
) -> Video:  # fmt: skip
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), the data-prediction multistep solver.

    `z`: (B, C, L, h, w) at `levels[0]`; returns the clip at `levels[-1]`. `before`: the level before `levels[0]` and the
    x̂0 it gave, where the solver goes on in the middle. With λ = ln(a/s), h = λ' - λ:
    z' = (s'/s)·z - a'·(e^(-h) - 1)·D, D = x̂0 + (x̂0 - x̂0_before)·h/(2·h_before). The first step and one to s' = 0 are
    first order, as in diffusers with `final_sigmas_type="zero"`; so is the one after a = 0 (zero terminal SNR).
    """
    previous: Video | None = None
    h_before = math.inf
    if before is not None:
        previous, h_before = before[1], _log_snr(levels[0]) - _log_snr(before[0])
    for now, after in pairwise(levels):
        x0, _ = denoise(z, now)
        h = _log_snr(after) - _log_snr(now)
        target = x0
        if previous is not None and math.isfinite(h) and math.isfinite(h_before):
            target = x0 + (x0 - previous) * (h / (2 * h_before))
        z = (after.s / now.s) * z - after.a * math.expm1(-h) * target
        previous, h_before = x0, h
    return z


def _log_snr(level: Level) -> float:
    if level.s == 0:
        return math.inf
    return math.log(level.a / level.s) if level.a > 0 else -math.inf


SOLVERS: dict[str, Solver] = {"ddim": ddim, "ddim_stochastic": ddim_stochastic, "dpmpp_2m": dpmpp_2m}
