"""How much moves, and whether it moves where and how it was asked to."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from .. import motion as flows
from .frames import area, clip, grey

Frames = UInt8[np.ndarray, "F H W 3"]
Seen = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What `vivant.metrics.motion.activity` found in the frames; given, the optical flow is not computed again."""


def motion_score(frames: Frames) -> float:
    """AnimateAnything's motion score of finished frames: ten times the mean change of hue, saturation and value.

    In 8-bit steps of HSV (hue 0..179) between neighbours, 0 where nothing changes; the released script rounds it. Raises
    `InputError` for fewer than two frames.
    """
    frames = clip(frames, 2)
    last = cv2.cvtColor(frames[0], cv2.COLOR_RGB2HSV)
    total = 0.0
    for frame in frames[1:]:
        now = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
        total += float(cv2.absdiff(now, last).mean())
        last = now
    return 10 * total / (len(frames) - 1)


def latent_motion_score(latents: Float[Tensor, "C F H W"]) -> float:
    """AnimateAnything's motion strength, eq. 6: ten times the summed channels' mean change between neighbours.

    `latents`: a clip's scaled VAE latents; the released model is guided with strengths of about 1 to 16 on this measure.
    """
    return float(10 * latents.double().diff(dim=1).abs().mean((1, 2, 3)).sum())


def strength_error(frames: Frames, strength: float, score: Callable[[Frames], float] = motion_score) -> float:
    """Squared difference between a clip's motion strength and the one asked for (AnimateAnything, Table 4: its mean).

    `score` turns frames into a strength of the same measure as `strength`; the paper's own is `latent_motion_score` of
    the frames' VAE latents, the default is the score of finished frames.
    """
    return (score(frames) - strength) ** 2


def moved_area(frames: Frames, threshold: int = 20, neighbours: bool = False) -> Bool[np.ndarray, "H W"]:
    """Where a clip moves (AnimateAnything, eq. 4): boxes around all places whose brightness changes by more than a threshold.

    In 8-bit steps, against the first frame as in the released script, or against the frame before (`neighbours`) as in
    the paper's equation; its script takes 20 for Motion Mask Precision and 5 for training masks.
    """
    frames = clip(frames, 2)
    first = last = grey(frames[0])
    changed = np.zeros(first.shape, bool)
    for frame in frames[1:]:
        now = grey(frame)
        changed |= cv2.absdiff(now, last if neighbours else first) > threshold
        last = now
    contours, _ = cv2.findContours(changed.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    out = np.zeros(changed.shape, bool)
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        out[y : y + height, x : x + width] = True
    return out


def mask_precision(frames: Frames, mask: np.ndarray, threshold: int = 20, neighbours: bool = False) -> float:
    """Motion Mask Precision (AnimateAnything, Table 3): the share of the moving area that lies inside the mask, 0..1.

    mask: (H, W), white may move. NaN where nothing moves: there is no area to take a share of; average with nanmean.
    """
    frames = clip(frames, 2)
    moved = moved_area(frames, threshold, neighbours)
    inside = area(mask, (frames.shape[2], frames.shape[1]))
    return float(moved[inside].sum() / moved.sum()) if moved.any() else float("nan")


def motion_inside(frames: Frames, mask: np.ndarray, seen: Seen | None = None) -> float:
    """The share of the motion energy (squared displacement by optical flow) inside the mask, 0..1; NaN where all is still."""
    frames = clip(frames, 2)
    moved, _, _ = seen or flows.activity(list(frames))
    if float((moved.astype(np.float64) ** 2).sum()) <= 1e-9:
        return float("nan")
    return flows.inside_share(moved, area(mask, (frames.shape[2], frames.shape[1])))


def direction_error(
    frames: Frames, direction: tuple[float, float], mask: np.ndarray | None = None, seen: Seen | None = None
) -> float:
    """Degrees, 0..180, between the mean displacement and the direction asked for (x right, y down); 180 where all is still.

    Inside the mask; without one, where at least half of the largest displacement is seen.
    """
    frames = clip(frames, 2)
    moved, mean, _ = seen or flows.activity(list(frames))
    where = moved >= 0.5 * moved.max() if mask is None else area(mask, (frames.shape[2], frames.shape[1]))
    return flows.direction_error(mean, where, direction)
