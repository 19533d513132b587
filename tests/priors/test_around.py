"""What an arrow takes along: pieces whole, things whole, the named thing where the reader is not sure, and no more."""

import cv2
import numpy as np

from vivant.data.captions import SUBJECTS
from vivant.priors.miniature.around import NEAR, around, piece_at
from vivant.shot import Arrow

SKY, WATER, BOAT = (SUBJECTS.index(name) for name in ("sky", "water", "boat"))
SAIL = np.array([[128, 40], [150, 150], [128, 150]])


def painting() -> np.ndarray:
    """A blue sky with soft clouds and a white sail before it, 256 pixels a side."""
    soft = cv2.resize(np.random.default_rng(0).normal(0, 1, (6, 6)).astype(np.float32), (256, 256))
    out = np.clip(np.array([90, 130, 200]) + 8 * soft[..., None], 0, 255).astype(np.uint8)
    cv2.fillPoly(out, [SAIL], (250, 245, 240))
    return out


def where(sail: dict[int, float] | None = None) -> np.ndarray:
    """Sky all over; on the sail what the reader takes it for."""
    out = np.zeros((len(SUBJECTS), 32, 32), np.float32)
    out[SKY] = 1
    if sail is not None:
        cells = outline() > 0.5
        out[:, cells] = 0
        for kind, chance in sail.items():
            out[kind, cells] = chance
    return out


def outline() -> np.ndarray:
    mask = cv2.fillPoly(np.zeros((256, 256), np.float32), [SAIL], 1.0)
    return cv2.resize(mask, (32, 32), interpolation=cv2.INTER_AREA)


def test_an_arrow_beside_a_sail_leaves_it_alone() -> None:
    arrow = Arrow(0.66, 0.45, 0.8, 0.45)
    stays, leaves, *_ = around([arrow], where({BOAT: 0.6, SKY: 0.4}), painting(), [], [BOAT])
    inside = outline() > 0.99
    assert inside.sum() > 5 and stays[inside].max() < 0.05 and not leaves.any()
    row, column = int(0.45 * 32), int(0.66 * 32)
    assert stays[row, column] == 1 and stays[row - 3, column + 3] > 0.9
    y, x = np.mgrid[0:32, 0:32]
    assert not stays[np.maximum(abs(y - row), abs(x - column)) > NEAR].any()


def test_in_a_sky_that_the_sentence_names_the_reader_draws_the_line_not_the_colour() -> None:
    """A soft tower is of the sky's colours: the piece of one colour would take it along."""
    soft = painting()
    soft[100:200, 150:180] = np.clip(soft[100:200, 150:180].astype(int) + 4, 0, 255).astype(np.uint8)
    seen, tower = where(), (slice(13, 24), slice(19, 22))
    seen[:, tower[0], tower[1]] = 0
    seen[WATER, tower[0], tower[1]] = 1
    arrow = Arrow(0.74, 0.6, 0.86, 0.6)
    named, *_ = around([arrow], seen, soft, [SKY], [BOAT])
    assert named[tower].max() == 0 and named[int(0.6 * 32), int(0.8 * 32)] > 0.9
    unnamed, *_ = around([arrow], seen, soft, [WATER], [BOAT])
    assert unnamed[tower].max() > 0.5


def test_a_sail_goes_whole_whatever_it_is_taken_for() -> None:
    arrow = Arrow(0.53, 0.5, 0.7, 0.5)
    for reading, named in (({BOAT: 1.0}, []), ({WATER: 0.5, BOAT: 0.4, SKY: 0.1}, [BOAT])):
        stays, leaves, *_ = around([arrow], where(reading), painting(), named, [BOAT])
        assert not stays.any()
        assert leaves[outline() > 0.99].min() > 0.9
        assert leaves[outline() == 0].max() < 0.5
    # Taken for water, and no boat is named: it moves in its place, as one piece.
    stays, leaves, *_ = around([arrow], where({WATER: 1.0}), painting(), [], [BOAT])
    near = np.abs(np.mgrid[0:32, 0:32] - np.array([16, 16]).reshape(2, 1, 1)).max(0) <= NEAR
    assert not leaves.any() and stays[(outline() > 0.99) & near].min() > 0.9


def test_what_travels_is_cut_out_and_goes_as_far_as_its_arrow() -> None:
    taken = around([Arrow(0.53, 0.5, 0.7, 0.4, 2.0)], where({BOAT: 1.0}), painting(), [], [BOAT])
    (thing,) = taken.things
    assert np.allclose(thing.way, (0.34, -0.2)) and taken.subjects == {BOAT}
    assert shared(thing.outline) > 0.9
    # Two arrows on one thing are one thing's, which goes between them.
    arrows = [Arrow(0.53, 0.5, 0.63, 0.5), Arrow(0.52, 0.4, 0.72, 0.4)]
    (thing,) = around(arrows, where({BOAT: 1.0}), painting(), [], [BOAT]).things
    assert np.allclose(thing.way, (0.15, 0))


def test_what_stands_out_is_what_the_sentence_names_even_if_the_reader_takes_it_for_water() -> None:
    arrow = Arrow(0.53, 0.5, 0.7, 0.5)
    taken = around([arrow], where({WATER: 1.0}), painting(), [BOAT], [BOAT])
    assert taken.subjects == {BOAT} and shared(taken.things[0].outline) > 0.9
    assert around([arrow], where({WATER: 1.0}), painting(), [WATER, BOAT], [BOAT]).things == ()
    soft = around([Arrow(0.2, 0.2, 0.4, 0.2)], where({BOAT: 1.0}), painting(), [BOAT], [BOAT])
    assert soft.things == () and soft.stays.max() == 1


def test_nothing_is_cut_out_beyond_the_mask() -> None:
    mask = np.zeros((256, 256), np.float32)
    mask[:, :140] = 1
    (thing,) = around([Arrow(0.53, 0.5, 0.7, 0.5)], where({BOAT: 1.0}), painting(), [], [BOAT], mask).things
    assert not thing.outline[:, 141:].any() and thing.outline[:, :139].sum() > 500


def shared(outline: np.ndarray) -> float:
    true = cv2.fillPoly(np.zeros((256, 256), np.uint8), [SAIL], 1) > 0
    return float((true & (outline > 0)).sum() / (true | (outline > 0)).sum())


def test_the_sentence_does_not_overrule_what_is_plain() -> None:
    stays, leaves, *_ = around([Arrow(0.47, 0.5, 0.3, 0.5)], where({BOAT: 1.0}), painting(), [BOAT], [BOAT])
    assert stays.max() == 1 and not leaves.any()


def test_other_boats_and_pins_take_nothing_along() -> None:
    seen = where({BOAT: 1.0})
    seen[:, 26:30, 2:6] = 0
    seen[BOAT, 26:30, 2:6] = 1
    _, leaves, *_ = around([Arrow(0.53, 0.5, 0.7, 0.5)], seen, painting(), [], [BOAT])
    assert leaves.max() == 1 and not leaves[26:30, 2:6].any()
    pinned = around([Arrow(0.53, 0.5, 0.53, 0.5)], seen, painting(), [BOAT], [BOAT])
    assert not pinned.stays.any() and not pinned.leaves.any() and pinned.things == () and not pinned.subjects


def test_a_piece_ends_at_an_edge() -> None:
    piece = piece_at(painting(), 0.53, 0.5)
    mask = cv2.fillPoly(np.zeros((256, 256), np.float32), [SAIL], 1.0)
    assert (piece * mask).sum() / mask.sum() > 0.85 and (piece * (1 - mask)).sum() / piece.sum() < 0.05
