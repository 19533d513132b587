"""`vivant data`: from a pile of videos to a list to train on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import OutputError, SettingError

if TYPE_CHECKING:
    from .data.describe import Describe

LINES = 50
"""Left-out clips that are told one by one; broken ones always are."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(data)


def data(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…", help="Folders, lists (.csv .json .jsonl), shards (.tar, {000..009}), videos."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The list to train on (.jsonl).")] = Path("annotated.jsonl"),
    camera: Annotated[
        float, typer.Option(help="The most camera motion, % of the diagonal a second; negative: any.")
    ] = 3.0,
    cuts: Annotated[str, typer.Option(help="Videos with cuts: drop, split (a clip of each shot) or keep.")] = "drop",
    motion: Annotated[float | None, typer.Option(help="The least motion score (AnimateAnything's code: 50).")] = None,
    most_motion: Annotated[float | None, typer.Option(help="The largest motion score.")] = None,
    moved: Annotated[float | None, typer.Option(help="The largest share of the picture that moves, 0..1.")] = None,
    seconds: Annotated[float, typer.Option(help="The least length.")] = 1.0,
    confidence: Annotated[
        float | None, typer.Option(help="The least dynamic confidence, 0..100 (DynamiCrafter: 40).")
    ] = None,
    need_captions: Annotated[bool, typer.Option("--need-captions", help="Leave out clips without a caption.")] = False,
    caption: Annotated[str | None, typer.Option(help="The column or JSON field of the caption.")] = None,
    describe: Annotated[
        str,
        typer.Option(help="Who says what moves: rules, none, or the address of an OpenAI-compatible endpoint (…/v1)."),
    ] = "rules",
    model: Annotated[str | None, typer.Option(help="With an endpoint: name of the language model.")] = None,
    flow: Annotated[
        str | None, typer.Option(help="Keep optical flow and motion masks: dis, or raft (with vivant[raft]).")
    ] = None,
    rate: Annotated[float, typer.Option(help="Frames a second that are looked at.")] = 8.0,
    side: Annotated[int, typer.Option(help="Longer side, in pixels, at which clips are looked at.")] = 256,
    workers: Annotated[int, typer.Option(help="Clips looked at beside each other.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew what an earlier run has measured.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Filter and annotate videos: motion, camera, cuts, what the captions say; a list, a page of statistics."""
    from .cli_show import Progress, Stopped
    from .data.annotate import Work, annotate
    from .data.filters import Rules

    if cuts not in ("drop", "split", "keep"):
        raise SettingError(f"expected drop, split or keep for --cuts, got {cuts!r}")
    if flow not in (None, "dis", "raft"):
        raise SettingError(f"expected dis or raft for --flow, got {flow!r}")
    if out.is_dir():
        raise OutputError(
            f"expected a file's name for the list, {out} is a folder; name e.g. {out / 'annotated.jsonl'}"
        )
    rules = Rules(
        camera if camera >= 0 else None, cuts == "keep", motion, most_motion, seconds, confidence, need_captions, moved
    )
    teller = _teller(describe, model)
    with Progress(not as_json) as progress, Stopped(lambda: "the same command goes on from there"):
        result = annotate(
            source if len(source) > 1 else source[0], out, rules, Work(rate, side, cuts == "split", flow), teller,
            caption, workers, fresh, progress,
        )  # fmt: skip
    unanswered = getattr(teller, "unanswered", 0)
    if unanswered:
        result.warnings.append(f"{unanswered} captions stayed unanswered and were described by rules")
    if as_json:
        print(json.dumps({
            "output": str(result.out), "dropped": str(result.left_out), "page": str(result.page),
            "kept": len(result.kept), "left_out": result.reasons, "measured": result.measured, "warnings": result.warnings,
            "errors": [{"key": r["key"], "error": r["error"]} for r in result.dropped if "error" in r],
        }))  # fmt: skip
        return
    for line in result.warnings:
        print(f"vivant: {line}", file=sys.stderr)
    for row in result.dropped:
        if "error" in row or len(result.dropped) <= LINES:
            print(f"vivant: left out {row['key']}: {row['why']}", file=sys.stderr)
    if len(result.dropped) > LINES:
        counted = ", ".join(f"{name} {count}" for name, count in result.reasons.items())
        print(f"vivant: left out {len(result.dropped)} ({counted}); each in {result.left_out}", file=sys.stderr)
    print(result.out)
    print(f"{len(result.kept)} clips kept, {len(result.dropped)} left out; statistics: {result.page}", file=sys.stderr)


def _teller(describe: str, model: str | None) -> Describe | None:
    if describe == "none":
        return None
    if describe == "rules":
        from .data.describe import by_rules

        return by_rules
    from .data.endpoint import Endpoint
    from .priors.entry import models_folder

    return Endpoint(describe, model or "", models_folder() / "descriptions.sqlite")
