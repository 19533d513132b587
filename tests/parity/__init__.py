"""Hold our networks and equations to recorded runs of the official ones.

    python -m tests.parity NAME FILE            run FILE's inputs, print one line an output, exit 1 above tolerance
    python -m tests.parity --keys NAME JSON     compare key names and shapes on the meta device, exit 1 with a diff
    python -m tests.parity --table FOLDER       all of a folder of rooms (FOLDER/NAME/FILE) as a Markdown table

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


def table(folder: Path) -> tuple[list[str], bool]:
    """The lines of a Markdown table of every recorded run and list of keys in a folder, and whether all agree."""
    lines = ["| system | record | outputs | largest relative difference | tolerance |", "|---|---|---|---|---|"]
    good = True
    for path in sorted(folder.glob("*/*.safetensors")):
        name = path.parent.name
        found = list(RUNS[name](read(path))) if name in RUNS else []
        good &= all(o.ok for o in found)
        for tolerance in sorted({o.tolerance for o in found}):
            group = [o.rel for o in found if o.tolerance == tolerance]
            verdict = "" if max(group) <= tolerance else " ABOVE"
            lines.append(f"| {name} | {path.stem} | {len(group)} | {max(group):.1e}{verdict} | {tolerance:.0e} |")
    lines += ["", "| system | list of keys | keys | differences |", "|---|---|---|---|"]
    for path in sorted(folder.glob("*/*keys*.json")):
        name = path.parent.name
        if name in SHAPES:
            wrong = compare_keys(name, path)
            good &= not wrong
            count = len(json.loads(path.read_text("utf-8"))["keys"])
            lines.append(f"| {name} | {path.stem} | {count} | {len(wrong)} |")
    return lines, good


def main(arguments: list[str]) -> int:
    """Run one comparison; the exit status is 0 when everything agrees."""
    if arguments[:1] == ["--table"] and len(arguments) == 2:
        lines, good = table(Path(arguments[1]))
        print("\n".join(lines))
        return int(not good)
    keys = arguments[:1] == ["--keys"]
    known: Mapping[str, Any] = SHAPES if keys else RUNS
    rest = arguments[1:] if keys else arguments
    if len(rest) != 2 or rest[0] not in known:
        print(f"usage: python -m tests.parity [--keys] {{{','.join(known)}}} FILE", file=sys.stderr)
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
