"""Stable Video Diffusion: its levels, guidance along the frames, strength as a motion id."""

from __future__ import annotations

import math

import pytest
import torch

from tests.priors.diffusers_i2v.families import generator, pipeline, prior, relative, shot
from vivant.awaken import awaken
from vivant.errors import SettingError
from vivant.priors.diffusers_i2v.svd import StableVideo, bucket
from vivant.shot import Controls


def test_levels_are_sigmas_in_a_preserving_dress() -> None:
    levels = prior("svd").levels(shot("svd"), 25)
    assert levels[0].s / levels[0].a == pytest.approx(700, rel=1e-5)
    assert levels[-2].s / levels[-2].a == pytest.approx(0.002, rel=1e-4)
    for level in levels[:-1]:
        assert level.a**2 + level.s**2 == pytest.approx(1)
        assert level.t == pytest.approx(0.25 * math.log(level.s / level.a), abs=1e-5)


def test_guidance_grows_along_the_frames() -> None:
    own = prior("svd")
    scale = own.weights([shot("svd", guidance=3.0), shot("svd", guidance=1.0)], own.levels(shot("svd"), 2)[0])
    assert scale[:, 0, :, 0, 0].tolist() == [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]


def test_strength_is_the_motion_id() -> None:
    assert [bucket(v) for v in (None, 0.0, 0.5, 1.0)] == [127, 0, 128, 255]
    own = prior("svd")
    numbers = [own.conditions(shot("svd", Controls(strength=v)), generator())["numbers"] for v in (0.0, 1.0)]
    assert torch.cat(numbers)[:, :2].tolist() == [[8, 0], [8, 255]]
    calm, wild = (awaken(own, shot("svd", Controls(strength=v), distil=0), None, generator()) for v in (0.0, 1.0))
    assert not torch.equal(wild, calm)


def test_sides_suit_the_unet() -> None:
    own = StableVideo(pipeline("svd"))
    width, height = own.size(shot("svd"))
    assert width % own.multiple == height % own.multiple == 0
    assert width * height == pytest.approx(1024 * 576, rel=0.03)
    assert own.with_size((64, 40)).size(shot("svd")) == (64, 40)
    with pytest.raises(SettingError, match="multiples of 8"):
        own.with_size((60, 40))


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_other_exploding_schedulers_keep_their_start(spacing: str) -> None:
    from diffusers import EulerDiscreteScheduler

    own = prior("svd")
    own.pipe = type(own.pipe)(**{
        **own.pipe.components,
        "scheduler": EulerDiscreteScheduler.from_config(own.pipe.scheduler.config, timestep_spacing=spacing),
    })  # fmt: skip
    told = shot("svd", distil=0)
    level = own.levels(told, 4)[0]
    z = own.start(own.still([told], generator()), level, generator())
    noise = torch.randn(z.shape, generator=generator())
    own.pipe.scheduler.set_timesteps(4)
    assert relative(z / level.a, noise * own.pipe.scheduler.init_noise_sigma) < 1e-5
