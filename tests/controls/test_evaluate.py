"""What `vivant eval controls` measures, on clips whose answer is known."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from vivant.controls import evaluate, strength
from vivant.metrics.evaluate import HELD_OUT
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.protocol import Card


def square_moving(count=4, size=64):
    """A white square of 8 pixels that goes right by 8 pixels a frame, on black."""
    frames = [np.zeros((size, size, 3), np.uint8) for _ in range(count)]
    for i, frame in enumerate(frames):
        frame[28:36, 8 * i : 8 * i + 8] = 255
    return frames


def test_the_moving_area_is_the_union_of_differences():
    area = evaluate.moved(square_moving())
    expected = np.zeros((64, 64), bool)
    expected[28:36, 0:32] = True
    assert np.array_equal(area, expected)
    faint = [np.full((64, 64, 3), v, np.uint8) for v in (100, 104, 108)]
    assert not evaluate.moved(faint).any() and evaluate.moved([faint[0], faint[2]]).all()


@pytest.mark.parametrize(("columns", "share"), [(slice(0, 64), 1.0), (slice(0, 16), 0.5), (slice(40, 64), 0.0)])
def test_precision_is_the_share_inside(columns, share):
    mask = np.zeros((64, 64), np.float32)
    mask[:, columns] = 1
    assert evaluate.mask_precision(square_moving(), mask) == share
    assert evaluate.mask_precision(square_moving()[:1] * 3, mask) is None


def test_half_of_a_region_is_its_left_half():
    region = np.zeros((10, 40), bool)
    region[:, 10:30] = True
    half = evaluate.halved(region)
    assert half.sum() == 100 and half[:, 10:20].all() and half.dtype == np.float32


def test_a_seam_is_a_step_that_was_not_there():
    x = np.mgrid[0:64, 0:64][1]
    smooth = np.repeat(np.uint8(128 + 40 * np.sin(x / 3))[..., None], 3, 2)
    torn = smooth.copy()
    torn[:, 32:] = np.clip(torn[:, 32:].astype(int) + 60, 0, 255)
    everywhere = np.ones((64, 64), bool)
    assert evaluate.seam_step([smooth, smooth], everywhere, 32) == pytest.approx(1)
    assert evaluate.seam_step([smooth, torn], everywhere, 32) > 2


class Rolls(AnalyticPrior):
    """The analytic prior, which rolls the whole picture however it is told."""

    def __init__(self):
        super().__init__(sigma=0.02, motion=(1, 0))
        self.card = Card(name="rolls", frames=4, fps=8, steps=4, guidance=1.0, size=None)


def test_a_mask_raises_the_precision_of_a_prior_that_moves_everything():
    cases = evaluate.scene_masks(Rolls(), 1, 0)
    row = evaluate.precision(Rolls(), cases, 0, lambda line: None)
    assert row["clips"] == 1 and row["with"] == 1.0 > row["without"] and row["latents"] >= evaluate.BEST


def test_scenes_are_held_out_and_something_in_them_changes_its_place():
    (shot, region), *_ = evaluate.stages(Rolls(), 1, 0, HELD_OUT)
    (other, _), *_ = evaluate.stages(Rolls(), 1, 0, strength.CALIBRATION)
    assert region.mean() >= 0.02 and not np.array_equal(shot.painting, other.painting)


def test_strength_against_a_known_curve(monkeypatch):
    """A model that moves by knob² of the full motion, with its curve and without."""
    square = strength.Curve(
        "m", "own", (0, 0.25, 0.5, 0.75, 1.0), tuple(strength.FULL * k**2 for k in (0, 0.25, 0.5, 0.75, 1))
    )
    monkeypatch.setattr(evaluate, "clips", lambda prior, shot, knobs, seed: ((k, 8.0) for k in knobs))
    monkeypatch.setattr(evaluate, "motion", lambda k, rate, region: strength.FULL * k**2)
    row = evaluate.strengths(Rolls(), square, 1, 0, lambda line: None)
    assert row["with"]["rms"] < 0.01 < 0.1 < row["without"]["rms"] and row["with"]["spearman"] == 1
    exact = np.linspace(0.1, 1, 10)
    assert row["without"]["error"] == pytest.approx(strength.FULL**2 * np.mean((exact**2 - exact) ** 2), abs=1e-5)
    assert len(row["table"]) == 10 and row["reach"] == 1.0
    text = evaluate.markdown({"strength": row, "arrows": None})
    assert "| strength | Spearman, means of the scenes | 1.0 | 1.0 |" in text and text.count("\n| 0.") == 9


def test_paintings_with_masks_are_read(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "m.png"), np.full((300, 600), 255, np.uint8))
    cases = [
        {"image": "a.png", "prompt": "Water flows", "mask": "m.png"}, {"image": "a.png", "prompt": "Birds fly"},
        {"image": "a.png", "prompt": "Waves roll", "region": "m.png"}, {"image": "a.png", "last": "b", "prompt": "turn"},
    ]  # fmt: skip
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    found = list(evaluate.input_masks(Rolls(), tmp_path))
    assert [shot.prompt for shot, _ in found] == ["Water flows", "Waves roll"]
    assert found[0][0].painting.shape == (256, 512, 3) and found[0][1].shape == (256, 512)


def test_clips_are_frozen_outside_the_mask_only_when_they_are_rendered():
    shot, mask = next(evaluate.scene_masks(Rolls(), 1, 0))
    told = replace(shot, controls=replace(shot.controls, mask=mask))
    frozen, free = (evaluate.play(Rolls(), told, 1, keep) for keep in (True, False))
    assert len(frozen) == evaluate.FRAMES and np.array_equal(frozen[-1][mask == 0], shot.painting[mask == 0])
    assert not np.array_equal(free[-1][mask == 0], shot.painting[mask == 0])
