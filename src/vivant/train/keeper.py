"""Keeping a training: states to go on from, and weights for others to use, each whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from .engine import Recipe
from .state import RUN, Average, differing, read_run, whole

FREE = (
    "steps", "minutes", "micro", "save_every", "keep", "log_every", "evaluate_every", "sheet_every", "tensorboard",
    "threads", "device",
)  # fmt: skip
"""settings that may change when a run goes on: none of them is part of what a step computes"""


class Keeper:
    """What one training writes and reads."""

    def __init__(
        self, recipe: Recipe, accelerator: Any, net: nn.Module, average: Average, out: Path, record: Mapping[str, Any],
        trained: str,
    ) -> None:  # fmt: skip
        """`record`: the configuration in JSON types; `trained`: the fingerprint of what learns."""
        self.recipe, self.accelerator, self.net, self.average = recipe, accelerator, net, average
        self.out, self.record, self.trained = out, dict(record), trained

    def export(self, name: str, said: Mapping[str, Any]) -> None:
        """The weights (their average, where there is one) in the recipe's own format, as folder `name`."""
        with self.average.applied():
            state = self.accelerator.get_state_dict(self.net, unwrap=True)
            if self.accelerator.is_main_process:
                with whole(self.out / name) as folder:
                    self.recipe.save({k: v.detach().cpu() for k, v in state.items()}, folder)
                    (folder / "training.json").write_text(json.dumps(self._told(said), indent=1), "utf-8")
        self.accelerator.wait_for_everyone()

    def save(self, step: int, said: Mapping[str, Any]) -> None:
        """A state: accelerate's own files of the trained weights, optimiser and scaler, the average, and run.json."""
        target, main = self.out / "states" / f"step-{step:07d}", self.accelerator.is_main_process
        # All processes fill the folder; the first one alone makes it and gives it its name.
        if not main:
            self.accelerator.wait_for_everyone()
        with whole(target) if main else nullcontext(target.with_name(f".{target.name}.part")) as folder:
            if main:
                self.accelerator.wait_for_everyone()
            self.accelerator.save_state(str(folder))
            if main:
                self.average.save(folder)
                (folder / RUN).write_text(json.dumps(self._told(said), indent=1), "utf-8")
            self.accelerator.wait_for_everyone()

    def load(self, folder: Path) -> tuple[dict[str, Any], list[str]]:
        """(what `run.json` says, what differs from the run it was). Raises `WeightsError` for another recipe's state."""
        run = read_run(folder, self.recipe.name, self.trained)
        now, before = self._bound(self.record), self._bound(run.get("settings", {}))
        lines = differing(before, now)
        if run.get("processes") != self.accelerator.num_processes:
            lines.append(f"{run.get('processes')} processes before, {self.accelerator.num_processes} now")
        self.accelerator.load_state(str(folder), strict=False)
        self.average.load(folder)
        return run, lines

    def _told(self, said: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "recipe": self.recipe.name, "trained": self.trained, "processes": self.accelerator.num_processes,
            **said, "settings": self.record,
        }  # fmt: skip

    @staticmethod
    def _bound(record: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that decide what a step computes."""
        out = dict(record)
        out["loop"] = {k: v for k, v in dict(out.get("loop") or {}).items() if k not in FREE}
        out["data"] = {k: v for k, v in dict(out.get("data") or {}).items() if k != "workers"}
        return out
