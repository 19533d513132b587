import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vivant.awaken import awaken, lerp, slerp, step_sizes, vsds, vsds_levels
from vivant.errors import SettingError
from vivant.noise import white
from vivant.priors.analytic import AnalyticPrior
from vivant.process import Level, Prediction, diffuse
from vivant.shot import Shot
from vivant.solvers import SOLVERS

RECORD = Path(__file__).resolve().parents[1] / ".." / "shared" / "parity" / "epa" / "vsds_slerp.safetensors"
recorded = pytest.mark.skipif(not RECORD.is_file(), reason="the recorded official run (../shared/parity) is not here")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clips(seed, batch=2, frames=5, dtype=torch.float32):
    return torch.randn(batch, 4, frames, 6, 7, generator=seeded(seed), dtype=dtype)


def shot(**settings):
    painting = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    return Shot(painting, "clouds drift", **{"frames": 5, "steps": 6, **settings})


def mirrored(one):
    return np.ascontiguousarray(one.painting[:, ::-1])


def closed_form(p, q, u):
    """Eq. 4 frame by frame in float64, with numpy."""
    p, q = p.double().numpy(), q.double().numpy()
    out = np.empty_like(p)
    for b in range(p.shape[0]):
        for i in range(p.shape[2]):
            x, y = p[b, :, i].ravel(), q[b, :, i].ravel()
            theta = math.acos(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))
            mixed = math.sin((1 - u[i]) * theta) * x + math.sin(u[i] * theta) * y
            out[b, :, i] = (mixed / math.sin(theta)).reshape(out[b, :, i].shape)
    return torch.from_numpy(out)


# --- step sizes


@pytest.mark.parametrize("count", [1, 2, 3, 15, 16, 17])
@pytest.mark.parametrize("direction", ["decreasing", "increasing"])
@pytest.mark.parametrize("shape", ["stepwise", "linear"])
def test_a_rate_for_every_step(shape, direction, count):
    rates = step_sizes(f"{shape}-{direction}", count)
    assert len(rates) == count
    assert all(1 <= rate <= 10 for rate in rates)
    assert max(rates) == 10
    falling = rates if direction == "decreasing" else rates[::-1]
    assert all(b <= a for a, b in pairwise(falling))
    if count > 1:
        assert falling[0] == 10 and falling[-1] == 1


def test_stepwise_falls_over_the_first_half_then_stays():
    assert step_sizes("stepwise-decreasing", 8) == pytest.approx([10, 7, 4, 1, 1, 1, 1, 1])
    assert step_sizes("stepwise-decreasing", 7) == pytest.approx([10, 7, 4, 1, 1, 1, 1])
    assert step_sizes("stepwise-increasing", 7) == pytest.approx([1, 1, 1, 1, 4, 7, 10])
    assert step_sizes("linear-decreasing", 4) == pytest.approx([10, 7, 4, 1])
    assert step_sizes("linear-increasing", 3, high=3, low=2) == pytest.approx([2, 2.5, 3])


def test_an_unknown_curve_is_refused():
    with pytest.raises(SettingError, match="expected a step-size curve among stepwise-decreasing"):
        step_sizes("sideways", 3)


# --- vsds


def test_vsds_is_the_equation():
    """Two steps by hand: one noise, w = s²/(a²+s²), the second step sees what the first one left."""
    x, noise = clips(0), clips(1)
    levels, rates = [Level(0.6, 0.8, 5.0), Level(0.5, 0.5, 3.0)], [2.0, 0.5]

    def denoise(z, level):
        return Prediction(z, torch.tanh(z) * level.t)

    first = x - 2.0 * 0.64 * (torch.tanh(0.6 * x + 0.8 * noise) * 5 - noise)
    second = first - 0.5 * 0.5 * (torch.tanh(0.5 * first + 0.5 * noise) * 3 - noise)
    torch.testing.assert_close(vsds(denoise, x, levels, noise, rates), second)


def test_vsds_stays_where_the_denoiser_finds_the_noise():
    x, noise = clips(0), clips(1)
    out = vsds(lambda z, level: Prediction(x, noise), x, [Level(0.6, 0.8, 0.0)] * 3, noise, [9.0, 5.0, 1.0])
    assert torch.equal(out, x)


def test_vsds_wants_one_rate_a_level():
    with pytest.raises(ValueError):
        vsds(lambda z, level: Prediction(z, z), clips(0), [Level(0.6, 0.8, 0.0)] * 2, clips(1), [1.0])


@pytest.mark.parametrize("steps, p, count", [(25, 0.6, 16), (25, 1.0, 25), (10, 0.05, 1), (1, 0.6, 1), (2, 0.5, 2)])
def test_the_first_levels_are_distilled(steps, p, count):
    levels = [Level(1 - i, float(i), float(i)) for i in range(steps, 0, -1)] + [Level(1.0, 0.0, 0.0)]
    head = vsds_levels(levels, p, None)
    assert head == levels[:count]
    assert all(level.s > 0 for level in head)
    assert vsds_levels(levels, p, 1000) == head
    few = vsds_levels(levels, p, min(3, count))
    assert len(few) == min(3, count) and few[0] == head[0] and set(few) <= set(head)
    if count >= 3:
        assert few[-1] == head[-1]


# --- slerp and lerp


def test_slerp_is_equation_4():
    p, q, u = clips(0), clips(1), torch.linspace(0, 1, 5)
    torch.testing.assert_close(slerp(p, q, u).double(), closed_form(p, q, u.double().numpy()), rtol=0, atol=2e-6)


def test_slerp_of_near_frames_is_equation_4():
    p, u = clips(0), torch.linspace(0, 1, 5)
    q = p + 0.05 * clips(1)
    torch.testing.assert_close(slerp(p, q, u).double(), closed_form(p, q, u.double().numpy()), rtol=0, atol=1e-5)


def test_slerp_begins_on_one_path_and_ends_on_the_other():
    p, q = clips(0), clips(1)
    out = slerp(p, q, torch.linspace(0, 1, 5))
    torch.testing.assert_close(out[:, :, 0], p[:, :, 0])
    torch.testing.assert_close(out[:, :, -1], q[:, :, -1])


def test_slerp_keeps_the_norm():
    p, q = clips(0), clips(1)
    p, q = (x / x.flatten(3).norm(dim=3).pow(2).sum(1).sqrt()[:, None, :, None, None] for x in (p, q))
    out = slerp(p, q, torch.full((5,), 0.3))
    norms = out.pow(2).sum((1, 3, 4)).sqrt()
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_clips_and_frames_do_not_leak_into_each_other():
    p, q, u = clips(0), clips(1), torch.linspace(0, 1, 5)
    whole = slerp(p, q, u)
    for b in range(2):
        assert torch.equal(slerp(p[b : b + 1], q[b : b + 1], u), whole[b : b + 1])
    for i in range(5):
        torch.testing.assert_close(slerp(p[:, :, i : i + 1], q[:, :, i : i + 1], u[i : i + 1]), whole[:, :, i : i + 1])
    p[1] *= -40
    q[1, :, 2] = 0
    assert torch.equal(slerp(p, q, u)[0], whole[0])


@pytest.mark.parametrize("scale", [1.0, 2.5, -1.0, 0.0])
def test_parallel_and_zero_frames_fall_back_to_lerp(scale):
    p, u = clips(0), torch.linspace(0, 1, 5)
    torch.testing.assert_close(slerp(p, scale * p, u), lerp(p, scale * p, u))
    torch.testing.assert_close(slerp(scale * p, p, u), lerp(scale * p, p, u))
    assert torch.equal(slerp(0 * p, 0 * p, u), 0 * p)


def test_only_the_parallel_frame_falls_back():
    p, q, u = clips(0), clips(1), torch.linspace(0, 1, 5)
    expected = slerp(p, q, u)
    q[0, :, 2] = 3 * p[0, :, 2]
    out = slerp(p, q, u)
    torch.testing.assert_close(out[0, :, 2], lerp(p, q, u)[0, :, 2])
    out[0, :, 2] = expected[0, :, 2]
    assert torch.equal(out, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_slerp_gives_back_the_dtype_and_reckons_in_float32(dtype):
    p, q, u = clips(0).to(dtype), clips(1).to(dtype), torch.linspace(0, 1, 5)
    out = slerp(p, q, u)
    assert out.dtype == dtype
    assert torch.equal(out, slerp(p.float(), q.float(), u).to(dtype))


def test_slerp_survives_half_precision_overflow():
    """The sum of squares of one frame is beyond float16's 65504."""
    p, q, u = 60 * clips(0), 60 * clips(1), torch.linspace(0, 1, 5)
    torch.testing.assert_close(slerp(p.half(), q.half(), u).float(), slerp(p, q, u), rtol=0, atol=0.2)


def test_lerp_is_a_straight_line():
    p, q, u = clips(0), clips(1), torch.tensor([0, 0.25, 0.5, 0.9, 1])
    line = u.view(1, 1, 5, 1, 1)
    torch.testing.assert_close(lerp(p, q, u), (1 - line) * p + line * q)
    assert lerp(p.half(), q.half(), u).dtype == torch.float16


# --- awaken


def sampled(prior, one, rng):
    """Diffuse the still, solve: image-to-video without any of the method."""
    levels = prior.levels(one, one.steps)
    x = prior.still([one], rng)
    return SOLVERS[prior.card.solver](prior.bind([one], rng), diffuse(x, white(x, rng), levels[0]), levels, rng)


def test_without_distillation_or_proxy_it_is_plain_sampling():
    one, prior = shot(distil=0), AnalyticPrior()
    assert torch.equal(awaken(prior, one, None, seeded()), sampled(prior, one, seeded()))


@pytest.mark.parametrize("blend", ["slerp", "lerp"])
@pytest.mark.parametrize("distil", [0.0, 0.6])
@pytest.mark.parametrize("dual", [False, True])
def test_the_method_is_its_equations_in_order(distil, dual, blend):
    one, prior, rng = shot(distil=distil, blend=blend, gain=0.5), AnalyticPrior("epsilon"), seeded(1)
    proxy = mirrored(one) if dual else None
    levels = prior.levels(one, one.steps)
    paths = [one, one.seen_as(mirrored(one))] if dual else [one]
    x = prior.still(paths, rng)
    if distil:
        head = levels[:4]
        rates = [0.5 * rate for rate in step_sizes("stepwise-decreasing", 4)]
        x = vsds(prior.bind(paths, rng), x, head, white(x, rng), rates)
    if dual:
        x = (slerp if blend == "slerp" else lerp)(x[:1], x[1:], torch.linspace(0, 1, 5))
    z = diffuse(x, white(x, rng), levels[0])
    expected = SOLVERS["dpmpp_2m"](prior.bind([one], rng), z, levels, rng)
    assert torch.equal(awaken(prior, one, proxy, seeded(1)), expected)


def test_the_gain_defaults_to_the_cards():
    one, prior = shot(), AnalyticPrior()
    prior.card = replace(prior.card, gain=0.25)
    out = awaken(prior, one, None, seeded())
    assert torch.equal(out, awaken(prior, replace(one, gain=0.25), None, seeded()))
    assert not torch.equal(out, awaken(prior, replace(one, gain=1.0), None, seeded()))


def test_every_evaluation_is_told():
    one, told = shot(), []
    awaken(AnalyticPrior(), one, mirrored(one), seeded(), told.append)
    levels = AnalyticPrior().levels(one, one.steps)
    assert told == [*levels[:4], *levels[:-1]]
    told.clear()
    awaken(AnalyticPrior(), replace(one, distil_evaluations=2), None, seeded(), told.append)
    assert told == [levels[0], levels[3], *levels[:-1]]


def test_a_seed_is_a_clip():
    one, prior = shot(), AnalyticPrior()
    out = awaken(prior, one, mirrored(one), seeded(5))
    assert out.shape == (1, 3, 5, 4, 6)
    assert torch.equal(out, awaken(prior, one, mirrored(one), seeded(5)))
    assert not torch.equal(out, awaken(prior, one, mirrored(one), seeded(6)))


def test_gaussian_is_the_same_draw_in_every_precision():
    like = clips(0)
    noise = white(like, seeded(2))
    assert torch.equal(white(like.half(), seeded(2)), noise.half())
    assert white(like.double(), seeded(2)).dtype == torch.float64


# --- the recorded official run


@recorded
def test_slerp_matches_the_official_run():
    record = load_file(RECORD)
    p, q = record["input.slerp_a"], record["input.slerp_b"]
    out = slerp(p, q, torch.linspace(0, 1, p.shape[2]))
    for name, rel in (("slerp_f32", 1e-6), ("slerp_f64", 1e-6), ("slerp_official_half", 2e-3)):
        reference = record[f"output.{name}"].double()
        assert float((out.double() - reference).abs().max() / reference.abs().max()) <= rel, name
    start = Level(float(record["input.alpha_t"][0]), float(record["input.sigma_t"][0]), 0.0)
    torch.testing.assert_close(
        diffuse(out, record["input.slerp_noise"], start), record["output.init_f32"], rtol=0, atol=5e-6
    )


@recorded
def test_rates_weights_and_levels_match_the_official_run():
    record = load_file(RECORD)
    a, s = record["input.alpha_t"].double(), record["input.sigma_t"].double()
    torch.testing.assert_close(s**2 / (a**2 + s**2), record["input.w"].double(), rtol=1e-5, atol=1e-6)
    assert step_sizes("stepwise-decreasing", 16) == pytest.approx(record["input.step_sizes"].tolist())
    clock = record["input.timesteps"].tolist()
    levels = [Level(0.5, 0.5, float(t)) for t in clock] + [Level(1.0, 0.0, 0.0)]
    assert [level.t for level in vsds_levels(levels, 0.6, None)] == record["input.vsds_timesteps"].tolist()
