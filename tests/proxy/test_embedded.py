"""The offline proxy keeps the painting's structure and size, and is cleaner than it."""

import cv2
import numpy as np

from vivant.data.scenes import sample
from vivant.proxy.embedded import embedded


def test_same_scene_cleaner_surfaces():
    picture = sample(np.random.default_rng(3), 192).picture
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
    proxy = embedded(noisy)
    assert proxy.shape == noisy.shape and proxy.dtype == np.uint8
    blur = [cv2.GaussianBlur(i.astype(np.float32), (0, 0), 6) for i in (noisy, proxy)]
    assert np.corrcoef(blur[0].ravel(), blur[1].ravel())[0, 1] > 0.95
    rough = [cv2.Laplacian(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std() for i in (noisy, proxy)]
    assert rough[1] < 0.7 * rough[0]


def test_odd_sizes_and_repeatable():
    picture = sample(np.random.default_rng(4), 96).picture[:61, :95]
    assert embedded(picture).shape == (61, 95, 3) and (embedded(picture) == embedded(picture)).all()
