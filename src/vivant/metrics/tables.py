"""A table of results as data, and its three prints: Markdown, CSV, LaTeX. Best in bold, second best underlined."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

ARROWS = {"up": "↑", "down": "↓", "": ""}


@dataclass(frozen=True)
class Cell:
    """One number, with its interval where it has one. `value` None: it could not be measured, `why` says why."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Head:
    """One column: what it is called, which way is better, how many digits it is printed with."""

    label: str
    better: Literal["up", "down", ""] = ""
    digits: int = 3
    unit: str = ""

    def text(self) -> str:
        """The label with its arrow."""
        return f"{self.label} {ARROWS[self.better]}".strip()


@dataclass(frozen=True)
class Grid:
    """`rows`: (labels, cells), as many labels as `corner`, as many cells as `heads`. `groups`: (label, how many columns)."""

    title: str
    corner: tuple[str, ...]
    heads: tuple[Head, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]
    groups: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    along: Literal["column", "row"] = "column"
    """where the best is looked for"""
    intervals: bool = False
    marks: dict[tuple[int, int], str] = field(init=False, default_factory=dict, compare=False)
    """"best" or "second" by (row, column)"""

    def __post_init__(self) -> None:
        if any(len(labels) != len(self.corner) or len(cells) != len(self.heads) for labels, cells in self.rows):
            raise ValueError(
                f"expected {len(self.corner)} labels and {len(self.heads)} cells in every row of {self.title}"
            )
        if self.groups and sum(n for _, n in self.groups) != len(self.heads):
            raise ValueError(f"expected groups over {len(self.heads)} columns, got {self.groups}")
        self.marks.update(_marks(self))


def _marks(grid: Grid) -> dict[tuple[int, int], str]:
    """Best and second best of each column (or row) that has a better way; what prints alike is marked alike."""
    height, width = len(grid.rows), len(grid.heads)
    lines = (
        [[(r, c) for r in range(height)] for c in range(width)]
        if grid.along == "column"
        else [[(r, c) for c in range(width)] for r in range(height)]
    )
    found: dict[tuple[int, int], str] = {}
    for line in lines:
        head = grid.heads[line[0][1]] if line else Head("")
        values = {}
        for r, c in line:
            value = grid.rows[r][1][c].value
            if value is not None and math.isfinite(value):
                values[r, c] = round(value, grid.heads[c].digits)
        order = sorted(set(values.values()), reverse=head.better == "up")
        if not head.better or len(order) < 2:
            continue
        found |= {at: "best" if v == order[0] else "second" for at, v in values.items() if v in order[:2]}
    return found


def markdown(grid: Grid) -> str:
    """A Markdown table; the groups' names go into the heads, reasons for empty cells into notes below."""
    heads = [f"{group} {h.text()}".strip() for group, h in zip(_group_of(grid), grid.heads, strict=True)]
    wrap = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
    lines = [[_pipe(t) for t in (*grid.corner, *heads)], ["---"] * len(grid.corner) + ["---:"] * len(heads)]
    for r, (labels, cells) in enumerate(grid.rows):
        shown = [wrap[grid.marks.get((r, c), "")].format(number(grid, cell, c)) for c, cell in enumerate(cells)]
        lines.append([*(_pipe(t) for t in labels), *shown])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    said = [*grid.notes, *_reasons(grid)]
    return table + ("\n\n" + "\n".join(f"- {note}" for note in said) if said else "") + "\n"


def as_csv(grid: Grid) -> str:
    """Full precision; every measured column is followed by its interval's ends where any row has them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spread = [any(cells[c].low is not None for _, cells in grid.rows) for c in range(len(grid.heads))]
    names: list[str] = list(grid.corner)
    for group, head, wide in zip(_group_of(grid), grid.heads, spread, strict=True):
        name = f"{group} {head.label}".strip()
        names += [name, f"{name} low", f"{name} high"] if wide else [name]
    writer.writerow(names)
    for labels, cells in grid.rows:
        line: list[str] = list(labels)
        for cell, wide in zip(cells, spread, strict=True):
            line += [_full(v) for v in ((cell.value, cell.low, cell.high) if wide else (cell.value,))]
        writer.writerow(line)
    return out.getvalue()


def latex(grid: Grid) -> str:
    """A booktabs tabular, groups over a \\cmidrule each."""
    k = len(grid.corner)
    columns = "l" * k + "r" * len(grid.heads)
    lines = ["% needs \\usepackage{booktabs}", f"% {grid.title}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    if any(label for label, _ in grid.groups):
        spans, rules, at = [], [], k + 1
        for label, count in grid.groups:
            spans.append(f"\\multicolumn{{{count}}}{{c}}{{{escape(label)}}}")
            rules.append(f"\\cmidrule(lr){{{at}-{at + count - 1}}}")
            at += count
        lines += [" & ".join([""] * k + spans) + " \\\\", " ".join(rules)]
    lines += [" & ".join(escape(t) for t in (*grid.corner, *(h.text() for h in grid.heads))) + " \\\\", "\\midrule"]
    wrap = {"best": "\\textbf{{{}}}", "second": "\\underline{{{}}}", "": "{}"}
    for r, (labels, cells) in enumerate(grid.rows):
        shown = [wrap[grid.marks.get((r, c), "")].format(escape(number(grid, cell, c))) for c, cell in enumerate(cells)]
        lines.append(" & ".join([*(escape(t) for t in labels), *shown]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *(f"% {note}" for note in grid.notes)]) + "\n"


PRINTS: dict[str, Callable[[Grid], str]] = {"md": markdown, "csv": as_csv, "tex": latex}
"""by the suffix of the file"""


def number(grid: Grid, cell: Cell, column: int) -> str:
    """A cell as it is printed; a dash where it could not be measured."""
    if cell.value is None or math.isnan(cell.value):
        return "—"
    head = grid.heads[column]
    text = f"{cell.value:.{head.digits}f}{head.unit}"
    if grid.intervals and cell.low is not None and cell.high is not None:
        text += f" [{cell.low:.{head.digits}f}, {cell.high:.{head.digits}f}]"
    return text


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "✓": r"\checkmark{}",
    "—": "---", "λ": r"$\lambda$", "γ": r"$\gamma$", "α": r"$\alpha$",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_TEX.get(letter, letter) for letter in text)


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _full(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(round(value, 10))


def _group_of(grid: Grid) -> list[str]:
    groups = grid.groups or (("", len(grid.heads)),)
    return [label for label, count in groups for _ in range(count)]


def _reasons(grid: Grid) -> list[str]:
    """Why cells are empty, one line for each reason; of a column that is empty throughout, its name alone."""
    said: dict[str, list[str]] = {}
    for c, (group, head) in enumerate(zip(_group_of(grid), grid.heads, strict=True)):
        name = f"{group} {head.label}".strip()
        why = {labels[0]: cells[c].why for labels, cells in grid.rows if cells[c].value is None and cells[c].why}
        if len(why) == len(grid.rows) and len(set(why.values())) == 1:
            said.setdefault(next(iter(why.values())), []).append(name)
            continue
        for row, reason in why.items():
            said.setdefault(reason, []).append(f"{row} {name}")
    return [f"{_short(where)}: {why}" for why, where in said.items()]


def _short(where: list[str]) -> str:
    return ", ".join(where) if len(where) <= 3 else f"{where[0]} and {len(where) - 1} others"
