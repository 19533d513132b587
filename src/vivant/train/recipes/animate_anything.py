"""AnimateAnything's training (Dai et al. 2023, §3.3 to 3.5, eq. 4 to 9): mask, frozen target, strength and its loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ...errors import SettingError
from ...noise import shared
from ...priors.animate_anything.adapter import guided, noise_schedule
from ...priors.animate_anything.net import AnimateAnythingUNet, UNetConfig
from ...priors.animate_anything.weights import Parts
from ...priors.folder import DIFFUSERS, autoencoder, clip_text, fill, network, read_json, read_state, tokenizer
from ...priors.frames2d import decode, text_states
from ...process import Level, Prediction, Video, coefficients, recover, scheduler_levels
from ...solvers import ddim
from .. import lora
from ..config import Data, Loop
from ..feed import Example
from ..losses import Noise, chances, denoising, frozen, motion_strength, own_noise, strength_loss, uniform_steps
from . import tiny
from .base import Sentences, base_folder, device_of, link_tree, matcher, write_json, write_state
from .masks import areas, partly

NAME = "animate-anything"
TRAINED = {
    "temporal": r"temp_convs|temp_attentions|transformer_in|conv_in2|time_embedding\.cond_proj",
    "official": r"attn1|attn2|\.attentions|conv_in|temp_conv|motion",
    "all": r"",
}
"""What learns: the layers over time, the mask's way in and the strength's projection (the paper, and the one weight by
which strength acts); the released script's list, which leaves that one out; everything."""
LORA = r"(?:.*(?:temp_attentions|transformer_in).*\.(?:to_q|to_k|to_v|to_out\.0))|time_embedding\.cond_proj"


@dataclass(frozen=True)
class Model:
    """The base and what is done to it."""

    base: str = "tiny"
    """a model of `vivant models`, a folder of AnimateAnything's layout or of a text-to-video UNet3DConditionModel's; "tiny\""""
    trained: str = "temporal"
    """temporal, official, all, or a regular expression that parameters' names are searched for"""
    lora: int = 0
    """rank; 0: the weights themselves learn"""
    alpha: int | None = None
    mask: bool = True
    """whether the network is told where it moves"""
    freeze: bool = True
    """eq. 5: what lies outside the mask stands still in the target"""
    told: Literal["strength", "rate", "nothing"] = "strength"
    """what the network hears of how much it moves: eq. 6; or the frame rate, or nothing, the paper's comparisons"""
    strength_weight: float = 0.001
    """λ of eq. 9"""
    text_drop: float = 0.15
    dropout: float | None = None
    """of the temporal convolutions while they learn; None: 0.1, as released"""
    some: float = 0.3
    """how often only a part of what moves is in the mask (§3.5: the motion area is varied): some areas, or one side"""
    everywhere: float = 0.1
    """how often the mask is the whole picture, as it is for those who give none"""
    threshold: int = 5
    """T_m of eq. 4, of 255"""
    least: float = 0.005
    """share of the picture below which a moving area is none"""

    def __post_init__(self) -> None:
        for name in ("text_drop", "some", "everywhere", "least"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"expected {name} between 0 and 1, got {getattr(self, name)}")
        if self.lora < 0 or self.strength_weight < 0 or not 0 <= self.threshold < 255:
            raise SettingError(
                f"expected lora and strength_weight of at least 0 and threshold 0 … 254, got {self.lora}, "
                f"{self.strength_weight}, {self.threshold}"
            )


@dataclass(frozen=True)
class Config:
    """All of an AnimateAnything training."""

    recipe: Literal["animate-anything"] = "animate-anything"
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loop: Loop = field(default_factory=Loop)


class AnimateAnythingRecipe:
    """The recipe behind the loop's protocol."""

    name = NAME
    units = ("ResnetBlock2D", "TemporalConvLayer", "Transformer2DModel", "TransformerTemporalModel")

    def __init__(
        self, parts: Parts, model: Model, base: Path | None = None, fresh: bool = False, seed: int = 0
    ) -> None:
        """`parts`: the loaded base; `base`: its folder, whose other files go with the result; `fresh`: see `load`."""
        self.parts, self.model, self.base = parts, model, base
        self.net: nn.Module = parts.unet
        if model.lora:
            if fresh:
                raise SettingError(
                    "expected a base with AnimateAnything's own weights for LoRA, it is a plain text-to-video one"
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                lora.inject(self.net, LORA, model.lora, model.alpha)
        for layer in self.net.modules():
            if isinstance(layer, nn.Dropout) and model.dropout is not None:
                layer.p = model.dropout
        self._chosen = matcher(TRAINED.get(model.trained, model.trained))
        schedule = noise_schedule(parts.scheduler)
        self.schedule, self.form = schedule, schedule.config.prediction_type
        self.noise = Noise.of_scheduler(schedule, self.form)
        self.device = next(parts.vae.buffers(), next(parts.vae.parameters(), torch.zeros(()))).device
        self.read = Sentences(lambda said: text_states(parts.tokenizer, parts.text_encoder, said))
        self.kind = f"{NAME} {base} {model.threshold} {model.least}"

    @classmethod
    def of(cls, config: Config, out: Path) -> AnimateAnythingRecipe:
        """From a configuration; a tiny base is made in `out`/base. The folder is loaded to the loop's device."""
        base = base_folder(config.model.base)
        if config.model.base == "tiny":
            base = tiny.animate_anything(out / "base", config.loop.seed)
        parts, fresh = load(base, device_of(config.loop.device), config.loop.seed)
        return cls(parts, config.model, base, fresh, config.loop.seed)

    def trains(self, name: str) -> bool:
        """A LoRA's factors, or what the pattern finds."""
        return lora.is_lora(name) if self.model.lora else self._chosen(name)

    @torch.no_grad()
    def encode(self, example: Example, rng: Generator) -> dict[str, Tensor]:
        """latents (4, F, h, w), areas (K, h, w) that move, text (S, D), rate: frames a second."""
        frames = example["frames"]
        flat = frames.transpose(0, 1).to(self.device, self.parts.vae.dtype)
        latents = torch.cat([self.parts.vae.encode(part).latent_dist.mode() for part in flat.split(8)])
        latents = (latents * self.parts.vae.config.scaling_factor).float().transpose(0, 1).contiguous()
        pictures = ((frames.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
        found = areas(pictures, self.model.threshold, self.model.least, tuple(latents.shape[-2:]))
        return {
            "latents": latents, "areas": torch.from_numpy(found).float(), "text": self.read(example["caption"]),
            "rate": torch.tensor(float(example["fps"])),
        }  # fmt: skip

    def loss(self, net: nn.Module, batch: dict[str, Tensor], rngs: Sequence[Generator]) -> dict[str, Tensor]:
        """l = l_ε + λ·l_s (eq. 9) of each clip, and its two terms."""
        z, first = batch["latents"], batch["latents"][:, :, :1]
        mask = self.masks(batch["areas"], rngs)
        target = frozen(z, mask) if self.model.freeze and self.model.mask else z
        strength = motion_strength(target)
        t = uniform_steps(len(self.noise), rngs)
        eps = own_noise(z, rngs)
        noisy = self.noise.noisy(target, eps, t)
        silent = (chances(rngs) < self.model.text_drop).to(z.device)
        nothing = self.read("").to(z.device)
        text = torch.where(silent[:, None, None], nothing, batch["text"])
        told = self.told(strength, batch["rate"])
        out = net(noisy, t.to(z.device), text, first, mask if self.model.mask else torch.ones_like(mask), told).float()
        plain = denoising(out, self.noise.target(target, eps, t))
        moves = strength_loss(target, self.noise.clean(noisy, out, t))
        weight = self.model.strength_weight if self.model.told == "strength" else 0.0
        return {"loss": plain + weight * moves if weight else plain, "denoising": plain, "strength": moves}

    def told(self, strength: Float[Tensor, " B"], rate: Float[Tensor, " B"]) -> Float[Tensor, " B"] | None:
        """The number the network hears of each clip's motion."""
        return {"strength": strength, "rate": rate, "nothing": None}[self.model.told]

    def masks(self, found: Float[Tensor, "B K h w"], rngs: Sequence[Generator]) -> Float[Tensor, "B 1 1 h w"]:
        """The union of each clip's moving areas, or a part of it, or everywhere."""
        out = []
        for areas_of, rng in zip(found, rngs, strict=True):
            part, everywhere = torch.rand(2, generator=rng).tolist()
            some = partly(areas_of, rng)
            mask = some if part < self.model.some and bool(some.any()) else areas_of.amax(0)
            out.append(torch.ones_like(mask) if everywhere < self.model.everywhere else mask)
        return torch.stack(out)[:, None, None]

    @torch.no_grad()
    def sample(
        self, net: nn.Module, first: Float[Tensor, "B C 1 h w"], text: Float[Tensor, "B S D"], count: int,
        mask: Float[Tensor, "B 1 1 h w"], told: Float[Tensor, " B"] | None, rng: Generator, steps: int = 10,
        guidance: float = 1.0,
    ) -> Float[Tensor, "B C L h w"]:  # fmt: skip
        """Clips of `count` latent frames as the network makes them, from the shared noise of eq. 10, by DDIM."""
        levels = scheduler_levels(self.schedule, steps)
        z = shared(first.repeat(1, 1, count, 1, 1), levels[0], rng)
        call: Any = net
        if guidance != 1:
            nothing = self.read("").to(first.device).expand_as(text)
            return ddim(guided(call, torch.cat([nothing, text]), first, mask, told, guidance, self.form), z, levels)

        def plain(z: Video, level: Level) -> Prediction:
            out = call(z, level.t, text, first, mask, told)
            return recover(z, out, level, *coefficients(self.form, level))

        return ddim(plain, z, levels)

    def sheet(self, net: nn.Module, batch: dict[str, Tensor], rng: Generator) -> list[np.ndarray]:
        """The first clip's picture, moving where and as much as the clip does."""
        z = batch["latents"][:1]
        mask = batch["areas"][:1].amax(1)[:, None, None]
        told = self.told(motion_strength(frozen(z, mask)), batch["rate"][:1])
        x = self.sample(net, z[:, :, :1], batch["text"][:1], z.shape[2], mask, told, rng, guidance=4.0)
        frames = decode(self.parts.vae, x.to(self.device), 4)[0]
        return list(((frames.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy())

    def save(self, state: Mapping[str, Tensor], folder: Path) -> None:
        """A LoRA file, or a folder that `animate_anything` loads: the base's, with the UNet that was trained."""
        if self.model.lora:
            lora.save(state, folder, self.model.alpha or self.model.lora)
            return
        write_state(folder / "unet" / DIFFUSERS[0], state)
        if self.base is not None:
            link_tree(self.base, folder, without=("unet",))
            record = read_json(self.base / "unet" / "config.json")
            write_json(folder / "unet" / "config.json", record | {"motion_mask": True, "motion_strength": True})


def load(folder: Path, device: torch.device, seed: int = 0) -> tuple[Parts, bool]:
    """(the networks, whether the mask's and the strength's ways in are new): AnimateAnything's folder or a text-to-video one.

    Into a plain text-to-video UNet the mask comes in at zero beside the latents' own weights (§3.3), and so does the
    strength: at first the network is what it was.
    """
    from ...priors.animate_anything.weights import load as released

    path = next((folder / "unet" / name for name in DIFFUSERS if (folder / "unet" / name).is_file()), None)
    if path is None:
        return released(folder, device), False  # which says what is missing
    state = read_state(path)
    if "conv_in2.weight" in state:
        return released(folder, device), False
    record = read_json(folder / "unet" / "config.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = AnimateAnythingUNet(UNetConfig.from_json(record))
    fill(net, grown(state, net), path)
    parts = Parts(
        unet=net.to(device), vae=network(folder / "vae", autoencoder, torch.float32).to(device),
        text_encoder=network(folder / "text_encoder", clip_text, torch.float32).to(device),
        tokenizer=tokenizer(folder / "tokenizer"), scheduler=read_json(folder / "scheduler" / "scheduler_config.json"),
    )  # fmt: skip
    parts.unet.eval().requires_grad_(False)
    return parts, True


def grown(state: Mapping[str, Tensor], net: AnimateAnythingUNet) -> dict[str, Tensor]:
    """A text-to-video UNet's weights and, at zero, what AnimateAnything adds to it."""
    mine = net.state_dict()
    added = ("conv_in2.", "time_embedding.cond_proj.", "motion_embedding.")
    new = {name: torch.zeros_like(v) for name, v in mine.items() if name.startswith(added) and name not in state}
    if "conv_in.weight" in state and "conv_in2.weight" in new:
        new["conv_in2.weight"][:, 1:] = state["conv_in.weight"]
        new["conv_in2.bias"].copy_(state["conv_in.bias"])
    # A projection at zero still learns: its gradient is its input, which is not zero.
    return {**state, **new}
