"""long, between, story and eval long as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vivant import cli
from vivant.data.scenes import sample
from vivant.render.export import read_recipe


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    path = tmp_path / "boat.png"
    Image.fromarray(sample(np.random.default_rng(11), 64, still=False).picture).save(path)
    return path


def call(*words: Any) -> int:
    """The exit code of `vivant …`."""

    def run() -> None:
        cli.app([str(w) for w in words], standalone_mode=False)

    try:
        return cli.run(run)
    except SystemExit as stop:
        return int(stop.code or 0)


def count(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


QUICK = ("--steps", 3, "--distil", 0, "--proxy", "none", "--fps", 8, "--window", 8)


def test_long(painting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "film.mp4"
    code = call("long", painting, "Clouds drift to the right", "--frames", 21, "-o", out, *QUICK, "--json")
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert code == 0 and count(out) == report["frames"] == 21
    assert report["windows"] == 3 and report["evaluations"] == 3 + 2 * 1 and report["resumed"] == 0
    assert "cut short" in said.err and sorted(p.name for p in tmp_path.iterdir()) == ["boat.png", "film.mp4"]


def test_long_that_was_stopped(painting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    from vivant.priors.miniature.reel import Film

    out, words = tmp_path / "film.mp4", ("long", painting, "Clouds drift to the right", "--frames", 17)
    real = Film.go_on

    def stops(self: Film, field: np.ndarray) -> range:
        if self.next:
            raise KeyboardInterrupt
        return real(self, field)

    monkeypatch.setattr(Film, "go_on", stops)
    assert call(*words, "-o", out, *QUICK) == 130
    said = capsys.readouterr().err
    assert "film.partial.mp4" in said and "the same command goes on" in said and "nothing was written" not in said
    assert count(tmp_path / "film.partial.mp4") == 9 and not out.exists()
    monkeypatch.setattr(Film, "go_on", real)
    assert call(*words, "-o", out, *QUICK) == 0
    assert "going on from 2 finished windows" in capsys.readouterr().err and count(out) == 17


def test_long_with_regions(painting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, inside = tmp_path / "film.mp4", "mask=0,0,1,0.4; prompt=Clouds drift to the right; strength=.8"
    words = ("long", painting, "", "--frames", 12, "-o", out, *QUICK)
    assert call(*words, "--region", inside, "--compose", "in turn", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert count(out) == 12 and report["evaluations"] == 3 + 1, "nothing is dreamt but the region"
    assert read_recipe(out)["compose"] == "in turn" and len(read_recipe(out)["regions"]) == 1
    assert call("rerun", out, "-o", tmp_path / "again.mp4") == 0
    assert (tmp_path / "again.mp4").read_bytes() == out.read_bytes()
    assert call(*words, "--region", inside, "--compose", "zz") == 2
    assert call(*words, "--region", "mask=0,0,1,0.4") == 2
    said = capsys.readouterr().err
    assert "together or in turn, got 'zz'" in said and "expected prompt=… in a region" in said


def test_two_runs_of_one_name(painting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    from vivant.priors.miniature.reel import Film

    out, real = tmp_path / "film.mp4", Film.go_on

    def stops(self: Film, field: np.ndarray) -> range:
        if self.next:
            raise KeyboardInterrupt
        return real(self, field)

    monkeypatch.setattr(Film, "go_on", stops)
    assert call("long", painting, "Clouds drift to the right", "--frames", 17, "-o", out, *QUICK) == 130
    monkeypatch.setattr(Film, "go_on", real)
    before = (tmp_path / "film.partial.mp4").read_bytes()
    capsys.readouterr()
    assert call("long", painting, "Clouds drift to the left", "--frames", 17, "-o", out, *QUICK) == 2
    said = capsys.readouterr().err
    assert (
        "(another prompt); give another -o, or --fresh" in said
        and said.count("\n") == 1
        and (tmp_path / "film.partial.mp4").read_bytes() == before
    )
    assert call("long", painting, "Clouds drift to the left", "--frames", 17, "-o", out, *QUICK, "--fresh") == 0


def test_between(painting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = tmp_path / "last.png"
    Image.open(painting).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((32, 32)).save(last)
    out = tmp_path / "a.mp4"
    assert call("between", painting, last, "Clouds drift", "-o", out, "--frames", 5, "--steps", 3) == 0
    assert count(out) == 5 and "the last picture was resized from 32×32" in capsys.readouterr().err


def test_story_and_what_is_wrong_with_one(painting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, out = tmp_path / "tale.txt", tmp_path / "tale.mp4"
    script.write_text("fps: 4\nsteps: 2\nproxy: none\n\n# A tale\n\nboat.png 2s fade\nClouds drift\n")
    assert call("story", script, "-o", out) == 0 and count(out) == 12 + 8
    capsys.readouterr()
    script.write_text("fps: 4\n\nboat.png 2s\nClouds drift\n\ngone.png 2s\nThe water ripples\n")
    assert call("story", script, "-o", tmp_path / "b.mp4") == 2
    said = capsys.readouterr().err
    assert said.startswith("vivant: tale.txt line 6: expected a picture at") and said.count("\n") == 1
    assert call("story", script, "--model", "x") == 2 and "with --draft" in capsys.readouterr().err


def test_a_draft_overwrites_nothing(painting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "tale.yaml"
    script.write_text("mine")
    words = ("--draft", "http://127.0.0.1:1/v1", "--model", "m", "--painting", painting)
    assert call("story", script, *words) == 2 and script.read_text() == "mine"
    assert call("story", tmp_path / "new.yaml", *words) == 1 and not (tmp_path / "new.yaml").exists()
    assert "expected an answer from http://127.0.0.1:1/v1/chat/completions" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (("--frames", 1), "film of 2 to"), (("--method", "endless"), "method among"), (("--gamma", 1.5), "gamma between 0 and 1"),
    (("--omega", -1), "omega between 0 and 1"), (("--overlap", 0), "at least 1"),
    (("--overlap", 2), "no overlap for miniature"),
])  # fmt: skip
def test_bad_settings_are_one_line(
    painting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words, said
) -> None:
    assert call("long", painting, "Clouds drift", "-o", tmp_path / "a.mp4", *words) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and not (tmp_path / "a.mp4").exists()


def test_eval_long(painting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        call(
            "eval",
            "long",
            "--painting",
            painting,
            "--prompt",
            "Clouds drift",
            "--frames",
            25,
            "--window",
            8,
            "--methods",
            "phased",
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert "Tem-Cons" in lines[0] and lines[2].startswith("| Direct |") and lines[3].startswith("| Phased (CLIA) |")
