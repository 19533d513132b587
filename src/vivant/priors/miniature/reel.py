"""Motion without end: a film painted from one window of motion after another, the painting as its only paint.

A window tells displacement from its own beginning. What comes and goes is composed with where the window before left it,
and eased back to its place within a window; what drifts is carried on by Eulerian advection in two cross-faded phases, so
that no paint is ever fetched from farther than one cycle; what travels goes its way, and slowly comes to rest. Masks and sheets are those of the
first window: nothing is cut out anew at a join.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from .around import Lifted
from .edges import cropped, mount, step
from .keys import Track, bent, composed, eased
from .paint import CYCLE, Sheets, framed

SLOWEST = 0.004
"""drift over a window, as a fraction of the sides, under which nothing is carried"""
FARTHEST = 2.0
"""how far what travels gets before it comes to rest, in ways of the first window: beyond, it would run aground"""


class Reel:
    """A film of one painting. Give it windows with `go_on`, and `paint` frames of the window it is at."""

    def __init__(
        self, painting: UInt8[np.ndarray, "H W 3"],
        support: Float[np.ndarray, "h w"] | None = None, travels: Float[np.ndarray, "h w"] | None = None,
        things: Sequence[Lifted] = (),
    ) -> None:  # fmt: skip
        """`support`, `travels`, `things`: as `paint.frames` takes them; without `keys` of its own a thing goes its way in a window."""
        height, width = painting.shape[:2]
        top, bottom, left, right = mount(painting)
        self.painting = painting
        self.window = (slice(top, height - bottom), slice(left, width - right))
        self.box = (left / width, top / height, 1 - right / width, 1 - bottom / height)
        self.framed = bool(top + bottom + left + right)
        self.support, self.travels = (None if m is None else self._inside(m) for m in (support, travels))
        self.things = framed(things, self.box) if self.framed else list(things)
        self.sheets: Sheets | None = None
        self.swing, self.light, self.ways = Track(), Track(), Track()
        self.drifts: np.ndarray | None = None
        self.reach: np.ndarray = np.zeros(0)
        self.rate, self.phase, self.length = 0.0, 0.0, 0
        self.carry_from: np.ndarray | None = None
        self.carry_to: np.ndarray | None = None

    def _inside(self, x: np.ndarray) -> np.ndarray:
        return cropped(x, self.box) if self.framed else x

    def go_on(self, field: Float[np.ndarray, "l 3 h w"]) -> None:
        """The next window: displacement since its beginning in fractions of the sides, and light, at each keyframe."""
        state: np.ndarray = np.asarray(field, np.float32).transpose(0, 2, 3, 1)
        if self.framed:
            size = np.array([self.box[2] - self.box[0], self.box[3] - self.box[1], 1], np.float32)
            state = np.stack([self._inside(s) for s in state]) / size
        first = self.sheets is None
        if self.sheets is None:
            self.sheets = Sheets(
                np.ascontiguousarray(self.painting[self.window]), state, self.support, self.travels, self.things
            )
            self.sheets.lively = True
        sheets = self.sheets
        if sheets.idle:
            return
        self.phase = (self.phase + self.rate * self.length) % 1.0
        self.length = len(state)
        gain, move = sheets.told(state)
        fade = eased(self.length)
        lit = self.light.end
        self.light.go_on(gain if lit is None else gain + fade[:, None, None] * lit)
        if sheets.things:
            size = np.array(sheets.native, np.float32)
            ways = np.stack([sheets.way(thing, move) * size for thing in sheets.things], 1)
            if first:
                told = np.array([thing.pace is not None for thing in sheets.things])
                self.reach = np.where(told, np.inf, FARTHEST * np.linalg.norm(ways, axis=-1).max(0))
            self.ways.go_on(ways if self.ways.end is None else ways + self.ways.end)
        if sheets.cover is None:
            return
        flow = sheets.flow if first else sheets.sheets_flow(move)
        if first:
            self._classify(flow)
        assert self.drifts is not None
        drift = self.drifts * flow[-1]
        share = np.arange(1, self.length + 1, dtype=np.float32)[:, None, None, None] / self.length
        swing = flow - share * drift
        left = self.swing.end
        if left is not None:
            swing = np.stack([composed(f * left, s) for f, s in zip(fade, swing, strict=True)])
        self.swing.go_on(swing)
        if self.rate > 0:
            self.carry_from = self.carry_to
            self.carry_to = (drift / (self.rate * self.length)).astype(np.float32)

    def _classify(self, flow: np.ndarray) -> None:
        """What drifts (h w 1, 0..1), rather than comes and goes, and how many cycles a keyframe that takes."""
        far, aside = (np.linalg.norm(v, axis=-1) for v in (flow[-1], bent(flow)))
        self.drifts = step(far / np.maximum(aside.max(0), 1e-4), 1.2, 2.5)[..., None].astype(np.float32)
        farthest = float((far * self.drifts[..., 0]).max())
        self.rate = farthest / CYCLE / len(flow) if farthest > SLOWEST else 0.0
        if self.rate == 0:
            self.drifts = np.zeros_like(self.drifts)

    def paint(self, t: float) -> UInt8[np.ndarray, "H W 3"]:
        """The frame `t` keyframes into the window, in [0, l]."""
        frame = self.painting.copy()
        sheets = self.sheets
        if sheets is None or sheets.idle:
            return frame
        ways = [_slowing(w, r) for w, r in zip(self.ways.at(t), self.reach, strict=True)] if sheets.things else []
        flow = None if sheets.cover is None else self.swing.at(t)
        if self.carry_to is not None:
            u = t / self.length
            u = u * u * (3 - 2 * u)
            before = self.carry_to if self.carry_from is None else self.carry_from
            sheets.carry = before + np.float32(u) * (self.carry_to - before)
        frame[self.window] = sheets.lay(ways, flow, (self.phase + self.rate * t) % 1.0, self.light.at(t))
        return frame


def _slowing(way: np.ndarray, reach: float) -> np.ndarray:
    """A way in pixels that ends at `reach`, and is itself while it is short."""
    far = float(np.linalg.norm(way)) / max(float(reach), 1e-6)
    return way * (np.tanh(far) / far) if far > 1e-6 else way


class Film:
    """The frames of a film of `total`, where a window of `keys` keyframes lasts `frames`: frame i at time i/frames."""

    def __init__(self, reel: Reel, total: int, keys: int, frames: int) -> None:
        self.reel, self.total, self.keys, self.frames = reel, total, keys, frames
        self.passed, self.length = 0, 0
        self.next = 0

    def go_on(self, field: Float[np.ndarray, "l 3 h w"]) -> range:
        """The next stretch, and the numbers of the frames that lie in it."""
        self.passed += self.length
        self.length = len(field)
        self.reel.go_on(field)
        end = min((self.passed + self.length) * self.frames // self.keys + 1, self.total)
        mine = range(self.next, end)
        self.next = max(self.next, end)
        return mine

    def paint(self, numbers: range) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Frames of the present stretch."""
        for i in numbers:
            yield self.reel.paint(min(i * self.keys / self.frames - self.passed, self.length))
