"""The commands that train: the embedded model and its reader, and the papers' recipes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_show import Json, Stopped, kept_state

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
    only: Annotated[str | None, typer.Option(help="reader or motion: that network learns, the other stays.")] = None,
) -> None:  # fmt: skip
    """Train the embedded prior on procedural scenes; go on from a state.pt or from weights with --resume."""
    from .train.miniature import SAVED, STATE
    from .train.miniature import main as run

    with Stopped(kept_state(out / STATE, SAVED)):
        print(run(steps, str(out), resume, seed, threads, minutes, batch, workers, rate, textures, device, only))


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
    from .train.engine import cached, processes
    from .train.feed import clips_of
    from .train.loop import train
    from .train.state import belongs, states, step_of

    told = read(kind, config, changes or (), name)
    target = out or Path("runs") / name
    belongs(target, name, resume)
    others = processes(told.loop)
    first = bool(others.is_main_process)

    def say(line: str) -> None:
        if first:
            print(line, file=sys.stderr, flush=True)

    def kept() -> str:
        found = states(target)
        if not found:
            return f"no state is written yet (the first after step {told.loop.save_every}: loop.save_every)"
        return f"kept: {found[-1]}; the same command with --resume goes on after step {step_of(found[-1])}"

    with Stopped(kept):
        clips, held_out = clips_of(told.data, told.loop.seed)
        for line in clips.broken:
            say(f"left out: {line}")
        say(
            f"{name}: {told.loop.steps} steps of {told.loop.batch} from {len(clips)} clips of {told.data.source}, "
            f"base {told.model.base}, into {target}"
        )
        with others.main_process_first():  # a small base is made by one and found by the others
            made = recipe.of(told, target)
        record = as_plain(told)
        decide = {k: v for k, v in record["data"].items() if k not in ("cache", "variants", "workers")}
        of = json.dumps([decide, told.loop.seed], sort_keys=True, default=str)
        clips = cached(made, clips, told.data.cache, told.data.variants, say, of)
        report = train(made, clips, held_out, told.loop, target, resume, record, told.data.workers, say)
    if not first:
        return
    if as_json:
        print(json.dumps(asdict(report)))
        return
    print(report.weights)
    say(
        f"{report.steps} steps; {report.clips_per_second:.2f} clips/s, {100 * report.waiting:.1f} % of the time waiting "
        f"for clips; {', '.join(f'{k} {v:.4f}' for k, v in report.metrics.items())}"
    )
