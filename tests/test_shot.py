"""A shot that can be built can be animated; every other one is refused when it is built."""

import dataclasses
import math

import numpy as np
import pytest

from vivant.errors import ImageError, PromptError, SettingError
from vivant.shot import MAX_PROMPT, Arrow, Controls, Shot

PAINTING = np.full((20, 30, 3), 120, np.uint8)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("frames", 2, 2000),
        ("fps", 1, 120),
        ("steps", 1, 1000),
        ("seed", 0, 2**63 - 1),
        ("distil", 0, 1),
        ("guidance", 0, 50),
        ("distil_evaluations", 1, 1000),
        ("gain", 0, 100),
    ],
)
def test_bounds_are_inside_and_beyond_them_is_refused(name, low, high):
    for value in (low, high):
        assert getattr(Shot(PAINTING, "clouds drift", **{name: value}), name) == value
    for value in (low - 1, high + 1, math.nan, -math.inf):
        with pytest.raises(SettingError, match=name.split("_")[0]):
            Shot(PAINTING, "clouds drift", **{name: value})


@pytest.mark.parametrize(
    "painting",
    [
        PAINTING.astype(np.float32),
        PAINTING[..., 0],
        np.zeros((20, 30, 4), np.uint8),
        np.zeros((15, 30, 3), np.uint8),
        np.zeros((30, 15, 3), np.uint8),
    ],
    ids=["float", "grey", "alpha", "low", "narrow"],
)
def test_paintings_of_another_kind(painting):
    with pytest.raises(ImageError, match="painting"):
        Shot(painting, "clouds drift")


def test_prompts():
    assert Shot(PAINTING, "é" * MAX_PROMPT).prompt == "é" * MAX_PROMPT
    for prompt, words in (("", "empty"), (" \n\t", "empty"), ("a" * (MAX_PROMPT + 1), "2001")):
        with pytest.raises(PromptError, match=words):
            Shot(PAINTING, prompt)


def test_blend():
    assert Shot(PAINTING, "clouds drift", blend="lerp").blend == "lerp"
    with pytest.raises(SettingError, match="'mix'"):
        Shot(PAINTING, "clouds drift", blend="mix")


def test_a_mask_has_the_paintings_size():
    fits = Controls(mask=np.ones((20, 30), np.float32))
    assert Shot(PAINTING, "clouds drift", controls=fits).controls.mask is fits.mask
    with pytest.raises(ImageError, match="30×20, got 20×30"):
        Shot(PAINTING, "clouds drift", controls=Controls(mask=np.ones((30, 20), np.float32)))


@pytest.mark.parametrize("strength", [-0.01, 1.01, 2, math.nan])
def test_strength_outside_its_range(strength):
    with pytest.raises(SettingError, match="strength"):
        Controls(strength=strength)


@pytest.mark.parametrize("strength", [None, 0, 0.5, 1])
def test_strength_inside_its_range(strength):
    assert Controls(strength=strength).strength == strength


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_arrows_stay_inside(place, value):
    assert Arrow(0, 1, 1, 0) == Arrow(0.0, 1.0, 1.0, 0.0)
    ends = [0.5] * 4
    ends[place] = value
    with pytest.raises(SettingError, match="arrow"):
        Arrow(*ends)


def test_frozen_and_seen_as_its_proxy():
    shot = Shot(PAINTING, "clouds drift", seed=7, controls=Controls(strength=0.3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        shot.seed = 8
    other = shot.seen_as(np.zeros_like(PAINTING))
    assert other.painting.max() == 0 and shot.painting.min() == 120
    assert (other.seed, other.controls) == (7, shot.controls)
