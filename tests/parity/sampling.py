"""What recorded samplers are compared by: absolute differences, single steps, noise schedules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vivant.process import Level, Prediction, Video, recover, scheduler_levels
from vivant.solvers import ddim

from .record import EXACT, Outcome, Record, relative

STEP = 1e-5


def absolute(ours: Tensor, reference: Tensor) -> float:
    """Largest difference; infinite when the shapes differ."""
    return float((ours.double() - reference.double()).abs().max()) if ours.shape == reference.shape else float("inf")


def ddim_step(record: Record, schedule: Any, steps: int, z: Video, eps: Video) -> Iterator[Outcome]:
    """Every `output.guidance.ddim_prev_t<t>`: one step of our solver from timestep t to the next of `steps`."""

    def denoise(z: Video, level: Level) -> Prediction:
        return recover(z, eps, level, 0.0, 1.0)

    levels = scheduler_levels(schedule, steps)
    for key, reference in record.outputs.items():
        if (named := re.fullmatch(r"guidance\.ddim_prev_t(\d+)", key)) is not None:
            i = [level.t for level in levels[:-1]].index(float(named[1]))
            yield Outcome(f"output.{key}", relative(ddim(denoise, z, levels[i : i + 2]), reference), STEP)


def schedule_table(record: Record, schedule: Any) -> Iterator[Outcome]:
    """`output.scheduler.*`: ᾱ of every training step, ᾱ at the end, the timesteps of so many steps."""
    for key, reference in record.outputs.items():
        if key == "scheduler.alphas_cumprod":
            yield Outcome(f"output.{key}", relative(schedule.alphas_cumprod, reference), EXACT)
        elif key == "scheduler.final_alpha_cumprod":
            end = scheduler_levels(schedule, 1)[-1]
            yield Outcome(f"output.{key}", relative(torch.tensor(end.a**2), reference), EXACT)
        elif (named := re.fullmatch(r"scheduler\.timesteps_(\d+)", key)) is not None:
            ours = torch.tensor([level.t for level in scheduler_levels(schedule, int(named[1]))[:-1]])
            yield Outcome(f"output.{key}", relative(ours, reference), EXACT)
