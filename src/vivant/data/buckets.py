"""Sizes that clips of different shapes are brought to: a few buckets of about one area, so that batches can be stacked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import SettingError

Size = tuple[int, int]
"""(width, height) in pixels"""


def buckets(area: int, multiple: int = 64, widest: float = 2.0) -> list[Size]:
    """All (width, height) with sides that are multiples of `multiple`, the largest of each width within `area` pixels.

    From 1:`widest` to `widest`:1, by aspect ratio. Raises `SettingError` where none fits.
    """
    if multiple < 1 or widest < 1:
        raise SettingError(f"expected a multiple and a widest aspect of at least 1, got {multiple} and {widest}")
    found = []
    for width in range(multiple, int(math.sqrt(area * widest)) + 1, multiple):
        height = area // width // multiple * multiple
        if height and 1 / widest <= width / height <= widest:
            found.append((width, height))
    if not found:
        raise SettingError(f"expected room for one bucket of {multiple}×{multiple} pixels, got an area of {area}")
    return sorted(found, key=lambda size: size[0] / size[1])


def nearest(size: Size, choices: Sequence[Size]) -> int:
    """The index of the bucket whose aspect ratio is nearest (in logarithms) to that of (width, height)."""
    aspect = math.log(size[0] / size[1])
    return min(range(len(choices)), key=lambda i: (abs(math.log(choices[i][0] / choices[i][1]) - aspect), i))


def covering(size: Size, target: Size) -> Size:
    """The smallest (width, height) of `size`'s shape that covers `target`."""
    scale = max(target[0] / size[0], target[1] / size[1])
    return max(target[0], round(size[0] * scale)), max(target[1], round(size[1] * scale))


def cropped(frame: UInt8[np.ndarray, "h w 3"], target: Size, at: tuple[float, float]) -> UInt8[np.ndarray, "H W 3"]:
    """Scaled to cover `target`, then cut; `at` (0..1 each) says where along the spare width and height."""
    size = covering((frame.shape[1], frame.shape[0]), target)
    if size != (frame.shape[1], frame.shape[0]):
        # Shrinking averages (Pillow's and FFmpeg's AREA); enlarging interpolates.
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if size[0] < frame.shape[1] else cv2.INTER_CUBIC)
    x, y = round((size[0] - target[0]) * at[0]), round((size[1] - target[1]) * at[1])
    return frame[y : y + target[1], x : x + target[0]]
