import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from vivant.noise import white
from vivant.process import Level, coefficients, recover, scheduler_levels
from vivant.solvers import SOLVERS, ddim, ddim_stochastic, dpmpp_2m

TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
COUNTS = [1, 2, 3, 5, 10, 14, 15, 16, 25, 50]


def network(z, t):
    """Some smooth function of the noisy clip and the clock, nothing a solver could get right by luck."""
    return torch.tanh(z.roll(1, -1) * (0.5 + t / 1000)) + 0.3 * torch.sin(3 * z) - 0.1 * z


def denoiser(form):
    def call(z, level):
        return recover(z, network(z, level.t), level, *coefficients(form, level))

    return call


def start(seed=0):
    return torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rng(seed=5):
    return torch.Generator().manual_seed(seed)


def theirs(scheduler, z, steps):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        z = scheduler.step(network(z, float(t)), t, z, return_dict=False)[0]
    return z


def assert_equal(ours, reference, rel=1e-5):
    error = float((ours - reference).abs().max() / reference.abs().max())
    assert error <= rel, f"relative error {error:.2e}"


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("form", ["epsilon", "v_prediction"])
def test_ddim_is_diffusers(form, steps):
    scheduler = DDIMScheduler(**TABLE, prediction_type=form, set_alpha_to_one=True, clip_sample=False, steps_offset=1)
    ours = ddim(denoiser(form), start(), scheduler_levels(scheduler, steps))
    assert_equal(ours, theirs(scheduler, start(), steps))


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("form", ["epsilon", "v_prediction"])
def test_stochastic_ddim_is_diffusers_with_eta_1(form, steps):
    scheduler = DDIMScheduler(**TABLE, prediction_type=form, set_alpha_to_one=True, clip_sample=False, steps_offset=1)
    levels = scheduler_levels(scheduler, steps)
    ours = ddim_stochastic(denoiser(form), start(), levels, rng())
    z, draws = start(), rng()
    for i, t in enumerate(scheduler.timesteps):
        # diffusers adds no noise where nothing is left to draw; its last sigma is 0, ours draws none there.
        noise = white(z, draws) if i < steps - 1 else torch.zeros_like(z)
        z = scheduler.step(network(z, float(t)), t, z, eta=1.0, variance_noise=noise, return_dict=False)[0]
    assert_equal(ours, z)


@pytest.mark.parametrize("steps", [1, 5, 10, 25, 50])
def test_ddim_is_diffusers_with_zero_terminal_snr(steps):
    scheduler = DDIMScheduler(
        **TABLE, prediction_type="v_prediction", set_alpha_to_one=True, clip_sample=False,
        rescale_betas_zero_snr=True, timestep_spacing="trailing",
    )  # fmt: skip
    levels = scheduler_levels(scheduler, steps)
    assert levels[0].a == 0
    assert_equal(ddim(denoiser("v_prediction"), start(), levels), theirs(scheduler, start(), steps))


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_ddim_on_a_flow_grid_is_euler(shift, steps):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    ours = ddim(denoiser("flow"), start(), scheduler_levels(scheduler, steps))
    assert_equal(ours, theirs(scheduler, start(), steps))


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("form", ["epsilon", "v_prediction"])
def test_dpmpp_2m_is_diffusers(form, spacing, steps):
    scheduler = DPMSolverMultistepScheduler(
        **TABLE, prediction_type=form, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint",
        lower_order_final=True, final_sigmas_type="zero", timestep_spacing=spacing,
    )  # fmt: skip
    ours = dpmpp_2m(denoiser(form), start(), scheduler_levels(scheduler, steps))
    assert_equal(ours, theirs(scheduler, start(), steps))


@pytest.mark.parametrize("steps", COUNTS)
def test_dpmpp_2m_on_a_flow_grid_is_diffusers(steps):
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    clock = [*scheduler.timesteps.tolist(), 0.0]
    levels = [Level(1 - s, s, t) for s, t in zip(scheduler.sigmas.double().tolist(), clock, strict=True)]
    assert_equal(dpmpp_2m(denoiser("flow"), start(), levels), theirs(scheduler, start(), steps))


@pytest.mark.parametrize("steps", [15, 25])
def test_dpmpp_2m_that_stops_short_of_clean_stays_second_order(steps):
    scheduler = DPMSolverMultistepScheduler(**TABLE, final_sigmas_type="sigma_min")
    levels = scheduler_levels(scheduler, steps)
    sigma = float(scheduler.sigmas[-1])
    a = 1 / math.sqrt(1 + sigma**2)
    ours = dpmpp_2m(denoiser("epsilon"), start(), [*levels[:-1], Level(a, sigma * a, 0.0)])
    assert_equal(ours, theirs(scheduler, start(), steps))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("form", ["v_prediction", "flow"])
def test_the_first_step_from_zero_signal_is_exact(name, form):
    """From a = 0 both solvers land on a'·x̂0 + s'·ε̂, and go on finite."""
    angles = [math.pi / 2, 1.2, 0.8, 0.3, 0.0]
    levels = [Level(math.cos(v), math.sin(v), 600 * v) for v in angles]
    levels[0], levels[-1] = Level(0.0, 1.0, levels[0].t), Level(1.0, 0.0, 0.0)
    x0, eps = denoiser(form)(start(), levels[0])
    one = SOLVERS[name](denoiser(form), start(), levels[:2], rng())
    noise = white(start(), rng()) if name == "ddim_stochastic" else eps
    torch.testing.assert_close(one, levels[1].a * x0 + levels[1].s * noise)
    assert bool(SOLVERS[name](denoiser(form), start(), levels, rng()).isfinite().all())


@pytest.mark.parametrize("name", SOLVERS)
def test_one_evaluation_a_step_none_at_the_clean_end(name):
    asked = []

    def call(z, level):
        asked.append(level)
        return denoiser("v_prediction")(z, level)

    scheduler = DDIMScheduler(**TABLE)
    levels = scheduler_levels(scheduler, 7)
    z = start()
    before = z.clone()
    SOLVERS[name](call, z, levels, rng())
    assert asked == levels[:-1]
    assert torch.equal(z, before)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_last_step_to_clean_is_the_prediction(name):
    levels = [Level(0.6, 0.8, 400.0), Level(1.0, 0.0, 0.0)]
    expected = denoiser("epsilon")(start(), levels[0]).x0
    torch.testing.assert_close(SOLVERS[name](denoiser("epsilon"), start(), levels, rng()), expected)
