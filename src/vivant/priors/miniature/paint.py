"""Painting the frames: the painting itself carried along a low-resolution motion field, at its own size.

A frame is laid in sheets. The painting lies at the bottom, with what travels away painted over from its surround. What
moves in its place (a sky, water) is a sheet continued behind everything still, so that a drifting sky never drags a
tower along. What travels (a boat, a bird) is cut out and laid on top. Where nothing moves the frame is the painting, to
the bit; at rest every sheet is the painting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from .around import Lifted
from .behind import behind
from .edges import WORK, along_edges, continued, cropped, fill, mix, mount, resize, slender, smaller, step
from .keys import bent, between
from .travel import carried, followed, spread, travelling

QUIET = 0.0015
"""displacement, as a fraction of the sides, under which a place counts as still"""
DIM = 0.01
"""relative change of light under which a place counts as steady"""
CYCLE = 0.07
"""how far a drift goes, as a fraction of the sides, before a loop fades it into itself"""
GRAIN = 0.006
"""how fine a painting's texture is taken to be, as a fraction of the longer side"""
LEFT_BEHIND = 4
"""pixels at work size around a thing cut out for an arrow that go with it: what its outline missed must not stay"""
LEAST_WAY = 1.5
"""pixels; a thing that goes less far is not lifted"""
SHORT = (0.025, 0.005)
"""displacement, as a fraction of the sides, that drags nothing visible along: in a small patch, and in a wide one"""
WIDE = 3.0
"""cells over which a patch is looked at for that"""
MOST_THINGS = 6
"""travelling things that are cut out, the largest first"""


def frames(
    painting: UInt8[np.ndarray, "H W 3"],
    field: Float[np.ndarray, "L 3 h w"],
    count: int,
    support: Float[np.ndarray, "h w"] | None = None,
    travels: Float[np.ndarray, "h w"] | None = None,
    things: Sequence[Lifted] = (),
    loop: bool = False,
    arrive: bool = False,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames 0 … count-1 of a clip.

    `field[k]` is the state at time (k+1)/L: backward displacement dx, dy in fractions of width and height (frame(p) =
    painting(p + d(p))) and a relative gain of light. Frame 0 is the painting; frame i is at time i/(count-1). `support`:
    what may move within its own outline (sky, water), `travels`: what takes its outline along (boats, birds), both in
    [0, 1]; without them, that is read from the field. `things`: what goes its own, even way, whatever the field says. Memory does not grow with `count`. `loop`: the frame after the
    last is the first. `arrive`: the last frame, not the first, is the painting; all moves towards it.
    """
    height, width = painting.shape[:2]
    top, bottom, left, right = mount(painting)
    window = (slice(top, height - bottom), slice(left, width - right))
    state: np.ndarray = np.asarray(field, np.float32).transpose(0, 2, 3, 1)
    if top + bottom + left + right:
        box = (left / width, top / height, 1 - right / width, 1 - bottom / height)
        state = np.stack([cropped(s, box) for s in state]) / np.array([box[2] - box[0], box[3] - box[1], 1], np.float32)
        support, travels = (None if m is None else cropped(m, box) for m in (support, travels))
        things = framed(things, box)
    sheets = Sheets(np.ascontiguousarray(painting[window]), state, support, travels, things)
    if loop:
        sheets.close()
    sheets.arrives = np.float32(arrive)
    for i in range(count):
        frame = painting.copy()
        if i != (count - 1 if arrive else 0) and not sheets.idle:
            frame[window] = sheets.paint(i / count if loop else i / (count - 1))
        yield frame


def framed(things: Sequence[Lifted], box: tuple[float, float, float, float]) -> list[Lifted]:
    """Things as seen in the part `box` (x0, y0, x1, y1 in fractions) of the picture."""
    size = np.array([box[2] - box[0], box[3] - box[1]], np.float32)
    return [thing._replace(outline=cropped(thing.outline, box), way=thing.way / size) for thing in things]


def evenly(pace: Float[np.ndarray, "2"], keys: int) -> Float[np.ndarray, "L 2"]:
    """The way of what goes `pace` a keyframe."""
    return np.arange(1, keys + 1)[:, None] * pace


class _Thing(NamedTuple):
    """Something cut out of the painting: its outline `cut` (h w) and paint, from (x, y) on, its way in pixels (L 2), the
    cells `mine` where it starts, and what of its way lies in one keyframe, in fractions, where that is told."""

    cut: np.ndarray
    paint: np.ndarray
    x: int
    y: int
    way: np.ndarray
    mine: np.ndarray
    pace: np.ndarray | None


class Sheets:
    """What is computed once per clip: masks along the painting's edges, the sheets of paint, the travelling things."""

    def __init__(
        self, painting: np.ndarray, field: np.ndarray, support: np.ndarray | None, travels: np.ndarray | None,
        lifted: Sequence[Lifted] = (),
    ) -> None:  # fmt: skip
        height, width = painting.shape[:2]
        self.painting, self.native = painting, (width, height)
        self.guide = smaller(painting, WORK).astype(np.float32) / 255
        self.work = self.guide.shape[1::-1]
        self.asked = np.ones(field.shape[1:3], np.float32)
        if support is not None:
            wide = support if travels is None else np.maximum(support, spread(travels, len(travels) // 3))
            self.asked = step(wide, 0.02, 0.3)
        whole = self._soft(field)
        reach, light = np.hypot(whole[..., 0], whole[..., 1]).max(0), np.abs(whole[..., 2]).max(0)
        self.shines, self.stirs = step(light, DIM / 2, 2 * DIM), step(reach, 0.7 * QUIET, 1.7 * QUIET)
        self.gain, move = self.told(field)
        self.lit, moves = bool(light.max() > DIM), bool(reach.max() > QUIET)
        moves |= bool(lifted)
        self.idle = not (self.lit or moves)
        self.cover: np.ndarray | None = None
        self.carry: np.ndarray | None = None
        self.cycles = 0
        self.lively = False
        self.arrives = np.float32(0)
        self.things: list[_Thing] = []
        if not moves:
            return
        origin = travelling(move, reach, QUIET) if travels is None else travels
        lift = bool(lifted) or origin.max() > 0.35
        clean, crossed = self._lift(move, np.asarray(origin, np.float32), lifted) if lift else (painting, reach < 0)
        reach = np.where(crossed & (support is None), 0, np.hypot(move[..., 0], move[..., 1]).max(0))
        if reach.max() > QUIET:
            self._drift(clean, move, reach, crossed, support)

    def _soft(self, field: np.ndarray) -> np.ndarray:
        return np.stack([cv2.GaussianBlur(f, (0, 0), 0.5) for f in field * self.asked[None, ..., None]])

    def told(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Light (L h w) and displacement (L h w 2) of a field (L h w 3), where this clip lets anything happen."""
        soft = self._soft(field)
        return soft[..., 2] * self.shines, soft[..., :2] * self.stirs[..., None]

    def _drift(
        self, clean: np.ndarray, move: np.ndarray, reach: np.ndarray, crossed: np.ndarray, support: np.ndarray | None
    ) -> None:
        """The sheet of what moves in its place: `cover` (H W), `sheet` (H W 3) and its displacement `flow` (L h w 2)."""
        near = cv2.GaussianBlur(spread(reach, 3), (0, 0), 1.5)
        rough = step(reach / np.maximum(near, 2 * QUIET), 0.05, 0.95)
        if support is not None:
            rough = np.minimum(step(support, 0.2, 0.8), step(reach, 0.7 * QUIET, 1.7 * QUIET))
        mask, likely, clear = along_edges(self.guide, rough, (0.55, 0.75))
        # A short way drags nothing visible along, and the painting's own paint is better than any filling. Before a wide sky
        # or sea even a short one shows, and there is enough of it to fill with.
        pace = fill(reach[..., None], rough**4)[..., 0]
        wide = step(cv2.GaussianBlur(rough, (0, 0), WIDE), 0.35, 0.65)
        least = SHORT[0] + wide * (SHORT[1] - SHORT[0])
        clear = clear * resize(step(pace / least, 1.0, 2.4), self.work)
        # Without an edge to follow, motion dies away smoothly and the sheet is the painting itself.
        clear_low = cv2.resize(clear, rough.shape[::-1], interpolation=cv2.INTER_AREA)[..., None]
        dying = resize(
            step(reach, 0.7 * QUIET, 2 * QUIET) * (1 if support is None else step(support, 0.02, 0.5)), self.work
        )
        thin = spread(slender(self.guide, mask < 0.5).astype(np.float32), 1)
        mask = np.minimum(clear * mask + (1 - clear) * dying, 1 - cv2.GaussianBlur(thin, (0, 0), 0.7))
        self.where = (crossed, rough, clear_low)
        self.flow = self.sheets_flow(move)
        self.cover = np.clip(resize(mask, self.native), 0, 1)
        core = cv2.erode(((mask > 0.95) & (likely > 0.68)).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        self.sheet = mix(clean, continued(clean, core, self.work), np.clip(resize(clear, self.native), 0, 1))

    def sheets_flow(self, move: np.ndarray) -> np.ndarray:
        """How the sheet moves (L h w 2): as its sure places do, beyond what is drawn over it."""
        crossed, rough, clear = self.where
        steady = np.stack([fill(m, np.where(crossed, 0, rough**4)) for m in move])
        raw = np.where(crossed[..., None], steady, move)
        return raw + clear * (steady - raw)

    def _lift(self, move: np.ndarray, origin: np.ndarray, lifted: Sequence[Lifted]) -> tuple[np.ndarray, np.ndarray]:
        """Cut out the things, and what starts at `origin` (h w). Returns the painting without them (H W 3) and the cells
        they cross (h w)."""
        crossed = np.zeros(origin.shape, bool)
        whole = np.zeros(self.work[::-1], np.float32)
        for thing in lifted:
            if np.hypot(*(thing.way * self.native)) < LEAST_WAY:
                continue
            mine = cv2.resize(thing.outline, origin.shape[::-1], interpolation=cv2.INTER_AREA)
            pace = thing.way / (thing.keys or len(move))
            crossed |= self._cut(resize(thing.outline, self.work), evenly(pace, len(move)), mine, pace, whole)
        _count, labels, stats, _ = cv2.connectedComponentsWithStats((origin > 0.35).astype(np.uint8))
        # A travelling thing keeps its shape: its way is the motion around it, followed from key to key.
        for label in np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:MOST_THINGS] + 1:
            mine = spread((labels == label).astype(np.float32), 1) * (origin > 0.02)
            way = followed(move, mine)
            if np.hypot(*(way * np.array(self.native, np.float32)).T).max() < LEAST_WAY:
                continue
            mask, _, _ = along_edges(self.guide, np.clip(2 * origin * spread(mine, 1), 0, 1), (0.3, 0.5))
            crossed |= self._cut(spread(mask, 1), way, mine, None, whole)
        if not self.things:
            return self.painting, crossed
        self.hole = np.clip(resize(whole, self.native), 0, 1)
        self.behind = behind(self.painting, spread(whole, 2) >= 0.02, 3)
        return self.behind, crossed

    def _cut(
        self, mask: np.ndarray, way: np.ndarray, mine: np.ndarray, pace: np.ndarray | None, whole: np.ndarray
    ) -> np.ndarray:
        """Make a thing of what a mask at work size covers, and add it to `whole`. Returns the cells it crosses (h w)."""
        if mask.max() < 0.5:
            return np.zeros(mine.shape, bool)
        # A tight outline would cut off a mast: things are lifted with a rim of what surrounds them.
        mask = cv2.GaussianBlur(spread(mask, 1), (0, 0), 1.0)
        rim = 0 if pace is None else LEFT_BEHIND
        np.maximum(whole, spread(mask, rim), out=whole)
        cut = np.clip(resize(mask, self.native), 0, 1)
        x, y, w, h = cv2.boundingRect((cut > 0.004).astype(np.uint8))
        box = (slice(y, y + h), slice(x, x + w))
        path = way * np.array(self.native, np.float32)
        self.things.append(_Thing(cut[box].copy(), self.painting[box].copy(), x, y, path, mine, pace))
        passed = np.max([spread(carried(mine, w), 2) > 0 for w in way.astype(np.float32)], 0)
        return np.asarray(passed | (spread(mine, 2) > 0))

    def way(self, thing: _Thing, move: np.ndarray) -> np.ndarray:
        """The way of one of the things through another window's motion, in fractions of the sides (L 2)."""
        if thing.pace is not None:
            return evenly(thing.pace, len(move))
        return followed(move, thing.mine)

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
        back = (1 - np.cos(2 * np.pi * u)) / 2 * len(self.gain) if self.cycles else at
        ways = [between(t.way, back) - self.arrives * t.way[-1] for t in self.things]
        flow = None if self.cover is None else between(self.flow, at) - self.arrives * self.flow[-1]
        light = between(self.gain, at) - self.arrives * self.gain[-1]
        return self.lay(ways, flow, (self.cycles * u) % 1.0, light)

    def lay(self, ways: list[np.ndarray], flow: np.ndarray | None, phase: float, light: np.ndarray) -> np.ndarray:
        """The frame (H W 3): how far each thing has come (pixels), the sheet's displacement, its drift's phase, the light."""
        out = self.painting
        if ways:
            away = min(max(float(np.hypot(*way)) for way in ways) / 1.5, 1.0)
            out = mix(out, self.behind, self.hole * np.float32(away))
        if flow is not None:
            if self.carry is None:
                out = self._carried(out, flow)
            else:
                now, before = (self._carried(out, flow + np.float32(p) * self.carry) for p in (phase, phase - 1))
                out = self.fade(now, before, phase)
        for thing, way in zip(self.things, ways, strict=True):
            self._lay(out, thing, way)
        if self.lit:
            gain = 1 + resize(light, self.native)
            out = cv2.multiply(out, cv2.merge([gain] * 3), dtype=cv2.CV_8U)
        return out

    def fade(self, now: np.ndarray, before: np.ndarray, phase: float) -> np.ndarray:
        """One frame of the drift's two phases; `lively`: with the contrast that two textures lose in being averaged."""
        mixed = cv2.addWeighted(now, 1 - phase, before, phase, 0)
        if not self.lively or self.carry is None:
            return mixed
        width, height = self.native
        apart = np.hypot(self.carry[..., 0] * width, self.carry[..., 1] * height) / (GRAIN * max(width, height))
        # Weights p and 1-p leave 1 - 2p(1-p)(1-ρ) of the variance of textures that correlate by ρ.
        unlike = 1 - np.exp(-(apart**2))
        boost = resize(1 / np.sqrt(1 - 2 * phase * (1 - phase) * unlike), self.native)
        size = max(3, round(GRAIN * 4 * max(width, height)))
        assert self.cover is not None
        return mix(mixed, cv2.blur(mixed, (size, size)), (1 - boost) * self.cover)

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
