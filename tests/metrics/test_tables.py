"""Tables as data and as print."""

import csv
import io
import re

import pytest

from vivant.metrics.tables import Cell, Grid, Head, as_csv, escape, latex, markdown

# Table 1 of Every Painting Awakened: which numbers it sets bold and underlined is known.
PAPER = {
    "Baseline": (25.79, 530, 25.27, 486, 24.99, 614), "+V": (25.87, 420, 25.66, 320, 25.22, 529),
    "+S": (26.07, 439, 25.59, 309, 25.00, 572), "+V&U": (26.28, 392, 25.68, 308, 25.24, 540),
    "+V&S (Ours)": (26.35, 317, 25.71, 298, 25.33, 526),
}  # fmt: skip
HEADS = (Head("CLIPSIM", "up", 2), Head("FVD", "down", 0))


@pytest.fixture
def paper() -> Grid:
    rows = tuple(((name,), tuple(Cell(float(v)) for v in values)) for name, values in PAPER.items())
    groups = (("AnimateAnything", 2), ("ConsistI2V", 2), ("Cinemo", 2))
    return Grid("Table 1", ("Method",), HEADS * 3, rows, groups)


def test_best_and_second_of_the_papers_table(paper: Grid) -> None:
    names = list(PAPER)
    best = {(names[r], c) for (r, c), mark in paper.marks.items() if mark == "best"}
    second = {(names[r], c) for (r, c), mark in paper.marks.items() if mark == "second"}
    assert best == {("+V&S (Ours)", c) for c in range(6)}
    assert second == {("+V&U", 0), ("+V&U", 1), ("+V&U", 2), ("+V&U", 3), ("+V&U", 4), ("+V", 5)}


def test_markdown_has_every_number_once(paper: Grid) -> None:
    lines = markdown(paper).strip().splitlines()
    assert len(lines) == 2 + len(PAPER) and {line.count("|") for line in lines} == {8}
    assert lines[0].split("|")[2].strip() == "AnimateAnything CLIPSIM ↑"
    assert lines[-1] == "| +V&S (Ours) | **26.35** | **317** | **25.71** | **298** | **25.33** | **526** |"
    assert "<u>26.28</u>" in lines[-2] and "<u>529</u>" in lines[3]


def test_csv_is_read_back_as_it_was(paper: Grid) -> None:
    head, *rows = csv.reader(io.StringIO(as_csv(paper)))
    assert head[:3] == ["Method", "AnimateAnything CLIPSIM", "AnimateAnything FVD"]
    assert {row[0]: tuple(float(v) for v in row[1:]) for row in rows} == PAPER


def test_latex_is_balanced(paper: Grid) -> None:
    text = latex(paper)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 + len(PAPER)
    assert all(len(re.split(r"(?<!\\)&", row)) == 7 for row in rows[1:])
    assert text.count("{") == text.count("}") and r"\cmidrule(lr){4-5}" in text
    assert r"+V\&S (Ours) & \textbf{26.35}" in text and r"CLIPSIM $\uparrow$" in text
    assert escape("50 % of a_b & c") == r"50 \% of a\_b \& c"


def test_empty_cells_say_why_and_are_never_best() -> None:
    rows = ((("a",), (Cell(None, why="no I3D here"),)), (("b",), (Cell(float("nan")),)), (("c",), (Cell(3.0),)),
            (("d",), (Cell(4.0),)))  # fmt: skip
    grid = Grid("t", ("Method",), (Head("FVD", "down", 1),), rows)
    text = markdown(grid)
    assert grid.marks == {(2, 0): "best", (3, 0): "second"}
    assert "| a | — |" in text and text.strip().endswith("- a FVD: no I3D here")
    assert as_csv(grid).splitlines()[1:3] == ["a,", "b,"]
    nowhere = Grid("t", ("m",), (Head("FVD"),), tuple(((x,), (Cell(None, why="no I3D here"),)) for x in "abc"))
    assert markdown(nowhere).strip().endswith("- FVD: no I3D here")


def test_what_prints_alike_is_marked_alike_and_one_value_is_no_contest() -> None:
    def grid(*values: float) -> Grid:
        return Grid("t", ("m",), (Head("x", "up", 1),), tuple(((str(v),), (Cell(v),)) for v in values))

    assert grid(1.01, 1.02, 0.5).marks == {(0, 0): "best", (1, 0): "best", (2, 0): "second"}
    assert grid(1.0).marks == {} and grid(1.0, 1.0).marks == {}


def test_intervals_and_the_best_along_rows() -> None:
    rows = ((("M.Q.",), (Cell(28.6, 25.1, 32.0), Cell(38.84, 35.0, 42.9))),)
    heads = (Head("PikaLabs", "up", 2, "%"), Head("Ours", "up", 2, "%"))
    grid = Grid("Table 2", ("Property",), heads, rows, along="row", intervals=True)
    assert "**38.84% [35.00, 42.90]**" in markdown(grid) and grid.marks[0, 0] == "second"
    assert as_csv(grid).splitlines()[1] == "M.Q.,28.6,25.1,32.0,38.84,35.0,42.9"


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cells"):
        Grid("t", ("m",), HEADS, ((("a",), (Cell(1.0),)),))
    with pytest.raises(ValueError, match="groups"):
        Grid("t", ("m",), HEADS, (), (("g", 3),))
