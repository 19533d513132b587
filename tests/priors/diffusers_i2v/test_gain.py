"""One step size means the same in every form of prediction, and about the same on every family's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Generator, Tensor

from tests.priors.diffusers_i2v.families import generator, painting, relative
from vivant.awaken import awaken, step_sizes, vsds, vsds_levels
from vivant.errors import SettingError
from vivant.noise import white
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.diffusers_i2v.grid import (
    LONGEST_REACH,
    USUAL_REACH,
    matched_levels,
    opening,
    reach,
    read_grid,
    suited_gain,
)
from vivant.priors.miniature.adapter import Miniature
from vivant.priors.protocol import Denoiser, VideoPrior
from vivant.process import Form, Level, Prediction, Video, coefficients, recover, to_flow
from vivant.shot import Shot

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PAPER = DPMSolverMultistepScheduler(**NOISE, timestep_spacing="linspace")

SCHEDULERS = {
    "svd": (
        EulerDiscreteScheduler(
            **NOISE, prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002, steps_offset=1,
            timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
        ), 25, {},
    ),
    "cogvideox": (
        CogVideoXDDIMScheduler(
            **NOISE, prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=1.0,
            timestep_spacing="trailing",
        ), 50, {},
    ),
    "wan 480p": (
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0), 50, {},
    ),
    "wan 720p": (
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0), 50, {},
    ),
    "ltx": (
        FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024,
            max_image_seq_len=4096, shift_terminal=0.1,
        ), 50, {"sigmas": np.linspace(1, 0.02, 50), "mu": 2.5},
    ),
    "hunyuan": (FlowMatchEulerDiscreteScheduler(shift=7.0), 50, {"sigmas": np.linspace(1, 0, 51)[:-1]}),
}  # fmt: skip
"""The released schedulers: settings, steps, what their pipelines pass."""


class Reexpressed:
    """A prior as if its network emitted another form: `flow` on the levels of the same a/s, ε and v on its own.

    Not `SolvesItself`: the method's own solvers run on these levels.
    """

    def __init__(self, prior: VideoPrior, form: Form) -> None:
        self.prior, self.card, self.form = prior, prior.card, form

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        own = self.prior.levels(shot, steps)
        return [to_flow(level) for level in own] if self.form == "flow" else own

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        return self.prior.still(shots, rng)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        inner = self.prior.bind(shots, rng)
        own = {round(to_flow(level).s, 9): level for level in self.prior.levels(shots[0], shots[0].steps)}

        def call(z: Video, level: Level) -> Prediction:
            there = own[round(to_flow(level).s, 9)]
            x0, eps = inner(z * math.hypot(there.a, there.s) / math.hypot(level.a, level.s), there)
            p, q = coefficients(self.form, level)
            return recover(z, p * x0 + q * eps, level, p, q)

        return call

    def decode(self, x: Video, shot: Shot) -> Tensor:
        return self.prior.decode(x, shot)


def scene(**settings: object) -> Shot:
    return Shot(painting(), "clouds drift right", **{"frames": 4, "steps": 10, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["epsilon", "flow"])
def test_a_step_size_means_the_same_in_every_form_closed_form_prior(form: Form) -> None:
    base = AnalyticPrior("epsilon")
    shot = scene(steps=25)
    expected = awaken(base, shot, painting(1), generator())
    assert relative(awaken(Reexpressed(base, form), shot, painting(1), generator()), expected) < 1e-4


@pytest.fixture(scope="module")
def miniature() -> Miniature:
    return Miniature.load()


@pytest.mark.parametrize("form", ["epsilon", "flow"])
def test_a_step_size_means_the_same_in_every_form_trained_prior(miniature: Miniature, form: Form) -> None:
    shot = scene(steps=6, guidance=1.0)
    with torch.no_grad():
        expected = awaken(miniature, shot, painting(1), generator())
        assert relative(awaken(Reexpressed(miniature, form), shot, painting(1), generator()), expected) < 1e-3


def distilled(levels: Sequence[Level], gain: float, form: Form = "flow") -> tuple[Video, float]:
    """VSDS of the closed-form prior over the head of a grid: the clip, and how far of still to truth it came."""
    prior = AnalyticPrior(form, sigma=0.05)
    shot, rng = scene(), generator()
    still, truth = prior.still([shot], rng), prior.mean([shot])
    head = vsds_levels(levels, 0.6, None)
    rates = [gain * rate for rate in step_sizes("stepwise-decreasing", len(head))]
    x = vsds(prior.bind([shot], rng), still, head, white(still, rng), rates)
    way = truth - still
    return x, float(((x - still) * way).sum() / (way * way).sum())


def test_the_papers_grid_walks_what_is_called_usual() -> None:
    levels = read_grid(PAPER, 25).levels
    head = vsds_levels(levels, 0.6, None)
    shares = reach(head, step_sizes("stepwise-decreasing", len(head)))
    assert np.mean(shares) == pytest.approx(USUAL_REACH, abs=1e-3)
    assert max(shares) == pytest.approx(LONGEST_REACH, abs=1e-3)
    assert suited_gain(levels) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_suited_gain_brings_every_grid_about_as_far(name: str) -> None:
    scheduler, steps, timing = SCHEDULERS[name]
    levels = read_grid(scheduler, steps, **timing).levels
    gain = suited_gain(levels)
    head = vsds_levels(levels, 0.6, None)
    assert (
        max(reach(head, [gain * rate for rate in step_sizes("stepwise-decreasing", len(head))])) <= LONGEST_REACH + 1e-9
    )
    _, paper = distilled(read_grid(PAPER, 25).levels, 1.0, "epsilon")
    _, ours = distilled(levels, gain)
    assert paper > 0.99
    assert ours > 0.95, f"{name}: {ours:.3f} of the way with gain {gain:.2f}"


def test_without_it_svd_stops_half_way() -> None:
    assert distilled(read_grid(SCHEDULERS["svd"][0], 25).levels, 1.0)[1] < 0.7


@pytest.mark.parametrize("name", SCHEDULERS)
def test_at_matched_levels_no_gain_is_needed(name: str) -> None:
    scheduler, _, timing = SCHEDULERS[name]
    paper = read_grid(PAPER, 25).levels
    fine = {"sigmas": np.linspace(1, 1 / 400, 400), **{k: v for k, v in timing.items() if k == "mu"}} if timing else {}
    head = vsds_levels(paper, 0.6, None)
    matched = matched_levels(head, read_grid(scheduler, 400, **fine).levels)
    assert len(matched) == len(head)
    for one, other in zip(head, matched, strict=True):
        assert other.a / other.s == pytest.approx(one.a / one.s, rel=0.06)
    prior, shot = AnalyticPrior("flow", sigma=0.05), scene()
    rates = step_sizes("stepwise-decreasing", len(head))
    still, noise = prior.still([shot], generator()), white(prior.still([shot], generator()), generator())
    here = vsds(prior.bind([shot], generator()), still, matched, noise, rates)
    there = vsds(prior.bind([shot], generator()), still, head, noise, rates)
    assert relative(here, there) < 0.02


def test_levels_of_pure_noise_match_nothing() -> None:
    with pytest.raises(SettingError, match="take more steps"):
        matched_levels([Level(0.5, 0.5, 1)], [Level(0, 1, 2), Level(1, 0, 0)])


def test_a_start_from_pure_noise_keeps_its_spread_and_some_signal() -> None:
    for level in (Level(0.0, 1.0, 999.0), Level(1 / math.hypot(1, 700), 700 / math.hypot(1, 700), 1.6)):
        start = opening(level)
        assert math.hypot(start.a, start.s) == pytest.approx(math.hypot(level.a, level.s))
        assert start.a / start.s == pytest.approx(0.0684, abs=1e-4)
    kept = Level(0.3, 0.95, 700.0)
    assert opening(kept) == kept
