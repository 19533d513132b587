"""The recipes: masks and targets in closed form, what learns and what does not, results that others load."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from vivant.cli import app
from vivant.errors import InputError, SettingError, WeightsError
from vivant.priors import lora
from vivant.priors.animate_anything.adapter import CARD, AnimateAnything
from vivant.priors.animate_anything.net import AnimateAnythingUNet, UNetConfig
from vivant.priors.animate_anything.weights import Parts as AAParts
from vivant.priors.animate_anything.weights import load as load_animate_anything
from vivant.priors.dynamicrafter.adapter import CARDS, DynamiCrafter
from vivant.priors.dynamicrafter.weights import load as load_crafter
from vivant.shot import Shot
from vivant.train.config import Data, Loop
from vivant.train.feed import Scenes, clips_of, generator
from vivant.train.loop import train
from vivant.train.losses import motion_strength
from vivant.train.recipes import animate_anything as aa
from vivant.train.recipes import dynamicrafter as dc
from vivant.train.recipes import masks, tiny

VIDEOS = Path(__file__).resolve().parents[2] / ".." / "shared" / "videos"
LOOP = Loop(steps=1, batch=2, rate=1e-2, device="cpu", threads=1, save_every=2, log_every=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AnimateAnything's folder, tiny."""
    return tiny.animate_anything(tmp_path_factory.mktemp("aa") / "base")


@pytest.fixture(scope="module")
def crafter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """DynamiCrafter's, of a variant."""
    root = tmp_path_factory.mktemp("dc")
    return lambda variant: tiny.dynamicrafter(root / variant, variant)


@pytest.fixture(scope="module")
def loaded(base: Path) -> AAParts:
    """The tiny folder, loaded once."""
    return load_animate_anything(base)


@pytest.fixture
def parts(loaded: AAParts) -> Callable[[], AAParts]:
    """The tiny networks, the UNet a fresh copy each time."""
    return lambda: replace(loaded, unet=copy.deepcopy(loaded.unet))


def scenes(frames: int = 3, count: int = 3) -> Scenes:
    return Scenes(count, frames, (32, 32), 0, (1, 2))


def rngs(count: int, seed: int = 0) -> list[torch.Generator]:
    return [generator(seed, i) for i in range(count)]


def batch_of(recipe: Any, count: int = 2, frames: int = 3) -> dict[str, Tensor]:
    rows = [recipe.encode(scenes(frames)[0, i], generator(7, i)) for i in range(count)]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


# AnimateAnything: eq. 4 to 9


def test_moving_areas_are_boxes_around_what_changes() -> None:
    frames = np.full((3, 40, 60, 3), 100, np.uint8)
    frames[1, 4:12, 8:20] = 120  # a block
    frames[2, 30:34, 50:54] = 106  # a small one, just over the threshold
    frames[2, 20:30, 20:30] = 105  # just under it
    frames[1, 0, 0] = 255  # a speck
    found = masks.areas(frames, threshold=5, least=0.005)
    assert found.shape == (masks.AREAS, 40, 60)
    assert [int(a.sum()) for a in found[:3]] == [96, 16, 0]
    assert found[0, 4:12, 8:20].all()
    cells = masks.areas(frames, 5, 0.005, (5, 15))  # 8×4 pixels a cell: every cell that a box touches
    assert np.argwhere(cells[0]).tolist() == [[r, c] for r in (0, 1) for c in (2, 3, 4)]
    assert not masks.areas(frames[:1].repeat(3, 0)).any()
    many = np.zeros((2, 64, 64, 3), np.uint8)
    for i in range(12):
        many[1, 16 * (i // 4) + 2 : 16 * (i // 4) + 8, 16 * (i % 4) + 2 : 16 * (i % 4) + 8] = 200
    assert masks.areas(many)[:-1].sum((1, 2)).tolist() == [36] * (masks.AREAS - 1)
    assert int(masks.areas(many)[-1].sum()) == 36 * 5  # the rest are one


def test_the_mask_is_all_that_moves_or_a_part_or_everything(parts: Callable[[], AAParts]) -> None:
    found = torch.zeros(1, masks.AREAS, 4, 4)
    found[0, 0, :2, :2], found[0, 1, 3, 3] = 1, 1

    def drawn(**changes: Any) -> list[Tensor]:
        recipe = aa.AnimateAnythingRecipe(parts(), aa.Model(**changes))
        return [recipe.masks(found, rngs(1, seed))[0, 0, 0] for seed in range(40)]

    union = found.amax(1)[0]
    assert all(torch.equal(m, union) for m in drawn(some=0, everywhere=0))
    assert all(m.all() for m in drawn(some=0, everywhere=1))
    some = drawn(some=1, everywhere=0)
    assert all(bool((m <= union).all()) and m.any() for m in some)
    assert len({tuple(m.flatten().tolist()) for m in some}) > 4
    assert 0.05 < np.mean([bool(m.all()) for m in drawn(everywhere=0.2)]) < 0.4


def test_the_loss_is_eq_9(parts: Callable[[], AAParts]) -> None:
    model = aa.Model(some=0, everywhere=0, text_drop=0, dropout=0)
    recipe = aa.AnimateAnythingRecipe(parts(), model)
    recipe.net.eval()
    batch = batch_of(recipe)
    with torch.no_grad():
        found = recipe.loss(recipe.net, batch, rngs(2))
        draws = rngs(2)
        z = batch["latents"]
        mask = recipe.masks(batch["areas"], draws)
        target = torch.where(mask > 0, z, z[:, :, :1].expand_as(z))  # eq. 5
        t = [int(torch.randint(1000, (1,), generator=rng)) for rng in draws]
        eps = torch.stack([torch.randn(z.shape[1:], generator=rng) for rng in draws])
        bar = recipe.schedule.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
        noisy = bar.sqrt() * target + (1 - bar).sqrt() * eps  # eq. 2
        asked = motion_strength(target)
        out = recipe.net(noisy, torch.tensor(t), batch["text"], z[:, :, :1], mask, asked)
        clean = (noisy - (1 - bar).sqrt() * out) / bar.sqrt()  # eq. 8
        plain = (out - eps).square().mean((1, 2, 3, 4))  # eq. 3
        moves = (asked - motion_strength(clean)).square()  # eq. 7
    assert found["denoising"].tolist() == pytest.approx(plain.tolist(), rel=1e-4)
    assert found["strength"].tolist() == pytest.approx(moves.tolist(), rel=1e-3)
    assert found["loss"].tolist() == pytest.approx((plain + 0.001 * moves).tolist(), rel=1e-3)


def test_what_the_network_is_told_and_trained_towards_can_be_left_out(parts: Callable[[], AAParts]) -> None:
    heard: list[Any] = []

    def run(**changes: Any) -> dict[str, Tensor]:
        model = aa.Model(some=0, everywhere=0, text_drop=0, dropout=0, **changes)
        recipe = aa.AnimateAnythingRecipe(parts(), model)
        batch = batch_of(recipe)
        batch["areas"] = torch.zeros_like(batch["areas"])  # nothing may move

        def net(z: Tensor, t: Tensor, text: Tensor, first: Tensor, mask: Tensor, told: Tensor | None) -> Tensor:
            heard.append((z, mask, told))
            return torch.zeros_like(z)

        return recipe.loss(net, batch, rngs(2))  # type: ignore[arg-type]

    out = run()
    noisy, mask, told = heard[-1]
    assert not mask.any() and told.tolist() == [0, 0]
    run(freeze=False)
    assert not torch.equal(heard[-1][0], noisy)
    assert (heard[-1][2] > 0).all()
    plain = run(mask=False, told="nothing")
    assert heard[-1][1].all() and heard[-1][2] is None
    assert torch.equal(plain["loss"], plain["denoising"])
    assert not torch.equal(out["loss"], out["denoising"])
    run(told="rate")
    assert set(heard[-1][2].tolist()) <= {24.0, 12.0}


def test_text_is_withheld_as_often_as_asked(parts: Callable[[], AAParts]) -> None:
    recipe = aa.AnimateAnythingRecipe(parts(), aa.Model(text_drop=0.3))
    batch = {name: v[:1].expand(200, *v.shape[1:]) for name, v in batch_of(recipe, 1, 2).items()}
    nothing = recipe.read("")
    seen: list[Tensor] = []

    def net(z: Tensor, t: Tensor, text: Tensor, *rest: Any) -> Tensor:
        seen.append(text)
        return z

    recipe.loss(net, batch, rngs(200))  # type: ignore[arg-type]
    assert np.mean([torch.equal(t, nothing) for t in seen[0]]) == pytest.approx(0.3, abs=0.1)


def test_layers_over_time_learn_and_the_live_strength_weight_and_nothing_else(
    parts: Callable[[], AAParts], base: Path, tmp_path: Path
) -> None:
    recipe = aa.AnimateAnythingRecipe(parts(), aa.Model(), base)
    before = {k: v.clone() for k, v in recipe.net.state_dict().items()}
    train(recipe, scenes(), None, LOOP, tmp_path)
    after = load_file(tmp_path / "last" / "unet" / "diffusion_pytorch_model.safetensors")
    changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert "time_embedding.cond_proj.weight" in changed and "conv_in2.weight" in changed
    assert any("temp_attentions" in k for k in changed) and any("temp_convs" in k for k in changed)
    still = [
        k for k in before if ".attentions." in k or "resnets" in k or k.startswith(("conv_in.", "conv_out", "motion"))
    ]
    assert len(still) > 40 and not changed & set(still)
    assert set(before) == set(after)
    prior = AnimateAnything.from_folder(tmp_path / "last", card=replace(CARD, size=(32, 32)))
    assert torch.equal(prior.parts.unet.state_dict()["conv_in2.weight"], after["conv_in2.weight"])


def test_a_pattern_chooses_what_learns(parts: Callable[[], AAParts]) -> None:
    def chosen(trained: str) -> set[str]:
        recipe = aa.AnimateAnythingRecipe(parts(), aa.Model(trained=trained))
        return {name for name, _ in recipe.net.named_parameters() if recipe.trains(name)}

    assert len(chosen("all")) == len(dict(parts().unet.named_parameters()))
    assert chosen(r"conv_out\.bias") == {"conv_out.bias"}
    official = chosen("official")
    assert "motion_embedding.0.weight" in official and "time_embedding.cond_proj.weight" not in official
    with pytest.raises(SettingError, match="regular expression"):
        chosen("(")


def test_a_lora_learns_and_animates_as_it_was_trained(parts: Callable[[], AAParts], base: Path, tmp_path: Path) -> None:
    recipe = aa.AnimateAnythingRecipe(parts(), aa.Model(lora=16, dropout=0), base)
    report = train(recipe, scenes(), None, LOOP, tmp_path)
    assert [p.name for p in Path(report.weights).iterdir() if p.suffix == ".safetensors"] == [lora.NAME]
    told = json.loads((Path(report.weights) / "training.json").read_text())
    assert told["recipe"] == "animate-anything"
    prior = AnimateAnything.from_folder(base, card=replace(CARD, size=(32, 32)))
    changed = lora.load_into(prior, report.weights)
    assert changed == len(lora.read(report.weights))
    assert "time_embedding.cond_proj" in lora.read(report.weights)
    z = torch.randn(1, 4, 3, 8, 8, generator=generator(0))
    told_of = (z, 500.0, torch.randn(1, 7, 32, generator=generator(1)), z[:, :, :1], torch.ones(1, 1, 1, 8, 8), 4.0)
    recipe.net.eval()
    with torch.no_grad():
        mine, theirs = recipe.net(*told_of), prior.parts.unet(*told_of)
        plain = parts().unet(*told_of)
    assert torch.allclose(mine, theirs, atol=1e-4)
    assert not torch.allclose(mine, plain, atol=1e-4)


def test_a_text_to_video_model_is_grown(base: Path, tmp_path: Path) -> None:
    source = tmp_path / "t2v"
    for path in base.rglob("*"):
        if path.is_file():
            (source / path.relative_to(base)).parent.mkdir(parents=True, exist_ok=True)
            (source / path.relative_to(base)).write_bytes(path.read_bytes())
    file = source / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    added = ("conv_in2.", "time_embedding.cond_proj", "motion_embedding")
    save_file({k: v for k, v in state.items() if not k.startswith(added)}, file)
    found, fresh = aa.load(source, torch.device("cpu"))
    assert fresh
    z, text = torch.randn(1, 4, 3, 8, 8, generator=generator(0)), torch.randn(1, 7, 32, generator=generator(1))
    with torch.no_grad():
        told = found.unet(z, 500, text, z[:, :, :1], torch.rand(1, 1, 1, 8, 8), 7.0)
        plain = found.unet(z, 500, text, z[:, :, :1])  # as the text-to-video model has it: no mask, no strength
    assert torch.allclose(told, plain, atol=1e-6)
    recipe = aa.AnimateAnythingRecipe(found, aa.Model(), source, fresh)
    train(recipe, scenes(), None, LOOP, tmp_path / "out")
    AnimateAnything.from_folder(tmp_path / "out" / "last")
    with pytest.raises(SettingError, match="for LoRA"):
        aa.AnimateAnythingRecipe(found, aa.Model(lora=4), source, fresh)
    with pytest.raises(WeightsError, match="expected"):
        aa.load(tmp_path / "nowhere", torch.device("cpu"))


# DynamiCrafter

LOADED: dict[Path, Any] = {}
"""what a recipe reads and never changes"""


def of(crafter: Callable[[str], Path], variant: str = "512", seed: int = 0, **changes: Any) -> dc.DynamiCrafterRecipe:
    base = crafter(variant)
    if base not in LOADED:
        LOADED[base] = load_crafter(base, variant=variant)
    model = dc.Model(variant=variant, **changes)  # type: ignore[arg-type]
    return dc.DynamiCrafterRecipe(LOADED[base], model, base, seed)


@pytest.mark.parametrize(
    ("stage", "learns", "stays"),
    [
        ("context", ("resampler.latents", "attn2.to_k_ip"), ("attn2.to_k.", "in_layers", "time_embed")),
        (
            "adapt",
            ("resampler.latents", "attn2.to_k_ip", "3.1.transformer_blocks.0.attn2.to_k.", "in_layers"),
            ("temopral_conv", "init_attn"),
        ),
        ("joint", ("resampler.latents", "attn2.to_v_ip", "input_blocks.0.0.weight"), ("temopral_conv", "init_attn")),
        ("all", ("resampler.latents", "temopral_conv", "init_attn", "in_layers"), ()),
    ],
)
def test_each_stage_trains_its_own(
    crafter: Callable[[str], Path], stage: str, learns: tuple[str, ...], stays: tuple[str, ...]
) -> None:
    recipe = of(crafter, stage=stage)
    names = [name for name, _ in recipe.net.named_parameters()]
    for part in learns:
        assert [n for n in names if part in n] and all(recipe.trains(n) for n in names if part in n), part
    for part in stays:
        assert not any(recipe.trains(n) for n in names if part in n), part
    assert any("init_attn" in n for n in names) == (stage != "context")


def test_the_loss_is_the_targets_mean_square(crafter: Callable[[str], Path]) -> None:
    recipe = of(crafter, drop=0)
    batch = batch_of(recipe)
    assert batch["seen"].shape[1:] == (5, 32) and batch["text"].shape[1:] == (77, 32)
    with torch.no_grad():
        found = recipe.loss(recipe.net, batch, rngs(2))["loss"]
        draws, z = rngs(2), batch["latents"]
        t = torch.cat([torch.randint(1000, (1,), generator=rng) for rng in draws])
        eps = torch.stack([torch.randn(z.shape[1:], generator=rng) for rng in draws])
        bars, scale = (
            recipe.schedule.bars[t].float().view(-1, 1, 1, 1, 1),
            recipe.schedule.scale[t].float().view(-1, 1, 1, 1, 1),
        )
        noisy = bars.sqrt() * scale * z + (1 - bars).sqrt() * eps
        velocity = bars.sqrt() * eps - (1 - bars).sqrt() * scale * z
        beside = torch.stack([c[:, i : i + 1].expand_as(c) for c, i in zip(z, batch["index"].tolist(), strict=True)])
        context = torch.cat([batch["text"], recipe.net.resampler(batch["seen"])], dim=1)  # type: ignore[operator]
        out = recipe.net.unet(torch.cat([noisy, beside], 1), t, context, batch["fs"])  # type: ignore[operator]
    assert found.tolist() == pytest.approx((out - velocity).square().mean((1, 2, 3, 4)).tolist(), rel=1e-4)


def test_conditions_are_withheld_by_chance(crafter: Callable[[str], Path]) -> None:
    recipe = of(crafter, drop=0.1)
    batch = {name: v[:1].expand(300, *v.shape[1:]) for name, v in batch_of(recipe, 1, 2).items()}
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def net(x: Tensor, t: Tensor, text: Tensor, pictures: Tensor, fs: Tensor) -> Tensor:
        seen.append((x, text, pictures))
        return x[:, :4]

    recipe.loss(net, batch, rngs(300))  # type: ignore[arg-type]
    mute = np.array([torch.equal(t, recipe.read("")) for t in seen[0][1]])
    blind = np.array([torch.equal(p, recipe.dark) for p in seen[0][2]])
    assert (mute & ~blind).mean() == pytest.approx(0.1, abs=0.06)
    assert (mute & blind).mean() == pytest.approx(0.1, abs=0.06)
    assert (~mute & blind).mean() == pytest.approx(0.1, abs=0.06)
    assert seen[0][0][:, 4:].abs().sum((1, 2, 3, 4)).min() > 0  # what lies beside the noise is never withheld


def test_any_frame_may_be_the_picture(crafter: Callable[[str], Path]) -> None:
    example = scenes(6)[0, 0]
    recipe = of(crafter)
    assert {int(recipe.encode(example, generator(1, i))["index"]) for i in range(40)} == set(range(6))
    assert {int(of(crafter, frame="first").encode(example, generator(1, i))["index"]) for i in range(5)} == {0}


def test_ends_are_given_in_their_places(crafter: Callable[[str], Path]) -> None:
    recipe = of(crafter, "512_interp", ends=True)
    batch = batch_of(recipe)
    z = batch["latents"]
    beside = recipe.beside(z, batch["index"])
    assert torch.equal(beside[:, :, 0], z[:, :, 0]) and torch.equal(beside[:, :, -1], z[:, :, -1])
    assert not beside[:, :, 1:-1].any()
    assert batch["index"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("variant", "fps", "expected"), [("256", 8, 3), ("256", 1, 6), ("512", 8, 8), ("512", 2, 5), ("1024", 60, 30)]
)
def test_the_rate_told_is_a_stride_or_frames_a_second(variant: str, fps: float, expected: int) -> None:
    assert dc.rate_of({"fps": fps, "native_fps": 24.0}, variant) == expected


def test_the_picture_comes_in_at_zero_beside_the_noise(crafter: Callable[[str], Path], tmp_path: Path) -> None:
    adapt = of(crafter, stage="adapt")
    train(adapt, scenes(), None, LOOP, tmp_path / "adapt")
    base = crafter("512")
    # A text-to-video checkpoint: four channels in.
    plain = {
        f"model.diffusion_model.{k.removeprefix('unet.')}": v
        for k, v in adapt.net.state_dict().items()
        if k.startswith("unet.")
    }
    save_file({k: v.contiguous() for k, v in plain.items()}, tmp_path / "t2v.safetensors")
    model = dc.Model(
        variant="512", stage="joint", unet=tmp_path / "t2v.safetensors", before=tmp_path / "adapt" / "last"
    )
    joint = dc.build(load_crafter(base, variant="512"), model, 0)
    batch = batch_of(adapt, 1)
    z, t = batch["latents"], torch.tensor([500])
    with torch.no_grad():
        two = joint(torch.cat([z, torch.randn(z.shape)], 1), t, batch["text"], batch["seen"], batch["fs"])
        one = adapt.net(z, t, batch["text"], batch["seen"], batch["fs"])
    assert torch.allclose(two, one, atol=1e-5)


def test_the_first_stages_network_is_the_video_models_without_time(
    crafter: Callable[[str], Path], tmp_path: Path
) -> None:
    context = of(crafter, stage="context")
    video = of(crafter, stage="adapt")
    with torch.no_grad():  # layers over time and the frame rate that change nothing
        for name, parameter in video.net.named_parameters():
            if not context.trains(name) and (".temopral_conv." in name or "fps_embedding" in name):
                parameter.zero_()
        for module in video.net.modules():
            if type(module).__name__ == "TemporalTransformer":
                module.proj_out.weight.zero_()  # type: ignore[union-attr, operator]
                module.proj_out.bias.zero_()  # type: ignore[union-attr, operator]
    batch = batch_of(context, 1)
    z, t = batch["latents"][:, :, :1], torch.tensor([500])
    with torch.no_grad():
        still = context.net(z, t, batch["text"], batch["seen"], batch["fs"])
        moving = video.net(z, t, batch["text"], batch["seen"], batch["fs"])
    assert torch.allclose(still, moving, atol=1e-5)
    report = train(context, scenes(), None, LOOP, tmp_path)
    learnt = load_file(Path(report.weights) / dc.LEARNT)
    assert all(k.startswith("image_proj_model.") or "_ip." in k for k in learnt)
    later = of(crafter, stage="adapt", before=Path(report.weights), fresh=True)
    assert torch.equal(later.net.state_dict()["resampler.latents"], learnt["image_proj_model.latents"])


def test_a_trained_model_is_loaded_by_its_prior(crafter: Callable[[str], Path], tmp_path: Path) -> None:
    recipe = of(crafter, stage="joint")
    report = train(recipe, scenes(), scenes(count=1), replace(LOOP, sheet_every=1), tmp_path)
    prior = DynamiCrafter.from_folder(report.weights, card=replace(CARDS["512"], size=(32, 32)))
    assert prior.parts.variant == "512"
    mine = {k: v for k, v in recipe.net.state_dict().items() if k.startswith("unet.")}
    assert all(torch.equal(mine[f"unet.{k}"], v) for k, v in prior.parts.unet.state_dict().items())
    shot = Shot(np.zeros((32, 32, 3), np.uint8), "waves", frames=3, steps=2)
    assert prior.still([shot], generator(0)).shape == (1, 4, 3, 8, 8)
    assert (tmp_path / "sheets" / "step-0000001.png").is_file()


def test_a_lora_of_its_attentions_is_loaded(crafter: Callable[[str], Path], tmp_path: Path) -> None:
    recipe = of(crafter, stage="all", lora=4)
    report = train(recipe, scenes(), None, LOOP, tmp_path)
    prior = DynamiCrafter.from_folder(crafter("512"), variant="512")
    assert lora.load_into(prior, report.weights) == len(lora.read(report.weights)) > 20
    batch, t = batch_of(recipe, 1), torch.tensor([500])
    x = torch.cat([batch["latents"], batch["latents"]], 1)
    recipe.net.eval()
    with torch.no_grad():
        context = torch.cat([batch["text"], prior.parts.resampler(batch["seen"])], 1)
        theirs = prior.parts.unet(x, t, context, batch["fs"])
        mine = recipe.net(x, t, batch["text"], batch["seen"], batch["fs"])
    assert torch.allclose(mine, theirs, atol=1e-4)
    with pytest.raises(SettingError, match="lora"):
        dc.Model(stage="adapt", lora=4)


def test_weights_that_are_not_whole_are_refused(crafter: Callable[[str], Path], tmp_path: Path) -> None:
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"expected unet\..* found none .* another model\.unet"):
        of(crafter, unet=tmp_path / "part.safetensors")
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(5)}, tmp_path / "shape.safetensors")
    with pytest.raises(WeightsError, match=r"of shape \(4,\) in .* got \(5,\)"):
        of(crafter, unet=tmp_path / "shape.safetensors")
    with pytest.raises(WeightsError, match=r"what a stage wrote"):
        of(crafter, before=tmp_path)


# Data and the commands


def test_scenes_are_the_same_for_the_same_address() -> None:
    a, b = scenes()[1, 2], scenes()[1, 2]
    assert torch.equal(a["frames"], b["frames"]) and a["caption"] == b["caption"]
    assert a["frames"].shape == (3, 3, 32, 32)
    paces = {float(scenes()[epoch, 0]["fps"]) for epoch in range(12)}
    assert paces == {24.0, 12.0}
    with pytest.raises(IndexError):
        scenes()[0, 3]


def test_clips_are_held_out_and_not_trained_on() -> None:
    seen, held = clips_of(Data(scenes=8, held_out=2, frames=2, size=(16, 16)), 0)
    assert held is not None and (len(seen), len(held)) == (6, 2)
    keys = [c["key"] for part in (seen, held) for c in (part[0, i] for i in range(len(part)))]
    assert len(set(keys)) == 8
    with pytest.raises(SettingError, match="fewer clips held out"):
        clips_of(Data(scenes=2, held_out=2), 0)
    with pytest.raises(InputError):
        clips_of(Data(source="/nowhere/at/all"), 0)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("animate-anything", ()), ("dynamicrafter", ()),
        ("dynamicrafter", ("variant=512_interp", "stage=all", "ends=true")),
    ],
    ids=["animate-anything", "dynamicrafter", "dynamicrafter-loop"],
)  # fmt: skip
def test_the_tiny_configurations_run(name: str, more: tuple[str, ...], tmp_path: Path) -> None:
    words = ["train", name, "--config", "tiny", "--out", str(tmp_path / "out"), "--json"]
    for change in (
        "steps=2",
        "batch=2",
        "size=[16, 16]",
        "frames=2",
        "held_out=1",
        "log_every=1",
        "sheet_every=2",
        *more,
    ):
        words += ["--set", change]
    if VIDEOS.is_dir():
        words += ["--set", f"data.source={VIDEOS}"]
    found = CliRunner().invoke(app, words, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout.strip().splitlines()[-1])
    assert report["steps"] == 2 and report["metrics"]["held_out_loss"] > 0
    assert (tmp_path / "out" / "best").is_dir() and (tmp_path / "out" / "log.csv").is_file()
    assert len(list((tmp_path / "out" / "sheets").glob("*.png"))) == 1


def test_a_cache_of_encoded_clips_is_made_once(tmp_path: Path) -> None:
    words = ["train", "animate-anything", "--config", "tiny"]
    for change in (
        "steps=1",
        "batch=2",
        "size=[32, 32]",
        "frames=2",
        "scenes=3",
        "held_out=0",
        "variants=2",
        f"cache={tmp_path / 'c'}",
    ):
        words += ["--set", change]
    first = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "a")], catch_exceptions=False)
    assert "6 clips encoded, 0 were there" in first.stderr
    assert len(list((tmp_path / "c").rglob("*.safetensors"))) == 6


def test_the_nets_widths_are_the_tiny_ones() -> None:
    net = AnimateAnythingUNet(UNetConfig.from_json(tiny.ANIMATE_ANYTHING))
    assert sum(p.numel() for p in net.parameters()) < 2_000_000
