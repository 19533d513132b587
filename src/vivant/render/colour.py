"""Colour stays anchored to the painting: slow drift is measured where nothing moves, and taken out everywhere."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8


def anchor(
    frame: UInt8[np.ndarray, "H W 3"], painting: UInt8[np.ndarray, "H W 3"], still: Float[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Remove low-frequency colour drift. `still` in [0, 1]: how sure it is that a place does not move.

    The drift is a normalised convolution of (frame - painting) over the still places, at 1/16 of the size; where
    nothing near is still it falls back to the mean of what is, and to nothing when there is none.
    """
    height, width = frame.shape[:2]
    if float(still.sum()) < 1:
        return frame
    small = (max(4, width // 16), max(4, height // 16))
    weight = cv2.resize(still.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    difference = (frame.astype(np.float32) - painting) * still[..., None]
    shift = cv2.resize(difference, small, interpolation=cv2.INTER_AREA)
    mean = shift.sum((0, 1)) / weight.sum()
    reach = max(small) / 8
    total, norm = (cv2.GaussianBlur(v, (0, 0), reach, borderType=cv2.BORDER_REFLECT) for v in (shift, weight))
    drift = (total + 0.02 * mean) / (norm[..., None] + 0.02)
    return np.clip(np.rint(frame - cv2.resize(drift, (width, height), interpolation=cv2.INTER_CUBIC)), 0, 255).astype(
        np.uint8
    )
