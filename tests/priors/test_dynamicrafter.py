"""DynamiCrafter: agreement with the official code, the released checkpoint's layout, its modes, controls, refusals."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch import nn

from tests import parity
from tests.hub import write
from tests.priors import conformance
from tests.priors.released import DYNAMICRAFTER, dynamicrafter, dynamicrafter_checkpoint, random_like
from vivant.awaken import awaken
from vivant.errors import ImageError, SettingError, WeightsError
from vivant.noise import white
from vivant.priors.dynamicrafter.adapter import CARDS, DynamiCrafter, frame_rate
from vivant.priors.dynamicrafter.encoders import (
    clip_shapes,
    clip_state,
    clip_view,
    image_tower,
    image_vae,
    text_states,
    text_tower,
    vae_shapes,
    vae_state,
)
from vivant.priors.dynamicrafter.net import DynamiCrafterUNet, UNetConfig, dealt
from vivant.priors.dynamicrafter.schedule import SCHEDULES, Schedule
from vivant.priors.dynamicrafter.weights import Parts, convert, infer, load, networks, shapes
from vivant.process import Level, Prediction, diffuse, recover
from vivant.shot import Controls, Shot
from vivant.solvers import ancestral_sigma, ddim_stochastic

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "parity" / "dynamicrafter"
recorded = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded official runs (../shared/parity) are not here")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a variant, made once."""
    root, made = tmp_path_factory.mktemp("released"), {}

    def of(variant: str) -> Path:
        if variant not in made:
            made[variant] = dynamicrafter(root / variant, variant)
        return made[variant]

    return of


@pytest.fixture
def folder(released: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(released("512"), tmp_path / "copy"))


@pytest.fixture(scope="module")
def make(released: Callable[[str], Path]) -> Callable[..., DynamiCrafter]:
    """A prior of a variant, at a tiny size."""

    parts: dict[str, Parts] = {}

    def of(variant: str = "512", **options: Any) -> DynamiCrafter:
        if variant not in parts:
            parts[variant] = load(released(variant), variant=variant)
        return DynamiCrafter(parts[variant], card=replace(CARDS[variant], size=(16, 16)), **options)

    return of


@pytest.fixture(scope="module")
def prior(make: Callable[..., DynamiCrafter]) -> DynamiCrafter:
    return make()


def shot(seed: int = 0, controls: Controls | None = None, **settings: Any) -> Shot:
    painting = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    chosen = {"frames": 3, "steps": 4, **settings}
    return Shot(painting, "waves roll ashore", controls=controls or Controls(), **chosen)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Agreement with the official code


@recorded
@pytest.mark.parametrize("file", ["tiny_a", "resampler_a", "ddim_multicond"])
def test_agrees_with_the_recorded_official_run(file: str) -> None:
    outcomes = list(parity.RUNS["dynamicrafter"](parity.read(SHARED / f"{file}.safetensors")))
    assert outcomes
    assert not [outcome for outcome in outcomes if not outcome.ok]


@recorded
@pytest.mark.parametrize("size", ["256", "512", "1024"])
def test_has_the_released_checkpoints_keys(size: str) -> None:
    assert parity.compare_keys("dynamicrafter", SHARED / f"full_keys_{size}.json") == []


def test_the_key_comparison_takes_either_spelling_and_names_what_differs(tmp_path: Path) -> None:
    ours = {key: list(shape) for key, shape in shapes(networks("256")).items() if "image_proj" not in key}
    old = {key.replace("fps_embedding", "framestride_embed"): shape for key, shape in ours.items()}
    assert old != ours
    write(tmp_path / "keys.json", {"keys": {**old, "model.diffusion_model.out.2.bias": [5]}})
    assert parity.compare_keys("dynamicrafter", tmp_path / "keys.json") == [
        "key model.diffusion_model.out.2.bias has shape (4,), expected (5,)"
    ]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_its_noise_is_diffusers_ddim_at_any_eta(eta: float) -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, rescale_betas_zero_snr=True, timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(10)
    schedule = Schedule(base=None)
    levels = schedule.levels(10)
    assert [level.t for level in levels[:-1]] == scheduler.timesteps.tolist()
    levels[-1] = schedule.end(levels[-2])

    def network(z: torch.Tensor, t: float) -> torch.Tensor:
        return torch.tanh(z.roll(1, -1) * (0.5 + t / 1000)) - 0.1 * z

    def denoise(z: torch.Tensor, level: Level) -> Prediction:
        return recover(z, network(z, level.t), level, *schedule.coefficients(level))

    begin = torch.randn(1, 2, 3, 4, 5, generator=generator(), dtype=torch.float64)
    ours = ddim_stochastic(denoise, begin, levels, generator(1), ancestral_sigma(eta))
    theirs, rng = begin, generator(1)
    for t in scheduler.timesteps:
        noise = white(theirs, rng) if eta else None
        theirs = scheduler.step(
            network(theirs, float(t)), t, theirs, eta=eta, variance_noise=noise, return_dict=False
        )[0]  # fmt: skip
    assert parity.relative(ours, theirs) < 2e-3  # diffusers' table is float32, where the first step's root is not 0


# The noise


@pytest.mark.parametrize("variant", SCHEDULES)
def test_levels_of_every_variant_descend_for_any_number_of_steps(variant: str) -> None:
    schedule = SCHEDULES[variant]
    for steps in (1, 2, 7, 50, 333, 800):
        for carry in (False, True):
            if carry and steps > schedule.carrying:
                continue
            levels = schedule.levels(steps, carry)
            assert len(levels) == steps + 1
            assert levels[-1] == (1, 0, 0)
            assert all(after.s / (after.a + after.s) < now.s / (now.a + now.s) for now, after in pairwise(levels))
    with pytest.raises(SettingError, match="between 1 and 999"):
        schedule.levels(1000)
    assert [level.t for level in schedule.levels(50)][:2] == ([981, 961] if variant == "256" else [999, 979])


def test_zero_snr_is_computed_whatever_the_checkpoint_says(make: Callable[..., DynamiCrafter]) -> None:
    assert make().levels(shot(distil=0), 4)[0] == (0, 1, 999)
    assert make("256").levels(shot(distil=0), 4)[0].a > 0.06  # the file's own schedule says ᾱ = 0.5 throughout


def test_a_distilled_clip_begins_where_enough_of_it_is_left(make: Callable[..., DynamiCrafter]) -> None:
    plain = Schedule(zero_snr=False, base=None).bars[-1]
    wanted = math.sqrt(plain / (1 - plain))
    for variant in ("512", "1024"):
        first = make(variant).levels(shot(distil=0.6), 10)[0]
        later = SCHEDULES[variant].at([int(first.t) + 1])[0]
        assert first.a / first.s >= wanted > later.a / later.s
        assert make(variant).levels(shot(distil=0, fused=True), 10)[0] == first  # the paper's row +S
        assert make(variant, begin="noise").levels(shot(distil=0.6), 10)[0].a == 0
        assert make(variant, begin="clip").levels(shot(distil=0), 10)[0] == first
    assert make("256").levels(shot(distil=0.6), 10) == make("256").levels(shot(distil=0), 10)


def test_a_still_starts_as_pure_noise_and_a_moving_clip_is_carried(prior: DynamiCrafter) -> None:
    still = prior.still([shot()], generator())
    noise, silent = white(still, generator(3)), prior.levels(shot(distil=0), 4)[0]
    assert torch.equal(prior.start(still, silent, generator(3)), noise)
    moving = still + torch.linspace(0, 1, 3).view(1, 1, -1, 1, 1)
    loud = prior.levels(shot(distil=0.6), 4)[0]
    assert torch.equal(prior.start(moving, loud, generator(3)), diffuse(moving, noise, loud))
    assert torch.equal(prior.start(still, loud, generator(3)), diffuse(still, noise, loud))
    kept = prior.start(moving, silent, generator(3)) - prior.start(moving + 1, silent, generator(3))
    assert float(kept.abs().mean()) == pytest.approx(loud.a, rel=0.05)


def test_the_solver_ends_at_the_first_training_steps_noise(prior: DynamiCrafter) -> None:
    levels = prior.levels(shot(distil=0), 50)

    def perfect(z: torch.Tensor, level: Level) -> Prediction:
        x0 = torch.full_like(z, 3.0)
        return Prediction(x0, (z - level.a * x0) / level.s)

    z = torch.randn(1, 4, 16, 24, 24, generator=generator())
    out = prior.solve(perfect, z, levels, generator())
    assert float(out.mean()) == pytest.approx(3 * float(SCHEDULES["512"].scale[19]) * math.sqrt(1 - 0.00085), abs=1e-3)
    assert float(out.std()) == pytest.approx(math.sqrt(0.00085), rel=0.05)


# The network


def test_picture_tokens_go_to_their_frames_only_when_there_are_sixteen_each() -> None:
    context = torch.arange(77 + 48.0).view(1, -1, 1).repeat(2, 1, 1)
    each = dealt(context, 3)
    assert each.picture is not None and each.picture.shape == (6, 16, 1)
    assert each.picture[4, :, 0].tolist() == list(range(77 + 16, 77 + 32))
    shared = dealt(context, 4)
    assert shared.picture is not None and torch.equal(shared.picture, context[:, 77:])
    assert torch.equal(each.text, context[:, :77]) and torch.equal(shared.text, each.text)
    assert dealt(context[:, :77], 3).picture is None


@pytest.mark.parametrize(
    "switches",
    [
        {"use_linear": False}, {"temporal_conv": False, "temporal_attention": False, "addition_attention": False},
        {"image_cross_attention_scale_learnable": True, "fs_condition": False}, {"transformer_depth": 2},
    ],
)  # fmt: skip
def test_every_switch_builds_a_network_that_runs_at_odd_sizes(switches: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = DynamiCrafterUNet(UNetConfig.from_json({**DYNAMICRAFTER["unet"], **switches})).eval()
    x = torch.randn(2, 8, 3, 5, 7, generator=generator())
    with torch.no_grad():
        out = net(x, torch.tensor([5, 900]), torch.randn(2, 81, 32, generator=generator()))
        alone = net(x[1:], torch.tensor([900]), torch.randn(2, 81, 32, generator=generator())[1:])
    assert out.shape == (2, 4, 3, 5, 7)
    assert torch.allclose(out[1:], alone, atol=1e-5)


def test_configurations_no_network_can_have_are_refused() -> None:
    with pytest.raises(ValueError, match="use_relative_position off"):
        UNetConfig.from_json({"use_relative_position": True})
    with pytest.raises(ValueError, match="multiples of 32"):
        UNetConfig(model_channels=40)
    with pytest.raises(ValueError, match="num_head_channels"):
        UNetConfig(num_head_channels=-1)


# The encoders


class OpenClipBlock(nn.Module):
    """OpenCLIP's residual block, from torch's own attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 2 * width), "c_proj": nn.Linear(2 * width, width)})

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


def open_clip(state: dict[str, torch.Tensor], x: torch.Tensor, blocks: int, mask: torch.Tensor | None) -> torch.Tensor:
    for i in range(blocks):
        block, prefix = OpenClipBlock(x.shape[-1]).eval(), f"transformer.resblocks.{i}."
        block.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        x = block(x, mask)
    return x


def norm(state: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


@torch.no_grad()
def test_the_text_tower_is_open_clips_penultimate_state_behind_the_last_norm(prior: DynamiCrafter) -> None:
    tower = text_tower({**DYNAMICRAFTER["text"], "hidden_act": "gelu"}).eval()
    state = random_like(clip_shapes(tower), seed=4)
    assert not any(".resblocks.2." in key for key in state)
    tower.load_state_dict(clip_state(tower, state))
    words = prior.parts.tokenizer(["a b", "storm" * 40], truncation=True, max_length=77).input_ids
    tokens = torch.tensor([row + [0] * (77 - len(row)) for row in words])
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    mask = torch.full((77, 77), -math.inf).triu(1)
    reference = norm(state, "ln_final", open_clip(state, x, 2, mask))
    assert torch.allclose(text_states(prior.parts.tokenizer, tower, ["a b", "storm" * 40]), reference, atol=1e-5)
    assert len(words[0]) < 77 == len(words[1])


@torch.no_grad()
def test_the_image_tower_is_open_clips_last_block_without_its_norm() -> None:
    tower = image_tower({**DYNAMICRAFTER["image"], "patch_size": 14, "hidden_act": "gelu"}).eval()
    state = random_like(clip_shapes(tower), seed=5)
    tower.load_state_dict(clip_state(tower, state))
    picture = torch.randn(2, 3, 28, 28, generator=generator())
    patches = nn.functional.conv2d(picture, state["conv1.weight"], stride=14).flatten(2).transpose(1, 2)
    x = torch.cat([state["class_embedding"].expand(2, 1, -1), patches], dim=1) + state["positional_embedding"]
    reference = open_clip(state, norm(state, "ln_pre", x), 2, None)
    assert torch.allclose(tower(picture).last_hidden_state, reference, atol=1e-5)


def test_the_vaes_names_are_what_diffusers_makes_of_latent_diffusions() -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    vae = image_vae({"block_out_channels": [32, 64, 64], "layers_per_block": 2, "latent_channels": 4})
    state = random_like(vae_shapes(vae))
    named = {f"first_stage_model.{key}": v for key, v in state.items()}
    theirs = convert_ldm_vae_checkpoint(named, {"down_block_types": (0,) * 3, "up_block_types": (0,) * 3})
    ours = vae_state(vae, state)
    assert ours.keys() == theirs.keys() == vae.state_dict().keys()
    assert all(torch.equal(ours[key], theirs[key].reshape(ours[key].shape)) for key in ours)


@pytest.mark.parametrize("size", [(320, 512), (300, 224), (225, 999), (100, 150)])
def test_clip_sees_what_the_reference_resize_gives(size: tuple[int, int]) -> None:
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

    picture = torch.rand(1, 3, *size, generator=generator()) * 2 - 1
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    reference = (_resize_with_antialiasing(picture, (224, 224)) + 1) / 2
    reference = (reference - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    assert torch.allclose(clip_view(picture), reference, atol=1e-4)


def test_a_picture_of_clips_size_is_only_normalised() -> None:
    picture = torch.rand(1, 3, 224, 224, generator=generator())
    seen = clip_view(picture)
    assert torch.allclose(seen[:, 0], ((picture[:, 0] + 1) / 2 - 0.48145466) / 0.26862954, atol=1e-5)


# The prior


@pytest.mark.parametrize(("variant", "guidance"), [("256", 7.5), ("512", 1.0), ("512_interp", 1.0)])
def test_keeps_what_every_prior_keeps(make: Callable[..., DynamiCrafter], variant: str, guidance: float) -> None:
    # Without guidance one branch is asked instead of two; an untrained VAE decodes to no likeness.
    conformance.check(make(variant), shot(frames=2, guidance=guidance), likeness=2.0)


def test_a_painting_comes_alive_end_to_end(prior: DynamiCrafter) -> None:
    calls: list[float] = []
    one, proxy = shot(distil=0.5), shot(1).painting
    x = awaken(prior, one, proxy, generator(), on_call=lambda level: calls.append(level.t))
    assert x.shape == (1, 4, 3, 6, 10)
    assert len(calls) == 3 + 4
    frames = prior.decode(x, one)
    assert frames.shape == (1, 3, 3, 12, 20)
    assert frames.isfinite().all() and frames.abs().max() <= 1
    assert torch.equal(x, awaken(prior, one, proxy, generator()))
    assert not torch.equal(x, awaken(prior, one, None, generator()))


def test_undistilled_it_is_the_official_sampler(prior: DynamiCrafter) -> None:
    one = shot(distil=0)
    x = awaken(prior, one, None, generator())
    rng = generator()
    z = white(prior.still([one], rng), rng)
    levels = prior.schedule.at(prior.schedule.clock(4))
    levels[-1] = prior.schedule.end(levels[-2])
    assert torch.equal(x, ddim_stochastic(prior.bind([one], rng), z, levels, rng, ancestral_sigma()))


def test_mask_strength_painting_and_sentence_act(prior: DynamiCrafter) -> None:
    half = np.zeros((24, 40), np.float32)
    half[:12] = 1
    level = prior.levels(shot(), 4)[2]
    z = torch.randn(1, 4, 3, 6, 10, generator=generator())

    def x0(one: Shot, with_prior: DynamiCrafter = prior) -> torch.Tensor:
        return with_prior.bind([one], generator())(z, level).x0

    usual = x0(shot())
    for changed in (
        shot(controls=Controls(strength=0.0)), shot(controls=Controls(strength=1.0)), shot(1), shot(guidance=2.0),
        replace(shot(), prompt="leaves fall"), shot(negative="blurred"),
    ):  # fmt: skip
        assert parity.relative(x0(changed), usual) > 1e-4
    assert torch.equal(x0(shot(controls=Controls(strength=0.4))), usual)  # 30 - 0.4 · 15 is the usual 24
    masked = x0(shot(controls=Controls(mask=half)))
    assert torch.allclose(masked[..., :2, :], usual[..., :2, :], atol=1e-5)
    assert torch.allclose(masked[..., 4:, :], prior.still([shot()], generator())[..., 4:, :], atol=1e-5)
    assert torch.allclose(x0(shot(controls=Controls(mask=np.ones((24, 40), np.float32)))), usual, atol=1e-5)


def test_a_branch_of_its_own_guides_towards_the_painting(make: Callable[..., DynamiCrafter]) -> None:
    one, three, level = make(), make(cfg_img=2.0), make().levels(shot(), 4)[1]
    even = make(cfg_img=7.5)  # u + 7.5·(i - u) + 7.5·(c - i) is the rule without it
    z = torch.randn(1, 4, 3, 6, 10, generator=generator())
    one_x0, three_x0, even_x0 = (p.bind([shot()], generator())(z, level).x0 for p in (one, three, even))
    assert parity.relative(three_x0, one_x0) > 1e-3
    assert parity.relative(even_x0, one_x0) < 1e-5


def test_each_clip_of_a_batch_has_its_own_conditions(prior: DynamiCrafter) -> None:
    mask = np.zeros((24, 40), np.float32)
    mask[:, 20:] = 1
    pair = [shot(controls=Controls(mask=mask, strength=0.9)), shot(1, guidance=3.0)]
    level = prior.levels(pair[0], 4)[1]
    z = torch.randn(2, 4, 3, 6, 10, generator=generator())
    both = prior.bind(pair, generator())(z, level)
    for i, one in enumerate(pair):
        alone = prior.bind([one], generator())(z[i : i + 1], level)
        assert torch.allclose(both.x0[i : i + 1], alone.x0, atol=1e-4)


@pytest.mark.parametrize(
    ("variant", "rates"),
    [("256", (3, 1, 6)), ("512", (24, 30, 15)), ("1024", (10, 15, 5)), ("512_interp", (5, 30, 5))],
)
def test_strength_maps_onto_the_documented_rates(variant: str, rates: tuple[int, int, int]) -> None:
    asked = (None, 0.0, 1.0)
    assert tuple(frame_rate(shot(controls=Controls(strength=s)), variant) for s in asked) == rates


def test_a_loop_is_conditioned_on_both_ends_and_loses_its_last_frame(make: Callable[..., DynamiCrafter]) -> None:
    loop = make("512_interp")
    assert loop.mode == "loop"
    assert DynamiCrafter(loop.parts).card.frames == 15  # sixteen latent frames, as trained
    concat = loop._concat([shot()], generator())
    assert concat.shape == (1, 4, 4, 6, 10)
    assert not concat[:, :, 1:-1].any()
    assert concat[:, :, 0].any() and torch.equal(concat[:, :, 0], concat[:, :, -1])
    x = awaken(loop, shot(distil=0, steps=2), None, generator())
    assert x.shape[2] == 4
    assert loop.decode(x, shot()).shape[2] == 3
    repeated = make("512")._concat([shot()], generator())
    assert torch.equal(repeated[:, :, 0], repeated[:, :, -1]) and repeated[:, :, 1].any()


def test_interpolation_ends_on_the_last_picture(make: Callable[..., DynamiCrafter]) -> None:
    wide = np.random.default_rng(9).integers(0, 256, (24, 80, 3), dtype=np.uint8)
    between = make("512_interp", last=wide)
    assert between.mode == "interpolate"
    concat = between._concat([shot()], generator())
    assert concat.shape[2] == 3 and not concat[:, :, 1].any()
    rng = generator()
    first = between._latents([shot()], rng)
    cropped = between._latents([shot().seen_as(np.ascontiguousarray(wide[:, 20:60]))], rng)
    assert torch.allclose(concat[:, :, :1], first, atol=1e-5)
    assert torch.allclose(concat[:, :, -1:], cropped, atol=1e-5)
    assert not torch.allclose(concat[:, :, 0], concat[:, :, -1], atol=1e-2)


def test_modes_and_options_that_cannot_be_are_refused(make: Callable[..., DynamiCrafter]) -> None:
    picture = shot().painting
    for variant, options in (
        ("512", {"mode": "loop"}), ("512_interp", {"mode": "i2v"}), ("512", {"mode": "sideways"}),
        ("512_interp", {"mode": "interpolate"}), ("512", {"last": picture}), ("512", {"begin": "late"}),
        ("512", {"cfg_img": -1.0}),
    ):  # fmt: skip
        with pytest.raises(SettingError, match="expected"):
            make(variant, **options)
    with pytest.raises(ImageError, match="last picture"):
        make("512_interp", last=picture[..., 0])


def test_the_picture_is_sampled_from_the_vae_and_the_still_is_its_mode(prior: DynamiCrafter) -> None:
    one = shot()
    posterior = prior.parts.vae.encode(torch.ones(1, 3, 16, 16)).latent_dist
    white_shot = replace(one, painting=np.full((16, 16, 3), 255, np.uint8))
    still, concat = prior.still([white_shot], generator()), prior._concat([white_shot], generator())
    assert torch.allclose(still[:, :, 0], posterior.mean * 0.18215, atol=1e-5)
    noise = torch.randn(1, 4, 8, 8, generator=generator())
    assert torch.allclose(concat[:, :, 0], (posterior.mean + posterior.std * noise) * 0.18215, atol=1e-5)


# The checkpoint


def refused(folder: Path, error: type[Exception] = WeightsError, **options: Any) -> str:
    """The one line a damaged folder is refused with."""
    with pytest.raises(error) as caught:
        DynamiCrafter.from_folder(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = torch.load(folder / "model.ckpt", weights_only=True)["state_dict"]
    torch.save(change(state), folder / "model.ckpt")


def predicted(prior: DynamiCrafter) -> torch.Tensor:
    prior.card = replace(prior.card, size=(16, 16))
    z = torch.randn(1, 4, 3, 6, 10, generator=generator())
    return prior.bind([shot()], generator())(z, prior.levels(shot(), 4)[1]).x0


@pytest.mark.parametrize("variant", CARDS)
def test_the_variant_is_read_from_the_checkpoint(released: Callable[[str], Path], variant: str) -> None:
    seen = DynamiCrafter.from_folder(released(variant))
    assert seen.parts.variant == variant.removesuffix("_interp")
    if variant == "512_interp":
        loop = DynamiCrafter.from_folder(released(variant), mode="loop")
        assert loop.parts.variant == variant and loop.card.name == "dynamicrafter_interp"


def test_a_variant_that_cannot_be_told_must_be_given(folder: Path, prior: DynamiCrafter) -> None:
    rewrite(folder, lambda state: {k: v for k, v in state.items() if k != "scale_arr"})  # bare, without state_dict
    assert "name its variant" in refused(folder)
    assert torch.equal(predicted(DynamiCrafter.from_folder(folder, variant="512")), predicted(prior))
    assert "among 256, 512, 1024, 512_interp" in refused(folder, SettingError, variant="2048")
    write(folder / "config.json", {**DYNAMICRAFTER, "variant": "1024"})
    assert DynamiCrafter.from_folder(folder).parts.variant == "1024"


def test_the_old_spelling_of_the_rates_embedding_loads(released: Callable[[str], Path], tmp_path: Path) -> None:
    old = Path(shutil.copytree(released("256"), tmp_path / "old"))
    rewrite(old, lambda s: {"state_dict": {k.replace("fps_embedding", "framestride_embed"): v for k, v in s.items()}})
    new = DynamiCrafter.from_folder(released("256"))
    assert torch.equal(predicted(DynamiCrafter.from_folder(old)), predicted(new))


def test_converted_weights_are_preferred_and_equal(folder: Path, prior: DynamiCrafter) -> None:
    before = torch.load(folder / "model.ckpt", weights_only=True)["state_dict"]
    before["shared"] = before["betas"]
    torch.save({"state_dict": before}, folder / "model.ckpt")
    path = convert(folder)
    after = load_file(path)
    assert path == folder / "model.safetensors"
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in after)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "model.ckpt", "model.safetensors", "text_encoder", "tokenizer"
    ]  # fmt: skip
    (folder / "model.ckpt").write_bytes(b"gone")
    assert parity.relative(predicted(DynamiCrafter.from_folder(folder)), predicted(prior)) < 1e-4
    with pytest.raises(WeightsError, match=r"model\.ckpt"):
        convert(folder)
    assert path.is_file()


def test_half_precision_loads(folder: Path, prior: DynamiCrafter) -> None:
    half = DynamiCrafter.from_folder(folder, dtype=torch.bfloat16)
    assert half.parts.unet.dtype == half.parts.vae.dtype == half.parts.text.dtype == torch.bfloat16
    assert parity.relative(predicted(half), predicted(prior)) < 0.3


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    assert "expected a folder" in refused(tmp_path / "nowhere")
    (folder / "model.ckpt").unlink()
    assert "model.safetensors or model.ckpt" in refused(folder)
    with pytest.raises(WeightsError, match=r"model\.ckpt"):
        convert(folder)
    (folder / "tokenizer" / "merges.txt").unlink()
    assert "merges.txt" in refused(folder)


def test_mismatched_weights_name_the_key_and_both_shapes(folder: Path) -> None:
    bias = "model.diffusion_model.out.2.bias"
    rewrite(folder, lambda s: {"state_dict": {**s, bias: torch.zeros(9)}})
    assert f"key {bias} has shape (9,), expected (4,)" in refused(folder)
    fused = "embedder.model.visual.transformer.resblocks.0.attn.in_proj_weight"
    release_again = dynamicrafter_checkpoint("512")
    torch.save({k: v for k, v in release_again.items() if k != fused}, folder / "model.ckpt")
    assert f"missing key {fused} of shape (96, 32)" in refused(folder)
    torch.save({**release_again, "first_stage_model.stray": torch.zeros(2)}, folder / "model.ckpt")
    assert "unknown key first_stage_model.stray" in refused(folder)
    torch.save(release_again, folder / "model.ckpt")
    assert "missing key" in refused(folder, variant="256")


def test_truncated_weights_are_refused(folder: Path) -> None:
    convert(folder)
    for name in ("model.safetensors", "model.ckpt"):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert name in refused(folder)
        path.unlink()


class Malicious:
    """Unpickled, it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_runs_code_is_refused_unrun(folder: Path, tmp_path: Path) -> None:
    torch.save(
        {"state_dict": dynamicrafter_checkpoint("512"), "callbacks": Malicious(tmp_path / "run")}, folder / "model.ckpt"
    )
    assert "refused it (UnpicklingError)" in refused(folder)
    with pytest.raises(WeightsError, match="refused"):
        convert(folder)
    assert not (tmp_path / "run").exists()


def test_what_holds_no_tensors_or_describes_no_network_is_refused(folder: Path) -> None:
    torch.save({"state_dict": {"epoch": 3}}, folder / "model.ckpt")
    assert "expected tensors by name" in refused(folder)
    torch.save(dynamicrafter_checkpoint("512"), folder / "model.ckpt")
    write(folder / "config.json", {**DYNAMICRAFTER, "unet": {**DYNAMICRAFTER["unet"], "model_channels": 40}})
    assert "multiples of 32" in refused(folder)
    write(folder / "config.json", {**DYNAMICRAFTER, "unet": 3})
    assert "describes no DynamiCrafter" in refused(folder)
    assert infer({"scale_arr": torch.tensor([1.0, 0.3])}, folder) == "1024"
