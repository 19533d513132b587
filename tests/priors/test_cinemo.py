"""Cinemo: agreement with the official network and sampling, the released layout, its controls, its refusals."""

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
from tests.priors import conformance
from tests.priors.released import CINEMO, CINEMO_FREQS, cinemo
from vivant.awaken import awaken
from vivant.errors import SettingError, WeightsError
from vivant.noise import white
from vivant.priors.cinemo.adapter import CARD, Cinemo, DCTInit, MotionIds
from vivant.priors.cinemo.net import UNetConfig, relative_buckets
from vivant.priors.frames2d import text_states
from vivant.priors.protocol import StartsItself
from vivant.process import Level
from vivant.shot import Controls, Shot
from vivant.solvers import ddim

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "parity"
recorded = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded official runs (../shared/parity) are not here")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the released layout with tiny random networks."""
    return cinemo(tmp_path_factory.mktemp("released"))


@pytest.fixture
def folder(released: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(released, tmp_path / "copy"))


@pytest.fixture(scope="module")
def prior(released: Path) -> Cinemo:
    return Cinemo.from_folder(released, card=replace(CARD, size=(64, 64)))


def shot(seed: int = 0, controls: Controls | None = None, **settings: Any) -> Shot:
    painting = np.random.default_rng(seed).integers(0, 256, (40, 72, 3), dtype=np.uint8)
    return Shot(painting, "waves roll ashore", controls=controls or Controls(), **{"frames": 4, "steps": 4, **settings})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Agreement with the official code


@recorded
@pytest.mark.parametrize("file", ["tiny_a", "dctinit"])
def test_agrees_with_the_recorded_official_run(file: str) -> None:
    outcomes = list(parity.RUNS["cinemo"](parity.read(SHARED / "cinemo" / f"{file}.safetensors")))
    assert len(outcomes) >= 2
    assert not [outcome for outcome in outcomes if not outcome.ok]


@recorded
def test_has_the_released_checkpoints_keys() -> None:
    assert parity.compare_keys("cinemo", SHARED / "cinemo" / "full_keys.json") == []


def test_our_sampling_is_the_official_one(prior: Cinemo) -> None:
    """A loop as in the official pipeline: residuals alone, diffusers' own DDIM, the painting added at the end."""
    one = shot()
    levels = prior.levels(one, one.steps)
    still = prior.still([one], generator())
    z = prior.start(still, levels[0], generator(1))
    clip = ddim(prior.bind([one], generator()), z, levels)

    scheduler = DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", steps_offset=1, clip_sample=False,
    )  # fmt: skip
    scheduler.set_timesteps(one.steps)
    assert scheduler.timesteps.tolist() == [level.t for level in levels[:-1]]
    text = text_states(prior.parts.tokenizer, prior.parts.text_encoder, ["", one.prompt])
    first = still[:, :, :1]
    residual = z[:, :, 1:] - levels[0].a * first
    with torch.no_grad():
        for t in scheduler.timesteps:
            out = prior.parts.unet(torch.cat([residual] * 2), t, text, first, 90)
            nothing, words = out.chunk(2)
            residual = scheduler.step(nothing + 7.5 * (words - nothing), t, residual).prev_sample
    expected = torch.cat([first, first + residual], dim=2)
    assert parity.relative(clip, expected) < 1e-4


def test_dct_init_starts_from_what_distillation_made(prior: Cinemo) -> None:
    one = shot()
    level, x = prior.levels(one, 4)[0], prior.still([one], generator())
    start = prior.start(x, level, generator(1))
    assert torch.equal(start, prior.start(x, level, generator(1)))
    # A shift of the later frames is the lowest of all frequencies: it arrives whole, at √ᾱ975.
    shifted = torch.cat([x[:, :, :1], x[:, :, 1:] + 3.0], dim=2)
    bar = float(prior.schedule.alphas_cumprod[975])
    moved = prior.start(shifted, level, generator(1)) - start
    torch.testing.assert_close(moved[:, :, 1:], torch.full_like(moved[:, :, 1:], 3 * bar**0.5), atol=1e-5, rtol=0)
    assert not moved[:, :, 0].any()
    plain = Cinemo(prior.parts, prior.card, dct_init=None).start(x, level, generator(1))
    torch.testing.assert_close(plain[:, :, 1:] - level.a * x[:, :, :1], white(x, generator(1))[:, :, 1:])
    assert isinstance(prior, StartsItself)


def test_the_official_noise_wins_over_the_saved_one_unless_told(prior: Cinemo) -> None:
    official = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear").alphas_cumprod
    levels = prior.levels(shot(), 50)
    assert [level.t for level in levels[:2]] == [981, 961] and levels[-2].t == 1 and levels[-1] == (1, 0, 0)
    assert levels[0].a == pytest.approx(float(official[981]) ** 0.5)
    trusting = Cinemo(prior.parts, noise={})
    assert trusting.schedule.config.beta_schedule == "scaled_linear"
    with pytest.raises(SettingError, match="999"):
        prior.levels(shot(), 1000)


# The network


def test_relative_buckets_are_t5s() -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    place = torch.arange(40)
    theirs = T5Attention._relative_position_bucket(
        place[None, :] - place[:, None], bidirectional=True, num_buckets=32, max_distance=32
    )
    assert torch.equal(relative_buckets(40), theirs)


@pytest.mark.parametrize(("count", "size"), [(1, (4, 4)), (6, (3, 5)), (9, (2, 7))])
def test_any_number_of_frames_and_any_size(prior: Cinemo, count: int, size: tuple[int, int]) -> None:
    net, rng = prior.parts.unet, generator()
    z, first = torch.randn(4, 4, count, *size, generator=rng), torch.randn(2, 4, 1, *size, generator=rng)
    text = torch.randn(4, 7, 32, generator=rng)
    both = net(z, 500, text, first, torch.tensor([80.0, 95.0]))
    assert both.shape == z.shape
    for i in range(4):
        clip = slice(i % 2, i % 2 + 1)
        one = net(z[i : i + 1], 500.0, text[i : i + 1], first[clip], [80.0, 95.0][i % 2])
        torch.testing.assert_close(both[i : i + 1], one, atol=1e-5, rtol=1e-4)


def test_configurations_it_cannot_have_are_refused() -> None:
    with pytest.raises(ValueError, match="addition_embed_type 'motion_ids'"):
        UNetConfig.from_json({**CINEMO, "addition_embed_type": "text"})
    with pytest.raises(ValueError, match="at least 32 channels"):
        UNetConfig.from_json({**CINEMO, "attention_head_dim": 4})
    with pytest.raises(ValueError, match="multiples of 8"):
        UNetConfig.from_json({**CINEMO, "block_out_channels": [36, 64]})
    assert UNetConfig.from_json(CINEMO).addition_time_embed_dim == 256


# The prior


def test_keeps_what_every_prior_keeps(prior: Cinemo) -> None:
    conformance.check(prior, shot(), likeness=2.0)  # an untrained VAE decodes to no likeness


def test_a_painting_comes_alive_end_to_end(prior: Cinemo) -> None:
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


def test_the_network_is_shown_residuals(prior: Cinemo) -> None:
    """The still painting at a level, less the painting, is noise alone: what the network must see."""
    shown: list[torch.Tensor] = []
    handle = prior.parts.unet.register_forward_pre_hook(lambda net, given: shown.append(given[0]))
    one, level = shot(guidance=1.0), Level(0.6, 0.8, 500.0)
    still = prior.still([one], generator())
    noise = torch.randn(still.shape, generator=generator(3))
    x0 = prior.bind([one], generator())(level.a * still + level.s * noise, level).x0
    handle.remove()
    torch.testing.assert_close(shown[0], level.s * noise[:, :, 1:], atol=1e-5, rtol=0)
    assert torch.equal(x0[:, :, 0], still[:, :, 0])


def test_mask_strength_painting_and_sentence_act(prior: Cinemo) -> None:
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


def test_each_clip_of_a_batch_has_its_own_conditions(prior: Cinemo) -> None:
    mask = np.zeros((40, 72), np.float32)
    mask[:, 36:] = 1
    pair = [shot(controls=Controls(mask=mask, strength=0.9), negative="blurred"), shot(1, guidance=3.0)]
    level = prior.levels(pair[0], 4)[1]
    z = torch.randn(2, 4, 4, 6, 11, generator=generator())
    both = prior.bind(pair, generator())(z, level)
    for i, one in enumerate(pair):
        alone = prior.bind([one], generator())(z[i : i + 1], level)
        assert parity.relative(both.x0[i : i + 1], alone.x0) < 1e-4


def test_more_strength_is_a_lower_motion_id_and_the_calibration_is_checked() -> None:
    ids = MotionIds()
    assert [ids.of(shot(controls=Controls(strength=s))) for s in (0.0, 0.5, 1.0)] == [99, 89.5, 80]
    assert ids.of(shot()) == 90
    assert MotionIds(still=0, usual=10, lively=19).of(shot(controls=Controls(strength=1.0))) == 19
    for wrong in ({"usual": 20.0}, {"still": 80.0}, {"still": 120.0}):
        with pytest.raises(SettingError, match="motion ids"):
            MotionIds(**wrong)
    with pytest.raises(SettingError, match="share"):
        DCTInit(share=2)


def test_the_temporal_decoder_sees_chunks_of_one_clip(prior: Cinemo) -> None:
    x = torch.randn(2, 4, 5, 4, 4, generator=generator())
    three = Cinemo(prior.parts, prior.card, decode_frames=3)
    vae, out = prior.parts.vae, three.decode(x, shot())
    with torch.no_grad():
        for start, end in ((0, 3), (3, 5)):
            part = x[1, :, start:end].transpose(0, 1) / 0.18215
            expected = vae.decode(part, num_frames=end - start).sample.clamp(-1, 1).transpose(0, 1)
            torch.testing.assert_close(out[1, :, start:end], expected, atol=1e-5, rtol=1e-4)


# The folder


def refused(folder: Path) -> str:
    """The one line a damaged folder is refused with."""
    with pytest.raises(WeightsError) as caught:
        Cinemo.from_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_temporal_decoder_the_image_vae_serves(folder: Path, prior: Cinemo) -> None:
    shutil.rmtree(folder / "vae_temporal_decoder")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    save_file({name: v for name, v in state.items() if name != CINEMO_FREQS}, path)  # nor are the constants needed
    loaded = Cinemo.from_folder(folder, card=prior.card)
    assert prior.parts.over_time and not loaded.parts.over_time
    assert loaded.decode(loaded.still([shot()], generator()), shot()).shape == (1, 3, 4, 48, 88)


def test_mismatched_and_damaged_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    vae = folder / "vae_temporal_decoder" / "diffusion_pytorch_model.safetensors"
    vae.write_bytes(vae.read_bytes()[:-1000])
    assert "vae_temporal_decoder" in refused(folder)
    shutil.rmtree(folder / "vae_temporal_decoder")
    save_file({**state, "add_embedding.linear_1.weight": torch.zeros(128, 32)}, path)
    assert "add_embedding.linear_1.weight has shape (128, 32), expected (128, 256)" in refused(folder)
    save_file({name: v for name, v in state.items() if "norm_temp.bias" not in name}, path)
    assert "missing key down_blocks.0.attentions.0.transformer_blocks.0.norm_temp.bias of shape (32,)" in refused(
        folder
    )
    save_file(state, path)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    assert "scheduler_config.json" in refused(folder)
    assert "expected a folder" in refused(tmp_path / "nowhere")
