"""A thing is found from a place on it, whatever its size; what is no thing is not."""

from typing import Any

import cv2
import numpy as np
import pytest

from vivant.data.captions import SUBJECTS
from vivant.data.scenes import sample
from vivant.priors.miniature.around import piece_at
from vivant.priors.miniature.cutout import contrast, cropped_off, joined, thing_at


def water(seed: int = 0) -> np.ndarray:
    """Ripples, light and dark, 200 by 300."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:200, 0:300].astype(np.float32)
    wave = 12 * np.sin(y / 3 + 2 * np.sin(x / 40)) + rng.normal(0, 3, (200, 300))
    return np.clip(np.array([60, 100, 140]) + wave[..., None], 0, 255).astype(np.uint8)


def boat(size: float) -> tuple[np.ndarray, np.ndarray]:
    """A boat of two colours on the water, `size` times the usual, and its outline."""
    painting, mask = water(), np.zeros((200, 300), np.uint8)
    hull = (np.array([[-40, 0], [40, 0], [28, 16], [-28, 16]]) * size + (150, 110)).astype(np.int32)
    sail = (np.array([[0, -50], [30, -2], [0, -2]]) * size + (150, 110)).astype(np.int32)
    for part, colour in ((hull, (120, 50, 30)), (sail, (235, 225, 205))):
        cv2.fillPoly(painting, [part], colour)
        cv2.fillPoly(mask, [part], 1)
    return painting, mask > 0


def found(painting: np.ndarray, x: float, y: float, **how: Any) -> np.ndarray | None:
    likely = how.pop("likely", np.zeros((32, 32), np.float32))
    outline = thing_at(painting, x, y, likely, piece_at(painting, x, y), **how)
    return None if outline is None else cv2.resize(outline, painting.shape[1::-1]) > 0.5


def shared(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("size", [0.4, 0.8, 1.3])
def test_a_boat_of_any_size_from_its_sail_and_from_its_hull(size: float) -> None:
    painting, true = boat(size)
    believed = cv2.resize(true.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
    for x, y in ((150 + 8 * size, 110 - 14 * size), (150 - 10 * size, 110 + 8 * size)):
        outline = found(painting, x / 300, y / 200, likely=believed)
        assert outline is not None and shared(outline, true) > 0.85


def test_the_same_call_gives_the_same_outline() -> None:
    painting, _ = boat(1.0)
    first = found(painting, 0.5, 0.6)
    cv2.setRNGSeed(99)
    again = found(painting, 0.5, 0.6)
    assert first is not None and again is not None and np.array_equal(first, again)


def test_no_thing_in_plain_water_and_none_beyond_where_it_may_lie() -> None:
    painting, true = boat(1.0)
    assert found(painting, 0.15, 0.3, doubtful=True) is None
    inside = np.zeros((200, 300), np.float32)
    inside[:, 150:] = 1
    outline = found(painting, 0.53, 0.5, inside=inside, likely=np.ones((32, 32), np.float32))
    assert outline is not None and not outline[:, :148].any() and (outline & true).any()


def test_what_is_frozen_is_not_cut_out() -> None:
    """An arrow that starts outside the mask takes nothing along: a copy would leave, and the thing stay."""
    painting, _ = boat(1.0)
    inside = np.ones((200, 300), np.float32)
    inside[90:120, 140:175] = 0
    assert found(painting, 0.53, 0.5, inside=inside, likely=np.ones((32, 32), np.float32)) is None
    assert found(painting, 0.53, 0.5, inside=0 * inside) is None


def test_a_mount_is_no_part_of_anything() -> None:
    painting, true = boat(1.0)
    mounted = cv2.copyMakeBorder(painting, 24, 24, 24, 24, cv2.BORDER_CONSTANT, value=(240, 235, 225))
    outline = found(mounted, 174 / 348, 138 / 248)
    assert outline is not None and not outline[:20].any() and not outline[:, :20].any()
    assert shared(outline[24:-24, 24:-24], true) > 0.5


def test_scenes_things_are_found_where_their_scenes_have_them() -> None:
    """Against exact outlines: procedural scenes' boats, birds, figures and suns, from a place within each."""
    rng, share = np.random.default_rng(11), []
    while len(share) < 12:
        scene = sample(rng, 192, still=False)
        for name in ("boat", "figure", "sun"):
            true = scene.labels == SUBJECTS.index(name)
            _, labels, stats, _ = cv2.connectedComponentsWithStats(true.astype(np.uint8))
            if len(stats) < 2:
                continue
            one = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
            if one.sum() < 60:
                continue
            depth = cv2.distanceTransform(one.astype(np.uint8), cv2.DIST_L2, 5)
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            believed = cv2.resize(one.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
            outline = found(
                scene.picture, (x + 0.5) / 192, (y + 0.5) / 192, likely=cv2.GaussianBlur(believed, (0, 0), 1.5)
            )
            share.append(0.0 if outline is None else shared(outline, one))
    assert np.median(share) > 0.7


def test_contrast_is_that_of_the_two_sides() -> None:
    lab = np.full((40, 40, 3), 100, np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    assert contrast(lab, mask) == pytest.approx(0, abs=1e-3)
    lab[mask, 0] = 130
    assert contrast(lab, mask) == pytest.approx(30 / 60, abs=0.02)
    assert contrast(lab, np.ones((40, 40), bool)) == 0


def test_what_the_border_cuts_off() -> None:
    framed, mask = np.ones((40, 40), bool), np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    assert cropped_off(mask, framed) == 0
    mask[10:30, 0:30] = True
    assert 0.2 < cropped_off(mask, framed) <= 1


def test_joined_bridges_a_pixel_and_not_more() -> None:
    mask, seed = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    mask[5:15, 2:6] = mask[5:15, 7:10] = mask[5:15, 13:18] = True
    seed[8, 3] = True
    out = joined(mask, seed)
    assert out[8, 8] and not out[8, 15] and not out[8, 6]
