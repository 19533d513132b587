"""The painter: what is still is the painting to the bit, what moves leaves no ghost."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivant.priors.miniature import paint
from vivant.priors.miniature.around import Lifted

KEYS, GRID = 8, 32


@pytest.fixture(autouse=True)
def one_thread():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


def texture(height, width, seed=0, level=150.0, contrast=60.0, grain=2.5):
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), grain)
    return np.clip(level + contrast * noise / noise.std() / 2, 0, 255).astype(np.uint8)


def ramp(dx=0.0, dy=0.0, where=None, gain=0.0):
    """A steady drift of `where` (GRID, GRID), reaching (dx, dy, gain) at the end of the clip."""
    where = np.ones((GRID, GRID), np.float32) if where is None else where
    steps = (np.arange(KEYS, dtype=np.float32) + 1) / KEYS
    state = np.stack([dx * where, dy * where, gain * where]).astype(np.float32)
    return np.ascontiguousarray(steps[:, None, None, None] * state)


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int))


def grid_of(mask):
    return cv2.resize(mask.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)


def test_no_field_is_the_painting():
    picture = texture(90, 130)
    clip = list(paint.frames(picture, np.zeros((KEYS, 3, GRID, GRID), np.float32), 9))
    assert len(clip) == 9 and all((f == picture).all() for f in clip)


def test_the_first_frame_is_the_painting():
    picture = texture(90, 130)
    assert (next(paint.frames(picture, ramp(0.1, 0.05, gain=0.3), 5)) == picture).all()


def test_tiny_motion_stays_still():
    picture = texture(90, 130)
    assert all((f == picture).all() for f in paint.frames(picture, ramp(0.0007, -0.0005), 5))


def test_a_translation_is_a_translation():
    picture = texture(160, 240)
    last = list(paint.frames(picture, ramp(-0.05, 0.04), 6))[-1]
    shift = np.array([[1, 0, -0.05 * 240], [0, 1, 0.04 * 160]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    want = cv2.warpAffine(picture, shift, (240, 160), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    assert difference(last, want)[24:-24, 24:-24].mean() < 3


def boat():
    """A dark disc on flat water, and the field that carries it (backward: it is drawn where it arrives)."""
    height, width, radius = 192, 256, 20
    y, x = np.mgrid[0:height, 0:width]
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = (150, 120, 60)
    picture[np.hypot(x - 90, y - 96) < radius] = (30, 25, 20)
    field = np.zeros((KEYS, 3, GRID, GRID), np.float32)
    for k in range(KEYS):
        way = 0.35 * (k + 1) / KEYS
        place = np.hypot(x - 90 - way * width, y - 96) < radius + 10
        field[k, 0] = -way * (grid_of(place) > 0.1)
    return picture, field


def test_a_boat_leaves_no_ghost():
    picture, field = boat()
    last = list(paint.frames(picture, field, 12))[-1]
    water = np.array([150, 120, 60])
    y, x = np.mgrid[0:192, 0:256]
    assert difference(last, water)[np.hypot(x - 90, y - 96) < 30].max() < 12
    there = np.hypot(x - 90 - 0.35 * 256, y - 96)
    assert difference(last, picture[96, 90])[there < 14].mean() < 12
    assert difference(last, water)[(there > 32)].max() < 12


def test_a_boat_keeps_its_size_on_its_way():
    picture, field = boat()
    for frame in list(paint.frames(picture, field, 12))[1:]:
        assert 0.75 < (frame[..., 0] < 90).sum() / (picture[..., 0] < 90).sum() < 1.35


def lifted():
    """A dark boat on textured water, its outline, and the whole picture with the boat half a picture further on."""
    picture, outline = texture(192, 256, level=150, contrast=20), np.zeros((192, 256), np.float32)
    cv2.ellipse(outline, (70, 96), (26, 14), 0, 0, 360, 1.0, -1)
    picture[outline > 0] = texture(192, 256, 3, level=40, contrast=20)[outline > 0]
    return picture, outline


@pytest.mark.parametrize("window", [None, 20])
def test_a_thing_goes_exactly_as_far_as_it_is_told(window):
    """To the pixel, with a mount around the picture and without; behind it lies water again."""
    picture, outline = lifted()
    way = np.array([0.375, -0.125], np.float32)  # 96 and -24 pixels
    if window:
        rims = [window] * 4
        picture = cv2.copyMakeBorder(picture, *rims, cv2.BORDER_CONSTANT, value=(240, 235, 225))
        outline = cv2.copyMakeBorder(outline, *rims, cv2.BORDER_CONSTANT, value=0)
        way = way * np.array([256 / picture.shape[1], 192 / picture.shape[0]], np.float32)
    nothing = np.zeros((GRID, GRID), np.float32)
    clip = list(paint.frames(picture, ramp(), 5, nothing, nothing, [Lifted(outline, way)]))
    assert (clip[0] == picture).all()
    core = cv2.erode(outline, np.ones((7, 7))) > 0
    for i, frame in enumerate(clip):
        there = np.roll(frame, (6 * i, -24 * i), (0, 1))
        assert difference(there, picture)[core].mean() < 2
    y, x = np.nonzero(core)
    assert clip[-1][y, x].min() > 80, "no ghost"
    far = cv2.dilate(np.max([np.roll(outline, (-6 * i, 24 * i), (0, 1)) for i in range(5)], 0), np.ones((41, 41))) == 0
    assert all((frame[far] == picture[far]).all() for frame in clip)


def test_a_strip_with_a_rim_is_no_picture_in_a_frame():
    strip = np.full((1000, 16, 3), 240, np.uint8)
    strip[2:-2, 2:-2] = texture(996, 12)
    assert paint.mount(strip) == (0, 0, 0, 0)
    assert len(list(paint.frames(strip, ramp(0.1), 3))) == 3


def test_a_thing_comes_back_in_a_loop_and_arrives_where_it_was_painted():
    picture, outline = lifted()
    nothing = np.zeros((GRID, GRID), np.float32)
    things = [Lifted(outline, np.array([0.375, 0], np.float32))]
    loop = list(paint.frames(picture, ramp(), 8, nothing, nothing, things, loop=True))
    dark = [float(np.nonzero(f[..., 0] < 90)[1].mean()) for f in loop]
    assert np.argmax(dark) == 4 and dark[4] - dark[0] == pytest.approx(96, abs=3)
    assert dark[1] == pytest.approx(dark[7], abs=1)
    arriving = list(paint.frames(picture, ramp(), 5, nothing, nothing, things, arrive=True))
    assert (arriving[-1] == picture).all()
    assert float(np.nonzero(arriving[0][..., 0] < 90)[1].mean()) < dark[0] - 40


def test_a_mast_stays_when_the_sky_drifts_behind_it():
    """Two pixels wide, far finer than the field and its support."""
    picture = cv2.GaussianBlur(texture(200, 280, level=190, contrast=25), (0, 0), 3)
    picture[140:] = texture(200, 280, 1, level=45, contrast=15)[140:]
    picture[100:140, 140:142] = 30
    sky = 1 - np.repeat((np.arange(GRID) >= 22)[:, None], GRID, 1).astype(np.float32)
    for frame in paint.frames(picture, ramp(0.08, 0, sky), 4, sky, 0 * sky):
        assert (frame[104:136, 140:142].max(2) < 70).mean() > 0.9


def tower():
    """A bright textured sky with a dark tower before it; the field moves everything but the tower."""
    height, width = 200, 280
    picture = texture(height, width, level=190, contrast=30)
    still = np.zeros((height, width), bool)
    still[40:, 120:160] = True
    still[150:] = True
    picture[still] = texture(height, width, 1, level=45, contrast=15)[still]
    return picture, still


@pytest.mark.parametrize("way", [0.12, -0.12])
def test_the_sky_drifts_behind_a_tower(way):
    picture, still = tower()
    field = ramp(way, 0, 1 - (grid_of(still) > 0.5))
    clip = list(paint.frames(picture, field, 8))
    inside = cv2.erode(still.astype(np.uint8), np.ones((9, 9))) > 0
    sky = cv2.dilate(still.astype(np.uint8), np.ones((9, 9))) == 0
    for frame in clip:
        assert (frame[inside] == picture[inside]).all()
        assert frame[sky].min() > 110, "a dark ghost in the sky"
    assert difference(clip[-1], picture)[sky].mean() > 8


@pytest.mark.parametrize("way", [(0.1, 0.0), (-0.06, 0.08)])
def test_a_flat_mount_is_left_alone(way):
    picture = texture(180, 240)
    border = np.ones((180, 240), bool)
    border[14:-14, 18:-18] = False
    picture[border] = (222, 216, 200)
    for frame in paint.frames(picture, ramp(*way), 5):
        assert (frame[border] == picture[border]).all()


def test_what_is_still_is_the_painting():
    picture = texture(160, 240)
    moving = np.zeros((GRID, GRID), np.float32)
    moving[:12] = 1
    clip = list(paint.frames(picture, ramp(0.06, 0.0, moving), 6))
    assert all((f[96:] == picture[96:]).all() for f in clip)
    assert difference(clip[-1], picture)[8:44].mean() > 5


def test_support_holds_the_rest():
    picture = texture(160, 240)
    support = np.zeros((GRID, GRID), np.float32)
    support[:, :12] = 1
    last = list(paint.frames(picture, ramp(0.06, 0.03), 4))[-1]
    held = list(paint.frames(picture, ramp(0.06, 0.03), 4, support))[-1]
    assert (held[:, 150:] == picture[:, 150:]).all()
    assert difference(held, last)[20:-20, 20:70].mean() < 2


def test_gain_flickers():
    picture = texture(100, 140, level=110, contrast=20)
    place = np.zeros((GRID, GRID), np.float32)
    place[8:24, 8:24] = 1
    wave = np.sin(np.arange(1, KEYS + 1) * 1.7).astype(np.float32) * 0.3
    field = np.zeros((KEYS, 3, GRID, GRID), np.float32)
    field[:, 2] = wave[:, None, None] * place
    clip = list(paint.frames(picture, field, KEYS + 1))
    light = np.array([f[40:60, 55:85].mean() for f in clip]) / picture[40:60, 55:85].mean() - 1
    assert np.abs(light[1:] - wave).max() < 0.05
    assert all((f[:10, :10] == picture[:10, :10]).all() for f in clip)


def test_motion_is_smooth_in_time():
    picture = texture(120, 160, grain=6)
    field = np.zeros((KEYS, 3, GRID, GRID), np.float32)
    field[:, 0] = (0.05 * np.sin(np.arange(1, KEYS + 1) * 0.9))[:, None, None]
    field[:, 1] = 0.02
    keys = [picture, *list(paint.frames(picture, field, KEYS + 1))[1:]]
    widest = max(difference(a, b).mean() for a, b in itertools.pairwise(keys))
    clip = list(paint.frames(picture, field, 6 * KEYS + 1))
    assert max(difference(a, b).mean() for a, b in itertools.pairwise(clip)) < 0.5 * widest


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(16, 200),
    width=st.integers(16, 200),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.0, 0.001, 0.02, 0.3, 2.0]),
    keys=st.integers(1, 8),
    grid=st.sampled_from([(32, 32), (8, 12), (3, 5)]),
    masks=st.integers(0, 2),
)
def test_any_size_any_field(height, width, seed, scale, keys, grid, masks):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    field = (scale * rng.normal(size=(keys, 3, *grid))).astype(np.float32)
    given_masks = [rng.random(grid).astype(np.float32) for _ in range(masks)]
    clip = list(paint.frames(picture, field, 3, *given_masks))
    assert len(clip) == 3 and all(f.shape == picture.shape and f.dtype == np.uint8 for f in clip)
    assert (clip[0] == picture).all()


def test_one_frame_and_none():
    picture = texture(40, 50)
    assert len(list(paint.frames(picture, ramp(0.1), 1))) == 1
    assert list(paint.frames(picture, ramp(0.1), 0)) == []
