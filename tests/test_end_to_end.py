"""The command line from a painting to a file on every base model and pipeline family, tiny folders in the hub's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.priors import released
from tests.priors.diffusers_i2v import tiny
from vivant.cli import app, run
from vivant.render.export import read_recipe

MODELS: dict[str, Callable[[Path], object]] = {
    "animate_anything": released.animate_anything,
    "consisti2v": released.consisti2v,
    "cinemo": released.cinemo,
    "dynamicrafter_256": lambda root: released.dynamicrafter(root, "256"),
    "dynamicrafter_512": lambda root: released.dynamicrafter(root, "512"),
    "dynamicrafter_interp": lambda root: released.dynamicrafter(root, "512_interp"),
}
SIZE = (96, 64)


def call(*words: object) -> int:
    return run(lambda: app([str(word) for word in words], standalone_mode=False))


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    """A small picture with something to see."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    picture = np.stack([x * 2, y * 3, 255 - x * 2], -1).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "painting.png")
    return tmp_path / "painting.png"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models lie, empty."""
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def comes_alive(painting: Path, model: object, capsys: pytest.CaptureFixture[str], *more: object) -> dict[str, object]:
    out = painting.with_name("out.webp")
    assert (
        call(
            "animate",
            painting,
            "waves roll",
            "-o",
            out,
            "--model",
            model,
            "--steps",
            2,
            "--json",
            *more,
            "--model-size",
            "96x64",
        )
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    with Image.open(out) as film:
        assert film.size == SIZE and film.n_frames == said["frames"]
    recipe = read_recipe(out)
    assert recipe["model"] == str(model) and len(recipe["weights_sha256"]) == 64
    # ⌊0.6·2⌋ + 1 levels of distillation, both paths in one evaluation, then two steps
    assert said["evaluations"] == 2 + 2
    return said


@pytest.mark.parametrize("name", MODELS)
def test_the_papers_models(name: str, painting: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MODELS[name](models / name)
    said = comes_alive(painting, name, capsys, "--frames", 2)
    assert said["frames"] == 2


def test_a_result_of_a_base_model_is_made_again(
    painting: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    released.cinemo(models / "cinemo")
    comes_alive(painting, "cinemo", capsys, "--frames", 3)
    assert call("rerun", painting.with_name("out.webp")) == 0
    first, again = (painting.with_name(n).read_bytes() for n in ("out.webp", "out-again.webp"))
    assert first == again


@pytest.mark.parametrize(("family", "frames"), [("svd", 3), ("wan", 5)])
def test_a_folder_of_a_pipeline(
    family: str, frames: int, painting: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = painting.parent / family
    tiny.build(family).save_pretrained(folder)
    assert comes_alive(painting, folder, capsys, "--frames", frames)["frames"] == frames


def test_a_model_that_is_not_here(painting: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("animate", painting, "waves roll", "-o", painting.with_name("o.mp4"), "--model", "cinemo") in (1, 2)
    said = capsys.readouterr().err
    assert "vivant pull cinemo" in said and said.count("\n") == 1 and not painting.with_name("o.mp4").exists()


def test_negatives_that_argue_against_paintings_are_left_out_and_named(
    painting: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = painting.with_name("o.webp")
    words = ("animate", painting, "clouds drift", "-o", out, "--frames", 3, "--steps", 2, "--negative")
    assert call(*words, "blurry, oil painting, static") == 0
    said = capsys.readouterr().err
    assert "oil painting, static" in said and "blurry" not in said
    assert read_recipe(out)["negative"] == "blurry, oil painting, static"
