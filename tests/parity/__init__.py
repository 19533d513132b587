"""Hold our networks and equations to recorded runs of the official ones.

    python -m tests.parity NAME FILE            run FILE's inputs, print one line an output, exit 1 above tolerance
    python -m tests.parity --keys NAME JSON     compare key names and shapes on the meta device, exit 1 with a diff

FILE is a safetensors file with `model.*` (the state dict), `input.*`, `output.*` and JSON in its metadata; JSON holds
`config` and `keys` (name to shape). rel is the largest difference over the largest reference value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vivant.priors.folder import differences

from . import animate_anything, cinemo, consisti2v, dynamicrafter
from .record import Outcome, Record, read, relative

__all__ = ["RUNS", "SHAPES", "Outcome", "Record", "compare_keys", "main", "read", "relative"]

ROOMS = (animate_anything, consisti2v, cinemo, dynamicrafter)
RUNS: dict[str, Callable[[Record], Iterator[Outcome]]] = {k: v for room in ROOMS for k, v in room.RUNS.items()}
SHAPES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    k: v for room in ROOMS for k, v in room.SHAPES.items()
}


def compare_keys(name: str, path: Path | str) -> list[str]:
    """One line a difference between our names and shapes and the recorded ones."""
    record = json.loads(Path(path).read_text("utf-8"))
    return differences(SHAPES[name](record.get("config", record)), record["keys"])


def main(arguments: list[str]) -> int:
    """Run one comparison; the exit status is 0 when everything agrees."""
    keys = arguments[:1] == ["--keys"]
    table: Mapping[str, Any] = SHAPES if keys else RUNS
    rest = arguments[1:] if keys else arguments
    if len(rest) != 2 or rest[0] not in table:
        print(f"usage: python -m tests.parity [--keys] {{{','.join(table)}}} FILE", file=sys.stderr)
        return 2
    name, path = rest
    if keys:
        wrong = compare_keys(name, path)
        print("\n".join([*wrong, f"{name} {path} {len(wrong)} differences"]))
        return int(bool(wrong))
    verdicts = []
    for outcome in RUNS[name](read(path)):
        verdicts.append(outcome.ok)
        verdict = "ok" if outcome.ok else "ABOVE"
        print(f"{name} {path} rel={outcome.rel:.3e} {outcome.output} {verdict} tolerance {outcome.tolerance:.0e}")
    return int(not verdicts or not all(verdicts))
