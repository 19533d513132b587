"""DynamiCrafter's training (Xing et al. 2023, §3.3): the context network P, its adaption, then the concatenated picture.

context ─► P and the attention to its tokens, on a text-to-image UNet, one frame at a time
adapt   ─► P and the spatial layers of the video model
joint   ─► the same with the picture beside the noise, whose way in begins at zero
all     ─► everything learns: the released code
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ...noise import white
from ...priors.dynamicrafter.encoders import image_states, text_states
from ...priors.dynamicrafter.net import TemporalConv, TemporalTransformer
from ...priors.dynamicrafter.schedule import SCHEDULES, Schedule
from ...priors.dynamicrafter.weights import RESAMPLER, UNET, Parts, load, read
from ...priors.folder import read_json
from ...priors.frames2d import decode
from ...process import Level, Prediction, Video, recover
from ...solvers import ddim
from .. import lora
from ..config import Data, Loop
from ..feed import Example
from ..losses import Noise, chances, denoising, own_noise, uniform_steps
from . import tiny
from .base import Sentences, base_folder, device_of, link_tree, matcher, write_json, write_state
from .stages import LEARNT, PICTURE, Model, build

NAME = "dynamicrafter"
LORA = r".*\.attn[12]\.(?:to_q|to_k|to_v|to_k_ip|to_v_ip|to_out\.0)"
STRIDES, RATES = (1, 6), (5, 30)
"""what `fs` may say: frame strides for the 256 model, frames a second for the others (Table 5)"""


@dataclass(frozen=True)
class Config:
    """All of a DynamiCrafter training."""

    recipe: Literal["dynamicrafter"] = "dynamicrafter"
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loop: Loop = field(default_factory=Loop)


class DynamiCrafterRecipe:
    """The recipe behind the loop's protocol."""

    name = NAME
    units = ("ResBlock", "SpatialTransformer", "TemporalTransformer", "TemporalConv")

    def __init__(self, parts: Parts, model: Model, base: Path | None = None, seed: int = 0) -> None:
        """`parts`: the loaded base; `base`: its folder. Raises `WeightsError` where the UNet is not whole."""
        self.parts, self.model, self.base = parts, model, base
        self.schedule: Schedule = SCHEDULES[model.variant]
        self.noise = Noise.of_crafter(self.schedule)
        self.device = next(parts.vae.parameters()).device
        crafter = build(parts, model, seed)
        if model.lora:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                lora.inject(crafter.unet, LORA, model.lora, model.alpha)
        self.net: nn.Module = crafter.to(self.device)
        over_time = tuple(
            f"unet.{name}."
            for name, m in crafter.unet.named_modules()
            if isinstance(m, (TemporalConv, TemporalTransformer))
        )
        picture, chosen = matcher(PICTURE), matcher(model.trained or "")

        def trains(name: str) -> bool:
            if model.lora:
                return lora.is_lora(name)
            if model.trained is not None:
                return chosen(name)
            if model.stage == "context":
                return name.startswith("resampler.") or picture(name)
            return model.stage == "all" or not name.startswith(over_time)

        self.trains = trains
        self.read = Sentences(lambda said: text_states(parts.tokenizer, parts.text, said))
        self.dark = image_states(parts.image, torch.zeros(1, 3, 224, 224))[0].float().cpu()
        self.kind = f"{NAME} {base} {model.frame} {model.ends} {model.variant}"

    @classmethod
    def of(cls, config: Config, out: Path) -> DynamiCrafterRecipe:
        """From a configuration; a tiny base is made in `out`/base."""
        model = config.model
        base = base_folder(model.base)
        if model.base == "tiny":
            base = tiny.dynamicrafter(out / "base", model.variant, config.loop.seed)
        parts = load(base, device_of(config.loop.device), variant=model.variant)
        return cls(parts, model, base, config.loop.seed)

    @torch.no_grad()
    def encode(self, example: Example, rng: Generator) -> dict[str, Tensor]:
        """latents (4, F, h, w), a sample each; seen (T, E), CLIP's tokens of frame `index`; text (77, D); fs."""
        frames = example["frames"]
        vae = self.parts.vae
        flat = frames.transpose(0, 1).to(self.device, vae.dtype)
        found = [vae.encode(part).latent_dist for part in flat.split(8)]
        mean, std = (torch.cat([getattr(one, name).float() for one in found]) for name in ("mean", "std"))
        noise = torch.randn(mean.shape, generator=rng)
        latents = (mean + std * noise.to(mean)) * vae.config.scaling_factor
        first = self.model.frame == "first" or self.model.ends
        index = 0 if first else int(torch.randint(len(flat), (1,), generator=rng))
        return {
            "latents": latents.transpose(0, 1).contiguous(), "text": self.read(example["caption"]),
            "seen": image_states(self.parts.image, frames[:, index][None])[0].float(), "index": torch.tensor(index),
            "fs": torch.tensor(rate_of(example, self.model.variant)),
        }  # fmt: skip

    def loss(self, net: nn.Module, batch: dict[str, Tensor], rngs: Sequence[Generator]) -> dict[str, Tensor]:
        """|F - target|² of each clip, text and picture withheld by chance."""
        z, index = batch["latents"], batch["index"]
        if self.model.stage == "context":
            z = torch.stack([clip[:, i : i + 1] for clip, i in zip(z, index.tolist(), strict=True)])
        t, eps, draw = uniform_steps(len(self.noise), rngs), own_noise(z, rngs), chances(rngs).to(z.device)
        p = self.model.drop
        mute, blind = draw < 2 * p, (draw >= p) & (draw < 3 * p)
        text = torch.where(mute[:, None, None], self.read("").to(z), batch["text"])
        seen = torch.where(blind[:, None, None], self.dark.to(z), batch["seen"])
        x = self.noise.noisy(z, eps, t)
        if self.model.stage in ("joint", "all"):
            x = torch.cat([x, self.beside(batch["latents"], index)], dim=1)
        out = net(x, t.to(z.device), text, seen, batch["fs"])
        value = denoising(out, self.noise.target(z, eps, t))
        return {"loss": value}

    def beside(self, z: Float[Tensor, "B C L h w"], index: Tensor) -> Float[Tensor, "B C L h w"]:
        """The conditioning latents: one frame on all, or first and last in their places and nothing between."""
        if self.model.ends:
            out = torch.zeros_like(z)
            out[:, :, 0], out[:, :, -1] = z[:, :, 0], z[:, :, -1]
            return out
        return torch.stack([clip[:, i : i + 1] for clip, i in zip(z, index.tolist(), strict=True)]).expand_as(z)

    @torch.no_grad()
    def sheet(self, net: nn.Module, batch: dict[str, Tensor], rng: Generator) -> list[np.ndarray]:
        """The first clip's picture animated by ten steps of DDIM, without guidance; a single frame in the first stage."""
        z = batch["latents"][:1]
        beside = self.beside(z, batch["index"][:1])
        text, seen, fs = batch["text"][:1], batch["seen"][:1], batch["fs"][:1]

        def denoise(z: Video, level: Level) -> Prediction:
            x = z if self.model.stage in ("context", "adapt") else torch.cat([z, beside], dim=1)
            out = net(x, torch.full((1,), int(level.t), device=z.device), text, seen, fs)
            return recover(z, out, level, *self.schedule.coefficients(level))

        like = z[:, :, :1] if self.model.stage == "context" else z
        x = ddim(denoise, white(like, rng), self.schedule.levels(10))
        if self.model.stage == "context":  # beside it, what it was to make
            x = torch.cat([z[:, :, int(batch["index"][0])][:, :, None], x], dim=2)
        frames = decode(self.parts.vae, x.to(self.device), 4)[0]
        return list(((frames.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy())

    def save(self, state: Mapping[str, Tensor], folder: Path) -> None:
        """`trained.safetensors` under official names, which the next stage reads; after joint and all, a whole model."""
        if self.model.lora:
            unet = {k.removeprefix("unet."): v for k, v in state.items()}
            lora.save(unet, folder, self.model.alpha or self.model.lora)
            return
        prefixes = {"unet.": UNET, "resampler.": RESAMPLER}
        named = {prefixes[f"{k.partition('.')[0]}."] + k.partition(".")[2]: v for k, v in state.items()}
        picture = matcher(PICTURE)
        if self.model.stage == "context":  # the text-to-image UNet was only borrowed
            named = {k: v for k, v in named.items() if k.startswith(RESAMPLER) or picture(k)}
        write_state(folder / LEARNT, named)
        if self.base is None or self.model.stage in ("context", "adapt"):
            return
        path = next(self.base / n for n in ("model.safetensors", "model.ckpt") if (self.base / n).is_file())
        write_state(folder / "model.safetensors", {**read(path), **named})
        link_tree(self.base, folder, without=("model.safetensors", "model.ckpt", "config.json"))
        sizes = {"unet": plain(asdict(self.parts.unet.config))}
        known = self.base / "config.json"
        record = read_json(known) if known.is_file() else {}
        write_json(folder / "config.json", {**sizes, **record, "variant": self.model.variant})


def rate_of(example: Example, variant: str) -> int:
    """The number the network hears of a clip's speed: its frame stride (256), or its frames a second."""
    if variant == "256":
        low, high = STRIDES
        value = float(example["native_fps"]) / float(example["fps"])
    else:
        low, high = RATES
        value = float(example["fps"])
    return min(max(round(value), low), high)


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as JSON has them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}
