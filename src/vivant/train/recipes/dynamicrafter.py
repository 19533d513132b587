"""DynamiCrafter's training (Xing et al. 2023, §3.3): the context network P, its adaption, then the concatenated picture.

context ─► P and the attention to its tokens, on a text-to-image UNet, one frame at a time
adapt   ─► P and the spatial layers of the video model
joint   ─► the same with the picture beside the noise, whose way in begins at zero
all     ─► everything learns: the released code
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from ...errors import SettingError, WeightsError
from ...noise import white
from ...priors.dynamicrafter.encoders import image_states, text_states
from ...priors.dynamicrafter.net import DynamiCrafterUNet, TemporalConv, TemporalTransformer
from ...priors.dynamicrafter.resampler import Resampler
from ...priors.dynamicrafter.schedule import SCHEDULES, Schedule
from ...priors.dynamicrafter.weights import RESAMPLER, UNET, Parts, load, read
from ...priors.folder import read_json
from ...priors.frames2d import decode
from ...process import Level, Prediction, Video, recover
from ...solvers import ddim
from ..config import Data, Loop
from ..feed import Example
from ..losses import Noise, chances, denoising, own_noise, uniform_steps
from . import tiny
from .base import Sentences, device_of, link_tree, matcher, write_json, write_state

NAME = "dynamicrafter"
LEARNT = "trained.safetensors"
PICTURE = r"\.to_k_ip\.|\.to_v_ip\.|\.attn2\.alpha$"
"""the attention to P's tokens that a text-to-video UNet has not"""
STRIDES, RATES = (1, 6), (5, 30)
"""what `fs` may say: frame strides for the 256 model, frames a second for the others (Table 5)"""


@dataclass(frozen=True)
class Model:
    """The base, the stage, and how conditions are withheld."""

    base: str = "tiny"
    """a folder as `dynamicrafter` loads it: the VAE, both CLIP towers, the networks to begin with; or "tiny\""""
    variant: Literal["256", "512", "1024", "512_interp"] = "256"
    stage: Literal["context", "adapt", "joint", "all"] = "joint"
    unet: Path | None = None
    """a checkpoint that the UNet begins with in the base's place: Stable Diffusion 2.1's for context, VideoCrafter's after"""
    before: Path | None = None
    """what an earlier stage wrote (its `last` or `best` folder)"""
    fresh: bool = False
    """whether P and the attention to its tokens begin at random, not with the base's"""
    ends: bool = False
    """loops and interpolation: first and last frame are given, the rest is empty"""
    frame: Literal["random", "first"] = "random"
    """which frame is the picture"""
    drop: float = 0.05
    """how often the text is withheld; as often both, as often the picture's tokens"""
    trained: str | None = None
    """a regular expression that parameters' names are searched for, in place of the stage's own choice"""

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= 1 / 3:
            raise SettingError(f"expected drop between 0 and 1/3, got {self.drop}")
        if self.ends and self.stage in ("context", "adapt"):
            raise SettingError(
                f"expected stage joint or all with ends=true, {self.stage} gives no picture beside the noise"
            )


@dataclass(frozen=True)
class Config:
    """All of a DynamiCrafter training."""

    recipe: Literal["dynamicrafter"] = "dynamicrafter"
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loop: Loop = field(default_factory=Loop)


class Crafter(nn.Module):
    """The UNet and P as one network."""

    def __init__(self, unet: DynamiCrafterUNet, resampler: Resampler) -> None:
        super().__init__()
        self.unet, self.resampler = unet, resampler

    def forward(
        self, x: Float[Tensor, "B C L h w"], t: Tensor, text: Float[Tensor, "B 77 D"], seen: Float[Tensor, "B T E"],
        fs: Tensor,
    ) -> Video:  # fmt: skip
        """F for noisy (and conditioning) latents; `seen`: CLIP's tokens of the picture."""
        return self.unet(x, t, torch.cat([text, self.resampler(seen).to(text)], dim=1), fs)


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
        self.net: nn.Module = crafter.to(self.device)
        over_time = tuple(
            f"unet.{name}."
            for name, m in crafter.unet.named_modules()
            if isinstance(m, (TemporalConv, TemporalTransformer))
        )
        picture, chosen = matcher(PICTURE), matcher(model.trained or "")

        def trains(name: str) -> bool:
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
        base = Path(model.base)
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


def build(parts: Parts, model: Model, seed: int) -> Crafter:
    """The stage's UNet and P with the weights they begin with. Raises `WeightsError` where some are missing."""
    config = replace(parts.unet.config, in_channels=8 if model.stage in ("joint", "all") else 4)
    if model.stage == "context":
        config = replace(
            config, temporal_conv=False, temporal_attention=False, addition_attention=False, fs_condition=False
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = DynamiCrafterUNet(config)
        resampler = fresh_like(parts.resampler)
    picture = matcher(PICTURE)
    mine = {f"unet.{k}": v for k, v in unet.state_dict().items()}
    begun = {f"resampler.{k}" for k in resampler.state_dict()} | {k for k in mine if picture(k)}
    missing = set(mine) | begun
    state: dict[str, Tensor] = {}
    for source, found in sources(parts, model, unet):
        fits = {k: fitted(v, mine[k]) if k in mine else v for k, v in found.items() if k in missing | set(state)}
        wrong = [k for k, v in fits.items() if k in mine and v.shape != mine[k].shape]
        if wrong:
            raise WeightsError(
                f"expected {wrong[0]} of shape {tuple(mine[wrong[0]].shape)} in {source}, got {tuple(fits[wrong[0]].shape)}"
            )
        state |= fits
        missing -= set(fits)
    # P and the attention to its tokens may be new, and the frame rate's embedding to a model without one.
    lost = sorted(k for k in missing - begun if not k.startswith("unet.fps_embedding."))
    if lost:
        raise WeightsError(
            f"expected {lost[0]} in {model.unet or model.base}, found none ({len(lost)} missing); name another model.unet"
        )
    unet.load_state_dict({k.removeprefix("unet."): v for k, v in state.items() if k.startswith("unet.")}, strict=False)
    held = {k.removeprefix("resampler."): v for k, v in state.items() if k.startswith("resampler.")}
    resampler.load_state_dict(held, strict=False)
    return Crafter(unet, resampler)


def sources(parts: Parts, model: Model, unet: DynamiCrafterUNet) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Where weights come from, later ones over earlier ones: the base, `model.unet`, `model.before`."""
    picture = matcher(PICTURE)
    renamed = still_names(parts.unet) if model.stage == "context" else {}
    if model.unet is None:
        found = {f"unet.{_renamed(k, renamed)}": v.float() for k, v in parts.unet.state_dict().items()}
        found |= {f"resampler.{k}": v.float() for k, v in parts.resampler.state_dict().items()}
        yield (
            model.base,
            {k: v for k, v in found.items() if not (model.fresh and (k.startswith("resampler.") or picture(k)))},
        )
    else:
        given = read(model.unet)
        bare = {k.removeprefix(UNET): v.float() for k, v in given.items() if k.startswith(UNET)} or given
        yield str(model.unet), {f"unet.{k}": v.float() for k, v in bare.items()}
    if model.before is not None:
        path = model.before / LEARNT if model.before.is_dir() else model.before
        try:
            learnt = load_file(path)
        except Exception as error:
            line = (str(error) or type(error).__name__).splitlines()[0][:120]
            raise WeightsError(f"expected what a stage wrote ({LEARNT}) at {path}, got {line}") from None
        yield str(path), {k.replace(UNET, "unet.", 1).replace(RESAMPLER, "resampler.", 1): v for k, v in learnt.items()}


def fitted(value: Tensor, like: Tensor) -> Tensor:
    """A convolution's weights for more or fewer input channels: new ones at zero (appendix A.3), surplus ones left out."""
    if value.ndim != 4 or value.shape[0] != like.shape[0] or value.shape[2:] != like.shape[2:]:
        return value
    if {value.shape[1], like.shape[1]} != {4, 8}:
        return value
    out = torch.zeros_like(like)
    both = min(value.shape[1], like.shape[1])
    out[:, :both] = value[:, :both]
    return out


def still_names(unet: DynamiCrafterUNet) -> dict[str, str]:
    """Module prefixes of a video UNet and of the same UNet without its layers over time, where they differ."""
    stages = {f"input_blocks.{i}": s for i, s in enumerate(unet.input_blocks)} | {"middle_block": unet.middle_block}
    stages |= {f"output_blocks.{i}": s for i, s in enumerate(unet.output_blocks)}
    out: dict[str, str] = {}
    for name, stage in stages.items():
        kept = [j for j, layer in enumerate(stage.children()) if not isinstance(layer, TemporalTransformer)]
        out |= {f"{name}.{j}.": f"{name}.{new}." for new, j in enumerate(kept) if new != j}
        out |= {f"{name}.{j}.": f"over_time.{name}.{j}." for j in range(len(list(stage.children()))) if j not in kept}
    return out


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    return next((new + name.removeprefix(old) for old, new in prefixes.items() if name.startswith(old)), name)


def fresh_like(resampler: Resampler) -> Resampler:
    """A resampler of the same sizes, first weights drawn from the global generator."""
    out = copy.deepcopy(resampler).requires_grad_(True)
    for module in out.modules():
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            module.reset_parameters()
    nn.init.normal_(out.latents, std=out.latents.shape[-1] ** -0.5)
    return out


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as JSON has them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}
