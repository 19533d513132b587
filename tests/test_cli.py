"""The command line as a user meets it: one call, one line, one exit code."""

import json
import subprocess
import sys

import numpy as np
import pytest
import typer
from PIL import Image

import vivant
from vivant.cli import app, run
from vivant.render.export import read_recipe


@pytest.fixture(scope="module")
def painting(tmp_path_factory):
    source = next(iter(vivant.__path__)) + "/data/demo.jpg"
    path = tmp_path_factory.mktemp("in") / "bay.png"
    Image.open(source).resize((140, 100)).save(path)
    return path


def call(*words):
    def go():
        app([str(w) for w in words], standalone_mode=False)

    return run(go)


QUICK = ("--frames", 4, "--steps", 3)


def test_animate_and_rerun(painting, tmp_path, capsys):
    assert call("animate", painting, "Clouds drift to the right", "-o", tmp_path / "a.mp4", "--json", *QUICK) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 4 and report["size"] == [140, 100] and report["evaluations"] > 3
    assert 0.02 < report["motion_percent"] < 5
    assert read_recipe(tmp_path / "a.mp4")["prompt"] == "Clouds drift to the right"
    assert call("rerun", tmp_path / "a.mp4", "-o", tmp_path / "b.mp4") == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert call("animate", painting, "Clouds drift to the right", "-o", tmp_path / "frames", *QUICK) == 0
    first = np.asarray(Image.open(tmp_path / "frames" / "frame_00000.png"))
    assert (first == np.asarray(Image.open(painting))).all()


def test_version(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"vivant {vivant.__version__}\n"


def test_a_mask_freezes_to_the_pixel(painting, tmp_path):
    mask = np.zeros((100, 140), np.uint8)
    mask[:50, 60:] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    out = tmp_path / "frames"
    assert call("animate", painting, "Clouds drift to the left", "--mask", tmp_path / "m.png", "-o", out, *QUICK) == 0
    original = np.asarray(Image.open(painting))
    last = np.asarray(Image.open(out / "frame_00003.png"))
    assert (last[mask == 0] == original[mask == 0]).all() and (last != original).any()


def test_a_changed_painting_is_not_rerun(painting, tmp_path, capsys):
    mine = tmp_path / "mine.png"
    Image.open(painting).save(mine)
    assert call("animate", mine, "Clouds drift", "-o", tmp_path / "a.gif", *QUICK) == 0
    Image.open(painting).rotate(180).save(mine)
    assert call("rerun", tmp_path / "a.gif") == 2
    assert "changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("missing.png", "clouds drift"), ("PAINTING", "   "), ("PAINTING", "qwx zzkr vbnmp"), ("PAINTING", "x" * 3000),
        ("PAINTING", "clouds drift", "--strength", "2"), ("PAINTING", "clouds drift", "--frames", "0"),
        ("PAINTING", "clouds drift", "--steps", "-1"), ("PAINTING", "clouds drift", "--arrow", "1,2"),
        ("PAINTING", "clouds drift", "--arrow", "0,0:2,2"), ("PAINTING", "clouds drift", "--model", "nobody"),
        ("PAINTING", "clouds drift", "--mask", "missing.png"), ("PAINTING", "clouds drift", "--blend", "mix"),
        ("PAINTING", "clouds drift", "--curve", "wavy"), ("PAINTING", "clouds drift", "--device", "toaster"),
        ("PAINTING", "clouds drift", "--proxy", "missing.png"), ("PAINTING", "clouds drift", "-o", "a.doc"),
        ("PAINTING", "clouds drift", "-o", "nowhere/a.mp4"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_2(painting, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    code = call("animate", *[painting if w == "PAINTING" else w for w in words])
    err = capsys.readouterr().err.strip()
    assert code == 2 and err.startswith("vivant: ") and "\n" not in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_models_and_doctor(capsys):
    assert call("models") == 0 and call("doctor") == 0
    out = capsys.readouterr().out
    assert "miniature  present" in out and "licence" in out and "h264 yes" in out


def test_importing_and_help_load_no_torch():
    code = "import sys, vivant, vivant.cli; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names():
    assert sorted(vivant.__all__) == [
        "Arrow", "Controls", "DependencyError", "ImageError", "InputError", "ModelError", "OutputError", "PromptError",
        "Region", "Result", "SettingError", "Shot", "VivantError", "WeightsError", "animate", "awaken_latents", "rerun",
    ]  # fmt: skip
    assert all(getattr(vivant, name) is not None for name in vivant.__all__)
    with pytest.raises(AttributeError):
        _ = vivant.nothing


@pytest.mark.parametrize(("words", "said"), [
    (("animate", "a.png", "b", "--frames", "nan"), "'--frames'"), (("animate", "--nosuch", "3"), "--nosuch"),
    (("nosuch",), "nosuch"), (("convert", "a.ckpt"), "missing argument"), (("arrows", "a.png"), "--arrow"),
    (("rerun", ""), "expected a result"), (("animate", "a.png", "b", "--frames", "900", "--compose", "never"), "never"),
])  # fmt: skip
def test_a_command_line_that_makes_no_sense_is_one_line(capsys, words, said):
    assert call(*words) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("vivant: ") and said in err and "\n" not in err


def test_inputs_are_not_written_over(painting, tmp_path, capsys):
    mine = tmp_path / "mine.png"
    Image.open(painting).convert("L").point(lambda v: 255 if v > 90 else 0).save(mine)
    before = mine.read_bytes()
    for name in ("--mask", "--last", "--proxy"):
        assert call("animate", painting, "Clouds drift", name, mine, "-o", mine, *QUICK) == 2
    assert call("between", painting, mine, "Clouds drift", "-o", mine, *QUICK) == 2
    assert call("proxy", mine, "Clouds drift", "-o", mine) == 2
    assert call("arrows", mine, "--arrow", "0.2,0.3:0.5,0.3", "-o", mine) == 2
    assert mine.read_bytes() == before and list(tmp_path.iterdir()) == [mine]
    assert capsys.readouterr().err.count("expected another name for the result") == 6
    assert call("proxy", painting, "Clouds drift", "--model", "nobody", "-o", tmp_path / "p.png") == 2


def test_how_a_command_ends(capsys):
    def raising(error):
        def go():
            raise error

        return go

    assert run(lambda: 130) == 130 and run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "vivant: stopped; nothing was written\n" * 2
    assert run(raising(RecursionError())) == 2 and run(raising(typer.Abort())) == 1 and run(lambda: None) == 0
    assert capsys.readouterr().err.count("\n") == 2


def test_libraries_keep_their_remarks_to_themselves():
    code = "import warnings, vivant.cli as c; c.app = lambda **k: warnings.warn('deprecated'); c.main()"
    plain = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    asked = subprocess.run([sys.executable, "-W", "default", "-c", code], check=False, capture_output=True, text=True)
    assert (plain.returncode, plain.stderr) == (0, "") and "deprecated" in asked.stderr
