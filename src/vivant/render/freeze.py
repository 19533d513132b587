"""Frozen means frozen: outside the mask the painting's own pixels, exactly; the seam is feathered inside it."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8


def feather(mask: Float[np.ndarray, "H W"], radius: float | None = None) -> Float[np.ndarray, "H W"]:
    """Blend weights in [0, 1]: 0 wherever the mask is 0, rising over `radius` pixels inside it (default 1 % of the long side)."""
    reach = radius if radius is not None else max(mask.shape) / 100
    inside = cv2.distanceTransform((mask > 0).astype(np.uint8), cv2.DIST_L2, 3)
    return (np.clip(inside / max(reach, 1.0), 0, 1) * mask).astype(np.float32)


def freeze(
    frame: UInt8[np.ndarray, "H W 3"], painting: UInt8[np.ndarray, "H W 3"], weights: Float[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The frame where the weights (of `feather`) are 1, the painting to the bit where they are 0."""
    mixed = painting + weights[..., None] * (frame.astype(np.float32) - painting)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
