"""The commands for more than a clip: long, between, story, and `vivant eval long`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import InputError, OutputError, SettingError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object about the result.")]
Seed = Annotated[int, typer.Option(help="Same seed, same film.")]
Model = Annotated[str, typer.Option(help="Base model; see `vivant models`.")]
Painting = Annotated[Path, typer.Argument(help="The picture: JPEG, PNG, TIFF, WebP …")]
Prompt = Annotated[str, typer.Argument(help='What moves, e.g. "Clouds drift to the right".')]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew: do not go on from a run that was stopped.")]


def register(app: typer.Typer, eval_app: typer.Typer | None = None) -> None:
    """Add the commands to the command line."""
    for command in (long, between, story):
        app.command()(command)
    if eval_app is not None:
        eval_app.command("long")(eval_long)


def long(
    painting: Painting,
    prompt: Prompt,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Default: beside you, NAME.mp4, written as it is made.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of the film.")] = 125,
    method: Annotated[str, typer.Option(help="phased, continuation, windowed or freenoise.")] = "phased",
    gamma: Annotated[float, typer.Option(help="Phased: share of the steps taken over from the first clip.")] = 0.8,
    omega: Annotated[float, typer.Option(help="Phased: how much fresh noise later clips get.")] = 0.2,
    window: Annotated[int | None, typer.Option(help="Frames of a window (default: the model's own clip).")] = None,
    overlap: Annotated[int | None, typer.Option(help="Latent frames that neighbouring windows share.")] = None,
    fresh: Fresh = False,
    model: Model = "miniature",
    seed: Seed = 42,
    steps: Annotated[int | None, typer.Option(help="Denoising steps (default: the model's own).")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second (default: the model's own).")] = None,
    guidance: Annotated[float | None, typer.Option(help="How strongly the words pull.")] = None,
    negative: Annotated[str, typer.Option(help="What to avoid, for models that take it.")] = "",
    mask: Annotated[str | None, typer.Option(help="Where it may move: a picture, SVG, JSON or a box.")] = None,
    strength: Annotated[float | None, typer.Option(help="How much it moves, 0..1.")] = None,
    arrow: Annotated[list[str] | None, typer.Option(help='"x0,y0:x1,y1" in fractions; may be repeated.')] = None,
    proxy: Annotated[str, typer.Option(help="auto, none, a maker's name, or a picture.")] = "auto",
    distil: Annotated[float, typer.Option(help="Share of the steps that distillation spans (0: none).")] = 0.6,
    size: Annotated[str, typer.Option(help="native, WIDTHxHEIGHT, or the longer side.")] = "native",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: Json = False,
) -> None:
    """Animate a painting for as long as you like; a run that was stopped goes on where it was."""
    from . import cli

    target = _target(out, painting)
    from .controls.arrows import parse as parse_arrow
    from .long.film import animate_long, partial

    with cli.Progress(not as_json) as progress, _Stop(partial(target)):
        film = animate_long(
            painting, prompt, target, frames=frames, method=method, gamma=gamma, omega=omega, window=window,
            overlap=overlap, fresh=fresh, on_progress=progress, model=model, seed=seed, steps=steps, fps=fps,
            guidance=guidance, negative=negative, mask=mask, strength=strength,
            arrows=[parse_arrow(a) for a in arrow or []], proxy=cli.named_proxy(proxy), distil=distil, size=size,
            device=device, dtype=dtype,
        )  # fmt: skip
    _finish(film, as_json)


def between(
    painting: Painting,
    last: Annotated[Path, typer.Argument(help="The picture the clip ends on, of the painting's shape.")],
    prompt: Prompt,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: beside you, NAME.mp4.")] = None,
    frames: Annotated[int | None, typer.Option(help="Number of frames (default: the model's own).")] = None,
    model: Model = "miniature",
    seed: Seed = 42,
    steps: Annotated[int | None, typer.Option(help="Denoising steps (default: the model's own).")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second (default: the model's own).")] = None,
    size: Annotated[str, typer.Option(help="native, WIDTHxHEIGHT, or the longer side.")] = "native",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
) -> None:
    """Lead one picture over into another, both moving."""
    from . import cli

    target = _target(out, painting)
    from .long.between import animate_between

    with cli.Progress(not as_json) as progress:
        film = animate_between(
            painting, last, prompt, target, frames=frames, model=model, seed=seed, steps=steps, fps=fps, size=size,
            device=device, on_progress=progress,
        )  # fmt: skip
    _finish(film, as_json)


def film(painting: Path, prompt: str, target: Path, frames: int, how: dict[str, Any], as_json: bool) -> None:
    """What `animate` does when more frames are asked for than the model's clip has; `how` as `animate_long` takes it."""
    from . import cli
    from .long.film import animate_long, partial

    with cli.Progress(not as_json) as progress, _Stop(partial(target)):
        made = animate_long(painting, prompt, target, frames=frames, on_progress=progress, **how)
    _finish(made, as_json)


def lead_over(
    painting: Path,
    last: Path,
    prompt: str,
    target: Path,
    frames: int | None,
    loop: bool,
    how: dict[str, Any],
    as_json: bool,
) -> None:
    """What `animate --last` does."""
    from . import cli
    from .long.between import animate_between

    if loop:
        raise SettingError("expected --loop or --last, got both: a loop ends on the painting itself")
    with cli.Progress(not as_json) as progress:
        how.pop("proxy", None)  # the last picture is the second path
        made = animate_between(painting, last, prompt, target, frames=frames, on_progress=progress, **how)
    _finish(made, as_json)


def again(recipe: dict[str, Any], target: Path, as_json: bool) -> None:
    """What `rerun` does with the recipe of a film, of an in-between or of a story."""
    from . import cli
    from .long.film import partial, rerun_long
    from .long.tell import retell

    with cli.Progress(not as_json) as progress, _Stop(partial(target)):
        made = (retell if "story" in recipe else rerun_long)(recipe, target, progress)
    _finish(made, as_json)


def story(
    script: Annotated[Path, typer.Argument(help="YAML or plain paragraphs; written by --draft.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: the script's name, .mp4.")] = None,
    draft: Annotated[
        str | None, typer.Option(help="Address of an OpenAI-compatible endpoint (…/v1) that drafts SCRIPT.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --draft: name of the language model.")] = None,
    about: Annotated[str, typer.Option(help="With --draft: what the film is about.")] = "",
    painting: Annotated[list[Path] | None, typer.Option(help="With --draft: a picture; may be repeated.")] = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Make one film of a script: shots, titles, transitions, sound. With --draft: have a script written, to be read first."""
    if draft is not None:
        _draft(script, draft, model, about, painting or [])
        return
    for name, given in (("--model", model), ("--about", about), ("--painting", painting)):
        if given:
            raise SettingError(
                f"expected {name} with --draft, got it alone; a script names its own model and paintings"
            )
    from . import cli

    target = out or Path.cwd() / f"{script.stem}.mp4"
    from .long.film import partial
    from .long.tell import tell

    with cli.Progress(not as_json) as progress, _Stop(partial(target)):
        film = tell(script, target, fresh=fresh, on_progress=progress)
    _finish(film, as_json)


def _draft(script: Path, url: str, model: str | None, about: str, paintings: list[Path]) -> None:
    if script.exists():
        raise OutputError(f"expected a new name for the draft, {script} is there already; move it away first")
    if script.suffix.lower() not in (".yaml", ".yml"):
        raise SettingError(f"expected a draft that ends in .yaml, got {script.name!r}")
    if not script.resolve().parent.is_dir():
        raise OutputError(f"expected a folder at {script.parent}, there is none; make it first")
    from .long.draft import draft

    script.write_text(draft(url, model or "", about, paintings, script.resolve().parent), "utf-8")
    print(script)
    print(f"vivant: read and change it, then: vivant story {script} -o film.mp4", file=sys.stderr)


def eval_long(
    painting: Annotated[Path | None, typer.Option(help="A picture; default: the project's own.")] = None,
    prompt: Annotated[str, typer.Option(help="What moves.")] = "Clouds drift to the right and the water ripples",
    frames: Annotated[int, typer.Option(help="Frames of each film.")] = 125,
    window: Annotated[int, typer.Option(help="Frames of a window (the paper's: 25).")] = 25,
    methods: Annotated[str, typer.Option(help="Which, with commas; direct continuation is always run.")] = "all",
    model: Model = "miniature",
    seed: Seed = 42,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Long methods side by side (Controllable Longer Image Animation, Table 2): consistency, flicker, motion, drift, cost."""
    from .long.evaluate import main as run

    run(painting, prompt, frames, window, methods, model, seed, as_json)


def _target(out: Path | None, painting: Path) -> Path:
    from .render.export import check_target

    target = out or Path.cwd() / f"{painting.stem}.mp4"
    check_target(target)
    if target.resolve() == painting.resolve():
        raise OutputError(f"expected another name for the result than the painting's own, got {target}")
    if not painting.exists():
        raise InputError(f"expected a picture at {painting}, found no such file")
    return target


class _Stop:
    """A long run that is stopped says what is there and how to go on."""

    def __init__(self, partial: Path) -> None:
        self.partial = partial

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is KeyboardInterrupt:
            so_far = f"; what is there so far: {self.partial}" if self.partial.exists() else ""
            print(f"vivant: stopped{so_far}; the same command goes on from there", file=sys.stderr)
            raise SystemExit(130)


def _finish(film: Any, as_json: bool) -> None:
    for line in film.warnings:
        print(f"vivant: {line}", file=sys.stderr)
    seconds = {name: round(value, 3) for name, value in film.seconds.items()}
    report = {
        "output": str(film.path), "frames": film.frames, "fps": film.fps, "windows": film.windows,
        "resumed": film.resumed, "evaluations": film.evaluations, "seconds": seconds, "warnings": film.warnings,
    }  # fmt: skip
    if as_json:
        print(json.dumps(report))
        return
    print(film.path)
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    print(f"{film.frames} frames at {film.fps} fps; {film.evaluations} evaluations; {stages}", file=sys.stderr)
