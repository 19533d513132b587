"""What a painting must keep, on clips made good and bad by a known amount."""

from itertools import pairwise

import numpy as np
import pytest

from tests.metrics import made
from vivant.errors import InputError
from vivant.metrics.functional import (
    brush_preservation,
    colour_drift,
    flicker,
    freeze_error,
    loop_seam,
    static_score,
)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return made.painting()


@pytest.fixture(scope="module")
def good(picture: np.ndarray) -> np.ndarray:
    return made.carried(picture, 6, 2.0)


def test_brushwork_carried_whole(picture: np.ndarray, good: np.ndarray) -> None:
    assert brush_preservation(np.stack([picture] * 3), picture) == 1
    assert brush_preservation(good, picture) > 0.95
    # Half a pixel a frame: what the two interpolations take is all that is missing.
    assert brush_preservation(made.carried(picture, 6, 0.5), picture) > 0.8


def test_brushwork_blurred_away(picture: np.ndarray, good: np.ndarray) -> None:
    found = [brush_preservation(made.blurred(good, sigma)[1:], picture) for sigma in (0, 0.7, 1, 2, 4)]
    assert all(a > b for a, b in pairwise(found)), found
    assert found[0] > 0.95 and found[2] < 0.8 and found[-1] < 0.3


def test_brushwork_painted_anew(picture: np.ndarray, good: np.ndarray) -> None:
    found = [brush_preservation(made.repainted(good, share)[1:], picture) for share in (0, 0.25, 0.5, 1)]
    assert all(a > b for a, b in pairwise(found)), found
    assert found[-1] < 0.35


def test_brushwork_of_another_picture_and_of_none(picture: np.ndarray) -> None:
    assert brush_preservation(made.painting(5)[None], picture) < 0.35
    flat = np.full_like(picture, 120)
    assert brush_preservation(np.stack([flat, flat]), flat) == 1


def test_brushwork_against_noise(picture: np.ndarray, good: np.ndarray) -> None:
    """Fine noise is not brushwork: it counts as paint that was not there."""
    found = [brush_preservation(made.noisy(good, n)[1:], picture) for n in (0, 15, 40)]
    assert found[0] > found[1] > found[2] and found[2] < 0.75


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_freeze_error_counts_steps(picture: np.ndarray, steps: int) -> None:
    region = made.left_half()
    frames = np.stack([picture] * 4)
    frames[:, region] = 0
    frames[2:, ~region] += np.uint8(steps)
    found = freeze_error(frames, picture, region)
    assert found.max == steps and found.mean == pytest.approx(steps / 2)


def test_freeze_error_of_one_pixel_and_of_no_mask(picture: np.ndarray) -> None:
    region = made.left_half()
    frames = np.stack([picture] * 2)
    frames[1, 3, -1, 0] -= 9
    found = freeze_error(frames, picture, region.astype(np.uint8) * 255)
    assert found.max == 9 and found.mean == pytest.approx(9 / (3 * 2 * (~region).sum()))
    assert np.isnan(freeze_error(frames, picture, np.ones_like(region))).all()
    # Grey is allowed to move: only black is frozen.
    assert np.isnan(freeze_error(frames, picture, np.full(region.shape, 0.1))).all()


def test_loop_seam(picture: np.ndarray) -> None:
    assert loop_seam(made.carried(picture, 8, 1, loop=True)) == pytest.approx(1, abs=0.05)
    assert loop_seam(made.carried(picture, 8, 1)) > 2
    assert loop_seam(np.stack([picture] * 3)) == 1
    with pytest.raises(InputError, match="3 frames"):
        loop_seam(np.stack([picture] * 2))


@pytest.mark.parametrize("shift", [(6, 0, 0), (0, 5, 0), (3, 4, 0), (2, 3, 6)])
def test_colour_drift_of_a_tint(picture: np.ndarray, shift: tuple[float, float, float]) -> None:
    frames = made.tinted(np.stack([picture] * 2), *shift)
    assert colour_drift(frames, picture) == pytest.approx(np.linalg.norm(shift), abs=0.25)


def test_colour_drift_does_not_see_motion(picture: np.ndarray) -> None:
    frames = np.stack([np.roll(picture, 5 * i, 1) for i in range(4)])
    assert colour_drift(frames, picture) < 1e-5
    faded = (0.5 * frames + 64).astype(np.uint8)
    assert colour_drift(faded, picture) > 4


def test_flicker(picture: np.ndarray) -> None:
    still = np.stack([picture] * 6)
    assert flicker(still) == 0
    for a in (1, 5, 20):
        assert flicker(made.swinging(still, a)) == pytest.approx(a, abs=1e-4)
    fade = np.stack([np.full_like(picture, 100 + 4 * i) for i in range(6)])
    assert flicker(fade) == 0
    moving = made.carried(picture, 6, 2)
    assert flicker(moving) < 1 < flicker(made.swinging(moving, 5))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_static_score_is_the_still_share(picture: np.ndarray, share: float) -> None:
    frames = made.carried(picture, 5, 1.5, region=made.left_half(share))
    assert static_score(frames) == pytest.approx(1 - share, abs=0.08)


def test_static_score_at_its_ends(picture: np.ndarray, good: np.ndarray) -> None:
    assert static_score(np.stack([picture] * 3)) == 1
    assert static_score(good) < 0.02
    assert static_score(made.swinging(np.stack([picture] * 4), 10)) < 0.05


def test_paintings_of_another_size(picture: np.ndarray, good: np.ndarray) -> None:
    import cv2

    large = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    assert brush_preservation(good, large) == pytest.approx(brush_preservation(good, picture), abs=0.01)
    for function in (brush_preservation, colour_drift):
        with pytest.raises(InputError, match="shape"):
            function(good, picture[:, :90])
        with pytest.raises(InputError, match="uint8"):
            function(good.astype(np.float32), picture)
    with pytest.raises(InputError, match="mask"):
        freeze_error(good, picture, np.zeros((10, 10, 3)))
