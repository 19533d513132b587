"""Networks of the embedded prior: a reader of pictures (what is where) and a diffusion UNet over motion fields."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of both networks. `keys` keyframes of `channels` (dx, dy, light) on a `grid`×`grid` field."""

    subjects: int = 17
    state: int = 10
    keys: int = 8
    channels: int = 3
    grid: int = 32
    picture: int = 96
    reader_width: int = 32
    width: int = 64


def clock(t: Float[Tensor, "B"], width: int) -> Float[Tensor, "B width"]:
    """Sinusoidal embedding of ln(s/a)-like clocks."""
    freq = torch.exp(-math.log(1000.0) * torch.arange(width // 2, device=t.device, dtype=t.dtype) / (width // 2))
    angle = t[:, None] * 100 * freq[None]
    return torch.cat([angle.cos(), angle.sin()], -1)


class Block(nn.Module):
    """Residual block, modulated by an embedding where there is one."""

    def __init__(self, c_in: int, c_out: int, embed: int = 0) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.film = nn.Linear(embed, 2 * c_out) if embed else None
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        """(B, c_in, h, w) → (B, c_out, h, w)."""
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.film is not None and e is not None:
            scale, shift = self.film(e)[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Self-attention over the positions of a small map."""

    def __init__(self, c: int, heads: int = 4) -> None:
        super().__init__()
        self.norm, self.qkv, self.out, self.heads = (
            nn.GroupNorm(8, c),
            nn.Conv2d(c, 3 * c, 1),
            nn.Conv2d(c, c, 1),
            heads,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) → (B, c, h, w)."""
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, h, w)
        return x + self.out(y)


class PictureReader(nn.Module):
    """Which of the subjects is where: a small UNet from the picture at 96 px to class scores on the 32×32 grid."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w = config.reader_width
        self.full = nn.Sequential(nn.Conv2d(5, w, 5, padding=2), nn.GroupNorm(8, w), nn.SiLU())
        self.stem = nn.Conv2d(w, 2 * w, 3, stride=3)
        self.d1 = Block(2 * w, 2 * w)
        self.d2, self.a2 = Block(2 * w, 4 * w), Attention(4 * w)
        self.d3, self.a3 = Block(4 * w, 6 * w), Attention(6 * w)
        self.m = Block(6 * w, 6 * w)
        self.u2, self.u1 = Block(10 * w, 4 * w), Block(6 * w, 2 * w)
        self.head = nn.Sequential(nn.GroupNorm(8, 2 * w), nn.SiLU(), nn.Conv2d(2 * w, config.subjects, 3, padding=1))

    def forward(self, picture: Float[Tensor, "B 3 96 96"]) -> Float[Tensor, "B K 32 32"]:
        """Class scores (logits); `picture` in [-1, 1]."""
        b, _, h, w = picture.shape
        ys = torch.linspace(-1, 1, h, device=picture.device).view(1, 1, h, 1).expand(b, 1, h, w)
        xs = torch.linspace(-1, 1, w, device=picture.device).view(1, 1, 1, w).expand(b, 1, h, w)
        x1 = self.d1(self.stem(self.full(torch.cat([picture, ys, xs.abs()], 1))))
        x2 = self.a2(self.d2(F.avg_pool2d(x1, 2)))
        x3 = self.m(self.a3(self.d3(F.avg_pool2d(x2, 2))))
        y = self.u2(torch.cat([F.interpolate(x3, scale_factor=2.0), x2], 1))
        y = self.u1(torch.cat([F.interpolate(y, scale_factor=2.0), x1], 1))
        return self.head(y)


class MotionUNet(nn.Module):
    """v-prediction over keyframes of motion, frames as channels of a 2-D UNet.

    Conditions, all maps on the grid: the picture (unshuffled), what is where, what each place is told to do, the mask,
    sparse arrows (dx, dy, present), strength and its presence.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        c, w = config, config.width
        self.config = config
        motion = c.keys * c.channels
        self.ratio = c.picture // c.grid
        conditions = 3 * self.ratio**2 + c.subjects + c.state + 1 + 1 + 3 + 2 + 2
        e = 4 * w
        self.time = nn.Sequential(nn.Linear(w, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.stem = nn.Conv2d(motion + conditions, w, 3, padding=1)
        self.d1 = Block(w, w, e)
        self.d2, self.a2 = Block(w, 2 * w, e), Attention(2 * w)
        self.d3, self.a3 = Block(2 * w, 3 * w, e), Attention(3 * w)
        self.m = Block(3 * w, 3 * w, e)
        self.u2, self.b2 = Block(5 * w, 2 * w, e), Attention(2 * w)
        self.u1 = Block(3 * w, w, e)
        self.head = nn.Sequential(nn.GroupNorm(8, w), nn.SiLU(), nn.Conv2d(w, motion, 3, padding=1))

    def forward(
        self, z: Float[Tensor, "B C L h w"], t: Float[Tensor, "B"], conditions: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B C L h w"]:
        """The v-prediction for noisy motion `z` at clock `t` in [0, 1]."""
        b, ch, frames, h, w = z.shape
        e = self.time(clock(t, self.config.width))
        x1 = self.d1(self.stem(torch.cat([z.reshape(b, ch * frames, h, w), conditions], 1)), e)
        x2 = self.a2(self.d2(F.avg_pool2d(x1, 2), e))
        x3 = self.m(self.a3(self.d3(F.avg_pool2d(x2, 2), e)), e)
        y = self.b2(self.u2(torch.cat([F.interpolate(x3, scale_factor=2.0), x2], 1), e))
        y = self.u1(torch.cat([F.interpolate(y, scale_factor=2.0), x1], 1), e)
        return self.head(y).view(b, ch, frames, h, w)


def conditions(
    picture: Float[Tensor, "B 3 96 96"], where: Float[Tensor, "B K 32 32"], told: Float[Tensor, "B K 10"],
    mask: Float[Tensor, "B 1 32 32"], arrows: Float[Tensor, "B 3 32 32"], strength: Float[Tensor, "B 2"],
    present: Float[Tensor, "B"],
) -> Float[Tensor, "B D 32 32"]:  # fmt: skip
    """All conditions as maps. `present` 0 drops the words (the unconditional branch); `strength` is (value, given)."""
    b, _, h, w = where.shape
    keep = present.view(b, 1, 1, 1)
    order = torch.einsum("bkhw,bks->bshw", where, told) * keep
    flag = keep.expand(b, 1, h, w)
    rows = torch.linspace(-1, 1, h, device=where.device).view(1, 1, h, 1).expand(b, 1, h, w)
    columns = torch.linspace(-1, 1, w, device=where.device).view(1, 1, 1, w).expand(b, 1, h, w)
    level = strength.view(b, 2, 1, 1).expand(b, 2, h, w)
    pixels = F.pixel_unshuffle(picture, picture.shape[-1] // h)
    return torch.cat([pixels, where, order, flag, mask, arrows, level, rows, columns], 1)
