"""DynamiCrafter's noise: what the released variants were trained with, and where the official sampler steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import SettingError
from ...process import Form, Level, coefficients, vp_levels, zero_terminal_snr

TRAINED = 1000
RAMP = 400
"""Training steps over which the signal's factor falls from 1 to its base."""


@dataclass(frozen=True)
class Schedule:
    """z = k·√ᾱ·x0 + √(1-ᾱ)·ε. Computed here, never read from a checkpoint, whose buffers may hold other betas."""

    form: Form = "v_prediction"
    zero_snr: bool = True
    """ᾱ at the last step is 0 (Lin et al. 2023)"""
    base: float | None = 0.7
    """what k falls to; None: k = 1 throughout"""
    trailing: bool = True
    """steps counted from the last training step down, or up from the second"""
    rescale: float = 0.7
    """share of guidance rescale"""

    @cached_property
    def bars(self) -> Float[Tensor, " T"]:
        """ᾱ, float64."""
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAINED, dtype=torch.float64) ** 2
        return (1 - (zero_terminal_snr(betas) if self.zero_snr else betas)).cumprod(0)

    @cached_property
    def scale(self) -> Float[Tensor, " T"]:
        """k, float64: the same picture is noisier at a higher resolution, so less of it goes in."""
        if self.base is None:
            return torch.ones(TRAINED, dtype=torch.float64)
        ramp = torch.linspace(1, self.base, RAMP, dtype=torch.float64)
        return torch.cat([ramp, torch.full((TRAINED - RAMP,), self.base, dtype=torch.float64)])

    def clock(self, steps: int) -> list[int]:
        """The official timesteps, noisiest first. Even spacing gives more of them where `steps` does not divide 1000."""
        if self.trailing:
            return [int(t) - 1 for t in np.round(np.arange(TRAINED, 0, -TRAINED / steps))][:steps]
        return [t + 1 for t in range(0, TRAINED, TRAINED // steps)][::-1]

    def levels(self, steps: int, carry: bool = False) -> list[Level]:
        """`steps` levels and (1, 0, 0). `carry`: begin at `carrying` instead of at the last training step."""
        most = TRAINED - 1
        if not 1 <= steps <= most:
            raise SettingError(f"expected between 1 and {most} steps for DynamiCrafter, got {steps}")
        clock = self.clock(steps)
        if len(clock) != steps:  # as many as were asked for, as even as whole numbers allow
            clock = [i * TRAINED // steps + 1 for i in range(steps)][::-1]
        if carry:
            top = self.carrying + 1
            if steps > top:
                raise SettingError(f"expected at most {top} steps for a clip that is carried on, got {steps}")
            clock = [top - 1 - i * top // steps for i in range(steps)]
        return self.at(clock)

    def at(self, clock: Sequence[int]) -> list[Level]:
        """The levels at these timesteps, and (1, 0, 0)."""
        return vp_levels(self.bars, clock, self.scale)

    @cached_property
    def carrying(self) -> int:
        """The last timestep that keeps as much of a clip, by a/s, as the last step of a model without zero SNR.

        Distillation and fusion shape a clean clip, and noise must leave enough of it to matter: with zero terminal
        SNR the last steps leave nothing, and a dynamic rescale takes the next ones. a/s of the ε-models' last step,
        0.068, is what the method was built on; it is the last step itself where neither is in use.
        """
        plain = Schedule(zero_snr=False, base=None).bars[-1]
        kept = self.scale**2 * self.bars / (1 - self.bars)
        return int((kept >= plain / (1 - plain) * (1 - 1e-9)).nonzero().max())

    def end(self, last: Level) -> Level:
        """Where the official sampler's last step lands: at the first training step's noise, s ≈ 0.03, not at 0.

        It takes ᾱ of step 0 but k of its own last step; both are kept.
        """
        return Level(float(self.scale[int(last.t)] * self.bars[0].sqrt()), float((1 - self.bars[0]).sqrt()), 0.0)

    def coefficients(self, level: Level) -> tuple[float, float]:
        """(p, q) of the network's F = p·x0 + q·ε; v is √ᾱ·ε - √(1-ᾱ)·(k·x0)."""
        step = int(level.t)
        if self.form != "v_prediction":
            return coefficients(self.form, level)
        return -float(self.scale[step]) * level.s, float(self.bars[step].sqrt())


SCHEDULES: dict[str, Schedule] = {
    "256": Schedule(form="epsilon", zero_snr=False, base=None, trailing=False, rescale=0.0),
    "512": Schedule(),
    "1024": Schedule(base=0.3),
    "512_interp": Schedule(),
}
