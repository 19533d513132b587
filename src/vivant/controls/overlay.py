"""What arrows ask for, drawn over the painting, to look at before anything is animated."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from ..shot import Arrow
from .arrows import Field, resized, speed

LARGEST = 1280
"""the longer side of an overlay, in pixels"""
SPACING = 28
"""pixels between the needles that show the field, at a longer side of 1024"""
INK, RIM, PIN = (235, 64, 52), (255, 255, 255), (40, 40, 40)
"""the arrows' colour, the light edge that makes them visible on any paint, the pins'"""


def overlay(
    painting: UInt8[np.ndarray, "H W 3"], arrows: Sequence[Arrow], flow: Field | None = None, largest: int = LARGEST
) -> UInt8[np.ndarray, "h w 3"]:
    """The painting, dimmed; `flow` (any size) as tint and needles; each arrow as it was given, pins as rings.

    The tint's hue is the direction (red right, then through yellow down, cyan left, violet up), its depth how far.
    Returns sRGB at most `largest` pixels long.
    """
    scale = min(1.0, largest / max(painting.shape[:2]))
    size = (max(1, round(painting.shape[1] * scale)), max(1, round(painting.shape[0] * scale)))
    out = cv2.resize(painting, size, interpolation=cv2.INTER_AREA)
    unit = max(1, round(max(size) / 512))
    if flow is not None:
        out = _field(out, resized(flow, size), unit)
    for arrow in arrows:
        _arrow(out, arrow, unit)
    return out


def tint(flow: Field) -> UInt8[np.ndarray, "H W 3"]:
    """A field's directions as hues of full depth (sRGB)."""
    angle = np.arctan2(flow[..., 1], flow[..., 0]) % (2 * np.pi)
    hue = np.round(angle / (2 * np.pi) * 179).astype(np.uint8)
    full = np.full_like(hue, 255)
    return cv2.cvtColor(np.stack([hue, full, full], -1), cv2.COLOR_HSV2RGB)


def _field(picture: np.ndarray, flow: Field, unit: int) -> np.ndarray:
    length = np.hypot(flow[..., 0], flow[..., 1])
    longest = float(length.max())
    calm = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) * 0.35 + picture * 0.4
    if longest == 0:
        return np.round(calm).astype(np.uint8)
    share = (0.65 * length / longest)[..., None]
    out = np.round(calm * (1 - share) + tint(flow) * share).astype(np.uint8)
    step = max(8, SPACING * unit // 2)
    for y in range(step // 2, picture.shape[0], step):
        for x in range(step // 2, picture.shape[1], step):
            if length[y, x] > 0:
                # Needles show the direction; their length is relative to the longest, so that they do not tangle.
                way = flow[y, x] / longest * step * 0.9
                end = (round(x + float(way[0])), round(y + float(way[1])))
                cv2.line(out, (x, y), end, RIM, unit, cv2.LINE_AA)
                cv2.circle(out, (x, y), unit, RIM, -1, cv2.LINE_AA)
    return out


def _arrow(picture: np.ndarray, arrow: Arrow, unit: int) -> None:
    height, width = picture.shape[:2]
    start = (round(arrow.x0 * width), round(arrow.y0 * height))
    if (arrow.x0, arrow.y0) == (arrow.x1, arrow.y1):
        cv2.circle(picture, start, 6 * unit, RIM, 4 * unit, cv2.LINE_AA)
        cv2.circle(picture, start, 6 * unit, PIN, 2 * unit, cv2.LINE_AA)
        return
    # As far as the paint is asked to go, which a speed makes another place than the arrow's end.
    way = (np.array([arrow.x1 - arrow.x0, arrow.y1 - arrow.y0]) * speed(arrow)) * (width, height)
    end = (round(start[0] + float(way[0])), round(start[1] + float(way[1])))
    tip = min(0.4, 10 * unit / max(float(np.hypot(*way)), 1.0))
    for colour, thickness in ((RIM, 5 * unit), (INK, 3 * unit)):
        cv2.arrowedLine(picture, start, end, colour, thickness, cv2.LINE_AA, 0, tip)
