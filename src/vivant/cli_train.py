"""The commands that train: the embedded model and its reader, and the papers' recipes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[
    str, typer.Option(help="A YAML file, or a shipped configuration by name: tiny, full, and the recipe's others.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="key=value on top of it, e.g. loop.steps=100. May be repeated.")
]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", help="Where states, logs and weights go; default: runs/RECIPE.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest state in --out.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option(help="Same seed, same weights.")]


def register(train_app: typer.Typer) -> None:
    """Add the commands to the command line."""
    train_app.command("miniature")(miniature)
    train_app.command("text")(text)
    train_app.command("animate-anything")(animate_anything)
    train_app.command("dynamicrafter")(dynamicrafter)


def miniature(
    steps: int = 20000, out: Path = Path("runs/miniature"), resume: str | None = None, seed: Seed = 0, threads: int = 2,
    minutes: float | None = None, batch: int = 8, workers: int = 1, rate: float = 6e-4, textures: str | None = None,
    device: str = "cpu",
) -> None:  # fmt: skip
    """Train the embedded prior on procedural scenes; go on from a state.pt or from weights with --resume."""
    from .train.miniature import main as run

    print(run(steps, str(out), resume, seed, threads, minutes, batch, workers, rate, textures, device))


def text(minutes: float = 8.0, seed: Seed = 0, out: Path = Path("runs/text.safetensors")) -> None:
    """Train the reader of sentences on described plans."""
    from .train.text import train as run

    out.parent.mkdir(parents=True, exist_ok=True)
    run(minutes, seed, out)


def animate_anything(
    config: Config = "tiny", changes: Changes = None, out: Out = None, resume: Resume = False, as_json: Json = False
) -> None:
    """AnimateAnything: motion mask, frozen target, strength and its loss; layers over time, all, or LoRA."""
    from .train.recipes import animate_anything as recipe

    _train(recipe.Config, recipe.AnimateAnythingRecipe, recipe.NAME, config, changes, out, resume, as_json)


def dynamicrafter(
    config: Config = "tiny", changes: Changes = None, out: Out = None, resume: Resume = False, as_json: Json = False
) -> None:
    """DynamiCrafter: the context network, its adaption, the picture beside the noise; loops and interpolation."""
    from .train.recipes import dynamicrafter as recipe

    _train(recipe.Config, recipe.DynamiCrafterRecipe, recipe.NAME, config, changes, out, resume, as_json)


def _train(
    kind: Any,
    recipe: Any,
    name: str,
    config: str,
    changes: list[str] | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    from .train.config import as_plain, read
    from .train.engine import cached
    from .train.feed import clips_of
    from .train.loop import train

    told = read(kind, config, changes or (), name)
    target = out or Path("runs") / name

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    clips, held_out = clips_of(told.data, told.loop.seed)
    for line in clips.broken:
        say(f"left out: {line}")
    made = recipe.of(told, target)
    clips = cached(made, clips, told.data.cache, told.data.variants, say)
    record = as_plain(told)
    report = train(made, clips, held_out, told.loop, target, resume, record, told.data.workers, say)
    if as_json:
        print(json.dumps(asdict(report)))
        return
    print(report.weights)
    say(
        f"{report.steps} steps; {report.clips_per_second:.2f} clips/s, {100 * report.waiting:.1f} % of the time waiting "
        f"for clips; {', '.join(f'{k} {v:.4f}' for k, v in report.metrics.items())}"
    )
