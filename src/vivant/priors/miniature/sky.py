"""The sky: what stands before it is kept whole, and its drift is one motion, slower towards the horizon.

The reader sees 32 by 32 cells: spires, masts and tree tops are finer. Two things keep them from being dragged along. What
is of one piece in the painting belongs to one thing; and far clouds cross a smaller angle than near ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ...data.captions import KINDS, SUBJECTS
from ...shot import Arrow
from .edges import smaller, step

SKY, FRAME = SUBJECTS.index("sky"), SUBJECTS.index("frame")
SMOOTH = 6.0
"""cells over which a drift is the same"""
FINE = 256
"""longest side in pixels at which pieces of one colour are found"""
ALIKE = 5
"""how much neighbouring pixels of one piece differ at most, in Lab, after mean shift"""
WHOLE = 0.7
"""share of a piece that must be sky; else it is all something else"""
LEAST_PIECE = 20
"""pixels"""
LARGEST_PIECE = 0.1
"""of the picture: what is larger and of one colour is the sky itself, or water"""
RISE = 0.6
"""share of the sky's height, from what stands before it, over which the drift comes to its full pace"""
SLOWEST = 0.25
"""share of the full pace that an arrow's place is taken to have at least"""


def unbroken(painting: UInt8[np.ndarray, "H W 3"], sky: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The chance of sky, taken from every piece of one colour that the reader's outline cuts through.

    Pieces are neighbouring pixels alike after mean shift (Comaniciu and Meer 2002): a sail, a trunk, a gable.
    """
    small = smaller(painting, FINE)
    size = small.shape[1::-1]
    flat = cv2.cvtColor(cv2.pyrMeanShiftFiltering(small, 6, 14), cv2.COLOR_RGB2LAB)
    rough = np.clip(cv2.resize(sky.astype(np.float32), size, interpolation=cv2.INTER_LINEAR), 0, 1)
    new, seen = rough.copy(), np.zeros((size[1] + 2, size[0] + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
    for y, x in np.argwhere((rough > 0.3) & (rough < 0.7)):
        if seen[y + 1, x + 1]:
            continue
        count, _, _, (left, top, wide, high) = cv2.floodFill(
            flat, seen, (int(x), int(y)), 0, (ALIKE,) * 3, (ALIKE,) * 3, flags
        )
        rows, columns = slice(top, top + high), slice(left, left + wide)
        piece = seen[1:-1, 1:-1][rows, columns] == 1
        if LEAST_PIECE <= count <= LARGEST_PIECE * rough.size and float(rough[rows, columns][piece].mean()) < WHOLE:
            new[rows, columns][piece] = 0
        seen[seen == 1] = 2
    back = cv2.resize(new, sky.shape[::-1], interpolation=cv2.INTER_AREA)
    return np.minimum(sky, back).astype(np.float32)


def drifting(
    field: Float[Tensor, "L 3 h w"], where: Float[Tensor, "K h w"], told: Float[Tensor, "K 10"]
) -> Float[Tensor, "L 3 h w"]:
    """The field with the sky's drift made smooth, and slowed towards whatever stands before the sky.

    A dreamt drift has eddies, which bend what the reader did not see: spires, masts, sails. `where`: chance of each subject;
    `told`: what each is told. Nothing is changed unless the sky is told to drift.
    """
    if not _drifts(told):
        return field
    sky = where[SKY].float().cpu().numpy()
    pace = parallax(sky, where[FRAME].float().cpu().numpy())
    if pace is None:
        return field
    weight = cv2.GaussianBlur(sky, (0, 0), SMOOTH, borderType=cv2.BORDER_REFLECT) + 1e-4
    move = field[:, :2].float().cpu().numpy()
    even = np.stack([
        [cv2.GaussianBlur(m * sky, (0, 0), SMOOTH, borderType=cv2.BORDER_REFLECT) / weight for m in key] for key in move
    ])  # fmt: skip
    return _going(field, pace * even, sky)


def _drifts(told: Float[Tensor, "K 10"]) -> bool:
    """Whether the sky is told to drift."""
    return bool(told[SKY, 0] > 0.5) and KINDS[int(told[SKY, 5:].argmax())] == "drift"


def _going(field: Float[Tensor, "L 3 h w"], so: np.ndarray, sky: Float[np.ndarray, "h w"]) -> Float[Tensor, "L 3 h w"]:
    """The field with the sky displaced `so` (L 2 h w)."""
    move = field[:, :2].float().cpu().numpy()
    out = field.clone()
    out[:, :2] = torch.from_numpy((move + np.clip(2 * sky, 0, 1) * (so - move)).astype(np.float32)).to(field)
    return out


def parallax(sky: Float[np.ndarray, "h w"], frame: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"] | None:
    """The share of its pace, 0..1, at which each place of the sky drifts; None where there is no sky to speak of.

    It grows with the distance from what stands before the sky; the picture's own border and its frame stand before nothing.
    """
    before = ((sky < 0.5) & (frame < 0.5)).astype(np.uint8)
    if before.all() or (sky > 0.5).sum() < 8:
        return None
    if not before.any():
        return np.ones_like(sky)
    away = cv2.distanceTransform(1 - before, cv2.DIST_L2, 5) * (sky > 0.5)
    height = float(np.quantile(away[sky > 0.5], 0.95))
    pace = step(away, 0, max(RISE * height, 1.0))
    return cv2.GaussianBlur(pace, (0, 0), 1.0).astype(np.float32)


def swept(
    field: Float[Tensor, "L 3 h w"],
    where: Float[Tensor, "K h w"],
    told: Float[Tensor, "K 10"],
    arrows: Sequence[Arrow],
    keys: int,
) -> Float[Tensor, "L 3 h w"]:
    """The field with a drifting sky going as the arrows that start on it say: all of it one way, as a wind would have it.

    A field that dies away around each arrow would draw clouds out like dough. The sky goes their mean way over `keys`
    keyframes, in full at the first arrow and above, slower towards what stands before it. Arrows that point apart by more
    than a right angle, and pins, leave the dreamt field.
    """
    height, width = where.shape[1:]
    if not _drifts(told):
        return field
    sky = where[SKY].float().cpu().numpy()
    cells = [(min(int(a.y0 * height), height - 1), min(int(a.x0 * width), width - 1)) for a in arrows]
    mine = [(cell, a) for cell, a in zip(cells, arrows, strict=True) if sky[cell] > 0.5]
    ways = np.array([((a.x1 - a.x0) * a.speed, (a.y1 - a.y0) * a.speed) for _, a in mine], np.float32)
    pace = parallax(sky, where[FRAME].float().cpu().numpy())
    if pace is None or not mine or not np.all(ways @ ways.T > 0):
        return field
    pace = np.minimum(pace / max(float(pace[mine[0][0]]), SLOWEST), 1)
    times = np.arange(1, len(field) + 1, dtype=np.float32) / keys
    return _going(field, -times[:, None, None, None] * ways.mean(0)[:, None, None] * pace, sky)
