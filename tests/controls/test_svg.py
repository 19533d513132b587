"""Drawings as polygons, against shapes whose points are known in closed form."""

import math

import numpy as np
import pytest

from vivant.controls.polygons import filled
from vivant.controls.svg import drawn
from vivant.errors import ImageError

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:i="http://www.inkscape.org/namespaces/inkscape" viewBox="0 0 100 100">'


def svg(inner, head=HEAD):
    return f"{head}{inner}</svg>"


def area(inner, size=200, **options):
    """The share of the drawing's square that is covered."""
    return float(filled(drawn(svg(inner), **options), (size, size)).mean())


def points(d):
    """The points of a path's first ring, in the drawing's units."""
    return 100 * np.array(drawn(svg(f'<path d="{d}"/>'))[0][0])


@pytest.mark.parametrize(
    ("inner", "share"),
    [
        ('<rect x="10" y="20" width="30" height="40"/>', 0.12),
        ('<circle cx="50" cy="50" r="30"/>', math.pi * 0.09),
        ('<ellipse cx="50" cy="50" rx="40" ry="20"/>', math.pi * 0.08),
        ('<polygon points="0,0 100,0 0,100"/>', 0.5),
        ('<polyline points="0 0 100 0 100 50"/>', 0.25),
        ('<path d="M0 0H100V50H0Z"/>', 0.5),
        ('<path d="m10,10 h20 v20 h-20 z m40,0 h20 v20 h-20 z"/>', 0.08),
        ('<path d="M10 10h80v80h-80zM30 30v40h40v-40z"/>', 0.48),
        ('<path d="M20 50 A30 30 0 0 1 80 50 Z"/>', math.pi * 0.045),
        ('<path d="M20 50a30 30 0 1060 0a30 30 0 10-60 0"/>', math.pi * 0.09),
        ('<rect x="10" y="10" width="40" height="40"/><rect x="30" y="10" width="40" height="40"/>', 0.24),
        ('<g transform="translate(10 20) scale(2)"><rect width="10" height="10"/></g>', 0.04),
        ('<rect x="30" y="30" width="40" height="40" transform="rotate(45 50 50)"/>', 0.16),
        ('<rect width="20" height="20" transform="matrix(2 0 0 1 5 5)"/>', 0.08),
        ('<rect x="10" y="10" width="20" height="20" transform="skewX(30)"/>', 0.04),
        ('<rect width="50" height="50" style="display: none"/><rect width="10" height="10"/>', 0.01),
        ('<g display="none"><rect width="50" height="50"/></g><rect width="10" height="10"/>', 0.01),
        ('<defs><rect width="50" height="50"/></defs><rect width="10" height="10"/>', 0.01),
    ],
)
def test_areas(inner, share):
    assert area(inner) == pytest.approx(share, abs=2e-3)


def test_curves_lie_on_their_curves():
    p = [np.array(v, float) for v in ((0, 0), (0, 100), (100, 100), (100, 0))]
    found = points("M0 0C0 100 100 100 100 0")
    t = np.linspace(0, 1, len(found))[:, None]
    exact = (1 - t) ** 3 * p[0] + 3 * t * (1 - t) ** 2 * p[1] + 3 * t**2 * (1 - t) * p[2] + t**3 * p[3]
    assert np.abs(found - exact).max() < 1e-9
    found = points("M0 0Q50 100 100 0")
    t = np.linspace(0, 1, len(found))[:, None]
    assert np.abs(found - ((1 - t) ** 2 * p[0] + 2 * t * (1 - t) * np.array([50, 100]) + t**2 * p[3])).max() < 1e-9
    # A smooth piece's first handle mirrors the last one's: these say the same.
    assert np.allclose(points("M0 0C0 20 20 20 20 0S40 -20 40 0"), points("M0 0C0 20 20 20 20 0C20 -20 40 -20 40 0"))
    assert np.allclose(points("M0 0Q10 20 20 0T40 0"), points("M0 0Q10 20 20 0Q30 -20 40 0"))
    assert np.allclose(points("M0 0c0 20 20 20 20 0s20 -20 20 0"), points("M0 0C0 20 20 20 20 0S40 -20 40 0"))


@pytest.mark.parametrize("large", [0, 1])
@pytest.mark.parametrize("sweep", [0, 1])
def test_arcs_lie_on_their_ellipse_and_take_the_way_told(large, sweep):
    """rx 30, ry 20, turned by 25 degrees, from (40, 50) to (60, 45)."""
    found = points(f"M40 50A30 20 25 {large} {sweep} 60 45")
    turn = math.radians(25)
    flat = (found @ np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])) / (30, 20)
    # All points are as far from one centre in the ellipse's own measure: the least squares circle is of radius 1.
    a = np.c_[2 * flat, np.ones(len(flat))]
    centre = np.linalg.lstsq(a, (flat**2).sum(1), rcond=None)[0]
    assert math.sqrt(centre[2] + centre[0] ** 2 + centre[1] ** 2) == pytest.approx(1, abs=1e-6)
    assert np.allclose(found[0], (40, 50)) and np.allclose(found[-1], (60, 45))
    angles = np.unwrap(np.arctan2(*(flat - centre[:2]).T[::-1]))
    assert (angles[-1] > angles[0]) == bool(sweep) and (abs(angles[-1] - angles[0]) > math.pi) == bool(large)


def test_one_thing_by_its_id_or_label():
    inner = (
        '<rect id="sky" width="100" height="50"/>'
        '<g i:label="boats"><rect x="10" y="60" width="10" height="10"/><rect x="40" y="60" width="10" height="10"/></g>'
    )
    assert area(inner, label="sky") == pytest.approx(0.5)
    assert area(inner, label="boats") == pytest.approx(0.02)
    with pytest.raises(ImageError, match=r"'sea' \(there are: sky, boats"):
        drawn(svg(inner), "sea")


def test_the_area_is_the_viewbox_or_the_size():
    head = '<svg viewBox="50 50 200 100">'
    assert drawn(svg('<polygon points="50,50 150,50 150,100"/>', head)) == [[[(0, 0), (0.5, 0), (0.5, 0.5)]]]
    head = '<svg width="200px" height="100px">'
    assert drawn(svg('<polygon points="0,0 100,0 100,50"/>', head)) == [[[(0, 0), (0.5, 0), (0.5, 0.5)]]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<svg", "damaged"),
        ("<html/>", "got <html>"),
        ("<svg/>", "viewBox"),
        ('<svg viewBox="0 0 0 5"/>', "viewBox"),
        (svg(""), "expected a shape"),
        (svg('<path d="M1"/>'), "path data"),
        (svg('<path d="M0 0A1 1 0 2 0 5 5"/>'), "arc"),
        (svg('<rect width="9" height="9" transform="bend(3)"/>'), "transform"),
        ('<!DOCTYPE s [<!ENTITY a "b">]><svg viewBox="0 0 9 9">&a;</svg>', "entities"),
    ],
)
def test_drawings_that_cannot_be_used(text, said):
    with pytest.raises(ImageError, match=said):
        drawn(text)
