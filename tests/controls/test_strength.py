"""Curves from strength to a model's knob: the fit against scipy, the motion against known motion, the storing."""

import json
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

from vivant.controls import strength
from vivant.controls.fit import isotonic, pchip, spearman
from vivant.errors import OutputError, SettingError
from vivant.priors.protocol import Card
from vivant.priors.registry import REGISTRY
from vivant.process import Level, Prediction
from vivant.shot import Controls, Region, Shot

values = st.lists(st.floats(0, 5, allow_nan=False).map(lambda v: round(v, 3)), min_size=3, max_size=12)


@given(values)
@settings(max_examples=60, deadline=None)
def test_isotonic_is_scipys(y):
    assert np.allclose(isotonic(np.array(y)), isotonic_regression(y).x)


@given(values)
@settings(max_examples=60, deadline=None)
def test_pchip_is_scipys(y):
    x = np.cumsum(0.1 + np.abs(np.sin(np.arange(len(y)))))
    at = np.linspace(x[0], x[-1], 57)
    assert np.allclose(pchip(x, np.array(y), at), PchipInterpolator(x, y)(at), atol=1e-9)
    assert np.allclose(pchip(x, np.array(y), np.array([x[0] - 1, x[-1] + 1])), [y[0], y[-1]])


@given(values)
@settings(max_examples=40, deadline=None)
def test_spearman_is_scipys(y):
    x = np.arange(len(y)) % 4
    if len(set(y)) == 1:
        assert spearman(x, y) == 0
    else:
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


def curve(motions, knob="own", model="miniature"):
    return strength.Curve(model, knob, tuple(np.linspace(0, 1, len(motions)).tolist()), tuple(motions))


@given(values)
@settings(max_examples=60, deadline=None)
def test_the_setting_moves_as_asked_within_reach(y):
    one = curve(np.cumsum(np.array(y)) / 10)
    asked = np.linspace(0, 1, 11)
    knobs = [one.setting(s) for s in asked]
    assert all(0 <= k <= 1 for k in knobs) and all(b >= a - 1e-12 for a, b in pairwise(knobs))
    for s, k in zip(asked, knobs, strict=True):
        target = np.clip(s * strength.FULL, one.motions[0], one.motions[-1])
        assert one.motion(k) == pytest.approx(target, abs=2e-3 + 0.01 * one.motions[-1])


def test_curves_that_fall_are_refused_and_records_come_back():
    one = curve((0.0, 0.1, 0.4))
    assert strength.Curve.parse(json.loads(json.dumps(one.as_dict()))) == one
    for bad in ((0.0, 0.3, 0.2), (0.1,)):
        with pytest.raises(SettingError, match="rising"):
            curve(bad)
    for bad in ({}, [], {**one.as_dict(), "knobs": "abc"}):
        with pytest.raises(SettingError, match="vivant calibrate"):
            strength.Curve.parse(bad)


def frames_moving(pixels, count=5, size=160):
    """A texture going right by `pixels` a frame."""
    large = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (size, 4 * size, 3), dtype=np.uint8), (0, 0), 2)
    large = cv2.normalize(large, None, 0, 255, cv2.NORM_MINMAX)
    shift = [
        cv2.warpAffine(large, np.float32([[1, 0, pixels * i - size], [0, 1, 0]]), (size, size)) for i in range(count)
    ]
    return [np.ascontiguousarray(f) for f in shift]


@pytest.mark.parametrize("pixels", [0.5, 1.0, 3.0])
def test_motion_of_a_known_shift(pixels):
    diagonal = 160 * 2**0.5
    assert strength.motion(frames_moving(pixels), strength.RATE) == pytest.approx(100 * pixels / diagonal, rel=0.1)
    # The same clip at three times the frame rate moves three times as much in the same time.
    assert strength.motion(frames_moving(pixels), 24.0) == pytest.approx(300 * pixels / diagonal, rel=0.1)


def test_motion_counts_inside_its_region():
    frames = frames_moving(2.0)
    for frame in frames[1:]:
        frame[:, 80:] = frames[0][:, 80:]
    left = np.zeros((160, 160), bool)
    left[:, :70] = True
    inside, beside = strength.motion(frames, 8, left), strength.motion(frames, 8, np.roll(left, 85, 1))
    assert inside == pytest.approx(100 * 2 / (160 * 2**0.5), rel=0.15) and beside < 0.1 * inside
    assert strength.motion([frames[0]] * 3, 8) < 1e-3
    with pytest.raises(ValueError, match="2 frames"):
        strength.motion(frames[:1], 8)


@dataclass
class Slides:
    """A model that slides the painting by strength² · 4 pixels a frame: its curve is known. Latents: how far."""

    card: Card
    heard: list

    def levels(self, shot, steps):
        return [Level(0.0, 1.0, 1.0), Level(1.0, 0.0, 0.0)]

    def still(self, shots, rng):
        return torch.zeros(len(shots), 1, 1, 1, 1)

    def bind(self, shots, rng):
        self.heard.append((shots[0].controls.strength, shots[0].gain))
        far = torch.tensor([4.0 * (s.controls.strength or 0) ** 2 for s in shots]).view(-1, 1, 1, 1, 1)
        return lambda z, level: Prediction(far + 0 * z, z)

    def decode(self, x, shot):
        far = float(x)
        moved = [
            cv2.warpAffine(shot.painting, np.float32([[1, 0, far * i], [0, 1, 0]]), shot.painting.shape[1::-1],
                           borderMode=cv2.BORDER_REFLECT)
            for i in range(shot.frames)
        ]  # fmt: skip
        return torch.from_numpy(np.stack(moved)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def slides(name="slides"):
    return Slides(Card(name=name, frames=4, fps=8, steps=1, guidance=1.0, size=None), [])


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(strength, "SIDE", 96)


def test_calibrating_finds_a_known_curve(small):
    found = strength.calibrate(slides(), "slides", scenes=2, values=4)
    exact = 100 * 4 * np.linspace(0, 1, 4) ** 2 / (96 * 2**0.5)
    assert np.allclose(found.motions, exact, rtol=0.25, atol=0.02)
    assert found.spearman == 1.0 and found.scenes == 2 and found.knob == "own" and found.model == "slides"
    said = []
    still = slides()
    still.bind = lambda shots, rng: lambda z, level: Prediction(0 * z, z)
    strength.calibrate(still, "slides", 1, 3, progress=said.append)
    assert said[-1] == strength.FLAT
    with pytest.raises(SettingError, match="at least 1 scene"):
        strength.calibrate(slides(), "slides", 0)


def test_the_deaf_are_moved_by_the_gain_of_vsds(small):
    prior = slides("ltx")
    prior.card = replace(prior.card, gain=1.5)
    (shot, _region), *_ = strength.stages(prior, 1, 0, strength.CALIBRATION)
    list(strength.clips(prior, shot, [0.0, 1.0], 0))
    assert {gain for _, gain in prior.heard} == {0.0, 3.0} and {s for s, _ in prior.heard} == {None}
    assert strength.calibrate(prior, "ltx", 1, 3).knob == "gain"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path))
    return tmp_path


def shot_of(strength_asked, *regions, **options):
    picture = np.zeros((32, 32, 3), np.uint8)
    told = tuple(Region("sky", Controls(mask=np.ones((32, 32), np.float32), strength=s)) for s in regions)
    return Shot(picture, "sky", controls=Controls(strength=strength_asked), regions=told, **options)


def test_shots_are_set_by_their_models_curve(here):
    card = slides().card
    full = strength.FULL
    strength.save(curve((0.0, 0.5 * full, 1.0 * full), model="cinemo"), here / "cinemo" / "strength.json")
    strength.save(curve((0.0, 0.25 * full, 0.5 * full), model="consisti2v"), here / "consisti2v" / "strength.json")
    turned, notes = strength.calibrated(shot_of(0.25, 0.5, None), card, "cinemo")
    assert turned.controls.strength == pytest.approx(0.25, abs=0.02) and notes == []
    assert [r.controls.strength for r in turned.regions] == [pytest.approx(0.5, abs=0.02), None]
    turned, notes = strength.calibrated(shot_of(0.8), card, "consisti2v")
    assert turned.controls.strength == 1 and notes == [
        "consisti2v moves as much as a strength of 0.50 at most, 0.8 was asked"
    ]
    untouched = shot_of(None)
    assert strength.calibrated(untouched, card, "cinemo") == (untouched, [])
    _, notes = strength.calibrated(shot_of(0.5), card, "animate_anything")
    assert "vivant calibrate animate_anything" in notes[0]


def test_the_deaf_shot_gets_a_gain_and_its_regions_a_word(here):
    card = replace(slides("ltx").card, gain=3.0)
    turned, notes = strength.calibrated(shot_of(0.25, 0.5), card, "hub:Lightricks/LTX-Video")
    assert turned.gain == pytest.approx(1.5) and "one strength for the whole picture" in notes[1]
    _, notes = strength.calibrated(shot_of(0.25, distil=0.0), card, "hub:Lightricks/LTX-Video")
    assert "distil is 0" in notes[-1]


def test_curves_are_kept_with_the_model_the_users_own_first(here):
    assert strength.places("hub:owner/name") == [here / "owner--name" / "strength.json"]
    assert strength.load("cinemo") is None and strength.digest("cinemo") is None
    shipped = strength.load("miniature")
    assert shipped is not None and strength.places("miniature")[1].parent == REGISTRY["miniature"].folder
    own = curve((0.0, 0.2, 0.4))
    before = strength.digest("miniature")
    strength.save(own, strength.places("miniature")[0])
    assert strength.load("miniature") == own and strength.digest("miniature") != before
    strength.places("miniature")[0].write_text("{")
    with pytest.raises(SettingError, match="vivant calibrate miniature"):
        strength.load("miniature")
    (here / "file").write_text("")
    with pytest.raises(OutputError, match="--out"):
        strength.save(own, here / "file" / "strength.json")


def test_the_shipped_curve_holds_what_was_promised():
    """Ten values of strength on the embedded prior, each reached and in order."""
    one = strength.Curve.parse(json.loads((REGISTRY["miniature"].folder / "strength.json").read_text()))
    assert one.spearman >= 0.95 and len(one.knobs) >= 10 and one.reach > 0.9
    knobs = [one.setting(s) for s in np.linspace(0.1, 1, 10)]
    assert spearman(knobs, np.linspace(0.1, 1, 10)) == 1 and abs(one.setting(0.5) - 0.5) < 0.15
