"""Training pairs of AnimateAnything: where a clip moves (eq. 4), and the clip with the rest of it frozen (eq. 5)."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from ..errors import SettingError

THRESHOLD = 5
"""T_m of the paper, in 8-bit steps of grey"""

LEAST = 0.005
"""Smaller boxes, as a share of the picture, are noise."""


def motion_mask(
    frames: UInt8[np.ndarray, "F H W 3"],
    threshold: int = THRESHOLD,
    shape: str = "boxes",
    against: str = "first",
    least: float = LEAST,
) -> Bool[np.ndarray, "H W"]:
    """Where a clip moves: changes of grey above the threshold in any frame, their outlines filled (AnimateAnything, eq. 4).

    The released code compares each frame with the `against="first"` and fills the `shape="boxes"` around outlines, which is
    what its weights were trained on; the equation compares with the "previous" one, the text fills "contours". `least`: the
    smallest outline's box that counts, as a share of the picture. Nothing moves in a single frame.
    """
    if shape not in ("boxes", "contours") or against not in ("first", "previous"):
        raise SettingError(f"expected boxes or contours, first or previous, got {shape!r} and {against!r}")
    changed = Changed(threshold, against)
    for frame in frames:
        changed.add(frame)
    return changed.filled(shape, least)


class Changed:
    """The union of eq. 4, frame by frame, so that a long clip need not lie in memory."""

    def __init__(self, threshold: int = THRESHOLD, against: str = "first") -> None:
        self.threshold, self.against = threshold, against
        self.other: np.ndarray | None = None
        self.difference: np.ndarray | None = None

    def add(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """One more frame of the clip."""
        grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        if self.other is None or self.difference is None:
            self.other, self.difference = grey, np.zeros(grey.shape, np.uint8)
            return
        self.difference |= (cv2.absdiff(grey, self.other) > self.threshold).astype(np.uint8)
        if self.against == "previous":
            self.other = grey

    def filled(self, shape: str = "boxes", least: float = LEAST) -> Bool[np.ndarray, "H W"]:
        """The mask of all frames so far."""
        if self.difference is None:
            raise SettingError("expected at least one frame to make a mask of, got none")
        # What lies inside an outer outline is filled with it: inner ones add nothing.
        contours, _ = cv2.findContours(self.difference, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        out = np.zeros(self.difference.shape, np.uint8)
        for contour in contours:
            x, y, width, height = cv2.boundingRect(contour)
            if width * height < int(least * out.size):
                continue
            if shape == "boxes":
                out[y : y + height, x : x + width] = 1
            else:
                cv2.drawContours(out, [contour], -1, 1, cv2.FILLED)
        return out.astype(bool)


def frozen(z: Float[Tensor, "*B C L h w"], mask: Float[Tensor, "*B 1 1 h w"]) -> Float[Tensor, "*B C L h w"]:
    """z₀' = (1 − m)·z₀⁰ + m·z₀: outside the mask every frame is the first one (AnimateAnything, eq. 5)."""
    return (1 - mask) * z[..., :1, :, :] + mask * z


def latent_mask(masks: Bool[np.ndarray, "B H W"], height: int, width: int) -> Float[Tensor, "B 1 1 h w"]:
    """Masks at latent size, 0 or 1: a cell counts as movable where half of it is."""
    full = torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]
    small = F.interpolate(full, (height, width), mode="area")
    return (small >= 0.5).float()[:, :, None]
