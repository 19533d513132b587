"""CogVideoX, LTX, HunyuanVideo, I2VGen-XL: what each has of its own."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDPMScheduler, HeunDiscreteScheduler

from tests.priors.diffusers_i2v import tiny
from tests.priors.diffusers_i2v.families import (
    SHORT,
    called,
    generator,
    latents,
    noise,
    painting,
    pipeline,
    prior,
    relative,
    shot,
)
from vivant.awaken import awaken
from vivant.errors import SettingError
from vivant.priors.diffusers_i2v import adapt
from vivant.process import diffuse


def test_cogvideox_with_its_own_stochastic_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    own, base = prior("cogvideox"), shot("cogvideox", distil=0)
    monkeypatch.setattr(own.pipe, "scheduler", CogVideoXDPMScheduler.from_config(own.pipe.scheduler.config))
    start = noise("cogvideox", base)
    z = start.transpose(1, 2)
    # The call draws the painting's latent first, then the solver's noise, from one generator.
    draws = generator()
    torch.randn((1, own.channels, 1, *own.cells(base)[1:]), generator=draws)
    # The pipeline's noise has frames before channels.
    levels = own.levels(base, base.steps)
    grid = own.grid(base.steps, own.cells(base))
    turned = own.stepper(grid)

    def step(out: torch.Tensor, t: torch.Tensor, sample: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return turned(out.transpose(1, 2), t, sample.transpose(1, 2), rng).transpose(1, 2)

    ours = grid.solve(own.bind([base], generator()), z, draws, step)
    assert relative(ours, latents("cogvideox", called("cogvideox", base, start), base)) < 1e-4
    assert torch.isfinite(own.solve(own.bind([base], generator()), z, levels, generator())).all()


def test_cogvideox_15_makes_frames_to_throw_away() -> None:
    own, told = prior("cogvideox-1.5"), shot("cogvideox-1.5")
    assert (own.asked(told), own.length(told), own.cells(told)[0], own.spare(told)) == (9, 13, 4, 1)
    assert own.decode(own.still([told], generator()), told).shape[2] == told.frames
    assert adapt(pipeline("cogvideox-1.5")).card.size == (1360, 768)


def test_cogvideox_10_stretches_to_its_one_size() -> None:
    own = adapt(pipeline("cogvideox"), fit="area", **SHORT)
    assert own.size(shot("cogvideox")) == (32, 32)


def test_ltx_clock_shifts_with_the_tokens() -> None:
    own = prior("ltx")
    few, many = (own.grid(8, (2, side, side)).levels for side in (4, 40))
    assert all(b.s > a.s for a, b in zip(few[1:-2], many[1:-2], strict=True))
    assert few[-2].s == pytest.approx(0.1, abs=1e-6)  # the released scheduler stretches its grid to this end
    assert len(own.levels(shot("ltx"), 1)) == 2


@pytest.mark.parametrize("name", ["ltx", "hunyuan-replace"])
def test_the_first_frame_is_the_painting(name: str) -> None:
    own, told = prior(name), shot(name)
    still = own.still([told], generator())
    level = own.levels(told, 4)[1]
    x0, _ = own.bind([told], generator())(diffuse(still, torch.randn_like(still), level), level)
    assert relative(x0[:, :, :1], still[:, :, :1]) < 1e-6


def test_ltx_decoders_that_denoise_are_seeded_by_the_shot() -> None:
    pipe = tiny.build("ltx-0.9.1")
    own, told = adapt(pipe, size=(64, 32), fit="exact", **SHORT), shot("ltx")
    x = own.still([told], generator())
    assert torch.equal(own.decode(x, told), own.decode(x, told))
    assert not torch.equal(own.decode(x, told), own.decode(x, shot("ltx", seed=1)))
    plain = adapt(pipe, size=(64, 32), fit="exact", decode_noise_scale=0.0, **SHORT)
    assert torch.equal(plain.decode(x, told), plain.decode(x, shot("ltx", seed=1)))


def test_hunyuan_starts_with_a_thousandth_of_the_painting() -> None:
    own, told = prior("hunyuan"), shot("hunyuan", distil=0)
    still = own.still([told], generator())
    z = own.start(still, own.levels(told, 4)[0], generator())
    white = torch.randn(z.shape, generator=generator())
    assert relative(z, 0.999 * white + 0.001 * still[:, :, :1]) < 1e-6
    assert relative(own.to_call(z, told, generator()), white) < 1e-5


def test_hunyuan_embedded_guidance_asks_once() -> None:
    counts = {}
    for name in ("hunyuan", "hunyuan-replace"):
        own, told = prior(name), shot(name)
        calls = []
        handle = own.pipe.transformer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        level = own.levels(told, 2)[0]
        own.bind([told], generator())(own.still([told], generator()), level)
        handle.remove()
        counts[name] = len(calls)
    assert counts == {"hunyuan": 2, "hunyuan-replace": 1}


def test_i2vgen_crops_and_leaves_the_global_generator() -> None:
    own, told = prior("i2vgen_xl"), shot("i2vgen_xl")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, again, other = (own.conditions(told, generator(seed))["beside"] for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, again) and not torch.equal(one, other)
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 30:90] = 255  # only the middle is in a crop to 3:2
    assert float(own.pixels(told.seen_as(wide)).min()) > 0.9


def test_schedulers_that_ask_twice_a_step_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = prior("wan")
    monkeypatch.setattr(own.pipe, "scheduler", HeunDiscreteScheduler())
    with pytest.raises(SettingError, match="HeunDiscreteScheduler"):
        own.levels(shot("wan"), 4)


def test_the_pipelines_scheduler_is_left_as_it_was() -> None:
    own, told = prior("wan"), shot("wan")
    own.pipe.scheduler.set_timesteps(7)
    before = copy.deepcopy(own.pipe.scheduler.timesteps)
    awaken(own, told, painting(1), generator())
    assert torch.equal(own.pipe.scheduler.timesteps, before)


def test_a_foreign_grid_is_refused() -> None:
    own, told = prior("wan"), shot("wan")
    levels = prior("cogvideox").levels(shot("cogvideox"), 4)
    z = own.still([told], generator())
    with pytest.raises(SettingError, match="own levels"):
        own.solve(own.bind([told], generator()), z, levels[1:], generator())
    with pytest.raises(SettingError, match="at least 1 step"):
        own.levels(told, 0)


def test_guidance_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the interval one branch is asked; an interval of everything is no interval."""
    told = shot("wan", distil=0, steps=4)
    asked: list[tuple[float, bool]] = []

    def watch(own: Any) -> Any:
        emit = own.emit
        monkeypatch.setattr(
            own, "emit", lambda z, level, parts, pos: asked.append((level.s, pos)) or emit(z, level, parts, pos)
        )
        return own

    whole = awaken(prior("wan"), told, None, generator())
    part = awaken(watch(prior("wan", guidance_interval=(0.0, 2.0))), told, None, generator())
    assert sum(pos for _, pos in asked) == 4 and {s for s, pos in asked if not pos} == {
        s for s, _ in asked if s < 1 and s / (1 - s) <= 2
    }
    assert 0 < sum(not pos for _, pos in asked) < 4 and relative(part, whole) > 1e-4
    assert torch.equal(awaken(prior("wan", guidance_interval=(0.0, math.inf)), told, None, generator()), whole)
    with pytest.raises(SettingError, match="interval"):
        prior("wan", guidance_interval=(2.0, 1.0))
