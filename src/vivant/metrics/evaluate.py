"""`vivant eval`: does what was named move, where it was told, and does the rest stand still?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..data.captions import SUBJECTS
from ..data.scenes import sample
from ..errors import InputError, SettingError
from ..images import load_mask, load_painting
from ..priors.protocol import VideoPrior
from ..proxy.embedded import embedded
from ..render.render import render
from ..shot import Controls, Shot
from .motion import activity, direction_error, inside_share, psnr

ROWS: dict[str, dict[str, Any]] = {
    "base": {"distil": 0.0, "proxy": False},
    "+V": {"proxy": False},
    "+S": {"distil": 0.0, "proxy": True},
    "+V&U": {"proxy": True, "blend": "lerp"},
    "full": {"proxy": True},
}
"""the ablations of Every Painting Awakened, Table 1, as arguments of the one algorithm"""
HELD_OUT = 1_000_000_007
ANGLE = 60.0
LEAST = 0.001
"""motion (of the diagonal) or change of light under which a thing does not count as moving"""
FRAMES = 7


@dataclass(frozen=True)
class Outcome:
    """What one animated clip did. `hit` None: a still prompt (only its motion counts)."""

    hit: bool | None
    inside: float
    motion: float
    rest: float
    angle: float | None


def clip(prior: VideoPrior, shot: Shot, row: str, seed: int) -> tuple[list[np.ndarray], int]:
    """Animate with one row's arguments: (frames, evaluations of the denoiser)."""
    from ..awaken import awaken

    options = dict(ROWS[row])
    proxy = embedded(shot.painting, shot.prompt) if options.pop("proxy") else None
    calls: list[object] = []
    rng = torch.Generator().manual_seed(seed)
    shot = replace(shot, frames=FRAMES, **options)
    x = awaken(prior, shot, proxy, rng, calls.append)
    return list(render(prior, x, shot)), len(calls)


def defaults(prior: VideoPrior, painting: np.ndarray, prompt: str, controls: Controls) -> Shot:
    """A shot as `vivant animate` makes it when nothing but painting, prompt and controls is given."""
    card = prior.card
    return Shot(
        painting, prompt, controls=controls, steps=card.steps, fps=card.fps, guidance=card.guidance, gain=card.gain,
        distil_evaluations=card.distil_evaluations,
    )  # fmt: skip


def judge_scene(frames: list[np.ndarray], labels: np.ndarray, plan: Any) -> Outcome:
    """Hold a clip to its plan: every named subject moves at least twice as much as the rest, and the told way."""
    moved, mean, light = activity(frames)
    named = np.isin(labels, [SUBJECTS.index(s) for s in plan])
    motion = float(moved.mean() + light.mean())
    if not plan:
        return Outcome(None, 0.0, motion, psnr(frames[0], frames[-1]), None)
    # Flow smears over an outline by a few pixels: the rest is judged a little away from what was named.
    away = cv2.dilate(named.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    hit, worst = True, None
    for subject, told in plan.items():
        region = labels == SUBJECTS.index(subject)
        kind = light if told.kind == "flicker" else moved
        rest = float(kind[away].mean()) if away.sum() > 50 else 0.0
        hit &= float(kind[region].mean()) > max(2 * rest, LEAST)
        if told.direction is not None and told.kind != "flicker":
            angle = direction_error(mean, region, told.direction)
            worst = max(worst or 0.0, angle)
            hit &= angle <= ANGLE
    energy = np.sqrt(moved**2 + (0.5 * light) ** 2)
    near = cv2.dilate(named.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    still = psnr(frames[0], frames[-1], away) if away.sum() > 50 else 99.0
    return Outcome(bool(hit), inside_share(energy, near), motion, still, worst)


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """Means over clips: what_and_where, inside, still_ratio, rest_psnr, motion."""
    moving = [o for o in outcomes if o.hit is not None]
    still = [o for o in outcomes if o.hit is None]
    motion = float(np.mean([o.motion for o in moving])) if moving else 0.001
    quiet = float(np.mean([o.motion for o in still])) if still else 0.001
    kept = [o.motion <= 0.05 * motion for o in still]
    return {
        "what_and_where": float(np.mean([bool(o.hit) for o in moving] + kept)) if outcomes else 0.0,
        "inside": float(np.mean([o.inside for o in moving])) if moving else 0.0,
        "still_ratio": quiet / motion if motion else 0.0,
        "rest_psnr": float(np.mean([o.rest for o in moving])) if moving else 0.0,
        "motion_percent": 100 * motion,
        "clips": float(len(outcomes)),
    }


def scenes(
    prior: VideoPrior, count: int, seed: int, rows: list[str], progress: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """The held-out procedural scenes at 192 px: one result row per ablation."""
    results: dict[str, list[Outcome]] = {row: [] for row in rows}
    spent = dict.fromkeys(rows, 0.0)
    calls = dict.fromkeys(rows, 0)
    for i in range(count):
        scene = sample(np.random.default_rng([HELD_OUT, seed, i]), 192, still=True if i % 8 == 0 else False)
        shot = defaults(prior, scene.picture, scene.caption, Controls(strength=0.5))
        for row in rows:
            start = time.perf_counter()
            try:
                frames, used = clip(prior, shot, row, seed + i)
            except InputError:
                continue
            spent[row] += time.perf_counter() - start
            calls[row] += used
            results[row].append(judge_scene(frames, scene.labels, scene.plan))
        progress(
            f"{i + 1}/{count} {json.dumps({r: round(summary(o)['what_and_where'], 3) for r, o in results.items()})}"
        )
    out = {row: summary(outcomes) for row, outcomes in results.items()}
    for row in rows:
        out[row] |= {"seconds": spent[row] / count, "evaluations": calls[row] / count}
    return out


def inputs(
    prior: VideoPrior, folder: Path, seed: int, row: str = "full", keep: Path | None = None
) -> list[dict[str, Any]]:
    """Real paintings of a cases.json: share of motion inside the region, direction error, PSNR of the rest."""
    cases = json.loads((folder / "cases.json").read_text())
    table = []
    for i, case in enumerate(cases):
        if "last" in case:
            continue
        painting = load_painting(folder / case["image"])
        name = case.get("region") or case.get("mask")
        size = (painting.shape[1], painting.shape[0])
        region = load_mask(folder / name, size) > 0.5 if name else None
        controls = Controls(mask=load_mask(folder / case["mask"], size)) if "mask" in case else Controls()
        shot = defaults(prior, painting, case["prompt"], controls)
        frames, _ = clip(prior, shot, row, seed)
        scale = 512 / max(size)
        small = [cv2.resize(f, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for f in frames]
        moved, mean, _ = activity(small)
        line: dict[str, Any] = {
            "image": case["image"],
            "prompt": case["prompt"],
            "motion_percent": round(100 * float(moved.mean()), 3),
        }
        if region is not None:
            area = cv2.resize(region.astype(np.uint8), moved.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
            line["inside"] = round(inside_share(moved, area), 3)
            line["rest_psnr"] = round(psnr(frames[0], frames[-1], ~region), 2)
        if "direction" in case:
            where = area if region is not None else moved > 0.5 * moved.max()
            line["direction_error"] = round(direction_error(mean, where, tuple(case["direction"])), 1)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            strip = np.hstack([small[0], small[len(small) // 2], small[-1]])
            heat = cv2.applyColorMap(np.clip(moved / 0.05 * 255, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
            cv2.imwrite(str(keep / f"{i:02d}.png"), np.hstack([strip[..., ::-1], heat]))
        table.append(line)
    return table


def main(
    suite: str, scenes_count: int = 200, seed: int = 0, as_json: bool = False, rows: str = "base,+V,+S,+V&U,full",
    folder: str = "../shared/inputs", model: str = "miniature", keep: str | None = None,
) -> None:  # fmt: skip
    """Run a suite ("miniature" scenes or "inputs" paintings) and print a Markdown table, or JSON."""
    import sys

    from ..priors.registry import load

    prior = load(model, "cpu")
    if suite == "inputs":
        if not (Path(folder) / "cases.json").is_file():
            raise InputError(
                f"expected paintings and a cases.json in {folder}, found none; name the folder with --folder"
            )
        table = inputs(prior, Path(folder), seed, keep=Path(keep) if keep else None)
        shares = [line["inside"] for line in table if "inside" in line]
        result: dict[str, Any] = {"cases": table, "inside": float(np.mean(shares))}
    elif suite in ("miniature", "scenes"):
        chosen = rows.split(",")
        if not set(chosen) <= set(ROWS):
            raise SettingError(f"expected rows among {', '.join(ROWS)}, got {rows}")
        result = scenes(prior, scenes_count, seed, chosen, lambda line: print(line, file=sys.stderr, flush=True))
        table = [{"row": row, **{k: round(v, 3) for k, v in values.items()}} for row, values in result.items()]
    else:
        raise SettingError(f"expected a suite: miniature or inputs, got {suite!r}")
    if as_json:
        print(json.dumps(result))
        return
    keys = list(dict.fromkeys(k for line in table for k in line))
    print("| " + " | ".join(keys) + " |\n|" + "---|" * len(keys))
    for line in table:
        print("| " + " | ".join(str(line.get(k, "")) for k in keys) + " |")
