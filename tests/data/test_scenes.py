"""The procedural scenes are what the prior learns from: their fields must say exactly what the caption's plan says."""

import numpy as np
import pytest

from vivant.data.captions import SUBJECTS, Motion
from vivant.data.fields import GRID, KEYS, compose, layer_motion
from vivant.data.scenes import sample


@pytest.mark.parametrize("seed", range(12))
def test_sample_is_complete_and_repeatable(seed):
    a, b = (sample(np.random.default_rng(seed)) for _ in range(2))
    assert a.picture.shape == (96, 96, 3) and a.picture.dtype == np.uint8
    assert a.field.shape == (KEYS, 3, GRID, GRID) and np.isfinite(a.field).all()
    assert (a.picture == b.picture).all() and (a.field == b.field).all() and a.caption == b.caption
    assert a.labels.max() < len(SUBJECTS)


def test_still_scenes_have_no_motion():
    for seed in range(20):
        scene = sample(np.random.default_rng(seed), still=True)
        assert scene.plan == {} and np.abs(scene.field).max() == 0


def test_motion_stays_in_the_named_layers():
    shares = []
    for seed in range(60):
        scene = sample(np.random.default_rng(seed), still=False)
        in_place = scene.plan and not set(scene.plan) & {"boat", "bird", "figure", "sun"}
        if in_place:
            named = np.isin(scene.labels, [SUBJECTS.index(s) for s in scene.plan])
            grid = named.reshape(GRID, 3, GRID, 3).mean((1, 3)) > 0
            energy = (scene.field**2).sum((0, 1))
            shares.append(energy[grid].sum() / (energy.sum() + 1e-12))
    assert len(shares) > 20 and np.mean(shares) > 0.97


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, -1.0), (-0.7071, 0.7071)])
def test_drift_goes_where_it_is_told(direction):
    ones = np.ones((GRID, GRID), np.float32)
    field = layer_motion(Motion("drift", direction, 0.6), 0.5, ones, ones, np.random.default_rng(0))
    # Backward displacement points to where the paint came from: against the motion, growing with time.
    assert np.allclose(np.sign(-field[-1, :2, 5, 5].round(4)), np.sign(direction))
    assert np.allclose(field[3, 0] * 2, field[7, 0])


def test_strength_scales_motion():
    ones = np.ones((GRID, GRID), np.float32)
    weak, strong = (
        layer_motion(Motion("sway", None, 0.6), s, ones, ones, np.random.default_rng(3)) for s in (0.2, 0.8)
    )
    assert np.abs(strong).sum() == pytest.approx(4 * np.abs(weak).sum(), rel=1e-3)


def test_nearer_layers_cover_farther_ones():
    far, near = np.ones((GRID, GRID), np.float32), np.zeros((GRID, GRID), np.float32)
    near[8:16] = 1
    moving = np.ones((KEYS, 3, GRID, GRID), np.float32)
    field = compose([(far, moving, False), (near, None, False)])
    assert (field[:, :, 8:16] == 0).all() and (field[:, :, 20:] == 1).all()


def test_what_travels_takes_its_outline_along():
    ones = np.ones((GRID, GRID), np.float32)
    boat = np.zeros((GRID, GRID), np.float32)
    boat[14:18, 4:8] = 1
    field = layer_motion(Motion("drift", (1.0, 0.0), 1.0), 1.0, ones, ones, np.random.default_rng(0))
    moved = compose([(ones, None, False), (boat, field, True)])[-1, 0]
    assert np.abs(moved[14:18, 4:8]).max() < 1e-3
    columns = np.flatnonzero(np.abs(moved[15]) > 0.05)
    assert columns.min() > 8
