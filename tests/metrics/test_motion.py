"""Flow metrics on clips whose motion is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vivant.flow import flow
from vivant.metrics.motion import activity, direction_error, inside_share, loop_seam, psnr


@pytest.fixture
def texture():
    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.random((96, 128, 3)), (2, 2, 0))
    return ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)


def test_flow_of_a_shift(texture):
    found = flow(texture, np.roll(texture, (2, 3), (0, 1)))[20:-20, 20:-20]
    assert np.allclose(np.median(found.reshape(-1, 2), 0), (3, 2), atol=0.3)


def test_activity_and_inside_share(texture):
    moved = texture.copy()
    moved[:48] = np.roll(texture[:48], 3, 1)
    region = np.zeros((96, 128), bool)
    region[:50] = True
    energy, mean, _ = activity([texture, moved, moved])
    assert inside_share(energy, region) > 0.9
    assert direction_error(mean, region, (1, 0)) < 10 and direction_error(mean, region, (-1, 0)) > 170


def test_nothing_moved(texture):
    energy, _, light = activity([texture, texture])
    assert energy.max() < 1e-3 and light.max() == 0
    assert inside_share(np.zeros((4, 4)), np.ones((4, 4), bool)) == 0
    assert direction_error(np.zeros((4, 4, 2)), np.ones((4, 4), bool), (1, 0)) == 180


def test_psnr_closed_form():
    a = np.zeros((8, 8, 3), np.uint8)
    assert psnr(a, a) == 99
    assert psnr(a, a + 5) == pytest.approx(20 * np.log10(255 / 5))


def test_loop_seam_of_known_clips() -> None:
    def at(value: int) -> np.ndarray:
        return np.full((8, 8, 3), value, np.uint8)

    assert loop_seam([at(0), at(10), at(20), at(10)]) == 1.0
    assert loop_seam([at(0), at(10), at(20), at(30), at(40)]) == 4.0
    assert loop_seam([at(5)] * 4) == 1.0
    assert loop_seam([at(5), at(5), at(5), at(9)]) == float("inf")
    with pytest.raises(ValueError, match="3 frames"):
        loop_seam([at(0)] * 2)
