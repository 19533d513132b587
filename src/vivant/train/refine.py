"""The recipe of T, the refinement of arrow fields: pix2pix on procedural scenes, whose flow is known exactly."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ..controls.arrows import pointed
from ..controls.refine import GRID, PICTURE, SEEN, Patches, Refiner, conditions
from ..data.captions import SUBJECTS
from ..data.scenes import Scene, sample
from ..errors import WeightsError
from ..shot import Arrow
from . import asked

L1_WEIGHT = 100.0
"""λ of pix2pix: the distance against the adversary"""
LEAST = 0.005
"""what goes farther than this share of the side moves"""
HELD_OUT = 1_000_000_007
SAVE_EVERY = 500


def exact(scene: Scene) -> Float[np.ndarray, "2 32 32"]:
    """Where a scene's paint goes over the clip, in fractions of the sides."""
    return -scene.field[-1, :2]


def moving(scene: Scene) -> list[int]:
    """The labels of what a scene's plan moves."""
    return [SUBJECTS.index(thing) for thing in scene.plan]


def told(scene: Scene, rng: np.random.Generator) -> list[Arrow]:
    """One or two arrows on everything that moves, and sometimes pins on what does not; none where nothing moves."""
    labels = cv2.resize(scene.labels, (GRID, GRID), interpolation=cv2.INTER_NEAREST)
    pins = int(rng.integers(0, 3)) if rng.random() < 0.4 else 0
    return pointed(exact(scene), labels, moving(scene), rng, int(rng.integers(1, 3)), pins)


def pairs(rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Endless (conditions, exact field relative to the longest arrow, that arrow in fractions), half of them mirrored."""
    while True:
        scene = sample(rng, PICTURE, still=False)
        arrows = told(scene, rng)
        if not arrows:
            continue
        way, picture = exact(scene), scene.picture
        if rng.random() < 0.5:
            picture, way = picture[:, ::-1], way[:, :, ::-1] * np.array([-1, 1], np.float32).reshape(2, 1, 1)
            arrows = [Arrow(1 - a.x0, a.y0, 1 - a.x1, a.y1) for a in arrows]
        given, unit = conditions(np.ascontiguousarray(picture), arrows)
        yield given[0], torch.from_numpy(way.copy()) / unit, unit


def batches(rng: np.random.Generator, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """`pairs`, stacked."""
    drawn = pairs(rng)
    while True:
        given, target, unit = zip(*(next(drawn) for _ in range(size)), strict=True)
        yield torch.stack(given), torch.stack(target), torch.tensor(unit)


@torch.no_grad()
def errors(net: Refiner, count: int, seed: int = 0) -> dict[str, float]:
    """Mean end-point error on held-out scenes, in % of the frame's side: of the dense, likened and refined fields, of rest.

    "moving" and "still" tell what moves (`LEAST`) from what does not.
    """
    drawn = pairs(np.random.default_rng([HELD_OUT, seed]))
    sums: dict[str, list[float]] = {}
    for _ in range(count):
        given, target, unit = next(drawn)
        truth = target * unit
        moving = truth.norm(dim=0) > LEAST
        fields = {
            "dense": given[SEEN : SEEN + 2] * unit,
            "likened": given[SEEN + 2 : SEEN + 4] * unit,
            "refined": net(given[None])[0] * unit,
            "rest": 0 * truth,
        }
        for name, made in fields.items():
            off = 100 * (made - truth).norm(dim=0)
            parts = {name: off, f"{name}_moving": off[moving], f"{name}_still": off[~moving]}
            for key, part in parts.items():
                if part.numel():
                    sums.setdefault(key, []).append(float(part.mean()))
    return {key: round(float(np.mean(values)), 4) for key, values in sums.items()}


def main(
    out: Path | str = "runs/refine", steps: int = 20000, minutes: float | None = None, resume: Path | str | None = None,
    batch: int = 16, rate: float = 2e-3, seed: int = 0, threads: int = 1, device: str = "cpu", scenes: int = 200,
) -> dict[str, Any]:  # fmt: skip
    """Train T, or go on from a state.pt; writes `out`/refine.safetensors (EMA, float16), state.pt and log.csv.

    Stops at `steps` or after `minutes`. Returns the end-point errors on `scenes` held-out scenes.
    """
    asked.numbers(steps, batch, minutes, rate, seed, threads)
    folder = Path(out)
    device = asked.places(folder, device, Path(resume) if resume else None)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    net, judge = Refiner().to(device), Patches().to(device)
    average = Refiner().to(device).requires_grad_(False)
    average.load_state_dict(net.state_dict())
    makers = torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    judges = torch.optim.AdamW(judge.parameters(), lr=2e-4, betas=(0.5, 0.99))
    parts = {"net": net, "judge": judge, "average": average, "makers": makers, "judges": judges}
    done = _resumed(Path(resume), parts, device) if resume else 0
    stream = batches(np.random.default_rng([seed, done]), batch)
    start, sums, step = time.time(), np.zeros(3), done
    while step < steps and (minutes is None or time.time() - start < 60 * minutes):
        share = max(step / steps, (time.time() - start) / (60 * minutes) if minutes else 0.0)
        for group in makers.param_groups:
            group["lr"] = rate * min(1.0, (step - done + 1) / 100) * max(min(1.0, (1 - share) / 0.4), 0.01)
        given, target, unit = (v.to(device) for v in next(stream))
        made = net(given)
        true, false = judge(given, target), judge(given, made.detach())
        doubt = F.softplus(-true).mean() + F.softplus(false).mean()
        judges.zero_grad(set_to_none=True)
        doubt.backward()
        judges.step()
        distance = (made - target).abs().mean()
        loss = F.softplus(-judge(given, made)).mean() + L1_WEIGHT * distance
        if not torch.isfinite(loss):
            raise WeightsError(f"the loss is not finite at step {step}; the last good state is {folder / 'state.pt'}")
        makers.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        makers.step()
        step += 1
        decay = min(0.998, (1 + step) / (10 + step))
        for mean, value in zip(average.parameters(), net.parameters(), strict=True):
            mean.lerp_(value.detach(), 1 - decay)
        off = 100 * ((made.detach() - target).norm(dim=1).mean((1, 2)) * unit).mean()
        sums += [float(distance.detach()), float(doubt.detach()), float(off)]
        if step % 100 == 0:
            _log(folder / "log.csv", [step, round(time.time() - start, 1), *(sums / 100).round(4).tolist()])
            sums[:] = 0
        if step % SAVE_EVERY == 0:
            _save(folder, parts, step)
    _save(folder, parts, step)
    return {"steps": step, "weights": str(folder / "refine.safetensors")} | errors(average.eval().cpu(), scenes)


def _resumed(path: Path, parts: dict[str, Any], device: str) -> int:
    try:
        state = torch.load(path, weights_only=True, map_location=device)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])
    except Exception as error:  # a file that is damaged or another's raises a dozen kinds
        line = str(error).splitlines()[0][:120]
        raise WeightsError(
            f"expected a training state of the refinement at {path}, could not read it: {line}"
        ) from None


def _save(folder: Path, parts: dict[str, Any], step: int) -> None:
    torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": step}, folder / "state.part")
    os.replace(folder / "state.part", folder / "state.pt")
    tensors = {k: v.half().contiguous() for k, v in parts["average"].state_dict().items()}
    save_file(tensors, str(folder / "refine.part"), {"step": str(step)})
    os.replace(folder / "refine.part", folder / "refine.safetensors")


def _log(path: Path, row: list[Any]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "seconds", "l1", "doubt", "epe_percent"])
        writer.writerow(row)
    print(json.dumps(row), flush=True)
