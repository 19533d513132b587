"""The field of arrows against procedural scenes' exact motion, with and without T.

    python benchmarks/refine.py [COUNT] [--seeds 0 1] [--weights FILE]

Mean end-point error in % of the frame's side over held-out scenes: of eq. 6 and 7, of eq. 6 with likeness
(`refine.likened`), and of shares of what T makes of that (`refine.TRUST` is the share that is used).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from vivant.controls.refine import FILE, SEEN, Refiner, load
from vivant.train.refine import HELD_OUT, LEAST, pairs

SHARES = (0.5, 0.75, 1.0)


@torch.no_grad()
def errors(net: Refiner, count: int, seed: int) -> dict[str, list[float]]:
    """For each field: the mean error all over, where paint moves, and where it stays."""
    drawn, sums = pairs(np.random.default_rng([HELD_OUT, seed])), dict[str, list[list[float]]]()
    for _ in range(count):
        given, target, unit = next(drawn)
        dense, likened, refined = given[SEEN : SEEN + 2], given[SEEN + 2 : SEEN + 4], net(given[None])[0]
        shares = {f"{share:.0%} of what T makes of it": likened + share * (refined - likened) for share in SHARES}
        moving = (target * unit).norm(dim=0) > LEAST
        for name, made in {"eq. 6, 7": dense, "eq. 6 with likeness": likened, **shares}.items():
            off = 100 * unit * (made - target).norm(dim=0)
            row = [float(part.mean()) if part.numel() else np.nan for part in (off, off[moving], off[~moving])]
            sums.setdefault(name, []).append(row)
    return {name: np.nanmean(rows, 0).tolist() for name, rows in sums.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=80)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--weights", type=Path, default=FILE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = [errors(load(args.weights), args.count, seed) for seed in args.seeds]
    heads = [f"seed {seed}: {part}" for seed in args.seeds for part in ("all", "what moves", "what stays")]
    print(f"| field | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for name in found[0]:
        print(f"| {name} | {' | '.join(f'{value:.2f}' for each in found for value in each[name])} |")


if __name__ == "__main__":
    main()
