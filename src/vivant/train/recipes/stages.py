"""DynamiCrafter's stages: what each is made of, and with which weights it begins."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import SettingError, WeightsError
from ...priors.dynamicrafter.net import DynamiCrafterUNet, TemporalTransformer
from ...priors.dynamicrafter.resampler import Resampler
from ...priors.dynamicrafter.weights import RESAMPLER, UNET, Parts, read
from ...process import Video
from .base import matcher

LEARNT = "trained.safetensors"
PICTURE = r"\.to_k_ip\.|\.to_v_ip\.|\.attn2\.alpha$"
"""the attention to P's tokens that a text-to-video UNet has not"""


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
    lora: int = 0
    """rank of a LoRA on the UNet's attentions, which then learns alone; 0: none"""
    alpha: int | None = None
    trained: str | None = None
    """a regular expression that parameters' names are searched for, in place of the stage's own choice"""

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= 1 / 3:
            raise SettingError(f"expected drop between 0 and 1/3, got {self.drop}")
        if self.lora < 0 or (self.lora and self.stage in ("context", "adapt")):
            raise SettingError(f"expected lora of at least 0, in stage joint or all, got {self.lora} in {self.stage}")
        if self.ends and self.stage in ("context", "adapt"):
            raise SettingError(
                f"expected stage joint or all with ends=true, {self.stage} gives no picture beside the noise"
            )


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
