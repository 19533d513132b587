"""Painting the frames: the painting itself carried along a low-resolution motion field, at its own size.

What moves within its outline is a sheet of paint of its own, continued beyond the outline by its mirror image, so that
a drifting sky never drags a tower along. What travels is cut out and carried, and the place it leaves is filled from
its surround. Where nothing moves the frame is the painting, to the bit; at rest everything is.
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
MOST_THINGS = 6
"""travelling things that are cut out, the largest first"""


def frames(
    painting: UInt8[np.ndarray, "H W 3"],
    field: Float[np.ndarray, "L 3 h w"],
    count: int,
    stays: Float[np.ndarray, "h w"] | None = None,
    travels: Float[np.ndarray, "h w"] | None = None,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames 0 … count-1 of a clip.

    `field[k]` is the state at time (k+1)/L: backward displacement dx, dy in fractions of width and height (frame(p) =
    painting(p + d(p))) and a relative gain of light. Frame 0 is the painting. `stays`: what moves within its own outline
    (sky, water, trees), `travels`: what takes its outline along (boats, birds), both in [0, 1]; without them everything
    that moves is held to stay. Memory does not grow with `count`.
    """
    sheets = _Sheets(painting, field, stays, travels)
    for i in range(count):
        u = i / max(count - 1, 1) * len(field)
        yield painting.copy() if sheets.idle or u == 0 else sheets.paint(u)


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
    """What is computed once per clip: masks along the painting's edges, the sheets of paint, the travelling things."""

    def __init__(
        self, painting: np.ndarray, field: np.ndarray, stays: np.ndarray | None, travels: np.ndarray | None
    ) -> None:
        height, width = painting.shape[:2]
        scale = min(1.0, WORK / max(height, width))
        self.native = (width, height)
        self.work = (max(8, round(width * scale)), max(8, round(height * scale)))
        self.painting, self.field = painting, field
        self.guide = cv2.resize(painting, self.work, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        strength = np.maximum(np.hypot(field[:, 0], field[:, 1]), 0.05 * np.abs(field[:, 2])).max(0)
        peak = float(strength.max())
        self.idle = peak < QUIET
        if self.idle:
            return
        moving = _step(strength, QUIET, max(0.15 * peak, 2 * QUIET))
        self.weight = moving if stays is None else moving * _step(stays, 0.25, 0.5)
        mask = self._along_edges(self.weight)
        self.full = cv2.resize(mask, self.native, interpolation=cv2.INTER_LINEAR)
        # The outline's own pixels mix both sides: the moving sheet takes no paint from them.
        core = cv2.erode((mask > 0.9).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        self.v = _mirror(painting, core, self.work)
        self.things = [] if travels is None else list(self._things(travels))
        self.behind = painting
        self.hole = np.zeros((height, width), np.float32)
        if self.things:
            hole = np.maximum.reduce([cv2.resize(t[0], self.work, interpolation=cv2.INTER_AREA) for t in self.things])
            wide = cv2.dilate((hole > 0.1).astype(np.uint8), np.ones((5, 5), np.uint8))
            self.behind = _filled(painting, wide > 0, self.work)
            soft = cv2.GaussianBlur(wide.astype(np.float32), (0, 0), 1.5)
            self.hole = cv2.resize(soft, self.native, interpolation=cv2.INTER_LINEAR)
        self.xs, self.ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))

    def paint(self, u: float) -> np.ndarray:
        """The frame at time u in (0, L]."""
        width, height = self.native
        state = between(self.field, u)
        # Hold displacement steady beyond the outline, so that edges do not shear.
        weight = self.weight + 1e-4
        spread = [cv2.GaussianBlur(c * weight, (0, 0), 1.0) / cv2.GaussianBlur(weight, (0, 0), 1.0) for c in state]
        dx, dy, gain = (cv2.resize(c.astype(np.float32), self.native, interpolation=cv2.INTER_CUBIC) for c in spread)
        mx, my = self.xs + dx * width, self.ys + dy * height
        moved = self._remap(self.v, mx, my)
        # At rest the sheet must be the painting itself, outline and all.
        far = _step(np.hypot(mx - self.xs, my - self.ys), 0.5, 3.0)
        if far.min() < 1:
            own = self._remap(self.painting, mx, my)
            moved = own + far[..., None] * (moved - own)
        moved *= 1 + gain[..., None]
        still = self.painting.astype(np.float32)
        out = still + self.full[..., None] * (moved - still)
        shifts = [self._shift(near, u) for _, near in self.things]
        if shifts:
            away = max(float(_step(np.hypot(sx * width, sy * height), 0.5, 4.0)) for sx, sy in shifts)
            out += (self.hole * away)[..., None] * (self.behind - out)
        for (alpha, _), (sx, sy) in zip(self.things, shifts, strict=True):
            carry = np.array([[1, 0, sx * width], [0, 1, sy * height]], np.float32)
            cut = cv2.warpAffine(alpha, carry, self.native, flags=cv2.INTER_LINEAR)[..., None]
            thing = cv2.warpAffine(
                self.painting, carry, self.native, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
            out += cut * (thing - out)
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)

    @staticmethod
    def _remap(sheet: np.ndarray, mx: np.ndarray, my: np.ndarray) -> np.ndarray:
        return cv2.remap(sheet, mx, my, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)

    def _things(self, travels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each travelling thing: its cut-out at native size with a rim of its surround, and the cells its motion is read from."""
        count, labels = cv2.connectedComponents((travels > 0.35).astype(np.uint8), connectivity=8)
        sizes = [(int((labels == i).sum()), i) for i in range(1, count)]
        for size, i in sorted(sizes, reverse=True)[:MOST_THINGS]:
            if size < 2:
                continue
            mine = (labels == i).astype(np.float32)
            soft = travels * cv2.dilate(mine, np.ones((3, 3), np.uint8))
            rough = np.clip(2 * soft, 0, 1)
            alpha = cv2.resize(rough, self.work, interpolation=cv2.INTER_CUBIC)
            alpha = cv2.resize(_step(alpha, 0.15, 0.8), self.native, interpolation=cv2.INTER_LINEAR)
            yield alpha.astype(np.float32), cv2.dilate(mine, np.ones((9, 9), np.uint8))

    def _shift(self, near: np.ndarray, u: float) -> tuple[float, float]:
        """How far a thing has gone at time u, in fractions of the sides: the mean of the field around it, by its strength."""
        state = between(self.field, u)
        weight = np.hypot(state[0], state[1]) * near
        total = float(weight.sum())
        if total < 1e-6:
            return 0.0, 0.0
        return -float((state[0] * weight).sum()) / total, -float((state[1] * weight).sum()) / total

    def _along_edges(self, low: np.ndarray) -> np.ndarray:
        """A mask on the field's grid, upsampled so that its outline follows the painting's edges (guided filter)."""
        rough = np.clip(cv2.resize(low.astype(np.float32), self.work, interpolation=cv2.INTER_CUBIC), 0, 1)
        radius = max(2, round(max(self.work) / 40))
        fine = _guided(self.guide, rough, radius, 2e-4)
        # Pull the soft slope to an outline, and stay near the rough mask where the painting has no edge to follow.
        return _step(fine, 0.25, 0.75).astype(np.float32)


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
