"""How well things that travel are cut out of a painting, for arrows on the embedded model.

    python benchmarks/cutouts.py [COUNT] [--seed 3]

Held-out procedural scenes; one arrow on everything that travels, from a place within it, and the scene's own sentence.
Printed is the overlap (intersection over union) with the thing's true outline: of the cut-out (`miniature.cutout`), and of
what the reader's cells give along the painting's edges, with nothing cut out.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vivant.controls.steer import led_scenes
from vivant.data.captions import SUBJECTS
from vivant.errors import InputError
from vivant.priors.miniature.adapter import TRAVELLERS, Miniature
from vivant.priors.miniature.around import piece_at
from vivant.priors.miniature.cutout import thing_at
from vivant.priors.miniature.edges import along_edges, overlap
from vivant.shot import Shot

SIDE = 256


def overlaps(prior: Miniature, count: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """For each kind of thing: overlap of cut-outs and of the reader's outlines."""
    out: dict[str, list[tuple[float, float]]] = {}
    for _, _, scene, arrows in led_scenes(seed, SIDE):
        for arrow in arrows:
            x, y = int(arrow.x0 * SIDE), int(arrow.y0 * SIDE)
            kind = int(scene.labels[y, x])
            _, labels = cv2.connectedComponents((scene.labels == kind).astype(np.uint8))
            true: NDArray[np.bool_] = np.asarray(labels == labels[y, x])
            if kind not in TRAVELLERS or true.sum() < 12:
                continue
            try:
                where = prior._read(Shot(scene.picture, scene.caption))[1][0, kind].numpy()
            except InputError:
                continue
            piece = piece_at(scene.picture, arrow.x0, arrow.y0)
            cut = thing_at(scene.picture, arrow.x0, arrow.y0, where, piece)
            read, _, _ = along_edges(scene.picture.astype(np.float32) / 255, np.clip(2 * where, 0, 1), (0.3, 0.5))
            _, parts = cv2.connectedComponents((read > 0.5).astype(np.uint8))
            mine = (parts == parts[y, x]) & (read > 0.5)
            both = 0.0 if cut is None else overlap(cut > 0, true), overlap(mine, true)
            out.setdefault(SUBJECTS[kind], []).append(both)
            if sum(map(len, out.values())) == count:
                return out
    raise AssertionError("scenes have no end")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = overlaps(Miniature.load(), args.count, args.seed)
    print("| thing | count | cut out: mean | median | the reader's: mean | median |\n|---|---|---|---|---|---|")
    for name, pairs in [("all", [pair for each in found.values() for pair in each]), *sorted(found.items())]:
        cut, read = np.array(pairs).T
        print(
            f"| {name} | {len(pairs)} | {cut.mean():.2f} | {np.median(cut):.2f} | {read.mean():.2f} | {np.median(read):.2f} |"
        )


if __name__ == "__main__":
    main()
