"""Small pieces the video UNets share: attention over any folding of frames and places, rotary positions, tiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from ..process import Video
from . import lean, winograd
from .blocks import leaner

Net = TypeVar("Net", bound=nn.Module)
Config = TypeVar("Config")


class Attention(nn.Module):
    """softmax(q·kᵀ/√d + bias)·v with bias-free projections, named as in diffusers. Callers fold what attends what."""

    scale: float | None = None

    def __init__(self, width: int, heads: int, context: int | None = None) -> None:
        """`width`: channels in and out, a multiple of `heads`; `context`: channels of what is attended to."""
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context or width, width, bias=False)
        self.to_v = nn.Linear(context or width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def split(self, x: Float[Tensor, "n s c"]) -> Float[Tensor, "n heads s d"]:
        """Channels to heads; a view, not a copy."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def joined(
        self,
        q: Float[Tensor, "n heads s d"],
        k: Float[Tensor, "n heads r d"],
        v: Float[Tensor, "n heads r d"],
        bias: Float[Tensor, "heads s r"] | None = None,
    ) -> Float[Tensor, "n s c"]:
        """The attended values, heads joined."""
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)

    def attend(
        self, q: Float[Tensor, "n heads s d"], k: Float[Tensor, "n heads r d"], v: Float[Tensor, "n heads r d"]
    ) -> Float[Tensor, "n s c"]:
        """The attended values, heads joined and projected out."""
        out: Tensor = self.to_out[0](self.joined(q, k, v))
        return out

    def over(self, x: Float[Tensor, "n s c"], context: Float[Tensor, "n r e"]) -> Float[Tensor, "n s c"]:
        """Plain attention of `x` over `context`."""
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.attend(self.split(q), self.split(k), self.split(v))


class TimeConv(winograd.Keeping, nn.Conv3d):
    """A (3, 1, 1) convolution over time: by points where that wins, else as a 2-D one over (time, place), for which every
    backend has a fast kernel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Float[Tensor, "B C L h w"]) -> Float[Tensor, "B C L h w"]:
        """Same shape."""
        if winograd.applies(self, x):
            m = winograd.fewest(x.shape[2])
            size, places = (m + 2) * self.in_channels * self.out_channels, x.shape[0] * x.shape[3] * x.shape[4]
            return winograd.time_conv(
                x, winograd.transformed(self, winograd.line_weight, m, size, places), self.bias, m
            )
        flat = nn.functional.conv2d(x.flatten(3), self.weight.squeeze(-1), self.bias, padding=(1, 0))
        return flat.unflatten(3, x.shape[3:])


class OneTextAClip:
    """Processor of a diffusers cross-attention: the words of a clip are projected once, not once a frame."""

    def __call__(
        self, attn: Any, x: Float[Tensor, "BL N C"], encoder_hidden_states: Float[Tensor, "B S D"],
        attention_mask: None = None, count: int | None = None,
    ) -> Float[Tensor, "BL N C"]:  # fmt: skip
        """All frames of a clip ask its words as one long sequence; frames of a clip follow each other in `x`, `count` of them."""
        text = encoder_hidden_states
        return attn.to_out[0](lean.attended(attn.to_q(x), attn.to_k(text), attn.to_v(text), attn.heads, attn.scale))


def fast(net: Net) -> Net:
    """Let a network do on a CPU what costs less there: convolutions by points, blocks in pieces (`blocks`); returns it.

    Layers become subclasses of what they were: names, shapes and values of the weights stay.
    """
    for module in net.modules():
        module.__class__ = leaner(module) or type(module)
    return winograd.fast(net)


def together(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A hook before a linear layer: with channels that do not lie together it would go token by token."""
    return (inputs[0].contiguous(), *inputs[1:])


def frequencies(width: int, device: torch.device | None = None) -> Float[Tensor, " half"]:
    """Rotary frequencies 10000^(-2i/width), i = 0 … width/2 - 1 (Su et al. 2021, §3.2)."""
    return 10000.0 ** -(torch.arange(0, width, 2, device=device).float() / width)


def rotate(x: Float[Tensor, "*n s c"], freqs: Float[Tensor, " half"]) -> Float[Tensor, "*n s c"]:
    """Rotary positions 0 … s-1 (Su et al. 2021, eq. 15): turn channel pairs (2i, 2i+1) by position·freqs[i].

    The first 2·len(freqs) channels turn, the rest stay. Angles are taken in float32 whatever the type of `x`.
    """
    turned = 2 * freqs.shape[0]
    angle = torch.arange(x.shape[-2], device=x.device).float()[:, None] * freqs.float()
    if winograd.inferring(x) and x.dtype == torch.float32:
        out = x.clone(memory_format=torch.contiguous_format)
        torch.view_as_complex(out[..., :turned].unflatten(-1, (-1, 2))).mul_(torch.polar(torch.ones_like(angle), angle))
        return out
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., 0:turned:2], x[..., 1:turned:2]
    pairs = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
    return torch.cat([pairs, x[..., turned:]], dim=-1)


def frames(x: Video) -> Float[Tensor, "BL C h w"]:
    """(B, C, L, h, w) to (B·L, C, h, w)."""
    return x.transpose(1, 2).flatten(0, 1)


def clips(x: Float[Tensor, "BL C h w"], count: int) -> Video:
    """(B·count, C, h, w) to (B, C, count, h, w)."""
    return x.unflatten(0, (-1, count)).transpose(1, 2)


def tile(x: Tensor, batch: int) -> Tensor:
    """Repeat a smaller batch whole, b1 b2 b1 b2 …, the order of a guidance batch [negative clips, positive clips]."""
    if batch % x.shape[0]:
        raise ValueError(f"expected a batch that divides {batch}, got {x.shape[0]}")
    return x.repeat(batch // x.shape[0], *[1] * (x.dim() - 1))


def vector(value: Num[Tensor, " b"] | float, batch: int, device: torch.device) -> Num[Tensor, " batch"]:
    """A number or a (b,) tensor as (batch,)."""
    return tile(torch.as_tensor(value, device=device).reshape(-1), batch)


def heads_of(heads: int | tuple[int, ...], widths: tuple[int, ...]) -> tuple[int, ...]:
    """Heads of each level. Raises `ValueError` where a width cannot be split so."""
    each = (heads,) * len(widths) if isinstance(heads, int) else tuple(heads)
    if len(each) != len(widths) or any(width % count for width, count in zip(widths, each, strict=True)):
        raise ValueError(f"expected numbers of heads that divide the widths {widths}, got {each}")
    return each


def read_config(kind: type[Config], record: Mapping[str, Any], only: Mapping[str, Any] | None = None) -> Config:
    """A network's dataclass from a parsed `config.json`: what is absent or null is as released, what it lacks is left out.

    `only`: entries that may be absent, null or this. Raises `ValueError` for any other value of theirs.
    """
    for name, value in (only or {}).items():
        if record.get(name) not in (None, value):
            raise ValueError(f"expected {name} {value!r}, got {record[name]!r}")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known and v is not None}
    )


def check_widths(config: Any, groups: int) -> None:
    """Raises `ValueError` unless a configuration has a down and an up block a width, and widths that groups divide."""
    widths, down, up = config.block_out_channels, config.down_block_types, config.up_block_types
    if not widths or len(down) != len(widths) or len(up) != len(widths):
        raise ValueError(
            f"expected as many down and up blocks as widths, got {len(down)} down, {len(up)} up and {len(widths)} widths"
        )
    if any(width % groups for width in widths):
        raise ValueError(f"expected widths in multiples of {groups}, got {widths}")
