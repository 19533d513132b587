"""How fast sets of clips are measured, and how much memory that takes: the streamed path against a plain loop.

    python benchmarks/metrics.py [CLIPS]

Clips of 320 × 240 and 96 frames (four seconds of a benchmark's video) are written; measured is the Fréchet distance of
their first 16 frames to a reference of as many. The plain loop reads a clip, takes 16 frames, scales them, runs the
extractor, and keeps every feature. Each row is a process of its own; time counts from its first clip.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

LENGTH, COUNT, SIDE = 96, 16, 256


def write(folder: Path, count: int) -> None:
    """`count` clips of one moving texture each."""
    from vivant.render.export import export

    rng = np.random.default_rng(0)
    for i in range(count):
        texture = cv2.resize(
            rng.integers(0, 255, (60, 80, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC
        )
        export([np.roll(texture, (i % 5 - 2) * k, 1) for k in range(LENGTH)], folder / f"{i:04d}.mp4", 24)


def plain(paths: list[Path], whole: bool) -> float:
    """Clip by clip, the features kept, scipy's matrix root at the end. `whole`: the clip is read to its end first."""
    import torch
    from scipy.linalg import sqrtm

    from vivant.metrics.extractors import load
    from vivant.metrics.video import read_video

    extractor, rows = load("gradients-3d"), []
    for path in paths:
        frames = read_video(path, None if whole else COUNT).frames[:COUNT]
        left = (frames.shape[2] - frames.shape[1]) // 2
        small = [
            cv2.resize(f[:, left : left + frames.shape[1]], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for f in frames
        ]
        rows.append(extractor(torch.from_numpy(np.stack(small))[None])[0].double().numpy())
    halves = np.stack(rows[::2]), np.stack(rows[1::2])
    (ma, mb), (ca, cb) = [h.mean(0) for h in halves], [np.cov(h, rowvar=False) for h in halves]
    return float(((ma - mb) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real))


def streamed(paths: list[Path], cache: Path | None) -> float:
    """Read ahead, batched, running moments; features out of the cache where they are known."""
    from vivant.metrics.cache import FeatureCache, clip_features
    from vivant.metrics.extractors import load
    from vivant.metrics.torch_metrics import FrechetVideoDistance

    extractor = load("gradients-3d")
    metric = FrechetVideoDistance(extractor)
    for i, (_, features) in enumerate(clip_features(paths, extractor, FeatureCache(cache) if cache else None)):
        metric.update(features[None], real=i % 2 == 0)
    return float(metric.compute())


def measure(way: str, folder: Path, count: int, cache: Path) -> dict[str, float]:
    """One way in this process: clips a second, and the memory's peak beyond what the libraries take, in MB."""
    import scipy.linalg  # noqa: F401
    import torch

    import vivant.metrics.torch_metrics  # noqa: F401
    from vivant.metrics.cache import square_clip
    from vivant.metrics.extractors import load

    torch.set_num_threads(1)
    paths = sorted(folder.glob("*.mp4"))[:count]
    # One clip to warm everything up, so that the peak's growth is the way's own.
    load("gradients-3d")(torch.from_numpy(square_clip(paths[0]))[None])
    first, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    ways = {
        "plain loop, whole clips": lambda: plain(paths, True), "plain loop, 16 frames read": lambda: plain(paths, False),
        "streamed": lambda: streamed(paths, None), "streamed, features to the cache": lambda: streamed(paths, cache),
        "streamed, features cached": lambda: streamed(paths, cache),
    }  # fmt: skip
    value = ways[way]()
    spent = time.perf_counter() - start
    last = resource.getrusage(resource.RUSAGE_SELF)
    work = last.ru_utime + last.ru_stime - first.ru_utime - first.ru_stime
    return {
        "rate": count / spent, "cpu": 1000 * work / count, "memory": (last.ru_maxrss - first.ru_maxrss) / 1024,
        "value": value,
    }  # fmt: skip


def main(count: int) -> None:
    """Print one row a way, at `count` clips and at a quarter of them."""
    with tempfile.TemporaryDirectory() as work:
        folder, cache = Path(work) / "clips", Path(work) / "cache"
        folder.mkdir()
        write(folder, count)
        print(
            "| way | clips / s | against the loop | CPU ms / clip | peak MB at a quarter | peak MB at all | Fréchet |\n|---|---|---|---|---|---|---|"
        )
        base = None
        for way in ("plain loop, whole clips", "plain loop, 16 frames read", "streamed", "streamed, features to the cache",
                    "streamed, features cached"):  # fmt: skip
            few, all_ = (_apart(way, folder, n, cache / str(n)) for n in (count // 4, count))
            base = base or all_["rate"]
            print(
                f"| {way} | {all_['rate']:.1f} | {all_['rate'] / base:.1f} × | {all_['cpu']:.1f} | {few['memory']:.0f} | {all_['memory']:.0f} | {all_['value']:.3f} |",
                flush=True,
            )


def _apart(way: str, folder: Path, count: int, cache: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", way, str(folder), str(count), str(cache)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
