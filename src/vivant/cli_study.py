"""`vivant study`: a user study's page, and its answers counted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .errors import InputError, SettingError

study_app = typer.Typer(help="A user study: a page without a server, and its answers counted.", no_args_is_help=True)


@study_app.command("make")
def study_make(
    methods: Annotated[
        list[str], typer.Argument(metavar="[LABEL=]DIR…", help="A folder of clips a method, named alike.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The page's folder; its key is written beside it.")],
    count: Annotated[int, typer.Option(help="Cases, drawn with the seed.")] = 20,
    title: Annotated[str, typer.Option(help="Over the page.")] = "Which animation is best?",
    prompts: Annotated[Path | None, typer.Option(help="Sentences by clip name: .json or .csv.")] = None,
    paintings: Annotated[Path | None, typer.Option(help="Folder of the pictures, named as the clips.")] = None,
    fps: Annotated[int, typer.Option(help="Of every clip.")] = 8,
    seconds: Annotated[float, typer.Option(help="Length of every clip.")] = 2.0,
    side: Annotated[int, typer.Option(help="Longer side of every clip, pixels.")] = 320,
    seed: Annotated[int, typer.Option(help="Same seed, same cases.")] = 0,
) -> None:
    """Write the page: open index.html, answer, download; no server."""
    from .data.benchmarks import read_prompts
    from .metrics.study import make

    if paintings is not None and not paintings.is_dir():
        raise InputError(f"expected a folder of pictures at {paintings}, found none")
    folders: dict[str, Path] = {}
    for label, place in map(pair, methods):
        name = label or Path(place).resolve().name
        if name in folders:
            raise InputError(f"expected methods of different names, got {name!r} twice; write LABEL=DIR")
        folders[name] = Path(place)
    key = make(
        folders, out, count=count, seed=seed, title=title, prompts=read_prompts(prompts) if prompts else None,
        paintings=paintings, fps=fps, seconds=seconds, side=side,
    )  # fmt: skip
    print(out / "index.html")
    print(f"the key, not to be given away: {key}", file=sys.stderr)


@study_app.command("read")
def study_read(
    answers: Annotated[list[Path], typer.Argument(help="The files that participants downloaded.")],
    key: Annotated[Path | None, typer.Option(help="PAGE.key.json; default: looked for beside the answers.")] = None,
    seconds: Annotated[
        float, typer.Option("--seconds-per-case", help="Who took less a case is left out (the paper: 180 s for 20).")
    ] = 9.0,
    interval: Annotated[str, typer.Option(help="bootstrap (participants drawn) or wilson.")] = "bootstrap",
    show: Annotated[str, typer.Option("--print", help="md, csv or tex.")] = "md",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Preference rates with intervals of 95 %; quick clickers are left out."""
    from .metrics.study import read
    from .metrics.tables import PRINTS

    if show not in PRINTS:
        raise SettingError(f"expected --print {', '.join(PRINTS)}, got {show!r}")
    if interval not in ("bootstrap", "wilson"):
        raise SettingError(f"expected --interval bootstrap or wilson, got {interval!r}")
    tally = read(answers, key, seconds, "wilson" if interval == "wilson" else "bootstrap")
    print(json.dumps(tally.as_dict()) if as_json else PRINTS[show](tally.grid()), end="\n" if as_json else "")
    for file, why in tally.dropped:
        print(f"vivant: left out {file}: {why}", file=sys.stderr)


def pair(text: str) -> tuple[str | None, str]:
    """LABEL=PLACE, or a place alone."""
    label, sign, place = text.partition("=")
    return (label, place) if sign else (None, text)
