"""The shapes of an SVG drawing as polygons: enough of the format for masks drawn over a painting."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np

from ..errors import ImageError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
CURVE = 24
"""straight pieces of a curve"""
SHAPES = ("path", "polygon", "polyline", "rect", "circle", "ellipse")
UNSEEN = ("defs", "clipPath", "mask", "symbol", "pattern", "marker", "metadata")
"""what a drawing keeps but does not show"""

Ring = list[tuple[float, float]]


def drawn(text: str, label: str = "") -> list[list[Ring]]:
    """Every shape that shows, in fractions of the drawing's area (its viewBox, or its width and height).

    A shape is its rings, by the even-odd rule; whether it is filled or only outlined makes no difference.
    `label`: only the shape or group of that id or Inkscape label. Raises `ImageError`.
    """
    # Entities could make a few lines into gigabytes; drawing programs write none that matter.
    if "<!ENTITY" in text:
        raise ImageError("expected a plain SVG drawing, this one defines entities; save it as plain SVG")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ImageError(f"expected an SVG drawing, it is damaged: {error}") from error
    if _tag(root) != "svg":
        raise ImageError(f"expected an SVG drawing, got <{_tag(root)}>")
    frame = _numbers(root.get("viewBox", ""))
    if len(frame) != 4:
        sides = [_numbers(root.get(name, "")) for name in ("width", "height")]
        frame = [0.0, 0.0, *(side[0] for side in sides)] if all(sides) else []
    if len(frame) != 4 or frame[2] <= 0 or frame[3] <= 0:
        raise ImageError("expected an SVG drawing with a viewBox, or a width and a height")
    names: list[str] = []
    shapes = [
        [[((x - frame[0]) / frame[2], (y - frame[1]) / frame[3]) for x, y in ring] for ring in rings]
        for rings in _walk(root, np.eye(3), label, not label, names)
    ]
    if not shapes:
        what = (
            f"a shape of the id or label {label!r} (there are: {', '.join(names[:8]) or 'none'})"
            if label
            else "a shape"
        )
        raise ImageError(f"expected {what} in the drawing, found none")
    return shapes


def _walk(
    node: ElementTree.Element, outer: np.ndarray, label: str, inside: bool, names: list[str]
) -> Iterator[list[Ring]]:
    mine = [v for k, v in node.attrib.items() if k == "id" or k.endswith("}label")]
    names.extend(mine[:1] if _tag(node) in (*SHAPES, "g") else [])
    inside = inside or label in mine
    here = outer @ _transform(node.get("transform", ""))
    if inside and _tag(node) in SHAPES:
        rings = [
            [(float(x), float(y)) for x, y in (np.c_[np.array(ring), np.ones(len(ring))] @ here.T)[:, :2]]
            for ring in _outline(node)
            if len(ring) > 2
        ]
        if rings:
            yield rings
    for child in node:
        if isinstance(child.tag, str) and _tag(child) not in UNSEEN and not _hidden(child):
            yield from _walk(child, here, label, inside, names)


def _hidden(node: ElementTree.Element) -> bool:
    return "none" in (node.get("display"), *re.findall(r"display\s*:\s*(\w+)", node.get("style", "")))


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _numbers(text: str) -> list[float]:
    return [float(v) for v in re.findall(NUMBER, text)]


def _transform(text: str) -> np.ndarray:
    total = np.eye(3)
    for name, inner in re.findall(r"(\w+)\s*\(([^)]*)\)", text):
        v = _numbers(inner)
        m = np.eye(3)
        if name == "matrix" and len(v) == 6:
            m[:2] = np.array(v).reshape(3, 2).T
        elif name == "translate" and v:
            m[:2, 2] = v[0], v[1] if len(v) > 1 else 0
        elif name == "scale" and v:
            m[0, 0], m[1, 1] = v[0], v[1] if len(v) > 1 else v[0]
        elif name == "rotate" and v:
            c, s = math.cos(math.radians(v[0])), math.sin(math.radians(v[0]))
            m[:2, :2] = [[c, -s], [s, c]]
            if len(v) == 3:
                m[:2, 2] = np.array(v[1:]) - m[:2, :2] @ v[1:]
        elif name in ("skewX", "skewY") and v:
            m[(0, 1) if name == "skewX" else (1, 0)] = math.tan(math.radians(v[0]))
        else:
            raise ImageError(f"expected a transform that SVG knows, got {name}({inner[:30]})")
        total = total @ m
    return total


def _outline(node: ElementTree.Element) -> list[Ring]:
    kind = _tag(node)

    def length(name: str, default: float = 0.0) -> float:
        found = _numbers(node.get(name, ""))
        return found[0] if found else default

    if kind == "path":
        return _path(node.get("d", ""))
    if kind in ("polygon", "polyline"):
        v = _numbers(node.get("points", ""))
        return [list(zip(v[::2], v[1::2], strict=False))]
    if kind == "rect":
        x, y, w, h = (length(n) for n in ("x", "y", "width", "height"))
        return [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)]]
    rx, ry = (length("r"),) * 2 if kind == "circle" else (length("rx"), length("ry"))
    turn = np.linspace(0, 2 * np.pi, 4 * CURVE, endpoint=False)
    return [list(zip(length("cx") + rx * np.cos(turn), length("cy") + ry * np.sin(turn), strict=True))]


def _path(d: str) -> list[Ring]:
    """The rings of path data; curves become `CURVE` straight pieces. Complex numbers are points here."""
    rings: list[list[complex]] = []
    at = start = bend = 0j
    last = ""
    arity = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7}
    for letter, inner in re.findall(r"([MmLlHhVvCcSsQqTtAaZz])([^MmLlHhVvCcSsQqTtAaZz]*)", d):
        kind = letter.upper()
        if kind == "Z":
            at, last = start, "Z"
            continue
        v = _arc_numbers(inner) if kind == "A" else _numbers(inner)
        n = arity[kind]
        if len(v) < n or len(v) % n:
            raise ImageError(f"expected path data as SVG has it, got {letter}{inner[:30]!r}")
        for i in range(0, len(v), n):
            a, base = v[i : i + n], at if letter.islower() else 0j
            if kind == "M" and i == 0:
                at = start = base + complex(*a)
                rings.append([at])
                last = kind
                continue
            if not rings or last == "Z":
                rings.append([at])
                start = at
            if kind == "H":
                points = [complex(a[0] + base.real, at.imag)]
            elif kind == "V":
                points = [complex(at.real, a[0] + base.imag)]
            elif kind == "A":
                points = _arc(at, a[0], a[1], a[2], a[3] != 0, a[4] != 0, base + complex(a[5], a[6]))
            else:
                points = [base + complex(x, y) for x, y in zip(a[::2], a[1::2], strict=True)]
                if kind in "ST":  # the first handle mirrors the last one's
                    smooth = last in ("CS" if kind == "S" else "QT") and last
                    points.insert(0, 2 * at - bend if smooth else at)
                if kind in "CSQT":
                    bend = points[-2]
                    points = _bezier([at, *points])
            rings[-1].extend(points)
            at, last = points[-1], kind
    return [[(p.real, p.imag) for p in ring] for ring in rings]


def _bezier(handles: list[complex]) -> list[complex]:
    t = np.linspace(0, 1, CURVE + 1)[1:]
    level = [np.full(CURVE, h) for h in handles]
    while len(level) > 1:  # de Casteljau
        level = [(1 - t) * p + t * q for p, q in pairwise(level)]
    return [complex(p) for p in level[0]]


def _arc_numbers(text: str) -> list[float]:
    # The two flags of an arc may stand without anything between them: "a5 5 0 0110 10".
    out: list[float] = []
    while text := text.lstrip(" \t\r\n,"):
        found = re.match(r"[01]" if len(out) % 7 in (3, 4) else NUMBER, text)
        if found is None:
            raise ImageError(f"expected an arc as SVG has it, got {text[:30]!r}")
        out.append(float(found[0]))
        text = text[found.end() :]
    return out


def _arc(p: complex, rx: float, ry: float, tilt: float, large: bool, sweep: bool, q: complex) -> list[complex]:
    """An elliptical arc from p to q: the centre from the end points (SVG 1.1, F.6.5)."""
    rx, ry = abs(rx), abs(ry)
    if p == q or rx == 0 or ry == 0:
        return [q]
    turn = complex(math.cos(math.radians(tilt)), math.sin(math.radians(tilt)))
    half = (p - q) / 2 * turn.conjugate()
    fit = (half.real / rx) ** 2 + (half.imag / ry) ** 2
    if fit > 1:
        rx, ry, fit = rx * math.sqrt(fit), ry * math.sqrt(fit), 1.0
    side = math.sqrt(1 / fit - 1) * (-1 if large == sweep else 1)
    centre = complex(side * rx * half.imag / ry, -side * ry * half.real / rx)
    angles = [math.atan2((v - centre).imag / ry, (v - centre).real / rx) for v in (half, -half)]
    sweep_by = (angles[1] - angles[0]) % (2 * math.pi)
    if not sweep:
        sweep_by -= 2 * math.pi
    middle = (p + q) / 2 + centre * turn
    steps = angles[0] + sweep_by * np.linspace(0, 1, CURVE + 1)[1:]
    return [*(middle + turn * complex(rx * math.cos(s), ry * math.sin(s)) for s in steps[:-1]), q]
