"""The model's colours and motion, the painter's strokes: generated frames at the painting's own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ..flow import flow

Frame = UInt8[np.ndarray, "H W 3"]


def native(generated: Iterable[Frame], painting: Frame) -> Iterator[tuple[Frame, Float[np.ndarray, "H W"]]]:
    """Frames at the painting's size, each with how still every place is (0..1).

    out = up(g) + c ⊙ (W(P) - up(down(W(P)))), with W the flow from frame 0 measured on the generated frames (DIS), and
    c its confidence: forward-backward and photometric agreement.
    """
    first: Frame | None = None
    height, width = painting.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    for g in generated:
        if first is None:
            first = g
        h, w = g.shape[:2]
        back, forth = flow(g, first), flow(first, g)
        sure = _confidence(g, first, back, forth)
        move = cv2.resize(back, (width, height), interpolation=cv2.INTER_LINEAR) * np.array(
            [width / w, height / h], np.float32
        )
        target = grid + move
        carried = cv2.remap(
            painting, target[..., 0], target[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        carried = carried.astype(np.float32)
        coarse = _up(cv2.resize(carried, (w, h), interpolation=cv2.INTER_AREA), width, height)
        weight = np.clip(_up(sure, width, height), 0, 1)
        out = _up(g.astype(np.float32), width, height) + weight[..., None] * (carried - coarse)
        quiet = np.exp(-((np.hypot(move[..., 0], move[..., 1]) / (0.002 * max(width, height))) ** 2)) * weight
        yield np.clip(np.rint(out), 0, 255).astype(np.uint8), quiet.astype(np.float32)


def _up(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def _confidence(g: Frame, first: Frame, back: np.ndarray, forth: np.ndarray) -> np.ndarray:
    h, w = g.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)
    at = grid + back
    returned = cv2.remap(forth, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    loop = np.linalg.norm(back + returned, axis=-1)
    there = cv2.remap(first, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    off = cv2.GaussianBlur(np.abs(there.astype(np.float32) - g).mean(-1), (0, 0), 1.5)
    return cv2.GaussianBlur(np.exp(-((loop / 1.5) ** 2) - (off / 24) ** 2).astype(np.float32), (0, 0), 1.0)
