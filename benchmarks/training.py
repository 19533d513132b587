"""How fast the training loop is: clips a second with and without encoded clips, waiting, memory of activations.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--source VIDEOS] [--steps 12] [--size 64] [--frames 6]

The tiny configuration of each recipe, on videos or, without them, on procedural scenes. Memory is what the way back keeps
of one micro-batch (each storage once), with and without gradient checkpointing; on a GPU, its allocator's peak.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vivant.train.config import read
from vivant.train.engine import cached, recompute
from vivant.train.feed import clips_of, generator
from vivant.train.loop import train
from vivant.train.recipes import animate_anything, dynamicrafter

RECIPES: dict[str, tuple[Any, Any]] = {
    animate_anything.NAME: (animate_anything.Config, animate_anything.AnimateAnythingRecipe),
    dynamicrafter.NAME: (dynamicrafter.Config, dynamicrafter.DynamiCrafterRecipe),
}


def kept(recipe: Any, batch: dict[str, torch.Tensor], again: bool) -> tuple[float, float]:
    """(MB the way back keeps, seconds there and back) of a micro-batch."""
    net = recipe.net
    net.train()
    if again:
        recompute(net, recipe.units)
        for module in net.modules():
            if type(module).__name__ in recipe.units:  # what it is given stays, though autograd does not hold it
                module.register_forward_pre_hook(lambda m, a, k: given(a, k), with_kwargs=True)
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage()
        if place.data_ptr() not in weights:
            seen[place.data_ptr()] = place.nbytes()
        return tensor

    def given(args: tuple[Any, ...], named: dict[str, Any]) -> None:
        for value in (*args, *named.values()):
            if isinstance(value, torch.Tensor):
                pack(value)

    rngs = [generator(0, i) for i in range(len(batch["latents"]))]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    begun = time.process_time()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = recipe.loss(net, batch, rngs)["loss"].mean()
    held = sum(seen.values()) / 1e6
    loss.backward()
    seconds = time.process_time() - begun
    if torch.cuda.is_available():
        held = torch.cuda.max_memory_allocated() / 1e6
    return held, seconds


def main() -> None:
    """Print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--source", default="../shared/videos")
    words.add_argument("--steps", type=int, default=12)
    words.add_argument("--size", type=int, default=64)
    words.add_argument("--frames", type=int, default=6)
    words.add_argument("--workers", type=int, default=1)
    told = words.parse_args()
    source = told.source if Path(told.source).is_dir() else "scenes"
    print(f"clips of {told.frames} frames of {told.size}×{told.size} from {source}, steps of 4")
    print("| recipe | clips/s | waiting | clips/s, encoded | waiting | faster | activations | recomputed | time |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (kind, recipe) in RECIPES.items():
        changes = [
            f"steps={told.steps}", f"size=[{told.size}, {told.size}]", f"frames={told.frames}", "held_out=0", "average=0",
            "evaluate_every=0", "sheet_every=0", "save_every=1000", f"data.source={source}", "log_every=1000",
        ]  # fmt: skip
        config = read(kind, "tiny", changes, name)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            reports = []
            for i, cache in enumerate((None, root / "cache")):
                made = recipe.of(config, root)
                clips, _ = clips_of(config.data, 0)
                clips = cached(made, clips, cache)
                # Two steps first, for what is made once.
                train(made, clips, None, replace(config.loop, steps=2), root / f"warm{i}", workers=0)
                reports.append(
                    train(made, clips, None, config.loop, root / f"run{i}", workers=told.workers if i == 0 else 0)
                )
            rows = [made.encode(clips_of(config.data, 0)[0][0, i], generator(i)) for i in range(2)]
            batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
            kept(made, batch, False)
            (much, plain), (little, again) = kept(made, batch, False), kept(made, batch, True)
        one, two = reports
        print(
            f"| {name} | {one.clips_per_second:.2f} | {100 * one.waiting:.1f} % | {two.clips_per_second:.2f} | "
            f"{100 * two.waiting:.1f} % | ×{two.clips_per_second / one.clips_per_second:.2f} | {much:.1f} MB | "
            f"{little:.1f} MB (×{little / much:.2f}) | ×{again / plain:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
