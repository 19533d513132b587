"""What a painting would show behind a thing that leaves its place: paint from elsewhere in it, fitted in.

The best place to take it from is the one whose surround is most like the hole's; the difference that is left along the
hole's rim is spread smoothly over it (cloning by a membrane, Pérez et al. 2003, by push and pull).
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from .edges import continued, fill, resize

RIM = 9
"""pixels at work size around a hole that must be alike"""
LOUD = 1.0
"""what a thing in the fetched paint weighs, against a rim that is as unlike"""
ASIDE, ABOVE = 0.3, 6.0
"""how much dearer paint is from a whole width away, and from a whole height above or below: skies have their levels"""


def behind(
    painting: UInt8[np.ndarray, "H W 3"], hole: Bool[np.ndarray, "h w"], level: int = 1
) -> UInt8[np.ndarray, "H W 3"]:
    """The painting with the hole (at work size) painted over.

    Each of its parts is filled from one place; one that fits nowhere, as `edges.continued` does with `level`.
    """
    if hole.all() or not hole.any():
        return painting
    work = hole.shape[::-1]
    out = painting
    small = cv2.resize(painting, work, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    rest: np.ndarray | None = None
    count, labels = cv2.connectedComponents(hole.astype(np.uint8))
    for label in range(1, count):
        part = labels == label
        shift = from_where(lab, part, hole)
        if shift is None:
            rest = continued(painting, ~hole, work, level) if rest is None else rest
            weight = resize(part, painting.shape[1::-1])[..., None]
            out = np.rint(out + weight * (rest.astype(np.float32) - out)).astype(np.uint8)
        else:
            out = _cloned(out, painting, part, hole, shift)
    return out


def from_where(
    lab: Float[np.ndarray, "h w 3"], part: Bool[np.ndarray, "h w"], hole: Bool[np.ndarray, "h w"]
) -> tuple[int, int] | None:
    """The shift (x, y in pixels) to where a part of the hole is filled from; None where nothing in the picture can."""
    wide = cv2.dilate(part.astype(np.uint8), np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))
    x, y, w, h = cv2.boundingRect(wide)
    box = (slice(y, y + h), slice(x, x + w))
    rim = ((wide[box] > 0) & ~hole[box]).astype(np.float32)
    if rim.sum() < 8 or h >= len(lab) or w >= lab.shape[1]:
        return None
    unlike = cv2.matchTemplate(lab, lab[box], cv2.TM_SQDIFF, mask=np.repeat(rim[..., None], 3, 2)) / rim.sum()
    # All that is fetched must be paint: neither the hole itself nor another thing that goes.
    spoilt = cv2.matchTemplate(hole.astype(np.float32), part[box].astype(np.float32), cv2.TM_CCORR)
    # Another boat has the same water around it: what stands out from its own surround is not what lies behind this one.
    reach = max(w, h) / 2
    loud = np.square(lab - cv2.GaussianBlur(lab, (0, 0), reach)).sum(2) - np.square(
        lab - cv2.GaussianBlur(lab, (0, 0), 2.0)
    ).sum(2)
    loud = cv2.matchTemplate(np.maximum(loud, 0), part[box].astype(np.float32), cv2.TM_CCORR) / part.sum()
    rows, columns = np.mgrid[0 : unlike.shape[0], 0 : unlike.shape[1]]
    dear = 1 + ASIDE * np.abs(columns - x) / lab.shape[1] + ABOVE * np.abs(rows - y) / len(lab)
    cost = np.where(spoilt < 0.5, (unlike + LOUD * loud + 25) * dear, np.inf)
    best = np.unravel_index(np.argmin(cost), cost.shape)
    return (int(best[1]) - x, int(best[0]) - y) if np.isfinite(cost[best]) else None


def _cloned(
    out: np.ndarray, painting: np.ndarray, part: np.ndarray, hole: np.ndarray, shift: tuple[int, int]
) -> np.ndarray:
    """`out` with the paint from `shift` away laid over the part, the rims' difference spread over it."""
    size = painting.shape[1::-1]
    ratio = np.array(size) / part.shape[::-1]
    wide = cv2.dilate(part.astype(np.uint8), np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8))
    x, y, w, h = cv2.boundingRect(wide)
    near = (slice(y, y + h), slice(x, x + w))
    (left, top), (right, bottom) = (
        np.minimum(np.rint(ratio * at), size).astype(int) for at in ((x, y), (x + w, y + h))
    )
    box, native = (slice(top, bottom), slice(left, right)), (int(right - left), int(bottom - top))
    dx, dy = np.rint(ratio * shift)
    carry = np.array([[1, 0, -dx - left], [0, 1, -dy - top]], np.float32)
    fetched = cv2.warpAffine(painting, carry, native, borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)
    apart = cv2.resize(painting[box].astype(np.float32) - fetched, (w, h), interpolation=cv2.INTER_AREA)
    rim = (cv2.dilate(part.astype(np.uint8), np.ones((RIM, RIM), np.uint8)) > 0) & ~hole
    smooth = resize(cv2.GaussianBlur(fill(apart, rim[near]), (0, 0), 2.0), native)
    weight = cv2.GaussianBlur(resize(part[near], native), (0, 0), 1.0)[..., None]
    out = out.copy()
    out[box] = np.clip(np.rint(out[box] + weight * (fetched + smooth - out[box])), 0, 255).astype(np.uint8)
    return out
