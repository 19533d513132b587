"""One thing cut out of a painting, from a place on it: GrabCut in boxes of several sizes, of which the best is kept.

A box grows until the thing lies within it; what looks like the box's surround is not the thing (Rother, Kolmogorov and
Blake 2004). Of the boxes' results, and of what the reader believes, the one wins whose outline parts the most different
colours and which the reader believes most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from .edges import WORK, along_edges, guided, mount, resize, smaller

FINE = 256
"""longest side in pixels at which things are looked for"""
HALVES = (0.05, 0.09, 0.15, 0.24)
"""half the side of the boxes to begin with, as shares of the longer side"""
GROWTH = 0.3
"""how much a box grows, of its side, where what is in it touches its border"""
TOUCHES = 0.04
"""share of a side of the box that a thing may touch"""
WIDEST = 0.45
"""of the picture: boxes do not grow beyond"""
MOST, LEAST = 0.25, 0.0002
"""of the picture: what is larger is no thing in it, what is smaller a stroke"""
LARGE = 0.06
"""of the picture: what is larger is less and less likely one thing that travels"""
CONTRAST = 60.0
"""distance in (8-bit) Lab that counts as full contrast"""
CLEAR, SIZEABLE = 0.55, 0.005
"""contrast, and share of the picture, from which something is a thing even if the reader sees none"""
READ = 0.3
"""what the reader's own outline lacks in score, since it is measured by itself"""
SPECK = 0.02
"""of the picture: a piece of one colour up to this size is taken whole with the place in it"""

Mask = Bool[np.ndarray, "h w"]


def thing_at(
    painting: UInt8[np.ndarray, "H W 3"],
    x: float,
    y: float,
    likely: Float[np.ndarray, "n m"],
    piece: Float[np.ndarray, "a b"],
    inside: Float[np.ndarray, "H W"] | None = None,
    doubtful: bool = False,
) -> Float[np.ndarray, "h w"] | None:
    """The outline, 0 or 1, of what is at (x, y), in fractions of the sides; None where nothing stands out there.

    `likely`: how much the reader believes each place to be of the thing, 0..1; `piece`: the piece of one colour at the
    place (`around.piece_at`); `inside`: where it may lie, the place itself with it; `doubtful`: the reader takes the place for something else, so that only what
    stands out clearly counts. At most `WORK` pixels a side.
    """
    lab, (width, height) = _scaled(painting, FINE)
    seed = _disc(width, height, x, y)
    small = resize(piece, (width, height)) > 0.5
    own = seed | small if small.mean() < SPECK else seed
    framed = np.zeros(seed.shape, bool)
    rims = [math.ceil(rim * width / painting.shape[1]) for rim in mount(painting)]
    framed[rims[0] : height - rims[1], rims[2] : width - rims[3]] = True
    barred = ~framed if inside is None else ~framed | (resize(inside, (width, height)) < 0.5)
    seed, own = seed & ~barred, own & ~barred
    if not seed.any():
        return None
    belief = np.clip(resize(likely, (width, height)), 0, 1) * framed
    masks = itertools.chain(_boxed(lab, own, seed, barred), _believed(lab, own, seed, barred, belief))
    found = [(score(lab, mask, belief) - cropped_off(mask, framed), mask) for mask in masks]
    guide = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.float32) / 255
    read = joined(along_edges(guide, np.clip(2 * likely, 0, 1), (0.3, 0.5))[0] > 0.5, seed)
    read &= ~barred
    if LEAST < read.mean() < MOST:
        found.append((score(lab, read, belief) - READ - cropped_off(read, framed), read))
    if doubtful:
        found = [(rank, mask) for rank, mask in found if contrast(lab, mask) > CLEAR and mask.mean() > SIZEABLE]
    return _sharp(painting, max(found, key=lambda one: one[0])[1]).astype(np.float32) if found else None


def score(lab: UInt8[np.ndarray, "h w 3"], mask: Mask, belief: Float[np.ndarray, "h w"]) -> float:
    """Contrast along the outline, 0..1, and how well the mask agrees with what is believed around it, 0..1; less if large."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    together = float((belief * mask).sum() / max(float(np.maximum(belief * near, mask).sum()), 1.0))
    return contrast(lab, mask) + together - max(0.0, math.log(max(float(mask.mean()), LEAST) / LARGE) / 2)


def cropped_off(mask: Mask, framed: Mask) -> float:
    """How far the picture's border cuts a mask off, 0..1: what travels is seldom painted so."""
    rim = framed & (cv2.erode(framed.astype(np.uint8), np.ones((5, 5)), borderValue=0) == 0)
    _, _, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return min(1.0, float((mask & rim).sum()) / max(2 * (w + h), 1))


def contrast(lab: UInt8[np.ndarray, "h w 3"], mask: Mask) -> float:
    """How different the two sides of an outline are on the whole, 0..1; the picture's border is not part of it."""
    tones, one = lab.astype(np.float32), mask.astype(np.uint8)
    sides = [
        cv2.blur(tones * w[..., None], (7, 7)) / (cv2.blur(w, (7, 7))[..., None] + 1e-4)
        for w in (mask.astype(np.float32), 1 - mask.astype(np.float32))
    ]
    apart = np.linalg.norm(sides[0] - sides[1], axis=2)
    rim = cv2.dilate(one, np.ones((3, 3), np.uint8)) != cv2.erode(one, np.ones((3, 3), np.uint8))
    rim[[0, -1]], rim[:, [0, -1]] = False, False
    return float(np.minimum(apart[rim] / CONTRAST, 1).mean()) if rim.any() else 0.0


def joined(mask: Mask, seed: Mask) -> Mask:
    """What of a mask hangs together with the seed, gaps of a pixel bridged."""
    _, labels = cv2.connectedComponents(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3))))
    mine = np.unique(labels[seed])
    return np.asarray(np.isin(labels, mine[mine > 0]) & mask)


def _believed(
    lab: UInt8[np.ndarray, "h w 3"], own: Mask, seed: Mask, barred: Mask, belief: Float[np.ndarray, "h w"]
) -> Iterator[Mask]:
    """What is found when what the reader believes begins as the thing, and the rest of a wide box around it does not."""
    height, width = seed.shape
    near = joined((belief > 0.35) | seed, seed)
    x, y, w, h = cv2.boundingRect(near.astype(np.uint8))
    for share in (0.25, 0.5):
        across = round(max(w * share, 0.06 * width, 0.25 * h))
        down = round(max(h * share / 2, 0.06 * height, 0.25 * w))
        known = np.full(seed.shape, cv2.GC_BGD, np.uint8)
        part = (slice(max(y - down, 0), y + h + down), slice(max(x - across, 0), x + w + across))
        known[part] = np.where(belief[part] > 0.1, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
        known[barred] = cv2.GC_BGD
        known[own] = cv2.GC_FGD
        mask = joined(_grabbed(lab, known, 6) & ~barred, seed)
        if LEAST < mask.mean() < MOST:
            yield mask


def _boxed(lab: UInt8[np.ndarray, "h w 3"], own: Mask, seed: Mask, barred: Mask) -> Iterator[Mask]:
    """What is found in boxes around the seed that grow until it lies within them."""
    height, width = seed.shape
    rows, columns = np.nonzero(seed)
    middle = np.array([columns.mean(), rows.mean()])
    least, most = np.array([1, 1]), np.array([width - 1, height - 1])
    for half in HALVES:
        reach = half * max(width, height)
        low, high = (np.clip(middle + side, least, most).astype(int) for side in (-reach, reach + 1))
        for _ in range(6):
            mask = _cut(lab, low, high, own, barred)
            if mask is None:
                break
            mask = joined(mask & ~barred, seed)
            box = mask[low[1] : high[1], low[0] : high[0]]
            sides = [[box[:, :2].any(1), box[:2].any(0)], [box[:, -2:].any(1), box[-2:].any(0)]]
            touched = np.array([[side.mean() > TOUCHES for side in pair] for pair in sides])
            touched &= np.array([low > least, high < most])  # the picture's border stops a thing as it stops the paint
            if not touched.any():
                if LEAST < mask.mean() < MOST:
                    yield mask
                break
            growth = (GROWTH * (high - low)).astype(int) + 2
            low, high = np.maximum(low - touched[0] * growth, least), np.minimum(high + touched[1] * growth, most)
            if np.prod(high - low) > WIDEST * width * height:
                break


def _cut(lab: UInt8[np.ndarray, "h w 3"], low: np.ndarray, high: np.ndarray, own: Mask, barred: Mask) -> Mask | None:
    """GrabCut of the box from `low` to `high` (x, y) against a surround half as wide; None where there is no surround."""
    margin = np.maximum((high - low) // 2, 6)
    (left, top), (right, bottom) = np.maximum(low - margin, 0), np.minimum(high + margin, lab.shape[1::-1])
    part = (slice(top, bottom), slice(left, right))
    known = np.full((bottom - top, right - left), cv2.GC_BGD, np.uint8)
    known[low[1] - top : high[1] - top, low[0] - left : high[0] - left] = cv2.GC_PR_FGD
    known[barred[part]] = cv2.GC_BGD
    known[own[part]] = cv2.GC_FGD
    out = np.zeros(own.shape, bool)
    out[part] = _grabbed(lab[part], known)
    return out if (known == cv2.GC_BGD).any() else None


def _grabbed(lab: np.ndarray, known: np.ndarray, steps: int = 3) -> Mask:
    """GrabCut from what is known, in Lab; what is known where all of it is of one side."""
    kinds = set(np.unique(known).tolist())
    if not kinds & {cv2.GC_BGD, cv2.GC_PR_BGD} or not kinds & {cv2.GC_FGD, cv2.GC_PR_FGD}:
        return np.asarray((known & 1) > 0)
    cv2.setRNGSeed(0)  # its mixtures begin with k-means
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(lab), known, None, *models, steps, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return np.asarray((known & 1) > 0)


def _sharp(painting: np.ndarray, mask: Mask) -> Mask:
    """The outline at `WORK` pixels a side, along the painting's edges."""
    lab, size = _scaled(painting, WORK)
    guide = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.float32) / 255
    large = resize(mask, size)
    fine = guided(guide, large, 2, 1e-3) > 0.5
    return fine if fine.any() else large >= large.max()


def _scaled(painting: np.ndarray, longest: int) -> tuple[np.ndarray, tuple[int, int]]:
    lab = cv2.cvtColor(smaller(painting, longest), cv2.COLOR_RGB2LAB)
    return lab, lab.shape[1::-1]


def _disc(width: int, height: int, x: float, y: float) -> Mask:
    rows, columns = np.mgrid[0:height, 0:width]
    at = (min(int(x * width), width - 1), min(int(y * height), height - 1))
    return np.asarray(np.hypot(columns - at[0], rows - at[1]) <= max(1.0, 0.006 * max(width, height)))
