"""The judge itself: it must say yes to exact fields, no to wrong ones, and count as it says."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vivant.data.captions import SUBJECTS
from vivant.data.scenes import TRAVELS, Scene, sample
from vivant.errors import InputError, SettingError
from vivant.metrics.evaluate import HELD_OUT, Outcome, defaults, inputs, judge_scene, main, scenes, summary
from vivant.priors.miniature import paint
from vivant.priors.registry import load
from vivant.shot import Controls


def painted(scene: Scene, field: np.ndarray) -> list[np.ndarray]:
    def layer(names: list[str]) -> np.ndarray:
        shown = np.isin(scene.labels, [SUBJECTS.index(s) for s in names]).astype(np.float32)
        return cv2.resize(shown, (32, 32), interpolation=cv2.INTER_AREA)

    things = [s for s in scene.plan if s in TRAVELS]
    return list(paint.frames(scene.picture, field, 7, layer([s for s in scene.plan if s not in things]), layer(things)))


@pytest.fixture(scope="module")
def moving() -> list[Scene]:
    return [sample(np.random.default_rng([HELD_OUT, 3, i]), 192, still=False) for i in range(20)]


def test_exact_motion_is_found_right(moving: list[Scene]) -> None:
    """Painted with the scenes' own fields at the strength the suite asks for, at least 18 of 20 are told so."""
    outcomes = [judge_scene(painted(s, s.field * (0.5 / max(s.strength, 0.05))), s.labels, s.plan) for s in moving]
    assert sum(bool(o.hit) for o in outcomes) >= 18
    assert np.mean([o.inside for o in outcomes]) > 0.85


def test_no_motion_is_found_wrong(moving: list[Scene]) -> None:
    still = [s.picture for _ in range(7) for s in moving[:1]]
    assert judge_scene(still, moving[0].labels, moving[0].plan).hit is False


def test_the_opposite_way_is_found_wrong(moving: list[Scene]) -> None:
    led = [s for s in moving if any(m.direction and m.kind == "drift" for m in s.plan.values())]
    assert led
    for scene in led[:3]:
        assert judge_scene(painted(scene, -scene.field), scene.labels, scene.plan).hit is False


def test_the_wrong_thing_moving_is_found_wrong(moving: list[Scene]) -> None:
    """The named region and the rest change places."""
    scene = next(s for s in moving if list(s.plan) == ["sky"] and 0.2 < (s.labels == 0).mean() < 0.8)
    drift = np.zeros((8, 3, 32, 32), np.float32)
    drift[:, 0] = np.linspace(0.01, 0.08, 8)[:, None, None]
    rest = cv2.resize((scene.labels != SUBJECTS.index("sky")).astype(np.float32), (32, 32))
    frames = list(paint.frames(scene.picture, drift * rest, 7, rest, np.zeros_like(rest)))
    assert judge_scene(frames, scene.labels, scene.plan).hit is False


def test_summary_counts_still_clips_by_their_share_of_motion() -> None:
    clips = [Outcome(True, 0.8, 1.0, 40, 5.0), Outcome(False, 0.6, 1.0, 30, None), Outcome(None, 0, 0.04, 50, None),
             Outcome(None, 0, 0.06, 50, None)]  # fmt: skip
    result = summary(clips)
    assert result["what_and_where"] == pytest.approx(2 / 4)
    assert result["inside"] == pytest.approx(0.7) and result["rest_psnr"] == pytest.approx(35)
    assert result["still_ratio"] == pytest.approx(0.05) and result["clips"] == 4
    assert summary([])["what_and_where"] == 0


def test_rows_of_the_ablation(capsys: pytest.CaptureFixture[str]) -> None:
    """Three scenes, the base and the full method: the full one asks the network more often."""
    main("miniature", 3, 0, True, "base,full")
    out = json.loads(capsys.readouterr().out)
    card = load("miniature").card
    assert out["base"]["evaluations"] == card.steps
    assert out["full"]["evaluations"] == card.steps + (card.distil_evaluations or 0)
    assert {"what_and_where", "inside", "still_ratio", "rest_psnr"} <= set(out["base"])


def test_real_pictures_by_their_cases(tmp_path: Path) -> None:
    scene = sample(np.random.default_rng([HELD_OUT, 1, 1]), 192, still=False)
    height, width = scene.picture.shape[:2]
    cv2.imwrite(str(tmp_path / "a.png"), scene.picture[..., ::-1])
    region = np.zeros((height, width), np.uint8)
    region[: height // 2] = 255
    cv2.imwrite(str(tmp_path / "r.png"), region)
    case = {"image": "a.png", "prompt": "clouds drift to the right", "region": "r.png", "direction": [1, 0]}
    (tmp_path / "cases.json").write_text(json.dumps([case]))
    [line] = inputs(load("miniature"), tmp_path, 0, keep=tmp_path / "sheets")
    assert 0 <= line["inside"] <= 1 and 0 <= line["direction_error"] <= 180 and line["motion_percent"] >= 0
    assert cv2.imread(str(tmp_path / "sheets" / "00.png")) is not None


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cases\.json"):
        main("inputs", folder=str(tmp_path))
    with pytest.raises(SettingError, match="rows"):
        main("miniature", 1, rows="base,none")
    with pytest.raises(SettingError, match="suite"):
        main("faces")


def test_the_suite_uses_the_cards_own_defaults() -> None:
    prior = load("miniature")
    shot = defaults(prior, np.zeros((32, 32, 3), np.uint8), "clouds drift", Controls())
    card = prior.card
    assert (shot.steps, shot.gain, shot.distil_evaluations, shot.guidance) == (
        card.steps, card.gain, card.distil_evaluations, card.guidance,
    )  # fmt: skip
    assert scenes(prior, 1, 0, ["base"], lambda line: None)["base"]["clips"] == 1
