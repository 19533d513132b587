"""What a clip is like to train on: how much moves, whether the camera does, where it is cut; and which clips to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from ..errors import InputError
from ..flow import flow as dis
from .decode import Facts, walk
from .flows import Estimate
from .masks import Changed
from .sources import Item

CUT = 27.0
"""Mean change of hue, saturation and value, in 8-bit steps, from which on two frames may lie in two shots."""
APART = 3.0
"""How many times as much as around it the picture must change at a cut: fast motion changes it all the time."""
ALIKE = 0.8
"""Correlation of two small grey pictures above which they show one scene, however its light changed."""
SHARED = 0.35
"""The share of corners that must follow one homography before it counts as the camera's motion."""
STILL = 0.4
"""Pixels a step below which a corner stands still."""
PREFERRED = 1.5
"""How many times as many corners as stand still must follow a motion before the camera is believed to move."""


@dataclass(frozen=True)
class Measures:
    """What was measured on a clip, `rate` frames a second looked at. Motions are in percent of the diagonal a second."""

    motion_score: float
    """AnimateAnything's: ten times the mean change of hue, saturation and value between frames"""
    moved: float
    """the share of the picture inside the outlines of its motion mask (AnimateAnything, eq. 4)"""
    motion: float
    """of things: optical flow less the camera's motion, mean over the picture"""
    camera: float
    """of the camera: root mean square over the picture of the homography that most corners follow"""
    cuts: tuple[tuple[float, float], ...]
    """(last moment before, first moment after) in seconds"""


def measure(
    item: Item, facts: Facts, rate: float = 8.0, side: int = 256, estimate: Estimate = dis
) -> tuple[Measures, Float[np.ndarray, "P 2 h w"], Bool[np.ndarray, "h w"]]:
    """Look at a clip once; also its flows between the frames looked at (pixels of the small picture) and its motion mask.

    Raises `InputError` for a clip that cannot be read, or shows fewer than two frames.
    """
    times: list[float] = []
    changes: list[float] = []
    alike: list[float] = []
    moves: list[tuple[float, float]] = []
    flows: list[np.ndarray] = []
    mask = Changed()
    last: np.ndarray | None = None
    for now, frame in walk(item, facts, rate, side):
        mask.add(frame)
        if last is not None:
            changes.append(change(last, frame))
            alike.append(likeness(last, frame))
            moved = estimate(last, frame)
            flows.append(moved.transpose(2, 0, 1).astype(np.float16))
            moves.append(parted(moved, cv2.cvtColor(last, cv2.COLOR_RGB2GRAY)))
        times.append(now)
        last = frame
    if len(times) < 2:
        raise InputError(f"expected at least 2 frames in {item.name}, got {len(times)}")
    cuts = cuts_at(changes, alike)
    # Across a cut nothing moved: the flow there is of two pictures that have nothing to do with each other.
    inside = [i for i in range(len(changes)) if i not in cuts] or list(range(len(changes)))
    clock = np.diff(times)
    per_second = [(100 * moves[i][0] / clock[i], 100 * moves[i][1] / clock[i]) for i in inside]
    area = mask.filled()
    found = Measures(
        motion_score=10 * float(np.mean([changes[i] for i in inside])),
        moved=float(mask.filled("contours").mean()),
        motion=float(np.mean([m for m, _ in per_second])),
        camera=float(np.sqrt(np.mean([c**2 for _, c in per_second]))),
        cuts=tuple((times[i], times[i + 1]) for i in cuts),
    )
    return found, np.stack(flows), area


def change(first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"]) -> float:
    """Mean absolute change of hue (0..179), saturation and value, in 8-bit steps."""
    hsv = [cv2.cvtColor(f, cv2.COLOR_RGB2HSV) for f in (first, second)]
    return float(cv2.absdiff(hsv[0], hsv[1]).mean())


def likeness(first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"]) -> float:
    """Correlation, -1..1, of both frames' light at 32 × 32; 1 where both are flat."""
    small = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float64)
        for f in (first, second)
    ]
    a, b = (s - s.mean() for s in small)
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    if norm < 1e-6:
        return 1.0 if abs(small[0].mean() - small[1].mean()) < CUT else 0.0
    return float((a * b).sum() / norm)


def cuts_at(changes: Sequence[float], alike: Sequence[float]) -> list[int]:
    """The steps at which one shot ends: a change that is large, stands out from its neighbours, and leaves nothing alike.

    Slow dissolves are not found.
    """
    found = []
    for i, value in enumerate(changes):
        around = [*changes[max(0, i - 3) : i], *changes[i + 1 : i + 4]]
        usual = float(np.median(around)) if around else 0.0
        if value >= CUT and value >= APART * usual and alike[i] < ALIKE:
            found.append(i)
    return found


def parted(flow: Float[np.ndarray, "H W 2"], grey: UInt8[np.ndarray, "H W"]) -> tuple[float, float]:
    """One step's motion of things and of the camera, as fractions of the diagonal.

    The camera's is the homography that the flow at corners follows (RANSAC), where enough of them do in three of the
    picture's quarters: things that fill less do not pass for it. Things' motion is the rest.
    """
    height, width = grey.shape
    diagonal = float(np.hypot(width, height))
    homography = _homography(flow, grey)
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    if homography is None:
        return float(np.hypot(flow[..., 0], flow[..., 1]).mean()) / diagonal, 0.0
    grid = np.stack([x, y, np.ones_like(x)], -1) @ homography.T
    own = grid[..., :2] / grid[..., 2:] - np.stack([x, y], -1)
    camera = float(np.sqrt((own**2).sum(-1).mean()))
    return float(np.linalg.norm(flow - own, axis=-1).mean()) / diagonal, camera / diagonal


def _homography(flow: np.ndarray, grey: np.ndarray) -> np.ndarray | None:
    height, width = grey.shape
    corners = cv2.goodFeaturesToTrack(grey, 400, 0.01, 5)
    if corners is None or len(corners) < 16:
        return None
    points = corners.reshape(-1, 2)
    moved = points + flow[points[:, 1].astype(int), points[:, 0].astype(int)]
    homography, follows = cv2.findHomography(points, moved, cv2.RANSAC, 0.75)
    if homography is None or follows.mean() < SHARED:
        return None
    # A stretched plane can follow a still half and a moving half at once: what stands still is the simpler story.
    still = float((np.linalg.norm(moved - points, axis=1) < STILL).mean())
    if still >= SHARED and follows.mean() < PREFERRED * still:
        return None
    quarter = (points[:, 0] >= width / 2).astype(int) + 2 * (points[:, 1] >= height / 2)
    shared = [follows.ravel()[quarter == q].mean() >= SHARED for q in range(4) if (quarter == q).any()]
    return homography if sum(shared) >= min(3, len(shared)) else None


@dataclass(frozen=True)
class Rules:
    """Which clips are kept. None: any."""

    camera: float | None = 3.0
    """the most camera motion, percent of the diagonal a second"""
    cut: bool = False
    """whether clips with cuts are kept"""
    motion: float | None = None
    """the least motion score (AnimateAnything's code takes 50, over sampled frames)"""
    most_motion: float | None = None
    seconds: float | None = 1.0
    """the least length"""
    confidence: float | None = None
    """the least dynamic confidence, 0..100 (DynamiCrafter: 40 agrees best with people)"""
    caption: bool = False
    """whether a caption is needed"""
    moved: float | None = None
    """the largest share of the picture in the motion mask"""


def why_not(row: Mapping[str, Any], rules: Rules) -> str | None:
    """Why an annotated clip is left out, or None: the first rule it breaks, with the number."""
    if row.get("error"):
        return f"broken: {row['error']}"
    if rules.caption and not row.get("caption"):
        return "caption: none"
    if not rules.cut and row["cuts"]:
        return f"cut: at {row['cuts'][0]:.2f} s" + (f" and {len(row['cuts']) - 1} more" if len(row["cuts"]) > 1 else "")
    limits = (
        ("short", "seconds", rules.seconds, -1, "{:.2f} s"),
        ("camera", "camera", rules.camera, 1, "moves {:.1f} % of the diagonal a second"),
        ("still", "motion_score", rules.motion, -1, "motion score {:.1f}"),
        ("wild", "motion_score", rules.most_motion, 1, "motion score {:.1f}"),
        ("everywhere", "moved", rules.moved, 1, "{:.0%} of the picture moves"),
        ("undynamic", "confidence", rules.confidence, -1, "dynamic confidence {:.0f}"),
    )
    for name, field, limit, sign, said in limits:
        value = row.get(field)
        if limit is not None and (value is None or (value - limit) * sign > 0):
            return f"{name}: {said.format(value if value is not None else 0)}"
    return None
