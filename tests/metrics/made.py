"""Clips made to be good or bad by a known amount, for the tests and for `python -m benchmarks.validation`."""

from __future__ import annotations

import cv2
import numpy as np

HEIGHT, WIDTH = 144, 192


def painting(seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: fields of colour under short strokes, none of them darker than 40 or lighter than 215."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    canvas[:] = rng.integers(90, 160, 3)
    for _ in range(1800):
        x, y = int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT))
        angle, length = rng.normal(0.4, 0.5), rng.uniform(5, 14)
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        colour = np.clip(
            np.array([130, 120, 110]) + 40 * np.sin([x / 40, y / 30, (x + y) / 50]) + rng.normal(0, 22, 3), 40, 215
        )
        cv2.line(canvas, (x, y), end, [int(c) for c in colour], int(rng.integers(1, 4)), cv2.LINE_AA)
    return canvas


def carried(
    picture: np.ndarray, frames: int = 8, speed: float = 1.0, angle: float = 0.0, region: np.ndarray | None = None,
    loop: bool = False,
) -> np.ndarray:  # fmt: skip
    """Paint carried `speed` pixels a frame toward `angle` degrees (0 right, 90 down) inside a (H, W) region; the rest stays.

    `loop`: there and back, so that the frame after the last is the first.
    """
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    weight = np.ones((height, width), np.float32) if region is None else region.astype(np.float32)
    out = []
    for i in range(frames):
        far = speed * (min(i, frames - i) if loop else i)
        dx, dy = far * np.cos(np.radians(angle)), far * np.sin(np.radians(angle))
        moved = cv2.remap(
            picture, x - np.float32(dx), y - np.float32(dy), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        out.append(np.where(weight[..., None] > 0.5, moved, picture))
    return np.stack(out)


def left_half(share: float = 0.5) -> np.ndarray:
    """A (H, W) bool region: the left `share` of the picture."""
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[:, : round(share * WIDTH)] = True
    return region


def blurred(frames: np.ndarray, sigma: float) -> np.ndarray:
    """Every frame after the first loses its fine paint."""
    if sigma == 0:
        return frames
    return np.stack([frames[0], *(cv2.GaussianBlur(f, (0, 0), sigma) for f in frames[1:])])


def repainted(frames: np.ndarray, share: float) -> np.ndarray:
    """Every frame after the first has its fine paint exchanged, by `share`, for other paint of the same make."""
    other = painting(77).astype(np.float32)
    fine = other - cv2.GaussianBlur(other, (0, 0), 1.5)
    out = [frames[0]]
    for f in frames[1:].astype(np.float32):
        coarse = cv2.GaussianBlur(f, (0, 0), 1.5)
        # The energies add up to the same, as for two independent textures.
        mixed = coarse + (1 - share) ** 0.5 * (f - coarse) + share**0.5 * fine
        out.append(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
    return np.stack(out)


def swinging(frames: np.ndarray, steps: int) -> np.ndarray:
    """Light that goes up and down by `steps` of 255, every other frame."""
    sign = np.where(np.arange(len(frames)) % 2, 1, -1).reshape(-1, 1, 1, 1)
    return (frames.astype(np.int16) + steps * sign).clip(0, 255).astype(np.uint8)


def tinted(frames: np.ndarray, lightness: float, a: float = 0.0, b: float = 0.0) -> np.ndarray:
    """Frames shifted in CIELAB by the given amounts."""
    out = []
    for f in frames:
        lab = cv2.cvtColor(f.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) + np.float32([lightness, a, b])
        out.append(np.rint(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB).clip(0, 1) * 255).astype(np.uint8))
    return np.stack(out)


def noisy(frames: np.ndarray, amplitude: int, seed: int = 3) -> np.ndarray:
    """Noise of −amplitude, 0 or +amplitude, in thirds."""
    signs = np.random.default_rng(seed).integers(-1, 2, frames.shape)
    return (frames.astype(np.int16) + amplitude * signs).clip(0, 255).astype(np.uint8)
