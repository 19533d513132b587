"""The ConsistI2V UNet (Ren et al. 2024): Stable Diffusion 2.1 with layers over time, and the first frame everywhere.

The painting's latent goes in as frame 0 and its output is dropped. Every spatial attention also sees frame 0 (the
paper's fine-grained spatial conditioning), every temporal one also the neighbourhood of its place in frame 0 (its
window-based temporal conditioning). Resnets and spatial transformers are diffusers'; the layers over time are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import DownBlock2D, UpBlock2D
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from ...process import Video
from .. import lean
from ..layers import (
    Attention,
    OneTextAClip,
    TimeConv,
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
from ..lean import Pair, activated, asked, attended, fed, inferring, last, onto, project

TEMPORAL_GROUPS = 32
"""Group count of the temporal convolutions, whatever `norm_num_groups` says."""

UNUSED_EMBEDDING = 512
"""Input width of the temporal convolutions' time projection: it is in every checkpoint and acts on nothing."""

ONLY: dict[str, Any] = {
    "use_temporal": True, "temp_pos_embedding": "rotary", "first_frame_condition_mode": "concat",
    "dual_cross_attention": False, "only_cross_attention": False, "center_input_sample": False,
}  # fmt: skip
"""What the official configuration can switch and this network cannot: the released model has it so."""


@dataclass(frozen=True)
class UNetConfig:
    """What `unet/config.json` says; the defaults are the released model. Widths are in channels."""

    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1024
    attention_head_dim: int | tuple[int, ...] = (5, 10, 20, 20)
    use_linear_projection: bool = True
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    n_frames: int = 16  # what it was trained on; no layer depends on it
    n_temp_heads: int = 8
    augment_temporal_attention: bool = True
    use_frame_stride_condition: bool = True

    def __post_init__(self) -> None:
        check_widths(self, TEMPORAL_GROUPS)
        heads_of(self.attention_head_dim, self.block_out_channels)
        heads_of(self.n_temp_heads, self.block_out_channels)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> UNetConfig:
        """Read a parsed `config.json`; what is absent or null is as released, what shapes no layer is left out."""
        return read_config(cls, record, ONLY)


class ConsistI2VUNet(nn.Module):
    """F(z, t | text, painting, frame stride). Its state dict has the released checkpoint's names and shapes."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, first = config.block_out_channels, config.block_out_channels[0]
        embed, layers = first * 4, config.layers_per_block
        heads = heads_of(config.attention_head_dim, widths)
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_proj = Timesteps(first, config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(first, embed, act_fn=config.act_fn)
        if config.use_frame_stride_condition:
            self.frame_stride_embedding = TimestepEmbedding(first, embed, act_fn=config.act_fn)
        shared: dict[str, Any] = {
            "temb_channels": embed, "resnet_eps": config.norm_eps, "resnet_groups": config.norm_num_groups,
            "resnet_act_fn": config.act_fn,
        }  # fmt: skip
        self.down_blocks = nn.ModuleList()
        for i, kind in enumerate(config.down_block_types):
            down = DownBlock2D(
                widths[max(i - 1, 0)], widths[i], num_layers=layers, add_downsample=i < len(widths) - 1,
                downsample_padding=config.downsample_padding, **shared,
            )  # fmt: skip
            self.down_blocks.append(_furnish(down, config, layers, widths[i], heads[i], "CrossAttn" in kind))
        resnet: dict[str, Any] = {
            "in_channels": widths[-1], "temb_channels": embed, "eps": config.norm_eps, "groups": config.norm_num_groups,
            "non_linearity": config.act_fn, "output_scale_factor": config.mid_block_scale_factor,
        }  # fmt: skip
        self.mid_block = nn.Module()
        self.mid_block.resnets = nn.ModuleList(ResnetBlock2D(**resnet) for _ in range(2))
        self.mid_block.conv3ds = nn.ModuleList(TemporalConvolution(widths[-1]) for _ in range(2))
        self.mid_block.attentions = nn.ModuleList([_spatial(config, widths[-1], heads[-1])])
        self.up_blocks = nn.ModuleList()
        rising, rising_heads = widths[::-1], heads[::-1]
        for i, kind in enumerate(config.up_block_types):
            last = i == len(rising) - 1
            up = UpBlock2D(
                rising[i if last else i + 1], rising[max(i - 1, 0)], rising[i], num_layers=layers + 1,
                add_upsample=not last, **shared,
            )  # fmt: skip
            self.up_blocks.append(_furnish(up, config, layers + 1, rising[i], rising_heads[i], "CrossAttn" in kind))
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, first, eps=config.norm_eps)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)
        fast(self)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type; outputs come in it too."""
        return self.conv_out.weight.dtype

    def forward(
        self,
        sample: Video,
        timestep: Num[Tensor, " b"] | float,
        text: Float[Tensor, "b S D"],
        first: Float[Tensor, "b C 1 h w"],
        stride: Num[Tensor, " b"] | float = 3,
    ) -> Video:
        """Predict F for noisy latents (B, C, L-1, h, w) of all frames but the first; any L >= 2, h and w.

        `text`: token features; `first`: frame 0's latent, the painting's; `stride`: how many frames of the training
        video lie between two of these, about 1..5. Each may have a smaller batch b that divides B: it is tiled, so
        that the parts of a guidance batch share it.
        """
        batch, count = sample.shape[0], sample.shape[2] + 1
        emb = self.time_embedding(self._wave(timestep, batch, sample.device))
        if self.config.use_frame_stride_condition:
            emb = emb + self.frame_stride_embedding(self._wave(stride, batch, sample.device))
        emb = emb.repeat_interleave(count, dim=0)
        text = tile(text, batch).to(self.dtype)
        x = last(self.conv_in(frames(torch.cat([tile(first, batch).to(sample), sample], dim=2).to(self.dtype))))
        x = self._through(x, emb, text, count)
        x = self.conv_out(activated(self.conv_norm_out, x))
        return clips(x, count)[:, :, 1:]

    def _wave(self, value: Tensor | float, batch: int, device: torch.device) -> Tensor:
        return self.time_proj(vector(value, batch, device)).to(self.dtype)

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
        x = middle.conv3ds[0](middle.resnets[0](x, emb), count)
        x = _look(middle.attentions[0], x, text, count)
        x = middle.conv3ds[1](middle.resnets[1](x, emb), count)
        for block in self.up_blocks:
            for i in range(len(cast(nn.ModuleList, block.resnets))):
                x = _layer(block, i, torch.cat([x, skips.pop()], dim=1), emb, text, count)
            for sampler in cast(nn.ModuleList, block.upsamplers) or ():
                # Sides that halve unevenly are restored to the size the next block's skips have.
                x = sampler(x, tuple(skips[-1].shape[2:]))
        return x


def _furnish(block: Any, config: UNetConfig, layers: int, width: int, heads: int, attends: bool) -> nn.Module:
    """Give a block of resnets, layer by layer, its convolution over time and, where it attends, both transformers."""
    block.conv3ds = nn.ModuleList(TemporalConvolution(width) for _ in range(layers))
    if attends:
        block.attentions = nn.ModuleList(_spatial(config, width, heads) for _ in range(layers))
        block.tempo_attns = nn.ModuleList(TemporalTransformer(config, width) for _ in range(layers))
    return cast(nn.Module, block)


def _layer(block: Any, i: int, x: Tensor, emb: Tensor, text: Tensor, count: int) -> Tensor:
    """Layer i of a block: resnet, convolution over time, spatial and temporal transformer."""
    x = block.conv3ds[i](block.resnets[i](x, emb), count)
    if hasattr(block, "attentions"):
        x = block.tempo_attns[i](_look(block.attentions[i], x, text, count), text, count)
    return x


def _look(transformer: Any, x: Tensor, text: Tensor, count: int) -> Tensor:
    """A spatial transformer on (B·count, C, h, w) with the words of B clips."""
    how = {"count": count}
    return transformer(x, encoder_hidden_states=text, cross_attention_kwargs=how, return_dict=False)[0]


def _spatial(config: UNetConfig, width: int, heads: int) -> Transformer2DModel:
    """diffusers' spatial transformer, its attentions told about frames."""
    model = Transformer2DModel(
        heads, width // heads, in_channels=width, num_layers=1, cross_attention_dim=config.cross_attention_dim,
        norm_num_groups=config.norm_num_groups, use_linear_projection=config.use_linear_projection,
    )  # fmt: skip
    for block in cast(Any, model.transformer_blocks):
        block.attn1.set_processor(AndFirstFrame())
        block.attn2.set_processor(OneTextAClip())
    return model


class AndFirstFrame:
    """Spatial self-attention in which each frame also looks at frame 0 of its clip: K, V = [own; first]."""

    first_frame = True

    def __call__(self, attn: Any, x: Tensor, encoder_hidden_states: None, attention_mask: None, count: int) -> Tensor:
        """`x`: (B·count, h·w, C)."""
        q, k, v = attn.to_q(x), attn.to_k(x), attn.to_v(x)
        k, v = (torch.cat([y, y[::count].repeat_interleave(count, dim=0)], dim=1) for y in (k, v))
        return attn.to_out[0](attended(q, k, v, attn.heads, attn.scale))


class TemporalConvolution(nn.Module):
    """Two convolutions over time, each place by itself, blended in: α·x + (1-α)·(x + f(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.norm1 = nn.GroupNorm(TEMPORAL_GROUPS, width, eps=1e-6)
        self.conv1 = TimeConv(width)
        self.time_emb_proj = nn.Linear(UNUSED_EMBEDDING, width)
        self.norm2 = nn.GroupNorm(TEMPORAL_GROUPS, width, eps=1e-6)
        self.conv2 = TimeConv(width)

    def forward(self, x: Float[Tensor, "BL C h w"], count: int) -> Float[Tensor, "BL C h w"]:
        """`count` frames a clip; norms see one frame at a time."""
        y = frames(self.conv1(clips(activated(self.norm1, x), count)))
        y = frames(self.conv2(clips(activated(self.norm2, y), count)))
        return _blended(x, y, self.alpha)


def _blended(x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
    """x + (1-α)·y; on a CPU y is given up."""
    share = 1 - alpha.clamp(0, 1)
    return y.mul_(share).add_(x) if inferring(x) else x + share * y


class TemporalTransformer(nn.Module):
    """Attention over the frames of one place, then over the words; blended in: α·x + (1-α)·f(x)."""

    def __init__(self, config: UNetConfig, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.norm = nn.GroupNorm(config.norm_num_groups, width, eps=1e-6)
        linear = config.use_linear_projection
        self.proj_in = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(config, width)])
        self.proj_out = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)

    def forward(
        self, x: Float[Tensor, "BL C h w"], text: Float[Tensor, "B S D"], count: int
    ) -> Float[Tensor, "BL C h w"]:
        """`count` frames a clip."""
        height, width = x.shape[2:]
        block: Any = self.transformer_blocks[0]
        if inferring(x) and len(self.transformer_blocks) == 1 and not block.replaced():
            return self._in_pieces(block, last(x), text, count)
        y = clips(self.norm(x), count).permute(0, 3, 4, 2, 1).flatten(1, 2).contiguous()
        y = project(self.proj_in, y)
        for block in self.transformer_blocks:
            y = block(y, text, (height, width))
        y = project(self.proj_out, y).unflatten(1, (height, width)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        return _blended(x, y, self.alpha)

    def _in_pieces(self, block: TemporalBlock, x: Tensor, text: Tensor, count: int) -> Tensor:
        """The same, some places after the others."""
        normed = lean.by_time(clips(self.norm(x), count))
        around = block.around(project(self.proj_in, normed[:, 0]), (x.shape[2], x.shape[3]))
        told = block.attn2.told(text, count)
        share = 1 - self.alpha.clamp(0, 1)

        def through(y: Tensor, clip: int, part: slice) -> Tensor:
            seen = None if around is None else (around[0][clip, part], around[1][clip, part])
            return project(self.proj_out, block.on(project(self.proj_in, y), lean.one(told, clip), seen)).mul_(share)

        return lean.pictures(lean.over_places(normed, through, lean.by_time(clips(x, count))), x)


class TemporalBlock(nn.Module):
    """The layers of a temporal transformer, on tokens (B, h·w, L, C)."""

    def __init__(self, config: UNetConfig, width: int) -> None:
        super().__init__()
        self.augment = config.augment_temporal_attention
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = RotaryAttention(width, config.n_temp_heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = RotaryAttention(width, config.n_temp_heads, config.cross_attention_dim)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(
        self, x: Float[Tensor, "B N L C"], text: Float[Tensor, "B S D"], size: tuple[int, int]
    ) -> Float[Tensor, "B N L C"]:
        """`size`: (h, w) of the N places."""
        x = x + self.attn1.over_time(self.norm1(x), size if self.augment else None)
        x = x + self.attn2.over_words(self.norm2(x), text)
        return fed(x, self.norm3, self.ff)

    def replaced(self) -> bool:
        """Whether something has taken the place of its attentions."""
        return "over_time" in vars(self.attn1) or "over_words" in vars(self.attn2)

    def around(self, first: Float[Tensor, "B N C"], size: tuple[int, int]) -> Pair | None:
        """Keys and values (B, N, 8, C) of each place's surround in frame 0, if they are looked at."""
        if not self.augment:
            return None
        k, v = asked(first, self.norm1, self.attn1.to_k, self.attn1.to_v)
        return _neighbours(k, size), _neighbours(v, size)

    def on(self, x: Float[Tensor, "n L C"], told: Pair, around: Pair | None) -> Float[Tensor, "n L C"]:
        """The block at some places, given what the words of their clip and their surrounds say; x is given up."""
        q, k, v = asked(x, self.norm1, self.attn1.to_q, self.attn1.to_k, self.attn1.to_v)
        q, k = self.attn1.turn(q), self.attn1.turn(k)
        if around is not None:
            k, v = torch.cat([k, around[0]], dim=1), torch.cat([v, around[1]], dim=1)
        x = onto(x, self.attn1.to_out[0], attended(q, k, v, self.attn1.heads))
        q = self.attn2.turn(asked(x, self.norm2, self.attn2.to_q)[0])
        x = onto(x, self.attn2.to_out[0], attended(q, *told, self.attn2.heads))
        return fed(x, self.norm3, self.ff)


class RotaryAttention(Attention):
    """Attention that knows which frame asks: half of all channels turn with time, before the heads are split."""

    def __init__(self, width: int, heads: int, context: int | None = None) -> None:
        super().__init__(width, heads, context)
        self.rotary_emb = nn.Module()
        self.rotary_emb.freqs = nn.Parameter(frequencies(width // 2), requires_grad=False)
        # Dead in the released model, whose rotary positions took its place; kept so that checkpoints load strictly.
        self.rotary_bias = nn.Module()
        self.rotary_bias.relative_attention_bias = nn.Embedding(32, heads)

    def turn(self, x: Float[Tensor, "*n L C"]) -> Float[Tensor, "*n L C"]:
        """Its channels turned by each frame's place."""
        return rotate(x, cast(Tensor, self.rotary_emb.freqs))

    def over_time(self, x: Float[Tensor, "B N L C"], size: tuple[int, int] | None) -> Float[Tensor, "B N L C"]:
        """Each place over its L frames and, when `size` (h, w) is given, the 8 places around it in frame 0.

        Those neighbours keep position 0, frame 0's own, at which nothing turns; at the border they repeat it.
        """
        q, k, v = self.turn(self.to_q(x)), self.to_k(x), self.to_v(x)
        around = None if size is None else [_neighbours(y[:, :, 0], size) for y in (k, v)]
        k = self.turn(k)
        if around is not None:
            k, v = torch.cat([k, around[0]], dim=2), torch.cat([v, around[1]], dim=2)
        return self.attend(*(self.split(y.flatten(0, 1)) for y in (q, k, v))).view_as(x)

    def told(self, text: Float[Tensor, "B S D"], count: int) -> Pair:
        """Keys and values of the words of clips of `count` frames."""
        k = self.to_k(text)
        # As trained: keys as many as frames are taken for frames.
        return self.turn(k) if text.shape[1] == count else k, self.to_v(text)

    def over_words(self, x: Float[Tensor, "B N L C"], text: Float[Tensor, "B S D"]) -> Float[Tensor, "B N L C"]:
        """All places and frames of a clip over its words, as one long sequence of questions."""
        q, (k, v) = self.turn(self.to_q(x)), self.told(text, x.shape[2])
        return self.attend(*(self.split(y) for y in (q.flatten(1, 2), k, v))).view_as(x)


def _neighbours(x: Float[Tensor, "B N C"], size: tuple[int, int]) -> Float[Tensor, "B N 8 C"]:
    """The 3×3 surround of every place but itself, the border repeated outwards."""
    height, width = size
    grid = F.pad(x.transpose(1, 2).unflatten(2, size), (1, 1, 1, 1), mode="replicate")
    shifts = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    views = [grid[:, :, i : i + height, j : j + width].flatten(2).transpose(1, 2) for i, j in shifts]
    return torch.stack(views, dim=2)
