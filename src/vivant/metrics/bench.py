"""A table from end to end: cases, clips, measures, print. What is there is taken; what is missing is made or said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, SettingError
from .cases import cases_of, completed
from .clips import clips_of
from .columns import COLUMNS, FRAMES, Column
from .eyes import Eyes
from .figures import Noise
from .measured import Against, Measured, Part, put
from .papers import Row, Table, safe
from .plans import Job, plan
from .runs import Maker, Progress, make
from .tables import PRINTS, Grid, Head


@dataclass(frozen=True)
class Bench:
    """One call of a table: which, on what, by which models, kept where. `sources`: name of a benchmark to its place."""

    table: Table
    out: Path
    models: Sequence[str]
    sources: Mapping[str, str]
    kind: str = "auto"
    count: int | None = None
    split: str = "test"
    prompts: Path | None = None
    prompt: str | None = None
    strength: float | None = None
    arrows: bool = False
    given: Mapping[str, Path] = field(default_factory=dict)
    """label of a row, or LABEL@MODEL where there are several models, to a folder of clips"""
    reference: Path | None = None
    study: Mapping[str, Any] | None = None
    also: tuple[str, ...] = ()
    extractors: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[str] = ("auto",)
    size: str = "512"
    frames: int | None = None
    steps: int | None = None
    seed: int = 42
    suffix: str = ".mp4"
    intervals: bool = False
    maker: Maker | None = None


@dataclass(frozen=True)
class Result:
    """The table, printed to `out` as .md, .csv, .tex and .json, and what went wrong on the way."""

    grids: list[Grid]
    failures: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; NaN is null."""
        return {
            "tables": [
                {
                    "title": grid.title, "columns": [h.label for h in grid.heads],
                    "groups": [list(g) for g in grid.groups], "notes": list(grid.notes),
                    "rows": [{"labels": list(labels), "cells": [vars(c) for c in cells]} for labels, cells in grid.rows],
                }
                for grid in self.grids
            ],
            "failures": self.failures,
        }  # fmt: skip


def evaluate(bench: Bench, progress: Progress | None = None) -> Result:
    """Make what is missing, measure, print to the run folder. Raises `SettingError` for names that are not known."""
    columns = _columns(bench)
    rows = _rows(bench)
    eyes = Eyes(bench.extractors)
    parts = [_part(bench, rows, label, source, progress) for label, source in bench.sources.items()]
    notes = [
        f"{c.called(eyes)} is not {c.label}, whose network is not here; `vivant extractors` says how to get it"
        for c in columns.values()
        if c.role and c.role not in bench.extractors and c.called(eyes) != c.label
    ]
    frames = bench.frames or int(bench.table.common.get("frames", FRAMES))
    against = Against(bench.out, bench.reference, bench.study, frames, bench.intervals, bench.seed)
    made = [Measured(part, list(bench.models), columns, eyes, against) for part in parts]
    grids = [_across_models(bench, rows, columns, m, eyes, notes) for m in made]
    if bench.table.across == "benchmark":
        grids = [_across_benchmarks(bench, rows, columns, made, eyes, notes)]
    result = Result(grids, [line for part in parts for line in part.failures])
    _write(bench, result)
    return result


def _columns(bench: Bench) -> dict[str, Column]:
    names = [*bench.table.columns, *bench.also]
    strange = [name for name in names if name not in COLUMNS]
    if strange:
        raise SettingError(f"expected columns among {', '.join(COLUMNS)}, got {', '.join(strange)}")
    return {name: COLUMNS[name] for name in names}


def _rows(bench: Bench) -> list[Row]:
    """The table's rows, and one more for every folder of clips whose label is none of them."""
    if not bench.models:
        raise SettingError("expected at least one model, got none")
    rows = list(bench.table.rows)
    for label in bench.given:
        name, _, model = label.partition("@")
        if bench.table.across == "model" and len(bench.models) > 1 and model not in bench.models:
            raise SettingError(f"expected LABEL@MODEL=DIR where there are several models, got {label!r}")
        if name not in {row.label for row in rows}:
            rows.append(Row(name, marks=("",) * (len(bench.table.corner) - 1), given=True))
    return rows


def _folder_of(bench: Bench, model: str, row: Row, source: str) -> Path | None:
    """The folder a row's clips are given in; with several benchmarks, its subfolder of the benchmark's name."""
    for key in (f"{row.label}@{model}", row.label):
        if key in bench.given:
            inner = bench.given[key] / source
            return inner if source and inner.is_dir() else bench.given[key]
    return None


def _part(bench: Bench, rows: list[Row], label: str, source: str, progress: Progress | None) -> Part:
    out = bench.out / safe(label) if label else bench.out
    found = cases_of(
        source, out / "cases", bench.kind, bench.count, bench.seed, bench.prompts, bench.split, bench.size, bench.arrows
    )
    cases = completed(found, bench.prompt, bench.strength)
    table = replace(bench.table, rows=tuple(rows))
    given = {(m, r.label): folder for m in bench.models for r in rows if (folder := _folder_of(bench, m, r, label))}
    jobs: list[Job] = []
    missing: dict[tuple[str, str], str] = {}
    for model in bench.models:
        mine = {row: folder for (m, row), folder in given.items() if m == model}
        todo = plan(
            table, [model], cases, out, mine, bench.suffix, frames=bench.frames, steps=bench.steps, seed=bench.seed
        )
        jobs, missing = jobs + todo.jobs, missing | todo.missing
    # Model by model: a worker that has one loaded goes on with it.
    took = make(jobs, bench.devices, progress, bench.maker)
    part = Part(label, cases, missing=missing)
    for job in jobs:
        done = took[job.model, job.row, job.case]
        if done.error:
            part.failures.append(f"{job.model} {job.row} {job.case}: {done.error}")
        else:
            part.clips.setdefault((job.model, job.row), {})[job.case] = job.target
            part.took.setdefault((job.model, job.row), []).append(done)
    for at, folder in given.items():
        there = clips_of(folder)
        part.clips[at] = {case.name: there[case.name] for case in cases if case.name in there}
        if not part.clips[at]:
            raise InputError(
                f"expected clips named {cases[0].name} … in {folder}, found none of the {len(cases)} cases"
            )
    return part


def _across_models(
    bench: Bench, rows: list[Row], columns: Mapping[str, Column], made: Measured, eyes: Eyes, notes: list[str]
) -> Grid:
    """Rows by (model, column): the first paper's layout."""
    heads = [column.seen_by(eyes) for column in columns.values()]
    many = len(bench.models) > 1
    title = bench.table.title + (f" ({made.part.label})" if made.part.label else "")
    body = tuple(
        (_labels(bench, row), tuple(cell for model in bench.models for cell in made.cells(model, row))) for row in rows
    )
    groups = tuple((model, len(heads)) for model in bench.models) if many else ()
    return Grid(title, bench.table.corner, tuple(heads * len(bench.models)), body, groups, (*notes, *made.notes()),
                intervals=bench.intervals)  # fmt: skip


def _across_benchmarks(
    bench: Bench, rows: list[Row], columns: Mapping[str, Column], parts: list[Measured], eyes: Eyes, notes: list[str]
) -> Grid:
    """Rows (and models) by (benchmark, column): DynamiCrafter's Table 1."""
    heads: list[Head] = [column.seen_by(eyes) for column in columns.values()]
    body = []
    for row in rows:
        for model in bench.models[:1] if _is_given(bench, row) else bench.models:
            label = row.label if _is_given(bench, row) or len(bench.models) == 1 else f"{row.label} ({model})"
            cells = tuple(cell for part in parts for cell in part.cells(model, row))
            body.append(((label, *_labels(bench, row)[1:]), cells))
    groups = tuple((part.part.label, len(heads)) for part in parts)
    said = [f"{p.part.label + ' ' if p.part.label else ''}{line}" for p in parts for line in p.notes()]
    return Grid(bench.table.title, bench.table.corner, tuple(heads * len(parts)), tuple(body), groups, (*notes, *said),
                intervals=bench.intervals)  # fmt: skip


def _is_given(bench: Bench, row: Row) -> bool:
    return row.given or row.label in bench.given


def _labels(bench: Bench, row: Row) -> tuple[str, ...]:
    return (row.label, *row.marks)


def _write(bench: Bench, result: Result) -> None:
    for suffix, shown in PRINTS.items():
        put(bench.out / f"{bench.table.name}.{suffix}", "\n".join(shown(grid) for grid in result.grids))
    put(bench.out / f"{bench.table.name}.json", json.dumps(result.as_dict(), indent=1))


def frame_features(clip: Path, extractor: str | None, frames: int = FRAMES) -> np.ndarray:
    """(F, D) features of a clip's first frames, for figures."""
    from .video import read_video

    eyes = Eyes({"frame": extractor} if extractor else {})
    return eyes.frames(read_video(clip, frames).frames).numpy()


def noise_of(
    painting: Path, prompt: str, model: str, steps: int | None, size: str, device: str, seed: int
) -> list[Noise]:
    """The noise profile (CLIA, fig. 3) of one painting by one model."""
    from ..images import load_painting, resized
    from ..priors.registry import load
    from ..shot import Controls
    from ..stage import chosen_device
    from .evaluate import defaults
    from .figures import noise_profile

    prior = load(model, chosen_device(device))
    shot = defaults(prior, resized(load_painting(painting), size), prompt, Controls())
    shot = replace(shot, frames=prior.card.frames, steps=steps or shot.steps, seed=seed)
    with torch.no_grad():
        return noise_profile(prior, shot, torch.Generator().manual_seed(seed))
