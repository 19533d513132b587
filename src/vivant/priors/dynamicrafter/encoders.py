"""OpenCLIP's two towers and the image VAE as libraries know them, and their names in DynamiCrafter's one checkpoint.

cond_stage_model.model.*     OpenCLIP ViT-H/14, text   ──► transformers CLIPTextModel, one block less
embedder.model.visual.*      OpenCLIP ViT-H/14, images ──► transformers CLIPVisionModel
first_stage_model.*          the KL-VAE of latent diffusion ──► diffusers AutoencoderKL
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

TOKENS = 77
SIDE = 224
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

CLIP_NAMES = (
    (r"^embeddings\.token_embedding\.weight$", "token_embedding.weight"),
    (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^embeddings\.patch_embedding\.weight$", "conv1.weight"),
    (r"^embeddings\.class_embedding$", "class_embedding"),
    (r"^final_layer_norm\.", "ln_final."),
    (r"^pre_layrnorm\.", "ln_pre."),
    (r"^post_layernorm\.", "ln_post."),
    (r"^encoder\.layers\.(\d+)\.", r"transformer.resblocks.\1."),
    (r"\.self_attn\.[qkv]_proj\.", ".attn.in_proj_"),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
"""From transformers' names to open_clip's."""

VAE_NAMES = (
    (r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block."),
    (r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"^decoder\.up_blocks\.(\d+)\.resnets\.", r"decoder.up.\1.block."),
    (r"^decoder\.up_blocks\.(\d+)\.upsamplers\.0\.", r"decoder.up.\1.upsample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)
"""From diffusers' names to latent diffusion's, which counts the way up from the finest level."""


def text_tower(config: Mapping[str, Any]) -> nn.Module:
    """The text encoder whose last hidden states are OpenCLIP's penultimate ones behind its last norm.

    `config`: CLIPTextConfig's entries, `num_hidden_layers` as OpenCLIP counts them. Its last block is left out.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    depth = int(config["num_hidden_layers"]) - 1
    return CLIPTextModel(CLIPTextConfig(**{**config, "num_hidden_layers": depth}))


def image_tower(config: Mapping[str, Any]) -> nn.Module:
    """The image encoder; its last hidden states are all tokens of the last block, before any norm."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(CLIPVisionConfig(**config))


def image_vae(config: Mapping[str, Any]) -> nn.Module:
    """The frame-wise VAE."""
    from diffusers import AutoencoderKL

    count = len(config["block_out_channels"])
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count}
    vae: nn.Module = AutoencoderKL(**kinds, **config)  # type: ignore[assignment]
    return vae


def clip_source(key: str) -> tuple[str, int | None]:
    """(open_clip's name, which third of it) for one of transformers' names; None: all of it.

    open_clip keeps the query's, key's and value's projections in one tensor, in this order.
    """
    key = key.removeprefix("text_model.").removeprefix("vision_model.")
    third = re.search(r"\.self_attn\.([qkv])_proj\.", key)
    return _rename(key, CLIP_NAMES), "qkv".index(third[1]) if third else None


def vae_source(key: str, levels: int) -> str:
    """Latent diffusion's name for one of diffusers'."""
    up = re.match(r"decoder\.up_blocks\.(\d+)\.", key)
    if up:
        key = key.replace(up[0], f"decoder.up_blocks.{levels - 1 - int(up[1])}.", 1)
    return _rename(key, VAE_NAMES)


def clip_shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a tower in an open_clip checkpoint."""
    out: dict[str, tuple[int, ...]] = {}
    for key, value in net.state_dict().items():
        name, third = clip_source(key)
        shape = tuple(value.shape)
        out[name] = shape if third is None else (3 * shape[0], *shape[1:])
    return out


def clip_state(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An open_clip tower's tensors under `net`'s names."""
    out = {}
    for key in net.state_dict():
        name, third = clip_source(key)
        out[key] = state[name] if third is None else state[name].chunk(3)[third].clone()
    return out


def vae_shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the VAE in a latent-diffusion checkpoint, whose attention is made of 1×1 convolutions."""
    levels = len(net.config["block_out_channels"])  # type: ignore[index]
    out = {}
    for key, value in net.state_dict().items():
        name, shape = vae_source(key, levels), tuple(value.shape)
        out[name] = (*shape, 1, 1) if ".attn_1." in name and len(shape) == 2 else shape
    return out


def vae_state(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A latent-diffusion VAE's tensors under `net`'s names."""
    levels = len(net.config["block_out_channels"])  # type: ignore[index]
    return {key: state[vae_source(key, levels)].reshape(value.shape) for key, value in net.state_dict().items()}


def _rename(key: str, table: Sequence[tuple[str, str]]) -> str:
    for pattern, name in table:
        key = re.sub(pattern, name, key)
    return key


@torch.no_grad()
def text_states(tokenizer: Any, tower: Any, prompts: Sequence[str]) -> Float[Tensor, "N 77 D"]:
    """OpenCLIP's penultimate hidden states behind its last norm. Padding is token 0; longer sentences are cut."""
    length = min(TOKENS, tower.config.max_position_embeddings)
    rows = tokenizer(list(prompts), truncation=True, max_length=length).input_ids
    padded = torch.tensor([list(row) + [0] * (length - len(row)) for row in rows])
    return tower(padded.to(tower.device)).last_hidden_state


@torch.no_grad()
def image_states(tower: Any, picture: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N T E"]:
    """All tokens of pictures in [-1, 1]: the class token and 256 patches."""
    seen = clip_view(picture.float(), tower.config.image_size)
    return tower(seen.to(tower.device, tower.dtype)).last_hidden_state


def clip_view(picture: Float[Tensor, "N 3 H W"], side: int = SIDE) -> Float[Tensor, "N 3 s s"]:
    """What CLIP sees of a picture in [-1, 1]: squeezed to a square, blurred before where it shrinks, normalised.

    The blur is a Gaussian of σ = (factor - 1)/2 pixels a side, cut at 2σ (scikit-image's rule); then bicubic
    interpolation from corner to corner.
    """
    for axis, size in ((2, picture.shape[2]), (3, picture.shape[3])):
        picture = _blur(picture, axis, size / side)
    small = F.interpolate(picture, size=(side, side), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(v, device=small.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((small + 1) / 2 - mean) / std


def _blur(x: Tensor, axis: int, factor: float) -> Tensor:
    if factor <= 1:
        return x
    sigma = max((factor - 1) / 2, 0.001)
    width = max(math.floor(4 * sigma), 3) | 1
    at = torch.arange(width, device=x.device, dtype=x.dtype) - width // 2
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, *((-1, 1) if axis == 2 else (1, -1))).expand(x.shape[1], -1, -1, -1)
    half = width // 2
    padded = F.pad(x, (0, 0, half, half) if axis == 2 else (half, half, 0, 0), mode="reflect")
    return F.conv2d(padded, kernel, groups=x.shape[1])
