"""How much of a known motion each optical flow sees: the choice behind `vivant.flow`.

    python benchmarks/flow.py [SCENES]

Procedural scenes are painted with their exact fields; printed is measured over true displacement (median and lowest
tenth over the subjects), and the time against DIS medium.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import cv2
import numpy as np

from vivant.data.captions import SUBJECTS
from vivant.data.scenes import TRAVELS, sample
from vivant.flow import flow
from vivant.priors.miniature import paint

FRAMES = 7


def grey(a: np.ndarray) -> np.ndarray:
    """The frame's brightness."""
    return cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)


def medium(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """DIS with its preset as it is: it stops at half the size."""
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey(a), grey(b), None)


def farneback(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Farnebäck's polynomial expansion."""
    return cv2.calcOpticalFlowFarneback(grey(a), grey(b), None, 0.5, 5, 11, 5, 5, 1.1, 0)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "DIS medium": medium, "DIS medium, finest scale 0 (vivant.flow)": flow, "Farneback": farneback,
}  # fmt: skip


def main(count: int) -> None:
    """Print one row a method."""
    share: dict[str, list[float]] = {name: [] for name in METHODS}
    spent = dict.fromkeys(METHODS, 0.0)
    for i in range(count):
        scene = sample(np.random.default_rng([5, i]), 192, still=False)
        side = scene.picture.shape[0]
        stays = [s for s in scene.plan if s not in TRAVELS]
        support = cv2.resize(np.isin(scene.labels, [SUBJECTS.index(s) for s in stays]).astype(np.float32), (32, 32))
        frames = list(paint.frames(scene.picture, scene.field, FRAMES, support, np.zeros_like(support)))
        keys = scene.field.transpose(0, 2, 3, 1)
        true = [paint.between(keys, f / (FRAMES - 1) * len(keys))[..., :2] * side for f in range(1, FRAMES)]
        length = np.sqrt(np.mean([(cv2.resize(t, (side, side)) ** 2).sum(-1) for t in true], 0))
        for name, method in METHODS.items():
            start = time.perf_counter()
            seen = np.sqrt(np.mean([(method(frames[0], f) ** 2).sum(-1) for f in frames[1:]], 0))
            spent[name] += time.perf_counter() - start
            for s in stays:
                region = scene.labels == SUBJECTS.index(s)
                if scene.plan[s].kind != "flicker" and length[region].mean() > 0.5:
                    share[name].append(float(seen[region].mean() / length[region].mean()))
    print("| flow | seen, median | lowest tenth | time |\n|---|---|---|---|")
    for name, values in share.items():
        low, middle = np.percentile(values, [10, 50])
        print(f"| {name} | {middle:.2f} | {low:.2f} | {spent[name] / spent['DIS medium']:.1f} × |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
