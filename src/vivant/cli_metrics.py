"""`vivant metrics`: a table and JSON for any video; `vivant extractors`: the networks it may look through."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InputError, SettingError

if TYPE_CHECKING:
    from .metrics.report import Value

ARROWS = {"up": " ↑", "down": " ↓", "": ""}
COLUMN = 14
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(metrics)
    app.command()(extractors)


def metrics(
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO…", help="Videos, animated pictures, or folders of frames.")
    ],
    painting: Annotated[Path | None, typer.Option(help="What was animated; default: the first frame.")] = None,
    prompt: Annotated[str, typer.Option(help="The sentence it was animated by.")] = "",
    mask: Annotated[Path | None, typer.Option(help="White may move, black is frozen.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Real videos: a folder to compare the set with and each by its name, or one file."),
    ] = None,
    strength: Annotated[float | None, typer.Option(help="The motion score that was asked for.")] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="Look through another network: video=videomae, frame=…"),
    ] = None,
    frames: Annotated[int, typer.Option(help="Look at this many frames of each at most.")] = 128,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute features anew, keep none.")] = False,
    as_json: Json = False,
) -> None:
    """Measure any video, ours or not."""
    from .images import load_painting
    from .metrics.cache import FeatureCache
    from .metrics.eyes import Eyes
    from .metrics.report import Asked, measure, sets
    from .stage import chosen_device

    if frames < 1:
        raise SettingError(f"expected to look at 1 frame at least, got {frames}")
    for given, what in ((painting, "painting"), (mask, "mask"), (reference, "reference")):
        if given is not None and not given.exists():
            raise InputError(f"expected the {what} at {given}, found no such file")
    if strength is not None and not math.isfinite(strength):
        raise SettingError(f"expected a motion score, got {strength}")
    for given in (painting, mask):
        if given is not None:
            load_painting(given)  # what was named and cannot be read is refused once, not noted beside every measure
    chosen_device(device)
    eyes = Eyes(dict(_named(text) for text in extractor or []), device)
    cache = None if fresh else FeatureCache()
    asked = Asked(painting, prompt, mask, reference, strength, frames, cache)
    found: list[tuple[Path, dict[str, Any], list[Value]]] = []
    broken: list[tuple[Path, InputError]] = []
    for path in videos:
        try:
            video, rows = measure(path, asked, eyes)
            found.append((path, _facts(video), rows))
        except InputError as error:
            if len(videos) == 1:
                raise
            broken.append((path, error))
    together: list[Value] = []
    if reference is not None and reference.is_dir() and len(found) > 1:
        together = sets([path for path, _, _ in found], reference, eyes, cache)
    if as_json:
        print(json.dumps({
            "videos": [{"path": str(p)} | facts | {"metrics": {v.key: v.as_dict() for v in rows}} for p, facts, rows in found],
            "set": {v.key: v.as_dict() for v in together},
            "errors": [{"path": str(p), "error": str(why)} for p, why in broken],
        }))  # fmt: skip
    else:
        print("\n".join(table([(p.stem or str(p), facts, rows) for p, facts, rows in found], together)))
    for _, why in broken:
        print(f"vivant: {why}", file=sys.stderr)
    if broken:
        raise InputError(
            f"expected {len(videos)} videos that can be read, {len(broken)} of them cannot; the others are above"
        )


def table(
    found: list[tuple[str, dict[str, Any], list[Value]]], together: list[Value], width: int | None = None
) -> list[str]:
    """Lines of the printed table: a row for each measure, a column for each video, blocks that fit the terminal."""
    width = width or shutil.get_terminal_size((120, 24)).columns
    lines: list[str] = []
    notes: dict[tuple[str, str], None] = {}
    labels = list(dict.fromkeys(_head(v) for _, _, rows in found for v in rows))
    first = max([len(text) for text in labels] + [24]) + 2
    fit = max(1, (width - first) // COLUMN)
    for start in range(0, len(found), fit):
        block = found[start : start + fit]
        lines.append(" " * first + "".join(_short(name).rjust(COLUMN) for name, _, _ in block))
        for fact in ("size", "frames", "fps"):
            lines.append(fact.ljust(first) + "".join(_fact(facts, fact).rjust(COLUMN) for _, facts, _ in block))
        for label in labels:
            cells = [next((v for v in rows if _head(v) == label), None) for _, _, rows in block]
            lines.append(label.ljust(first) + "".join(_cell(v).rjust(COLUMN) for v in cells))
            notes |= {(label, v.note): None for v in cells if v is not None and v.note}
        lines.append("")
    for value in together:
        bounds = (
            f"  ({_number(value.low)} to {_number(value.high)})"
            if value.low is not None and value.high is not None
            else ""
        )
        lines.append(f"{_head(value).ljust(first)}{_number(value.value).rjust(COLUMN)}{bounds}")
        notes[_head(value), value.note] = None
    grouped: dict[str, list[str]] = {}
    for label, note in notes:
        grouped.setdefault(note, []).append(label.rstrip(" ↑↓").split(" [")[0])
    return [*lines, *(f"{', '.join(names)}: {note}" for note, names in grouped.items())]


def extractors(
    pull: Annotated[str | None, typer.Option(help="Download the weights of this one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to the licence that is shown; do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """List the feature networks the metrics look through, or download one."""
    from .metrics.extractors.registry import EXTRACTORS, row

    if pull is None:
        rows = list(EXTRACTORS.values())
        if as_json:
            print(json.dumps({"extractors": [r.as_dict() for r in rows]}))
            return
        for r in rows:
            print(f"{r.name}  {'present' if r.present else 'not on this machine'}")
            for key, value in (("does", r.does), ("paper", r.paper), ("licence", r.licence), ("from", r.source)):
                print(f"    {key:<10}{value}")
        return
    from .metrics.extractors.pull import fetch

    chosen = row(pull)
    if not chosen.needs:
        print(f"{chosen.name} is in the package, there is nothing to download", file=sys.stderr)
        return
    if not chosen.present:
        for key, value in (("extractor", chosen.name), ("licence", chosen.licence), ("from", chosen.source)):
            print(f"{key:<10}{value}", file=sys.stderr)
        if not yes:
            if not sys.stdin.isatty():
                raise SettingError(
                    f"expected a yes to the licence above; to agree without being asked: vivant extractors --pull {pull} --yes"
                )
            typer.confirm("Download under this licence?", abort=True, err=True)
        fetch(chosen)
    print(chosen.folder)


def _short(name: str) -> str:
    return name if len(name) < COLUMN else f"{name[: COLUMN - 3]}…"


def _named(text: str) -> tuple[str, str]:
    role, _, name = text.partition("=")
    if not name:
        raise SettingError(f"expected an extractor as ROLE=NAME, such as video=videomae, got {text!r}")
    return role, name


def _facts(video: Any) -> dict[str, Any]:
    return {
        "size": list(video.size), "frames": len(video.frames), "cut": video.cut, "fps": round(video.fps, 3),
        "variable": video.variable,
    }  # fmt: skip


def _fact(facts: dict[str, Any], name: str) -> str:
    if name == "size":
        return f"{facts['size'][0]}×{facts['size'][1]}"
    if name == "frames":
        return f"{facts['frames']}{'+' if facts['cut'] else ''}"
    return f"{facts['fps']:g}{' variable' if facts['variable'] else ''}"


def _head(value: Value) -> str:
    return f"{value.label}{f' [{value.unit}]' if value.unit else ''}{ARROWS[value.better]}"


def _cell(value: Value | None) -> str:
    return "" if value is None else _number(value.value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
