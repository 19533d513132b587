"""The losses against diffusers' schedulers, the recorded official targets, and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file

from vivant.metrics.functional.motion import latent_motion_score
from vivant.priors.dynamicrafter.schedule import SCHEDULES
from vivant.train.losses import (
    Noise,
    chances,
    denoising,
    frozen,
    motion_strength,
    own_noise,
    strength_loss,
    uniform_steps,
)

RECORDED = (
    Path(__file__).resolve().parents[2] / ".." / "shared" / "parity" / "dynamicrafter" / "ddim_multicond.safetensors"
)


def clips(seed: int = 0, shape: tuple[int, ...] = (3, 4, 5, 6, 7)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


@pytest.mark.parametrize("form", ["epsilon", "v_prediction", "sample"])
def test_the_noise_and_the_target_are_diffusers(form: str) -> None:
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=form)
    noise = Noise.of_scheduler(scheduler, form)  # type: ignore[arg-type]
    x0, eps, t = clips(0), clips(1), torch.tensor([0, 400, 999])
    z = noise.noisy(x0, eps, t)
    assert torch.allclose(z, scheduler.add_noise(x0, eps, t), atol=1e-6)
    theirs = {"epsilon": eps, "sample": x0, "v_prediction": scheduler.get_velocity(x0, eps, t)}[form]
    target = noise.target(x0, eps, t)
    assert torch.allclose(target, theirs, atol=1e-6)
    assert torch.allclose(noise.clean(z, target, t), x0, atol=2e-4)
    assert len(noise) == 1000


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded official runs (../shared/parity) are not here")
@pytest.mark.parametrize("variant", ["256", "512"])
def test_dynamicrafters_targets_are_the_recorded_ones(variant: str) -> None:
    record = {
        k.removeprefix(f"train{variant}."): v
        for k, v in load_file(RECORDED).items()
        if k.startswith(f"train{variant}.")
    }
    noise = Noise.of_crafter(SCHEDULES[variant])
    z, eps, t = record["input.z"], record["input.noise"], record["input.t"]
    assert torch.allclose(noise.noisy(z, eps, t), record["output.x_noisy"], atol=1e-5)
    assert torch.allclose(noise.target(z, eps, t), record["output.target"], atol=1e-5)


def test_zero_terminal_snr_still_knows_the_clip() -> None:
    noise = Noise.of_crafter(SCHEDULES["512"])
    x0, eps, t = clips(0), clips(1), torch.full((3,), 999)
    assert float(noise.a[999]) == pytest.approx(0, abs=1e-7)
    z = noise.noisy(x0, eps, t)
    assert torch.allclose(z, eps, atol=1e-5)
    assert torch.allclose(noise.clean(z, noise.target(x0, eps, t), t), x0, atol=1e-4)


def test_strength_is_what_the_metric_measures_and_has_a_gradient() -> None:
    z = clips().requires_grad_()
    found = motion_strength(z)
    assert found.tolist() == pytest.approx([latent_motion_score(c.detach()) for c in z], rel=1e-5)
    assert motion_strength(z[:, :, :1].expand(-1, -1, 4, -1, -1)).tolist() == [0, 0, 0]
    steps = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(2, 4, 5, 3, 3) * torch.tensor([0.1, 0.3]).view(2, 1, 1, 1, 1)
    assert motion_strength(steps).tolist() == pytest.approx([4.0, 12.0])
    found.sum().backward()
    assert z.grad is not None and bool(z.grad.abs().sum() > 0)
    with pytest.raises(ValueError, match="2 frames"):
        motion_strength(z[:, :, :1])


def test_the_strength_loss_is_the_squared_difference_of_each_clip() -> None:
    one, two = clips(0), clips(1)
    expected = (np.array(motion_strength(one)) - np.array(motion_strength(two))) ** 2
    assert strength_loss(one, two).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert strength_loss(one, one).tolist() == [0, 0, 0]


def test_frozen_holds_the_first_frame_outside_the_mask() -> None:
    z, mask = clips(), torch.zeros(3, 1, 1, 6, 7)
    mask[:, :, :, 2:4] = 1
    out = frozen(z, mask)
    assert torch.equal(out[..., 2:4, :], z[..., 2:4, :])
    assert torch.equal(out[..., :2, :], z[:, :, :1, :2].expand(-1, -1, 5, -1, -1))
    assert torch.equal(out[:, :, 0], z[:, :, 0])


def test_the_denoising_loss_is_each_clips_mean_square() -> None:
    a, b = clips(0), clips(1)
    theirs = [float(torch.nn.functional.mse_loss(x, y)) for x, y in zip(a, b, strict=True)]
    assert denoising(a, b).tolist() == pytest.approx(theirs, rel=1e-5)


def test_what_is_drawn_for_a_clip_does_not_hang_on_its_company() -> None:
    like = clips()
    both = own_noise(like, generators(3))
    assert torch.equal(own_noise(like[1:2], generators(1, 1))[0], both[1])
    steps = uniform_steps(1000, generators(400))
    assert 0 <= int(steps.min()) < 20 and 980 < int(steps.max()) < 1000
    assert float(chances(generators(400)).mean()) == pytest.approx(0.5, abs=0.05)
