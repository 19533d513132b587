"""Whether the small SVD with motion fields follows arrows, and how much of it is the arrows' doing.

    vivant train svd-flow --tiny --minutes 60 --out runs/svd-flow
    python benchmarks/arrows.py runs/svd-flow/motion.safetensors [SCENES] [SEED]

Held-out procedural scenes, one arrow a thing that moves; printed is the error of the end point's direction in degrees. Four
frames of 48 pixels through a mosaic are little to measure by: *the scenes' own motion* is what the measure gives at best, and
*through the mosaic* what it gives of that motion once encoded and decoded.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from vivant.controls.steer import angle_error, angle_errors, led_scenes, played
from vivant.priors.svd_flow.tiny import Mosaic, tiny_prior

FRAMES, SIZE = 4, 48
ROWS = {
    "with": "with arrows", "without": "without", "others": "with the scene before's arrows",
    "mosaic": "the scenes' own motion, through the mosaic", "exact": "the scenes' own motion",
}  # fmt: skip


def mosaic(count: int, seed: int) -> list[float]:
    """The errors of the same scenes' own clips after the VAE: what a network that makes no mistake would get."""
    vae, errors = Mosaic(), []
    for _, _, scene, arrows in islice(led_scenes(seed, SIZE), count):
        clip = torch.from_numpy(np.stack(played(scene.picture, scene.field, FRAMES))).permute(0, 3, 1, 2)
        back = ((vae(clip / 127.5 - 1).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        errors += [angle_error(list(back), arrow) for arrow in arrows]
    return errors


def main(path: Path, count: int, seed: int) -> None:
    """Print one row a way of leading the model."""
    found = angle_errors(tiny_prior(path, FRAMES, SIZE), count, seed, FRAMES, SIZE, "base", others=True)
    found["mosaic"] = mosaic(count, seed)
    print("| | median | mean | within 45° | did not move | arrows |\n|---|---|---|---|---|---|")
    for name, title in ROWS.items():
        v = np.array(found[name])
        shares = f"{(v < 45).mean():.2f} | {(v == 90).mean():.2f}"
        print(f"| {title} | {np.median(v):.1f}° | {v.mean():.1f}° | {shares} | {len(v)} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(
        Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100, int(sys.argv[3]) if len(sys.argv) > 3 else 0
    )
