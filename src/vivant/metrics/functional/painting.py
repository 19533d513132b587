"""What a moving painting must keep: its strokes, its frozen parts, its colours, its light; and that it moves at all."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from ...flow import flow
from .. import motion as flows
from .frames import area, clip, fitted, grey
from .motion import Seen

Frames = UInt8[np.ndarray, "F H W 3"]
Picture = UInt8[np.ndarray, "H W 3"]

STROKE = 1 / 256
"""The paint finer than this part of the longer side (a Gaussian's σ, at least 1 pixel) is called brushwork."""

STILL = 0.001
"""Displacement, of the diagonal, below which a place stands still; light: 1.3 of 255 steps."""
LIGHT = 0.005


class FreezeError(NamedTuple):
    """Difference from the painting inside the frozen region, in 8-bit steps (0..255): the worst and the mean."""

    max: float
    mean: float


def brush_preservation(frames: Frames, painting: Picture) -> float:
    """How much of the brushwork rides along with the motion, 0..1: 1 carried whole, 0 blurred away or painted anew.

    Each frame is pulled back along the flow onto the painting, and the fine paint p of the painting is held against the
    fine paint f found there: 2 Σ p·f / (Σ p² + Σ f²), the concordance of Lin 1989 without its mean term; fine is what a
    Gaussian of 1/256 of the longer side takes away. Averaged over the frames after the first that differ from it. What
    flows out of the picture is left out. 1 for a painting without brushwork. Raises `InputError`.
    """
    frames = clip(frames)
    height, width = frames.shape[1:3]
    painting = fitted(painting, (width, height))
    sigma = max(1.0, STROKE * max(height, width))
    paint = _fine(painting, sigma)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    values = []
    for frame in frames:
        if np.array_equal(frame, painting):
            values.append(1.0)
            continue
        where = flow(painting, frame)
        to_x, to_y = x + where[..., 0], y + where[..., 1]
        seen = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
        # The fine paint itself is fetched, not the frame: what lies outside never bleeds in through the blur.
        found = cv2.remap(_fine(frame, sigma), to_x, to_y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
        if not seen.any():
            values.append(0.0)
            continue
        p, f = paint[seen], found[seen]
        energy = float((p * p).sum() + (f * f).sum())
        values.append(max(0.0, 2 * float((p * f).sum()) / energy) if energy > 0 else 1.0)
    return float(np.mean(values))


def freeze_error(frames: Frames, painting: Picture, mask: np.ndarray) -> FreezeError:
    """How far the frozen region strays from the painting, in 8-bit steps, worst and mean over pixels, channels, frames.

    mask: (H, W), white may move and only its black is frozen. (NaN, NaN) where nothing is frozen. Raises `InputError`.
    """
    frames = clip(frames)
    size = (frames.shape[2], frames.shape[1])
    painting, frozen = fitted(painting, size), ~area(mask, size)
    if not frozen.any():
        return FreezeError(float("nan"), float("nan"))
    still = painting[frozen].astype(np.int16)
    worst, total = 0, 0.0
    for frame in frames:
        difference = np.abs(frame[frozen].astype(np.int16) - still)
        worst, total = max(worst, int(difference.max())), total + float(difference.mean())
    return FreezeError(float(worst), total / len(frames))


def loop_seam(frames: Frames) -> float:
    """The step from the last frame back to the first over the median step between neighbours: 1 is a seamless loop.

    Below 1 the clip halts at the seam, above it jumps; infinite where nothing moves but the seam. Raises `InputError`
    for fewer than three frames.
    """
    return flows.loop_seam(list(clip(frames, 3)))


def colour_drift(frames: Frames, painting: Picture) -> float:
    """How far the colours as a whole leave the painting's, in CIELAB ΔE, 0 or more, mean over frames.

    The optimal-transport distance (mean absolute difference of sorted values) of each Lab channel's distribution, the
    three joined as √(L² + a² + b²): paint that only moves keeps its distribution and counts nothing, a tint by ΔE = d
    counts d, a fade or a loss of contrast what it takes to undo it. Raises `InputError`.
    """
    frames = clip(frames)
    reference = _sorted_lab(fitted(painting, (frames.shape[2], frames.shape[1])))
    values = [np.sqrt((np.abs(_sorted_lab(f) - reference).mean(0) ** 2).sum()) for f in frames]
    return float(np.mean(values))


def flicker(frames: Frames, cells: int = 8) -> float:
    """Trembling of the light in 8-bit steps: the mean of |lₜ₋₁ − 2 lₜ + lₜ₊₁| / 4 over time and an 8 × 8 grid of mean brightness.

    Light that swings by ±a every frame counts a; steady light and any even fade count 0. Raises `InputError` for fewer
    than three frames.
    """
    frames = clip(frames, 3)
    light = np.stack(
        [cv2.resize(grey(f).astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA) for f in frames]
    )
    return float(np.abs(np.diff(light, n=2, axis=0)).mean() / 4)


def static_score(frames: Frames, seen: Seen | None = None) -> float:
    """The share of the picture that stands still, 0..1: 1 is a still image, 0 a clip that moves everywhere.

    Still: displacement under 0.1 % of the diagonal (root mean square over the frames, by optical flow from the first)
    and light that keeps within 0.5 %. The failure named in Every Painting Awakened, sec. 1, as a number. Raises
    `InputError` for fewer than two frames.
    """
    frames = clip(frames, 2)
    moved, _, light = seen or flows.activity(list(frames))
    return float(((moved < STILL) & (light < LIGHT)).mean())


def _fine(picture: np.ndarray, sigma: float) -> np.ndarray:
    """The paint finer than a Gaussian of `sigma` pixels, (H, W, 3) float32."""
    values = picture.astype(np.float32)
    return values - cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _sorted_lab(picture: np.ndarray) -> np.ndarray:
    """Each Lab channel's values in order, of the picture at 256 pixels at most."""
    height, width = picture.shape[:2]
    scale = min(1.0, 256 / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.sort(cv2.cvtColor(small, cv2.COLOR_RGB2LAB).reshape(-1, 3), axis=0)
