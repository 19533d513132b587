"""Where a clip moves, told from its frames (AnimateAnything, §3.3, eq. 4), and parts of it (§3.5)."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Generator, Tensor

AREAS = 8
"""moving areas of a clip that are told apart, the largest; the rest are one"""


def areas(
    frames: UInt8[np.ndarray, "F H W 3"], threshold: int = 5, least: float = 0.005, cells: tuple[int, int] | None = None
) -> Bool[np.ndarray, "K h w"]:
    """The moving areas of a clip (eq. 4): boxes around all that changes by more than `threshold` against the first frame.

    In 8-bit steps of grey, as released; the largest `AREAS`, the rest together in the last. `least`: share of the picture
    below which a box is left out. `cells` (h, w): at latent size, a cell moves where any of its pixels may. All False
    where nothing moves.
    """
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    changed = np.zeros(grey[0].shape, bool)
    for now in grey[1:]:
        changed |= cv2.absdiff(now, grey[0]) > threshold
    contours, _ = cv2.findContours(changed.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = sorted((cv2.boundingRect(c) for c in contours), key=lambda b: -b[2] * b[3])
    boxes = [b for b in boxes if b[2] * b[3] >= least * changed.size]
    height, width = changed.shape
    rows, columns = cells or (height, width)
    out = np.zeros((AREAS, rows, columns), bool)
    for i, (x, y, w, h) in enumerate(boxes):
        top, bottom = y * rows // height, -(-(y + h) * rows // height)
        left, right = x * columns // width, -(-(x + w) * columns // width)
        out[min(i, AREAS - 1), top:bottom, left:right] = True
    return out


def partly(found: Float[Tensor, "K h w"], rng: Generator) -> Float[Tensor, "h w"]:
    """A part of what moves: each area with chance 1/2, or what lies on one side of a line across the picture."""
    kind, cut = torch.rand(2, generator=rng).tolist()
    keep, side = torch.rand(len(found), generator=rng) < 0.5, int(torch.randint(4, (1,), generator=rng))
    if kind < 0.5:
        return found[keep.to(found.device)].sum(0).clamp(max=1)
    axis = side % 2
    place = torch.arange(found.shape[1 + axis], device=found.device) + 0.5
    line = (0.25 + 0.5 * cut) * found.shape[1 + axis]
    near = (place < line) if side < 2 else (place >= line)
    return found.amax(0) * (near[:, None] if axis == 0 else near[None, :])
