"""A pipeline's scheduler behind the seam: its levels as (a, s, t), its own steps as a solver."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ...errors import SettingError
from ...process import Form, Level, Video, coefficients
from ..protocol import Denoiser

FORMS: dict[str, Form] = {
    "epsilon": "epsilon", "v_prediction": "v_prediction", "sample": "sample", "flow_prediction": "flow",
}  # fmt: skip

OPENING = math.sqrt(0.00466 / (1 - 0.00466))
"""a/s of the noisiest step of Stable Diffusion's noise (ᾱ_999 = 0.00466): as much of the painting as the models of the
paper, which predict ε, are always given to start from."""

USUAL_REACH, LONGEST_REACH = 0.532, 0.806
"""Mean and largest share of the way to x̂0 that a VSDS step of the paper walks: SD's noise, 25 steps, p = 0.6, α 10 → 1."""

Step = Callable[[Tensor, Tensor, Tensor, Generator], Tensor]
"""(F, t, sample, rng) to the sample at the next level."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A scheduler set to its timesteps. `exploding`: it keeps clips as x0 + σ·ε, which is z/a."""

    scheduler: Any
    levels: list[Level]
    form: Form
    exploding: bool

    def step(self) -> Step:
        """The scheduler's own step; stochastic ones draw from the generator that is passed."""
        accepted = inspect.signature(self.scheduler.step).parameters

        def advance(out: Tensor, t: Tensor, sample: Tensor, rng: Generator) -> Tensor:
            extra = {"generator": rng} if "generator" in accepted else {}
            return self.scheduler.step(out, t, sample, return_dict=False, **extra)[0]

        return advance

    @torch.no_grad()
    def solve(self, denoise: Denoiser, z: Video, rng: Generator, step: Step | None = None) -> Video:
        """From `z` (B, C, L, h, w) at the first level to the clean clip, by the scheduler's own steps."""
        advance = step or self.step()
        sample = z / self.levels[0].a if self.exploding else z
        for level, t in zip(self.levels, self.scheduler.timesteps, strict=False):
            z = self.scheduler.scale_model_input(sample, t) if self.exploding else sample
            x0, eps = denoise(z, level)
            p, q = coefficients(self.form, level)
            sample = advance(p * x0 + q * eps, t, sample, rng)
        return sample


def is_flow(scheduler: Any) -> bool:
    """Whether it walks z = (1-σ)·x0 + σ·ε. UniPC and DPM-Solver say so in a setting, not in their class."""
    return bool(scheduler.config.get("use_flow_sigmas")) or "FlowMatch" in type(scheduler).__name__


def read_grid(scheduler: Any, steps: int, device: torch.device | str = "cpu", **timing: Any) -> Grid:
    """The grid of a pipeline's scheduler; the pipeline's own object is left as it was.

    `timing` goes to its `set_timesteps` (`sigmas`, `mu`). Raises `SettingError` for a step count or a kind of scheduler
    that does not ask the network once a step.
    """
    own = copy.deepcopy(scheduler)
    if steps == 1 and own.config.get("shift_terminal"):
        own.register_to_config(shift_terminal=None)  # one step has no last level to stretch to
    try:
        own.set_timesteps(steps if "sigmas" not in timing else None, device=device, **timing)
    except ValueError as error:
        raise SettingError(f"expected a step count {type(own).__name__} takes, got {steps}: {error}") from None
    kind = own.config.get("prediction_type", "flow_prediction")
    if len(own.timesteps) != steps or kind not in FORMS or type(own).__name__.startswith("EDM"):
        raise SettingError(
            f"expected a scheduler that asks the network once a step for ε, v, x0 or a flow, got {type(own).__name__} "
            f"({kind}, {len(own.timesteps)} evaluations for {steps} steps); set pipe.scheduler to another one"
        )
    return Grid(own, _levels(own), FORMS[kind], _exploding(own))


def _levels(scheduler: Any) -> list[Level]:
    clock = [float(t) for t in scheduler.timesteps]
    if not hasattr(scheduler, "sigmas"):
        bars = scheduler.alphas_cumprod.double()
        pairs = [(math.sqrt(float(bars[int(t)])), math.sqrt(1 - float(bars[int(t)]))) for t in clock]
    elif is_flow(scheduler):
        pairs = [(1 - sigma, sigma) for sigma in scheduler.sigmas.double().tolist()[: len(clock)]]
    else:
        pairs = [_preserving(sigma) for sigma in scheduler.sigmas.double().tolist()[: len(clock)]]
    return [Level(a, s, t) for (a, s), t in zip(pairs, clock, strict=True)] + [Level(1.0, 0.0, 0.0)]


def _preserving(sigma: float) -> tuple[float, float]:
    a = 1 / math.sqrt(1 + sigma**2)
    return a, sigma * a


def _exploding(scheduler: Any) -> bool:
    """Told from what it does to the network's input: variance-preserving ones leave it as it is."""
    if not hasattr(scheduler, "scale_model_input"):
        return False
    probe = copy.deepcopy(scheduler)
    return float(probe.scale_model_input(torch.ones(1), probe.timesteps[0])) != 1.0


def noise_scale(scheduler: Any, level: Level, exploding: bool) -> float:
    """The pipeline's own start is this times white noise, on the scale of z."""
    if not exploding:
        return float(scheduler.init_noise_sigma) if hasattr(scheduler, "init_noise_sigma") else 1.0
    # Schedulers that keep x0 + σ·ε begin at σ·ε, or at √(1+σ²)·ε where their first level is not the very noisiest.
    return level.s if scheduler.config.get("timestep_spacing") in ("linspace", "trailing") else 1.0


def opening(level: Level) -> Level:
    """Where a clip that carries something starts: at least as much signal to noise as `OPENING`, of equal variance.

    At a first level of a = 0 (zero terminal SNR, flow from pure noise) or nearly 0 (σ = 700) the pipeline starts from
    noise alone, and whatever VSDS and the proxy did would be forgotten. Networks bear that much signal: it is less than
    what the flaw of Lin et al. 2023 leaves in every clip a model with SD's noise was trained on.
    """
    if level.a >= OPENING * level.s:
        return level
    s = math.hypot(level.a, level.s) / math.hypot(1.0, OPENING)
    return Level(OPENING * s, s, level.t)


def matched_levels(reference: Sequence[Level], candidates: Sequence[Level]) -> list[Level]:
    """For each reference level with both signal and noise, the candidate of the nearest a/s (in log scale).

    VSDS acts through a/s alone (`reach`), so that at matched levels one step size means the same for every form of
    prediction and every clock. Take `candidates` from a fine grid of the prior, such as `prior.levels(shot, 200)`.
    """
    usable = [level for level in candidates if level.a > 0 and level.s > 0]
    if not usable:
        raise SettingError("expected candidates between pure noise and the clean clip, got none; take more steps")
    ratios = np.log([level.a / level.s for level in usable])
    wanted = [math.log(level.a / level.s) for level in reference if level.a > 0 and level.s > 0]
    return [usable[int(np.abs(ratios - ratio).argmin())] for ratio in wanted]


def reach(levels: Sequence[Level], rates: Sequence[float]) -> list[float]:
    """The share of the way from x to x̂0 that each VSDS step walks: g = α·w·a/s = α·a·s/(a²+s²)."""
    return [rate * level.a * level.s / (level.a**2 + level.s**2) for level, rate in zip(levels, rates, strict=True)]


def suited_gain(levels: Sequence[Level], p: float = 0.6) -> float:
    """The factor on VSDS step sizes at which a step of this grid walks as far as one of the paper's, on average.

    `levels`: a whole grid, of which VSDS visits the first ⌊p·T⌋ + 1. Grids that dwell near pure noise (SVD's σ up to 700,
    shifted flows) would move less, or hardly. The factor stops where the longest step is as long as the paper's longest.
    """
    head = levels[: min(int((len(levels) - 1) * p) + 1, len(levels) - 1)]
    half = (len(head) + 1) // 2  # the paper's step sizes: 10 → 1 over the first half, then 1
    shares = reach(head, [*np.linspace(10.0, 1.0, half), *np.ones(len(head) - half)])
    if not 0 < sum(shares) < math.inf:  # a clock shifted so far that it never leaves pure noise
        return 1.0
    return float(min(USUAL_REACH * len(shares) / sum(shares), LONGEST_REACH / max(shares)))
