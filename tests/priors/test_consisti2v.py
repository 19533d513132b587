"""ConsistI2V: agreement with the official network and sampling, the released layout, its controls, its refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from tests import parity
from tests.hub import write
from tests.priors import conformance
from tests.priors.released import CONSISTI2V, consisti2v
from vivant.awaken import awaken
from vivant.errors import SettingError, WeightsError
from vivant.frequency import low_pass
from vivant.noise import mixed
from vivant.priors.consisti2v.adapter import CARD, ConsistI2V, FrameInit, frame_stride
from vivant.priors.consisti2v.net import UNetConfig
from vivant.priors.first_frame import ddim_schedule
from vivant.priors.frames2d import text_states
from vivant.priors.protocol import StartsItself
from vivant.shot import Controls, Shot
from vivant.solvers import ddim

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "parity"
recorded = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded official runs (../shared/parity) are not here")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the released layout with tiny random networks."""
    return consisti2v(tmp_path_factory.mktemp("released"))


@pytest.fixture
def folder(released: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(released, tmp_path / "copy"))


@pytest.fixture(scope="module")
def prior(released: Path) -> ConsistI2V:
    return ConsistI2V.from_folder(released, card=replace(CARD, size=(64, 64)))


def shot(seed: int = 0, controls: Controls | None = None, **settings: Any) -> Shot:
    painting = np.random.default_rng(seed).integers(0, 256, (40, 72, 3), dtype=np.uint8)
    return Shot(painting, "waves roll ashore", controls=controls or Controls(), **{"frames": 4, "steps": 4, **settings})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Agreement with the official code


@recorded
@pytest.mark.parametrize("file", ["tiny_a", "frameinit"])
def test_agrees_with_the_recorded_official_run(file: str) -> None:
    outcomes = list(parity.RUNS["consisti2v"](parity.read(SHARED / "consisti2v" / f"{file}.safetensors")))
    assert len(outcomes) >= 2
    assert not [outcome for outcome in outcomes if not outcome.ok]


@recorded
def test_has_the_released_checkpoints_keys() -> None:
    assert parity.compare_keys("consisti2v", SHARED / "consisti2v" / "full_keys.json") == []


@pytest.mark.parametrize("image_guidance", [1.0, 1.6])
def test_our_sampling_is_the_official_one(prior: ConsistI2V, image_guidance: float) -> None:
    """A loop as in the official pipeline: frame 0 apart, frozen as it was noised, diffusers' own DDIM for the rest."""
    ours, one = ConsistI2V(prior.parts, prior.card, image_guidance=image_guidance), shot()
    levels = ours.levels(one, one.steps)
    still = ours.still([one], generator())
    z = ours.start(still, levels[0], generator(1))
    clip = ddim(ours.bind([one], generator()), z, levels)

    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", steps_offset=1, clip_sample=False,
        timestep_spacing="leading",
    )  # fmt: skip
    scheduler.set_timesteps(one.steps)
    assert scheduler.timesteps.tolist() == [level.t for level in levels[:-1]]
    text = text_states(prior.parts.tokenizer, prior.parts.text_encoder, ["", "", one.prompt])
    first, frozen, latents = still[:, :, :1], z[:, :, :1], z[:, :, 1:]
    with torch.no_grad():
        for t in scheduler.timesteps:
            shown = torch.cat([frozen if image_guidance > 1 else first, first, first])
            out = prior.parts.unet(torch.cat([latents] * 3), t, text, shown, 3)
            nothing, image, both = out.chunk(3)
            eps = nothing + image_guidance * (image - nothing) + 7.5 * (both - image)
            latents = scheduler.step(eps, t, latents).prev_sample
    assert parity.relative(clip[:, :, 1:], latents) < 1e-4
    assert parity.relative(clip[:, :, :1], first) < 1e-5


def test_frame_init_starts_from_what_distillation_made(prior: ConsistI2V) -> None:
    one = shot()
    level, x = prior.levels(one, 4)[0], prior.still([one], generator())
    start = prior.start(x, level, generator(1))
    torch.testing.assert_close(start, prior.start(x, level, generator(1)))
    # Linear in x: what is added to it arrives through the filter, at √ᾱ850.
    added = torch.randn(x.shape, generator=generator(2))
    bar = float(prior.schedule.alphas_cumprod[850])
    passes = torch.fft.ifftshift(low_pass("gaussian", (4, 6, 11)))
    expected = bar**0.5 * torch.fft.ifftn(torch.fft.fftn(added, dim=(2, 3, 4)) * passes, dim=(2, 3, 4)).real
    torch.testing.assert_close(prior.start(x + added, level, generator(1)) - start, expected, atol=1e-5, rtol=0)
    plain = ConsistI2V(prior.parts, prior.card, frame_init=None)
    torch.testing.assert_close(plain.start(x, level, generator(1)), mixed(x, 1.0, generator(1)))
    assert isinstance(prior, StartsItself)


def test_without_a_saved_scheduler_the_schedule_is_the_official_one(prior: ConsistI2V) -> None:
    official = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear").alphas_cumprod
    levels = prior.levels(shot(), 50)
    assert [level.t for level in levels[:2]] == [981, 961] and levels[-2].t == 1 and levels[-1] == (1, 0, 0)
    assert levels[0].a == pytest.approx(float(official[981]) ** 0.5)
    with pytest.raises(SettingError, match="999"):
        prior.levels(shot(), 1000)


# The network


@pytest.mark.parametrize(("count", "size"), [(1, (4, 4)), (6, (3, 5)), (9, (2, 7))])
def test_any_number_of_frames_and_any_size(prior: ConsistI2V, count: int, size: tuple[int, int]) -> None:
    net, rng = prior.parts.unet, generator()
    z, first = torch.randn(4, 4, count, *size, generator=rng), torch.randn(2, 4, 1, *size, generator=rng)
    text = torch.randn(4, 7, 32, generator=rng)
    both = net(z, 500, text, first, torch.tensor([2.0, 5.0]))
    assert both.shape == z.shape
    for i in range(4):
        clip = slice(i % 2, i % 2 + 1)
        one = net(z[i : i + 1], 500.0, text[i : i + 1], first[clip], [2.0, 5.0][i % 2])
        torch.testing.assert_close(both[i : i + 1], one, atol=1e-5, rtol=1e-4)


def test_frames_see_the_first_frame_its_surround_and_each_other(prior: ConsistI2V) -> None:
    net, rng = prior.parts.unet, generator()
    z, first = torch.randn(1, 4, 3, 4, 4, generator=rng), torch.randn(1, 4, 1, 4, 4, generator=rng)
    text = torch.randn(1, 5, 32, generator=rng)
    usual = net(z, 500, text, first)
    for other in (
        net(z, 500, text, first + 0.5), net(torch.cat([z[:, :, :2], z[:, :, 2:] + 0.5], 2), 500, text, first),
        net(z, 500, text, first, 5), net(z, 400, text, first), net(z, 500, text + 0.5, first),
    ):  # fmt: skip
        assert (other - usual).abs()[:, :, 0].max() > 1e-5


def test_configurations_it_cannot_have_are_refused() -> None:
    with pytest.raises(ValueError, match="temp_pos_embedding 'rotary'"):
        UNetConfig.from_json({**CONSISTI2V, "temp_pos_embedding": "sinusoidal"})
    with pytest.raises(ValueError, match="multiples of 32"):
        UNetConfig(block_out_channels=(40, 80, 80, 80))
    with pytest.raises(ValueError, match="as many"):
        UNetConfig(block_out_channels=(32, 64))
    with pytest.raises(ValueError, match="divide the widths"):
        UNetConfig.from_json({**CONSISTI2V, "attention_head_dim": [3, 4]})


# The prior


def test_keeps_what_every_prior_keeps(prior: ConsistI2V) -> None:
    conformance.check(prior, shot(), likeness=2.0)  # an untrained VAE decodes to no likeness


def test_keeps_it_with_image_guidance(prior: ConsistI2V) -> None:
    prior = ConsistI2V(prior.parts, prior.card, image_guidance=1.5)
    conformance.prediction_is_consistent(prior, shot(), 1e-4)
    conformance.clips_are_independent(prior, shot(), 1e-4)


def test_a_painting_comes_alive_end_to_end(prior: ConsistI2V) -> None:
    calls: list[float] = []
    one = shot(distil=0.5)
    x = awaken(prior, one, shot(1).painting, generator(), on_call=lambda level: calls.append(level.t))
    assert x.shape == (1, 4, 4, 6, 11)
    assert len(calls) == 3 + 4
    frames = prior.decode(x, one)
    assert frames.shape == (1, 3, 4, 48, 88)
    assert frames.isfinite().all() and frames.abs().max() <= 1
    assert parity.relative(x[:, :, :1], prior.still([one], generator())[:, :, :1]) < 1e-5  # frame 0 is the painting
    assert torch.equal(x, awaken(prior, one, shot(1).painting, generator()))
    assert not torch.equal(x, awaken(prior, one, shot(1).painting, generator(1)))


def test_the_latent_is_sampled_once_a_seed(prior: ConsistI2V) -> None:
    one, rng = shot(), generator()
    still = prior.still([one], rng)
    torch.randn(3, generator=rng)
    level = prior.levels(one, 4)[1]
    pinned = prior.bind([one], rng)(torch.randn(still.shape), level).x0[:, :, 0]
    assert torch.equal(pinned, still[:, :, 0])
    assert not torch.equal(prior.still([one], generator(1)), still)


def test_mask_strength_painting_and_sentence_act(prior: ConsistI2V) -> None:
    half = np.zeros((40, 72), np.float32)
    half[:20] = 1
    level = prior.levels(shot(), 4)[1]
    z = torch.randn(1, 4, 4, 6, 11, generator=generator())

    def x0(one: Shot) -> torch.Tensor:
        return prior.bind([one], generator())(z, level).x0

    usual, still = x0(shot()), prior.still([shot()], generator())
    for changed in (
        shot(controls=Controls(mask=half)), shot(controls=Controls(strength=0.1)), shot(1), shot(guidance=2.0),
        replace(shot(), prompt="leaves fall"), replace(shot(), negative="blurred"),
    ):  # fmt: skip
        assert parity.relative(x0(changed), usual) > 1e-4
    kept = x0(shot(controls=Controls(mask=half)))
    assert parity.relative(kept[..., 4:, :], still[..., 4:, :]) < 1e-5
    assert parity.relative(kept[..., :2, :], usual[..., :2, :]) < 1e-5
    assert torch.equal(x0(shot(controls=Controls(strength=0.5))), usual)  # 1 + 4 · 0.5 is the usual 3


def test_each_clip_of_a_batch_has_its_own_conditions(prior: ConsistI2V) -> None:
    mask = np.zeros((40, 72), np.float32)
    mask[:, 36:] = 1
    pair = [shot(controls=Controls(mask=mask, strength=0.9), negative="blurred"), shot(1, guidance=3.0)]
    level = prior.levels(pair[0], 4)[1]
    z = torch.randn(2, 4, 4, 6, 11, generator=generator())
    both = prior.bind(pair, generator())(z, level)
    for i, one in enumerate(pair):
        alone = prior.bind([one], generator())(z[i : i + 1], level)
        assert parity.relative(both.x0[i : i + 1], alone.x0) < 1e-4


def test_branches_that_weigh_nothing_are_not_computed(prior: ConsistI2V) -> None:
    sizes: list[int] = []
    handle = prior.parts.unet.register_forward_pre_hook(lambda net, given: sizes.append(len(given[0])))
    level, z = prior.levels(shot(), 4)[1], torch.randn(1, 4, 4, 6, 11, generator=generator())
    for image, text in ((1.0, 1.0), (1.0, 7.5), (1.5, 7.5)):
        ConsistI2V(prior.parts, prior.card, image_guidance=image).bind([shot(guidance=text)], generator())(z, level)
    handle.remove()
    assert sizes == [1, 2, 3]


def test_strength_is_the_frame_stride() -> None:
    strides = [frame_stride(shot(controls=Controls(strength=s))) for s in (0.0, 0.5, 1.0)]
    assert strides == [1, 3, 5] and frame_stride(shot()) == 3


def test_settings_out_of_range_are_refused(prior: ConsistI2V) -> None:
    with pytest.raises(SettingError, match="between 1 and 50"):
        ConsistI2V(prior.parts, image_guidance=0.5)
    with pytest.raises(SettingError, match="FrameInit"):
        FrameInit(d_s=-1)


# The folder


def refused(folder: Path) -> str:
    """The one line a damaged folder is refused with."""
    with pytest.raises(WeightsError) as caught:
        ConsistI2V.from_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mismatched_and_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    save_file({**state, "conv_in.weight": torch.zeros(32, 5, 3, 3)}, path)
    assert "conv_in.weight has shape (32, 5, 3, 3), expected (32, 4, 3, 3)" in refused(folder)
    save_file({name: v for name, v in state.items() if not name.endswith("tempo_attns.0.alpha")}, path)
    assert "missing key down_blocks.0.tempo_attns.0.alpha of shape (1,)" in refused(folder)
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "diffusion_pytorch_model.safetensors" in refused(folder)
    write(folder / "unet" / "config.json", {**CONSISTI2V, "first_frame_condition_mode": "none"})
    assert "first_frame_condition_mode 'concat'" in refused(folder)
    assert "expected a folder" in refused(tmp_path / "nowhere")


def test_a_saved_scheduler_is_read_and_the_official_noise_wins_unless_told(folder: Path) -> None:
    saved = {"beta_start": 0.001, "beta_end": 0.02, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
    write(folder / "scheduler" / "scheduler_config.json", saved)
    prior = ConsistI2V.from_folder(folder)
    assert prior.form == "v_prediction" and prior.schedule.config.beta_schedule == "linear"
    trusting = ConsistI2V.from_folder(folder, noise={})
    assert trusting.schedule.config.beta_schedule == "scaled_linear"
    write(folder / "scheduler" / "scheduler_config.json", {"prediction_type": "colours"})
    assert "expected a scheduler that predicts" in refused(folder)
    with pytest.raises(WeightsError, match="beta_start"):
        ddim_schedule({"num_train_timesteps": 10}, {})
    with pytest.raises(WeightsError, match="nonsense"):
        ddim_schedule({"beta_start": 0.1, "beta_end": 0.2, "beta_schedule": "nonsense"}, {})
