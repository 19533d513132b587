"""The recipe of the embedded prior: both networks learn from one endless stream of procedural scenes."""

from __future__ import annotations

import csv
import json
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data.captions import SUBJECTS
from ..data.scenes import Scene, sample
from ..errors import SettingError, WeightsError
from ..priors.miniature import text
from ..priors.miniature.net import Config, MotionUNet, PictureReader, conditions
from ..priors.miniature.weights import SCALE, load_networks, save_networks
from . import asked

STATE, SAVED = "state.pt", 1000
"""what a run goes on from, and after how many steps it is written"""


class Scenes(IterableDataset[tuple[Tensor, ...]]):
    """Endless scenes as tensors; every worker draws its own."""

    def __init__(self, seed: int, size: int, textures: list[np.ndarray]) -> None:
        self.seed, self.size, self.textures = seed, size, textures

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        info = get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        while True:
            yield as_tensors(sample(rng, self.size, self.textures), rng)


def as_tensors(scene: Scene, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """(picture, labels, field, told, mask, arrows, strength) of one scene, mirrored half of the time."""
    picture = torch.from_numpy(scene.picture).permute(2, 0, 1).float() / 127.5 - 1
    labels = torch.from_numpy(scene.labels.astype(np.int64))
    field = torch.from_numpy(scene.field).transpose(0, 1) / torch.tensor(SCALE).view(3, 1, 1, 1)
    told = text.target(scene.plan).clone()
    if rng.random() < 0.5:
        picture, labels, field = picture.flip(-1), labels.flip(-1), field.flip(-1)
        field[0] *= -1
        told[:, 1] *= -1
    energy = field.abs().sum((0, 1))
    mask = torch.ones(1, 32, 32)
    if rng.random() < 0.3:
        moving = (energy > 0.02).float()[None, None]
        mask = F.max_pool2d(moving, 5, 1, 2)[0]
        if rng.random() < 0.5:
            half = torch.zeros(1, 32, 32)
            x, w = int(rng.integers(0, 20)), int(rng.integers(8, 20))
            half[:, :, x : x + w] = 1
            if rng.random() < 0.5:
                half = half.transpose(1, 2)
            mask = half
            field = field * half[None]
    arrows = torch.zeros(3, 32, 32)
    spots = torch.nonzero(energy > 0.3 * energy.max().clamp_min(1e-3))
    if len(spots) and rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 4))):
            y, x = spots[int(rng.integers(len(spots)))].tolist()
            arrows[:2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = -field[:2, -1, y, x].view(2, 1, 1)
            arrows[2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = 1
    given = float(rng.random() < 0.7)
    strength = torch.tensor([scene.strength * given, given])
    return picture, labels, field.float(), told, mask, arrows, strength


def losses(
    reader: PictureReader, motion: MotionUNet, batch: tuple[Tensor, ...], rng: torch.Generator, only: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(reading loss, motion loss, share of cells read right) of a batch; noise levels uniform on the cosine clock.

    `only`: "reader" (the motion loss is 0) or "motion" (the reader takes no gradient), where one network learns alone.
    """
    picture, labels, field, told, mask, arrows, strength = batch
    b = picture.shape[0]
    truth = F.one_hot(labels, len(SUBJECTS)).permute(0, 3, 1, 2).float()
    truth = F.avg_pool2d(truth, truth.shape[-1] // 32)
    with torch.set_grad_enabled(torch.is_grad_enabled() and only != "motion"):
        scores = reader(picture)
    balance = (truth.mean((0, 2, 3)) + 0.002) ** -0.25
    read = -(truth * F.log_softmax(scores, 1) * balance.view(1, -1, 1, 1)).sum(1).mean()
    right = (scores.argmax(1) == truth.argmax(1)).float().mean()
    if only == "reader":
        return read, torch.zeros(()), right
    exact = (torch.rand(b, 1, 1, 1, generator=rng) < 0.4).float()
    where = exact * truth + (1 - exact) * scores.detach().softmax(1)
    t = torch.rand(b, generator=rng)
    t = (torch.arange(b) + t) / b
    angle = (t * np.pi / 2).view(b, 1, 1, 1, 1)
    noise = torch.randn(field.shape, generator=rng)
    z, v = angle.cos() * field + angle.sin() * noise, angle.cos() * noise - angle.sin() * field
    present = (torch.rand(b, generator=rng) > 0.1).float()
    out = motion(z, t, conditions(picture, where, told, mask, arrows, strength, present))
    return read, (out - v).square().mean(), right


def main(
    steps: int = 20000, out: str = "runs/miniature", resume: str | None = None, seed: int = 0, threads: int = 2,
    minutes: float | None = None, batch: int = 16, workers: int = 1, rate: float = 6e-4, textures: str | None = None,
    device: str = "cpu", only: str | None = None,
) -> Path:  # fmt: skip
    """Train (or go on training) and write `out`/miniature.safetensors (EMA), state.pt, log.csv and sample sheets.

    `resume`: a state.pt (weights, averages, optimiser; the scenes that follow are others) or a .safetensors (weights only).
    Stops at `steps` or after `minutes`. `only`: "reader" or "motion" learns alone; the other network, its average too,
    stays as it is. Raises `OutputError` where `out` holds another training.
    """
    if only not in (None, "reader", "motion"):
        raise SettingError(f"expected --only reader or motion, got {only!r}")
    if steps < 1 or batch < 1:
        raise SettingError(f"expected at least one step and one clip, got steps={steps}, batch={batch}")
    folder = Path(out)
    asked.free(folder / STATE, Path(resume) if resume else None)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = Config()
    reader = PictureReader(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    motion = MotionUNet(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    params = [*reader.parameters(), *motion.parameters()]
    names = [f"reader.{k}" for k, _ in reader.named_parameters()] + [
        f"motion.{k}" for k, _ in motion.named_parameters()
    ]
    optimiser = torch.optim.AdamW(params, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    done = 0
    if resume and resume.endswith(".safetensors"):
        load_networks(reader, motion, Path(resume))
    average = [p.detach().clone() for p in params]
    learns = [i for i, name in enumerate(names) if only is None or name.startswith(f"{only}.")]
    if resume and not resume.endswith(".safetensors"):
        try:
            state = torch.load(resume, weights_only=True, map_location=device)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise WeightsError(f"expected a training state at {resume}, could not read it: {error}") from error
        for p, value, a, ema in zip(params, state["params"], average, state["average"], strict=True):
            p.data.copy_(value)
            a.copy_(ema)
        optimiser.load_state_dict(state["optimiser"])
        done = int(state["step"])
    pictures = _textures(textures)
    loader = iter(DataLoader(Scenes(seed * 1_000_003 + done, config.picture, pictures), batch_size=batch,
                             num_workers=workers, prefetch_factor=4 if workers else None))  # fmt: skip
    rng = torch.Generator().manual_seed(seed + done)
    start, sums, log = time.time(), np.zeros(3), folder / "log.csv"
    step = done
    while step < steps and (minutes is None or time.time() - start < minutes * 60):
        _set_rate(optimiser, rate, step - done, step, steps, time.time() - start, minutes)
        items = tuple(x.to(device) for x in next(loader))
        read, move, right = losses(reader, motion, items, rng, only)
        total = move if only == "motion" else 0.5 * read + move
        if not torch.isfinite(total):
            raise WeightsError(f"the loss is not finite at step {step}; the last good state is {folder / STATE}")
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()
        step += 1
        decay = min(0.999, (1 + step) / (10 + step))
        torch._foreach_lerp_([average[i] for i in learns], [params[i].detach() for i in learns], 1 - decay)
        sums += [read.item(), move.item(), right.item()]
        if step % 100 == 0:
            _log(log, [step, round(time.time() - start, 1), *(sums / 100).round(4).tolist()])
            sums[:] = 0
        if step % SAVED == 0:
            _save(folder, reader, motion, params, names, average, optimiser, step)
    _save(folder, reader, motion, params, names, average, optimiser, step)
    return folder / "miniature.safetensors"


def _set_rate(
    optimiser: torch.optim.Optimizer, rate: float, warm: int, step: int, steps: int, spent: float, minutes: float | None
) -> None:
    share = max(step / steps, spent / (minutes * 60) if minutes else 0.0)
    cool = min(1.0, (1 - share) / 0.3)
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1.0, (warm + 1) / 200) * max(cool, 0.02)


def _textures(folder: str | None) -> list[np.ndarray]:
    from ..images import load_painting

    if folder is None:
        return []
    return [load_painting(path) for path in sorted(Path(folder).glob("*.jpg"))]


def _save(
    folder: Path, reader: Any, motion: Any, params: Any, names: Any, average: Any, optimiser: Any, step: int
) -> None:
    state = {
        "params": [p.detach() for p in params],
        "average": average,
        "optimiser": optimiser.state_dict(),
        "step": step,
    }
    torch.save(state, folder / "state.tmp")
    os.replace(folder / "state.tmp", folder / STATE)
    save_networks(dict(zip(names, average, strict=True)), folder / "miniature.safetensors", {"step": str(step)})
    sheet(folder)


def sheet(folder: Path) -> None:
    """Write the run's newest weights as a row of sample fields beside their scenes (samples.png)."""
    import cv2

    reader, motion = PictureReader(Config()), MotionUNet(Config())
    load_networks(reader, motion, folder / "miniature.safetensors")
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(8):
        scene = sample(rng)
        picture = torch.from_numpy(scene.picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            labels = reader.eval()(picture).argmax(1)[0].numpy()
        maps = [
            cv2.resize((m * 15).astype(np.uint8), (96, 96), interpolation=cv2.INTER_NEAREST)
            for m in (labels, scene.labels)
        ]
        rows.append(np.vstack([scene.picture[..., ::-1], *(cv2.applyColorMap(m, cv2.COLORMAP_TURBO) for m in maps)]))
    cv2.imwrite(str(folder / "samples.png"), np.hstack(rows))


def _log(path: Path, row: list[Any]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "seconds", "read", "motion", "right"])
        writer.writerow(row)
    print(json.dumps(row), flush=True)
