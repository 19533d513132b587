"""Stable Video Diffusion that hears motion fields ("Controllable Longer Image Animation", Wang et al. 2024, §3.2, 3.3).

The blocks are those of diffusers' SVD UNet. Ours is what the paper adds: a CNN that encodes the motion fields, after each
spatio-temporal transformer a cross-attention whose values are that motion (eq. 4), the scene's motion strength beside the
timestep (eq. 8), and a LoRA in the temporal layers for a camera that stands still. All of it begins as nothing: fresh
layers compute exactly what SVD computes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import DependencyError

GAIN = 100.0
"""Motion goes into the encoder in percent of the frame's side (√(h·w)) a frame."""

SHARP = 3.0
"""How much more than usual the attention to motion tells places apart at first: with torch's own beginning it is nearly
even, and every place would hear the mean of all motion"""

RANK = 16
"""Rank of the static camera's LoRA."""

TEMPORAL = r".*temporal_transformer_blocks\.\d+\.attn\d\.(to_q|to_k|to_v|to_out\.0)"
"""Where it lies: the projections of the temporal layers' attentions."""


class Told(NamedTuple):
    """What the transformers are told; goes through diffusers' blocks where the painting's tokens do."""

    image: Float[Tensor, "BL S D"]
    motion: Sequence[Float[Tensor, "BL C h w"]]
    """one map of features a resolution"""
    heard: Float[Tensor, "BL 1 1"]
    """1 where a clip has motion fields, 0 where it is left to itself"""


class MotionEncoder(nn.Module):
    """From motion fields to feature maps z_m, one a resolution: strided convolutions (after Endo et al. 2019)."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Conv2d(width, width, 3, 1 if i == 0 else 2, 1), nn.GroupNorm(min(8, width), width),
                nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1),
            )
            for i in range(levels)
        )  # fmt: skip

    def forward(self, fields: Float[Tensor, "BL 2 h w"]) -> list[Float[Tensor, "BL C h w"]]:
        """`fields`: displacement a frame in latent cells. The maps halve in size from level to level, rounded up."""
        side = (fields.shape[-1] * fields.shape[-2]) ** 0.5
        x = self.stem(fields * (GAIN / side))
        out = []
        for level in self.levels:
            x = level(x)
            out.append(x)
        return out


class MotionAttention(nn.Module):
    """Eq. 4: Softmax(Q·Kᵀ/√d)·V_m with Q = W_Q·z, K = W_K·z, V_m = W_V·z_m, added to z.

    Over all places of all frames it would be quadratic in a hundred thousand tokens; like SVD's own attention it is done
    over the places of a frame and over the frames of a place, with the same Q, K and V_m.
    """

    def __init__(self, channels: int, motion: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(motion, channels, bias=False)
        self.space, self.time = nn.Linear(channels, channels), nn.Linear(channels, channels)
        # Attention begins as likeness: paint of a kind shares its motion. What comes out begins as nothing.
        with torch.no_grad():
            self.to_q.weight.mul_(SHARP)
        self.to_k.load_state_dict(self.to_q.state_dict())
        for layer in (self.space, self.time):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        z: Float[Tensor, "BL C h w"],
        motion: Float[Tensor, "BL M h w"],
        heard: Float[Tensor, "BL 1 1"],
        frames: int,
    ) -> Float[Tensor, "BL C h w"]:
        """`z` with what the motion says about it."""
        height, width = z.shape[-2:]
        if motion.shape[-2:] != z.shape[-2:]:
            motion = F.interpolate(motion, size=(height, width), mode="bilinear")
        tokens = self.norm(z.flatten(2).transpose(1, 2))
        value = motion.flatten(2).transpose(1, 2).to(tokens)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)) for part in (self.to_q(tokens), self.to_k(tokens), self.to_v(value))
        )
        over_space = self._attend(q, k, v)
        q, k, v = (part.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1) for part in (q, k, v))
        over_time = self._attend(q, k, v).unflatten(0, (-1, height * width)).transpose(1, 2).flatten(0, 1)
        out = (self.space(over_space) + self.time(over_time)) * heard.to(z)
        return z + out.transpose(1, 2).unflatten(2, (height, width))

    @staticmethod
    def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return out.transpose(1, 2).flatten(2)


class MotionTransformer(nn.Module):
    """A spatio-temporal transformer of SVD, and the attention to motion after it. Without `Told` it is SVD's alone."""

    def __init__(self, base: TransformerSpatioTemporalModel, motion: MotionAttention, level: int) -> None:
        super().__init__()
        self.base, self.motion, self.level = base, motion, level

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Any = None, image_only_indicator: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:  # fmt: skip
        """As diffusers' blocks call it."""
        told = encoder_hidden_states
        image = told.image if isinstance(told, Told) else told
        out = self.base(
            hidden_states, encoder_hidden_states=image, image_only_indicator=image_only_indicator, return_dict=False
        )[0]
        if isinstance(told, Told) and image_only_indicator is not None:
            out = self.motion(out, told.motion[self.level], told.heard, image_only_indicator.shape[-1])
        return (out,)


class MotionUNet(nn.Module):
    """F(z, t | painting, motion fields, motion strength), around an SVD UNet, whose transformers it wraps in place.

    The UNet goes on serving its pipeline: called by itself it computes what it did.
    """

    def __init__(self, unet: Any, width: int | None = None) -> None:
        """`unet`: diffusers' `UNetSpatioTemporalConditionModel`; `width`: channels of the motion features, the UNet's narrowest when None."""
        super().__init__()
        self.unet: Any = unet
        widths = unet.config.block_out_channels
        self.width = widths[0] if width is None else width
        self.encoder = MotionEncoder(self.width, len(widths))
        deepest = len(widths) - 1
        for i, block in enumerate(unet.down_blocks):
            self._wrap(block, i)
        self._wrap(unet.mid_block, deepest)
        for i, block in enumerate(unet.up_blocks):
            self._wrap(block, deepest - i)
        embed = 4 * widths[0]
        self.strength_proj = Timesteps(widths[0], True, downscale_freq_shift=0)
        self.strength_embedding = TimestepEmbedding(widths[0], embed)
        # The concatenation of both embeddings back to one: at first the timestep's as it is.
        self.blend = nn.Linear(2 * embed, embed)
        with torch.no_grad():
            self.blend.weight.copy_(torch.cat([torch.eye(embed), torch.zeros(embed, embed)], 1))
            self.blend.bias.zero_()

    def _wrap(self, block: nn.Module, level: int) -> None:
        attentions = getattr(block, "attentions", None)
        for i, base in enumerate(attentions or ()):
            if isinstance(base, MotionTransformer):
                raise ValueError("expected a plain SVD UNet, got one whose transformers are wrapped already")
            layer = MotionAttention(base.in_channels, self.width, base.num_attention_heads)
            attentions[i] = MotionTransformer(base, layer, level)  # type: ignore[index]

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.unet.conv_out.weight.dtype

    def forward(
        self,
        sample: Float[Tensor, "B L C h w"],
        timestep: Num[Tensor, ""] | Num[Tensor, " B"],
        image: Float[Tensor, "B S D"],
        numbers: Float[Tensor, "B 3"],
        motion: Float[Tensor, "B L 2 h w"],
        strength: Float[Tensor, " B"],
        heard: Float[Tensor, "B 2"],
    ) -> Float[Tensor, "B L C h w"]:
        """Predict F for noisy latents beside the painting's, (B, L, 8, h, w).

        `numbers`: fps - 1, motion id, noise on the painting. `motion`: displacement from each frame to the next in latent
        cells; `strength`: M_s of eq. 8. `heard`: 1 or 0 for each of these two; with both 0 this is SVD.
        """
        unet, (batch, frames) = self.unet, sample.shape[:2]
        emb = self._embed(timestep.expand(batch), numbers, strength, heard)
        emb = emb.repeat_interleave(frames, dim=0)
        told = Told(
            image.repeat_interleave(frames, dim=0),
            self.encoder(motion.flatten(0, 1).to(self.dtype)),
            heard[:, :1].repeat_interleave(frames, dim=0)[..., None],
        )
        only = torch.zeros(batch, frames, dtype=sample.dtype, device=sample.device)
        x = unet.conv_in(sample.flatten(0, 1))
        skips: tuple[Tensor, ...] = (x,)
        for block in unet.down_blocks:
            context = {"encoder_hidden_states": told} if getattr(block, "has_cross_attention", False) else {}
            x, more = block(hidden_states=x, temb=emb, image_only_indicator=only, **context)
            skips += more
        x = unet.mid_block(hidden_states=x, temb=emb, encoder_hidden_states=told, image_only_indicator=only)
        for block in unet.up_blocks:
            count = len(block.resnets)
            beside, skips = skips[-count:], skips[:-count]
            context = {"encoder_hidden_states": told} if getattr(block, "has_cross_attention", False) else {}
            size = skips[-1].shape[-2:] if skips else None  # sides that do not halve evenly
            x = block(
                hidden_states=x, temb=emb, res_hidden_states_tuple=beside, upsample_size=size, image_only_indicator=only,
                **context,
            )  # fmt: skip
        x = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
        return x.unflatten(0, (batch, frames))

    def _embed(self, timestep: Tensor, numbers: Tensor, strength: Tensor, heard: Tensor) -> Tensor:
        unet, dtype = self.unet, self.dtype
        emb = unet.time_embedding(unet.time_proj(timestep).to(dtype))
        emb = emb + unet.add_embedding(unet.add_time_proj(numbers.flatten()).view(len(numbers), -1).to(dtype))
        wave = self.strength_embedding(self.strength_proj(strength.float()).to(dtype))
        return emb + heard[:, 1:].to(dtype) * (self.blend(torch.cat([emb, wave], dim=1)) - emb)


def is_ours(name: str) -> bool:
    """Whether a key of `MotionUNet.state_dict()` is one that SVD has not."""
    return not name.startswith("unet.") or ".motion." in name or ".lora_" in name


def is_temporal(name: str) -> bool:
    """Whether a key is of SVD's temporal layers: what the paper trains beside its own, the spatial ones being frozen."""
    return bool(re.search(r"temporal|time_mixer|time_pos_embed|time_mix", name))


def with_static_camera(net: MotionUNet, rank: int = RANK) -> MotionUNet:
    """Put a LoRA of this rank into the temporal layers, in place; it begins as nothing. Raises `DependencyError`."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise DependencyError(
            "expected the package peft, which the static camera's LoRA needs; pip install peft"
        ) from None
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=TEMPORAL), net.unet)
    return net
