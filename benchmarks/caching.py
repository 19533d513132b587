"""What diffusers' caches save and what they cost in motion, on a Wan transformer of random weights.

    PYTHONPATH=. python benchmarks/caching.py [--layers 6] [--heads 4] [--steps 20] [--threads 1]

The whole method (both paths distilled, fused, sampled) without a cache and with each; processor time and motion as
ratios to the run without, the variants taking turns. Motion is AnimateAnything's, eq. 6, on the latents. Random weights
show that the caches skip what they say and what that is worth in time. They do not show what a trained network's clips
lose: measure yours (`adapt(pipe, cache=...)`) before you switch one on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from tests.priors.diffusers_i2v import families, tiny

from vivant.awaken import awaken
from vivant.metrics.functional.motion import latent_motion_score
from vivant.priors.diffusers_i2v import adapt
from vivant.priors.diffusers_i2v.caching import CACHES
from vivant.shot import Shot


def pipeline(layers: int, heads: int) -> Any:
    """The tests' Wan with a larger transformer."""
    from diffusers import WanTransformer3DModel

    pipe = tiny.build("wan")
    width = heads * 32
    net: Any = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=heads, attention_head_dim=32, in_channels=12, out_channels=4,
        text_dim=32, freq_dim=32, ffn_dim=4 * width, num_layers=layers, cross_attn_norm=True, rope_max_seq_len=64,
        image_dim=32,
    )  # fmt: skip
    pipe.transformer = tiny.stirred(net)
    return pipe


def main() -> None:
    """Run the comparison and print a Markdown table."""
    parser = argparse.ArgumentParser()
    for option, value in {"layers": 6, "heads": 4, "steps": 20, "rounds": 2, "threads": 1}.items():
        parser.add_argument(f"--{option}", type=int, default=value)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    torch.manual_seed(0)
    pipe = pipeline(told.layers, told.heads)
    shot = Shot(families.painting(), "waves roll ashore", "still", frames=9, fps=9, steps=told.steps, guidance=5.0)
    caches: tuple[str | None, ...] = (None, *CACHES)
    priors = {name: adapt(pipe, size=(192, 128), fit="exact", cache=name, **families.SHORT) for name in caches}
    seconds: dict[str | None, list[float]] = {name: [] for name in priors}
    motion: dict[str | None, float] = {}
    apart: dict[str | None, float] = {}
    plain = torch.empty(0)
    for _ in range(told.rounds):
        for name, prior in priors.items():
            begun = time.process_time()
            x = awaken(prior, shot, families.painting(1), torch.Generator().manual_seed(1))
            seconds[name].append(time.process_time() - begun)
            plain = x if name is None else plain
            motion[name] = latent_motion_score(x[0])
            apart[name] = families.relative(x, plain)
    base = statistics.median(seconds[None])
    numbers = sum(p.numel() for p in pipe.transformer.parameters()) / 1e6
    print(
        f"Wan, {told.layers} layers, {numbers:.0f} M random weights, {told.steps} steps, {base:.1f} s of CPU without a cache\n"
    )
    print("| cache | time | motion | clip differs by |\n|---|---|---|---|")
    for name in priors:
        took = statistics.median(seconds[name]) / base
        print(f"| {name or 'none'} | {took:.2f} | {motion[name] / motion[None]:.2f} | {apart[name]:.2f} |")


if __name__ == "__main__":
    main()
