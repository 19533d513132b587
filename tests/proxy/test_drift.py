"""A proxy of the same scene is near, another scene is far, other colours are told apart from another structure."""

import numpy as np
import pytest

from vivant.data.scenes import sample
from vivant.proxy.drift import COLOUR, STRANGER, STRUCTURE, drift
from vivant.proxy.embedded import embedded


@pytest.fixture(scope="module")
def paintings() -> list[np.ndarray]:
    return [sample(np.random.default_rng([9, i]), 160, still=False).picture[:120, :120] for i in range(6)]


def test_the_painting_itself_is_at_no_distance(paintings: list[np.ndarray]) -> None:
    far = drift(paintings[0], paintings[0])
    assert far.structure == pytest.approx(0, abs=1e-6) and far.colour == 0 and far.warning is None


def test_renderings_are_near_and_other_pictures_far(paintings: list[np.ndarray]) -> None:
    near = [drift(p, embedded(p)) for p in paintings]
    assert max(n.structure for n in near) < STRUCTURE and all(n.warning is None for n in near)
    others = [drift(a, b).structure for i, a in enumerate(paintings) for b in paintings[i + 1 :]]
    assert np.median(others) > STRANGER
    assert np.median(others) > 4 * max(n.structure for n in near)


def test_other_colours_are_named_as_such(paintings: list[np.ndarray]) -> None:
    turned = np.ascontiguousarray(paintings[0][..., ::-1])
    red = np.clip(paintings[0].astype(int) + np.array((90, -40, -60)), 0, 255).astype(np.uint8)
    assert drift(paintings[0], red).colour > COLOUR
    far = drift(paintings[0], red)
    assert far.warning and ("colour" in far.warning or "structure" in far.warning)
    assert drift(paintings[0], turned).structure < STRANGER


def test_a_colour_distance_in_closed_form() -> None:
    """Two even greys: ΔE is the difference of their lightness."""
    a, b = (np.full((64, 64, 3), v, np.uint8) for v in (100, 160))
    y = [((v / 255 + 0.055) / 1.055) ** 2.4 for v in (100, 160)]
    lightness = [116 * v ** (1 / 3) - 16 for v in y]
    far = drift(a, b)
    assert far.colour == pytest.approx(lightness[1] - lightness[0], abs=0.2)
    assert far.structure == 0, "nothing on either: no structure to lose"
