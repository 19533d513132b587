"""Procedural painterly scenes whose motion is known exactly: picture, layer masks, displacement fields, caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .brush import blobs, fractal, hsv, paint_over
from .captions import SUBJECTS, Motion, Plan, describe
from .fields import GRID, compose, layer_motion

KINDS_OF = {
    "sky": ("drift", "drift", "drift", "swirl"), "sun": ("flicker", "drift"), "water": ("ripple", "ripple", "drift"),
    "waterfall": ("drift",), "boat": ("drift",), "bird": ("drift",), "tree": ("sway",), "grass": ("sway",),
    "flower": ("sway",), "smoke": ("drift", "swirl"), "fire": ("flicker",), "flag": ("ripple", "sway"),
    "figure": ("drift", "sway"), "lamp": ("flicker",),
}  # fmt: skip
TRAVELS = {"boat", "bird", "figure", "sun"}
DIRECTIONS = [
    (1.0, 0.0),
    (-1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (0.7071, -0.7071),
    (-0.7071, -0.7071),
    (0.7071, 0.7071),
    (-0.7071, 0.7071),
]


@dataclass(frozen=True, eq=False)
class Scene:
    """One sample. `picture` (N, N, 3) uint8; `labels` (N, N) index into SUBJECTS; `field` (8, 3, 32, 32); strength 0..1."""

    picture: np.ndarray
    labels: np.ndarray
    field: np.ndarray
    plan: Plan
    caption: str
    strength: float


class _Canvas:
    """Layers from back to front, each with a soft outline, colours, a subject and its geometry for motion."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.n, self.rng = n, rng
        self.y, self.x = np.mgrid[0:n, 0:n].astype(np.float32) / (n - 1)
        self.picture = np.zeros((n, n, 3), np.float32)
        self.labels = np.zeros((n, n), np.uint8)
        self.layers: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(
        self, subject: str, alpha: np.ndarray, colour: np.ndarray, foot: float | None = None, top: float | None = None,
        horizon: float | None = None,
    ) -> None:  # fmt: skip
        alpha = alpha.astype(np.float32)
        a = alpha[..., None]
        self.picture = self.picture * (1 - a) + colour * a
        self.labels[alpha > 0.5] = SUBJECTS.index(subject)
        small = cv2.resize(alpha, (GRID, GRID), interpolation=cv2.INTER_AREA)
        gy = np.linspace(0, 1, GRID, dtype=np.float32)[:, None].repeat(GRID, 1)
        anchor = np.ones((GRID, GRID), np.float32)
        if foot is not None and top is not None:
            anchor = np.clip((foot - gy) / max(foot - top, 0.02), 0, 1)
        depth = np.ones((GRID, GRID), np.float32)
        if horizon is not None:
            span = max(horizon, 1 - horizon, 0.1)
            depth = 0.55 + 0.6 * np.clip(np.abs(gy - horizon) / span, 0, 1)
        self.layers.append((subject, small, anchor, depth))

    def tone(
        self, colour: np.ndarray, rough: float, stretch: tuple[float, float] = (1, 1), scale: float = 4
    ) -> np.ndarray:
        """A painted surface of one colour: fractal light and dark, and a second hue."""
        light = fractal(self.n, self.rng, scale, stretch)[..., None]
        other = fractal(self.n, self.rng, scale / 2, stretch)[..., None]
        shift = self.rng.normal(0, 0.12, 3).astype(np.float32)
        return np.clip(colour + rough * (light - 0.5) + shift * (other - 0.5) * 2 * rough, 0, 1)


def _sky(c: _Canvas, horizon: float) -> np.ndarray:
    r = c.rng
    hue = r.choice([0.58, 0.6, 0.55, 0.08, 0.03, 0.11, 0.95, 0.7, 0.13]) + r.normal(0, 0.03)
    top = hsv(hue, r.uniform(0.05, 0.8), r.uniform(0.3, 0.95))
    low = hsv(hue + r.choice([0, 0.1, -0.1, 0.5]), r.uniform(0.05, 0.6), r.uniform(0.5, 1.0))
    mix = np.clip(c.y / max(horizon, 0.1), 0, 1)[..., None] ** r.uniform(0.6, 1.6)
    sky = top * (1 - mix) + low * mix
    style = r.random()
    cloud = hsv(
        r.choice([hue, hue + 0.5, 0.08, 0.02]), r.uniform(0, 0.5), r.choice([r.uniform(0.2, 0.5), r.uniform(0.75, 1.0)])
    )
    if style < 0.6:
        f = fractal(c.n, r, r.uniform(2.5, 5), (r.uniform(1, 3), 1))
        a = np.clip((f - r.uniform(0.35, 0.6)) * r.uniform(3, 9), 0, 1)[..., None] * r.uniform(0.5, 1)
        sky = sky * (1 - a) + (cloud + 0.3 * (fractal(c.n, r, 6)[..., None] - 0.5)) * a
    elif style < 0.75:
        bend = fractal(c.n, r, 2.5) * r.uniform(0.2, 1.2) + 0.1 * np.sin(6 * c.x + r.uniform(0, 6))
        a = (0.5 + 0.5 * np.sin(2 * np.pi * r.uniform(4, 10) * (c.y + 0.3 * bend)))[..., None] ** r.uniform(0.7, 2)
        sky = sky * (1 - a) + cloud * a
    elif style < 0.88:
        twist = np.zeros_like(c.x)
        for _ in range(r.integers(2, 5)):
            d = np.hypot(c.x - r.random(), c.y - r.random() * max(horizon, 0.3))
            twist += np.exp(-((d / r.uniform(0.1, 0.25)) ** 2)) * d * r.uniform(20, 60)
        a = (0.5 + 0.5 * np.sin(twist + 14 * fractal(c.n, r, 3)))[..., None]
        sky = sky * (1 - 0.7 * a) + cloud * 0.7 * a
    return np.clip(sky, 0, 1)


def _water(c: _Canvas, horizon: float, sky: np.ndarray) -> np.ndarray:
    r = c.rng
    if r.random() < 0.45:
        mean = sky[: max(int(horizon * c.n), 2)].mean((0, 1)) * r.uniform(0.5, 1.05)
    else:
        mean = hsv(
            r.choice([0.55, 0.6, 0.5, 0.45, 0.62, 0.1]) + r.normal(0, 0.03), r.uniform(0.1, 0.75), r.uniform(0.25, 0.85)
        )
    if r.random() < 0.3:
        mirrored = np.clip(2 * horizon - c.y, 0, 1)
        rows = (mirrored * (c.n - 1)).astype(np.float32)
        below = cv2.remap(c.picture, (c.x * (c.n - 1)).astype(np.float32), rows, cv2.INTER_LINEAR)
        mean = 0.5 * mean + 0.5 * cv2.blur(below, (3, 5))
    streak = r.uniform(2, 7)
    water = c.tone(mean, r.uniform(0.15, 0.55), (streak, 1), r.uniform(4, 9))
    if r.random() < 0.5:
        near = 0.3 + np.clip((c.y - horizon) / max(1 - horizon, 0.1), 0, 1)
        crest = np.sin(2 * np.pi * (r.uniform(4, 12) * (c.y - horizon) / near + 1.5 * fractal(c.n, r, 4, (2, 1))))
        foam = np.clip((crest - r.uniform(0.3, 0.8)) * 3, 0, 1)[..., None] * r.uniform(0.2, 0.9)
        water = water * (1 - foam) + hsv(r.random(), r.uniform(0, 0.2), r.uniform(0.7, 1)) * foam
    return np.clip(water, 0, 1)


def _ridge(c: _Canvas, level: float, height: float, rough: float = 3.0) -> np.ndarray:
    line = fractal(c.n, c.rng, rough)[c.n // 2]
    line = (line - line.min()) / (np.ptp(line) + 1e-6)
    return np.clip((c.y - (level - height * line)[None, :]) * c.n / 2, 0, 1)


def _polygon(c: _Canvas, points: Sequence[tuple[float, float]]) -> np.ndarray:
    out = np.zeros((c.n, c.n), np.uint8)
    cv2.fillPoly(out, [np.round(np.array(points) * c.n * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return out / np.float32(255)


def _dark(r: np.random.Generator, hues: Sequence[float], low: float = 0.1, high: float = 0.7) -> np.ndarray:
    return hsv(r.choice(hues) + r.normal(0, 0.03), r.uniform(0.1, 0.7), r.uniform(low, high))


def _boat(c: _Canvas, ground: float) -> None:
    r = c.rng
    for _ in range(r.integers(1, 4) if r.random() < 0.4 else 1):
        s, x, y = r.uniform(0.08, 0.26), r.uniform(0.15, 0.85), r.uniform(min(ground + 0.06, 0.88), 0.92)
        lift, w = s * r.uniform(0.12, 0.25), s / 2
        a = _polygon(c, [(x - w, y - lift), (x + w, y - lift), (x + w * 0.7, y), (x - w * 0.65, y)])
        colour = np.broadcast_to(_dark(r, [0.05, 0.08, 0.0, 0.6], 0.1, 0.6), (c.n, c.n, 3)).copy()
        if r.random() < 0.6:
            h = s * r.uniform(0.6, 1.4)
            sail = _polygon(
                c, [(x, y - lift - h), (x + w * r.uniform(0.4, 1), y - lift), (x - w * r.uniform(0.1, 0.8), y - lift)]
            )
            tint = hsv(r.choice([0.1, 0.03, 0.15]), r.uniform(0, 0.7), r.uniform(0.5, 1))
            colour[sail > 0] = tint
            a = np.maximum(a, sail)
        elif r.random() < 0.5:
            man = _polygon(
                c,
                [
                    (x - 0.1 * s, y - lift - 0.25 * s),
                    (x + 0.08 * s, y - lift - 0.25 * s),
                    (x + 0.1 * s, y - lift),
                    (x - 0.1 * s, y - lift),
                ],
            )
            a = np.maximum(a, man)
        c.add("boat", a, colour)


def _tree(c: _Canvas, ground: float) -> None:
    r = c.rng
    for _ in range(r.integers(1, 4)):
        x, foot = r.uniform(0.02, 0.98), r.uniform(ground, 1.02)
        h = r.uniform(0.15, 0.55)
        top = foot - h
        if r.random() < 0.3:
            w = h * r.uniform(0.12, 0.25)
            half = np.clip((foot - c.y) / h, 0, 1)
            width = w * np.sin(np.pi * np.clip(half * 0.85 + 0.12, 0, 1)) * (1 + 0.5 * (fractal(c.n, r, 8) - 0.5))
            a = np.clip((width - np.abs(c.x - x)) * c.n / 2, 0, 1) * ((c.y > top) & (c.y < foot))
        else:
            crown = blobs(c.x, c.y, r, x, top + h * 0.3, h * r.uniform(0.2, 0.4), h * 0.3)
            ragged = crown + 0.9 * (fractal(c.n, r, 10) - 0.5)
            a = np.clip((ragged - 0.5) * 6, 0, 1)
            trunk = (np.abs(c.x - x) < h * 0.03) & (c.y > top + h * 0.3) & (c.y < foot)
            a = np.maximum(a, trunk.astype(np.float32))
        c.add(
            "tree",
            a,
            c.tone(_dark(r, [0.3, 0.25, 0.2, 0.08, 0.12, 0.4], 0.08, 0.65), 0.5, scale=10),
            foot=foot,
            top=top,
        )


def _houses(c: _Canvas, ground: float) -> None:
    r = c.rng
    tint = _dark(r, [0.05, 0.08, 0.1, 0.0, 0.6, 0.95], 0.15, 0.85)
    for _ in range(r.integers(1, 6)):
        w, h, x, y = r.uniform(0.04, 0.2), r.uniform(0.06, 0.3), r.uniform(0, 0.95), ground + r.uniform(-0.02, 0.08)
        roof = r.uniform(0, 0.8) * w if r.random() < 0.7 else h * 0.6
        a = _polygon(c, [(x, y), (x, y - h), (x + w / 2, y - h - roof), (x + w, y - h), (x + w, y)])
        colour = c.tone(np.clip(tint + r.normal(0, 0.08, 3), 0, 1).astype(np.float32), 0.3, scale=8)
        if r.random() < 0.5:
            panes = ((c.x * c.n / max(c.n / 24, 3)).astype(int) % 2 == 0) & (
                (c.y * c.n / max(c.n / 20, 3)).astype(int) % 3 == 0
            )
            colour[panes] *= r.uniform(0.4, 1.6)
        c.add("house", a, np.clip(colour, 0, 1))


def _small(c: _Canvas, name: str, ground: float) -> None:
    r = c.rng
    x, y = r.uniform(0.1, 0.9), r.uniform(max(ground - 0.05, 0.1), 0.95)
    if name == "bird":
        for _ in range(r.integers(1, 6)):
            bx, by, s = r.uniform(0.1, 0.9), r.uniform(0.06, max(ground - 0.05, 0.15)), r.uniform(0.025, 0.07)
            lift = s * r.uniform(0.3, 0.8)
            a = _polygon(c, [(bx - s, by - lift), (bx, by + s * 0.1), (bx + s, by - lift), (bx, by + s * 0.45)])
            c.add("bird", a, np.broadcast_to(hsv(r.random(), r.uniform(0, 0.3), r.choice([0.1, 0.95])), (c.n, c.n, 3)))
    elif name == "smoke":
        h = r.uniform(0.2, 0.5)
        up = np.clip((y - c.y) / h, 0, 1)
        lean = r.uniform(-0.25, 0.25)
        body = (
            np.exp(-(((c.x - x - lean * up**1.5) / (0.025 + 0.1 * up)) ** 2))
            * (c.y < y)
            * np.clip((1.05 - up) * 3, 0, 1)
        )
        a = np.clip(body * (0.5 + 1.1 * fractal(c.n, r, 7)), 0, 1)
        c.add(
            "smoke", a, c.tone(hsv(r.random(), r.uniform(0, 0.15), r.uniform(0.3, 0.95)), 0.3), foot=y, top=y - h * 0.5
        )
    elif name == "fire":
        s = r.uniform(0.06, 0.16)
        up = np.clip((y - c.y) / (s * 2.2), 0, 1)
        a = np.clip((s * (1 - up) ** 0.7 * (0.6 + 0.8 * fractal(c.n, r, 12)) - np.abs(c.x - x)) * c.n / 2, 0, 1) * (
            c.y < y
        )
        glow = np.stack([np.ones_like(up), 0.85 - 0.6 * up, 0.4 - 0.35 * up], -1)
        c.add("fire", a, glow, foot=y, top=y - 2 * s)
    elif name == "flag":
        s, h = r.uniform(0.07, 0.18), r.uniform(0.15, 0.35)
        pole = ((np.abs(c.x - x) < 0.006) & (c.y < y) & (c.y > y - h)).astype(np.float32)
        c.add("house", pole, np.broadcast_to(_dark(r, [0.08], 0.1, 0.5), (c.n, c.n, 3)))
        wave = 0.015 * np.sin(30 * c.x)
        a = ((c.x > x) & (c.x < x + s) & (c.y - wave > y - h) & (c.y - wave < y - h + s * 0.6)).astype(np.float32)
        cloth = np.broadcast_to(hsv(r.random(), r.uniform(0.5, 1), r.uniform(0.4, 1)), (c.n, c.n, 3)).copy()
        cloth[(c.y - wave > y - h + s * 0.3)] = hsv(r.random(), r.uniform(0, 1), r.uniform(0.4, 1))
        c.add("flag", a, cloth)
    elif name == "figure":
        for _ in range(r.integers(1, 4)):
            s, fx = r.uniform(0.08, 0.28), float(np.clip(x + r.uniform(-0.2, 0.2), 0.05, 0.95))
            body = _polygon(
                c,
                [(fx - 0.09 * s, y - 0.75 * s), (fx + 0.09 * s, y - 0.75 * s), (fx + 0.15 * s, y), (fx - 0.15 * s, y)],
            )
            head = np.clip((0.1 * s - np.hypot(c.x - fx, c.y - y + 0.86 * s)) * c.n / 2, 0, 1)
            colour = np.broadcast_to(_dark(r, [0.0, 0.6, 0.1, 0.3], 0.05, 0.6), (c.n, c.n, 3)).copy()
            colour[head > 0] = hsv(0.07, 0.4, r.uniform(0.5, 0.95))
            c.add("figure", np.maximum(body, head), colour, foot=y, top=y - s)
    elif name == "lamp":
        for _ in range(r.integers(1, 5)):
            d = np.hypot(c.x - r.uniform(0.05, 0.95), c.y - r.uniform(max(ground - 0.2, 0.1), 0.95))
            a = np.clip(np.exp(-((d / r.uniform(0.015, 0.045)) ** 2)) * 1.5, 0, 1)
            c.add("lamp", a, np.broadcast_to(hsv(r.uniform(0.07, 0.16), r.uniform(0.1, 0.7), 1.0), (c.n, c.n, 3)))
    elif name == "flower":
        near = np.clip((c.y - ground) / max(1 - ground, 0.1), 0, 1)
        dots = np.zeros_like(c.x)
        for _ in range(r.integers(8, 40)):
            fx, fy = r.random(), r.uniform(ground, 1)
            dots = np.maximum(
                dots, np.clip((r.uniform(0.01, 0.035) - np.hypot((c.x - fx) * 0.7, c.y - fy)) * c.n / 2, 0, 1)
            )
        c.add(
            "flower",
            dots * (near > 0),
            c.tone(hsv(r.choice([0.95, 0.0, 0.13, 0.8, 0.1]), r.uniform(0.2, 0.9), r.uniform(0.6, 1)), 0.4, scale=12),
        )


def sample(
    rng: np.random.Generator, n: int = 96, textures: Sequence[np.ndarray] = (), still: bool | None = None
) -> Scene:
    """Draw one scene of n×n pixels. `textures`: optional (H, W, 3) uint8 pictures whose paint may cover layers."""
    c, r = _Canvas(n, rng), rng
    horizon = float(r.choice([r.uniform(0.3, 0.7), r.uniform(-0.2, 0.15), r.uniform(0.8, 1.05)], p=[0.8, 0.12, 0.08]))
    sky = _sky(c, horizon)
    c.add("sky", np.ones((n, n)), sky, horizon=max(horizon, 0.2))
    if r.random() < 0.35 and horizon > 0.2:
        d = np.hypot(c.x - r.uniform(0.1, 0.9), c.y - r.uniform(0.06, max(horizon - 0.03, 0.1)))
        a = np.clip((r.uniform(0.025, 0.09) - d) * n / 3, 0, 1)
        c.add("sun", a, np.broadcast_to(hsv(r.choice([0.1, 0.14, 0.03]), r.uniform(0, 0.8), 1.0), (n, n, 3)))
    if r.random() < 0.5 and 0.15 < horizon < 0.95:
        for _ in range(r.integers(1, 3)):
            tint = _dark(r, [0.3, 0.6, 0.65, 0.08, 0.75], 0.15, 0.75)
            c.add("hill", _ridge(c, horizon + 0.02, r.uniform(0.04, 0.25), r.uniform(2, 5)), c.tone(tint, 0.35))
    watery = r.random() < 0.65
    ground = float(np.clip(horizon, 0.0, 0.93))
    if watery:
        rough = r.random() < 0.3
        a = (
            _ridge(c, horizon + 0.03, r.uniform(0.1, 0.5), r.uniform(1.5, 3))
            if rough
            else np.clip((c.y - horizon) * n / 2, 0, 1)
        )
        c.add("water", a, _water(c, horizon, sky), horizon=horizon)
        if r.random() < 0.4:
            bank = _ridge(c, r.uniform(0.85, 1.1), r.uniform(0.05, 0.3))
            if r.random() < 0.5:
                bank = np.clip(
                    (c.x * r.choice([-1, 1]) + r.uniform(-0.9, 0.3) + 0.3 * fractal(n, r, 3) + (c.y - horizon) * 0.5)
                    * n
                    / 4,
                    0,
                    1,
                ) * (c.y > horizon)
            c.add("hill", bank, c.tone(_dark(r, [0.1, 0.25, 0.3, 0.07], 0.15, 0.7), 0.45))
    else:
        green = r.random() < 0.5
        tint = _dark(r, [0.25, 0.3, 0.2, 0.13] if green else [0.08, 0.1, 0.12, 0.05], 0.2, 0.8)
        a = _ridge(c, horizon + 0.02, r.uniform(0, 0.12))
        c.add("grass" if green else "hill", a, c.tone(tint, 0.5, (1, r.uniform(1, 3)), 9), foot=1.0, top=ground)
        if r.random() < 0.2:
            flow = np.abs(c.x - 0.5 - 0.4 * (fractal(n, r, 2) - 0.5) - 0.3 * (c.y - horizon)) < 0.05 + 0.25 * np.clip(
                c.y - horizon, 0, 1
            )
            c.add("water", flow * (c.y > horizon), _water(c, horizon, sky), horizon=horizon)
    if r.random() < 0.08:
        x, w = r.uniform(0.2, 0.8), r.uniform(0.05, 0.15)
        fall = (np.abs(c.x - x - 0.03 * fractal(n, r, 4)) < w) & (c.y > ground - 0.25)
        c.add(
            "waterfall",
            fall.astype(np.float32),
            c.tone(hsv(0.57, r.uniform(0, 0.3), r.uniform(0.7, 0.95)), 0.5, (1, 6), 14),
        )
    if r.random() < 0.35:
        _houses(c, ground)
    if r.random() < 0.45:
        _tree(c, ground)
    if watery and r.random() < 0.55:
        _boat(c, ground)
    for name, chance in (
        ("bird", 0.15),
        ("smoke", 0.15),
        ("fire", 0.08),
        ("flag", 0.1),
        ("figure", 0.22),
        ("lamp", 0.15),
        ("flower", 0.12),
    ):
        if r.random() < chance:
            _small(c, name, ground)
    if r.random() < 0.4:
        w = r.uniform(0.02, 0.09)
        rim = np.minimum(np.minimum(c.x, 1 - c.x), np.minimum(c.y, 1 - c.y)) < w
        c.add(
            "frame",
            rim.astype(np.float32),
            np.broadcast_to(hsv(r.uniform(0.05, 0.15), r.uniform(0, 0.5), r.uniform(0.1, 1)), (n, n, 3)),
        )
    picture = paint_over(c.picture, rng, textures, c.labels)
    counts = np.bincount(c.labels.ravel(), minlength=len(SUBJECTS)) / (n * n)
    present = [s for i, s in enumerate(SUBJECTS) if counts[i] > (0.002 if s in ("lamp", "bird") else 0.006)]
    plan = _plan(present, rng, still)
    strength = float(np.clip(r.beta(2, 2), 0.05, 1)) if r.random() < 0.6 else 0.5
    layers = []
    trajectories: dict[str, int] = {}
    for subject, alpha, anchor, depth in c.layers:
        motion = plan.get(subject)
        field = None
        if motion is not None:
            seed = trajectories.setdefault(subject, int(r.integers(1 << 31)))
            field = layer_motion(motion, strength, anchor, depth, np.random.default_rng(seed))
        layers.append((alpha, field, subject in TRAVELS))
    others = [s for s in present if s not in plan]
    return Scene(picture, c.labels, compose(layers), plan, describe(plan, rng, still=others[:1]), strength)


def _plan(present: Sequence[str], rng: np.random.Generator, still: bool | None) -> Plan:
    movable = [s for s in present if s in KINDS_OF]
    if still or not movable or (still is None and rng.random() < 0.1):
        return {}
    plan: Plan = {}
    for subject in rng.permutation(movable)[: 1 if rng.random() < 0.7 else 2]:
        kind = str(rng.choice(KINDS_OF[subject]))
        direction = None
        if (kind == "drift" and rng.random() < 0.65) or (kind == "ripple" and rng.random() < 0.2):
            allowed = DIRECTIONS[:2] if subject in ("boat", "figure", "water") and rng.random() < 0.8 else DIRECTIONS
            direction = allowed[rng.integers(len(allowed))]
        elif kind == "drift" and subject in ("smoke", "waterfall"):
            direction = None
        plan[str(subject)] = Motion(kind, direction, float(rng.choice([0.33, 0.6, 0.6, 1.0])))
    return plan
