"""Arrows on priors without a way in for them: warps in closed form, and a clip that goes where it was told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.priors import conformance
from vivant.awaken import awaken
from vivant.controls import steer
from vivant.priors.analytic import AnalyticPrior
from vivant.process import Level
from vivant.shot import Arrow, Controls, Shot

ARROW = Arrow(0.35, 0.5, 0.6, 0.5)


def painting(height: int = 128, width: int = 160) -> np.ndarray:
    import cv2

    small = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def shot(arrows: tuple[Arrow, ...] = (ARROW,), **settings: object) -> Shot:
    chosen = {"frames": 5, "steps": 6, "distil": 0.0, **settings}
    return Shot(painting(), "clouds drift", controls=Controls(arrows=arrows), **chosen)  # type: ignore[arg-type]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_whole_cells_are_carried_exactly() -> None:
    x = torch.randn(1, 2, 3, 8, 10, generator=generator())
    back = torch.zeros(3, 8, 10, 2)
    back[1], back[2] = torch.tensor([-1.0, 0]), torch.tensor([-2.0, 1])
    out = steer.warped(x, back)
    torch.testing.assert_close(out[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(out[:, :, 1, :, 1:], x[:, :, 1, :, :-1])
    torch.testing.assert_close(out[:, :, 2, :-1, 2:], x[:, :, 2, 1:, :-2])


def test_carried_noise_keeps_its_variance_and_follows_the_field() -> None:
    prior = steer.Steered(AnalyticPrior(), shot(frames=3))
    noise = torch.randn(400, 4, 3, 16, 20, generator=generator())
    made = prior.along_noise(noise)
    assert (made.var(dim=(0, 1)) - 1).abs().max() < 0.15
    assert made.mean().abs() < 0.01
    carried = steer.warped(made[:, :, :1].expand_as(made), prior._back(noise))
    alike = (carried * made)[:, :, 2].mean() / carried[:, :, 2].std() / made[:, :, 2].std()
    assert float(alike) == pytest.approx(0.5**0.5, abs=0.05)
    assert torch.equal(made[:, :, 0], noise[:, :, 0])


def test_the_denoiser_is_led_only_where_and_when_it_should_be() -> None:
    target, pull = torch.ones(1, 1, 1, 2, 2), torch.tensor([[1.0, 0.5], [0.0, 0.0]])

    def denoise(z: torch.Tensor, level: Level) -> steer.Prediction:
        return steer.Prediction(torch.zeros_like(z), z / level.s)

    call = steer.led(denoise, target, pull, finest=1.0)
    z = torch.full((1, 1, 1, 2, 2), 2.0)
    noisy, fine = Level(0.5, 0.8, 1.0), Level(0.9, 0.4, 0.1)
    x0, eps = call(z, noisy)
    assert x0.flatten().tolist() == [1.0, 0.5, 0.0, 0.0]
    torch.testing.assert_close(noisy.a * x0 + noisy.s * eps, z)
    assert not call(z, fine).x0.any()


def test_priors_are_left_alone_without_arrows_and_where_they_hear_them() -> None:
    prior = AnalyticPrior()
    assert steer.steered(prior, shot(())) is prior
    assert isinstance(steer.steered(prior, shot()), steer.Steered)
    prior.card = replace(prior.card, name="svd_flow")
    assert steer.steered(prior, shot()) is prior


def test_a_steered_prior_is_a_prior() -> None:
    told = shot()
    prior = steer.steered(AnalyticPrior(sigma=0.3, motion=(0, 0)), told)
    conformance.levels_descend(prior, told)
    conformance.prediction_is_consistent(prior, told, 1e-4)
    conformance.clips_are_independent(prior, told, 1e-4)
    conformance.seed_decides(prior, told)
    conformance.solvers_run(prior, told)


def test_every_prediction_is_led_its_share_of_the_way_to_the_carried_painting() -> None:
    told = shot()
    free = AnalyticPrior(sigma=0.3, motion=(0, 0))
    prior = steer.steered(free, told)
    flow = np.zeros((*free.still([told], generator()).shape[-2:], 2), np.float32)
    flow[:, :8, 0], flow[:, 8:12, 0] = 4.0, 0.4  # fast, at a tenth of that, and still
    prior.flow = lambda x: flow  # type: ignore[attr-defined]
    target = prior.still([told], generator())
    assert (target - free.still([told], generator()))[:, :, -1].abs().max() > 0.3
    levels = prior.levels(told, 8)
    noisy, fine = levels[1], Level(0.98, 0.2, 0.1)
    z = torch.randn(target.shape, generator=generator(3))
    led, own = (p.bind([told], generator())(z, noisy) for p in (prior, free))
    for columns, share in ((slice(0, 8), 1.0), (slice(8, 12), 0.5)):
        way = steer.PULL * share * (target - own.x0)[..., columns]
        torch.testing.assert_close((led.x0 - own.x0)[..., columns], way)
    assert torch.equal(led.x0[..., 12:], own.x0[..., 12:])
    assert torch.equal(prior.bind([told], generator())(z, fine).x0, free.bind([told], generator())(z, fine).x0)


def test_the_embedded_priors_latents_get_the_way_back_key_by_key() -> None:
    from vivant.priors.miniature.weights import SCALE

    made = steer.SteeredMotion(AnalyticPrior(), shot())
    made.flow = lambda x: np.full((16, 20, 2), (4.0, -2.0), np.float32)  # type: ignore[method-assign]
    x = torch.randn(2, 3, 8, 16, 20, generator=generator())
    added = made.along(x) - x
    for k in range(8):
        middle = added[:, :, k, 6:10, 6:10]  # away from the border, where the way back leaves the picture
        torch.testing.assert_close(middle[:, 0], torch.full_like(middle[:, 0], -(k + 1) / 8 * 4 / 20 / SCALE[0]))
        torch.testing.assert_close(middle[:, 1], torch.full_like(middle[:, 1], (k + 1) / 8 * 2 / 16 / SCALE[1]))
    assert not added[:, 2].any()
    prior = AnalyticPrior()
    prior.card = replace(prior.card, name="miniature")
    assert type(steer.steered(prior, shot())) is steer.SteeredMotion


@pytest.mark.parametrize("distil", [0.0, 0.6])
def test_a_loose_prior_goes_where_the_arrow_points(distil: float) -> None:
    told = shot(distil=distil, steps=10)
    prior = AnalyticPrior(sigma=0.5, motion=(0, 0))

    def clip(prior: object, told: Shot) -> list[np.ndarray]:
        x = awaken(prior, told, None, generator())  # type: ignore[arg-type]
        smooth = torch.nn.functional.interpolate(x[0].transpose(0, 1), scale_factor=8.0, mode="bilinear")
        return list(((smooth.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy())

    # The prior's own belief is a still; noise of its spread keeps flow from being exact.
    led = steer.tracked(clip(steer.steered(prior, told), told), ARROW.x0, ARROW.y0, radius=0.1)
    free = steer.tracked(clip(prior, told), ARROW.x0, ARROW.y0, radius=0.1)
    assert led[0] > 10 and abs(led[1]) < 0.5 * led[0]
    assert free[0] < 0.5 * led[0]


def test_pipelines_with_a_start_and_a_solver_of_their_own_are_led() -> None:
    from tests.priors.diffusers_i2v import families

    inner = families.prior("ltx")
    told = families.shot("ltx", Controls(arrows=(ARROW,)), distil=0.6)
    prior = steer.steered(inner, told)
    carried, still = prior.still([told], generator()), inner.still([told], generator())
    torch.testing.assert_close(carried[:, :, 0], still[:, :, 0])
    assert (carried - still)[:, :, -1].abs().max() > 0.1
    x = awaken(prior, told, None, generator())
    assert x.shape == still.shape and x.isfinite().all()
    assert not torch.allclose(x, awaken(inner, told, None, generator()), atol=1e-2)


def test_a_mask_holds_the_rest() -> None:
    mask = np.zeros((128, 160), np.float32)
    mask[:, :80] = 1
    told = shot()
    told = replace(told, controls=replace(told.controls, mask=mask))
    prior = steer.steered(AnalyticPrior(motion=(0, 0)), told)
    carried, still = prior.still([told], generator()), AnalyticPrior().still([told], generator())
    assert torch.equal(carried[..., 10:], still[..., 10:])
    assert not torch.equal(carried[..., :10], still[..., :10])


def test_the_track_follows_known_motion() -> None:
    picture = painting(192, 192)
    keys = np.zeros((8, 3, 32, 32), np.float32)
    keys[:, 0] = -0.15 * np.linspace(1 / 8, 1, 8).reshape(-1, 1, 1)
    frames = steer.played(picture, keys, 7)
    assert np.array_equal(frames[0], picture)
    went = steer.tracked(frames, 0.4, 0.5)
    assert went == pytest.approx([0.15 * 192, 0], abs=1.0)
    assert steer.angle_error(frames, Arrow(0.4, 0.5, 0.6, 0.5)) < 5
    assert steer.angle_error(frames, Arrow(0.4, 0.5, 0.4, 0.7)) == pytest.approx(90, abs=5)
    assert steer.angle_error([picture] * 3, Arrow(0.4, 0.5, 0.6, 0.5)) == 90


def test_the_embedded_prior_follows_arrows() -> None:
    from vivant.priors.registry import load

    errors = steer.angle_errors(load("miniature"), count=3, seed=1, row="base")
    assert set(errors) == {"with", "without", "exact"}
    assert np.median(errors["exact"]) < 10
    assert np.median(errors["with"]) < 25
    assert np.median(errors["with"]) < np.median(errors["without"])
