"""Painting the frames: the painting itself carried along a low-resolution motion field, at its own size.

A frame is two sheets of paint. V holds what moves, continued beyond its outline by its own mirror image, so that a
drifting sky never drags a tower along. S holds what stands still, continued behind what may move away. Where nothing
moves the frame is the painting, to the bit; at rest both sheets are the painting.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

WORK = 384
"""longest side in pixels of the masks; the paint is never resized"""
QUIET = 0.0015
"""displacement, as a fraction of the sides, under which a place counts as still"""


def frames(
    painting: UInt8[np.ndarray, "H W 3"], field: Float[np.ndarray, "L 3 h w"], count: int
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames 0 … count-1 of a clip.

    `field[k]` is the state at time (k+1)/L: backward displacement dx, dy in fractions of width and height (frame(p) =
    painting(p + d(p))) and a relative gain of light. Frame 0 is the painting. Memory does not grow with `count`.
    """
    height, width = painting.shape[:2]
    sheets = _Sheets(painting, field)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    for i in range(count):
        u = i / max(count - 1, 1) * len(field)
        if sheets.idle or u == 0:
            yield painting.copy()
            continue
        yield sheets.paint(between(field, u), sheets.support_at(u), xs, ys)


def between(field: Float[np.ndarray, "L 3 h w"], u: float) -> Float[np.ndarray, "3 h w"]:
    """The field at time u in [0, L] (keyframe k lies at k+1, rest at 0): a Catmull-Rom spline, smooth in time."""
    keys = len(field)
    k = min(int(u), keys - 1)
    f = u - k

    def at(j: int) -> np.ndarray:
        if j < 0:
            return -field[0]
        if j > keys:
            return 2 * field[-1] - (field[-2] if keys > 1 else 0)
        return field[j - 1] if j > 0 else np.zeros_like(field[0])

    a, b, c, d = at(k - 1), at(k), at(k + 1), at(k + 2)
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


class _Sheets:
    """What is computed once per clip: masks along the painting's edges, and the two sheets of paint."""

    def __init__(self, painting: np.ndarray, field: np.ndarray) -> None:
        height, width = painting.shape[:2]
        scale = min(1.0, WORK / max(height, width))
        self.native = (width, height)
        self.work = (max(8, round(width * scale)), max(8, round(height * scale)))
        self.painting = painting
        self.guide = cv2.resize(painting, self.work, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        strength = np.maximum(np.hypot(field[:, 0], field[:, 1]), 0.05 * np.abs(field[:, 2]))
        peak = strength.max()
        self.idle = bool(peak < QUIET)
        if self.idle:
            return
        # Swings pass through zero: a place counts as moving for a while around each of its moves.
        keys = len(field)
        self.support = []
        for k in range(keys):
            window = strength[max(0, k - 1) : k + 2].max(0)
            self.support.append(_step(window, QUIET, max(0.2 * float(window.max()), 2 * QUIET)))
        first = _step(strength[0], QUIET / 2, max(0.3 * float(strength[0].max()), QUIET))
        moving = np.maximum(first, _settled(self.support))
        # What travels has left its first place by the end: only what its first place held is paint that moves.
        self.first = moving
        self.mask = self._along_edges(moving)
        # Hold displacement steady beyond the outline, so that edges do not shear.
        self.weight = moving
        self.full = cv2.resize(self.mask, self.native, interpolation=cv2.INTER_LINEAR)
        # The outline's own pixels mix both sides: neither sheet takes paint from them.
        core = cv2.erode((self.mask > 0.9).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        self.v = _mirror(painting, core, self.work)
        self.leaves = any(np.clip(self.first - s, 0, 1).max() > 0.5 for s in self.support)
        if self.leaves:
            # Small things are cut out with a rim of what surrounds them: a tight outline would cut off a mast.
            self.halo = np.clip(cv2.resize(self.first, self.native, interpolation=cv2.INTER_CUBIC), 0, 1)
            wide = cv2.resize(
                cv2.dilate(self.first, np.ones((3, 3), np.uint8)), self.work, interpolation=cv2.INTER_LINEAR
            )
            self.s = _filled(painting, wide > 0.25, self.work)

    def support_at(self, u: float) -> np.ndarray:
        """Where things move at time u, on the field's own grid, in [0, 1]."""
        k = float(np.clip(u - 1, 0, len(self.support) - 1))
        low = int(k)
        high = min(low + 1, len(self.support) - 1)
        return self.support[low] * (1 - (k - low)) + self.support[high] * (k - low)

    def paint(self, state: np.ndarray, now: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        width, height = self.native
        weight = np.maximum(self.weight, now) + 1e-4
        d = [cv2.GaussianBlur(c * weight, (0, 0), 1.0) / cv2.GaussianBlur(weight, (0, 0), 1.0) for c in state]
        dx, dy, gain = (cv2.resize(c.astype(np.float32), self.native, interpolation=cv2.INTER_CUBIC) for c in d)
        mx, my = xs + dx * width, ys + dy * height
        cover, still = self.full, self.painting.astype(np.float32)
        if self.leaves:
            gone = _step(np.clip(self.first - now, 0, 1), 0.2, 0.7)
            come = _step(np.clip(now - cv2.dilate(self.first, np.ones((3, 3))), 0, 1), 0.1, 0.5)
            wide = cv2.dilate(gone, np.ones((3, 3)))
            gone, come, wide = (
                np.clip(cv2.resize(m, self.native, interpolation=cv2.INTER_LINEAR), 0, 1) for m in (gone, come, wide)
            )
            source = cv2.remap(self.halo, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            travelling = np.maximum(gone, come)
            cover = np.maximum(self.full * (1 - np.maximum(travelling, wide)), source * np.maximum(travelling, wide))
            still += (wide * (1 - _step(source, 0.5, 1.0)))[..., None] * (self.s.astype(np.float32) - still)
        moved = cv2.remap(self.v, mx, my, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)
        # At rest the sheet must be the painting itself, outline and all.
        far = _step(np.hypot(mx - xs, my - ys), 0.5, 3.0)
        if self.leaves:
            far = far * (1 - travelling)
        if far.min() < 1:
            own = cv2.remap(self.painting, mx, my, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101).astype(
                np.float32
            )
            moved = own + far[..., None] * (moved - own)
        moved = moved * (1 + gain[..., None])
        out = still + cover[..., None] * (moved - still)
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)

    def _along_edges(self, low: np.ndarray) -> np.ndarray:
        """A mask on the field's grid, upsampled so that its outline follows the painting's edges (guided filter)."""
        rough = np.clip(cv2.resize(low.astype(np.float32), self.work, interpolation=cv2.INTER_CUBIC), 0, 1)
        radius = max(2, round(max(self.work) / 40))
        fine = _guided(self.guide, rough, radius, 2e-4)
        # Pull the soft slope to an outline, and stay near the rough mask where the painting has no edge to follow.
        return _step(fine, 0.25, 0.75).astype(np.float32)


def _settled(support: list[np.ndarray]) -> np.ndarray:
    """What moves at every time: the part of a motion that stays in its place."""
    return np.minimum.reduce(support)


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / max(high - low, 1e-9), 0, 1)
    return t * t * (3 - 2 * t)


def _blend(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    out = a.astype(np.float32) + weight[..., None] * (b.astype(np.float32) - a.astype(np.float32))
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _guided(guide: np.ndarray, p: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """Guided filter of p by a colour guide (He et al. 2010), one channel of the guide at a time, averaged by contrast."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, size, borderType=cv2.BORDER_REFLECT)

    total, weights = np.zeros_like(p), np.zeros_like(p)
    for channel in cv2.split(guide):
        m, mp = mean(channel), mean(p)
        covariance, variance = mean(channel * p) - m * mp, mean(channel * channel) - m * m
        a = covariance / (variance + eps)
        b = mp - a * m
        # The channel in which the outline shows best decides.
        trust = covariance**2 / (variance + eps) + 1e-6
        total += trust * (mean(a) * channel + mean(b))
        weights += trust
    return total / weights


def _filled(painting: np.ndarray, hole: np.ndarray, work: tuple[int, int]) -> np.ndarray:
    """The painting with `hole` (at work size) filled from its surround: tones inpainted, strokes borrowed from beside it."""
    height, width = painting.shape[:2]
    small = cv2.resize(painting, work, interpolation=cv2.INTER_AREA)
    tones = cv2.inpaint(small, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    tones = cv2.resize(tones, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    strokes = painting.astype(np.float32) - cv2.GaussianBlur(painting, (0, 0), max(height, width) / WORK * 2).astype(
        np.float32
    )
    columns = np.flatnonzero(hole.any(0))
    shift = round((columns[-1] - columns[0] + 4) / work[0] * width) if len(columns) else 0
    beside = np.roll(strokes, shift if shift + 8 < width else width // 2, axis=1)
    mask = cv2.resize(hole.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return _blend(painting, np.clip(tones + beside, 0, 255), mask)


def _mirror(painting: np.ndarray, keep: np.ndarray, work: tuple[int, int]) -> np.ndarray:
    """The painting with everything outside `keep` (at work size) replaced by the kept paint's mirror image."""
    height, width = painting.shape[:2]
    if keep.all() or not keep.any():
        return painting
    _, labels = cv2.distanceTransformWithLabels(
        (~keep).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    ky, kx = np.nonzero(keep)
    order = np.zeros(int(labels.max()) + 1, np.int64)
    order[labels[ky, kx]] = np.arange(len(ky))
    by, bx = ky[order[labels]].astype(np.float32), kx[order[labels]].astype(np.float32)
    y, x = np.mgrid[0 : work[1], 0 : work[0]].astype(np.float32)
    sx, sy = np.abs(2 * bx - x), np.abs(2 * by - y)
    sx = np.minimum(sx, 2 * (work[0] - 1) - sx)
    sy = np.minimum(sy, 2 * (work[1] - 1) - sy)
    # A mirror point that falls outside what is kept gives way to the outline's own colour, softened.
    landed = keep[np.clip(sy.round().astype(int), 0, work[1] - 1), np.clip(sx.round().astype(int), 0, work[0] - 1)]
    sx, sy = np.where(landed, sx, bx), np.where(landed, sy, by)
    ratio = (width / work[0], height / work[1])
    maps = [cv2.resize(m.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) for m in (sx, sy)]
    mirrored = cv2.remap(
        painting, maps[0] * ratio[0], maps[1] * ratio[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    soft = cv2.GaussianBlur(mirrored, (0, 0), max(height, width) / 150)
    lost = cv2.resize((~landed & ~keep).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    mirrored = _blend(mirrored, soft, lost)
    inside = cv2.resize(keep.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return _blend(mirrored, painting, np.clip(2 * inside, 0, 1))
