"""The commands for more than a clip: long, between, story, and `vivant eval long`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_show import Json, Progress, Seed, Stopped, finish, named_proxy, target_of
from .errors import OutputError, SettingError

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
    feather: Annotated[str | None, typer.Option(help="The mask softened inwards: pixels (12) or a share (2%).")] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(help='A part with a sentence of its own: "mask=a.png; prompt=Clouds drift"; may be repeated.'),
    ] = None,
    compose: Annotated[str, typer.Option(help='Regions "together" or "in turn".')] = "together",
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
    from .controls.arrows import parse as parse_arrow

    how = {
        "method": method, "gamma": gamma, "omega": omega, "window": window, "overlap": overlap, "fresh": fresh,
        "model": model, "seed": seed, "steps": steps, "fps": fps, "guidance": guidance, "negative": negative,
        "mask": mask, "feather": feather, "regions": tuple(region or []), "compose": compose, "strength": strength, "arrows": [parse_arrow(a) for a in arrow or []],
        "proxy": named_proxy(proxy), "distil": distil, "size": size, "device": device, "dtype": dtype,
    }  # fmt: skip
    film(painting, prompt, target_of(out, painting, mask, how["proxy"]), frames, how, as_json)


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
    how = {"model": model, "seed": seed, "steps": steps, "fps": fps, "size": size, "device": device}
    lead_over(painting, last, prompt, target_of(out, painting, last), frames, how, as_json)


def film(painting: Path, prompt: str, target: Path, frames: int, how: dict[str, Any], as_json: bool) -> None:
    """A film of `frames`; `how` as `animate_long` takes it. Also `animate` with more frames than the model's clip has."""
    from .long.film import animate_long

    _made(
        lambda seen: animate_long(painting, prompt, target, frames=frames, on_progress=seen, **how), target, as_json,
        how.get("fresh", False),
    )  # fmt: skip


def lead_over(
    painting: Path, last: Path, prompt: str, target: Path, frames: int | None, how: dict[str, Any], as_json: bool
) -> None:
    """A clip that ends on another picture; `how` as `animate_between` takes it. Also `animate --last`."""
    from .long.between import animate_between

    _made(
        lambda seen: animate_between(painting, last, prompt, target, frames=frames, on_progress=seen, **how),
        target, as_json,
    )  # fmt: skip


def again(recipe: dict[str, Any], target: Path, as_json: bool) -> None:
    """What `rerun` does with the recipe of a film, of an in-between or of a story."""
    from .long.again import rerun_long
    from .long.tell import retell

    _made(lambda seen: (retell if "story" in recipe else rerun_long)(recipe, target, seen), target, as_json)


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
    from .long.tell import tell

    target = target_of(out, script)
    _made(lambda seen: tell(script, target, fresh=fresh, on_progress=seen), target, as_json, fresh)


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


def _made(make: Callable[[Progress], Any], target: Path, as_json: bool, fresh: bool = False) -> None:
    """Make a film with its progress shown, and say what came out; one that is stopped says how to go on."""
    from .long.film import partial, work_folder

    def so_far() -> str:
        if not any(work_folder(target).rglob("*.safetensors")):
            return "nothing is kept"
        there = f"what is there so far: {partial(target)}; " if partial(target).exists() else ""
        return f"{there}the same command{' without --fresh' if fresh else ''} goes on from there"

    with Progress(not as_json) as progress, Stopped(so_far):
        film = make(progress)
    finish(
        {
            "output": str(film.path), "frames": film.frames, "fps": film.fps, "windows": film.windows,
            "resumed": film.resumed, "evaluations": film.evaluations,
            "seconds": {name: round(value, 3) for name, value in film.seconds.items()}, "warnings": film.warnings,
        },
        as_json,
    )  # fmt: skip
