"""The cells of a table: what was measured of its clips, kept beside them until they change."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.benchmarks import Case
from ..errors import InputError, ModelError, OutputError, VivantError
from . import functional as measure
from .clips import clips_of
from .columns import FRAMES, Column, Seen
from .eyes import Eyes
from .intervals import interval_of_mean
from .papers import Row, safe
from .runs import Made
from .tables import Cell

FEW = 256
"""clips under which a distance between sets says little by itself"""


@dataclass
class Part:
    """One benchmark's share: clips by (model, row), what they took, and why some are missing."""

    label: str
    cases: list[Case]
    clips: dict[tuple[str, str], dict[str, Path]] = field(default_factory=dict)
    took: dict[tuple[str, str], list[Made]] = field(default_factory=dict)
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Against:
    """What clips are measured against and how: `reference` real videos for sets, `study` answers, frames of a clip."""

    out: Path
    reference: Path | None = None
    study: Mapping[str, Any] | None = None
    frames: int = FRAMES
    intervals: bool = False
    seed: int = 42


class Measured:
    """A part's cells. Rows of one model are compared on the cases that all of them have."""

    def __init__(
        self, part: Part, models: list[str], columns: Mapping[str, Column], eyes: Eyes, against: Against
    ) -> None:
        self.part, self.columns, self.eyes, self.against = part, columns, eyes, against
        self.real: dict[frozenset[str], Tensor] = {}
        self.used: dict[str, list[str]] = {}
        for model in models:
            sets = [set(clips) for (m, _), clips in part.clips.items() if m == model]
            self.used[model] = sorted(set.intersection(*sets)) if sets else []

    def cells(self, model: str, row: Row) -> tuple[Cell, ...]:
        """One cell a column."""
        return tuple(self._cell(model, row, key, column) for key, column in self.columns.items())

    def _cell(self, model: str, row: Row, key: str, column: Column) -> Cell:
        if column.study:
            return self._preference(row, column)
        clips = self.part.clips.get((model, row.label))
        names = self.used[model]
        if not clips:
            return Cell(why=self.part.missing.get((model, row.label), "no clip of it could be made"))
        if not names:
            return Cell(why=f"no case has a clip in every row of {model}")
        try:
            if column.took:
                took = self.part.took.get((model, row.label))
                if not took:
                    return Cell(why="clips made elsewhere: what they took is not known")
                return Cell(float(np.mean([getattr(t, column.took) for t in took])) * column.scale)
            if column.group is not None:
                return self._group(model, row, column, names)
            values = self._values(model, row, key, column, names)
        except (InputError, ModelError) as error:
            return Cell(why=" ".join(str(error).split()))
        low, high = interval_of_mean(values)
        return Cell(float(np.mean(values)), low, high)

    def _values(self, model: str, row: Row, key: str, column: Column, names: list[str]) -> np.ndarray:
        """The measure of each clip, kept beside the clips until they change."""
        assert column.clip is not None
        clips = self.part.clips[model, row.label]
        cases = {case.name: case for case in self.part.cases}
        book = _Book(
            self.against.out / "measures" / safe(self.part.label or "all") / safe(model) / f"{row.folder}.json"
        )
        name = f"{key}@{self.eyes.name(column.role)}" if column.role else key
        values = []
        for case in names:
            stamp = _stamp(clips[case], cases[case])
            value = book.get(case, stamp, name)
            if value is None:
                seen = Seen(cases[case], clips[case], self.eyes, self.against.frames)
                value = float(column.clip(seen)) * column.scale
                book.put(case, stamp, name, value)
            values.append(value)
        book.save()
        return np.asarray(values)

    def _group(self, model: str, row: Row, column: Column, names: list[str]) -> Cell:
        assert column.group is not None
        real = self._real(names)
        fake = self.eyes.videos([self.part.clips[model, row.label][name] for name in names], self.against.frames)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", measure.SmallSampleWarning)  # said once, under the table
            if self.against.intervals:
                spread = measure.bootstrap(column.group, real, fake, torch.Generator().manual_seed(self.against.seed))
                return Cell(spread.value * column.scale, spread.low * column.scale, spread.high * column.scale)
            return Cell(float(column.group(real, fake)) * column.scale)

    def _real(self, names: list[str]) -> Tensor:
        key = frozenset(names) if self.against.reference is None else frozenset(["<reference>"])
        if key not in self.real:
            if self.against.reference is not None:
                paths: list[Path] = list(clips_of(self.against.reference).values())
            else:
                found = {case.name: case.reference for case in self.part.cases}
                paths = [path for name in names if (path := found[name]) is not None]
            if len(paths) < 2:
                raise InputError("expected at least 2 real clips to hold the set against; --reference DIR gives them")
            self.real[key] = self.eyes.videos(paths, self.against.frames, self._skipped)
            if len(self.real[key]) < 2:
                raise InputError(
                    f"expected at least 2 real clips of {self.against.frames} frames, got {len(self.real[key])}"
                )
        return self.real[key]

    def _skipped(self, path: Path, error: VivantError) -> None:
        self.part.failures.append(f"left out of the real clips: {' '.join(str(error).split())}")

    def _preference(self, row: Row, column: Column) -> Cell:
        if self.against.study is None:
            return Cell(why="a user study's answers; give them with --study (`vivant study read --json`)")
        rate = self.against.study["rates"].get(column.study, {}).get(row.label)
        if rate is None:
            return Cell(why="the study did not show it")
        value, low, high = (float(rate[k]) * column.scale for k in ("rate", "low", "high"))
        return Cell(value, low, high)

    def notes(self) -> list[str]:
        """How many cases, how many of all, and a warning where they are few for a distance between sets."""
        total, said = len(self.part.cases), []
        for model, names in self.used.items():
            if names:
                said.append(f"{model}: {len(names)} of {total} cases, those that every row has")
        sets = [c.called(self.eyes) for c in self.columns.values() if c.group is not None]
        fewest = min((len(n) for n in self.used.values() if n), default=0)
        if sets and self.real and 0 < fewest < FEW:
            said.append(f"{' and '.join(sets)} of {fewest} clips lie too high: compare rows, not papers")
        return said


class _Book:
    """Measures of a row's clips on disk, each under the stamp of what it was measured on."""

    def __init__(self, path: Path) -> None:
        self.path, self.changed = path, False
        try:
            self.data: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            self.data = {}

    def get(self, case: str, stamp: str, name: str) -> float | None:
        page = self.data.get(case, {})
        value = page.get("values", {}).get(name) if page.get("stamp") == stamp else None
        return None if value is None else float(value)

    def put(self, case: str, stamp: str, name: str, value: float) -> None:
        if self.data.get(case, {}).get("stamp") != stamp:
            self.data[case] = {"stamp": stamp, "values": {}}
        self.data[case]["values"][name] = value
        self.changed = True

    def save(self) -> None:
        if self.changed:
            put(self.path, json.dumps(self.data, indent=1))
            self.changed = False


def _stamp(clip: Path, case: Case) -> str:
    """Changes when the clip is made anew or the case is told otherwise; cheap, so that a thousand clips resume at once."""
    files = [clip if clip.is_file() else clip / "recipe.json", case.reference, case.region, case.mask]
    marks = [f"{p.stat().st_mtime_ns}:{p.stat().st_size}" for p in files if p is not None and p.is_file()]
    return " ".join([*marks, case.prompt, str(case.strength), str(case.direction)])


def put(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises `OutputError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"could not write {path}: {error.strerror or error}; is there room on the disk?") from error
