"""AnimateAnything: agreement with the official network, the released folder's layout, its controls, its refusals."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import parity
from tests.hub import write
from tests.priors import conformance
from tests.priors.released import ANIMATE_ANYTHING, ANIMATE_ANYTHING_SCHEDULER, animate_anything
from vivant.awaken import awaken, step_sizes, vsds_levels
from vivant.errors import SettingError, WeightsError
from vivant.priors.animate_anything.adapter import CARD, AnimateAnything, noise_schedule, strength_id
from vivant.priors.animate_anything.net import UNetConfig
from vivant.priors.frames2d import working_size
from vivant.process import scheduler_levels
from vivant.shot import Controls, Shot

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "parity"
recorded = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded official runs (../shared/parity) are not here")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the released layout with tiny random networks."""
    return animate_anything(tmp_path_factory.mktemp("released"))


@pytest.fixture
def folder(released: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(released, tmp_path / "copy"))


@pytest.fixture(scope="module")
def prior(released: Path) -> AnimateAnything:
    return AnimateAnything.from_folder(released, card=replace(CARD, size=(64, 64)))


def shot(seed: int = 0, controls: Controls | None = None, **settings: object) -> Shot:
    painting = np.random.default_rng(seed).integers(0, 256, (40, 72, 3), dtype=np.uint8)
    chosen = {"frames": 3, "steps": 4, **settings}
    return Shot(painting, "waves roll ashore", negative="still", controls=controls or Controls(), **chosen)  # type: ignore[arg-type]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Agreement with the official code


@recorded
@pytest.mark.parametrize(
    ("name", "file"),
    [("animate_anything", "animate_anything/tiny_a.safetensors"), ("epa", "epa/vsds_slerp.safetensors")],
)
def test_agrees_with_the_recorded_official_run(name: str, file: str) -> None:
    outcomes = list(parity.RUNS[name](parity.read(SHARED / file)))
    assert outcomes
    assert not [outcome for outcome in outcomes if not outcome.ok]


@recorded
def test_has_the_released_checkpoints_keys() -> None:
    assert parity.compare_keys("animate_anything", SHARED / "animate_anything" / "full_keys.json") == []


@recorded
def test_the_grid_and_the_step_sizes_are_the_official_ones() -> None:
    record = parity.read(SHARED / "epa" / "vsds_slerp.safetensors")
    config = json.loads(record.metadata["config"])
    levels = scheduler_levels(noise_schedule(config["scheduler"]), config["num_inference_steps"])
    head = vsds_levels(levels, config["p"], None)
    assert [level.t for level in levels[:-1]] == record.inputs["timesteps"].tolist()
    assert [level.t for level in head] == record.inputs["vsds_timesteps"].tolist()
    assert [level.a for level in head] == pytest.approx(record.inputs["alpha_t"].tolist(), rel=1e-6)
    assert [level.s for level in head] == pytest.approx(record.inputs["sigma_t"].tolist(), rel=1e-6)
    assert step_sizes("stepwise-decreasing", len(head)) == pytest.approx(record.inputs["step_sizes"].tolist())


def test_the_key_comparison_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = {name: list(v.shape) for name, v in parity.SHAPES["animate_anything"](ANIMATE_ANYTHING).items()}
    write(tmp_path / "keys.json", {"config": ANIMATE_ANYTHING, "keys": shapes})
    assert parity.main(["--keys", "animate_anything", str(tmp_path / "keys.json")]) == 0
    shapes["conv_out.bias"] = [5]
    write(tmp_path / "keys.json", {"config": ANIMATE_ANYTHING, "keys": {**shapes, "extra": [1]}})
    assert parity.main(["--keys", "animate_anything", str(tmp_path / "keys.json")]) == 1
    assert "key conv_out.bias has shape (4,), expected (5,)" in capsys.readouterr().out


# The network


def test_a_guidance_batch_shares_its_conditions(prior: AnimateAnything) -> None:
    net, rng = prior.parts.unet, generator()
    z, text = torch.randn(4, 4, 3, 5, 7, generator=rng), torch.randn(4, 7, 32, generator=rng)
    first, mask = torch.randn(2, 4, 1, 5, 7, generator=rng), torch.rand(2, 1, 1, 5, 7, generator=rng)
    motion = torch.tensor([2.0, 9.0])
    both = net(z, 500, text, first, mask, motion)
    for i in range(4):
        clip = slice(i % 2, i % 2 + 1)
        one = net(z[i : i + 1], 500.0, text[i : i + 1], first[clip], mask[clip], float(motion[i % 2]))
        assert torch.allclose(both[i : i + 1], one, atol=1e-5)
    with pytest.raises(ValueError, match="divides 4"):
        net(z, 500, text, first.repeat(2, 1, 1, 1, 1)[:3], mask)


def test_widths_the_blocks_cannot_have_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        UNetConfig(block_out_channels=(40, 80, 80, 80))
    with pytest.raises(ValueError, match="as many"):
        UNetConfig(block_out_channels=(32, 64))


# The prior


def test_keeps_what_every_prior_keeps(prior: AnimateAnything) -> None:
    conformance.check(prior, shot(), likeness=2.0)  # an untrained VAE decodes to no likeness


def test_a_painting_comes_alive_end_to_end(prior: AnimateAnything) -> None:
    calls: list[float] = []
    one = shot(distil=0.5)
    proxy = shot(1).painting
    x = awaken(prior, one, proxy, generator(), on_call=lambda level: calls.append(level.t))
    assert x.shape == (1, 4, 3, 6, 11)
    assert len(calls) == 3 + 4
    frames = prior.decode(x, one)
    assert frames.shape == (1, 3, 3, 48, 88)
    assert frames.isfinite().all() and frames.abs().max() <= 1
    assert torch.equal(x, awaken(prior, one, proxy, generator()))
    assert not torch.equal(x, awaken(prior, one, proxy, generator(1)))


def test_the_still_is_the_paintings_latent_on_every_frame(prior: AnimateAnything) -> None:
    one, other = shot(), shot(1)
    still = prior.still([one, other], generator())
    assert still.shape == (2, 4, 3, 6, 11)
    assert torch.equal(still[:, :, 0], still[:, :, 2])
    assert torch.allclose(still[1:], prior.still([other], generator()), atol=1e-5)
    vae = prior.parts.vae
    mode = vae.encode(torch.zeros(1, 3, 64, 64) + 1).latent_dist.mode() * 0.18215
    white = replace(one, painting=np.full((64, 64, 3), 255, np.uint8))
    assert torch.allclose(prior.still([white], generator())[:, :, 0], mode, atol=1e-5)


def test_decoding_in_chunks_changes_nothing(prior: AnimateAnything) -> None:
    x = torch.randn(2, 4, 3, 4, 4, generator=generator())
    whole = AnimateAnything(prior.parts, prior.card, decode_frames=100)
    assert torch.allclose(prior.decode(x, shot()), whole.decode(x, shot()), atol=1e-5)


def test_each_clip_of_a_batch_has_its_own_conditions(prior: AnimateAnything) -> None:
    mask = np.zeros((40, 72), np.float32)
    mask[:, 36:] = 1
    pair = [shot(controls=Controls(mask=mask, strength=0.9)), shot(1, guidance=3.0)]
    level = prior.levels(pair[0], 4)[1]
    z = torch.randn(2, 4, 3, 6, 11, generator=generator())
    both = prior.bind(pair, generator())(z, level)
    for i, one in enumerate(pair):
        alone = prior.bind([one], generator())(z[i : i + 1], level)
        assert torch.allclose(both.eps[i : i + 1], alone.eps, atol=1e-4)
    assert torch.allclose(level.a * both.x0 + level.s * both.eps, z, atol=1e-4)


def test_mask_strength_painting_and_sentence_act(prior: AnimateAnything) -> None:
    half = np.zeros((40, 72), np.float32)
    half[:20] = 1
    level = prior.levels(shot(), 4)[2]
    z = torch.randn(1, 4, 3, 6, 11, generator=generator())

    def eps(one: Shot) -> torch.Tensor:
        return prior.bind([one], generator())(z, level).eps

    usual = eps(shot())
    for changed in (
        shot(controls=Controls(mask=half)), shot(controls=Controls(strength=0.1)), shot(1), shot(guidance=2.0),
        replace(shot(), prompt="leaves fall"), replace(shot(), negative="blurred"),
    ):  # fmt: skip
        assert parity.relative(eps(changed), usual) > 1e-4
    assert torch.equal(eps(shot(controls=Controls(mask=np.ones((40, 72), np.float32)))), usual)
    assert torch.equal(eps(shot(controls=Controls(strength=0.5))), usual)  # 16 · 0.5 · 1 is the usual 8


def test_strength_shrinks_with_the_mask() -> None:
    assert strength_id(shot(), 0.25) == 8
    assert strength_id(shot(controls=Controls(strength=1.0)), 0.25) == 4
    assert strength_id(shot(controls=Controls(strength=0.0)), 1.0) == 0


@pytest.mark.parametrize(
    ("painting", "size", "expected"),
    [
        ((512, 512), (512, 512), (512, 512)), ((1024, 512), (512, 512), (728, 360)),
        ((16, 4000), (64, 64), (8, 1008)), ((70, 43), None, (72, 40)),
    ],
)  # fmt: skip
def test_working_size_keeps_the_area_and_the_aspect(
    painting: tuple[int, int], size: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    assert working_size(painting, size) == expected


def test_levels_end_clean_and_refuse_more_steps_than_were_trained(prior: AnimateAnything) -> None:
    levels = prior.levels(shot(), 25)
    assert len(levels) == 26
    assert levels[0].t == 999
    assert levels[-1] == (1, 0, 0)
    assert all(now.t > after.t for now, after in pairwise(levels))
    assert len({level.t for level in prior.levels(shot(), 999)}) == 1000
    with pytest.raises(SettingError, match="999"):
        prior.levels(shot(), 1000)


# The folder


def refused(folder: Path) -> str:
    """The one line a damaged folder is refused with."""
    with pytest.raises(WeightsError) as caught:
        AnimateAnything.from_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def unet_state(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    return path, load_file(path)


def test_a_bin_of_tensors_and_half_precision_load(folder: Path, prior: AnimateAnything) -> None:
    path, state = unet_state(folder)
    path.unlink()
    torch.save({name: v.half() for name, v in state.items()}, path.with_suffix(".bin"))
    net = AnimateAnything.from_folder(folder).parts.unet
    assert net.dtype == torch.float32 and not net.training
    assert torch.allclose(net.conv_in2.weight, prior.parts.unet.conv_in2.weight, atol=1e-3)
    assert AnimateAnything.from_folder(folder, dtype=torch.bfloat16).parts.vae.dtype == torch.bfloat16


def test_older_names_load(folder: Path, prior: AnimateAnything) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, name in old.items():
        state = {k.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): v for k, v in state.items()}
    save_file(state, path)
    path = folder / "text_encoder" / "model.safetensors"
    state = {f"text_model.{name.removeprefix('text_model.')}": v for name, v in load_file(path).items()}
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(state, path)
    loaded = AnimateAnything.from_folder(folder, card=prior.card)
    level = prior.levels(shot(), 4)[0]
    z = torch.randn(1, 4, 3, 6, 11, generator=generator())
    ours, theirs = (p.bind([shot()], generator())(z, level).eps for p in (loaded, prior))
    assert torch.equal(ours, theirs)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    assert "expected a folder" in refused(tmp_path / "nowhere")
    (folder / "tokenizer" / "merges.txt").unlink()
    assert "merges.txt" in refused(folder)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert "diffusion_pytorch_model.safetensors or diffusion_pytorch_model.bin" in refused(folder)


def test_mismatched_weights_name_the_key_and_both_shapes(folder: Path) -> None:
    path, state = unet_state(folder)
    save_file({**state, "conv_in2.weight": torch.zeros(32, 4, 3, 3)}, path)
    assert "conv_in2.weight has shape (32, 4, 3, 3), expected (32, 5, 3, 3)" in refused(folder)
    save_file({name: v for name, v in state.items() if "cond_proj" not in name}, path)
    assert "missing key time_embedding.cond_proj.weight of shape (32, 32)" in refused(folder)
    save_file({**state, "stray": torch.zeros(1)}, path)
    assert "unknown key stray" in refused(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    path, state = unet_state(folder)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "diffusion_pytorch_model.safetensors" in refused(folder)
    path.unlink()
    torch.save(state, path.with_suffix(".bin"))
    whole = path.with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(whole[: len(whole) // 2])
    assert "diffusion_pytorch_model.bin" in refused(folder)


class Malicious:
    """Unpickled, it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_runs_code_is_refused_unrun(folder: Path, tmp_path: Path) -> None:
    path, state = unet_state(folder)
    path.unlink()
    torch.save({**state, "conv_in.bias": Malicious(tmp_path / "run")}, path.with_suffix(".bin"))
    assert "refused it (UnpicklingError)" in refused(folder)
    assert not (tmp_path / "run").exists()


def test_broken_configurations_are_refused(folder: Path) -> None:
    write(folder / "scheduler" / "scheduler_config.json", {"num_train_timesteps": 1000})
    assert "beta_start" in refused(folder)
    write(folder / "scheduler" / "scheduler_config.json", {**ANIMATE_ANYTHING_SCHEDULER, "beta_schedule": "nonsense"})
    assert "nonsense" in refused(folder)
    write(folder / "unet" / "config.json", {**ANIMATE_ANYTHING, "block_out_channels": [40, 40]})
    assert "multiples of 32" in refused(folder)
    (folder / "unet" / "config.json").write_text("{", "utf-8")
    assert "expected JSON" in refused(folder)
    write(folder / "unet" / "config.json", [1])
    assert "expected a JSON object" in refused(folder)
