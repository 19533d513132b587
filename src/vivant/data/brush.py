"""Brushes: fractal paint, blobs, and the styles a procedural scene is finished in."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np


def hsv(h: float, s: float, v: float) -> np.ndarray:
    """One colour (3,) float32 in [0, 1] from hue (any), saturation and value."""
    return np.array(colorsys.hsv_to_rgb(float(h) % 1, float(np.clip(s, 0, 1)), float(np.clip(v, 0, 1))), np.float32)


def fractal(n: int, rng: np.random.Generator, scale: float = 4, stretch: tuple[float, float] = (1, 1)) -> np.ndarray:
    """(n, n) float32 fractal value noise in [0, 1]; `scale` features a side, elongated by `stretch` (x, y)."""
    total = np.zeros((n, n), np.float32)
    for octave in range(3):
        f = scale * 2**octave
        w, h = max(2, round(f / stretch[0]) + 2), max(2, round(f / stretch[1]) + 2)
        grid = rng.random((min(h, n), min(w, n)), np.float32)
        total += cv2.resize(grid, (n, n), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low + 1e-6)


def blobs(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, cx: float, cy: float, rx: float, ry: float
) -> np.ndarray:
    """A crown of overlapping soft discs around (cx, cy), in [0, 1]."""
    out = np.zeros_like(x)
    for _ in range(5):
        ox, oy, s = rng.normal(0, 0.45), rng.normal(0, 0.45), rng.uniform(0.5, 0.9)
        d = ((x - cx - ox * rx) / (rx * s)) ** 2 + ((y - cy - oy * ry) / (ry * s)) ** 2
        out = np.maximum(out, np.exp(-d * 0.7))
    return out


def paint_over(
    picture: np.ndarray, rng: np.random.Generator, textures: Sequence[np.ndarray], labels: np.ndarray
) -> np.ndarray:
    """Finish a flat scene in a random style: strokes, ink lines, canvas, faded or single-hue palettes. (n, n, 3) uint8."""
    n = picture.shape[0]
    image = np.clip(picture, 0, 1).astype(np.float32)
    if textures and rng.random() < 0.4:
        source = textures[int(rng.integers(len(textures)))]
        side = int(rng.uniform(0.2, 0.7) * min(source.shape[:2]))
        y0, x0 = (int(rng.integers(s - side + 1)) for s in source.shape[:2])
        patch = cv2.resize(source[y0 : y0 + side, x0 : x0 + side], (n, n), interpolation=cv2.INTER_AREA) / np.float32(
            255
        )
        detail = patch - cv2.GaussianBlur(patch, (0, 0), n / 8)
        chosen = labels == rng.choice(np.unique(labels)) if rng.random() < 0.6 else np.ones_like(labels, bool)
        image = image + detail * chosen[..., None] * rng.uniform(0.4, 1.2)
    if rng.random() < 0.6:
        image += rng.uniform(0.05, 0.35) * (
            fractal(n, rng, n / 5, (rng.uniform(1, 4), rng.uniform(1, 4)))[..., None] - 0.5
        )
    if rng.random() < 0.25:
        warp = rng.uniform(0.5, 2.5) * n / 96
        y, x = np.mgrid[0:n, 0:n].astype(np.float32)
        image = cv2.remap(
            image, x + warp * (2 * fractal(n, rng, n / 6) - 1), y + warp * (2 * fractal(n, rng, n / 6) - 1),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
        )  # fmt: skip
    if rng.random() < 0.2:
        edges = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
        image[edges] *= rng.uniform(0.1, 0.6)
    style = rng.random()
    grey = image.mean(-1, keepdims=True)
    if style < 0.12:
        image = grey * hsv(rng.uniform(0.07, 0.14), rng.uniform(0.1, 0.5), 1.0) * rng.uniform(0.8, 1.2)
    elif style < 0.4:
        image = grey + (image - grey) * rng.uniform(0.3, 1.5)
    image = (
        (image - 0.5) * rng.uniform(0.6, 1.3) + 0.5 + rng.normal(0, 0.07) + rng.normal(0, 0.05, 3).astype(np.float32)
    )
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2) * n / 96)
    image += rng.normal(0, rng.uniform(0, 0.05), image.shape).astype(np.float32)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)
