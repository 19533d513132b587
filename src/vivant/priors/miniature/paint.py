"""Painting the frames: the painting itself carried along a low-resolution motion field, at its own size.

A frame is laid in sheets. The painting lies at the bottom, with what travels away painted over from its surround. What
moves in its place (a sky, water) is a sheet continued behind everything still, so that a drifting sky never drags a
tower along. What travels (a boat, a bird) is cut out and laid on top. Where nothing moves the frame is the painting, to
the bit; at rest every sheet is the painting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from .edges import WORK, along_edges, continued, cropped, fill, mix, mount, overlap, resize, step

QUIET = 0.0015
"""displacement, as a fraction of the sides, under which a place counts as still"""
DIM = 0.01
"""relative change of light under which a place counts as steady"""
CYCLE = 0.07
"""how far a drift goes, as a fraction of the sides, before a loop fades it into itself"""
MOST_THINGS = 6
"""travelling things that are cut out, the largest first"""


def frames(
    painting: UInt8[np.ndarray, "H W 3"],
    field: Float[np.ndarray, "L 3 h w"],
    count: int,
    support: Float[np.ndarray, "h w"] | None = None,
    travels: Float[np.ndarray, "h w"] | None = None,
    loop: bool = False,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames 0 … count-1 of a clip.

    `field[k]` is the state at time (k+1)/L: backward displacement dx, dy in fractions of width and height (frame(p) =
    painting(p + d(p))) and a relative gain of light. Frame 0 is the painting; frame i is at time i/(count-1). `support`:
    what may move within its own outline (sky, water), `travels`: what takes its outline along (boats, birds), both in
    [0, 1]; without them, that is read from the field. Memory does not grow with `count`. `loop`: the frame after the
    last is the first.
    """
    height, width = painting.shape[:2]
    top, bottom, left, right = mount(painting)
    window = (slice(top, height - bottom), slice(left, width - right))
    state: np.ndarray = np.asarray(field, np.float32).transpose(0, 2, 3, 1)
    if top + bottom + left + right:
        box = (left / width, top / height, 1 - right / width, 1 - bottom / height)
        state = np.stack([cropped(s, box) for s in state]) / np.array([box[2] - box[0], box[3] - box[1], 1], np.float32)
        support, travels = (None if m is None else cropped(m, box) for m in (support, travels))
    sheets = _Sheets(np.ascontiguousarray(painting[window]), state, support, travels)
    if loop:
        sheets.close()
    for i in range(count):
        frame = painting.copy()
        if i > 0 and not sheets.idle:
            frame[window] = sheets.paint(i / count if loop else i / (count - 1))
        yield frame


def between(keys: Float[np.ndarray, "L ..."], u: float) -> np.ndarray:
    """The keyframes at time u in [0, L] (keyframe k lies at k+1, rest at 0): a Catmull-Rom spline, smooth in time."""
    count = len(keys)
    k = min(int(u), count - 1)
    f = u - k

    def at(j: int) -> np.ndarray:
        if j < 0:
            return -keys[0]
        if j > count:
            return 2 * keys[-1] - (keys[-2] if count > 1 else 0)
        return keys[j - 1] if j > 0 else np.zeros_like(keys[0])

    w = 0.5 * np.array([-f + 2 * f**2 - f**3, 2 - 5 * f**2 + 3 * f**3, f + 4 * f**2 - 3 * f**3, f**3 - f**2])
    return sum(np.float32(c) * at(k - 1 + j) for j, c in enumerate(w))  # type: ignore[return-value]


def bent(keys: Float[np.ndarray, "L ..."]) -> Float[np.ndarray, "L ..."]:
    """Keyframes whose last is rest: what the clip has gone by its end is taken off evenly along the way."""
    share = (np.arange(1, len(keys) + 1, dtype=np.float32) / len(keys)).reshape(-1, *[1] * (keys.ndim - 1))
    return keys - share * keys[-1]


class _Thing(NamedTuple):
    """Something cut out of the painting: its outline `cut` (h w) and paint, from (x, y) on, and its way in pixels (L 2)."""

    cut: np.ndarray
    paint: np.ndarray
    x: int
    y: int
    way: np.ndarray


class _Sheets:
    """What is computed once per clip: masks along the painting's edges, the sheets of paint, the travelling things."""

    def __init__(
        self, painting: np.ndarray, field: np.ndarray, support: np.ndarray | None, travels: np.ndarray | None
    ) -> None:
        height, width = painting.shape[:2]
        self.painting, self.native = painting, (width, height)
        scale = min(1.0, WORK / max(height, width))
        self.work = (max(8, round(width * scale)), max(8, round(height * scale)))
        self.guide = cv2.resize(painting, self.work, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        if support is not None:
            asked = support if travels is None else np.maximum(support, _spread(travels, len(travels) // 3))
            field = field * step(asked, 0.02, 0.3)[None, ..., None]
        field = np.stack([cv2.GaussianBlur(f, (0, 0), 0.5) for f in field])
        reach, light = np.hypot(field[..., 0], field[..., 1]).max(0), np.abs(field[..., 2]).max(0)
        self.gain = field[..., 2] * step(light, DIM / 2, 2 * DIM)
        move = field[..., :2] * step(reach, 0.7 * QUIET, 1.7 * QUIET)[None, ..., None]
        self.lit, moves = bool(light.max() > DIM), bool(reach.max() > QUIET)
        self.idle = not (self.lit or moves)
        self.cover: np.ndarray | None = None
        self.carry: np.ndarray | None = None
        self.cycles = 0
        self.things: list[_Thing] = []
        if not moves:
            return
        origin = self._travelling(move, reach) if travels is None else travels
        clean, crossed = (
            self._lift(move, np.asarray(origin, np.float32)) if origin.max() > 0.35 else (painting, reach < 0)
        )
        reach = np.where(crossed & (support is None), 0, np.hypot(move[..., 0], move[..., 1]).max(0))
        if reach.max() > QUIET:
            self._drift(clean, move, reach, crossed, support)

    def _drift(
        self, clean: np.ndarray, move: np.ndarray, reach: np.ndarray, crossed: np.ndarray, support: np.ndarray | None
    ) -> None:
        """The sheet of what moves in its place: `cover` (H W), `sheet` (H W 3) and its displacement `flow` (L h w 2)."""
        near = cv2.GaussianBlur(_spread(reach, 3), (0, 0), 1.5)
        rough = step(reach / np.maximum(near, 2 * QUIET), 0.05, 0.95)
        if support is not None:
            rough = np.minimum(step(support, 0.2, 0.8), step(reach, 0.7 * QUIET, 1.7 * QUIET))
        mask, likely, clear = along_edges(self.guide, rough, (0.55, 0.75))
        # A short way drags nothing visible along, and the painting's own paint is better than any filling.
        pace = fill(reach[..., None], rough**4)[..., 0]
        clear = clear * resize(step(pace, 0.025, 0.06), self.work)
        # Without an edge to follow, motion dies away smoothly and the sheet is the painting itself.
        clear_low = cv2.resize(clear, rough.shape[::-1], interpolation=cv2.INTER_AREA)[..., None]
        wide = resize(
            step(reach, 0.7 * QUIET, 2 * QUIET) * (1 if support is None else step(support, 0.02, 0.5)), self.work
        )
        mask = clear * mask + (1 - clear) * wide
        steady = np.stack([fill(m, np.where(crossed, 0, rough**4)) for m in move])
        raw = np.where(crossed[..., None], steady, move)
        self.flow = raw + clear_low * (steady - raw)
        self.cover = np.clip(resize(mask, self.native), 0, 1)
        core = cv2.erode(((mask > 0.95) & (likely > 0.68)).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        self.sheet = mix(clean, continued(clean, core, self.work), np.clip(resize(clear, self.native), 0, 1))

    def _travelling(self, move: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Where things start (h w) that leave their place: their sources stay put while they move on."""
        origin = np.zeros(reach.shape, np.float32)
        if len(move) < 2 or min(reach.shape) < 4:
            return origin
        count, labels = cv2.connectedComponents((reach > QUIET).astype(np.uint8))
        for label in range(1, count):
            speed = np.hypot(move[..., 0], move[..., 1]) * (labels == label)
            peaks = speed.max((1, 2))
            keys = np.flatnonzero(peaks > 0.1 * peaks.max())
            claims = [_sources(m, s > 0.5 * s.max()) for m, s in zip(move[keys], speed[keys], strict=True)]
            last = resize(speed[keys[-1]], claims[0].shape[::-1]) > 0.4 * peaks[keys[-1]]
            first = claims[0] > 0.3
            if overlap(claims[-1] > 0.3, first) > overlap(last, first) + 0.15:
                whole = np.median(claims, 0).astype(np.float32)
                origin = np.maximum(origin, cv2.resize(whole, origin.shape[::-1], interpolation=cv2.INTER_AREA))
        return origin

    def _lift(self, move: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut out what starts at `origin` (h w). Returns the painting without it (H W 3) and the cells it crosses (h w)."""
        rows, columns = origin.shape
        width, height = self.native
        crossed = np.zeros(origin.shape, bool)
        whole = np.zeros(self.work[::-1], np.float32)
        _count, labels, stats, _ = cv2.connectedComponentsWithStats((origin > 0.35).astype(np.uint8))
        # A travelling thing keeps its shape: its way is the motion around it, followed from key to key.
        for label in np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:MOST_THINGS] + 1:
            mine = _spread((labels == label).astype(np.float32), 1) * (origin > 0.02)
            way = [np.zeros(2, np.float32)]
            passed = np.zeros(origin.shape, bool)
            for m in move:
                ahead = np.array([[1, 0, way[-1][0] * columns], [0, 1, way[-1][1] * rows]], np.float32)
                weight = _spread(cv2.warpAffine(mine, ahead, (columns, rows)), 3) * np.hypot(m[..., 0], m[..., 1]) ** 2
                total = float(weight.sum())
                way.append(-(m * weight[..., None]).sum((0, 1)) / total if total > 1e-9 else way[-1])
                ahead[:, 2] = way[-1] * (columns, rows)
                passed |= _spread(cv2.warpAffine(mine, ahead, (columns, rows)), 2) > 0
            path = np.stack(way[1:]) * np.array([width, height], np.float32)
            if np.hypot(*path.T).max() < 1.5:
                continue
            mask, _, _ = along_edges(self.guide, np.clip(2 * origin * _spread(mine, 1), 0, 1), (0.3, 0.5))
            if mask.max() < 0.5:
                continue
            crossed |= passed | (_spread(mine, 2) > 0)
            # A tight outline would cut off a mast: things are lifted with a rim of what surrounds them.
            mask = cv2.GaussianBlur(_spread(mask, 2), (0, 0), 1.0)
            whole = np.maximum(whole, mask)
            cut = np.clip(resize(mask, self.native), 0, 1)
            x, y, w, h = cv2.boundingRect((cut > 0.004).astype(np.uint8))
            box = (slice(y, y + h), slice(x, x + w))
            self.things.append(_Thing(cut[box].copy(), self.painting[box].copy(), x, y, path))
        if not self.things:
            return self.painting, crossed
        self.hole = np.clip(resize(whole, self.native), 0, 1)
        self.behind = continued(self.painting, _spread(whole, 2) < 0.02, self.work, 3)
        return self.behind, crossed

    def close(self) -> None:
        """Bend the clip into a loop.

        What comes and goes is bent so that its end meets its beginning. What drifts goes on, `carry` (h w 2) a cycle, and
        fades into itself a cycle back: Eulerian advection in two phases, as in cinemagraphs. What travels returns.
        """
        self.cycles = 1
        self.gain = bent(self.gain)
        if self.cover is None:
            return
        end, swing = self.flow[-1], bent(self.flow)
        far, aside = (np.linalg.norm(v, axis=-1) for v in (end, swing))
        drifts = step(far / np.maximum(aside.max(0), 1e-4), 1.2, 2.5)[..., None]
        self.cycles = int(np.clip(round(float((far * drifts[..., 0]).max()) / CYCLE), 1, 3))
        self.flow = swing
        if drifts.max() > 0:
            self.carry = (drifts * end / self.cycles).astype(np.float32)

    def paint(self, u: float) -> np.ndarray:
        """The frame (H W 3) at share u of the clip, in [0, 1]."""
        at = u * len(self.gain)
        out = self.painting
        back = (1 - np.cos(2 * np.pi * u)) / 2 * len(self.gain) if self.cycles else at
        ways = [between(t.way, back) for t in self.things]
        if ways:
            away = min(max(float(np.hypot(*way)) for way in ways) / 1.5, 1.0)
            out = mix(out, self.behind, self.hole * np.float32(away))
        if self.cover is not None:
            flow = between(self.flow, at)
            if self.carry is None:
                out = self._carried(out, flow)
            else:
                phase = (self.cycles * u) % 1.0
                now, before = (self._carried(out, flow + np.float32(p) * self.carry) for p in (phase, phase - 1))
                out = cv2.addWeighted(now, 1 - phase, before, phase, 0)
        for thing, way in zip(self.things, ways, strict=True):
            self._lay(out, thing, way)
        if self.lit:
            gain = 1 + resize(between(self.gain, at), self.native)
            out = cv2.multiply(out, cv2.merge([gain] * 3), dtype=cv2.CV_8U)
        return out

    def _carried(self, out: np.ndarray, flow: np.ndarray) -> np.ndarray:
        x, y, far = self._maps(resize(flow, self.native))
        moved = cv2.remap(self.sheet, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        return mix(out, moved, np.ascontiguousarray(self.cover * far))

    def _lay(self, out: np.ndarray, thing: _Thing, way: np.ndarray) -> None:
        """Lay a thing over the frame, where its way (pixels) has brought it."""
        width, height = self.native
        x, y = (int(np.floor(a + b)) for a, b in zip((thing.x, thing.y), way, strict=True))
        h, w = thing.cut.shape
        carry = np.array([[1, 0, thing.x + way[0] - x], [0, 1, thing.y + way[1] - y]], np.float32)
        moved = cv2.warpAffine(
            thing.paint, carry, (w + 1, h + 1), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        cut = cv2.warpAffine(thing.cut, carry, (w + 1, h + 1), flags=cv2.INTER_LINEAR)
        rows, columns = slice(max(y, 0), min(y + h + 1, height)), slice(max(x, 0), min(x + w + 1, width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        part = (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))
        below, above, weight = (np.ascontiguousarray(a) for a in (out[rows, columns], moved[part], cut[part]))
        out[rows, columns] = mix(below, above, weight)

    def _maps(self, move: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each pixel looks (x, y in pixels), and how far from rest that is, in [0, 1]."""
        width, height = self.native
        dx, dy = move[..., 0] * width, move[..., 1] * height
        far = np.minimum(cv2.magnitude(dx, dy) * np.float32(1 / 1.5), 1)
        return dx + np.arange(width, dtype=np.float32), dy + np.arange(height, dtype=np.float32)[:, None], far


def _spread(x: np.ndarray, cells: int) -> np.ndarray:
    return cv2.dilate(x, np.ones((2 * cells + 1, 2 * cells + 1), np.uint8))


def _sources(move: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The places (4h 4w) that the active cells (h w) look at through `move` (h w 2)."""
    rows, columns = 4 * active.shape[0], 4 * active.shape[1]
    fine = (
        resize(move * active[..., None], (columns, rows)) / np.maximum(resize(active, (columns, rows)), 0.1)[..., None]
    )
    y, x = np.nonzero(resize(active, (columns, rows)) > 0.5)
    tx, ty = np.rint(x + fine[y, x, 0] * columns), np.rint(y + fine[y, x, 1] * rows)
    ok = (tx >= 0) & (tx < columns) & (ty >= 0) & (ty < rows)
    hits = np.bincount((ty[ok] * columns + tx[ok]).astype(int), minlength=rows * columns).reshape(rows, columns)
    return cv2.GaussianBlur(np.minimum(hits, 1).astype(np.float32), (0, 0), 0.8)
