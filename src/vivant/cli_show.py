"""What the commands share: where a result goes, progress, being stopped, what is said at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object about the result.")]
Seed = Annotated[int, typer.Option(help="Same seed, same frames.")]


def named_proxy(text: str) -> str | Path:
    """A maker's name as it is, anything else as a picture's path."""
    from .proxy.registry import PROXIES

    return text if text in ("auto", "none", *PROXIES) else Path(text)


def target_of(out: Path | None, painting: Path, *given: object) -> Path:
    """Where a result goes: `out`, or the painting's name beside you. Refused early, and never what it is made from."""
    from .render.export import check_target, spare

    target = Path(out or Path.cwd() / f"{painting.stem}.mp4")
    check_target(target)
    spare(target, painting, *given)
    return target


class Progress:
    """One line on the terminal: stage, step, time left. Silent where there is no terminal."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted and sys.stderr.isatty()
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        if self.wanted:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.bar is not None:
            if stage not in self.tasks:
                self.tasks[stage] = self.bar.add_task(stage, total=total or None)
            self.bar.update(self.tasks[stage], completed=done)


class Stopped:
    """Something long that can be gone on with: when it is interrupted, one line says what is there and how to go on."""

    def __init__(self, said: Callable[[], str]) -> None:
        """`said`: the line, made at that moment."""
        self.said = said

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is KeyboardInterrupt:
            print(f"vivant: stopped; {self.said()}", file=sys.stderr)
            raise SystemExit(130)


def kept_state(state: Path, every: int) -> Callable[[], str]:
    """For `Stopped`: what is left of a training that writes `state` every so many steps."""

    def said() -> str:
        if state.is_file():  # of this run: nobody writes into a folder whose state is not gone on with
            return f"what it had learnt is kept, at most {every} steps are lost; go on with --resume {state}"
        return f"nothing is kept before step {every}"

    return said


def finish(report: dict[str, Any], as_json: bool = False) -> None:
    """Say what was made: the file's name alone on stdout (or one JSON object), the rest on stderr."""
    for line in report["warnings"]:
        print(f"vivant: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps(report))
        return
    print(report["output"])
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["seconds"].items())
    print(
        f"{report['frames']} frames at {report['fps']} fps; {report['evaluations']} evaluations; {stages}",
        file=sys.stderr,
    )
