"""The Cinemo UNet (Ma et al. 2024): Stable Diffusion 1 on motion residuals, attending over time in each block.

The painting's latent is added to every noisy residual and goes in as frame 0; frame 0's output is dropped. Group norms
of the resnets see all frames of a clip at once, those of the transformers one frame at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import DownBlock2D, UpBlock2D
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from ...process import Video
from .. import lean
from ..layers import (
    Attention,
    check_widths,
    clips,
    fast,
    frames,
    frequencies,
    heads_of,
    read_config,
    rotate,
    tile,
    vector,
)
from ..lean import Pair, fed, inferring, last, look, onto, project, shortcut, silu

ROTARY = 32
"""Channels of each head that turn with time."""

BUCKETS, FARTHEST = 32, 32
"""Relative positions are told apart in so many buckets, and no more beyond so many frames."""

ONLY: dict[str, Any] = {
    "addition_embed_type": "motion_ids", "only_cross_attention": False,
    "dual_cross_attention": False, "center_input_sample": False, "resnet_time_scale_shift": "default",
}  # fmt: skip
"""What the official configuration can switch and this network cannot: the released model has it so."""


def optional(key: str) -> bool:
    """Whether a checkpoint may or may not hold `key`: the rotary frequencies, constants that one module shares out."""
    return key.endswith("attn_temp.rotary_emb.freqs")


@dataclass(frozen=True)
class UNetConfig:
    """What `unet/config.json` says; the defaults are the released model. Widths are in channels."""

    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",)
    up_block_types: tuple[str, ...] = ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 768
    attention_head_dim: int | tuple[int, ...] = 8
    use_linear_projection: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    addition_time_embed_dim: int = 256

    def __post_init__(self) -> None:
        check_widths(self, self.norm_num_groups)
        heads = heads_of(self.attention_head_dim, self.block_out_channels)
        if any(width // count < ROTARY for width, count in zip(self.block_out_channels, heads, strict=True)):
            raise ValueError(
                f"expected heads of at least {ROTARY} channels, got {self.block_out_channels} over {heads}"
            )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> UNetConfig:
        """Read a parsed `config.json`; what is absent or null is as released, what shapes no layer is left out."""
        return read_config(cls, record, ONLY)


class CinemoUNet(nn.Module):
    """F(r, t | text, painting, motion id), r the noisy residuals. Its state dict has the released names and shapes.

    The released file may also hold the rotary frequencies, once a block: constants, which `optional` knows by name.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, first = config.block_out_channels, config.block_out_channels[0]
        embed, layers = first * 4, config.layers_per_block
        heads = heads_of(config.attention_head_dim, widths)
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_proj = Timesteps(first, config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(first, embed, act_fn=config.act_fn)
        self.add_time_proj = Timesteps(config.addition_time_embed_dim, config.flip_sin_to_cos, config.freq_shift)
        self.add_embedding = TimestepEmbedding(config.addition_time_embed_dim, embed, act_fn=config.act_fn)
        shared: dict[str, Any] = {
            "temb_channels": embed, "resnet_eps": config.norm_eps, "resnet_groups": config.norm_num_groups,
            "resnet_act_fn": config.act_fn,
        }  # fmt: skip
        self.down_blocks = nn.ModuleList()
        for i, kind in enumerate(config.down_block_types):
            down: Any = DownBlock2D(
                widths[max(i - 1, 0)], widths[i], num_layers=layers, add_downsample=i < len(widths) - 1,
                downsample_padding=config.downsample_padding, **shared,
            )  # fmt: skip
            if "CrossAttn" in kind:
                down.attentions = nn.ModuleList(Transformer(config, widths[i], heads[i]) for _ in range(layers))
            self.down_blocks.append(down)
        resnet: dict[str, Any] = {
            "in_channels": widths[-1], "temb_channels": embed, "eps": config.norm_eps, "groups": config.norm_num_groups,
            "non_linearity": config.act_fn, "output_scale_factor": config.mid_block_scale_factor,
        }  # fmt: skip
        self.mid_block = nn.Module()
        self.mid_block.resnets = nn.ModuleList(ResnetBlock2D(**resnet) for _ in range(2))
        self.mid_block.attentions = nn.ModuleList([Transformer(config, widths[-1], heads[-1])])
        self.up_blocks = nn.ModuleList()
        rising, rising_heads = widths[::-1], heads[::-1]
        for i, kind in enumerate(config.up_block_types):
            last = i == len(rising) - 1
            up: Any = UpBlock2D(
                rising[i if last else i + 1], rising[max(i - 1, 0)], rising[i], num_layers=layers + 1,
                add_upsample=not last, **shared,
            )  # fmt: skip
            if "CrossAttn" in kind:
                blocks = (Transformer(config, rising[i], rising_heads[i]) for _ in range(layers + 1))
                up.attentions = nn.ModuleList(blocks)
            self.up_blocks.append(up)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, first, eps=config.norm_eps)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)
        fast(self)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type; outputs come in it too."""
        return self.conv_out.weight.dtype

    def forward(
        self,
        residual: Video,
        timestep: Num[Tensor, " b"] | float,
        text: Float[Tensor, "b S D"],
        first: Float[Tensor, "b C 1 h w"],
        motion: Num[Tensor, " b"] | float,
    ) -> Video:
        """Predict F for noisy residuals (B, C, L-1, h, w): all frames but the first, less the first; any L >= 2, h, w.

        `text`: token features; `first`: frame 0's latent, the painting's; `motion`: the motion id. Each may have a
        smaller batch b that divides B: it is tiled, so that the parts of a guidance batch share it.
        """
        batch, count = residual.shape[0], residual.shape[2] + 1
        first = tile(first, batch).to(residual)
        emb = self.time_embedding(self.time_proj(vector(timestep, batch, residual.device)).to(self.dtype))
        emb = emb + self.add_embedding(self.add_time_proj(vector(motion, batch, residual.device)).to(self.dtype))
        emb = emb.repeat_interleave(count, dim=0)
        text = tile(text, batch).to(self.dtype)
        x = last(self.conv_in(frames(torch.cat([first, first + residual], dim=2).to(self.dtype))))
        x = self._through(x, emb, text, count)
        x = self.conv_out(silu(joint_norm(self.conv_norm_out, x, count)))
        return clips(x, count)[:, :, 1:]

    def _through(self, x: Tensor, emb: Tensor, text: Tensor, count: int) -> Tensor:
        """Down, middle, up: (B·count, width, h, w) to the same shape."""
        skips = [x]
        for block in self.down_blocks:
            for i in range(len(cast(nn.ModuleList, block.resnets))):
                x = _layer(block, i, x, emb, text, count)
                skips.append(x)
            for sampler in cast(nn.ModuleList, block.downsamplers) or ():
                x = sampler(x)
                skips.append(x)
        middle: Any = self.mid_block
        x = joint_resnet(middle.resnets[0], x, emb, count)
        x = middle.attentions[0](x, text, count)
        x = joint_resnet(middle.resnets[1], x, emb, count)
        for block in self.up_blocks:
            for i in range(len(cast(nn.ModuleList, block.resnets))):
                x = _layer(block, i, torch.cat([x, skips.pop()], dim=1), emb, text, count)
            for sampler in cast(nn.ModuleList, block.upsamplers) or ():
                # Sides that halve unevenly are restored to the size the next block's skips have.
                x = sampler(x, tuple(skips[-1].shape[2:]))
        return x


def _layer(block: Any, i: int, x: Tensor, emb: Tensor, text: Tensor, count: int) -> Tensor:
    """Layer i of a block: resnet and, where the block attends, transformer."""
    x = joint_resnet(block.resnets[i], x, emb, count)
    return block.attentions[i](x, text, count) if hasattr(block, "attentions") else x


def joint_norm(norm: nn.GroupNorm, x: Float[Tensor, "BL C h w"], count: int) -> Float[Tensor, "BL C h w"]:
    """A group norm whose statistics are taken over all `count` frames of a clip."""
    return frames(norm(clips(x, count)))


def joint_resnet(block: Any, x: Float[Tensor, "BL C h w"], emb: Tensor, count: int) -> Float[Tensor, "BL C h w"]:
    """diffusers' `ResnetBlock2D` with both norms joint over the frames. `emb`: (B·count, E)."""
    act = silu if isinstance(block.nonlinearity, nn.SiLU) else block.nonlinearity
    x = last(x)
    y = block.conv1(act(joint_norm(block.norm1, x, count)))
    y = y + block.time_emb_proj(block.nonlinearity(emb))[:, :, None, None]
    y = block.conv2(act(joint_norm(block.norm2, y, count)))
    return shortcut(block.conv_shortcut, x, y, block.output_scale_factor)


class Transformer(nn.Module):
    """Norm, projection, one block over space, words and time, projection, residual."""

    def __init__(self, config: UNetConfig, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_num_groups, width, eps=1e-6)
        linear = config.use_linear_projection
        self.proj_in = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([Block(width, heads, config.cross_attention_dim)])
        self.proj_out = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)

    def forward(
        self, x: Float[Tensor, "BL C h w"], text: Float[Tensor, "B S D"], count: int
    ) -> Float[Tensor, "BL C h w"]:
        """`count` frames a clip."""
        if inferring(x) and len(self.transformer_blocks) == 1:
            return self._in_pieces(self.transformer_blocks[0], last(x), text, count)
        y = project(self.proj_in, self.norm(x).flatten(2).transpose(1, 2))
        for block in self.transformer_blocks:
            y = block(y, text, count)
        return x + project(self.proj_out, y).transpose(1, 2).unflatten(2, x.shape[2:])

    def _in_pieces(self, block: Any, x: Tensor, text: Tensor, count: int) -> Tensor:
        """The same, some frames and then some places after the others."""
        told = block.attn2.to_k(text), block.attn2.to_v(text)

        def within(here: Tensor, clip: int, part: slice) -> Tensor:
            y = project(self.proj_in, lean.tokens(self.norm(here)))
            return block.within(y, lean.one(told, clip))

        def along(y: Tensor, clip: int, part: slice) -> Tensor:
            return project(self.proj_out, block.along(y))

        y = lean.over_frames(x, len(text), within).unflatten(0, (-1, count))
        return lean.pictures(lean.over_places(y, along, lean.by_time(clips(x, count))), x)


class Block(nn.Module):
    """Self-attention in the frame, attention over the words, over the frames of one place, feed-forward."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, context)
        self.attn_temp = TemporalAttention(width, heads)
        self.norm_temp = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Float[Tensor, "BL N C"], text: Float[Tensor, "B S D"], count: int) -> Float[Tensor, "BL N C"]:
        """`count` frames a clip, N places a frame."""
        y = self.norm1(x)
        x = x + self.attn1.over(y, y)
        # All frames of a clip ask the same words: one long sequence of questions, the words projected once a clip.
        asks = self.norm2(x).unflatten(0, (-1, count)).flatten(1, 2)
        x = x + self.attn2.over(asks, text).view_as(x)
        y = x.unflatten(0, (-1, count)).transpose(1, 2).flatten(0, 1)
        y = y + self.attn_temp(self.norm_temp(y))
        y = y + self.ff(self.norm3(y))
        return y.unflatten(0, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)

    def within(self, x: Float[Tensor, "n N C"], told: Pair) -> Float[Tensor, "n N C"]:
        """What it does in frames of one clip, `told` its words' keys and values; x is given up."""
        return look(look(x, self.attn1, self.norm1, None), self.attn2, self.norm2, told)

    def along(self, x: Float[Tensor, "n L C"]) -> Float[Tensor, "n L C"]:
        """What it does over the frames of each place; x is given up."""
        if "forward" in vars(self.attn_temp):  # something has taken its place
            x = x + self.attn_temp(self.norm_temp(x))
        else:
            x = onto(x, self.attn_temp.to_out[0], self.attn_temp.found(self.norm_temp(x)))
        return fed(x, self.norm3, self.ff)


class TemporalAttention(Attention):
    """Attention over frames with rotary positions and a learned bias for every relative position."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.time_rel_pos_bias = nn.Module()
        self.time_rel_pos_bias.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def forward(self, x: Float[Tensor, "n L C"]) -> Float[Tensor, "n L C"]:
        """softmax(rot(q)·rot(k)ᵀ/√d + bias(i, j))·v for n places of L frames, projected out."""
        return self.to_out[0](self.found(x))

    def found(self, x: Float[Tensor, "n L C"]) -> Float[Tensor, "n L C"]:
        """The same before it is projected out."""
        freqs = frequencies(ROTARY, x.device)
        q, k = (rotate(self.split(project(x)), freqs) for project in (self.to_q, self.to_k))
        table: Any = self.time_rel_pos_bias.relative_attention_bias
        bias = table(relative_buckets(x.shape[1], x.device)).permute(2, 0, 1)
        return self.joined(q, k, self.split(self.to_v(x)), bias)


def relative_buckets(count: int, device: torch.device | None = None) -> Int[Tensor, "count count"]:
    """T5's bidirectional buckets (Raffel et al. 2020, §2.1) of key position j - query position i.

    Half of them for the future, half for the past: the near ones exact, the farther the wider, `FARTHEST` the last.
    """
    place = torch.arange(count, device=device)
    ahead = place[None, :] - place[:, None]
    half, exact, distance = BUCKETS // 2, BUCKETS // 4, ahead.abs()
    wide = torch.log(distance.clamp_min(1).float() / exact) / math.log(FARTHEST / exact) * (half - exact)
    bucket = torch.where(distance < exact, distance, (exact + wide.long()).clamp_max(half - 1))
    return bucket + half * (ahead > 0)
