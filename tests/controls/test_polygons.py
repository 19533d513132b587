"""Filled polygons against areas in closed form and OpenCV's own filling."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivant.controls.polygons import filled, polygons_of
from vivant.errors import ImageError

SQUARE = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]
fractions = st.floats(0, 1, allow_nan=False)


def ring(x, y, radius, count=720):
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return list(zip(x + radius * np.cos(turn), y + radius * np.sin(turn), strict=True))


def test_pixels_are_exact_where_edges_lie_between_them():
    out = filled([[SQUARE]], (40, 20))
    expected = np.zeros((20, 40), np.float32)
    expected[5:15, 10:30] = 1
    assert np.array_equal(out, expected)


@given(st.tuples(fractions, fractions, fractions, fractions))
@settings(max_examples=60, deadline=None)
def test_boxes_cover_their_own_area(corners):
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    out = filled([[[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]]], (30, 20))
    assert out.sum() == pytest.approx((x1 - x0) * (y1 - y0) * 600, abs=30 / 16 + 0.1)
    assert out.min() >= 0 and out.max() <= 1


@given(st.lists(st.tuples(fractions, fractions), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_triangles_cover_half_the_cross_product(points):
    (ax, ay), (bx, by), (cx, cy) = points
    area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2 * 50 * 50
    assert filled([[points]], (50, 50)).sum() == pytest.approx(area, abs=50 / 8)


@given(st.lists(st.tuples(fractions, fractions), min_size=3, max_size=9))
@settings(max_examples=60, deadline=None)
def test_agrees_with_opencv_away_from_outlines(points):
    ours = filled([[points]], (64, 48))
    theirs, edge = np.zeros((48, 64), np.uint8), np.zeros((48, 64), np.uint8)
    corners = np.rint((np.array(points) * (64, 48) - 0.5) * 256).astype(np.int32)
    cv2.fillPoly(theirs, [corners], 1, cv2.LINE_8, 8)
    cv2.polylines(edge, [corners], True, 1, 3, cv2.LINE_8, 8)
    away = edge == 0
    assert np.array_equal(ours[away] > 0.5, theirs[away] > 0) and set(np.unique(ours[away])) <= {0.0, 1.0}


def test_a_disc_and_a_ring_have_their_areas():
    assert filled([[ring(0.5, 0.5, 0.3)]], (200, 200)).sum() == pytest.approx(np.pi * 60**2, rel=1e-4)
    hollow = filled([[ring(0.5, 0.5, 0.3), ring(0.5, 0.5, 0.1)]], (200, 200))
    assert hollow.sum() == pytest.approx(np.pi * (60**2 - 20**2), rel=1e-4) and hollow[100, 100] == 0


def test_shapes_unite_and_do_not_cancel():
    moved = [(x + 0.2, y) for x, y in SQUARE]
    both = filled([[SQUARE], [moved]], (100, 100))
    assert both.sum() == pytest.approx(70 * 50) and both.max() == 1
    # Two that adjoin leave no line between them, even inside a pixel.
    halves = filled([[[(0, 0), (0.333, 0), (0.333, 1), (0, 1)]], [[(0.333, 0), (1, 0), (1, 1), (0.333, 1)]]], (10, 10))
    assert halves.min() == 1


def test_nothing_lies_outside():
    out = filled([[ring(0.5, 0.5, 0.3)]], (300, 300))
    y, x = np.mgrid[0:300, 0:300] + 0.5
    assert np.all(out[np.hypot(x - 150, y - 150) > 92] == 0)
    assert filled([], (10, 10)).sum() == 0


def test_json_forms_say_the_same():
    plain = filled(polygons_of([list(p) for p in SQUARE]), (80, 80))
    pixels = [[40 * x, 20 * y] for x, y in SQUARE]
    shape = {"label": "boat", "points": [pixels[0], pixels[2]], "shape_type": "rectangle"}
    forms = [
        ([[list(p) for p in SQUARE]], ""),
        ({"polygons": [pixels], "size": [40, 20]}, ""),
        ({"polygons": {"boat": pixels, "sky": [[0, 0], [1, 0], [1, 1]]}, "size": [40, 20]}, "boat"),
        ({"shapes": [shape], "imageWidth": 40, "imageHeight": 20}, "boat"),
        ({"shapes": [{**shape, "points": pixels, "shape_type": "polygon"}], "imageWidth": 40, "imageHeight": 20}, ""),
    ]
    for data, label in forms:
        assert np.array_equal(filled(polygons_of(data, label), (80, 80)), plain), data
    holed = polygons_of([[ring(0.5, 0.5, 0.4), ring(0.5, 0.5, 0.2)]])
    assert filled(holed, (100, 100)).sum() == pytest.approx(np.pi * (40**2 - 20**2), rel=1e-3)


@pytest.mark.parametrize(
    ("data", "label", "said"),
    [
        ([], "", "at least one polygon"),
        ({}, "", "polygons"),
        ({"polygons": []}, "", "at least one polygon"),
        ({"polygons": [[0, 0], [1, 1]], "size": [0, 4]}, "", "at least one polygon"),
        ([[1, 2], "x"], "", "expected polygons such as"),
        ([[[0, 0], [1, 0], [1, 1]]], "boat", "with labels"),
        ({"polygons": {"sky": [[0, 0], [1, 0], [1, 1]]}}, "boat", "found sky"),
        ({"shapes": [{"label": "a"}], "imageWidth": 4, "imageHeight": 4}, "", "expected polygons such as"),
    ],
)
def test_json_that_is_no_polygon_is_refused(data, label, said):
    with pytest.raises(ImageError, match=said):
        polygons_of(data, label)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([(0, 0), (1, 1)], "three points"),
        ([(0, 0), (1, 0), (1.2, 0.5)], "inside the picture"),
        ([(0, 0), (1, 0), (float("nan"), 0.5)], "inside the picture"),
    ],
)
def test_polygons_that_cannot_be_filled_are_refused(points, said):
    with pytest.raises(ImageError, match=said):
        filled([[points]], (20, 20))


@pytest.mark.parametrize("data", [[1, 2], [[[]]], 5, {"polygons": None}, {"polygons": [[1, "x"]], "size": None}])
def test_what_came_is_said_in_words(data):
    with pytest.raises(ImageError, match="expected polygons such as") as found:
        polygons_of(data)
    assert "Error" not in str(found.value) and "NoneType" not in str(found.value)
