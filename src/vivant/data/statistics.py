"""A page about a data set, after DynamiCrafter's fig. 12: categories, confidence, words, lengths, motion; one file, no scripts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from . import captions
from .describe import CATEGORIES

COLOURS = {
    "human": "#4477aa", "animal": "#ee6677", "nature": "#228833", "machine": "#ccbb44", "others": "#66ccee", "none": "#999999"
}  # fmt: skip
WORDS = 24
_COMMON = set(
    "a an the of and in on at with to is are his her its their from by for as it this that into over up down out off"
    " through while near against around along under one two some none".split()
)

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
main { columns: 22rem; column-gap: 1.5rem; }
section { border: 1px solid #8886; border-radius: .5rem; padding: 1rem; margin-bottom: 1.5rem; break-inside: avoid; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; } svg text { fill: currentColor; }
svg line { stroke: currentColor; opacity: .4; }
p { margin: .3rem 0; } .note { opacity: .75; font-size: .85rem; }
table { border-collapse: collapse; font-size: .85rem; } td, th { padding: .1rem .6rem .1rem 0; text-align: left; }
summary { cursor: pointer; font-size: .85rem; opacity: .75; }
"""

Bars = Sequence[tuple[str, float, str]]
"""(name, value, colour)"""


def page(kept: Sequence[Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]], title: str) -> str:
    """The whole page as HTML. Rows as `annotate` makes them; what none of them tells has no chart."""
    total = len(kept) + len(dropped)
    seconds = sum(row.get("seconds", 0) for row in kept)
    said = sum(bool(row.get("caption")) for row in kept)
    blocks = [
        _categories(kept), _confidence(kept), _words(kept),
        _histogram("Length", [r["seconds"] for r in kept], "seconds"),
        _histogram("Motion score", [r["motion_score"] for r in kept], "AnimateAnything's: change of hue, saturation and value × 10"),
        _histogram("Motion of things", [r["motion"] for r in kept], "% of the diagonal a second, optical flow less the camera's"),
        _histogram("Motion of the camera", [r["camera"] for r in kept], "% of the diagonal a second"),
        _histogram("Moving area", [100 * r["moved"] for r in kept], "% of the picture inside the motion mask's outlines"),
        _counts("Frame rate", [f"{r['fps']:.3g}" for r in kept], "frames a second"),
        _counts("Size", [f"{r['width']}×{r['height']}" for r in kept], "pixels"),
        _counts("Left out", [r["why"].partition(":")[0] for r in dropped], "by the first rule that is broken"),
    ]  # fmt: skip
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}: the clips</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<p>{len(kept)} of {total} clips kept, {_clock(seconds)} of video, {said} with a caption.</p>\n"
        f"<main>\n{''.join(block for block in blocks if block)}</main>\n</body>\n</html>\n"
    )


def _categories(rows: Sequence[Mapping[str, Any]]) -> str:
    count = Counter(row["category"] for row in rows if "category" in row)
    bars = [(name, float(count[name]), COLOURS[name]) for name in CATEGORIES if count[name]]
    return _section("What moves", _bars(bars, share=True), bars, "by caption")


def _confidence(rows: Sequence[Mapping[str, Any]]) -> str:
    """Dynamic confidence in tens, each column stacked by category."""
    told = [row for row in rows if "confidence" in row]
    if not told:
        return ""
    table = {name: [0] * 10 for name in CATEGORIES}
    for row in told:
        table[row["category"]][min(9, int(row["confidence"] // 10))] += 1
    top = max(sum(table[name][i] for name in CATEGORIES) for i in range(10)) or 1
    parts = []
    for i in range(10):
        y = 130.0
        for name in CATEGORIES:
            height = 120 * table[name][i] / top
            if height:
                y -= height
                label = f"{name}, {10 * i} to {10 * i + 10}: {table[name][i]}"
                parts.append(_rect(30 + 28 * i, y, 24, height, COLOURS[name], label))
        parts.append(f'<text x="{30 + 28 * i}" y="144">{10 * i}</text>')
    parts.append(f'<text x="0" y="14">{top}</text><line x1="28" x2="312" y1="130" y2="130"/>')
    used = [name for name in CATEGORIES if any(table[name])]
    for i, name in enumerate(used):
        x = 2 + 52 * i
        parts.append(
            _rect(x, 156, 9, 9, COLOURS[name], name) + f'<text x="{x + 11}" y="164" font-size="10">{name}</text>'
        )
    mean = [(name, sum(r["confidence"] for r in told if r["category"] == name) / sum(table[name]), "") for name in used]
    return _section(
        "Dynamic confidence",
        _svg("".join(parts), 320, 172, "Dynamic confidence by category"),
        mean,
        "mean of each category in the table",
    )


def _words(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is done most: the words of the wordings, where there are any, else of the captions."""
    texts = [row["wording"] for row in rows if row.get("wording", "none") != "none"]
    source = "of the dynamic wordings" if texts else "of the captions"
    if not texts:
        said = [row.get("caption") or "" for row in rows]
        texts = [text if isinstance(text, str) else " ".join(text) for text in said]
    count = Counter(word for text in texts for word in captions.split(text) if word not in _COMMON and len(word) > 1)
    bars = [(word, float(n), "#4477aa") for word, n in count.most_common(WORDS)]
    return _section("Words", _bars(bars), bars, f"the {len(bars)} most frequent {source}")


def _counts(title: str, values: Iterable[str], note: str, most: int = 12) -> str:
    count = Counter(values)
    bars = [(name, float(n), "#4477aa") for name, n in count.most_common(most)]
    rest = sum(count.values()) - sum(int(n) for _, n, _ in bars)
    if rest:
        bars.append(("others", float(rest), "#999999"))
    return _section(title, _bars(bars), bars, note)


def _histogram(title: str, values: Sequence[float], note: str, most: int = 16) -> str:
    """Columns of one round width, from 0 on."""
    if not values:
        return ""
    step = _round_step(max(values), most)
    count = [0] * (int(max(values) / step + 1e-9) + 1)
    for value in values:
        count[int(value / step + 1e-9)] += 1
    top, width = max(count), 280 / len(count)
    parts = [f'<text x="0" y="14">{top}</text><line x1="28" x2="312" y1="130" y2="130"/>']
    for i, n in enumerate(count):
        label = f"{i * step:g} to {(i + 1) * step:g}: {n}"
        if n:
            parts.append(_rect(30 + width * i, 130 - 120 * n / top, max(1, width - 2), 120 * n / top, "#4477aa", label))
        if i % max(1, -(-len(count) // 8)) == 0:
            parts.append(f'<text x="{30 + width * i:.1f}" y="144">{i * step:g}</text>')
    ordered = sorted(values)
    facts = [
        (name, ordered[min(len(ordered) - 1, int(q * len(ordered)))], "")
        for name, q in (("least", 0), ("quarter", 0.25), ("median", 0.5), ("three quarters", 0.75), ("most", 1))
    ]
    return _section(title, _svg("".join(parts), 320, 150, f"{title}, {note}"), facts, note)


def _round_step(most: float, columns: int) -> float:
    """The narrowest of 1, 2, 5 × 10ⁿ that `columns` of reach up to `most`."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most / columns))
    return next(power * f for f in (1, 2, 5, 10) if power * f * columns >= most)


def _bars(bars: Bars, share: bool = False) -> str:
    if not bars:
        return ""
    top, total = max(value for _, value, _ in bars), sum(value for _, value, _ in bars)
    parts = []
    for i, (name, value, colour) in enumerate(bars):
        y = 18 * i
        number = f"{value:g}" + (f" ({value / total:.0%})" if share else "")
        short = name if len(name) <= 15 else name[:14] + "…"
        parts.append(
            f'<text x="92" y="{y + 12}" text-anchor="end">{escape(short)}</text>'
            + _rect(98, y + 2, max(1, 160 * value / top), 13, colour, f"{name}: {number}")
            + f'<text x="{102 + max(1, 160 * value / top):.1f}" y="{y + 12}">{number}</text>'
        )
    return _svg("".join(parts), 320, 18 * len(bars) + 4, ", ".join(f"{name} {value:g}" for name, value, _ in bars))


def _rect(x: float, y: float, width: float, height: float, colour: str, label: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}">'
        f"<title>{escape(label)}</title></rect>"
    )


def _svg(inner: str, width: int, height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{inner}</svg>'


def _section(title: str, chart: str, numbers: Bars, note: str) -> str:
    if not chart:
        return ""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{value:.4g}</td></tr>" for name, value, _ in numbers)
    return (
        f'<section>\n<h2>{escape(title)}</h2>\n{chart}\n<p class="note">{escape(note)}</p>\n'
        f"<details><summary>Numbers</summary><table>{rows}</table></details>\n</section>\n"
    )


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
