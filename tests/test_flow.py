"""Flow measured while frames go by."""

import cv2
import numpy as np
import pytest

from vivant.flow import Measured


def texture() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(150, 200, 3)).astype(np.float32)
    return np.clip(128 + 300 * cv2.GaussianBlur(noise, (0, 0), 4), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("larger", [1, 3])
def test_the_motion_of_frames_that_pass_unchanged(larger: int) -> None:
    """Two pixels a frame of a picture whose diagonal is 250, at any size."""
    frames = [np.roll(texture(), 2 * i, 1) for i in range(4)]
    frames = [cv2.resize(frame, None, fx=larger, fy=larger, interpolation=cv2.INTER_NEAREST) for frame in frames]
    seen = Measured(frames)
    assert all(a is b for a, b in zip(seen, frames, strict=True))
    assert seen.percent == pytest.approx(100 * 2 / 250, rel=0.1)


def test_what_stands_still_or_is_one_frame_moves_nothing() -> None:
    for frames in ([texture()], [texture(), texture()], []):
        seen = Measured(frames)
        assert len(list(seen)) == len(frames) and seen.percent < 1e-6
