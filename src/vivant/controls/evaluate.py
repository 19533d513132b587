"""`vivant eval controls`: what each control is worth, with it and without, on held-out scenes and on real paintings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from ..awaken import awaken
from ..images import load_painting, resized
from ..metrics.evaluate import HELD_OUT, defaults
from ..metrics.motion import activity, direction_error
from ..priors.protocol import VideoPrior
from ..render.render import _frames as painted
from ..render.render import render
from ..shot import Controls, Region, Shot
from . import mask as masks
from .fit import spearman
from .regions import awakened, regional
from .strength import FULL, Curve, clips, load, motion, stages

Frame = UInt8[np.ndarray, "H W 3"]
Say = Callable[[str], None]

THRESHOLD = 5.0
"""T_m of AnimateAnything's eq. 4, in 8-bit grey"""
BEST = 0.82
"""Motion Mask Precision of the paper's best (Dai et al. 2023, table 3)"""
FRAMES = 9
PAIRS = (("to the left", (-1.0, 0.0)), ("to the right", (1.0, 0.0)))


def moved(frames: Sequence[Frame], threshold: float = THRESHOLD) -> Bool[np.ndarray, "H W"]:
    """Eq. 4: where the grey of any two neighbours differs by more than `threshold` (8-bit)."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
    return np.logical_or.reduce([np.abs(b - a) > threshold for a, b in pairwise(grey)])


def mask_precision(frames: Sequence[Frame], mask: Float[np.ndarray, "H W"]) -> float | None:
    """Motion Mask Precision (Dai et al. 2023, §4.1): the share of the moving area that lies in the mask; None: nothing moves."""
    area = moved(frames)
    return float((area & (mask > 0)).sum() / area.sum()) if area.any() else None


def play(prior: VideoPrior, shot: Shot, seed: int, frozen: bool = True) -> list[Frame]:
    """A short clip of the base path; `frozen=False`: as the model has it, without the painting's own pixels around."""
    shot = replace(shot, frames=FRAMES)
    x = awakened(awaken, prior, shot, None, torch.Generator().manual_seed(seed))
    return list((render if frozen else painted)(regional(prior, shot), x, shot))


def halved(region: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """The left half of what moves, as a mask: its other half is what a director would have stand still."""
    middle = float(np.median(np.nonzero(region)[1]))
    return (region & (np.arange(region.shape[1]) < middle)).astype(np.float32)


def precision(prior: VideoPrior, cases: Iterator[tuple[Shot, Float[np.ndarray, "H W"]]], seed: int, say: Say) -> Row:
    """Motion Mask Precision over cases: without the mask, with it in the latents alone, with it as it is rendered."""
    found: dict[str, list[float]] = {"without": [], "latents": [], "with": []}
    still = 0
    for i, (shot, mask) in enumerate(cases):
        told = replace(shot, controls=replace(shot.controls, mask=mask))
        values = [
            mask_precision(play(prior, one, seed + i, frozen), mask)
            for one, frozen in ((shot, True), (told, False), (told, True))
        ]
        if None in values:
            still += 1  # where nothing moves there is no precision
            continue
        for name, value in zip(found, values, strict=True):
            found[name].append(float(value or 0))
        say(f"mask {i + 1}: " + ", ".join(f"{k} {v[-1]:.2f}" for k, v in found.items()))
    means: Row = {name: round(float(np.mean(v)), 3) if v else None for name, v in found.items()}
    return means | {"clips": len(found["with"]), "without_motion": still}


Row = dict[str, Any]


def strengths(prior: VideoPrior, curve: Curve | None, count: int, seed: int, say: Say, values: int = 10) -> Row:
    """Strength against measured motion on held-out scenes: rank correlation, and the error of what was asked.

    Motion Strength Error is the mean squared error over scenes and strengths (Dai et al. 2023, §4.1), in % of the diagonal
    a frame, squared; `rms` is its root on the scale 0..1, `mean_rms` that of the scenes' means. "without": uncalibrated.
    """
    asked = np.linspace(1 / values, 1, values)
    settings = np.array([curve.setting(s) if curve else s for s in asked])
    knobs = np.unique(np.r_[settings, asked])
    table = []
    for i, (shot, region) in enumerate(stages(prior, count, seed, HELD_OUT)):
        table.append([motion(frames, rate, region) for frames, rate in clips(prior, shot, knobs, seed + i)])
        say(f"strength {i + 1}/{count}: {table[-1][0]:.3f} … {table[-1][-1]:.3f} % a frame")
    all_motion = np.array(table)
    out: Row = {"reach": round(curve.reach, 3) if curve else None, "scenes": count}
    for name, chosen in (("with", settings), ("without", asked)):
        got = all_motion[:, np.searchsorted(knobs, chosen)]
        off = got - FULL * asked
        out[name] = {
            "spearman": round(spearman(asked, got.mean(0)), 4),
            "spearman_scenes": round(float(np.mean([spearman(asked, row) for row in got])), 4),
            "error": round(float((off**2).mean()), 5),
            "rms": round(float(np.sqrt((off**2).mean()) / FULL), 3),
            "mean_rms": round(float(np.sqrt((off.mean(0) ** 2).mean()) / FULL), 3),
        }
    got = all_motion[:, np.searchsorted(knobs, settings)].mean(0)
    out["table"] = [
        {"strength": round(float(s), 3), "knob": round(float(k), 3), "asked": round(FULL * float(s), 3),
         "motion": round(float(m), 3)}
        for s, k, m in zip(asked, settings, got, strict=True)
    ]  # fmt: skip
    return out


def parted(prior: VideoPrior, count: int, seed: int, say: Say) -> Row:
    """Skies that drift apart: the left half told to the left, the right half to the right. Angle errors in degrees.

    "without": one sentence for all of it, to the left; its right half then goes the wrong way. `seam`: how much more
    of a step there is along the seam than in the painting (`seam_step`), 1 being no more.
    """
    from ..data.captions import SUBJECTS
    from ..data.scenes import sample

    found: dict[str, list[float]] = {"with": [], "without": [], "seam": []}
    i = 0
    while len(found["seam"]) < count:
        scene = sample(np.random.default_rng([HELD_OUT, seed, i, 9]), 192, still=False)
        i += 1
        sky = scene.labels == SUBJECTS.index("sky")
        if sky.mean() < 0.35:
            continue
        left = np.zeros(sky.shape, np.float32)
        middle = left.shape[1] // 2
        left[:, :middle] = 1
        halves = (left, 1 - left)
        shot = defaults(prior, scene.picture, "The sky drifts to the left", Controls(mask=np.ones_like(left)))
        told = tuple(
            Region(f"The sky drifts {way}", Controls(mask=half)) for half, (way, _) in zip(halves, PAIRS, strict=True)
        )
        for name, one in (("with", replace(shot, regions=told)), ("without", shot)):
            frames = play(prior, one, seed + i)
            _, mean, _ = activity(frames)
            found[name] += [
                direction_error(mean, sky & (half > 0), way) for half, (_, way) in zip(halves, PAIRS, strict=True)
            ]
            if name == "with":
                found["seam"].append(seam_step(frames, sky, middle))
        say(f"regions {len(found['seam'])}/{count}: {found['with'][-2]:.0f}°, {found['with'][-1]:.0f}°")
    return {
        "with": round(float(np.median(found["with"])), 1), "without": round(float(np.median(found["without"])), 1),
        "seam": round(float(np.median(found["seam"])), 2), "scenes": count,
    }  # fmt: skip


def seam_step(frames: Sequence[Frame], where: Bool[np.ndarray, "H W"], column: int) -> float:
    """How much more neighbours differ across a column than in the 16 beside it, in the last frame over the painting."""

    def step(frame: Frame) -> float:
        steps = np.abs(np.diff(frame.astype(np.float32).mean(-1), axis=1))
        steps = np.where(where[:, 1:], steps, np.nan)
        near = float(np.nanmean(steps[:, column - 9 : column + 8]))
        return float(np.nanmean(steps[:, column - 2 : column + 1])) / max(near, 1e-6)

    return step(frames[-1]) / max(step(frames[0]), 1e-6)


def scene_masks(prior: VideoPrior, count: int, seed: int) -> Iterator[tuple[Shot, Float[np.ndarray, "H W"]]]:
    """Held-out scenes, each with the half of what it says moves for a mask."""
    for shot, region in stages(prior, count, seed, HELD_OUT):
        yield shot, halved(region)


def input_masks(prior: VideoPrior, folder: Path) -> Iterator[tuple[Shot, Float[np.ndarray, "H W"]]]:
    """Real paintings of a cases.json that name a mask or a region, at most 512 pixels a side."""
    for case in json.loads((folder / "cases.json").read_text("utf-8")):
        name = case.get("mask") or case.get("region")
        if name is None or "last" in case:
            continue
        painting = load_painting(folder / case["image"])
        painting = resized(painting, "512") if max(painting.shape) > 512 else painting
        mask = masks.read(folder / name, (painting.shape[1], painting.shape[0]))
        yield defaults(prior, painting, case["prompt"], Controls()), mask


def arrows(prior: VideoPrior, count: int, seed: int, say: Say) -> Row | None:
    """Angle errors of arrows in degrees: medians with and without them; None where they cannot be measured."""
    from .steer import angle_errors

    errors = angle_errors(prior, count, seed, progress=lambda line: say(f"arrows {line}"))
    return {name: round(float(np.median(v)), 1) for name, v in errors.items()} | {"scenes": count}


def report(
    prior: VideoPrior, model: str, scenes: int, seed: int, folder: Path | None, parts: Sequence[str], say: Say
) -> dict[str, Any]:
    """Everything, as plain JSON types. `folder`: real paintings, or None. `parts`: which of mask, strength, regions, arrows."""
    out: dict[str, Any] = {"model": model, "scenes": scenes, "seed": seed}
    if "mask" in parts:
        out["mask"] = precision(prior, scene_masks(prior, scenes, seed), seed, say)
        if folder is not None:
            out["mask_inputs"] = precision(prior, input_masks(prior, folder), seed, say)
    if "strength" in parts:
        out["strength"] = strengths(prior, load(model), scenes, seed, say)
    if "regions" in parts:
        out["regions"] = parted(prior, scenes, seed, say)
    if "arrows" in parts:
        out["arrows"] = arrows(prior, scenes, seed, say)
    return out


def markdown(found: dict[str, Any]) -> str:
    """The report as tables."""
    lines = ["| control | measure | without | with |", "|---|---|---|---|"]
    for key, name in (("mask", "mask, scenes"), ("mask_inputs", "mask, paintings")):
        if row := found.get(key):
            clips = f"Motion Mask Precision, {row['clips']} clips (paper: {BEST})"
            lines.append(f"| {name} | {clips} | {row['without']} | {row['with']} |")
            lines.append(f"| {name} | the same before pixels are frozen | {row['without']} | {row['latents']} |")
    if row := found.get("strength"):
        for key, name in (
            ("spearman", "Spearman, means of the scenes"), ("spearman_scenes", "Spearman, mean over scenes"),
            ("error", "Motion Strength Error, (% a frame)²"), ("rms", "its root, on the scale 0..1"),
            ("mean_rms", "the same of the scenes' means"),
        ):  # fmt: skip
            lines.append(f"| strength | {name} | {row['without'][key]} | {row['with'][key]} |")
    if row := found.get("regions"):
        lines.append(f"| regions | median angle error, ° | {row['without']} | {row['with']} |")
        lines.append(f"| regions | step across the seam, 1 is none | | {row['seam']} |")
    if row := found.get("arrows"):
        lines.append(f"| arrows | median angle error, ° | {row['without']} | {row['with']} |")
    if row := found.get("strength"):
        lines += ["", "| strength | knob | asked, % a frame | measured |", "|---|---|---|---|"]
        lines += [f"| {r['strength']} | {r['knob']} | {r['asked']} | {r['motion']} |" for r in row["table"]]
    return "\n".join(lines)
