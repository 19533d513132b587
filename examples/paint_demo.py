"""Paint src/vivant/data/demo.jpg, the project's own demonstration picture: `python examples/paint_demo.py OUT.jpg`."""

import sys

import cv2
import numpy as np


def noise(h: int, w: int, rng: np.random.Generator, cells: tuple[int, int], octaves: int = 4) -> np.ndarray:
    """Fractal noise (h, w) in [0, 1] with `cells` features down and across."""
    total = np.zeros((h, w), np.float32)
    for o in range(octaves):
        grid = rng.random((cells[0] * 2**o + 2, cells[1] * 2**o + 2), np.float32)
        total += cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC) * 0.5**o
    return (total - total.min()) / np.ptp(total)


def scene(h: int, w: int, rng: np.random.Generator) -> np.ndarray:
    """A bay at evening: clouds, hills, water with a path of light, a sailing boat, a dark tree on the bank."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    y, x = y / h, x / w
    mix = np.clip(y / 0.56, 0, 1)[..., None] ** 1.3
    sky = np.array([0.36, 0.55, 0.72]) * (1 - mix) + np.array([0.97, 0.76, 0.5]) * mix
    puff = noise(h, w, rng, (4, 3))
    cover = np.clip((puff - 0.5) * 4.5, 0, 1)[..., None] * np.clip(1.25 - y / 0.52, 0, 1)[..., None]
    lit = np.clip(noise(h, w, rng, (9, 7)) * 1.4 - 0.2, 0, 1)[..., None]
    sky = sky * (1 - cover) + cover * (lit * np.array([1.0, 0.93, 0.84]) + (1 - lit) * np.array([0.72, 0.58, 0.62]))
    sun = np.clip(1.3 - np.hypot((x - 0.68) * 1.45, y - 0.46) / 0.035, 0, 1)[..., None]
    picture = sky * (1 - sun) + sun * np.array([1.0, 0.94, 0.72])
    for base, tall, tint in ((0.57, 0.13, (0.5, 0.48, 0.62)), (0.58, 0.07, (0.33, 0.36, 0.46))):
        line = base - tall * noise(8, w, rng, (1, 4))[4]
        hill = np.clip((y - line[None]) * h / 2, 0, 1)[..., None]
        picture = picture * (1 - hill) + hill * (np.array(tint) + 0.14 * (noise(h, w, rng, (12, 10))[..., None] - 0.5))
    sea = np.clip((y - 0.58) * h, 0, 1)[..., None]
    depth = np.clip((y - 0.58) / 0.42, 0, 1)[..., None]
    water = np.array([0.78, 0.66, 0.56]) * (1 - depth) + np.array([0.16, 0.32, 0.42]) * depth
    water = water + 0.3 * (noise(h, w, rng, (26, 4))[..., None] - 0.5)
    path = np.exp(-(((x - 0.68) / (0.03 + 0.12 * depth[..., 0])) ** 2)) * (noise(h, w, rng, (40, 6)) > 0.5)
    water = water * (1 - 0.7 * path[..., None]) + 0.7 * path[..., None] * np.array([1.0, 0.88, 0.62])
    picture = picture * (1 - sea) + sea * water
    shapes = (
        ([(0.36, 0.735), (0.52, 0.735), (0.5, 0.765), (0.385, 0.765)], (0.3, 0.16, 0.12)),
        ([(0.445, 0.52), (0.447, 0.725), (0.525, 0.725)], (0.96, 0.9, 0.78)),
        ([(0.437, 0.545), (0.437, 0.725), (0.375, 0.725)], (0.8, 0.36, 0.24)),
        ([(0.439, 0.505), (0.444, 0.505), (0.445, 0.74), (0.438, 0.74)], (0.25, 0.15, 0.1)),
    )
    for points, tint in shapes:
        layer = np.zeros((h, w), np.uint8)
        cv2.fillPoly(layer, [(np.array(points) * (w, h)).astype(np.int32)], 255, cv2.LINE_AA)
        a = layer[..., None] / 255
        picture = picture * (1 - a) + a * np.array(tint)
    bank = np.clip((y - (0.8 + 0.5 * x + 0.03 * noise(8, w, rng, (1, 9))[4][None])) * h / 3, 0, 1)[..., None]
    ground = np.array([0.28, 0.3, 0.16]) + 0.3 * (noise(h, w, rng, (30, 30))[..., None] - 0.5)
    picture = picture * (1 - bank) + bank * ground
    half = (
        0.042
        * np.sin(np.pi * np.clip((0.95 - y) / 0.78 * 0.93 + 0.06, 0, 1))
        * (0.8 + 0.5 * noise(h, w, rng, (24, 24)))
    )
    tree = (np.clip((half - np.abs(x - 0.1)) * w / 3, 0, 1) * (y < 0.95))[..., None]
    leaf = np.array([0.12, 0.2, 0.13]) + 0.28 * (noise(h, w, rng, (40, 30))[..., None] - 0.5)
    return np.clip(picture * (1 - tree) + tree * leaf, 0, 1).astype(np.float32)


def paint(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay strokes over a canvas from broad to fine, along the edges of the picture; (h, w, 3) uint8."""
    h, w = picture.shape[:2]
    canvas = cv2.GaussianBlur(picture, (0, 0), 12)
    grey = cv2.GaussianBlur(picture.mean(-1), (0, 0), 4)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    for size, count in ((20, 3500), (11, 14000), (6, 42000), (3, 60000)):
        source = cv2.GaussianBlur(picture, (0, 0), size / 3)
        for px, py in zip(rng.integers(0, w, count), rng.integers(0, h, count), strict=True):
            far = float(np.abs(canvas[py, px] - source[py, px]).sum())
            if far < 0.05 and rng.random() < 0.7:
                continue
            strong = np.hypot(gx[py, px], gy[py, px]) > 0.02
            angle = np.arctan2(gx[py, px], -gy[py, px]) if strong else rng.normal(0, 0.35)
            tint = np.clip(source[py, px] * rng.normal(1, 0.05) + rng.normal(0, 0.012, 3), 0, 1)
            dx, dy = np.cos(angle) * size * 1.6, np.sin(angle) * size * 1.6
            start, end = (int(px - dx), int(py - dy)), (int(px + dx), int(py + dy))
            cv2.line(canvas, start, end, tuple(float(v) for v in tint), max(1, size // 2), cv2.LINE_AA)
    weave = 0.018 * (rng.random((h, w, 1), np.float32) - 0.5)
    return (np.clip(canvas + weave, 0, 1) * 255).round().astype(np.uint8)


if __name__ == "__main__":
    generator = np.random.default_rng(11)
    result = paint(scene(800, 1120, generator), generator)
    cv2.imwrite(sys.argv[1], result[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
