"""Arrows to motion fields ("Controllable Longer Image Animation", Wang et al. 2024, eq. 5 to 8). Loads no torch.

arrows ─► sparse (eq. 5) ─► dense (eq. 6, 7) ─► refined (the model T, `refine`) ─► one field a frame ─► strength (eq. 8)

Fields are float32 (H, W, 2) in pixels of their own size, x right, y down: where what is at a place is carried over the
whole clip. An arrow of no length pins what is at its place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Integer

from ..errors import SettingError
from ..shot import Arrow

Field = Float[np.ndarray, "H W 2"]

SIGMA = 170 / 512
"""σ of eq. 6 as a share of the frame's side: the paper's 170 pixels at its 512×512."""

THRESHOLD = 0.05
"""R of eq. 7."""

STRENGTH_UNIT = 1e-5
"""M_s of eq. 8 is counted in this part of the diagonal a frame: 100 is 0.1 % of it, gentle; 400 is fast."""

TOGETHER = 0.02
"""Two arrows that start nearer than this share of the picture's side start at the same place."""

FASTEST = 10.0
"""The largest speed of an arrow."""

LEAST_WAY = 0.02
"""What goes less far than this share of the sides gets no arrow in `pointed`."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TEXT = re.compile(rf"\s*({_NUMBER}),({_NUMBER})(?::({_NUMBER}),({_NUMBER}))?(?:\s*\*\s*({_NUMBER}))?\s*")


def parse(text: str) -> Arrow:
    """ "x0,y0:x1,y1" in fractions of the picture; "…*2" goes twice as far; "x,y" alone pins its place.

    Raises `SettingError` for anything else, for points outside the picture and for speeds out of range.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise SettingError(
            f'expected an arrow like "0.2,0.3:0.5,0.3" (fractions of the picture), "0.2,0.3:0.5,0.3*2" (twice as far) '
            f'or "0.2,0.3" (a place that stays), got {text!r}'
        )
    x0, y0 = float(found[1]), float(found[2])
    x1, y1 = (x0, y0) if found[3] is None else (float(found[3]), float(found[4]))
    told: dict[str, Any] = {} if found[5] is None else {"speed": float(found[5])}
    arrow = Arrow(x0, y0, x1, y1, **told)
    speed(arrow)
    return arrow


def speed(arrow: Arrow) -> float:
    """M_o of eq. 5: the factor on the arrow's way, 1 where it names none. Raises `SettingError` outside (0, 10]."""
    value = float(getattr(arrow, "speed", 1.0))
    if not 0 < value <= FASTEST:
        raise SettingError(
            f"expected an arrow's speed above 0 and up to {FASTEST:g}, got {value:g}; pin with no length"
        )
    return value


def check(arrows: Sequence[Arrow]) -> None:
    """Raises `SettingError` where arrows contradict each other: one place, opposite ways, or moved and pinned."""
    for a, b in combinations(arrows, 2):
        if np.hypot(a.x0 - b.x0, a.y0 - b.y0) >= TOGETHER:
            continue
        p, q = (np.array([arrow.x1 - arrow.x0, arrow.y1 - arrow.y0]) * speed(arrow) for arrow in (a, b))
        lengths = float(np.hypot(*p)), float(np.hypot(*q))
        pinned = (lengths[0] == 0) != (lengths[1] == 0)
        if pinned or float(p @ q) < -0.5 * lengths[0] * lengths[1]:
            ways = "one moves and one pins" if pinned else "opposite ways"
            raise SettingError(
                f"expected arrows that agree where they start together, got {said(a)} and {said(b)} ({ways}); remove one"
            )


def said(arrow: Arrow) -> str:
    """An arrow as `parse` reads it."""
    factor = speed(arrow)
    end = "" if (arrow.x0, arrow.y0) == (arrow.x1, arrow.y1) else f":{arrow.x1:g},{arrow.y1:g}"
    return f"{arrow.x0:g},{arrow.y0:g}{end}" + ("" if factor == 1 else f"*{factor:g}")


def sparse(arrows: Sequence[Arrow], size: tuple[int, int]) -> tuple[Float[np.ndarray, "S 2"], Float[np.ndarray, "S 2"]]:
    """Eq. 5 as its points: where each arrow starts and how far it carries, f_s = (end - start)·M_o, both in pixels.

    `size`: (width, height). The frame spans 0 … width in x: a pixel's middle lies at a half.
    """
    sides = np.array(size, np.float64)
    starts = np.array([(a.x0, a.y0) for a in arrows], np.float64).reshape(-1, 2) * sides
    ends = np.array([(a.x1, a.y1) for a in arrows], np.float64).reshape(-1, 2) * sides
    return starts, (ends - starts) * np.array([speed(a) for a in arrows], np.float64).reshape(-1, 1)


def dense(
    starts: Float[np.ndarray, "S 2"],
    ways: Float[np.ndarray, "S 2"],
    size: tuple[int, int],
    sigma: float = SIGMA,
    threshold: float = THRESHOLD,
    shared: bool = True,
) -> Field:
    """Eq. 6 and 7: the sparse field spread by exp(-(D/σ)²), and 0 where it falls under R.

    `starts`, `ways`: pixels of `size` = (width, height); `sigma`: a share of the frame's side, √(W·H). The paper gives R
    no unit: here it is a share of the way of the arrows that a place listens to, so that the field is the same at every
    size, and a slow arrow reaches as far as a fast one.

    Eq. 6 as printed (`shared=False`) adds arrows up: two that agree carry twice as far, and a zero arrow pins nothing.
    With shares, arrow i adds v_i·exp(-(D_i/σ)²)·f_i, v_i ∝ 1/D_i² and Σ v_i = 1: one arrow alone is eq. 6 to the letter,
    and the field of several passes through each of them.
    """
    width, height = size
    out = np.zeros((height, width, 2), np.float64)
    if not len(starts):
        return out.astype(np.float32)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    reach = max(sigma * np.sqrt(width * height), 1e-9)
    total, heard = np.zeros((height, width)), np.zeros((height, width))
    for (x0, y0), way in zip(starts, ways, strict=True):
        square = (x - x0) ** 2 + (y - y0) ** 2
        # An arrow begins inside a pixel; nearer than a tenth of one is there.
        share = 1 / np.maximum(square, 0.01)
        out += ((share if shared else 1) * np.exp(-square / reach**2))[..., None] * way
        heard += share * np.hypot(*way)
        total += share
    if shared:
        out /= total[..., None]
    lengths = np.hypot(*ways.T)
    least = threshold * float(lengths[lengths > 0].min(initial=np.inf))  # next to a pin there is but a trace of others
    out[np.hypot(out[..., 0], out[..., 1]) <= threshold * np.maximum(heard / total, least)] = 0
    return out.astype(np.float32)


def field(arrows: Sequence[Arrow], size: tuple[int, int], sigma: float = SIGMA, threshold: float = THRESHOLD) -> Field:
    """The dense field of arrows at (width, height), unrefined. Raises `SettingError` where they contradict each other."""
    check(arrows)
    return dense(*sparse(arrows, size), size, sigma, threshold)


def resized(flow: Field, size: tuple[int, int]) -> Field:
    """The same field at another (width, height), its displacements in the new pixels."""
    height, width = flow.shape[:2]
    small = size[0] * size[1] < width * height
    out = cv2.resize(flow, size, interpolation=cv2.INTER_AREA if small else cv2.INTER_LINEAR)
    return (out * (size[0] / width, size[1] / height)).astype(np.float32)


def pointed(
    way: Float[np.ndarray, "2 h w"],
    labels: Integer[np.ndarray, "h w"],
    things: Sequence[int],
    rng: np.random.Generator,
    each: int = 1,
    pins: int = 0,
) -> list[Arrow]:
    """Arrows as a hand would draw them into a scene whose motion is known: `each` on every one of `things`, and pins.

    `way`: where the scene's paint goes, in fractions of the sides; `labels`: which thing is where. An arrow starts where
    its thing moves at least half as far as it does anywhere; arrows that would leave the picture are not drawn.
    """
    height, width = labels.shape
    length = np.hypot(*way)
    y, x = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width]).reshape(2, 1, 1)
    inside = (x + way[0] >= 0) & (x + way[0] <= 1) & (y + way[1] >= 0) & (y + way[1] <= 1)
    out: list[Arrow] = []

    def draw(places: np.ndarray, count: int, moves: bool) -> None:
        spots = np.argwhere(places)
        for row, column in spots[rng.permutation(len(spots))[:count]]:
            x0, y0 = float(x[row, column]), float(y[row, column])
            dx, dy = (float(v) for v in way[:, row, column]) if moves else (0.0, 0.0)
            out.append(Arrow(x0, y0, x0 + dx, y0 + dy))

    for label in things:
        largest = float(length[labels == label].max(initial=0))
        if largest >= LEAST_WAY:
            draw((labels == label) & (length > largest / 2) & inside, each, True)
    if pins and out:
        # A pin belongs well away from what moves: nobody pins the edge of a cloud.
        still = cv2.dilate((length > 0.05 * length.max()).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        draw(still, pins, False)
    return out


def motion_fields(flow: Field, frames: int) -> Float[np.ndarray, "N H W 2"]:
    """𝔽 = {F_0→1 … F_N-1→N} for a clip of `frames` = N + 1: the way of the whole clip walked evenly.

    The field stays where it is while paint moves through it (Eulerian, as Holynski et al. 2021, the data of the paper's T).
    """
    if frames < 2:
        raise SettingError(f"expected at least 2 frames, got {frames}")
    return np.repeat(flow[None] / (frames - 1), frames - 1, axis=0).astype(np.float32)


def strength(fields: Float[np.ndarray, "N H W 2"]) -> float:
    """M_s of eq. 8: the mean length of all displacements of all frames, in `STRENGTH_UNIT` of the diagonal."""
    diagonal = float(np.hypot(fields.shape[1], fields.shape[2]))
    return float(np.hypot(fields[..., 0], fields[..., 1]).mean()) / diagonal / STRENGTH_UNIT


def carried(flow: Field, times: Sequence[float], substeps: int = 8) -> Float[np.ndarray, "T H W 2"]:
    """Where the paint that is at a place at each time (0 … 1 of the clip) came from: displacements back to time 0.

    The field is walked backwards in `substeps` a unit of time, looked up bilinearly where the walk is; times may repeat.
    Such a walk never begins where the field is 0: there, what moves in straight lines from elsewhere arrives (`arriving`).
    """
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    out = np.zeros((len(times), height, width, 2), np.float32)
    for k, time in enumerate(times):
        back = np.zeros((height, width, 2), np.float32)
        count = max(1, int(np.ceil(abs(time) * substeps)))
        for _ in range(count):
            there = cv2.remap(
                flow, x + back[..., 0], y + back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            back -= there * np.float32(time / count)
        came, weight = arriving(flow, time)
        stuck = np.hypot(back[..., 0], back[..., 1]) < 0.5 * np.hypot(came[..., 0], came[..., 1])
        out[k] = np.where((stuck & (weight > 0.25))[..., None], came, back)
    return out


def arriving(flow: Field, time: float) -> tuple[Field, Float[np.ndarray, "H W"]]:
    """Every place's paint sent along its own straight way to `time`: the way back from where it arrives, and how much does.

    Where several arrive, those that go farther count for more: what moves passes before what stands.
    """
    height, width = flow.shape[:2]
    length = np.hypot(flow[..., 0], flow[..., 1])
    share = (length / max(float(length.max()), 1e-9)).ravel().astype(np.float64)
    way = flow.reshape(-1, 2).astype(np.float64) * time
    row, column = np.divmod(np.arange(height * width), width)
    total, weight = np.zeros((height * width, 2)), np.zeros(height * width)
    left, top = np.floor(column + way[:, 0]).astype(int), np.floor(row + way[:, 1]).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            near = (1 - np.abs(column + way[:, 0] - left - dx)) * (1 - np.abs(row + way[:, 1] - top - dy)) * share
            inside = (left + dx >= 0) & (left + dx < width) & (top + dy >= 0) & (top + dy < height)
            at, part = ((top + dy) * width + left + dx)[inside], near[inside]
            weight += np.bincount(at, part, height * width)
            for axis in (0, 1):
                total[:, axis] -= np.bincount(at, part * way[inside, axis], height * width)
    back = total / np.maximum(weight, 1e-9)[:, None]
    return back.reshape(height, width, 2).astype(np.float32), weight.reshape(height, width).astype(np.float32)
