"""What a training says of itself: a CSV, TensorBoard where it is asked for, and one line on the terminal."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DependencyError


class Log:
    """Rows of numbers by step. A resumed run drops the rows after its state, so that none is there twice."""

    def __init__(self, folder: Path, tensorboard: bool = False, since: int = 0) -> None:
        self.path = folder / "log.csv"
        self.columns: list[str] = []
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            kept = [row for row in rows if since and int(row["step"]) <= since]
            self.columns = list(rows[0]) if kept else []
            self._rewrite(kept)
        self.writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise DependencyError(
                    "expected the package tensorboard for loop.tensorboard; pip install 'vivant[train]', or leave it off"
                ) from None
            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=since + 1)

    def __call__(self, step: int, numbers: Mapping[str, float]) -> None:
        row = {"step": step, **{name: float(f"{value:.9g}") for name, value in numbers.items()}}
        if any(name not in self.columns for name in row):
            self._widen(list(row))
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)
        if self.writer is not None:
            for name, value in numbers.items():
                self.writer.add_scalar(name, value, step)
            self.writer.flush()

    def close(self) -> None:
        """Finish what is buffered."""
        if self.writer is not None:
            self.writer.close()

    def _widen(self, names: list[str]) -> None:
        rows = []
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        self.columns += [name for name in names if name not in self.columns]
        self._rewrite(rows)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        part = self.path.with_name(".log.part")
        with part.open("w", newline="", encoding="utf-8") as file:
            if self.columns:
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(rows)
        os.replace(part, self.path)


class Silent(Log):
    """The log of processes other than the first."""

    def __init__(self) -> None:
        self.writer = None

    def __call__(self, step: int, numbers: Mapping[str, float]) -> None:
        """Nothing."""
