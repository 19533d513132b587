"""Exact motion of procedural layers: backward displacement and light, keyframe by keyframe."""

from __future__ import annotations

import numpy as np

from .captions import Motion

KEYS = 8
"""keyframes of a clip, at times 1/8, 2/8 … 1 (frame 0 is the painting)"""
GRID = 32


def times() -> np.ndarray:
    """(KEYS, 1, 1): the keyframes' times in (0, 1]."""
    return (np.arange(1, KEYS + 1) / KEYS).reshape(-1, 1, 1).astype(np.float32)


def layer_motion(
    motion: Motion, strength: float, anchor: np.ndarray, depth: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The trajectory field of one layer: (KEYS, 3, GRID, GRID), displacement in fractions of the sides, then light.

    `anchor` (GRID, GRID): how free each point is (0 at a tree's foot, 1 at its top); `depth`: how near (speeds differ).
    """
    t = times()
    y, x = np.mgrid[0:GRID, 0:GRID].astype(np.float32) / (GRID - 1)
    out = np.zeros((KEYS, 3, GRID, GRID), np.float32)
    size = 2 * strength * motion.speed * rng.uniform(0.85, 1.15)
    if motion.direction is not None:
        ux, uy = motion.direction
    else:
        side = rng.choice([-1.0, 1.0])
        ux, uy = side, rng.uniform(-0.2, 0.2)
    if motion.kind == "drift":
        reach = 0.17 * size * t * depth * anchor
        out[:, 0], out[:, 1] = -ux * reach, -uy * reach
    elif motion.kind == "ripple":
        k = rng.uniform(1.0, 2.5)
        tilt = rng.uniform(-0.6, 0.6) if abs(ux) > abs(uy) else rng.uniform(1.2, 1.9)
        phase = 2 * np.pi * k * (np.cos(tilt) * x * np.sign(ux or 1) + np.sin(tilt) * y * 1.6)
        turns = 2 * np.pi * rng.uniform(0.8, 1.4)
        first = rng.uniform(0, 2 * np.pi)
        swing = np.sin(phase - turns * t + first) - np.sin(phase + first)
        lift = np.cos(phase - turns * t + first) - np.cos(phase + first)
        out[:, 0] = 0.016 * size * swing * depth * anchor
        out[:, 1] = 0.016 * size * lift * depth * anchor
        if motion.direction is not None:
            out[:, 0] -= 0.07 * size * ux * t * depth * anchor
            out[:, 1] -= 0.07 * size * uy * t * depth * anchor
    elif motion.kind == "sway":
        first, turns = rng.uniform(0, 2 * np.pi), 2 * np.pi * rng.uniform(0.7, 1.3)
        local = rng.uniform(0.5, 2) * x * np.pi
        swing = np.sin(turns * t + first + local) - np.sin(first + local)
        lean = ux if motion.direction is not None else 1.0
        out[:, 0] = -0.03 * size * lean * swing * anchor
        out[:, 1] = 0.006 * size * np.abs(swing) * anchor
    elif motion.kind == "swirl":
        for _ in range(rng.integers(1, 4)):
            cx, cy, spread = rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.7), rng.uniform(0.12, 0.3)
            rx, ry = x - cx, y - cy
            bell = np.exp(-(rx**2 + ry**2) / (2 * spread**2))
            angle = rng.choice([-1, 1]) * 0.75 * size * t * bell
            out[:, 0] += (np.cos(angle) - 1) * rx - np.sin(angle) * ry
            out[:, 1] += np.sin(angle) * rx + (np.cos(angle) - 1) * ry
        out[:, :2] *= anchor
    elif motion.kind == "flicker":
        beat = rng.normal(0, 1, KEYS)
        beat = np.convolve(np.r_[0, beat, beat[-1]], [0.25, 0.5, 0.25], "valid")
        local = 1 + 0.3 * np.sin(6 * x + 5 * y + rng.uniform(0, 6))
        out[:, 2] = 0.35 * size * beat.reshape(-1, 1, 1) * local
        lick = np.sin(2 * np.pi * (2.5 * y + 1.5 * t) + rng.uniform(0, 6)) - np.sin(2 * np.pi * 2.5 * y)
        out[:, 0] = 0.006 * size * lick * anchor
    return out


def compose(layers: list[tuple[np.ndarray, np.ndarray | None, bool]]) -> np.ndarray:
    """Back-to-front composition: (KEYS, 3, GRID, GRID) of the whole scene.

    Each layer is (alpha (GRID, GRID), trajectory or None for a still one, whether its outline moves along).
    """
    import cv2

    total = np.zeros((KEYS, 3, GRID, GRID), np.float32)
    for alpha, field, travels in layers:
        for k in range(KEYS):
            a = alpha
            if field is not None and travels:
                weight = alpha.sum() + 1e-6
                dx, dy = ((field[k, i] * alpha).sum() / weight * GRID for i in (0, 1))
                shift = np.array([[1, 0, -dx], [0, 1, -dy]], np.float32)
                a = cv2.warpAffine(alpha, shift, (GRID, GRID), flags=cv2.INTER_LINEAR)
            total[k] *= 1 - a
            if field is not None:
                total[k] += a * field[k]
    return total
