"""`vivant eval long`: the long methods side by side in one run, in the layout of Controllable Longer Image Animation's Table 2.

The paper's Tem-Cons is a CLIP similarity and its FVD, PSNR, SSIM and LPIPS ask for real videos of the same scene, which
a painting does not have. Here: how alike neighbouring frames are once carried along their own flow, how much the light
trembles, how much moves, how far colours and structure leave the painting per 100 frames, and how a join compares
with any other step.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from ..errors import SettingError
from ..flow import flow
from ..images import load_painting
from ..metrics.functional.painting import colour_drift, flicker
from ..priors.protocol import VideoPrior
from ..proxy.embedded import embedded
from ..shot import Shot
from ..stage import Stage
from .base import Settings, tiling
from .film import Film, dreamt
from .methods import JOINT, METHODS, method

SIDE = 256
"""longest side in pixels at which frames are judged"""
BASE = "continuation"

Frame = UInt8[np.ndarray, "H W 3"]


class Meter:
    """Judges a film frame by frame; holds one frame and a few numbers of each."""

    def __init__(self, painting: Frame) -> None:
        scale = min(1.0, SIDE / max(painting.shape[:2]))
        self.size = (max(16, round(painting.shape[1] * scale)), max(16, round(painting.shape[0] * scale)))
        self.painting = cv2.resize(painting, self.size, interpolation=cv2.INTER_AREA)
        self.layout = self._layout(self.painting)
        self.before: Frame | None = None
        self.alike: list[float] = []
        self.moved: list[float] = []
        self.steps: list[float] = []
        self.colour: list[float] = []
        self.structure: list[float] = []
        self.small: list[Frame] = []

    def see(self, frame: Frame) -> None:
        """The next frame of the film."""
        now = cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
        if self.before is not None:
            back = flow(now, self.before)
            height, width = now.shape[:2]
            x, y = (
                back[..., 0] + np.arange(width, dtype=np.float32),
                back[..., 1] + np.arange(height, dtype=np.float32)[:, None],
            )
            carried = cv2.remap(self.before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            self.alike.append(likeness(_grey(now), _grey(carried)))
            self.moved.append(100 * float(np.hypot(back[..., 0], back[..., 1]).mean()) / float(np.hypot(width, height)))
            self.steps.append(float(np.abs(now.astype(np.float32) - self.before).mean()))
        self.colour.append(colour_drift(now[None], self.painting))
        self.structure.append(1 - likeness(self._layout(now), self.layout))
        self.small.append(cv2.resize(now, (64, 64), interpolation=cv2.INTER_AREA))
        self.before = now

    @staticmethod
    def _layout(frame: Frame) -> np.ndarray:
        return cv2.GaussianBlur(_grey(frame), (0, 0), SIDE / 32)

    def result(self, joins: list[int]) -> dict[str, float]:
        """The numbers; `joins`: the numbers of the frames that begin a window."""
        usual = float(np.median(self.steps)) if self.steps else 0.0
        at = [self.steps[j - 1] for j in joins if 0 < j <= len(self.steps)]
        return {
            "tem_cons": float(np.mean(self.alike)),
            "flicker": flicker(np.stack(self.small)),
            "motion_percent": float(np.mean(self.moved)),
            "colour_drift_100": per_hundred(self.colour),
            "structure_drift_100": 100 * per_hundred(self.structure),
            "join": float(np.mean(at)) / usual if at and usual > 0 else 1.0,
        }


def per_hundred(values: list[float]) -> float:
    """How much a number grows in 100 frames: the slope of its straight line, from the second tenth of the film on.

    Every film leaves the painting at first, by moving at all; drift is what goes on after that.
    """
    kept = np.asarray(values[len(values) // 10 :], np.float64)
    return float(np.polyfit(np.arange(len(kept)), kept, 1)[0] * 100) if len(kept) > 2 else 0.0


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Mean SSIM (Wang et al. 2004) of two grey pictures in 0..255, Gaussian window of σ 1.5."""

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (0, 0), 1.5)

    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * ma * mb + c1) * (2 * both + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))).mean())


def _grey(frame: Frame) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)


def compare(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, total: int, settings: Settings, names: list[str],
    keep: dict[str, list[Frame]] | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """One film a method, on the same shot: what `Meter` says, evaluations, seconds, and both against direct continuation.

    `seconds` are those of dreaming; `film_seconds` with painting. `keep`: is given eleven frames of each film.
    """
    out: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys([BASE, *names]):
        tiles = tiling(prior, shot, total, settings, name in JOINT)
        film = Film(Path("-"), total, shot.fps, tiles.count)
        stage = Stage(prior, shot, proxy, {})
        meter, joins, number, painting = Meter(shot.painting), [], 0, 0.0
        marks = set(np.linspace(0, total - 1, 11).round().astype(int).tolist())
        for count, paint in dreamt(stage, tiles, name, settings, film):
            joins.append(number)
            frames = paint()
            for _ in range(count):
                start = time.perf_counter()
                frame = next(frames)
                painting += time.perf_counter() - start
                meter.see(frame)
                if keep is not None and number in marks:
                    keep.setdefault(name, []).append(frame)
                number += 1
        seconds = film.seconds["generate"]
        out[name] = meter.result(joins) | {
            "windows": float(tiles.count), "evaluations": float(film.evaluations), "seconds": seconds, "busy": film.busy,
            "film_seconds": seconds + painting,
        }  # fmt: skip
    for row in out.values():
        for key in ("evaluations", "seconds", "busy", "film_seconds"):
            row[f"{key}_ratio"] = row[key] / max(out[BASE][key], 1e-9)
    return out


def table(results: dict[str, dict[str, float]]) -> str:
    """Markdown, a row a method."""
    columns = {
        "tem_cons": ("Tem-Cons ↑", "{:.4f}"), "flicker": ("flicker ↓", "{:.3f}"), "motion_percent": ("motion %/frame", "{:.3f}"),
        "join": ("join (1: none)", "{:.2f}"), "colour_drift_100": ("colour drift ΔE/100", "{:+.2f}"),
        "structure_drift_100": ("structure drift %/100", "{:+.2f}"), "evaluations": ("evaluations", "{:.0f}"),
        "evaluations_ratio": ("ratio", "{:.2f}"), "seconds": ("dreaming s", "{:.2f}"), "seconds_ratio": ("ratio ↓", "{:.2f}"),
        "busy_ratio": ("ratio of CPU s ↓", "{:.2f}"),
        "film_seconds": ("whole film s", "{:.1f}"),
    }  # fmt: skip
    names = {"continuation": "Direct", "windowed": "Gen-L-Video", "freenoise": "FreeNoise", "phased": "Phased (CLIA)"}
    head = "| Method | " + " | ".join(title for title, _ in columns.values()) + " |"
    rows = [
        f"| {names[name]} | " + " | ".join(form.format(row[key]) for key, (_, form) in columns.items()) + " |"
        for name, row in results.items()
    ]
    return "\n".join([head, "|" + "---|" * (len(columns) + 1), *rows])


def main(
    painting: Path | None = None, prompt: str = "Clouds drift to the right and the water ripples", frames: int = 125,
    window: int = 25, methods: str = "all", model: str = "miniature", seed: int = 42, as_json: bool = False,
    keep: dict[str, list[Frame]] | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Run the comparison on one painting and print it. Raises `InputError` and `ModelError`."""
    from ..priors.registry import load

    names = list(METHODS) if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    for name in names:
        method(name)
    settings = Settings(window=window)
    if not 2 <= frames <= 10_000:
        raise SettingError(f"expected 2 to 10000 frames, got {frames}")
    picture = load_painting(painting or Path(__file__).parents[1] / "data" / "demo.jpg")
    prior = load(model)
    card = prior.card
    shot = Shot(
        picture, prompt, fps=max(1, round(card.fps * window / card.frames)), steps=card.steps, guidance=card.guidance, gain=card.gain, seed=seed,
        distil_evaluations=card.distil_evaluations,
    )  # fmt: skip
    # What is computed at the first use (kernels, the reading of the picture) is no method's cost.
    next(iter(method("phased")(prior, replace(shot, steps=2), None, 2, torch.Generator(), settings)))
    results = compare(prior, shot, embedded(picture, prompt), frames, settings, names, keep)
    if as_json:
        print(json.dumps({"frames": frames, "window": window, "methods": results}))
    else:
        print(table(results))
        print(f"{frames} frames in windows of {window}; ratios to direct continuation in this run", file=sys.stderr)
    return results
