"""Convolutions with fewer multiplications, for networks that run in float32 on a CPU.

Cook-Toom: m outputs of a convolution with 3 taps are the product of two polynomials, taken at m + 2 points (one of them
infinity) and put together again, with m + 2 multiplications in place of 3m; along both axes at once, (m + 2)² in place
of 9m² (Winograd 1980; Lavin & Gray 2016, arXiv 1509.09308). The products at each point are one matrix product over the
channels. The points are not the usual whole numbers but near ±0.7 and ±1.4, which round less (Barabasz et al. 2020,
arXiv 1803.10986): in float32 m = 4 is as exact as a direct convolution.

`fast` makes a network's 3×3 convolutions so. They stay what they were, `Conv2d` with the same parameters, and compute
directly wherever this does not apply: on a GPU, in another precision, while gradients are wanted, when compiled, and with
few channels; few places go as one product (`by_rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .. import memory
from .room import room

Net = TypeVar("Net", bound=nn.Module)

POINTS: dict[int, tuple[float, ...]] = {
    2: (0, 1, -1), 3: (0, 0.8, -0.8, 1.5), 4: (0, 0.7, -0.7, 1.4, -1.4), 5: (0, 0.6, -0.6, 1.1, -1.1, 1.8),
    6: (0, 0.5, -0.5, 1, -1, 2, -2),
}  # fmt: skip
"""The finite points for m outputs."""

NARROW = 256
"""Fewer channels than this, in or out, are not worth transforming."""

FEW = 32
"""With fewer tiles of 4×4 the weights are most of the work, and tiles of 2×2 have fewer of them."""

FEWEST = 16
"""With fewer than these one product with the weights as they are wins (`by_rows`)."""

MANY = 2048
"""With as many tiles transforming the weights takes a twentieth of the work or less: they are not kept."""

WORKSPACE = 8 << 20
"""Bytes of one buffer: larger ones leave the cache, and the allocator gives them back each time."""

KEEP = memory.KEEP
"""Bytes of transformed weights that are kept, over all networks; beyond them weights are transformed in every pass, in one
buffer for all layers. Which it is changes the time and no bit of the result. They are in no state dict. All those of one
of the models here take 4 to 11 GB; `memory.Plan.kept` says how much a machine has for them."""


class Toom(NamedTuple):
    """Y = out·[(weight·g) ⊙ (data·d)]: m outputs from 3 taps g and m + 2 data d."""

    out: Tensor
    weight: Tensor
    data: Tensor


@lru_cache
def toom(m: int) -> Toom:
    """The float64 matrices (m, m+2), (m+2, 3) and (m+2, m+2) of a convolution with 3 taps."""
    points = torch.tensor(POINTS[m], dtype=torch.float64)

    def at(terms: int) -> Tensor:
        """A polynomial of so many terms at the points; at infinity it is its last term."""
        powers = points[:, None] ** torch.arange(terms)
        return torch.cat([powers, nn.functional.one_hot(torch.tensor([terms - 1]), terms).double()])

    # Multiplying polynomials, a·b = at(m+2)⁻¹[at(m)·a ⊙ at(3)·b], transposed: that is filtering.
    weight, data = at(3), torch.linalg.inv(at(m + 2)).T
    norms = weight.norm(dim=1, keepdim=True)
    return Toom(at(m).T.contiguous(), weight / norms, data * norms)


@lru_cache
def planar(m: int) -> Toom:
    """The float32 matrices for both axes at once: (m², n²), (n², 9) and (n², n²), n = m + 2."""
    return Toom(*(torch.kron(a, a).float().contiguous() for a in toom(m)))


def planar_weight(weight: Float[Tensor, "O C 3 3"], m: int, out: Tensor | None = None) -> Float[Tensor, "n2 C O"]:
    """3×3 filters at the (m+2)² points, into the (m+2)²·C·O numbers of `out` if there is one."""
    return _at_points(planar(m).weight, weight.permute(2, 3, 1, 0), out)


def line_weight(weight: Float[Tensor, "O C 3 1 1"], m: int, out: Tensor | None = None) -> Float[Tensor, "n C O"]:
    """Filters over time at the m + 2 points."""
    return _at_points(toom(m).weight.float(), weight[..., 0, 0].permute(2, 1, 0), out)


def _at_points(matrix: Tensor, taps: Tensor, out: Tensor | None) -> Tensor:
    shape = (len(matrix), *taps.shape[-2:])
    result = torch.empty(shape) if out is None else out[: shape[0] * shape[1] * shape[2]].view(shape)
    rows = max(1, WORKSPACE // (4 * len(matrix) * shape[2]))
    for i in range(0, shape[1], rows):  # in pieces that stay in the cache
        piece = taps[..., i : i + rows, :].reshape(matrix.shape[1], -1)
        result[:, i : i + rows] = (matrix @ piece).view(shape[0], -1, shape[2])
    return result


def conv2d(
    x: Float[Tensor, "N C H W"], weight: Float[Tensor, "n2 C O"], bias: Float[Tensor, " O"] | None, m: int
) -> Float[Tensor, "N O H W"]:
    """A 3×3 convolution with one zero around, `weight` from `planar_weight`; any size, memory format as it came."""
    n, (count, ins, height, width), outs = m + 2, x.shape, weight.shape[2]
    down, across = -(-height // m), -(-width // m)
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    form = torch.channels_last if last else torch.contiguous_format
    out = torch.empty(count, outs, height, width, dtype=x.dtype, memory_format=form)
    shift = x.new_zeros(outs) if bias is None else bias
    for frames, rows in pieces(count, down, across * n * n * 4 * max(ins, outs), weight.nbytes):
        f, r = frames.stop - frames.start, rows.stop - rows.start
        top, bottom = rows.start * m, min(rows.stop * m, height)
        low, high = max(top - 1, 0), min(rows.stop * m + 1, height)
        padded = room("padded", f, r * m + 2, across * m + 2, ins).zero_()
        padded[:, low - top + 1 : high - top + 1, 1 : width + 1] = x[frames, :, low:high].permute(0, 2, 3, 1)
        s = padded.stride()
        tiles = padded.as_strided((n, n, f, r, across, ins), (s[1], s[2], s[0], s[1] * m, s[2] * m, 1))
        many = f * r * across
        # One axis after the other; the results are so small that they go both at once.
        put = room("tiles", *tiles.shape).copy_(tiles).view(n, -1)
        down_points = torch.mm(toom(m).data.float(), put, out=room("products", *put.shape)).view(n, n, -1)
        points = torch.matmul(toom(m).data.float(), down_points, out=room("points", n, n, many * ins))
        products = torch.bmm(points.view(n * n, many, ins), weight, out=room("products", n * n, many, outs))
        whole = torch.mm(planar(m).out, products.view(n * n, -1), out=room("tiles", m * m, many * outs))
        found = whole.view(m, m, f, r, across, outs).permute(2, 5, 3, 0, 4, 1)
        piece = out[frames, :, top:bottom]
        if piece.shape[2:] == (r * m, across * m):
            torch.add(found, shift.view(-1, 1, 1, 1, 1), out=piece.unflatten(3, (across, m)).unflatten(2, (r, m)))
        else:  # tiles that reach over the border
            whole = (found + shift.view(-1, 1, 1, 1, 1)).reshape(f, outs, r * m, across * m)
            piece.copy_(whole[:, :, : bottom - top, :width])
    return out


def by_rows(
    x: Float[Tensor, "N C H W"], weight: Float[Tensor, "O C 3 3"], bias: Float[Tensor, " O"] | None
) -> Float[Tensor, "N O H W"]:
    """A 3×3 convolution with one zero around as one matrix product: for few places and many channels, where a direct one
    spends its time putting the weights in order."""
    places = nn.functional.unfold(x, 3, padding=1).transpose(0, 1).flatten(1)
    found = (weight.flatten(1) @ places).view(len(weight), len(x), *x.shape[2:])
    return (found if bias is None else found + bias.view(-1, 1, 1, 1)).transpose(0, 1).contiguous()


@lru_cache
def line(m: int, frames: int) -> tuple[Tensor, Tensor]:
    """What the tiles' points are of `frames` frames with a zero at either end, ((m+2)·tiles, frames), and `Toom.out`."""
    tiles = -(-frames // m)
    matrix = torch.zeros(m + 2, tiles, tiles * m + 2, dtype=torch.float64)
    for i in range(tiles):
        matrix[:, i, i * m : i * m + m + 2] = toom(m).data
    return matrix[..., 1 : frames + 1].flatten(0, 1).float().contiguous(), toom(m).out.float()


def fewest(frames: int) -> int:
    """The m with the fewest multiplications for so many frames; the smallest, which rounds least, of equal ones."""
    return min(POINTS, key=lambda m: (-(-frames // m) * (m + 2), m))


def time_conv(
    x: Float[Tensor, "B C L h w"], weight: Float[Tensor, "n C O"], bias: Float[Tensor, " O"] | None, m: int
) -> Float[Tensor, "B O L h w"]:
    """A convolution over three frames with a zero at either end, `weight` from `line_weight`; any size, channels last."""
    batch, ins, frames, height, width = x.shape
    flat = x.permute(0, 2, 3, 4, 1).flatten(2, 3)
    if flat.stride(3) != 1 or flat.stride(2) != ins:
        flat = flat.contiguous()
    places, outs, tiles = height * width, weight.shape[2], -(-frames // m)
    data, back = line(m, frames)
    out = x.new_empty(batch, frames, places, outs)
    shift = x.new_zeros(outs) if bias is None else bias
    step = max(16, min(max(weight.nbytes // 2, WORKSPACE), 3 * WORKSPACE) // (4 * len(data) * max(ins, outs)))
    for b in range(batch):
        for i in range(0, places, step):
            piece = flat[b, :, i : i + step]
            s = piece.shape[1]
            points = torch.mm(data, piece.flatten(1), out=room("points", len(data), s * ins))
            products = torch.bmm(points.view(m + 2, -1, ins), weight, out=room("products", m + 2, tiles * s, outs))
            found = torch.mm(back, products.view(m + 2, -1), out=room("tiles", m, tiles * s * outs))
            found = found.view(m, tiles, s, outs).transpose(0, 1)
            to = out[b, :, i : i + step]
            full = frames // m
            torch.add(found[:full], shift, out=to[: full * m].unflatten(0, (full, m)))
            if full < tiles:
                torch.add(found[full, : frames - full * m], shift, out=to[full * m :])
    return out.unflatten(2, (height, width)).permute(0, 4, 1, 2, 3)


class Kept(NamedTuple):
    """A layer's transformed weights, and by what to know that they are still its own."""

    of: tuple[int, int, int]
    sample: Tensor
    weight: Tensor


_kept: WeakKeyDictionary[nn.Module, Kept] = WeakKeyDictionary()


def held() -> int:
    """Bytes of transformed weights that are kept now."""
    return sum(kept.weight.nbytes for kept in list(_kept.values()))


def transformed(layer: nn.Module, make: Callable[..., Tensor], m: int, size: int, tiles: int) -> Tensor:
    """A layer's weights at the points, `size` numbers: kept if there is room, made anew when they have changed."""
    weight: Any = layer.weight
    kept = _kept.get(layer)
    if tiles < MANY and not weight.is_inference():
        # Writing through `.data`, as merging of adapters does, leaves address and version as they were.
        flat = weight.detach().view(-1)
        sample = flat[:: max(1, len(flat) // 997)].clone()
        of = (m, weight.data_ptr(), weight._version)
        if kept is not None and kept.of == of and torch.equal(kept.sample, sample):
            return kept.weight
        _kept.pop(layer, None)
        if held() + 4 * size <= KEEP:
            _kept[layer] = Kept(of, sample, make(weight.detach(), m))
            return _kept[layer].weight
    return make(weight.detach(), m, room("weights", size))


def inferring(x: Tensor) -> bool:
    """Whether `x` is worked on by this CPU, for its result alone: no gradient, no tracing, no tensor without storage."""
    plain = x.device.type == "cpu" and type(x) is Tensor and not torch.is_autocast_enabled("cpu")
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return plain and not torch.is_grad_enabled() and not traced


def applies(layer: nn.Module, x: Tensor) -> bool:
    """Whether this layer may go by points: inferring in float32, and channels enough."""
    weight: Any = layer.weight
    return (
        inferring(x)
        and x.dtype == weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and min(weight.shape[:2]) >= NARROW
    )


class Keeping(nn.Module):
    """A layer whose transformed weights go when it moves or changes its type."""

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        _kept.pop(self, None)
        return super()._apply(*args, **kwargs)


class Conv2d(Keeping, nn.Conv2d):
    """A 3×3 convolution with stride 1 and one zero around, by points where that wins."""

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N O H W"]:
        """Same sides."""
        if not applies(self, x):
            return super().forward(x)
        tiles = x.shape[0] * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)
        if tiles < FEWEST:
            return by_rows(x, self.weight, self.bias)
        m = 4 if tiles >= FEW else 2
        weight = transformed(self, planar_weight, m, (m + 2) ** 2 * self.in_channels * self.out_channels, tiles)
        return conv2d(x, weight, self.bias, m)


def fast(net: Net) -> Net:
    """Let a network's 3×3 convolutions go by points where that wins; returns it. Names, shapes and values stay."""
    for module in net.modules():
        if type(module) is nn.Conv2d and (
            module.kernel_size, module.stride, module.padding, module.dilation, module.groups, module.padding_mode
        ) == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros"):  # fmt: skip
            module.__class__ = Conv2d
    return net


def pieces(count: int, down: int, row: int, weight: int) -> Iterator[tuple[slice, slice]]:
    """Frames and rows of tiles to do at once, a row of tiles taking `row` bytes: many where weights are large."""
    most = min(max(weight // 2, WORKSPACE), 3 * WORKSPACE)
    if down * row <= most:
        step = most // (down * row)
        yield from ((slice(i, min(i + step, count)), slice(0, down)) for i in range(0, count, step))
        return
    step = max(most // row, 1)
    for i in range(count):
        yield from ((slice(i, i + 1), slice(j, min(j + step, down))) for j in range(0, down, step))
