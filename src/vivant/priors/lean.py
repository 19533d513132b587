"""Transformers and resnets on a CPU without detours.

Channels are kept last, so that frames are tokens as they lie. A transformer takes some of its sequences after the others,
about `PIECE` tokens from the norm before it to the sum after it: what lies between its layers stays in the cache, and the
sum that goes through them is updated in place.

All of this is for a network's result alone; elsewhere (on a GPU, while gradients are wanted, when compiled) the functions
that begin with `inferring` do the plain thing, and the others are not called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .room import room
from .winograd import inferring

PIECE = 1024
"""Tokens at once: enough that a product's weights are put in order for many rows, few enough for the cache."""

COLUMNS = 1280
"""Channels between the layers of a feed-forward at once."""

Pair = tuple[Tensor, Tensor]


def last(x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
    """The same with its channels last in memory, where that is how it will be worked on."""
    return x.contiguous(memory_format=torch.channels_last) if inferring(x) else x


def tokens(x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N P C"]:
    """Places as tokens: a view where channels are last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def pieces(count: int, length: int) -> Iterator[slice]:
    """Some of `count` sequences of `length` tokens after the others, about `PIECE` tokens at once."""
    step = max(1, PIECE // length)
    yield from (slice(i, min(i + step, count)) for i in range(0, count, step))


def silu(x: Tensor) -> Tensor:
    """x·σ(x); on a CPU x is given up."""
    return F.silu(x, inplace=inferring(x))


def activated(norm: nn.Module, x: Tensor) -> Tensor:
    """silu(norm(x))."""
    return silu(norm(x))


def own(layer: Any) -> bool:
    """Whether a layer is itself alone: no adapter around it and no method replaced."""
    return (type(layer) is nn.Linear or isinstance(layer, FeedForward)) and "forward" not in vars(layer)


def project(layer: Any, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n d"]:
    """A linear layer, or a convolution of width 1 as one."""
    if isinstance(layer, nn.Conv2d | nn.Conv1d):
        return F.linear(x, layer.weight.flatten(1), layer.bias)
    out: Tensor = layer(x)
    return out


def asked(x: Float[Tensor, "*n c"], norm: nn.Module, *layers: Any) -> list[Tensor]:
    """layer(norm(x)) of each layer; on a CPU in memory that the next call takes again."""
    y = norm(x)
    if not (inferring(x) and all(own(layer) for layer in layers)):
        return [layer(y) for layer in layers]
    outs = [room(f"asked {i}", *x.shape[:-1], layer.out_features, like=x) for i, layer in enumerate(layers)]
    for out, layer in zip(outs, layers, strict=True):
        into(out.flatten(0, -2), y.flatten(0, -2), layer.weight, layer.bias)
    return outs


def into(out: Float[Tensor, "n d"], x: Float[Tensor, "n c"], weight: Tensor, bias: Tensor | None) -> Tensor:
    """out ← x·weightᵀ + bias."""
    if bias is None:
        return torch.mm(x, weight.t(), out=out)
    return torch.addmm(bias, x, weight.t(), out=out)


def attended(
    q: Float[Tensor, "n s c"], k: Float[Tensor, "m r c"], v: Float[Tensor, "m r c"], heads: int,
    scale: float | None = None,
) -> Float[Tensor, "n s c"]:  # fmt: skip
    """softmax(q·kᵀ·scale)·v, heads joined; sequences that share their keys, m groups of them, ask as one."""
    grouped = q if len(q) == len(k) else q.reshape(len(k), -1, q.shape[-1])
    a, b, c = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (grouped, k, v))
    return F.scaled_dot_product_attention(a, b, c, scale=scale).transpose(1, 2).reshape(q.shape)


def onto(x: Float[Tensor, "*n c"], layer: Any, y: Float[Tensor, "*n d"]) -> Float[Tensor, "*n c"]:
    """x + layer(y); on a CPU x is given up."""
    if not (inferring(x) and own(layer) and x.is_contiguous()):
        return x + layer(y)
    flat = x.view(-1, x.shape[-1])
    if layer.bias is not None:
        flat.add_(layer.bias)
    flat.addmm_(y.reshape(-1, y.shape[-1]), layer.weight.t())
    return x


def fed(x: Float[Tensor, "*n c"], norm: nn.Module, ff: FeedForward) -> Float[Tensor, "*n c"]:
    """x + ff(norm(x)); on a CPU x is given up."""
    if not (inferring(x) and x.is_contiguous() and gated(ff) and all(own(layer) for layer in (ff, *ends(ff)))):
        return x + ff(norm(x))
    flat = x.view(-1, x.shape[-1])
    for rows in pieces(len(flat), 1):
        part = flat[rows]
        add_fed(part, norm(part), *ends(ff))
    return x


def add_fed(x: Float[Tensor, "n c"], y: Float[Tensor, "n c"], inner: Any, outer: Any) -> None:
    """x ← x + outer(value·gelu(gate)), value and gate the halves of inner(y), some of their channels after the others."""
    if outer.bias is not None:
        x.add_(outer.bias)
    wide = outer.in_features
    for i in range(0, wide, COLUMNS):
        here = slice(i, min(i + COLUMNS, wide))
        value, gate = (
            into(
                room(name, len(x), here.stop - here.start, like=x), y, inner.weight[half][here],
                None if inner.bias is None else inner.bias[half][here],
            )
            for name, half in (("value", slice(0, wide)), ("gate", slice(wide, None)))
        )  # fmt: skip
        x.addmm_(value.mul_(torch.ops.aten.gelu_(gate)), outer.weight[:, here].t())


def ends(ff: Any) -> tuple[Any, Any]:
    """The first and the last layer of a gated feed-forward."""
    return ff.net[0].proj, ff.net[-1]


def gated(ff: Any) -> bool:
    """Whether a feed-forward is diffusers' with a GEGLU, one that drops nothing out."""
    return isinstance(ff, FeedForward) and type(ff.net[0]) is GEGLU and len(ff.net) == 3


def shortcut(
    layer: nn.Module | None, x: Float[Tensor, "N C h w"], y: Float[Tensor, "N O h w"], over: float = 1
) -> Tensor:
    """(layer(x) + y) / over; on a CPU y is given up."""
    if layer is not None and inferring(x) and isinstance(layer, nn.Conv2d):
        x = project(layer, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    elif layer is not None:
        x = layer(x)
    if not inferring(x):
        return (x + y) / over
    y.add_(x)
    return y if over == 1 else y.div_(over)


def look(
    x: Float[Tensor, "n s c"], attn: Any, norm: nn.Module, told: Pair | None, first: dict[nn.Module, Pair] | None = None
) -> Float[Tensor, "n s c"]:
    """x + attn(norm(x)), over itself or the keys and values `told`; x is given up.

    `first`: every sequence also looks at the first one of its clip; it is kept there by the piece that has it.
    """
    if "forward" in vars(attn):  # something has taken its place
        return x + attn(norm(x))
    if told is not None:
        q, (k, v) = asked(x, norm, attn.to_q)[0], told
    else:
        q, k, v = asked(x, norm, attn.to_q, attn.to_k, attn.to_v)
    if first is not None:
        if attn not in first:
            first[attn] = k[:1].clone(), v[:1].clone()
        k, v = (torch.cat([y, y0.expand_as(y)], 1) for y, y0 in zip((k, v), first[attn], strict=True))
    return onto(x, attn.to_out[0], attended(q, k, v, attn.heads, attn.scale))


def over_frames(
    x: Float[Tensor, "BL C h w"], clips: int, through: Callable[[Tensor, int, slice], Tensor]
) -> Float[Tensor, "BL P d"]:
    """Tokens of frames, some frames of a clip after the others: `through` is given frames, their clip and which they are."""
    count, out = len(x) // clips, x.new_empty(0)
    for clip in range(clips):
        for part in pieces(count, x.shape[2] * x.shape[3]):
            here = slice(clip * count + part.start, clip * count + part.stop)
            found = through(x[here], clip, part)
            if not len(out):
                out = x.new_empty(len(x), *found.shape[1:])
            out[here] = found
    return out


def over_places(
    x: Float[Tensor, "B L P C"], through: Callable[[Tensor, int, slice], Tensor], add: Float[Tensor, "B L P C"]
) -> Float[Tensor, "B L P C"]:
    """add + through(x), some places after the others: `through` is given (places, L, C), their clip and which they are."""
    out = torch.empty_like(add, memory_format=torch.contiguous_format)
    for clip in range(len(x)):
        for part in pieces(x.shape[2], x.shape[1]):
            found = through(x[clip, :, part].transpose(0, 1).contiguous(), clip, part)
            torch.add(add[clip, :, part], found.transpose(0, 1), out=out[clip, :, part])
    return out


def along(
    model: Any, x: Float[Tensor, "BL C h w"], count: int, on: Callable[[Any, Tensor], Tensor]
) -> Float[Tensor, "BL C h w"]:
    """A transformer over the `count` frames of each place, its norm over whole clips: x + proj_out(blocks(proj_in(norm(x)))).

    `on`: a block on tokens (places, L, C) that are given up.
    """
    x = last(x)
    clips = x.unflatten(0, (-1, count)).transpose(1, 2)

    def through(y: Tensor, clip: int, part: slice) -> Tensor:
        y = project(model.proj_in, y)
        for block in model.transformer_blocks:
            y = on(block, y)
        return project(model.proj_out, y)

    return pictures(over_places(by_time(model.norm(clips)), through, by_time(clips)), x)


def pictures(x: Float[Tensor, "*n P C"], like: Float[Tensor, "BL C h w"]) -> Float[Tensor, "BL C h w"]:
    """Tokens as frames of that size; a view, channels last."""
    return x.reshape(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2)


def by_time(x: Float[Tensor, "B C L h w"]) -> Float[Tensor, "B L P C"]:
    """A view where channels are last."""
    return x.permute(0, 2, 3, 4, 1).flatten(2, 3)


def one(pair: Pair, clip: int) -> Pair:
    """The keys and values of one clip."""
    return pair[0][clip : clip + 1], pair[1][clip : clip + 1]
