import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.priors import conformance
from vivant.awaken import awaken, step_sizes, vsds
from vivant.errors import SettingError
from vivant.priors.analytic import AnalyticPrior
from vivant.process import Level, diffuse, recover, to_flow
from vivant.shot import Controls, Shot
from vivant.solvers import ddim, dpmpp_2m

FORMS = ("epsilon", "v_prediction", "flow")


def scene(height=48, width=64, **settings):
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    painting = np.stack([x, y, (x + y) / 2], axis=-1) * 200 + 20
    return Shot(painting.astype(np.uint8), "clouds drift", **{"frames": 6, **settings})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def standard(shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("form", FORMS)
def test_conforms(form):
    conformance.check(AnalyticPrior(form), scene())


@pytest.mark.parametrize("form", FORMS)
def test_conforms_on_a_painting_whose_sides_are_no_multiple_of_a_cell_and_with_a_mask(form):
    mask = np.zeros((37, 53), np.float32)
    mask[:20] = 1
    conformance.check(AnalyticPrior(form), scene(37, 53, controls=Controls(mask=mask)))


def test_a_wrong_network_fails_the_rules():
    class Leaky(AnalyticPrior):
        def emit(self, z, centre, level):
            return super().emit(z, centre, level) + z.mean()

    class Blind(AnalyticPrior):
        def _cells(self, shots):
            return super()._cells(shots) * 0

    with pytest.raises(AssertionError, match="clip 0"):
        conformance.check(Leaky(), scene())
    with pytest.raises(AssertionError, match="from the painting"):
        conformance.check(Blind(), scene())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_prediction_is_the_posterior_mean(form, sigma):
    prior, shot = AnalyticPrior(form, sigma), scene()
    mu = prior.mean([shot]).double()
    denoise = prior.bind([shot], seeded())
    for level in prior.levels(shot, 7)[:-1]:
        a, s, _ = level
        z = standard(mu.shape)
        x0, eps = denoise(z, level)
        gain = a * sigma**2 / (a**2 * sigma**2 + s**2)
        torch.testing.assert_close(x0, mu + gain * (z - a * mu), rtol=0, atol=1e-9)
        torch.testing.assert_close(eps, (z - a * x0) / s, rtol=0, atol=1e-9)


def test_the_motion_is_the_one_that_was_asked_for():
    prior, shot = AnalyticPrior(motion=(1, -2)), scene()
    mu, still = prior.mean([shot]), prior.still([shot], seeded())
    assert torch.equal(mu[:, :, 0], still[:, :, 0])
    for i in range(shot.frames):
        assert torch.equal(mu[0, :, i].roll((2 * i, -i), (-2, -1)), still[0, :, i])


@pytest.mark.parametrize("form", FORMS)
def test_ddim_carries_standard_noise_to_the_data(form):
    """Many small steps follow the probability-flow ODE, here z0 = μ + σ·(z - a·μ)/√(a²σ²+s²) exactly."""
    sigma = 0.3
    prior, shot = AnalyticPrior(form, sigma), scene(128, 128)
    mu = prior.mean([shot]).double()
    errors = []
    for steps in (100, 400):
        levels = prior.levels(shot, steps)
        a, s, _ = levels[0]
        z = diffuse(mu, standard(mu.shape), levels[0])
        x = ddim(prior.bind([shot], seeded()), z, levels)
        errors.append(float((x - mu - sigma * (z - a * mu) / math.sqrt(a**2 * sigma**2 + s**2)).abs().max()))
    assert errors[1] < 0.03 and errors[1] < errors[0] / 2
    # Data starts where training ends: pure noise, no painting in it.
    x = ddim(prior.bind([shot], seeded()), standard(mu.shape), prior.levels(shot, 400))
    assert abs(float((x - mu).mean())) < 0.03 + 5 * sigma / math.sqrt(mu.numel())
    assert abs(float((x - mu).std()) - sigma) < 0.05 * sigma


@pytest.mark.parametrize("form", FORMS)
def test_second_order_needs_fewer_steps(form):
    sigma = 0.3
    prior, shot = AnalyticPrior(form, sigma), scene()
    mu = prior.mean([shot]).double()
    levels = prior.levels(shot, 20)[:-1]  # short of s = 0, where every solver's last step is the same
    first, last = levels[0], levels[-1]
    z = diffuse(mu, standard(mu.shape), first)
    spread = math.sqrt(last.a**2 * sigma**2 + last.s**2) / math.sqrt(first.a**2 * sigma**2 + first.s**2)
    exact = last.a * mu + spread * (z - first.a * mu)
    denoise = prior.bind([shot], seeded())
    worse, better = (float((solve(denoise, z, levels) - exact).abs().max()) for solve in (ddim, dpmpp_2m))
    assert better < worse / 2


@pytest.mark.parametrize("form", FORMS)
def test_vsds_at_one_level_contracts_to_its_fixed_point(form):
    """ε̂(a·x + s·ε) = ε only at x* = μ + (a/s)·σ²·ε; a step of α·w scales x - x* by 1 - α·w·a·s/(a²σ²+s²)."""
    sigma = 0.2
    prior, shot = AnalyticPrior(form, sigma), scene()
    mu = prior.mean([shot]).double()
    level = prior.levels(shot, 10)[4]
    a, s, _ = level
    noise = standard(mu.shape, 1)
    goal = mu + (a / s) * sigma**2 * noise
    denoise = prior.bind([shot], seeded())
    still = prior.still([shot], seeded()).double()
    weight = s**2 / (a**2 + s**2)
    kept = 1 - 0.5 * weight * a * s / (a**2 * sigma**2 + s**2)
    torch.testing.assert_close(vsds(denoise, goal, [level], noise, [3.0]), goal, rtol=0, atol=1e-9)
    one = vsds(denoise, still, [level], noise, [0.5])
    torch.testing.assert_close(one - goal, kept * (still - goal), rtol=0, atol=1e-9)
    many = vsds(denoise, still, [level] * 400, noise, [0.5] * 400)
    torch.testing.assert_close(many, goal, rtol=0, atol=1e-6)


def test_vsds_moves_the_still_painting_towards_the_motion():
    prior, shot = AnalyticPrior("epsilon", 0.05), scene()
    mu, still = prior.mean([shot]).double(), prior.still([shot], seeded()).double()
    levels = prior.levels(shot, 25)[:16]
    x = vsds(prior.bind([shot], seeded()), still, levels, standard(mu.shape), step_sizes("stepwise-decreasing", 16))
    assert float((x - mu).norm()) < 0.5 * float((still - mu).norm())


@pytest.mark.parametrize("solve", [ddim, dpmpp_2m])
def test_the_forms_agree_on_matched_levels(solve):
    """A level and its flow twin differ by the factor a + s on z alone; every form then tells the same story."""
    shot = scene()
    levels = AnalyticPrior("epsilon").levels(shot, 12)
    twins = [to_flow(level) for level in levels]
    z = standard(AnalyticPrior().mean([shot]).shape)
    ends = [solve(AnalyticPrior(form).bind([shot], seeded()), z, levels) for form in FORMS]
    small = z / (levels[0].a + levels[0].s)
    ends += [solve(AnalyticPrior(form).bind([shot], seeded()), small, twins) for form in FORMS]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-9)


def test_vsds_agrees_on_matched_levels():
    shot, rates = scene(), [4.0, 2.0, 1.0]
    levels = AnalyticPrior("epsilon").levels(shot, 12)[3:6]
    x = AnalyticPrior().still([shot], seeded()).double()
    noise = standard(x.shape)
    ends = [
        vsds(AnalyticPrior(form).bind([shot], seeded()), x, grid, noise, rates)
        for form in FORMS
        for grid in (levels, [to_flow(level) for level in levels])
    ]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["v_prediction", "flow"])
def test_zero_signal_is_the_mean(form):
    prior, shot = AnalyticPrior(form), scene()
    level = prior.levels(shot, 5)[0]
    assert (level.a, level.s) == (0.0, 1.0)
    z = standard(prior.mean([shot]).shape)
    x0, eps = prior.bind([shot], seeded())(z, level)
    torch.testing.assert_close(x0, prior.mean([shot]).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(eps, z, rtol=0, atol=1e-9)


def test_epsilon_at_zero_signal_has_no_answer():
    shot = scene()
    prior = AnalyticPrior("epsilon")
    with pytest.raises(ZeroDivisionError):
        prior.bind([shot], seeded())(prior.mean([shot]), Level(0.0, 1.0, 999.0))


def test_the_form_is_exercised():
    """The emitted outputs differ between forms; the recovered pair does not."""
    shot, level = scene(), Level(0.6, 0.8, 500.0)
    z = standard(AnalyticPrior().mean([shot]).shape)
    outs = [AnalyticPrior(form).emit(z, AnalyticPrior().mean([shot]).double(), level) for form in FORMS]
    assert not torch.allclose(outs[0], outs[1], atol=0.1) and not torch.allclose(outs[1], outs[2], atol=0.1)
    right = recover(z, outs[0], level, 0.0, 1.0).x0
    assert not torch.allclose(recover(z, outs[0], level, -1.0, 1.0).x0, right, atol=0.1)


def test_outside_the_mask_the_painting_stays():
    mask = np.zeros((48, 64), np.float32)
    mask[:16] = 1
    prior, shot = AnalyticPrior("v_prediction"), scene(controls=Controls(mask=mask), distil=0)
    x = awaken(prior, shot, None, seeded(3))
    still = prior.still([shot], seeded())
    torch.testing.assert_close(x[..., 2:, :], still[..., 2:, :], rtol=0, atol=1e-5)
    assert float((x - still)[..., :2, :].abs().max()) > 0.1


def test_awaken_reaches_the_motion():
    prior, shot = AnalyticPrior("epsilon", 0.05), scene()
    x = awaken(prior, shot, conformance.other(shot).painting, seeded(3))
    mu, still = prior.mean([shot]), prior.still([shot], seeded())
    assert float((x - mu).norm()) < 0.5 * float((still - mu).norm())
    again = awaken(prior, replace(shot), conformance.other(shot).painting, seeded(3))
    assert torch.equal(x, again)


@pytest.mark.parametrize("wrong", [{"form": "score"}, {"sigma": 0.0}, {"sigma": -1.0}, {"sigma": math.inf}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(SettingError, match="expected"):
        AnalyticPrior(**wrong)


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_out_of_range_are_refused(steps):
    with pytest.raises(SettingError, match="expected between 1 and 1000 steps"):
        AnalyticPrior().levels(scene(), steps)
