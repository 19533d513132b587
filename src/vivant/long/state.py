"""A solver whose state is kept at every step: films that are dreamt all at once go on from the step they were stopped at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from ..priors.protocol import Denoiser
from ..process import Level, Prediction, Video
from ..solvers import Solver, dpmpp_2m
from .base import Kept

STEPS = "steps"
"""name under which the state is kept"""


def solved(
    solve: Solver, denoise: Denoiser, begin: Callable[[], Video], levels: Sequence[Level], rng: Generator, kept: Kept,
    device: torch.device,
) -> Video:  # fmt: skip
    """`solve` from the noisy latents that `begin` makes, or from the last step that was kept: the result is the same.

    Before each evaluation the noisy latents, `rng`'s state and, for the multistep solver, the x̂0 before are kept.
    """
    found = kept.get(STEPS)
    done, before = 0, None
    if found is None:
        z = begin()
    else:
        done, z = int(found["step"]), found["z"].to(device)
        rng.set_state(found["rng"])
        before = found["before"].to(device) if "before" in found else None
    step = done
    last = before

    def call(z: Video, level: Level) -> Prediction:
        nonlocal step, last
        if step > done or found is None:
            state: dict[str, Tensor] = {"step": torch.tensor(step), "z": z, "rng": rng.get_state()}
            kept.put(STEPS, state | ({} if last is None else {"before": last}))
        said = denoise(z, level)
        step += 1
        last = said.x0 if solve is dpmpp_2m else None
        return said

    if before is None:
        return solve(call, z, levels[done:], rng)
    return dpmpp_2m(call, z, levels[done:], rng, (levels[done - 1], before))
