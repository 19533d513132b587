"""Masks that follow a painting's edges, and paint continued beyond them."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

WORK = 384
"""longest side in pixels of the masks; the paint is never resized"""
THIN = 9
"""pixels at that size: what is thinner may be a mast"""
STANDS_OUT, RARE = 25, 0.985
"""how much, of 255, a mast differs from what is beside it, and how rare that must be in the paint around"""
FARTHEST = 0.12
"""how far a mast reaches, as a share of the longer side"""


def mount(painting: UInt8[np.ndarray, "H W 3"]) -> tuple[int, int, int, int]:
    """Widths in pixels (top, bottom, left, right) of a flat frame around the picture: zeros where there is none."""
    widths, tones = [], []
    for turned in (painting, painting[::-1], painting.transpose(1, 0, 2), painting[:, ::-1].transpose(1, 0, 2)):
        strip = turned[: max(1, len(turned) // 5)].astype(np.float32)
        tone = np.median(strip[:2].reshape(-1, 3), 0)
        flat = (np.abs(strip - tone).max(2) < 14).mean(1) > 0.9
        widths.append(len(flat) if flat.all() else int(np.argmin(flat)))
        tones.append(tone)
    # One flat side is a quiet sky; a mount shows on three sides at least, in one colour.
    tone = np.median(tones, 0)
    found = [
        w >= 2 and np.abs(t - tone).max() < 20 and w < len(painting) // 5 for w, t in zip(widths, tones, strict=True)
    ]
    if sum(found) < 3:
        return 0, 0, 0, 0
    rim = round(0.012 * max(painting.shape[:2]))
    top, bottom, left, right = (w + rim if ok else 0 for w, ok in zip(widths, found, strict=True))
    if 2 * (top + bottom) > len(painting) or 2 * (left + right) > painting.shape[1]:
        return 0, 0, 0, 0  # a strip, not a picture in a frame
    return top, bottom, left, right


def along_edges(
    guide: np.ndarray, low: np.ndarray, middle: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mask `low` (h w), upsampled to the size of the guide so that its outline follows the guide's edges.

    Returns the mask, how far the colour alone speaks for it, and how clear an edge there is, all (H W) in [0, 1].
    `middle`: the span of belief turned into an outline.

    Joint bilateral filter on a grid of place and colour (Paris and Durand 2006), then a guided filter (He et al. 2010).
    """
    work = (guide.shape[1], guide.shape[0])
    rough = np.clip(resize(low.astype(np.float32), work), 0, 1)
    rows, columns = (np.arange(n) * 20 // max(work) for n in (work[1], work[0]))
    place = rows[:, None] * (columns[-1] + 1) + columns
    bins = np.minimum((guide * 10).astype(int), 9)
    at = ((place * 10 + bins[..., 0]) * 10 + bins[..., 1]) * 10 + bins[..., 2]
    shape = (int(rows[-1]) + 1, int(columns[-1]) + 1, 10, 10, 10)
    total = [np.bincount(at.ravel(), w, int(np.prod(shape))).reshape(shape) for w in (rough.ravel(), None)]
    for axis in range(5):
        total = [_soften(t, axis) for t in total]
    fine = (total[0].ravel()[at] / total[1].ravel()[at]).astype(np.float32)
    cell = max(1, round(1.6 * max(work) / 32))
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (4 * cell + 1, 4 * cell + 1))
    fine = np.clip(fine, cv2.erode(rough, near), cv2.dilate(rough, near))
    likely, fine = fine, guided(guide, step(fine, *middle), max(1, cell // 6), 1e-3)
    fine = step(fine, 0.25, 0.75).astype(np.float32)
    spread = (2 * cell + 1, 2 * cell + 1)
    inside, outside = (cv2.blur(w, spread)[..., None] + 1e-4 for w in (fine, 1 - fine))
    tones = (cv2.blur(guide * w[..., None], spread) / n for w, n in ((fine, inside), (1 - fine, outside)))
    contrast = np.abs(np.subtract(*tones)).max(2)
    return fine, likely, cv2.GaussianBlur(step(contrast, 0.03, 0.1), (0, 0), cell / 2).astype(np.float32)


def slender(guide: Float[np.ndarray, "h w 3"], of: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Masts, spires and branches: thin strokes that begin at `of`, reach out of it, and stand out from the paint there.

    `guide`: colours, 0..1. What is no thicker than `THIN` pixels and differs from both its sides (top-hat and black-hat) by
    more than all but the strongest strokes around: in paint that is all strokes, none does.
    """
    out = np.zeros(of.shape, bool)
    if of.all() or not of.any():
        return out
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THIN, THIN))
    lab = cv2.cvtColor(np.rint(255 * guide).astype(np.uint8), cv2.COLOR_RGB2LAB)
    hats = [cv2.morphologyEx(c, how, disc) for c in cv2.split(lab) for how in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT)]
    apart = np.max(hats, axis=0)
    near = cv2.dilate(of.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    away = cv2.distanceTransform((~of).astype(np.uint8), cv2.DIST_L2, 5)
    strokes = apart > max(STANDS_OUT, float(np.quantile(apart[~of], RARE)))
    reached = ((strokes & (away <= FARTHEST * max(of.shape))) | near).astype(np.uint8)
    _, labels = cv2.connectedComponents(reached, connectivity=8)
    mine = np.unique(labels[of])
    return np.asarray(np.isin(labels, mine[mine > 0]) & ~near)


def step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, between them 3t² - 2t³ (smoothstep)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def smaller(painting: UInt8[np.ndarray, "H W 3"], longest: int) -> UInt8[np.ndarray, "h w 3"]:
    """A painting at `longest` pixels a side at most, and at least 8."""
    scale = min(1.0, longest / max(painting.shape[:2]))
    size = (max(8, round(painting.shape[1] * scale)), max(8, round(painting.shape[0] * scale)))
    return cv2.resize(painting, size, interpolation=cv2.INTER_AREA)


def resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map at `size` (width, height), bilinear, float32."""
    return cv2.resize(x.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)


def mix(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """a + weight·(b - a), exactly a where the weight is zero."""
    weight = weight.astype(np.float32)
    return cv2.blendLinear(a, b, 1 - weight, weight)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two Boolean maps; 0 of two empty ones."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def cropped(x: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """A map on a grid, resampled over the part `box` (x0, y0, x1, y1 in fractions) of its extent."""
    height, width = x.shape[:2]
    u = (box[0] + (box[2] - box[0]) * (np.arange(width) + 0.5) / width) * width - 0.5
    v = (box[1] + (box[3] - box[1]) * (np.arange(height) + 0.5) / height) * height - 0.5
    mx, my = (m.astype(np.float32) for m in np.meshgrid(u, v))
    return cv2.remap(x.astype(np.float32), mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _soften(x: np.ndarray, axis: int) -> np.ndarray:
    padded = np.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)])
    low, high = (np.take(padded, range(i, i + x.shape[axis]), axis) for i in (0, 2))
    return (low + 2 * x + high) / 4


def guided(guide: np.ndarray, p: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """Guided filter of p by a colour guide, one channel at a time, averaged by contrast."""
    size = (2 * radius + 1, 2 * radius + 1)
    total, weights = np.zeros_like(p), np.zeros_like(p)
    for channel in cv2.split(guide):
        m, mp = cv2.boxFilter(channel, -1, size), cv2.boxFilter(p, -1, size)
        covariance = cv2.boxFilter(channel * p, -1, size) - m * mp
        variance = cv2.boxFilter(channel * channel, -1, size) - m * m
        a = covariance / (variance + eps)
        trust = covariance**2 / (variance + eps) + 1e-6
        total += trust * (cv2.boxFilter(a, -1, size) * channel + cv2.boxFilter(mp - a * m, -1, size))
        weights += trust
    return total / weights


def fill(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x (h w C) where the weight is 1, its surround's tones where it is 0: push-pull through a pyramid."""
    height, width = x.shape[:2]
    w = weight.astype(np.float32)[..., None]
    if min(height, width) <= 2:
        mean = (x * w).sum((0, 1)) / max(float(w.sum()), 1e-6)
        return (w * x + (1 - w) * mean).astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    x = x.astype(np.float32)
    small = cv2.resize(w, half, interpolation=cv2.INTER_AREA)
    tones = cv2.resize(x * w, half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0], -1) / (
        small[..., None] + 1e-8
    )
    coarse = fill(tones, np.minimum(2 * small, 1))
    return w * x + (1 - w) * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(x.shape)


def continued(painting: np.ndarray, keep: np.ndarray, work: tuple[int, int], level: int = 1) -> np.ndarray:
    """The painting with all outside `keep` (at work size) painted over: tones of the surround, strokes of its mirror image.

    `level`: how much nearer the surround counts sideways than up and down, as in water and land.
    """
    height, width = painting.shape[:2]
    if keep.all() or not keep.any():
        return painting
    small = cv2.resize(painting, work, interpolation=cv2.INTER_AREA).astype(np.float32)
    narrow = (max(2, work[0] // level), work[1])
    known = cv2.resize(keep.astype(np.float32), narrow, interpolation=cv2.INTER_AREA)
    tones = cv2.resize(small * keep[..., None], narrow, interpolation=cv2.INTER_AREA) / (known[..., None] + 1e-8)
    tones = cv2.resize(fill(tones, known), work, interpolation=cv2.INTER_LINEAR)
    tones = cv2.GaussianBlur(tones + keep[..., None] * (small - tones), (0, 0), 1.5)
    _, labels = cv2.distanceTransformWithLabels(
        (~keep).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    ky, kx = np.nonzero(keep)
    order = np.zeros(int(labels.max()) + 1, np.int64)
    order[labels[ky, kx]] = np.arange(len(ky))
    y, x = np.mgrid[0 : work[1], 0 : work[0]]
    by, bx = ky[order[labels]], kx[order[labels]]
    sx, sy = np.clip(2 * bx - x, 0, work[0] - 1), np.clip(2 * by - y, 0, work[1] - 1)
    landed = keep[sy, sx]
    for m in (sx, sy):
        jump = np.maximum(np.abs(np.diff(m, axis=0, prepend=m[:1])), np.abs(np.diff(m, axis=1, prepend=m[:, :1])))
        landed &= jump < 4
    # Strokes are what the tones leave out; a mirror point that falls on something else lends none.
    ratio = (width / work[0], height / work[1])
    mx, my = ((resize(m, (width, height)) + 0.5) * r - 0.5 for m, r in zip((sx, sy), ratio, strict=True))
    inside = np.clip(2 * resize(keep, (width, height)) - 0.5, 0, 1)[..., None]
    base = cv2.resize(tones, (width, height), interpolation=cv2.INTER_CUBIC)
    flat = cv2.GaussianBlur(painting, (0, 0), max(height, width) / WORK * 3)
    strokes = painting.astype(np.float32) - flat
    borrowed = cv2.remap(strokes, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    lent = cv2.GaussianBlur(
        resize(cv2.erode((landed & ~keep).astype(np.uint8), np.ones((3, 3), np.uint8)), (width, height)), (0, 0), 1.5
    )
    filled = base + lent[..., None] * borrowed
    return np.clip(np.rint(filled + inside * (painting - filled)), 0, 255).astype(np.uint8)
