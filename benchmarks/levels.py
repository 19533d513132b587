"""VSDS levels taken by index with the suited gain, or by a/s: the embedded prior rewritten as a flow, on held-out scenes.

    PYTHONPATH=. python benchmarks/levels.py [--scenes 12]

Sampled on a flow grid (shift 3, 25 steps) each time; only the distillation differs. *Inside*: the share of the motion's
energy where the named subjects are; *motion*: root mean square displacement, percent of the side; *angle*: degrees
between the mean displacement and the direction told, where one is. All measured on the latents' displacement fields.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tests.priors.diffusers_i2v.test_gain import PAPER
from torch import Generator

from vivant.awaken import slerp, step_sizes, vsds, vsds_levels
from vivant.data.captions import SUBJECTS
from vivant.data.scenes import Scene, sample
from vivant.metrics.evaluate import HELD_OUT
from vivant.noise import white
from vivant.priors.diffusers_i2v.grid import matched_levels, opening, read_grid, suited_gain
from vivant.priors.miniature.adapter import Miniature
from vivant.priors.protocol import Denoiser
from vivant.process import Level, Prediction, Video, diffuse
from vivant.proxy.embedded import embedded
from vivant.shot import Controls, Shot
from vivant.solvers import dpmpp_2m

STEPS = 25


def flow(steps: int) -> list[Level]:
    """A shifted flow grid."""
    sigmas = np.linspace(1, 0, steps + 1)[:-1]
    return read_grid(FlowMatchEulerDiscreteScheduler(shift=3.0), steps, sigmas=sigmas).levels


def flowed(prior: Miniature, shots: Sequence[Shot], rng: Generator) -> Denoiser:
    """The prior asked at flow levels: its own level has the same a/s."""
    inner = prior.bind(shots, rng)

    def call(z: Video, level: Level) -> Prediction:
        t = min(math.atan2(level.s, level.a) * 2 / math.pi, 0.99)
        own = Level(math.cos(t * math.pi / 2), math.sin(t * math.pi / 2), t)
        x0 = inner(z / math.hypot(level.a, level.s), own).x0
        return Prediction(x0, (z - level.a * x0) / level.s)

    return call


def judged(field: np.ndarray, scene: Scene) -> tuple[float, float, float]:
    """(inside, motion, angle) of a field (L, 3, h, w)."""
    labels = cv2.resize(scene.labels.astype(np.uint8), field.shape[:1:-1], interpolation=cv2.INTER_NEAREST)
    named = np.isin(labels, [SUBJECTS.index(subject) for subject in scene.plan]).astype(np.uint8)
    energy, mean = (field**2).sum(1).mean(0), field[:, :2].mean(0)
    inside = energy[cv2.dilate(named, np.ones((3, 3), np.uint8)) > 0].sum() / max(energy.sum(), 1e-12)
    angles = []
    for subject, told in scene.plan.items():
        place = labels == SUBJECTS.index(subject)
        if told.direction is not None and told.kind != "flicker" and place.any():
            x, y = -mean[:, place].mean(1)  # the field points to where the paint came from
            a, b = told.direction
            angles.append(abs(math.degrees(math.atan2(x * b - y * a, x * a + y * b))))
    return float(inside), 100 * float(np.sqrt(energy.mean())), max(angles, default=math.nan)


def main() -> None:
    """Run the comparison and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=12)
    count = parser.parse_args().scenes
    torch.set_num_threads(1)
    prior, grid = Miniature.load(), flow(STEPS)
    head, gain = vsds_levels(grid, 0.6, None), suited_gain(grid)
    paper = vsds_levels(read_grid(PAPER, STEPS).levels, 0.6, None)
    ways: dict[str, tuple[list[Level], float] | None] = {
        "no distillation": None, "by index, gain 1": (head, 1.0), f"by index, gain {gain:.2f}": (head, gain),
        "by a/s, gain 1": (matched_levels(paper, flow(400)), 1.0),
    }  # fmt: skip
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for i in range(count):
        scene = sample(np.random.default_rng([HELD_OUT, 0, i + 1 + i // 7]), 192, still=False)
        shot = Shot(scene.picture, scene.caption, controls=Controls(strength=0.5), steps=STEPS, guidance=3.0)
        paths = [shot, shot.seen_as(embedded(scene.picture, scene.caption))]
        for name, way in ways.items():
            rng = torch.Generator().manual_seed(i)
            x = prior.still(paths, rng)
            if way is not None:
                rates = [way[1] * rate for rate in step_sizes("stepwise-decreasing", len(way[0]))]
                x = vsds(flowed(prior, paths, rng), x, way[0], white(x, rng), rates)
            x = slerp(x[:1], x[1:], torch.linspace(0, 1, x.shape[2]))
            rng = torch.Generator().manual_seed(100 + i)
            z = diffuse(x, white(x, rng), opening(grid[0]))
            x = dpmpp_2m(flowed(prior, [shot], rng), z, grid, rng)
            rows[name].append(judged(prior.motion_of(x, shot), scene))
    print("| levels | inside | motion, % | angle, ° |\n|---|---|---|---|")
    for name, found in rows.items():
        inside, motion, angle = np.nanmean(np.array(found), 0)
        print(f"| {name} | {inside:.3f} | {motion:.1f} | {angle:.1f} |")


if __name__ == "__main__":
    main()
