"""The refinement T of arrow fields (Wang et al. 2024, §3.2): from a spread of arrows to what would really move.

T is pix2pix (Isola et al. 2017): a U-Net that sees the picture and the dense field and gives the refined one, trained
against a PatchGAN and an L1 distance to exact fields (`vivant train refine`). It works on a 32×32 grid, relative to the
longest arrow, so that the picture's size and the arrows' length do not matter to it. It need not learn to see: the
embedded prior's reader tells it what is where, and `likened` spreads each arrow over what is of a kind with its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import WeightsError
from ..shot import Arrow
from .arrows import SIGMA, THRESHOLD, Field, check, dense, resized, sparse
from .arrows import field as unrefined

FILE = Path(__file__).with_name("refine.safetensors")
GRID = 32
"""cells of a side"""
PICTURE = 96
"""pixels of a side that it sees of the painting, 3×3 to a cell"""
SUBJECTS = 17
"""kinds of thing the reader tells apart"""
SEEN = 3 * (PICTURE // GRID) ** 2 + SUBJECTS
GIVEN = SEEN + 2 + 2 + 4 + 2
"""channels in: picture and what is where, the dense field, the likened one, the arrows as points (way, moved, pinned), place"""
REACH = 1.0
"""σ of `likened`, as a share of the frame's side: a thing moves as a whole, farther than eq. 6 reaches"""

TRUST = 0.75
"""Share of what T makes of the likened field that is taken: with it what moves is least far off, with all of it what stays
is stillest (`benchmarks/refine.py`)."""


class Down(nn.Module):
    """Half the size: convolution, norm, and another convolution."""

    def __init__(self, c_in: int, c_out: int, stride: int = 2) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.GroupNorm(8, c_out), nn.SiLU())
        self.two = nn.Sequential(nn.Conv2d(c_out, c_out, 3, 1, 1), nn.GroupNorm(8, c_out), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, h, w) → (B, c_out, h/stride, w/stride)."""
        return self.two(self.one(x))


class Refiner(nn.Module):
    """T: the generator. Skip connections carry the outlines of the picture to the field, as in pix2pix.

    What comes out is added to the likened field, of which it may take a share away; it begins as nothing.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        w = width
        self.d1, self.d2, self.d3, self.d4 = Down(GIVEN, w, 1), Down(w, 2 * w), Down(2 * w, 3 * w), Down(3 * w, 3 * w)
        self.u3, self.u2, self.u1 = Down(6 * w, 2 * w, 1), Down(4 * w, w, 1), Down(2 * w, w, 1)
        self.head = nn.Conv2d(w, 3, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, given: Float[Tensor, "B D 32 32"]) -> Float[Tensor, "B 2 32 32"]:
        """The refined field for `conditions`, relative to the longest arrow."""
        x1 = self.d1(given)
        x2 = self.d2(x1)
        x3 = self.d3(x2)
        y = F.interpolate(self.d4(x3), scale_factor=2.0)
        y = F.interpolate(self.u3(torch.cat([y, x3], 1)), scale_factor=2.0)
        y = F.interpolate(self.u2(torch.cat([y, x2], 1)), scale_factor=2.0)
        out = self.head(self.u1(torch.cat([y, x1], 1)))
        return (1 + out[:, :1]) * given[:, SEEN + 2 : SEEN + 4] + out[:, 1:]


class Patches(nn.Module):
    """The PatchGAN: whether each place of a field looks like a true one for its picture and arrows."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(GIVEN + 2, width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, given: Float[Tensor, "B D 32 32"], flow: Float[Tensor, "B 2 32 32"]) -> Float[Tensor, "B 1 8 8"]:
        """Scores (logits), one for each patch."""
        return self.net(torch.cat([given, flow], 1))


def likened(
    where: Float[np.ndarray, "K h w"],
    starts: Float[np.ndarray, "S 2"],
    ways: Float[np.ndarray, "S 2"],
    reach: float = REACH,
) -> Field:
    """Arrows spread over what is of a kind with where they start.

    `where`: the chance of each kind at each cell; `starts`, `ways`: in cells. Place p is of a kind with arrow i's start by
    a_i = ⟨where(p), where(x_i)⟩/|where(x_i)|², at most 1. Arrow i has the share v_i ∝ a_i/D_i², Σ v_i = 1, and the field
    is max_i a_i · Σ v_i·exp(-(D_i/σ)²)·f_i: eq. 6 with likeness in it.
    """
    height, width = where.shape[1:]
    y, x = np.mgrid[0:height, 0:width] + 0.5
    total, shares, most = np.zeros((height, width, 2)), np.zeros((height, width)), np.zeros((height, width))
    for (x0, y0), way in zip(starts, ways, strict=True):
        own = where[:, min(int(y0), height - 1), min(int(x0), width - 1)]
        alike = np.clip(np.tensordot(own, where, 1) / max(float(own @ own), 1e-9), 0, 1)
        square = np.maximum((x - x0) ** 2 + (y - y0) ** 2, 0.01)
        share = alike / square
        total += (share * np.exp(-square / (reach**2 * width * height)))[..., None] * way
        shares += share
        most = np.maximum(most, alike)
    return (total / np.maximum(shares, 1e-9)[..., None] * most[..., None]).astype(np.float32)


@torch.no_grad()
def conditions(
    picture: UInt8[np.ndarray, "H W 3"], arrows: Sequence[Arrow]
) -> tuple[Float[Tensor, "1 D 32 32"], float]:
    """What T is given for a picture of any size, and the longest arrow's way as a fraction of the sides, its unit."""
    starts, ways = sparse(arrows, (GRID, GRID))
    unit = float(np.hypot(*ways.T).max(initial=0.0)) or 1.0
    small = cv2.resize(picture, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)
    pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 127.5 - 1
    see = reader()
    where = ((see(pixels) + see(pixels.flip(-1)).flip(-1)) / 2).softmax(1)
    fields = [dense(starts, ways, (GRID, GRID)), likened(where[0].numpy(), starts, ways)]
    spread = [torch.from_numpy(one / np.float32(unit)).permute(2, 0, 1)[None] for one in fields]
    points = torch.zeros(1, 4, GRID, GRID)
    for (x, y), way in zip(starts, ways, strict=True):
        column, row = (min(int(v), GRID - 1) for v in (x, y))
        rows, columns = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        moved = bool(way.any())
        value = torch.tensor([*(way / unit), float(moved), float(not moved)], dtype=torch.float32)
        points[0, :, rows, columns] = value.view(4, 1, 1)
    lines = torch.linspace(-1, 1, GRID)
    place = torch.stack(torch.meshgrid(lines, lines, indexing="ij"))[None]
    return torch.cat([F.pixel_unshuffle(pixels, PICTURE // GRID), where, *spread, points, place], 1), unit / GRID


def field(arrows: Sequence[Arrow], size: tuple[int, int], picture: UInt8[np.ndarray, "H W 3"] | None = None) -> Field:
    """The motion field of arrows at (width, height), in pixels: refined where a picture is given, plainly spread if not.

    Raises `SettingError` where arrows contradict each other, `WeightsError` where weights are broken.
    """
    check(arrows)
    moving = any((a.x0, a.y0) != (a.x1, a.y1) for a in arrows)
    if picture is None or not moving:
        return unrefined(arrows, size)
    return refine(arrows, size, picture, refiner())


@torch.no_grad()
def refine(arrows: Sequence[Arrow], size: tuple[int, int], picture: UInt8[np.ndarray, "H W 3"], net: Refiner) -> Field:
    """The field that `net` makes of arrows, at (width, height), in pixels.

    What it makes of the arrows' own places is put right, there and around on what is of a kind: on a picture unlike any
    it learned from it may well make little of an arrow, and an arrow is an order.
    """
    given, unit = conditions(picture, arrows)
    plain = given[:, SEEN + 2 : SEEN + 4]
    mixed = plain + TRUST * (net(given) - plain)
    flow = mixed[0].permute(1, 2, 0).numpy() * np.float32(unit * GRID)
    starts, ways = sparse(arrows, (GRID, GRID))
    cells = np.minimum(starts.astype(int), GRID - 1)
    where = given[0, SEEN - SUBJECTS : SEEN].numpy()
    flow += likened(where, starts, ways - flow[cells[:, 1], cells[:, 0]], SIGMA)
    length = np.hypot(*ways.T)
    slowest = float(length[length > 0].min(initial=np.inf))
    flow[np.hypot(flow[..., 0], flow[..., 1]) <= THRESHOLD * slowest] = 0  # eq. 7 again: what is still is quite still
    return resized(flow, size)


@lru_cache(maxsize=1)
def reader() -> nn.Module:
    """The embedded prior's reader of pictures: what is where."""
    from ..priors.miniature.net import Config, MotionUNet, PictureReader
    from ..priors.miniature.weights import load_networks

    net = PictureReader(Config())
    load_networks(net, MotionUNet(Config()))
    return net.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def refiner() -> Refiner:
    """T with its packaged weights; without them one that gives the likened field."""
    return load(FILE) if FILE.is_file() else Refiner().eval().requires_grad_(False)


def load(path: Path) -> Refiner:
    """T with the weights of a safetensors file. Raises `WeightsError`."""
    from ..priors.folder import fill, read_state

    net = Refiner()
    if not path.is_file():
        raise WeightsError(f"expected the weights of the refinement at {path}, found none; run `vivant train refine`")
    fill(net, read_state(path), path)
    return net.eval().requires_grad_(False)
