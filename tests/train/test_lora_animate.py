"""A LoRA from its training to a clip: by the command line, and nothing of it stays in what another shot uses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vivant.cli import app, run
from vivant.errors import SettingError
from vivant.pipeline import animate
from vivant.priors import lora
from vivant.render.export import read_recipe

SIZE = (64, 48)


def call(*words: object) -> int:
    return run(lambda: app([str(word) for word in words], standalone_mode=False))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny configuration as LoRA: its weights in last/, its base where models lie."""
    root = tmp_path_factory.mktemp("lora")
    changes = {
        "model.lora": 2, "loop.rate": 0.1, "loop.steps": 2, "loop.batch": 2, "loop.average": 0, "data.size": [16, 16],
        "data.frames": 2, "data.scenes": 3, "data.held_out": 0, "data.workers": 0,
    }  # fmt: skip
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    assert call("train", "animate-anything", "--config", "tiny", "-o", root / "run", *words) == 0
    shutil.copytree(root / "run" / "base", root / "models" / "animate_anything")
    return root


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a painting; the tiny base is among the models."""
    monkeypatch.setenv("VIVANT_MODELS", str(trained / "models"))
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    picture = np.stack([x * 3, y * 4, 255 - x * 2], -1).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "painting.png")
    return tmp_path


HOW: dict[str, Any] = {"model": "animate_anything", "steps": 1, "model_size": SIZE, "proxy": "none", "distil": 0}
SAID = [word for name, value in HOW.items() for word in (f"--{name.replace('_', '-')}", value)]
SAID[SAID.index(SIZE)] = "64x64"
WORDS = ("animate", "painting.png", "waves roll", *SAID, "--frames", 2)


def frames(*given: Any, loaded: dict[Any, Any] | None = None, **how: Any) -> np.ndarray:
    made = animate("painting.png", "waves roll", lora=given, loaded=loaded, frames=2, **(HOW | how))
    return np.stack(list(made.frames()))


def test_from_the_training_to_a_clip_and_again(trained: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*WORDS, "-o", "plain.webp") == 0
    assert call(*WORDS, "-o", "with.webp", "--lora", trained / "run" / "last") == 0
    assert call(*WORDS, "-o", "none.webp", "--lora", f"{trained / 'run' / 'last' / lora.NAME}:0") == 0
    plain, changed, none = (
        [np.asarray(f.convert("RGB")) for f in every(f"{n}.webp")] for n in ("plain", "with", "none")
    )
    assert not np.array_equal(plain[1], changed[1])
    assert np.array_equal(plain[1], none[1])
    told = read_recipe(Path("with.webp"))["lora"]
    assert [(one["scale"], Path(one["path"]).name) for one in told] == [(1.0, lora.NAME)]
    assert call("rerun", "with.webp") == 0
    assert Path("with-again.webp").read_bytes() == Path("with.webp").read_bytes()


def every(path: str) -> list[Image.Image]:
    with Image.open(path) as film:
        return [(film.seek(i), film.copy())[1] for i in range(film.n_frames)]  # type: ignore[attr-defined]


def test_nothing_of_it_stays_in_what_another_shot_uses(trained: Path, here: Path) -> None:
    file, loaded = trained / "run" / "last" / lora.NAME, dict[Any, Any]()
    plain = frames(loaded=loaded)
    changed = frames(file, loaded=loaded)
    assert len(loaded) == 2 and not np.array_equal(plain, changed)
    assert np.array_equal(frames(loaded=loaded), plain) and np.array_equal(frames(str(file), loaded=loaded), changed)
    assert len(loaded) == 2
    half = frames(f"{file}:0.5", loaded=loaded)
    assert len(loaded) == 3 and not np.array_equal(half, changed) and not np.array_equal(half, plain)
    twice = frames((file, 0.5), (file, 0.5), loaded=loaded)
    assert np.abs(twice.astype(int) - changed).max() <= 1


def test_a_file_that_diffusers_wrote(trained: Path, here: Path) -> None:
    """peft's own adapter on diffusers' own network, saved as diffusers' training scripts do."""
    from diffusers import StableDiffusionPipeline, UNet3DConditionModel
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    net = UNet3DConditionModel.from_config(json.loads((trained / "run" / "base" / "unet" / "config.json").read_text()))
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = get_peft_model_state_dict(inject_adapter_in_model(config, net))
    StableDiffusionPipeline.save_lora_weights(here / "theirs", state, unet_lora_adapter_metadata=config.to_dict())
    found = lora.read(here / "theirs")
    assert len(found) == len(state) / 2 and {part.factor for part in found.values()} == {2.0}
    assert not np.array_equal(frames(here / "theirs"), frames())


def test_a_shot_file_names_one(trained: Path, here: Path) -> None:
    shutil.copy(trained / "run" / "last" / lora.NAME, "mine.safetensors")
    Path("shot.yaml").write_text(
        "painting: painting.png\nprompt: waves roll\nmodel: animate_anything\nframes: 2\nsteps: 1\nproxy: none\n"
        "distil: 0\nmodel_size: 64x64\nout: shot.webp\nlora: [mine.safetensors:0.5]\n"
    )
    assert call("animate", "--shot", "shot.yaml") == 0
    assert [one["scale"] for one in read_recipe(Path("shot.webp"))["lora"]] == [0.5]
    assert call("animate", "--shot", "shot.yaml", "--lora", "mine.safetensors:2", "-o", "two.webp") == 0
    assert [one["scale"] for one in read_recipe(Path("two.webp"))["lora"]] == [2.0]


def test_a_film_holds_it_and_is_made_again(trained: Path, here: Path) -> None:
    shutil.copy(trained / "run" / "last" / lora.NAME, "mine.safetensors")
    more = ("--last", "painting.png", "--lora", "mine.safetensors")
    assert call(*WORDS, *more, "-o", "film.mp4") == 0
    assert [one["scale"] for one in read_recipe(Path("film.mp4"))["lora"]] == [1.0]
    assert call("rerun", "film.mp4") == 0
    assert Path("film-again.mp4").read_bytes() == Path("film.mp4").read_bytes()


def test_what_cannot_be_used_is_said_in_a_line(trained: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained / "run" / "last" / lora.NAME
    shutil.copy(file, "mine.safetensors")
    Path("no.safetensors").write_bytes(b"no")
    last = sorted(load_file(file))[-1].partition(".lora_")[0]
    save_file(
        {k.replace(last, "unet.not.there"): v for k, v in load_file(file).items() if k.startswith(last)},
        "else.safetensors",
    )

    def said(*words: object) -> str:
        capsys.readouterr()
        assert call(*words, "-o", "out.webp") in (1, 2)
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and not Path("out.webp").exists()
        return line

    assert "expected a LoRA at gone.safetensors, found no such file" in said(*WORDS, "--lora", "gone.safetensors")
    assert "expected a LoRA" in said(*WORDS, "--lora", "no.safetensors")
    assert "expected a LoRA" in said(*WORDS, "--lora", "painting.png")
    assert "expected a number as a LoRA's scale (PATH:0.8), got 'much'" in said(
        *WORDS, "--lora", "mine.safetensors:much"
    )
    assert "got 'nan'" in said(*WORDS, "--lora", "mine.safetensors:nan")
    assert "not.there" in said(*WORDS, "--lora", "else.safetensors")
    plain = ("animate", "painting.png", "waves roll", "--lora", "mine.safetensors")
    assert "miniature has none; choose another --model" in said(*plain)
    assert call(*WORDS, "-o", "made.webp", "--lora", "mine.safetensors") == 0
    state = {k: v + 1 for k, v in load_file(file).items()}
    save_file(state, "mine.safetensors")
    assert "the file has changed since" in said("rerun", "made.webp")
    Path("mine.safetensors").unlink()
    assert "found no such file" in said("rerun", "made.webp")


def test_how_one_is_written(trained: Path, tmp_path: Path) -> None:
    file = trained / "run" / "last" / lora.NAME
    named = tmp_path / "a:0.3"
    shutil.copy(file, named)
    assert lora.chosen(named) == lora.chosen(f"{named}:1") and lora.chosen(named).path == named
    assert lora.chosen(f"{named}:-.5").scale == -0.5
    assert lora.chosen(file.parent).path == file.resolve()
    assert len(lora.chosen(file).sha256) == 64
    for wrong in (f"{file}:", f"{file}:1,5", (file, "x"), (file, None)):
        with pytest.raises(SettingError, match="expected a number"):
            lora.chosen(wrong)
