"""AnimateAnything's Tables 3 and 4 at a small size: does freezing help the mask, does the strength's loss help the strength?

    OMP_NUM_THREADS=1 python benchmarks/animate_anything_training.py [--base 1200] [--steps 240] [--keep FOLDER]

`--keep`: what is made stays in a folder, and the base in it is not trained again.

Procedural scenes of 32 pixels as latents of 8×8 cells (`Mosaic`), four frames at three paces. One small network learns to
animate with no control; from there each row of the tables trains equally long, alone in what it is told and towards what.
It predicts x₀: with as little training as this, ε and v leave noise in the clips that drowns their motion (`--form`).
Measured on scenes never trained on, 20 steps of DDIM, the same noise for every row. Motion Strength Error: the mean
squared difference between eq. 6 of what was made and of the true clip, which was asked for. Motion Mask Precision: the
share of the moving area (boxes, threshold 20) inside the mask, which holds a part of what moves in the true clip.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vivant.metrics.functional.motion import mask_precision
from vivant.priors.animate_anything.weights import load
from vivant.priors.svd_flow.tiny import Mosaic
from vivant.train.config import Loop
from vivant.train.feed import Cached, Scenes, generator
from vivant.train.loop import train
from vivant.train.losses import motion_strength
from vivant.train.recipes import tiny
from vivant.train.recipes.animate_anything import AnimateAnythingRecipe, Model
from vivant.train.recipes.masks import partly

FRAMES, SIDE, STRIDES = 4, 32, (1, 2, 4)
LIVELY = 8.0
"""factor on the scenes' motion: at 8×8 cells their own is a fraction of a cell"""
STRONGEST = 16.0
"""motion strength of the liveliest clips that are measured, as of those the released model is asked for"""
UNET = {
    "block_out_channels": [32, 64], "norm_num_groups": 8, "attention_head_dim": 4,
    "down_block_types": ["DownBlock3D", "CrossAttnDownBlock3D"], "up_block_types": ["CrossAttnUpBlock3D", "UpBlock3D"],
}  # fmt: skip
PLAIN = Model(
    trained="all", mask=False, freeze=False, told="nothing", text_drop=0.1, dropout=0.0, some=0.7, everywhere=0.0
)
ROWS: dict[str, tuple[str, Model]] = {
    "No control": ("3, 4", PLAIN),
    "Mask guidance": ("3", replace(PLAIN, mask=True)),
    "Mask guidance + freeze": ("3", replace(PLAIN, mask=True, freeze=True)),
    "FPS guidance": ("4", replace(PLAIN, told="rate")),
    "Strength guidance": ("4", replace(PLAIN, told="strength", strength_weight=0.0)),
    "Strength guidance + loss": ("4", replace(PLAIN, told="strength")),
}
PAPER = {
    "No control": (0.21, 14.19), "Mask guidance": (0.52, None), "Mask guidance + freeze": (0.82, None),
    "FPS guidance": (None, 8.37), "Strength guidance": (None, 4.82), "Strength guidance + loss": (None, 2.36),
}  # fmt: skip


class Latents(Mosaic):
    """Latents of about unit spread on these scenes."""

    scale = 4.0


class Lively(Scenes):
    """The procedural scenes, moving more."""

    gain = LIVELY


def recipe_of(folder: Path, model: Model, state: dict[str, torch.Tensor] | None) -> AnimateAnythingRecipe:
    """The small network, fresh or with a state, around the mosaic."""
    parts = replace(load(folder), vae=Latents())
    if state is not None:
        parts.unet.load_state_dict(state)
    return AnimateAnythingRecipe(parts, model, folder)


@torch.no_grad()
def measure(
    recipe: AnimateAnythingRecipe, held_out: Cached, count: int, seed: int, tables: str
) -> dict[str, list[float]]:
    """Of every held-out clip: strength asked and made, precision with a mask of a part of what moves."""
    recipe.net.eval()
    rows = [held_out[0, i]["encoded"] for i in range(count)]
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    asked = motion_strength(batch["latents"])
    # A few scenes leap right across the picture: their squares would be the whole mean.
    batch = {name: value[asked <= STRONGEST] for name, value in batch.items()}
    z, areas, asked = batch["latents"], batch["areas"], asked[asked <= STRONGEST]
    count = len(z)
    out: dict[str, list[float]] = {"asked": asked.tolist(), "made": [], "precision": []}
    everywhere = torch.ones(count, 1, 1, *z.shape[-2:])
    parts = [partly(areas[i], generator(seed, i)) for i in range(count)]
    masks = torch.stack([p if p.any() else a.amax(0) for p, a in zip(parts, areas, strict=True)])[:, None, None]
    for given, table in (("strength", "4"), ("mask", "3")):
        if table not in tables:
            continue
        mask = masks if given == "mask" and recipe.model.mask else everywhere
        x = recipe.sample(
            recipe.net, z[:, :, :1], batch["text"], FRAMES, mask, recipe.told(asked, batch["rate"]), generator(seed), 20
        )  # fmt: skip
        if given == "strength":
            out["made"] = motion_strength(x).tolist()
            continue
        frames = recipe.parts.vae.decode((x / Latents.scale).transpose(1, 2).flatten(0, 1)).sample
        frames = ((frames.clamp(-1, 1) + 1) * 127.5).round().byte().unflatten(0, (count, FRAMES)).permute(0, 1, 3, 4, 2)
        for clip, mask_of in zip(frames.numpy(), masks[:, 0, 0].numpy(), strict=True):
            large = np.kron(mask_of, np.ones((SIDE // mask_of.shape[0],) * 2)).astype(np.float32)
            out["precision"].append(mask_precision(clip, large))
    return out


def main() -> None:
    """Train the rows and print the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--base", type=int, default=1200)
    words.add_argument("--steps", type=int, default=240)
    words.add_argument("--scenes", type=int, default=1500)
    words.add_argument("--held-out", type=int, default=64)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--form", default="sample", choices=("epsilon", "v_prediction", "sample"))
    words.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    words.add_argument("--keep", type=Path)
    told = words.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = told.keep or Path(temporary)
        base = tiny.animate_anything(root / "base", told.seed, UNET, told.form)
        first = recipe_of(base, PLAIN, None)
        clips = Cached(Lively(told.scenes, FRAMES, (SIDE, SIDE), told.seed, STRIDES), root / "c", "train", first.encode)
        unseen = Cached(
            Lively(told.held_out, FRAMES, (SIDE, SIDE), told.seed + 1, STRIDES), root / "c", "held", first.encode
        )
        clips.make()
        unseen.make()
        loop = Loop(
            steps=told.base, batch=8, rate=2e-3, warmup=50, decay="cosine", betas=(0.9, 0.99), average=0.98,
            device="cpu", threads=1, save_every=10**6, log_every=50, seed=told.seed,
        )  # fmt: skip
        begun = time.process_time()
        if not (root / "plain" / "last").is_dir():
            train(first, clips, None, loop, root / "plain", say=lambda line: print(line, flush=True))
        state = {k: v.clone() for k, v in weights(root / "plain").items()}
        print(f"base: {told.base} steps, {time.process_time() - begun:.0f} s", flush=True)
        print(
            "| table | row | strength error | strength made/asked | mask precision | moving | paper: precision, error |\n|---|---|---|---|---|---|---|"
        )
        for name in told.rows:
            table, model = ROWS[name]
            out = root / name.replace(" ", "-")
            recipe = recipe_of(base, model, state)
            train(recipe, clips, None, replace(loop, steps=told.steps, rate=1e-3), out)
            recipe.net.load_state_dict(weights(out))
            found = measure(recipe, unseen, told.held_out, told.seed + 5, table)
            row = cells(found)
            paper = ", ".join("–" if v is None else f"{v:g}" for v in PAPER[name])
            print(f"| {table} | {name} | {' | '.join(row)} | {paper} |", flush=True)
            if told.keep:
                (out / "found.json").write_text(json.dumps(found), "utf-8")
        print(f"{time.process_time() - begun:.0f} s of one thread")


def cells(found: dict[str, list[float]]) -> list[str]:
    """Strength error ± its standard error, strengths made and asked, precision, the share of clips that move."""
    out = [""] * 4
    if found["made"]:
        made, asked = np.array(found["made"]), np.array(found["asked"])
        error = (made - asked) ** 2
        out[:2] = [
            f"{error.mean():.2f} ± {error.std() / len(error) ** 0.5:.2f}",
            f"{made.mean():.2f}/{asked.mean():.2f}",
        ]
    if found["precision"]:
        precise = np.array(found["precision"])
        sure = np.nanstd(precise) / max(1, np.isfinite(precise).sum()) ** 0.5
        out[2:] = [f"{np.nanmean(precise):.3f} ± {sure:.3f}", f"{np.isfinite(precise).mean():.2f}"]
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    """What a training left, its average."""
    from safetensors.torch import load_file

    return load_file(out / "last" / "unet" / "diffusion_pytorch_model.safetensors")


if __name__ == "__main__":
    main()
