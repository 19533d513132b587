"""Paint behind a thing that goes: taken from where the surround is alike, fitted in without a seam."""

import cv2
import numpy as np

from vivant.priors.miniature.behind import behind, from_where


def sea_and_sky() -> np.ndarray:
    """A sky that grows lighter downwards over a striped sea, the horizon at row 60 of 120."""
    rng = np.random.default_rng(0)
    out = np.zeros((120, 200, 3), np.float32)
    out[:60] = np.array([80, 120, 200]) + np.arange(60)[:, None, None]
    out[60:] = np.array([30, 70, 90]) + 25 * np.sin(np.arange(60) / 2)[:, None, None]
    return np.clip(out + rng.normal(0, 3, out.shape), 0, 255).astype(np.uint8)


def hole(rows: slice, columns: slice) -> np.ndarray:
    out = np.zeros((120, 200), bool)
    out[rows, columns] = True
    return out


def test_the_horizon_goes_through() -> None:
    """A black ship across the horizon is replaced by what was there, to the noise of the paint."""
    clean = sea_and_sky()
    where = hole(slice(40, 85), slice(80, 115))
    painting = clean.copy()
    painting[43:82, 83:112] = 0
    filled = behind(painting, where)
    off = np.abs(filled.astype(int) - clean)[where]
    assert off.mean() < 6 and np.quantile(off, 0.99) < 25
    assert np.array_equal(filled[~cv2.dilate(where.astype(np.uint8), np.ones((9, 9))).astype(bool)],
                          painting[~cv2.dilate(where.astype(np.uint8), np.ones((9, 9))).astype(bool)])  # fmt: skip


def test_light_that_changes_is_fitted() -> None:
    """Paint fetched from a darker side is brought to the tone of the hole's rim."""
    ramp = np.clip(np.linspace(60, 200, 200)[None, :, None] + 0 * np.zeros((120, 1, 3)), 0, 255).astype(np.uint8)
    where = hole(slice(50, 70), slice(90, 110))
    painting = ramp.copy()
    painting[53:67, 93:107] = 255
    assert np.abs(behind(painting, where).astype(int) - ramp)[53:67, 93:107].max() < 12


def test_nothing_is_fetched_from_another_hole() -> None:
    painting = sea_and_sky()
    first, second = hole(slice(20, 40), slice(20, 60)), hole(slice(20, 40), slice(110, 150))
    painting[first | second] = (255, 0, 0)
    lab = cv2.cvtColor(painting, cv2.COLOR_RGB2LAB).astype(np.float32)
    shift = from_where(lab, first, first | second)
    assert shift is not None and shift != (0, 0)
    rows, columns = np.nonzero(first)
    assert not (first | second)[rows + shift[1], columns + shift[0]].any()
    filled = behind(painting, first | second)
    assert (filled[first | second][:, 0] > 200).mean() < 0.02


def test_two_holes_that_fit_nowhere_lend_each_other_no_paint() -> None:
    painting = np.full((120, 200, 3), 128, np.uint8)
    bars = hole(slice(0, 120), slice(40, 70)) | hole(slice(0, 120), slice(130, 160))
    painting[bars] = (255, 0, 0)
    assert np.abs(behind(painting, bars).astype(int) - 128)[:, 44:66].max() < 10


def test_what_fits_nowhere_is_continued_and_no_hole_is_no_change() -> None:
    painting = sea_and_sky()
    wide = hole(slice(10, 110), slice(10, 190))
    assert from_where(painting.astype(np.float32), wide, wide) is None
    filled = behind(painting, wide)
    assert filled.shape == painting.shape and filled.std() > 1
    assert behind(painting, np.zeros((120, 200), bool)) is painting
    assert behind(painting, np.ones((120, 200), bool)) is painting
