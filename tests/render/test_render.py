"""Freezing is exact, colour is anchored, strokes survive the way to native size."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from vivant.render.colour import anchor
from vivant.render.freeze import feather, freeze
from vivant.render.native import native


def texture(h, w, seed=0, grain=1.0):
    noise = gaussian_filter(np.random.default_rng(seed).random((h, w, 3)), (grain, grain, 0))
    return ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)


@given(st.integers(16, 60), st.integers(16, 60), st.integers(0, 2**16))
def test_frozen_means_frozen(h, w, seed):
    rng = np.random.default_rng(seed)
    painting, frame = rng.integers(0, 256, (2, h, w, 3), np.uint8)
    mask = np.zeros((h, w), np.float32)
    mask[h // 4 :, w // 3 :] = 1
    out = freeze(frame, painting, feather(mask, 4))
    assert (out[mask == 0] == painting[mask == 0]).all()
    assert (out[-1, -1] == frame[-1, -1]).all()


def test_colour_drift_is_taken_out():
    painting = texture(128, 160, grain=3)
    drifted = np.clip(painting.astype(int) + np.array([14, -9, 6]), 0, 255).astype(np.uint8)
    fixed = anchor(drifted, painting, np.ones((128, 160), np.float32))
    assert np.abs(fixed.astype(int) - painting)[10:-10, 10:-10].mean() < 2
    assert (anchor(drifted, painting, np.zeros((128, 160), np.float32)) == drifted).all()


def test_strokes_are_carried():
    painting = texture(256, 320, grain=0.8)
    base = texture(256, 320, 1, grain=9)
    painting = np.clip(0.35 * painting + 0.65 * base, 0, 255).astype(np.uint8)
    small = cv2.resize(painting, (80, 64), interpolation=cv2.INTER_AREA)
    moved_small = np.roll(small, 2, 1)
    frames = [f for f, _ in native([small, moved_small], painting)]
    want = np.roll(painting, 8, 1)

    def fine(image):
        return (image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), 2).astype(np.float32))[
            40:-40, 60:-60
        ].ravel()

    plain = cv2.resize(moved_small, (320, 256), interpolation=cv2.INTER_CUBIC)
    assert np.corrcoef(fine(frames[0]), fine(painting))[0, 1] > 0.9
    carried, upsampled = (np.corrcoef(fine(i), fine(want))[0, 1] for i in (frames[1], plain))
    assert carried > 0.5 and carried > upsampled + 0.2
