"""What the describer of plans promises to whoever trains on its sentences."""

import math

import numpy as np
import pytest

from vivant.data.captions import KINDS, SUBJECTS, Motion, describe, everything, random_plan, split, words


def _mentions(text: str, *options: str) -> bool:
    return any(option in text.lower() for option in options)


def test_every_word_of_every_description_is_in_the_vocabulary():
    rng, known = np.random.default_rng(0), set(words())
    for _ in range(3000):
        plan, still = random_plan(rng)
        assert set(split(describe(plan, rng, still))) <= known


def test_vocabulary_is_sorted_and_unique():
    assert list(words()) == sorted(set(words()))


def test_descriptions_fit_the_reader():
    rng = np.random.default_rng(1)
    for _ in range(3000):
        plan, still = random_plan(rng)
        assert 1 <= len(split(describe(plan, rng, still))) <= 32


def test_same_seed_same_sentence():
    plan = {"boat": Motion("drift", (1.0, 0.0), 0.6)}
    assert describe(plan, np.random.default_rng(3)) == describe(plan, np.random.default_rng(3))


def test_one_plan_is_said_in_many_ways():
    plan = {"sky": Motion("drift", (-1.0, 0.0), 0.33)}
    rng = np.random.default_rng(0)
    assert len({describe(plan, rng) for _ in range(200)}) > 190


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_subject_may_move_in_any_kind(subject, kind):
    rng = np.random.default_rng(0)
    for direction in (None, (1.0, 0.0), (0.0, -1.0), (math.sqrt(0.5), math.sqrt(0.5))):
        assert describe({subject: Motion(kind, direction, 1.0)}, rng)


@pytest.mark.parametrize(
    ("direction", "said"),
    [((1.0, 0.0), ("right", "east", "left")), ((-1.0, 0.0), ("left", "west", "right"))],
)
def test_a_direction_is_always_said(direction, said):
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert _mentions(describe({"boat": Motion("drift", direction, 0.6)}, rng), *said)


def test_a_still_scene_names_what_stays_or_says_that_nothing_moves():
    rng = np.random.default_rng(0)
    assert len({describe({}, rng) for _ in range(300)}) > 40
    assert len({describe({}, rng, still=["sky"]) for _ in range(300)}) > 100


def test_random_plans_cover_subjects_kinds_and_directions():
    rng = np.random.default_rng(0)
    seen, kinds, ways, empty = set(), set(), set(), 0
    for _ in range(1500):
        plan, still = random_plan(rng)
        assert not set(plan) & set(still)
        empty += not plan
        for subject, motion in plan.items():
            seen.add(subject)
            kinds.add(motion.kind)
            ways.add(motion.direction)
            if motion.direction is not None:
                assert math.isclose(math.hypot(*motion.direction), 1.0)
    assert seen == set(SUBJECTS) and kinds == set(KINDS) and len(ways) == 9 and empty > 50


def test_everything_leaves_the_ground_in_place():
    assert not {"hill", "house", "frame"} & set(everything())
