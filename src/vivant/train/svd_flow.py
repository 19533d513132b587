"""The recipe of SVD with motion fields (Wang et al. 2024, §4.1): on a released SVD, or small and from nothing.

stage "motion": the motion encoder, the attentions to motion, the strength's embedding and SVD's temporal layers learn,
its spatial layers and the VAE stay; stage "camera": the static camera's LoRA learns, all else stays. Clips are procedural
scenes, whose motion is known exactly, or a folder of videos, whose motion is estimated (DIS or RAFT).
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..controls.steer import angle_errors
from ..data.scenes import sample
from ..errors import SettingError, WeightsError
from ..priors.diffusers_i2v import from_pretrained
from ..priors.svd_flow import weights
from ..priors.svd_flow.net import MotionUNet, is_ours, is_temporal, with_static_camera
from ..priors.svd_flow.tiny import Residual, tiny_pipeline, tiny_prior
from . import asked
from .clips import Clip, carried, of_scene, of_videos

SAVE_EVERY = 250
LOG_EVERY = 50
MEAN, SPREAD = 0.7, 1.6
"""ln σ of the training levels (SVD, Blattmann et al. 2023, appendix)"""
NUMBERS = (6.0, 127.0, 0.02)
"""fps - 1, motion id and noise on the painting, as the pipeline's own call has them"""
NEAR = 1.5, 1.3
"""the same for the small network: at lower levels the noisy clip shows its motion by itself"""
CARRIED = 4800, 0.5
"""The small network's first clips are pictures `carried` as a whole, and of the later ones this share: how many, what share."""
DROP = 0.1
"""how often a clip's motion, its strength, its painting are withheld, each by itself"""


@dataclass(frozen=True)
class Settings:
    """What `vivant train svd-flow` was asked for. `size`, `frames`: of the training clips."""

    tiny: bool = False
    out: Path = Path("runs/svd-flow")
    base: Path | None = None
    videos: Path | None = None
    stage: str = "motion"
    flow: str = "dis"
    steps: int = 100_000
    minutes: float | None = None
    resume: Path | None = None
    batch: int = 4
    rate: float | None = None
    evaluate: int = 0
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    size: int | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        if self.tiny == (self.base is not None):
            raise SettingError("expected either --tiny or --base FOLDER (of Stable Video Diffusion), got both or none")
        if self.stage not in ("motion", "camera"):
            raise SettingError(f"expected stage motion or camera, got {self.stage!r}")
        if self.flow not in ("dis", "raft"):
            raise SettingError(f"expected optical flow by dis or raft, got {self.flow!r}")
        asked.numbers(self.steps, self.batch, self.minutes, self.rate, self.seed, self.threads)
        if self.evaluate < 0 or (self.evaluate and not self.tiny):
            raise SettingError(f"expected --evaluate 0 or more, and with --tiny alone, got {self.evaluate}")

    @property
    def clip(self) -> tuple[int, int]:
        """(side in pixels, frames): the paper's 512 and 25, 48 and 4 for the small network."""
        return self.size or (48 if self.tiny else 512), self.frames or (4 if self.tiny else 25)

    @property
    def state(self) -> str:
        """The file to go on from: each stage has its own, in the same folder."""
        return "camera.state.pt" if self.stage == "camera" else asked.STATE

    @property
    def learning_rate(self) -> float:
        """The paper's on a base."""
        return self.rate or (2e-3 if self.tiny else 3e-5)

    @property
    def levels(self) -> tuple[float, float]:
        """Mean and spread of ln σ."""
        return NEAR if self.tiny else (MEAN, SPREAD)


def clips(settings: Settings, cells: tuple[int, int], rng: np.random.Generator, seen: int = 0) -> Iterator[Clip]:
    """The endless training clips, `seen` of which were seen. The camera's stage takes scenes that stand still too: what still is, it learns there."""
    size, frames = settings.clip
    if settings.videos is not None:
        yield from of_videos(settings.videos, size, frames, cells, settings.flow, rng)
    first, share = CARRIED if settings.tiny and settings.stage == "motion" else (0, 0.0)
    for count in itertools.count(seen):
        scene = sample(rng, size, still=None if settings.stage == "camera" else False)
        if count < first or rng.random() < share:
            yield of_scene(carried(scene, rng), frames, cells, rng, 0.0)
        else:
            yield of_scene(scene, frames, cells, rng)


def loss(
    net: MotionUNet, latents: Float[Tensor, "B L C h w"], first: Float[Tensor, "B 1 C h w"], image: Float[Tensor, "B S D"],
    motion: Float[Tensor, "B L 2 h w"], amount: Float[Tensor, " B"], rng: torch.Generator, drop: float = DROP,
    levels: tuple[float, float] = (MEAN, SPREAD), unseen: float = DROP,
) -> Tensor:  # fmt: skip
    """SVD's training loss: |F - v|², v = a·ε - s·x0, at ln σ ~ N(mean, spread²) of `levels`; EDM's weight for σ_data = 1 is 1 on F."""
    batch = len(latents)

    def draw(*shape: int, normal: bool = True) -> Tensor:
        made = torch.randn(shape, generator=rng) if normal else torch.rand(shape, generator=rng)
        return made.to(latents)

    log_sigma = levels[0] + levels[1] * draw(batch)
    sigma = log_sigma.exp().view(-1, 1, 1, 1, 1)
    a = 1 / (1 + sigma**2).sqrt()
    s = sigma * a
    noise = draw(*latents.shape)
    heard = (draw(batch, 2, normal=False) > drop).to(latents)
    seen = (draw(batch, normal=False) >= unseen).to(latents)
    fed = torch.cat([a * latents + s * noise, (first * seen.view(-1, 1, 1, 1, 1)).expand_as(latents)], dim=2)
    numbers = torch.tensor(NUMBERS, device=latents.device).expand(batch, -1)
    out = net(fed, log_sigma / 4, image * seen.view(-1, 1, 1), numbers, motion, amount, heard)
    return (out - (a * noise - s * latents)).square().mean()


def pace(taken: int, share: float) -> float:
    """The factor on the learning rate after `taken` steps of this run: up over 100 steps, down to a twentieth at the end.

    `share`: how much of the run is over, 0..1; the last 30 % of it go down.
    """
    return min(1.0, (taken + 1) / 100, max(0.05, (1 - share) / 0.3))


def _share(settings: Settings, step: int, seconds: float) -> float:
    by_time = seconds / (60 * settings.minutes) if settings.minutes else 0.0
    return max(step / settings.steps, by_time)


def main(settings: Settings) -> dict[str, Any]:
    """Train, or go on; writes `out`/motion.safetensors (EMA), state.pt and log.csv, each whole or not at all.

    Returns what was done and, with `evaluate`, the median end-point angle errors of arrows on held-out scenes.
    """
    folder = settings.out
    settings = replace(settings, device=asked.places(
        folder, settings.device, settings.resume, settings.videos, settings.state,
    ))  # fmt: skip
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    size, frames = settings.clip
    pipe = tiny_pipeline(frames) if settings.tiny else from_pretrained(settings.base or "", settings.device).pipe
    pipe.to(settings.device)
    net, before = _network(pipe, folder, settings)
    trained = _chosen(net, settings)
    optimiser = torch.optim.AdamW(trained.values(), lr=settings.learning_rate, weight_decay=0.01)
    average = {name: value.detach().clone() for name, value in trained.items()}
    done = _resumed(settings, trained, average, optimiser) if settings.resume else 0
    cell = pipe.vae_scale_factor
    cells, seen = (size // cell, size // cell), done * settings.batch
    stream = clips(settings, cells, np.random.default_rng([settings.seed, done]), seen)
    rng = torch.Generator().manual_seed(settings.seed + done)
    start, total, step, log = time.time(), 0.0, done, folder / "log.csv"
    net.train()
    while step < settings.steps and (settings.minutes is None or time.time() - start < 60 * settings.minutes):
        part = [next(stream) for _ in range(settings.batch)]
        latents, first, image = _encoded(pipe, torch.stack([c.frames for c in part]), settings.tiny, rng)
        motion = torch.stack([c.motion for c in part]).to(settings.device)
        amount = torch.tensor([c.strength for c in part], device=settings.device)
        # The small network is never guided, and of a clip without its painting it knows nothing.
        unseen = 0.0 if settings.tiny else DROP
        value = loss(net, latents, first, image, motion, amount, rng, levels=settings.levels, unseen=unseen)
        if not torch.isfinite(value):
            raise WeightsError(
                f"the loss is not finite at step {step}; the last good state is {folder / settings.state}"
            )
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * pace(step - done, _share(settings, step, time.time() - start))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
        optimiser.step()
        step += 1
        decay = min(0.998, (1 + step) / (10 + step))
        for name, parameter in trained.items():
            average[name].lerp_(parameter.detach(), 1 - decay)
        total += float(value.detach())
        if step % LOG_EVERY == 0:
            _log(log, [step, round(time.time() - start, 1), round(total / LOG_EVERY, 5)])
            total = 0.0
        if step % SAVE_EVERY == 0:
            _save(folder / settings.state, trained, average, before, optimiser, step)
    _save(folder / settings.state, trained, average, before, optimiser, step)
    report: dict[str, Any] = {"steps": step, "weights": str(folder / weights.NAME)}
    if settings.evaluate and settings.tiny:
        prior = tiny_prior(folder / weights.NAME, frames, size)
        errors = angle_errors(prior, settings.evaluate, settings.seed, frames, size, "base", others=True)
        report |= {f"angle_{name}": round(float(np.median(values)), 1) for name, values in errors.items()}
    return report


def _network(pipe: Any, folder: Path, settings: Settings) -> tuple[MotionUNet, dict[str, Tensor]]:
    """The network, with what an earlier stage wrote to the folder, and those tensors."""
    path, before = folder / weights.NAME, {}
    kind = Residual if settings.tiny else MotionUNet
    if path.is_file() and settings.stage == "camera":
        before = weights.read(path)
        net = weights.fitted(pipe.unet, before, kind)
        if not any(".lora_" in name for name in before):
            net = with_static_camera(net)
            before = weights.names_with_lora(before, net)
        fresh = {k: v for k, v in net.state_dict().items() if ".lora_" in k and k not in before}
        weights.fill(net, before | fresh, path)
        before |= fresh
    else:
        net = kind(pipe.unet)
        net = with_static_camera(net) if settings.stage == "camera" else net
        if settings.stage == "camera":
            before = {k: v for k, v in net.state_dict().items() if is_ours(k)}
    return net.to(settings.device), {k: v.detach().cpu().clone() for k, v in before.items()}


def _chosen(net: MotionUNet, settings: Settings) -> dict[str, nn.Parameter]:
    """What learns, by name; everything else is frozen."""

    def learns(name: str) -> bool:
        if settings.stage == "camera":
            return ".lora_" in name
        return settings.tiny or is_ours(name) or is_temporal(name)

    for name, parameter in net.named_parameters():
        parameter.requires_grad_(learns(name))
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def _encoded(
    pipe: Any, frames: Float[Tensor, "B L 3 H W"], tiny: bool, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled latents of the clips, the unscaled latent of each noised painting, CLIP's view of the painting."""
    batch, count = frames.shape[:2]
    vae, device = pipe.vae, pipe.unet.device
    flat = frames.flatten(0, 1).to(device, vae.dtype)
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in flat.split(8)]) * vae.config.scaling_factor
    painting = frames[:, 0]
    noised = painting + NUMBERS[2] * torch.randn(painting.shape, generator=rng)
    first = vae.encode(noised.to(device, vae.dtype)).latent_dist.mode()[:, None]
    if tiny:
        image = torch.zeros(batch, 1, 32, device=device)
    else:
        image = torch.cat([pipe._encode_image(one[None] * 0.5 + 0.5, device, 1, False) for one in painting])
    return latents.unflatten(0, (batch, count)).float(), first.float(), image.float()


def _resumed(
    settings: Settings, trained: dict[str, nn.Parameter], average: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> int:
    try:
        state = torch.load(settings.resume or "", weights_only=True, map_location=settings.device)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(state["trained"][name])
                average[name].copy_(state["average"][name])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])
    except Exception as error:  # a file that is damaged or another's raises a dozen kinds
        line = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise WeightsError(f"expected a training state of this stage at {settings.resume}, got: {line}") from None


def _save(
    place: Path, trained: dict[str, nn.Parameter], average: dict[str, Tensor], before: dict[str, Tensor],
    optimiser: torch.optim.Optimizer, step: int,
) -> None:  # fmt: skip
    state = {
        "trained": {name: value.detach() for name, value in trained.items()}, "average": average,
        "optimiser": optimiser.state_dict(), "step": step,
    }  # fmt: skip
    part = place.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, place)
    weights.save(before | average, place.parent / weights.NAME, {"step": str(step)})


def _log(path: Path, row: list[Any]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "seconds", "loss"])
        writer.writerow(row)
    print(json.dumps(row), flush=True)
