"""`vivant train`: what is kept when it is stopped, what it refuses before anything is loaded, several processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.train.test_loop import LAUNCH
from vivant.cli import app, run
from vivant.train.state import states

SMALL = {
    "batch": 2, "size": "[16,16]", "frames": 2, "scenes": 4, "held_out": 0, "workers": 0, "average": 0, "log_every": 1,
    "micro": 1,
}  # fmt: skip


def words(recipe: str, out: Path, **changes: object) -> list[str]:
    given = [w for name, value in {**SMALL, **changes}.items() for w in ("--set", f"{name}={value}")]
    return ["train", recipe, "--config", "tiny", "-o", str(out), *given]


def call(*line: object) -> int:
    try:
        return run(lambda: app([str(word) for word in line], standalone_mode=False))
    except SystemExit as left:
        return int(str(left.code))


@contextmanager
def interrupted(when: Callable[[], bool]) -> Iterator[None]:
    """Ctrl-C as soon as something is so, and again where Python was in a place that swallows it (a finaliser)."""
    done = threading.Event()

    def wait() -> None:
        pause = 0.01
        while not done.wait(pause):
            if when():
                os.kill(os.getpid(), signal.SIGINT)
                pause = 10

    watching = threading.Thread(target=wait)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers that run tests in parallel ignore it
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
        signal.signal(signal.SIGINT, before)


def losses(out: Path) -> list[float]:
    with (out / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def test_stopped_it_says_what_is_kept_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    with interrupted(lambda: len(states(out)) > 0):
        assert call(*words("animate-anything", out, steps=10**6, save_every=2)) == 130
    last = capsys.readouterr().err.strip().splitlines()[-1]
    kept = states(out)[-1]
    step = int(kept.name[-7:])
    assert last == f"vivant: stopped; kept: {kept}; the same command with --resume goes on after step {step}"
    assert call(*words("animate-anything", out, steps=step + 1, save_every=2), "--resume") == 0
    assert f"step {step + 1}/{step + 1}" in capsys.readouterr().err
    assert call(*words("animate-anything", out)) == 2
    assert "holds a training; add --resume" in capsys.readouterr().err
    assert call(*words("dynamicrafter", out), "--resume") == 1
    assert "expected a state of dynamicrafter" in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_stopped_before_the_first_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    with interrupted((out / "log.csv").is_file):
        assert call(*words("animate-anything", out, steps=10**6, save_every=10**6)) == 130
    assert "stopped; no state is written yet (the first after step 1000000" in capsys.readouterr().err


def test_the_embedded_models_training_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vivant.train.miniature.SAVED", 2)
    quick = ("train", "miniature", "--batch", 2, "--threads", 1, "--workers", 0, "--only", "reader", "--out")
    state = tmp_path / "state.pt"
    with interrupted((tmp_path / "samples.png").is_file):
        assert call(*quick, tmp_path) == 130
    said = capsys.readouterr().err
    assert f"at most 2 steps are lost; go on with --resume {state}" in said
    kept = state.read_bytes()
    assert call(*quick, tmp_path) == 2 and "holds a training" in capsys.readouterr().err and state.read_bytes() == kept
    monkeypatch.setattr("vivant.train.miniature.SAVED", 10**6)
    with interrupted((tmp_path / "other").is_dir):
        assert call(*quick, tmp_path / "other") == 130
    assert "nothing is kept before step 1000000" in capsys.readouterr().err


def test_what_is_refused_before_anything_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video")
    cases = {
        "the file is empty": ("--config", tmp_path / "empty.yaml"),
        "expected key=value, got 'steps'": ("--set", "steps"),
        "did you mean loop.steps?": ("--set", "stepz=3"),
        "all 1 clips": ("--set", f"source={tmp_path / 'videos'}"),
        "fewer clips held out": ("--set", "held_out=9"),
    }
    for said, more in cases.items():
        assert call(*words("animate-anything", tmp_path / "out"), *more) == 2, said
        line = capsys.readouterr().err
        assert said in line and line.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    def line(name: str) -> list[str]:
        return words(
            "animate-anything", tmp_path / name, steps=4, batch=4, save_every=2, dropout=0, held_out=1, average=0.9
        )

    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, "-m", "vivant.cli", *line("two")],
        check=True, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip
    assert call(*line("one")) == 0
    assert json.loads((states(tmp_path / "two")[-1] / "run.json").read_text())["processes"] == 2
    assert len(losses(tmp_path / "one")) == 4
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
