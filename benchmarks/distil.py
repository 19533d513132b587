"""What the dual path costs and brings, by number of VSDS levels: `python benchmarks/distil.py [--scenes 24]`.

Prints, for the base model and for each number of VSDS levels, wall time as a ratio to the base in the same run, network
evaluations, what-and-where and motion. The official method spends 2.28 times its base's evaluations.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from vivant.awaken import awaken
from vivant.data.scenes import sample
from vivant.metrics.evaluate import FRAMES, HELD_OUT, judge_scene, summary
from vivant.priors.miniature.adapter import Miniature
from vivant.proxy.embedded import embedded
from vivant.shot import Controls, Shot


def main() -> None:
    """Run the comparison and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prior = Miniature.load()
    variants = (
        {"base": {"distil": 0.0}}
        | {f"{n} levels": {"distil_evaluations": n} for n in (1, 2, 3, 5)}
        | {"all levels": {}}
    )
    spent, calls = dict.fromkeys(variants, 0.0), dict.fromkeys(variants, 0)
    results: dict[str, list] = {name: [] for name in variants}
    passes = [0]
    prior.motion.register_forward_pre_hook(lambda net, inputs: passes.__setitem__(0, passes[0] + len(inputs[0])))
    for i in range(options.scenes):
        scene = sample(np.random.default_rng([HELD_OUT, 5, i]), 192, still=False)
        shot = Shot(
            scene.picture, scene.caption, controls=Controls(strength=0.5), frames=FRAMES, steps=prior.card.steps
        )
        for name, changes in variants.items():
            one = replace(shot, **changes)
            passes[0], start = 0, time.perf_counter()
            proxy = None if name == "base" else embedded(one.painting, one.prompt)
            x = awaken(prior, one, proxy, torch.Generator().manual_seed(i))
            spent[name] += time.perf_counter() - start
            calls[name] += passes[0]
            results[name].append(judge_scene(list(prior.frames(x, one)), scene.labels, scene.plan))
    print("| variant | time / base | network passes | what and where | inside | motion % |\n|---|---|---|---|---|---|")
    for name, outcomes in results.items():
        s = summary(outcomes)
        print(
            f"| {name} | {spent[name] / spent['base']:.2f} | {calls[name] / options.scenes:.0f} | {s['what_and_where']:.3f} "
            f"| {s['inside']:.3f} | {s['motion_percent']:.2f} |"
        )


if __name__ == "__main__":
    main()
