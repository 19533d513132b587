"""Polygons as masks: filled with exact coverage, and read from the ways JSON has of writing them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from ..errors import ImageError

Ring: TypeAlias = Sequence[tuple[float, float]]
"""corners (x, y) in fractions of the picture"""
Shape: TypeAlias = Sequence[Ring]
"""rings of one thing: what lies inside an odd number of them belongs to it, so that a ring in a ring is a hole"""

FINE = 16
"""lines a pixel on which outlines are followed"""
UNIT = 4096
"""parts a pixel is divided into along a line: whole numbers add up to exactly nothing outside and exactly 1 inside"""
SLACK = 1e-3
"""how far outside the picture, in fractions, still counts as its border: drawing programs round"""


def filled(shapes: Sequence[Shape], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """Shapes united, as the share of each pixel of (width, height) they cover: float32 in [0, 1].

    Raises `ImageError` for fewer than three corners, numbers that are none, and corners outside the picture.
    """
    width, height = size
    out = np.zeros((height, width), np.float32)
    corners = [[_checked(ring) * (width, height) for ring in shape] for shape in shapes]
    everything = [ring for shape in corners for ring in shape]
    if not everything:
        return out
    # Only the part they lie in is worked on: a painting may have a hundred megapixels.
    low, high = np.min([r.min(0) for r in everything], 0), np.max([r.max(0) for r in everything], 0)
    x, y = np.minimum(np.floor(low).astype(int), (width - 1, height - 1))
    right, bottom = np.maximum(np.ceil(high).astype(int), (x + 1, y + 1))
    steps = np.zeros((bottom - y, right - x + 2), np.int32)
    spans = [_spans([ring - (x, y) for ring in shape], (bottom - y) * FINE) for shape in corners]
    lines, starts, ends = _united(*(np.concatenate(part) for part in zip(*spans, strict=True)))
    for at, sign in ((starts, 1), (ends, -1)):
        column = np.minimum(at.astype(int), right - x)
        part = np.rint((at - column) * UNIT).astype(np.int32)
        np.add.at(steps, (lines // FINE, column), sign * (UNIT - part))
        np.add.at(steps, (lines // FINE, column + 1), sign * part)
    out[y:bottom, x:right] = np.cumsum(steps, 1, out=steps)[:, :-2] / np.float32(UNIT * FINE)
    return out


def _checked(ring: Ring) -> np.ndarray:
    points = np.asarray(ring, np.float64)
    if points.ndim != 2 or points.shape[1:] != (2,) or len(points) < 3:
        raise ImageError(f"expected a polygon of at least three points [x, y], got {len(points)}")
    if not np.isfinite(points).all() or points.min() < -SLACK or points.max() > 1 + SLACK:
        worst = points[np.argmax(np.abs(np.nan_to_num(points, nan=9.0) - 0.5).max(1))]
        raise ImageError(
            f"expected a mask inside the picture (0..1), a point lies at {worst[0]:.3g}, {worst[1]:.3g}; move it inside"
        )
    return np.clip(points, 0, 1)


def _spans(rings: Sequence[np.ndarray], lines: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the lines, `FINE` a pixel, lie inside the rings: (line, from x, to x), x in pixels."""
    a = np.concatenate(rings)
    b = np.concatenate([np.roll(ring, -1, 0) for ring in rings])
    a, b = np.where((a[:, 1] <= b[:, 1])[:, None], (a, b), (b, a))  # downwards
    # Line i runs at (i + 1/2) / FINE; an edge owns the lines from its upper end on, short of its lower one.
    first, last = (np.clip(np.ceil(v[:, 1] * FINE - 0.5).astype(int), 0, lines) for v in (a, b))
    count = last - first
    edge = np.repeat(np.arange(len(a)), count)
    line = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    down = ((line + 0.5) / FINE - a[edge, 1]) / (b[edge, 1] - a[edge, 1])
    x = a[edge, 0] + down * (b[edge, 0] - a[edge, 0])
    order = np.lexsort((x, line))
    # Every ring is closed, so each line is crossed an even number of times.
    return line[order][::2], x[order][::2], x[order][1::2]


def _united(line: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same spans with what overlaps counted once."""
    at, lines = np.r_[start, end], np.r_[line, line]
    turn = np.r_[np.ones(len(start), int), -np.ones(len(end), int)]
    order = np.lexsort((-turn, at, lines))
    depth = np.cumsum(turn[order])
    opens, closes = (turn[order] > 0) & (depth == 1), (turn[order] < 0) & (depth == 0)
    return lines[order][opens], at[order][opens], at[order][closes]


def polygons_of(data: Any, label: str = "") -> list[Shape]:
    """Shapes in fractions from JSON: a polygon, a list of them, {"polygons": …, "size": [w, h]} or LabelMe's file.

    A polygon is [[x, y], …]; one with holes is [outline, hole, …] inside a list of such. "polygons" may be a table from
    label to polygons. Without a size, coordinates are fractions. Raises `ImageError`.
    """
    try:
        size, groups = (1.0, 1.0), data
        if isinstance(data, dict) and "shapes" in data:
            size = (float(data["imageWidth"]), float(data["imageHeight"]))
            found: dict[str, list[Any]] = {}
            for shape in data["shapes"]:
                found.setdefault(str(shape["label"]), []).append(_corners(shape))
            groups = found
        elif isinstance(data, dict):
            if "size" in data:
                size = (float(data["size"][0]), float(data["size"][1]))
            groups = data["polygons"]
        if isinstance(groups, dict):
            if label and label not in groups:
                raise ImageError(f"expected polygons labelled {label}, found {', '.join(map(str, groups)) or 'none'}")
            shapes = [s for name, group in groups.items() if not label or name == label for s in _shapes(group)]
        elif label:
            raise ImageError(f"expected polygons with labels for {label!r}, these have none")
        else:
            shapes = list(_shapes(groups))
        if not (shapes and min(size) > 0):
            raise ImageError("expected at least one polygon, found none")
        return [[[(float(x) / size[0], float(y) / size[1]) for x, y in ring] for ring in shape] for shape in shapes]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ImageError(
            'expected polygons such as [[x, y], …] or {"polygons": {"sky": [[x, y], …]}, "size": [w, h]}, '
            f"got {str(data)[:60]}"
        ) from error


def _corners(shape: dict[str, Any]) -> Any:
    points = shape["points"]
    if shape.get("shape_type") == "rectangle":
        (x0, y0), (x1, y1) = points
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return points


def _shapes(group: Any) -> Iterator[Any]:
    """One polygon is a list of pairs, several are a list of those, with holes each is one itself."""
    if group and isinstance(group[0][0], int | float):
        yield [group]
        return
    for part in group:
        yield [part] if isinstance(part[0][0], int | float) else part
