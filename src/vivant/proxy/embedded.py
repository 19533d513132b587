"""The offline proxy: a cleaned, clarified rendering of the painting.

It plays the part that a refiner plays for large models: it moves the painting towards what the prior was trained on
(plain surfaces with clear outlines), and keeps its structure. No download, no randomness.
"""

from __future__ import annotations

import cv2
import numpy as np


def embedded(painting: np.ndarray, prompt: str = "") -> np.ndarray:
    """Proxy of a painting: (H, W, 3) uint8 → the same shape.

    Edge-preserving smoothing melts the strokes into surfaces, then local contrast and saturation are lifted. The prompt
    has no part in it (an edit by words needs an image model).
    """
    height, width = painting.shape[:2]
    scale = min(1.0, 384 / max(height, width))
    small = cv2.resize(
        painting, (max(16, round(width * scale)), max(16, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    smooth = cv2.bilateralFilter(small, 9, 70, 7)
    smooth = cv2.bilateralFilter(smooth, 9, 45, 7)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
    light = cv2.createCLAHE(clipLimit=1.6, tileGridSize=(4, 4)).apply(np.ascontiguousarray(lab[..., 0]))
    lab[..., 0] = cv2.addWeighted(lab[..., 0], 0.5, light, 0.5, 0)
    lab[..., 1:] = np.clip((lab[..., 1:].astype(np.float32) - 128) * 1.12 + 128, 0, 255).astype(np.uint8)
    return cv2.resize(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), (width, height), interpolation=cv2.INTER_CUBIC)
