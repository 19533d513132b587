"""What an arrow takes along: the thing it starts on, as far as the painting's own edges say that it is one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ...shot import Arrow
from .cutout import thing_at
from .edges import smaller, step
from .sky import ALIKE, FINE, LARGEST_PIECE, SKY, unbroken

NEAR = 5
"""cells around its start as far as an arrow lets things move that do not move as a whole"""
SAME = (0.35, 0.65)
"""the span of likeness with the start, from another thing to the same"""
EDGE = 10
"""how much neighbouring pixels differ at most, in Lab, where paint that does not move as a whole hangs together"""
SURE = 0.6
"""the chance from which the reader is believed about what an arrow starts on, whatever the sentence says"""
BESIDE = 2
"""cells within which a thing that the sentence names is taken for what is meant"""


class Lifted(NamedTuple):
    """A thing that an arrow takes along whole: its outline (H W), 0 or 1, its way in fractions of the sides (x, y), and
    over how many keyframes it goes it (None: those of the clip)."""

    outline: Float[np.ndarray, "H W"]
    way: Float[np.ndarray, "2"]
    keys: float | None = None


class Taken(NamedTuple):
    """What the arrows let move within its own outline and what takes its outline along, both in [0, 1]; of the latter,
    the things that were cut out, and the subjects they are of."""

    stays: Float[np.ndarray, "h w"]
    leaves: Float[np.ndarray, "h w"]
    things: tuple[Lifted, ...]
    subjects: frozenset[int]


def around(
    arrows: Sequence[Arrow],
    where: Float[np.ndarray, "K h w"],
    painting: UInt8[np.ndarray, "H W 3"],
    named: Sequence[int],
    travellers: Sequence[int],
    inside: Float[np.ndarray, "H W"] | None = None,
) -> Taken:
    """What arrows take along.

    `where`: the chance of each subject; `named`: those the sentence names; `travellers`: those that move as a whole, which
    are cut out of the painting; `inside`: the mask. An arrow takes what is of a kind with its start (the likeness of
    `controls.refine.likened`), or the named thing beside it where the reader is not sure. No piece of one colour is cut
    through, and the one an arrow starts on goes with it. Arrows of no length take nothing along.
    """
    height, width = where.shape[1:]
    stays, leaves = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    things: list[Lifted] = []
    subjects: set[int] = set()
    y, x = np.mgrid[0:height, 0:width]
    for arrow in arrows:
        if (arrow.x0, arrow.y0) == (arrow.x1, arrow.y1):
            continue
        row, column = min(int(arrow.y0 * height), height - 1), min(int(arrow.x0 * width), width - 1)
        own = where[:, row, column]
        meant = _meant(where, row, column, named)
        going = [k for k in named if k in travellers]
        # "The ship sails", and an arrow on what the reader takes for water: if a thing stands out there, it is the ship's.
        doubtful = meant is None and len(going) == 1 and int(own.argmax()) not in named
        if doubtful:
            meant = going[0]
        if meant is not None:
            own = np.eye(len(where), dtype=np.float32)[meant]
        likeness = _likeness(own, where)
        whole = bool(own[list(travellers)].sum() > 0.5)
        piece = piece_at(painting, arrow.x0, arrow.y0, ALIKE if whole else EDGE)
        if whole:
            outline = thing_at(painting, arrow.x0, arrow.y0, likeness, piece, inside, doubtful)
            if outline is not None:
                way = np.array([arrow.x1 - arrow.x0, arrow.y1 - arrow.y0]) * arrow.speed
                things.append(Lifted(outline, way.astype(np.float32)))
                subjects.add(int(own.argmax()))
                leaves = np.maximum(leaves, cv2.resize(outline, (width, height), interpolation=cv2.INTER_AREA))
                continue
            if doubtful:  # nothing does: it is what the reader takes it for
                own, whole = where[:, row, column], False
                likeness = _likeness(own, where)
                piece = piece_at(painting, arrow.x0, arrow.y0, EDGE)
        told = not whole and SKY in named and own[SKY] >= SURE
        alike = unbroken(painting, step(likeness, *SAME).astype(np.float32))
        if not told and (not whole or piece.mean() <= LARGEST_PIECE):  # where the sentence says what moves, it does
            alike = np.maximum(alike, cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA))
        alike[row, column] = 1
        if whole:
            _, labels = cv2.connectedComponents((alike > 0.3).astype(np.uint8))
            leaves = np.maximum(leaves, alike * (labels == labels[row, column]))
        else:
            stays = np.maximum(stays, alike * (np.maximum(np.abs(y - row), np.abs(x - column)) <= NEAR))
    return Taken(stays, leaves, _together(things), frozenset(subjects))


def _likeness(own: Float[np.ndarray, " K"], where: Float[np.ndarray, "K h w"]) -> Float[np.ndarray, "h w"]:
    """How much of a kind each place is with one of which the reader believes `own`; 1 for itself."""
    return np.asarray(np.tensordot(own, where, 1) / max(float(own @ own), 1e-9))


def _together(things: Sequence[Lifted]) -> tuple[Lifted, ...]:
    """Things of which one lies mostly within the other are one, which goes the mean of their ways."""
    out: list[list[Lifted]] = []
    for thing in things:
        for group in out:
            shared = float((group[0].outline * thing.outline).sum())
            if shared > 0.5 * min(float(group[0].outline.sum()), float(thing.outline.sum())):
                group.append(thing)
                break
        else:
            out.append([thing])
    return tuple(
        Lifted(np.max([t.outline for t in group], 0), np.asarray(np.mean([t.way for t in group], 0), np.float32))
        for group in out
    )


def _meant(where: Float[np.ndarray, "K h w"], row: int, column: int, named: Sequence[int]) -> int | None:
    """The named subject beside a place where the reader is not sure of any."""
    if not named or float(where[:, row, column].max()) >= SURE:
        return None
    near = where[:, max(row - BESIDE, 0) : row + BESIDE + 1, max(column - BESIDE, 0) : column + BESIDE + 1]
    best = max(named, key=lambda k: float(near[k].max()))
    return best if float(near[best].max()) > 0.3 else None


def piece_at(painting: UInt8[np.ndarray, "H W 3"], x: float, y: float, edge: int = ALIKE) -> Float[np.ndarray, "h w"]:
    """The piece at a place (fractions of the sides), 1 and 0, at most `sky.FINE` pixels a side.

    Neighbours belong to it that differ by at most `edge` in Lab, after mean shift.
    """
    small = smaller(painting, FINE)
    size = small.shape[1::-1]
    flat = cv2.cvtColor(cv2.pyrMeanShiftFiltering(small, 6, 14), cv2.COLOR_RGB2LAB)
    seen = np.zeros((size[1] + 2, size[0] + 2), np.uint8)
    start = (min(int(x * size[0]), size[0] - 1), min(int(y * size[1]), size[1] - 1))
    cv2.floodFill(flat, seen, start, 0, (edge,) * 3, (edge,) * 3, 4 | cv2.FLOODFILL_MASK_ONLY | (1 << 8))
    return seen[1:-1, 1:-1].astype(np.float32)
