"""`vivant data` as it is called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.clips import write
from tests.metrics import made
from vivant.cli import app, run


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(lambda: app(["data", *words], standalone_mode=False))
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(scope="module")
def pile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pile")
    write(place / "leaf.mp4", made.carried(made.painting(), 10, 1.0, region=made.left_half(0.3)))
    write(place / "pan.mp4", made.carried(made.painting(), 10, 3.0))
    (place / "bad.mp4").write_bytes(b"no video")
    (place / "leaf.txt").write_text("A tree swaying")
    return place


def test_a_list_and_a_page(pile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set.jsonl"
    code, said, told = call(capsys, str(pile), "-o", str(out), "--side", "96")
    assert code == 0 and said == f"{out}\n"
    lines = told.splitlines()
    assert "2 of 3 clips have no caption" in lines[0]
    assert lines[1].startswith("vivant: left out bad: broken: expected a video at")
    assert lines[2].startswith("vivant: left out pan: camera: moves")
    assert lines[3] == f"1 clips kept, 2 left out; statistics: {tmp_path / 'set.html'}"
    assert out.exists() and (tmp_path / "set.html").exists()
    code, said, _ = call(capsys, str(pile), "-o", str(out), "--side", "96", "--camera", "-1", "--json")
    report = json.loads(said)
    assert (code, report["kept"], report["left_out"], report["measured"]) == (0, 2, {"broken": 1}, 0)
    assert report["errors"][0]["key"] == "bad"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing-here"], 2, "found no such file"),
        (["--cuts", "paste"], 2, "drop, split or keep"),
        (["--flow", "sift"], 2, "dis or raft"),
        (["--describe", "http://127.0.0.1:9/v1"], 2, "--model"),
        (["--describe", "gpt"], 2, "http"),
        (["-o", "a.csv"], 2, ".jsonl"),
        (["--motion", "999", "--side", "96"], 2, "none of 3 does"),
        (["--rate", "0"], 2, "rate above 0"),
        (["--workers", "0"], 2, "at least 1 worker"),
    ],
)
def test_one_line_each(
    words: list[str], code: int, said: str, pile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [] if words[0] == "nothing-here" else [str(pile)]
    out = [] if "-o" in words else ["-o", str(tmp_path / "a.jsonl")]
    got, printed, told = call(capsys, *source, *words, *out)
    assert (got, printed) == (code, "") and said in told and len(told.splitlines()) == 1
    assert not (tmp_path / "a.jsonl").exists() and not (tmp_path / "a.html").exists()


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = call(capsys, str(tmp_path), "-o", str(tmp_path / "a.jsonl"))
    assert code == 2 and "found none" in told and list(tmp_path.iterdir()) == []


def test_help_loads_no_torch() -> None:
    asked = "import sys, vivant.cli, vivant.cli_data; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
