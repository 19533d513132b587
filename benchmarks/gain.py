"""How far VSDS brings a clip on each released scheduler's grid: with the paper's step sizes, and with the suited gain.

    PYTHONPATH=. python benchmarks/gain.py

A closed-form prior, p = 0.6, α 10 → 1: *way* is the share of the way from the still to the prior's own clip that
distillation has walked at its end, *mean step* the share of the way to x̂0 that one VSDS step walks, α·w·a/s on average.
"""

from __future__ import annotations

import numpy as np
from tests.priors.diffusers_i2v.test_gain import PAPER, SCHEDULERS, distilled

from vivant.awaken import step_sizes, vsds_levels
from vivant.priors.diffusers_i2v.grid import reach, read_grid, suited_gain

print("| scheduler | gain | mean step | way | mean step, gain 1 | way, gain 1 |\n|---|---|---|---|---|---|")
for name, (scheduler, steps, timing) in {"the paper's (SD, 25 steps)": (PAPER, 25, {}), **SCHEDULERS}.items():
    levels = read_grid(scheduler, steps, **timing).levels
    head = vsds_levels(levels, 0.6, None)
    row = []
    for gain in (suited_gain(levels), 1.0):
        rates = [gain * rate for rate in step_sizes("stepwise-decreasing", len(head))]
        row += [f"{np.mean(reach(head, rates)):.2f}", f"{distilled(levels, gain)[1]:.2f}"]
    print(f"| {name} | {suited_gain(levels):.2f} | {' | '.join(row)} |", flush=True)
