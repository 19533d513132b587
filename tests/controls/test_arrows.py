"""Arrows to fields, against closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from vivant.controls import arrows
from vivant.errors import SettingError
from vivant.shot import Arrow

SIZE = (64, 48)


@dataclass(frozen=True)
class Fast(Arrow):
    """An arrow with a speed of its own."""

    speed: float = 1.0


def at(flow: np.ndarray, x: int, y: int) -> np.ndarray:
    return flow[y, x].astype(np.float64)


def test_one_arrow_is_the_papers_gaussian() -> None:
    flow = arrows.field([Arrow(0.25, 0.5, 0.5, 0.25)], SIZE, threshold=0)
    y, x = np.mgrid[0:48, 0:64] + 0.5
    sigma = 170 / 512 * np.sqrt(64 * 48)
    weight = np.exp(-((x - 16) ** 2 + (y - 24) ** 2) / sigma**2)
    np.testing.assert_allclose(flow, weight[..., None] * [16, -12], atol=1e-5)


def test_the_threshold_bounds_the_reach() -> None:
    flow = arrows.field([Arrow(0.5, 0.5, 0.6, 0.5)], (100, 100), sigma=0.1)
    moved = np.hypot(*np.moveaxis(flow, -1, 0)) > 0
    y, x = np.mgrid[0:100, 0:100] + 0.5
    radius = 0.1 * 100 * np.sqrt(np.log(1 / 0.05))
    assert np.array_equal(moved, np.hypot(x - 50, y - 50) < radius)


def test_a_slow_arrow_beside_a_fast_one_is_heard() -> None:
    flow = arrows.field([Arrow(0.1, 0.5, 0.9, 0.5), Arrow(0.8, 0.5, 0.81, 0.5)], (100, 100), sigma=0.2)
    assert flow[50, 80, 0] == pytest.approx(1, abs=0.05) and flow[56, 80, 0] > 0


def test_the_sum_as_printed_adds_arrows_up() -> None:
    starts, ways = np.array([[32.5, 24.5]] * 2), np.array([[4.0, 0.0]] * 2)
    assert at(arrows.dense(starts, ways, SIZE, shared=False), 32, 24) == pytest.approx([8, 0])
    assert at(arrows.dense(starts, ways, SIZE), 32, 24) == pytest.approx([4, 0])


def test_the_field_passes_through_every_arrow() -> None:
    told = [Arrow(16.5 / 64, 24.5 / 48, 0.5, 0.5), Arrow(40.5 / 64, 10.5 / 48, 40.5 / 64, 0.9)]
    flow = arrows.field(told, SIZE)
    for arrow in told:
        way = [(arrow.x1 - arrow.x0) * 64, (arrow.y1 - arrow.y0) * 48]
        assert at(flow, int(arrow.x0 * 64), int(arrow.y0 * 48)) == pytest.approx(way, abs=1e-2)


def test_a_zero_arrow_pins_its_place() -> None:
    moving, pin = Arrow(0.3, 0.5, 0.6, 0.5), Arrow(32.5 / 64, 24.5 / 48, 32.5 / 64, 24.5 / 48)
    alone, both = arrows.field([moving], SIZE), arrows.field([moving, pin], SIZE)
    assert np.hypot(*at(alone, 32, 24)) > 1
    assert at(both, 32, 24).tolist() == [0, 0]
    assert np.hypot(*at(both, 19, 24)) > 10


def test_speed_is_a_factor_on_the_way() -> None:
    slow, fast = (arrows.sparse([Fast(0.2, 0.5, 0.4, 0.5, speed=s)], SIZE)[1] for s in (0.5, 2.0))
    np.testing.assert_allclose(fast, 4 * slow)
    for bad in (0.0, -1.0, 11.0, float("nan")):
        with pytest.raises(SettingError, match="speed"):
            arrows.sparse([Fast(0.2, 0.5, 0.4, 0.5, speed=bad)], SIZE)


def test_the_field_is_the_same_at_every_size() -> None:
    told = [Arrow(0.2, 0.3, 0.5, 0.4), Arrow(0.8, 0.8, 0.8, 0.8)]
    small, large = arrows.field(told, (64, 64)), arrows.field(told, (256, 256))
    difference = np.abs(arrows.resized(large, (64, 64)) - small)
    assert np.quantile(difference, 0.99) < 0.15  # of a way of 19 pixels; the threshold's edge moves by a pixel


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ([Arrow(0.5, 0.5, 0.7, 0.5), Arrow(0.505, 0.5, 0.3, 0.5)], "opposite ways"),
        ([Arrow(0.5, 0.5, 0.7, 0.5), Arrow(0.5, 0.5, 0.5, 0.5)], "one moves and one pins"),
    ],
)
def test_contradictions_are_one_line(pair: list[Arrow], message: str) -> None:
    with pytest.raises(SettingError, match=message) as raised:
        arrows.field(pair, SIZE)
    assert "\n" not in str(raised.value) and "0.5,0.5" in str(raised.value)


def test_what_agrees_or_lies_apart_is_no_contradiction() -> None:
    arrows.check([Arrow(0.5, 0.5, 0.7, 0.5), Arrow(0.5, 0.5, 0.7, 0.6), Arrow(0.6, 0.5, 0.3, 0.5)])


def test_texts() -> None:
    assert arrows.parse("0.2,0.3:0.5,0.3") == Arrow(0.2, 0.3, 0.5, 0.3)
    assert arrows.parse(" .2,0.3 ") == Arrow(0.2, 0.3, 0.2, 0.3)
    assert [arrows.said(arrows.parse(t)) for t in ("0.2,0.3:0.5,0.3", "0.2,0.3")] == ["0.2,0.3:0.5,0.3", "0.2,0.3"]
    assert arrows.said(Fast(0.2, 0.3, 0.5, 0.3, speed=2)) == "0.2,0.3:0.5,0.3*2"
    for bad in ("", "0.2", "0.2,0.3:0.5", "a,b:c,d", "0.2,0.3:0.5,0.3x2", "0.2,0.3,0.5,0.3"):
        with pytest.raises(SettingError, match="expected an arrow like"):
            arrows.parse(bad)
    with pytest.raises(SettingError, match="inside the picture"):
        arrows.parse("0.2,0.3:1.5,0.3")


@pytest.mark.skipif("speed" not in Arrow.__dataclass_fields__, reason="arrows have no speed of their own yet")
def test_speeds_in_texts() -> None:
    assert arrows.speed(arrows.parse("0.2,0.3:0.5,0.3*2")) == 2
    with pytest.raises(SettingError, match="speed"):
        arrows.parse("0.2,0.3:0.5,0.3*0")


def test_strength_is_the_mean_length() -> None:
    fields = arrows.motion_fields(np.full((30, 40, 2), (3.0, 4.0), np.float32), 6)
    assert fields.shape == (5, 30, 40, 2)
    assert arrows.strength(fields) == pytest.approx(1 / 50 / 1e-5)  # a pixel a frame, of a diagonal of 50
    with pytest.raises(SettingError, match="at least 2 frames"):
        arrows.motion_fields(np.zeros((4, 4, 2), np.float32), 1)


def test_walking_back_a_turn_ends_where_it_should() -> None:
    size, angle = 65, 0.6
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) - 32
    turning = angle * np.stack([-y, x], -1)  # dx/dt = -angle·y: a turn by `angle` in the clip
    back = arrows.carried(turning, [0.0, 0.5, 1.0], substeps=256)
    assert not back[0].any()
    for k, time in ((1, 0.5), (2, 1.0)):
        cos, sin = np.cos(-angle * time), np.sin(-angle * time)
        exact = np.stack([cos * x - sin * y - x, sin * x + cos * y - y], -1)
        assert np.abs(back[k] - exact)[16:49, 16:49].max() < 0.05


def test_a_small_thing_arrives_where_nothing_else_moves() -> None:
    flow = np.zeros((24, 40, 2), np.float32)
    flow[10:14, 6:10] = (16.0, 4.0)
    back = arrows.carried(flow, [0.0, 0.5, 1.0])
    assert not back[0].any()
    np.testing.assert_allclose(back[1, 12:16, 14:18], np.broadcast_to([-8.0, -2.0], (4, 4, 2)), atol=1e-5)
    np.testing.assert_allclose(back[2, 14:18, 22:26], np.broadcast_to([-16.0, -4.0], (4, 4, 2)), atol=1e-5)
    assert not back[2, :, 30:].any() and not back[2, :8].any() and not back[2, 14:18, 14:20].any()
