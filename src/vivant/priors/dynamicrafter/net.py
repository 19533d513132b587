"""The DynamiCrafter UNet (Xing et al. 2023): a text-to-video UNet whose cross-attention also reads picture tokens.

Noisy latents and the conditioning latents come in side by side as channels. Every block works on single frames
(residual convolutions, attention with text and picture) and then over time (four 1-D convolutions, self-attention);
the frame rate or stride joins the timestep's embedding. Names and shapes are those of the released checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import get_timestep_embedding
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from ...process import Video
from .. import lean
from ..layers import TimeConv, fast, read_config
from ..lean import Pair, activated, asked, attended, fed, inferring, last, look, onto, project, shortcut

GROUPS = 32
TEXT_TOKENS = 77
"""The first tokens of a context are text, the rest is picture: this many, whatever comes."""

FRAME_TOKENS = 16
"""Picture tokens of one frame, where each frame has its own."""


@dataclass(frozen=True)
class UNetConfig:
    """The network's switches, by their official names; the defaults are the released 512 and 1024 models."""

    in_channels: int = 8
    out_channels: int = 4
    model_channels: int = 320
    attention_resolutions: tuple[int, ...] = (4, 2, 1)
    num_res_blocks: int = 2
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_head_channels: int = 64
    num_heads: int = -1
    transformer_depth: int = 1
    context_dim: int = 1024
    use_linear: bool = True
    temporal_conv: bool = True
    temporal_attention: bool = True
    addition_attention: bool = True
    image_cross_attention: bool = True
    image_cross_attention_scale_learnable: bool = False
    fs_condition: bool = True
    default_fs: int = 24

    def __post_init__(self) -> None:
        if self.num_head_channels < 1 and (self.num_heads < 1 or self.addition_attention):
            raise ValueError("expected num_head_channels, or num_heads without addition_attention, got neither")
        if any(self.model_channels * mult % GROUPS for mult in self.channel_mult):
            raise ValueError(
                f"expected widths in multiples of {GROUPS}, got {self.model_channels} × {self.channel_mult}"
            )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> UNetConfig:
        """Read the official configuration; switches no released model turns on are refused, not ignored."""
        for name in ("use_relative_position", "use_causal_attention", "use_scale_shift_norm", "resblock_updown",
                     "tempspatial_aware"):  # fmt: skip
            if record.get(name):
                raise ValueError(f"expected {name} off, as in every released model, got {record[name]!r}")
        return read_config(cls, record)

    def heads(self, width: int) -> tuple[int, int]:
        """(heads, channels a head) at a width."""
        if self.num_head_channels < 1:
            return self.num_heads, width // self.num_heads
        return width // self.num_head_channels, self.num_head_channels

    @property
    def multiple(self) -> int:
        """Latent sides in multiples of this halve evenly all the way down."""
        return int(2 ** (len(self.channel_mult) - 1))


class Context(NamedTuple):
    """What frames are told: the words of a clip (B, 77, D), and picture tokens of a clip or of each frame (B or N, K, D)."""

    text: Tensor
    picture: Tensor | None


class Norm(nn.GroupNorm):
    """Group normalisation in float32 whatever the weights' type."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__(GROUPS, width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, …), statistics over everything but N and the group."""
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


class Attention(nn.Module):
    """softmax(QKᵀ/√d)V on itself or a context; with `picture`, a second K and V for the tokens after the text."""

    def __init__(
        self, width: int, heads: int, head: int, context: int | None = None, picture: bool = False,
        learnable: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        inner, source = heads * head, width if context is None else context
        self.heads, self.scale = heads, head**-0.5
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(source, inner, bias=False)
        self.to_v = nn.Linear(source, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width))
        self.picture, self.learnable = picture, picture and learnable
        if picture:
            self.to_k_ip = nn.Linear(source, inner, bias=False)
            self.to_v_ip = nn.Linear(source, inner, bias=False)
        if self.learnable:
            self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "N S C"], context: Context | None = None) -> Tensor:
        """to_out(A(q, text) + λ·A(q, picture)), λ = tanh(α) + 1 where it is learnt, else 1."""
        q = self.to_q(x)
        told = [(self.to_k(x), self.to_v(x))] if context is None else self.told(context)
        return self.to_out(self.found(q, told))

    def told(self, context: Context) -> list[Pair]:
        """Keys and values of the words, then of the picture tokens if they are looked at."""
        pairs = [(self.to_k(context.text), self.to_v(context.text))]
        if self.picture and context.picture is not None:
            pairs.append((self.to_k_ip(context.picture), self.to_v_ip(context.picture)))
        return pairs

    def found(self, q: Float[Tensor, "N S I"], told: list[Pair]) -> Float[Tensor, "N S I"]:
        """A(q, text) + λ·A(q, picture); frames that share their keys ask as one long sequence."""
        out = attended(q, *told[0], self.heads)
        for pair in told[1:]:
            seen = attended(q, *pair, self.heads)
            out = out + (seen * (torch.tanh(self.alpha) + 1) if self.learnable else seen)
        return out


class Block(nn.Module):
    """Self-attention, a second attention (on the context, or on itself over time) and a feed-forward, all residual."""

    def __init__(self, width: int, heads: int, head: int, **second: Any) -> None:
        super().__init__()
        self.attn1 = Attention(width, heads, head)
        self.ff = FeedForward(width, activation_fn="geglu")
        self.attn2 = Attention(width, heads, head, **second)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "N S C"], context: Context | None) -> Tensor:
        """Same shape."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))

    def on(self, x: Float[Tensor, "N S C"], told: list[Pair] | None) -> Float[Tensor, "N S C"]:
        """The same on a CPU, given what the context says; x is given up."""
        x = look(x, self.attn1, self.norm1, None)
        if told is None:
            x = look(x, self.attn2, self.norm2, None)
        else:
            q = asked(x, self.norm2, self.attn2.to_q)[0]
            x = onto(x, self.attn2.to_out[0], self.attn2.found(q, told))
        return fed(x, self.norm3, self.ff)


class SpatialTransformer(nn.Module):
    """Attention within each frame, and from it to the context's tokens."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__()
        heads, head = config.heads(width)
        self.linear = config.use_linear
        self.norm = Norm(width, eps=1e-6)
        self.proj_in = nn.Linear(width, heads * head) if self.linear else nn.Conv2d(width, heads * head, 1)
        self.transformer_blocks = nn.ModuleList(
            Block(
                heads * head, heads, head, context=config.context_dim, picture=config.image_cross_attention,
                learnable=config.image_cross_attention_scale_learnable,
            )
            for _ in range(config.transformer_depth)
        )  # fmt: skip
        self.proj_out = nn.Linear(heads * head, width) if self.linear else nn.Conv2d(heads * head, width, 1)

    def forward(self, x: Float[Tensor, "N C h w"], context: Context) -> Tensor:
        """N is clips × frames, frames fastest."""
        if inferring(x):
            return self._in_pieces(last(x), context)
        tokens = _project(self.proj_in, self.norm(x).flatten(2), self.linear)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + _unproject(self.proj_out, tokens, self.linear).unflatten(2, x.shape[-2:])

    def _in_pieces(self, x: Tensor, context: Context) -> Tensor:
        """The same, some frames after the others."""
        blocks: Any = self.transformer_blocks
        told = [block.attn2.told(context) for block in blocks]
        clips = len(context.text)

        def through(here: Tensor, clip: int, part: slice) -> Tensor:
            y = project(self.proj_in, lean.tokens(self.norm(here)))
            for block, pairs in zip(blocks, told, strict=True):
                y = block.on(y, [_of(pair, clip, part, clips, len(x)) for pair in pairs])
            return project(self.proj_out, y).add_(lean.tokens(here))

        return lean.pictures(lean.over_frames(x, clips, through), x)


class TemporalTransformer(nn.Module):
    """Attention over the frames at each place: self-attention, twice."""

    def __init__(self, width: int, heads: int, head: int, depth: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = Norm(width, eps=1e-6)
        self.proj_in = nn.Linear(width, heads * head) if linear else nn.Conv1d(width, heads * head, 1)
        self.transformer_blocks = nn.ModuleList(Block(heads * head, heads, head) for _ in range(depth))
        self.proj_out = nn.Linear(heads * head, width) if linear else nn.Conv1d(heads * head, width, 1)

    def forward(self, x: Float[Tensor, "N C h w"], clips: int) -> Tensor:
        """N is clips × frames, frames fastest; the norm sees all frames of a clip at once."""
        if inferring(x):
            return lean.along(self, x, len(x) // clips, lambda block, y: block.on(y, None))
        video = _clips(x, clips)
        places = self.norm(video).permute(0, 3, 4, 1, 2).flatten(0, 2)
        tokens = _project(self.proj_in, places, self.linear)
        for block in self.transformer_blocks:
            tokens = block(tokens, None)
        out = _unproject(self.proj_out, tokens, self.linear)
        out = out.unflatten(0, (clips, *x.shape[-2:])).permute(0, 4, 3, 1, 2)
        return x + out.flatten(0, 1)


class TemporalConv(nn.Module):
    """Four residual convolutions over three frames each. Gaps in the names are where training had dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for i in range(1, 5):
            gap = [] if i == 1 else [nn.Identity()]
            self.add_module(f"conv{i}", nn.Sequential(Norm(width), nn.SiLU(), *gap, TimeConv(width)))

    def forward(self, x: Float[Tensor, "B C L h w"]) -> Tensor:
        """Same shape."""
        out = x
        for stage in self.children():
            layers: Any = stage
            out = layers[-1](activated(layers[0], out))
        return shortcut(None, x, out)


class ResBlock(nn.Module):
    """Two convolutions around the embedding, a skip, and the convolutions over time."""

    def __init__(self, width: int, out: int, embed: int, over_time: bool) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(Norm(width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed, out))
        self.out_layers = nn.Sequential(Norm(out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if width == out else nn.Conv2d(width, out, 1)
        self.temopral_conv = TemporalConv(out) if over_time else None  # the checkpoints' spelling

    def forward(self, x: Float[Tensor, "N C h w"], emb: Float[Tensor, "N E"], clips: int) -> Tensor:
        """N is clips × frames, frames fastest."""
        x = last(x)
        h: Tensor = self.in_layers[-1](activated(self.in_layers[0], x))
        h = h + self.emb_layers(emb)[..., None, None]
        h = self.out_layers[-1](activated(self.out_layers[0], h))
        h = shortcut(self.skip_connection if isinstance(self.skip_connection, nn.Conv2d) else None, x, h)
        if self.temopral_conv is None:
            return h
        return self.temopral_conv(_clips(h, clips)).transpose(1, 2).flatten(0, 1)


class Downsample(nn.Module):
    """Half the sides, rounded up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, ⌈h/2⌉, ⌈w/2⌉)."""
        return self.op(x)


class Upsample(nn.Module):
    """To the size of the features it meets next: twice its own, or one less where the way down rounded up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """(N, C, h, w) to (N, C, *size), nearest neighbour."""
        big = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(big[..., : size[0], : size[1]])


class DynamiCrafterUNet(nn.Module):
    """F(z, t | conditioning latents, text and picture tokens, frame rate)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        first, embed = config.model_channels, config.model_channels * 4
        self.time_embed = nn.Sequential(nn.Linear(first, embed), nn.SiLU(), nn.Linear(embed, embed))
        if config.fs_condition:
            self.fps_embedding = nn.Sequential(nn.Linear(first, embed), nn.SiLU(), nn.Linear(embed, embed))
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(config.in_channels, first, 3, padding=1)])])
        if config.addition_attention:
            # The one temporal transformer whose projections are convolutions, with eight heads at any width.
            over_time = TemporalTransformer(first, 8, config.num_head_channels, config.transformer_depth, linear=False)
            self.init_attn = nn.ModuleList([over_time])
        width, scale, skips = first, 1, [first]
        for i, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(self._stage(width, mult * first, scale))
                width = mult * first
                skips.append(width)
            if i < len(config.channel_mult) - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(width)]))
                skips.append(width)
                scale *= 2
        middle = [ResBlock(width, width, embed, config.temporal_conv), *self._attention(width)]
        self.middle_block = nn.ModuleList([*middle, ResBlock(width, width, embed, config.temporal_conv)])
        self.output_blocks = nn.ModuleList()
        for i, mult in reversed(list(enumerate(config.channel_mult))):
            for j in range(config.num_res_blocks + 1):
                stage = self._stage(width + skips.pop(), mult * first, scale)
                width = mult * first
                if i and j == config.num_res_blocks:
                    stage.append(Upsample(width))
                    scale //= 2
                self.output_blocks.append(stage)
        self.out = nn.Sequential(Norm(width), nn.SiLU(), nn.Conv2d(width, config.out_channels, 3, padding=1))
        fast(self)

    def _stage(self, width: int, out: int, scale: int) -> nn.ModuleList:
        block = ResBlock(width, out, self.config.model_channels * 4, self.config.temporal_conv)
        return nn.ModuleList([block, *(self._attention(out) if scale in self.config.attention_resolutions else [])])

    def _attention(self, width: int) -> list[nn.Module]:
        config = self.config
        layers: list[nn.Module] = [SpatialTransformer(width, config)]
        if config.temporal_attention:
            depth, linear = config.transformer_depth, config.use_linear
            layers.append(TemporalTransformer(width, *config.heads(width), depth, linear))
        return layers

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type; outputs come in it too."""
        return self.time_embed[0].weight.dtype  # type: ignore[return-value]

    def forward(
        self,
        x: Float[Tensor, "B C L h w"],
        timesteps: Num[Tensor, " B"],
        context: Float[Tensor, "B K D"],
        fs: Num[Tensor, " B"] | None = None,
    ) -> Video:
        """Predict F (B, 4, L, h, w) from the noisy and the conditioning latents, stacked as channels.

        `timesteps`: 0..999. `context`: 77 text tokens, then picture tokens: 16·L of them are dealt out to the frames,
        in order; any other number goes whole to every frame. `fs`: frames a second, or frame stride for the 256 model
        (None: the model's default).
        """
        clips, frames = x.shape[0], x.shape[2]
        emb = self._embed(timesteps, fs, clips).repeat_interleave(frames, dim=0)
        tokens = dealt(context.to(self.dtype), frames)
        h = last(x.to(self.dtype).transpose(1, 2).flatten(0, 1))
        skips: list[Tensor] = []
        for i, stage in enumerate(self.input_blocks):
            h = _run(stage, h, emb, tokens, clips)
            if i == 0 and self.config.addition_attention:
                h = _run(self.init_attn, h, emb, tokens, clips)
            skips.append(h)
        h = _run(self.middle_block, h, emb, tokens, clips)
        for stage in self.output_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            h = _run(stage, h, emb, tokens, clips, skips[-1].shape[-2:] if skips else ())
        return _clips(self.out(h), clips)

    def _embed(self, timesteps: Tensor, fs: Tensor | None, clips: int) -> Tensor:
        """(B, 4·width): the timestep's embedding plus the frame rate's; waves are [cos, sin]."""
        emb = self.time_embed(self._wave(timesteps))
        if not self.config.fs_condition:
            return emb
        rate = torch.full((clips,), self.config.default_fs, device=timesteps.device) if fs is None else fs
        return emb + self.fps_embedding(self._wave(rate))

    def _wave(self, value: Tensor) -> Tensor:
        wave = get_timestep_embedding(
            value, self.config.model_channels, flip_sin_to_cos=True, downscale_freq_shift=0
        )  # fmt: skip
        return wave.to(self.dtype)


def dealt(context: Float[Tensor, "B K D"], frames: int) -> Context:
    """Words, and for each frame its own 16 picture tokens where there are 16 a frame, else all of its clip's."""
    text, picture = context[:, :TEXT_TOKENS], context[:, TEXT_TOKENS:]
    if picture.shape[1] == FRAME_TOKENS * frames:
        picture = picture.unflatten(1, (frames, FRAME_TOKENS)).flatten(0, 1)
    return Context(text, picture if picture.shape[1] else None)


def _of(pair: Pair, clip: int, part: slice, clips: int, frames: int) -> Pair:
    """What some frames of a clip are told: that is each frame's own, or their clip's."""
    if len(pair[0]) == clips:
        return lean.one(pair, clip)
    first = clip * (frames // clips)
    here = slice(first + part.start, first + part.stop)
    return pair[0][here], pair[1][here]


def _run(
    stage: nn.Module, h: Tensor, emb: Tensor, context: Context, clips: int, size: Sequence[int] = ()
) -> Tensor:  # fmt: skip
    for layer in stage.children():
        if isinstance(layer, ResBlock):
            h = layer(h, emb, clips)
        elif isinstance(layer, SpatialTransformer):
            h = layer(h, context)
        elif isinstance(layer, TemporalTransformer):
            h = layer(h, clips)
        elif isinstance(layer, Upsample):
            h = layer(h, size)
        else:
            h = layer(h)
    return h


def _clips(x: Tensor, clips: int) -> Tensor:
    """(B·L, C, h, w) to (B, C, L, h, w)."""
    return x.unflatten(0, (clips, -1)).transpose(1, 2)


def _project(layer: nn.Module, x: Float[Tensor, "N C S"], linear: bool) -> Float[Tensor, "N S C2"]:
    """Channels to tokens through a linear layer or a convolution of width 1."""
    if linear:
        return layer(x.transpose(1, 2).contiguous())  # else thousands of short sequences go one by one
    return layer(x[..., None] if isinstance(layer, nn.Conv2d) else x).flatten(2).transpose(1, 2)


def _unproject(layer: nn.Module, x: Float[Tensor, "N S C"], linear: bool) -> Float[Tensor, "N C2 S"]:
    """Tokens back to channels."""
    if linear:
        return layer(x).transpose(1, 2)
    x = x.transpose(1, 2)
    return layer(x[..., None] if isinstance(layer, nn.Conv2d) else x).flatten(2)
