"""Motion as optical flow sees it on finished frames: what moved, where to, how much of it where it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from ..flow import flow

Frame = UInt8[np.ndarray, "H W 3"]


def activity(
    frames: Sequence[Frame],
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W 2"], Float[np.ndarray, "H W"]]:
    """What happens at each place of frame 0 over a clip.

    Returns (root-mean-square displacement in fractions of the diagonal, mean displacement in pixels, mean relative change
    of light where nothing moved but brightness did).
    """
    flows = [flow(frames[0], f) for f in frames[1:]]
    height, width = frames[0].shape[:2]
    moved = np.sqrt(np.mean([(f**2).sum(-1) for f in flows], axis=0)) / np.hypot(height, width)
    blurred = [cv2.GaussianBlur(f.astype(np.float32), (0, 0), max(height, width) / 48).mean(-1) / 255 for f in frames]
    light = np.mean([np.abs(b - blurred[0]) for b in blurred[1:]], axis=0)
    return moved, np.mean(flows, axis=0), light


def inside_share(moved: Float[np.ndarray, "H W"], region: Bool[np.ndarray, "H W"]) -> float:
    """Share of the motion energy (squared displacement) that lies inside the region, 0..1; 0 where nothing moved."""
    energy = moved.astype(np.float64) ** 2
    total = energy.sum()
    return float(energy[region].sum() / total) if total > 1e-9 else 0.0


def direction_error(
    mean_flow: Float[np.ndarray, "H W 2"], region: Bool[np.ndarray, "H W"], direction: tuple[float, float]
) -> float:
    """Angle in degrees (0..180) between the region's mean displacement and the direction asked for (x right, y down)."""
    v = mean_flow[region].mean(0) if region.any() else np.zeros(2)
    norm = float(np.hypot(*v))
    if norm < 1e-6:
        return 180.0
    cos = float(np.dot(v, direction) / (norm * np.hypot(*direction)))
    return float(np.degrees(np.arccos(np.clip(cos, -1, 1))))


def psnr(a: Frame, b: Frame, region: Bool[np.ndarray, "H W"] | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two 8-bit frames, inside a region; identical frames give 99."""
    difference = (a.astype(np.float64) - b.astype(np.float64)) ** 2
    error = difference[region].mean() if region is not None else difference.mean()
    return 99.0 if error == 0 or np.isnan(error) else float(min(99.0, 10 * np.log10(255.0**2 / error)))


def loop_seam(frames: Sequence[Frame]) -> float:
    """The step from the last frame to the first over the median step between neighbours (mean absolute difference).

    1: the seam is a step like any other; at least three frames. Infinite where nothing moves but the seam.
    """
    if len(frames) < 3:
        raise ValueError(f"expected at least 3 frames, got {len(frames)}")

    def step(a: Frame, b: Frame) -> float:
        return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean())

    middle = float(np.median([step(a, b) for a, b in pairwise(frames)]))
    last = step(frames[-1], frames[0])
    return last / middle if middle > 0 else (1.0 if last == 0 else float("inf"))
