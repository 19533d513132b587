"""Small pieces the video UNets share: attention over any folding of frames and places, rotary positions, tiling."""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from ..process import Video


class Attention(nn.Module):
    """softmax(q·kᵀ/√d + bias)·v with bias-free projections, named as in diffusers. Callers fold what attends what."""

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

    def attend(
        self,
        q: Float[Tensor, "n heads s d"],
        k: Float[Tensor, "n heads r d"],
        v: Float[Tensor, "n heads r d"],
        bias: Float[Tensor, "heads s r"] | None = None,
    ) -> Float[Tensor, "n s c"]:
        """The attended values, heads joined and projected out."""
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.to_out[0](out.transpose(1, 2).flatten(2))

    def over(self, x: Float[Tensor, "n s c"], context: Float[Tensor, "n r e"]) -> Float[Tensor, "n s c"]:
        """Plain attention of `x` over `context`."""
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.attend(self.split(q), self.split(k), self.split(v))


class TimeConv(nn.Conv3d):
    """A (3, 1, 1) convolution over time, computed as a 2-D one over (time, place): every backend has a fast kernel for it."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Float[Tensor, "B C L h w"]) -> Float[Tensor, "B C L h w"]:
        """Same shape."""
        flat = nn.functional.conv2d(x.flatten(3), self.weight.squeeze(-1), self.bias, padding=(1, 0))
        return flat.unflatten(3, x.shape[3:])


def frequencies(width: int, device: torch.device | None = None) -> Float[Tensor, " half"]:
    """Rotary frequencies 10000^(-2i/width), i = 0 … width/2 - 1 (Su et al. 2021, §3.2)."""
    return 10000.0 ** -(torch.arange(0, width, 2, device=device).float() / width)


def rotate(x: Float[Tensor, "*n s c"], freqs: Float[Tensor, " half"]) -> Float[Tensor, "*n s c"]:
    """Rotary positions 0 … s-1 (Su et al. 2021, eq. 15): turn channel pairs (2i, 2i+1) by position·freqs[i].

    The first 2·len(freqs) channels turn, the rest stay. Angles are taken in float32 whatever the type of `x`.
    """
    turned = 2 * freqs.shape[0]
    angle = torch.arange(x.shape[-2], device=x.device).float()[:, None] * freqs.float()
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
