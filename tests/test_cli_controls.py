"""`vivant calibrate` and `vivant eval controls` as a user meets them, on a prior that costs nothing."""

import json
import subprocess
import sys

import pytest

from vivant.cli import app, run
from vivant.controls import strength
from vivant.priors import registry
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.protocol import Card


def call(*words):
    return run(lambda: app([str(w) for w in words], standalone_mode=False))


@pytest.fixture
def cheap(tmp_path, monkeypatch):
    """The analytic prior in the place of any model."""

    def load(name, device, dtype):
        registry.entry(name)
        prior = AnalyticPrior()
        prior.card = Card(name="analytic", frames=3, fps=8, steps=2, guidance=1.0, size=None)
        return prior

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path))
    monkeypatch.setattr(strength, "SIDE", 96)
    return tmp_path


def test_calibrating_keeps_the_curve_with_the_model(cheap, capsys):
    assert call("calibrate", "cinemo", "--scenes", 1, "--values", 3) == 0
    shown = capsys.readouterr()
    assert shown.out.strip().endswith(str(cheap / "cinemo" / "strength.json")) and shown.out.count("\n| ") == 3
    assert strength.FLAT in shown.err  # this prior has no strength
    assert strength.load("cinemo").model == "cinemo"
    assert call("calibrate", "cinemo", "--scenes", 1, "--values", 3, "-o", cheap / "x.json", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == str(cheap / "x.json") and len(told["motions"]) == 3


def test_what_cannot_be_calibrated_is_one_line(cheap, capsys):
    for words, said in (
        (("nobody",), "expected a model among"),
        (("cinemo", "--values", 2), "3 values"),
        (("cinemo", "-o", "curve.txt"), ".json"),
    ):
        assert call("calibrate", *words) == 2
        error = capsys.readouterr().err.strip()
        assert said in error and "\n" not in error


def test_controls_are_measured(cheap, capsys):
    (cheap / "cases.json").write_text("[]")
    assert call("eval", "controls", "--scenes", 1, "--parts", "mask", "--folder", cheap, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mask"]["with"] == 1.0 and found["model"] == "miniature" and "strength" not in found
    assert found["mask_inputs"]["clips"] == 0 and found["mask_inputs"]["with"] is None
    assert call("eval", "controls", "--scenes", 1, "--parts", "colour") == 2
    assert call("eval", "controls", "--scenes", 0) == 2
    assert call("eval", "controls", "--folder", cheap / "none", "--parts", "mask") == 2
    assert "cases.json" in capsys.readouterr().err


def test_help_loads_no_torch():
    for words in (["calibrate", "--help"], ["eval", "controls", "--help"]):
        code = f"import sys; sys.argv = ['vivant', *{words}]\nfrom vivant.cli import app\ntry:\n app()\nexcept SystemExit:\n pass\nassert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
