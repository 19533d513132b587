import math
from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from hypothesis import given
from hypothesis import strategies as st

from vivant.process import (
    Form,
    Level,
    coefficients,
    diffuse,
    recover,
    scheduler_levels,
    to_flow,
    vp_levels,
    zero_terminal_snr,
)

FORMS = get_args(Form)
numbers = st.floats(-5, 5)


def pair(seed=0, shape=(2, 3, 4, 5, 6)):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def betas(count=1000):
    return torch.linspace(0.00085**0.5, 0.012**0.5, count, dtype=torch.float64) ** 2


def assert_recovers(x0, eps, level, p, q, atol=1e-6):
    found = recover(diffuse(x0, eps, level), p * x0 + q * eps, level, p, q)
    torch.testing.assert_close(found.x0, x0, rtol=0, atol=atol)
    torch.testing.assert_close(found.eps, eps, rtol=0, atol=atol)


@pytest.mark.parametrize("form", FORMS)
@given(angle=st.floats(0.01, math.pi / 2 - 0.01), seed=st.integers(0, 99))
def test_recover_undoes_every_form_on_variance_preserving_levels(form, angle, seed):
    level = Level(math.cos(angle), math.sin(angle), 0.0)
    assert_recovers(*pair(seed), level, *coefficients(form, level))


@pytest.mark.parametrize("form", FORMS)
@given(sigma=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_recover_undoes_every_form_on_flow_levels(form, sigma, seed):
    level = Level(1 - sigma, sigma, 1000 * sigma)
    assert_recovers(*pair(seed), level, *coefficients(form, level))


@given(a=numbers, s=numbers, p=numbers, q=numbers)
def test_recover_undoes_any_form_with_a_determinant(a, s, p, q):
    if abs(a * q - s * p) > 1e-2:
        assert_recovers(*pair(), Level(a, s, 0.0), p, q)


@given(sigma=st.floats(0.01, 500))
def test_recover_undoes_scaled_variance_exploding_levels(sigma):
    a = 1 / math.sqrt(1 + sigma**2)
    level = Level(a, sigma * a, 0.25 * math.log(sigma))
    assert_recovers(*pair(), level, *coefficients("v_prediction", level))


@pytest.mark.parametrize("form", ["v_prediction", "flow", "sample"])
def test_zero_signal_needs_no_special_case(form):
    level = Level(0.0, 1.0, 999.0)
    assert_recovers(*pair(), level, *coefficients(form, level), atol=1e-12)


def test_epsilon_says_nothing_at_zero_signal():
    x0, eps = pair()
    level = Level(0.0, 1.0, 999.0)
    with pytest.raises(ZeroDivisionError, match="says nothing about x0"):
        recover(x0, eps, level, *coefficients("epsilon", level))


@pytest.mark.parametrize("form", ["epsilon", "v_prediction", "flow"])
def test_the_clean_end_gives_back_its_input(form):
    x0, eps = pair()
    level = Level(1.0, 0.0, 0.0)
    p, q = coefficients(form, level)
    torch.testing.assert_close(recover(x0, p * x0 + q * eps, level, p, q).x0, x0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_recover_agrees_with_diffusers(prediction):
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    z, out = pair()
    bar = float(scheduler.alphas_cumprod[500])
    level = Level(bar**0.5, (1 - bar) ** 0.5, 500.0)
    ours = recover(z, out, level, *coefficients(prediction, level))
    theirs = scheduler.step(out, 500, z).pred_original_sample
    torch.testing.assert_close(ours.x0, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 5, 25])
def test_levels_of_a_variance_preserving_scheduler(prediction, steps):
    scheduler = DPMSolverMultistepScheduler(prediction_type=prediction)
    levels = scheduler_levels(scheduler, steps)
    assert len(levels) == steps + 1 and levels[-1] == (1.0, 0.0, 0.0)
    assert [level.t for level in levels[:-1]] == scheduler.timesteps.tolist()
    for level, sigma in zip(levels, scheduler.sigmas.tolist(), strict=True):
        assert level.a**2 + level.s**2 == pytest.approx(1)
        assert level.s / level.a == pytest.approx(sigma, rel=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_levels_of_a_flow_scheduler(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    levels = scheduler_levels(scheduler, 10)
    assert len(levels) == 11 and levels[-1] == (1.0, 0.0, 0.0)
    assert [level.s for level in levels] == pytest.approx(scheduler.sigmas.tolist())
    assert all(level.a + level.s == pytest.approx(1) for level in levels)
    assert [level.t for level in levels[:-1]] == pytest.approx(scheduler.timesteps.tolist())


def test_vp_levels_read_the_table():
    bars = (1 - betas()).cumprod(0)
    levels = vp_levels(bars, [999, 500, 0])
    assert [level.t for level in levels] == [999.0, 500.0, 0.0, 0.0]
    assert levels[1].a == pytest.approx(math.sqrt(float(bars[500])))
    assert levels == vp_levels(bars, torch.tensor([999, 500, 0]))


def test_zero_terminal_snr():
    rescaled = zero_terminal_snr(betas())
    bars = (1 - rescaled).cumprod(0)
    assert float(bars[-1]) == 0
    assert float(bars[0]) == pytest.approx(float(1 - betas()[0]))
    torch.testing.assert_close(rescaled, rescale_zero_terminal_snr(betas()))
    level = vp_levels(bars, [999])[0]
    assert (level.a, level.s) == (0.0, 1.0)


@given(a=st.floats(0, 10), s=st.floats(0.001, 10))
def test_to_flow_keeps_the_ratio(a, s):
    twin = to_flow(Level(a, s, 3.0))
    assert twin.a + twin.s == pytest.approx(1)
    assert twin.a * s == pytest.approx(twin.s * a, abs=1e-9)
    assert twin.t == pytest.approx(1000 * twin.s)
