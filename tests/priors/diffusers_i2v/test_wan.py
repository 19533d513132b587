"""Wan: flow levels of UniPC, two experts, the clean first frame, sentences without ftfy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.priors.diffusers_i2v.families import called, generator, latents, noise, prior, relative, shot
from vivant.awaken import awaken
from vivant.priors.diffusers_i2v.wan import mended
from vivant.process import diffuse


def test_levels_are_a_shifted_flow() -> None:
    levels = prior("wan").levels(shot("wan"), 4)
    for i, level in enumerate(levels[:-1]):
        even = 1 + (1 / 1000 - 1) * i / 4
        assert level.s == pytest.approx(3 * even / (1 + 2 * even), abs=2e-6)
        assert level.a == pytest.approx(1 - level.s)
        assert level.t == pytest.approx(1000 * level.s, abs=1)


def test_the_still_begins_with_the_latent_the_network_is_shown() -> None:
    own, told = prior("wan"), shot("wan")
    shown = own.conditions(told, generator())["beside"]
    assert relative(own.still([told], generator())[:, :, :1], shown[:, 4:, :1]) < 1e-5


def test_the_expert_follows_the_noise() -> None:
    own = prior("wan-2.2")
    levels = own.levels(shot("wan-2.2"), 8)[:-1]
    assert [own.expert(level)[1] for level in levels] == [level.t < 900 for level in levels]
    assert own.expert(levels[0])[0] is own.pipe.transformer
    assert own.expert(levels[-1])[0] is own.pipe.transformer_2
    assert float(own.weights([shot("wan-2.2")], levels[0])) == 2.5
    assert float(own.weights([shot("wan-2.2")], levels[-1])) == 3.5
    one = prior("wan-2.2", low_noise_guidance=None)
    assert float(one.weights([shot("wan-2.2")], levels[-1])) == 2.5


def test_the_first_frame_is_the_painting_at_every_level() -> None:
    own, told = prior("wan-2.2-small"), shot("wan-2.2-small")
    still = own.still([told], generator())
    denoise = own.bind([told], generator())
    for level in own.levels(told, 4)[:-1]:
        z = diffuse(still, torch.randn(still.shape, generator=generator()), level)
        x0, eps = denoise(z, level)
        assert relative(x0[:, :, :1], still[:, :, :1]) < 1e-6
        assert relative(level.a * x0 + level.s * eps, z) < 1e-5
        scrambled = torch.cat([z[:, :, :1] + 5, z[:, :, 1:]], dim=2)
        assert torch.equal(denoise(scrambled, level).x0, x0)
    ends = awaken(own, told, None, generator())
    assert relative(ends[:, :, :1], still[:, :, :1]) < 1e-5


@pytest.mark.parametrize("solver", ["FlowMatchEulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_other_schedulers_of_a_live_pipeline(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    settings = {"shift": 5.0} if "Match" in solver else {
        "prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0,
    }  # fmt: skip
    own, base = prior("wan"), shot("wan", distil=0)
    monkeypatch.setattr(own.pipe, "scheduler", getattr(diffusers, solver)(**settings))
    ours = awaken(own, base, None, generator())
    assert relative(ours, latents("wan", called("wan", base, noise("wan", base)), base)) < 1e-4


def test_frames_are_counted_as_the_pipeline_counts() -> None:
    own = prior("wan")
    assert [own.made(n) for n in (1, 5, 8, 9, 81)] == [1, 5, 9, 9, 81]
    assert [own.asked(replace(shot("wan"), frames=n)) for n in (2, 5, 6, 81)] == [5, 5, 9, 81]


def test_sentences_are_composed_and_quotes_straight() -> None:
    assert mended("cafe\u0301 “waves” and the boat’s") == 'caf\u00e9 "waves" and the boat\'s'
