"""The clips that metrics take: checked once, in one place."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from ...errors import InputError


def clip(frames: UInt8[np.ndarray, "F H W 3"] | Sequence[np.ndarray], least: int = 1) -> UInt8[np.ndarray, "F H W 3"]:
    """(F, H, W, 3) uint8, or one line saying what came instead. Raises `InputError`."""
    try:
        frames = np.asarray(frames)
    except ValueError:
        raise InputError("expected frames of one size, got several; scale the clip first") from None
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise InputError(f"expected frames as (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
    if len(frames) < least:
        raise InputError(f"expected at least {least} frames, got {len(frames)}")
    return frames


def fitted(picture: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], what: str = "painting") -> np.ndarray:
    """The painting at a clip's `size` = (width, height); one of another shape (2 %) is refused with `InputError`."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"expected the {what} as (H, W, 3) uint8, got {picture.shape} {picture.dtype}")
    return _scaled(picture, size, what)


def area(mask: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Where a mask is white at all, at `size` = (width, height): bool, 0..1 or 0..255. Raises `InputError`."""
    if mask.ndim != 2:
        raise InputError(f"expected a mask as (H, W), got {mask.shape}")
    white = (mask > 0).astype(np.uint8) * 255
    # Anything the mask touches counts as allowed to move, so that scaling never adds to the frozen region.
    return _scaled(white, size, "mask") > 0


def _scaled(picture: np.ndarray, size: tuple[int, int], what: str) -> np.ndarray:
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    if abs(width * size[1] / (height * size[0]) - 1) > 0.02:
        raise InputError(
            f"expected a {what} of the clip's shape ({size[0]}×{size[1]}), got {width}×{height}; crop it to match"
        )
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if width > size[0] else cv2.INTER_CUBIC)


def grey(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """Brightness in 8-bit steps."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
