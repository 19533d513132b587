"""The commands that make clips: animate, rerun, proxy, demo."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_long, cli_models
from .cli_show import Progress, Seed, finish, named_proxy, target_of
from .errors import InputError, OutputError, SettingError


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (animate, rerun, proxy, demo):
        app.command()(command)


def animate(
    ctx: typer.Context,
    painting: Annotated[Path | None, typer.Argument(help="The picture: JPEG, PNG, TIFF, WebP …")] = None,
    prompt: Annotated[str, typer.Argument(help='What moves, e.g. "Clouds drift to the right".')] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help=".mp4 .mov (ProRes) .mkv (lossless) .gif .webp .apng, or a folder of PNGs. Default: beside you, NAME.mp4",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Base model; see `vivant models`.")] = "miniature",
    seed: Seed = 42,
    frames: Annotated[int | None, typer.Option(help="Number of frames (default: the model's own).")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps (default: the model's own).")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second (default: the model's own).")] = None,
    guidance: Annotated[float | None, typer.Option(help="How strongly the words pull.")] = None,
    negative: Annotated[str, typer.Option(help="What to avoid, for models that take it.")] = "",
    mask: Annotated[
        str | None,
        typer.Option(
            help="Where it may move; all else stays to the pixel: a picture (white moves), SVG, JSON, a box x0,y0,x1,y1."
        ),
    ] = None,
    feather: Annotated[str | None, typer.Option(help="The mask softened inwards: pixels (12) or a share (2%).")] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            help='A part with a sentence of its own: "mask=a.png; prompt=Clouds drift; strength=.4"; may be repeated.'
        ),
    ] = None,
    compose: Annotated[str, typer.Option(help='Regions "together" or "in turn".')] = "together",
    shot: Annotated[Path | None, typer.Option(help="A YAML or JSON file that holds all of this.")] = None,
    strength: Annotated[float | None, typer.Option(help="How much it moves, 0..1.")] = None,
    arrow: Annotated[
        list[str] | None, typer.Option(help='"x0,y0:x1,y1" in fractions of the picture; may be repeated.')
    ] = None,
    proxy: Annotated[
        str, typer.Option(help="auto, none, embedded, refiner, masactrl, invsr, edit, or a picture.")
    ] = "auto",
    distil: Annotated[float, typer.Option(help="Share of the steps that distillation spans (0: none).")] = 0.6,
    distil_levels: Annotated[
        int | None, typer.Option(help="How many of those levels are visited (default: the model's own).")
    ] = None,
    curve: Annotated[
        str,
        typer.Option(
            help="Step sizes: stepwise-decreasing, linear-decreasing, stepwise-increasing, linear-increasing."
        ),
    ] = "stepwise-decreasing",
    gain: Annotated[float | None, typer.Option(help="Factor on the distillation's step sizes.")] = None,
    blend: Annotated[str, typer.Option(help="slerp or lerp.")] = "slerp",
    last: Annotated[Path | None, typer.Option(help="A picture of the painting's shape that the clip ends on.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="The frame after the last is the first.")] = False,
    size: Annotated[str, typer.Option(help="native, WIDTHxHEIGHT, or the longer side in pixels.")] = "native",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    allow_smaller: Annotated[
        bool, typer.Option("--allow-smaller", help="Work at a smaller size where memory is short.")
    ] = False,
    model_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT the model works at, in the painting's aspect (default: its own).")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="A LoRA's file or folder; PATH:0.8 for less of it; may be repeated.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what it would take (memory, steps, download) and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about the result.")] = False,
) -> None:
    """Animate a painting as a sentence says."""
    from .controls.arrows import parse as parse_arrow

    how: dict[str, Any] = {
        "painting": painting, "prompt": prompt, "out": out, "model": model, "seed": seed, "frames": frames, "steps": steps,
        "fps": fps, "guidance": guidance, "negative": negative, "mask": mask, "feather": feather, "strength": strength,
        "arrows": tuple(parse_arrow(a) for a in arrow or []), "regions": tuple(region or []), "compose": compose,
        "proxy": named_proxy(proxy), "distil": distil, "distil_evaluations": distil_levels, "curve": curve, "gain": gain,
        "blend": blend, "last": last, "loop": loop, "size": size, "device": device, "dtype": dtype,
        "allow_smaller": allow_smaller, "model_size": parse_size(model_size),
        "lora": tuple(lora or []),
    }  # fmt: skip
    if shot is not None:
        how = told_by(shot, how, ctx)
    source, words, frames = Path(how.pop("painting") or ""), how.pop("prompt"), how.pop("frames")
    if source == Path():
        raise SettingError("expected a painting and a sentence, or --shot FILE, got neither; see vivant animate --help")
    if how["compose"] not in ("together", "in turn"):
        raise SettingError(f"expected regions moved together or in turn, got {how['compose']!r}")
    target = how.pop("out")
    last, loop = how.pop("last"), how.pop("loop")
    if plan:
        cli_models.show_plan(
            source, how["size"], how["model"], how["device"], how["dtype"], frames, how["steps"], how["distil"],
            how["distil_evaluations"], how["proxy"], how["allow_smaller"], how["model_size"], as_json,
        )  # fmt: skip
        return
    target = target_of(target, source, how["mask"], how["proxy"], last)
    from . import pipeline
    from .priors.registry import entry

    if last is not None or (frames is not None and frames > entry(how["model"]).frames and not loop):
        # More than a clip of the model is a film of several; a last picture makes an in-between.
        if last is None:
            cli_long.film(source, words, target, frames, how, as_json)
            return
        if loop:
            raise SettingError("expected --loop or --last, got both: a loop ends on the painting itself")
        del how["compose"]
        if how.pop("regions"):
            raise SettingError("expected regions without --last; an in-between moves by one sentence")
        del how["proxy"]  # the last picture is the second path
        cli_long.lead_over(source, Path(last), words, target, frames, how, as_json)
        return
    with Progress(not as_json) as progress:
        result = pipeline.animate(source, words, frames=frames, loop=loop, on_progress=progress, **how)
        report = _saved(result, target, as_json)
    finish(report, as_json)


def rerun(
    file: Annotated[Path, typer.Argument(help="A result made by vivant.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to; default: FILE with '-again'.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about the result.")] = False,
) -> None:
    """Make a result again from the recipe inside it."""
    from .render.export import check_target, read_recipe

    if not file.name or not file.exists():
        raise InputError(f"expected a result at {file}, found no such file")
    target = out or file.with_name(f"{file.stem}-again{file.suffix}")
    check_target(target)
    recipe = read_recipe(file)
    if recipe.keys() & {"film", "between", "story"}:
        cli_long.again(recipe, target, as_json)
        return
    from . import pipeline

    with Progress(not as_json) as progress:
        result = pipeline.rerun(recipe, progress)
        report = _saved(result, target, as_json)
    finish(report, as_json)


def proxy(
    painting: Annotated[Path, typer.Argument(help="The picture.")],
    prompt: Annotated[str, typer.Argument(help="The sentence the painting will be animated by.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the proxy image goes (PNG).")] = Path("proxy.png"),
    maker: Annotated[str, typer.Option("--with", help="auto, embedded, refiner, masactrl, invsr or edit.")] = "auto",
    model: Annotated[str, typer.Option(help="The base model it is for.")] = "miniature",
    seed: Seed = 42,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Make the proxy image of a painting and keep it; say how far it left the painting."""
    from . import pipeline

    made, far, name = pipeline.make_proxy(painting, prompt, out, maker, model, seed, device)
    print(made)
    print(f"by {name}; structure distance {far.structure:.2f}, colour ΔE {far.colour:.1f}", file=sys.stderr)
    if far.warning:
        print(f"vivant: {far.warning}", file=sys.stderr)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the video and the contact sheet.")] = Path("demo"),
) -> None:
    """Animate the project's own painting with the embedded model, offline."""
    from . import pipeline
    from .render.export import contact_sheet

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"expected to make the folder {out}: {error.strerror}") from error
    painting = Path(__file__).parent / "data" / "demo.jpg"
    kept: list[Any] = []
    with Progress(True) as progress:
        result = pipeline.animate(painting, "Clouds drift to the right and the water ripples", on_progress=progress)
        render, count = result._render, result.shot.frames

        def keeping() -> Any:
            for i, frame in enumerate(render()):
                if i % max(1, count // 5) == 0 and len(kept) < 5:
                    kept.append(frame)
                yield frame

        result._render = keeping
        report = _saved(result, out / "demo.mp4")
        contact_sheet(kept, out / "demo.png")
    finish(report)
    print(out / "demo.png")


def told_by(file: Path, how: dict[str, Any], ctx: typer.Context) -> dict[str, Any]:
    """A shot file's settings, with what stands on the command line in their place."""
    from .controls.shotfile import load

    names = {"distil_evaluations": "distil_levels", "arrows": "arrow", "regions": "region"}
    spoken = {key for key in how if getattr(ctx.get_parameter_source(names.get(key, key)), "name", "") == "COMMANDLINE"}
    return {**how, **{key: value for key, value in load(file).items() if key not in spoken}}


def parse_size(text: str | None) -> tuple[int, int] | None:
    """ "512x320" as (512, 320). Raises `SettingError`."""
    if text is None:
        return None
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 64 <= int(side) <= 4096 for side in sides):
        raise SettingError(f"expected a model size like 512x320 (sides of 64 to 4096), got {text!r}")
    return int(sides[0]), int(sides[1])


def _saved(result: Any, target: Path, measure: bool = False) -> dict[str, Any]:
    """Write a clip; what there is to say of it."""
    start = time.perf_counter()
    path = result.save(target, measure)
    return {
        **({"motion_percent": round(result.motion, 4)} if measure else {}),
        "output": str(path), "frames": result.shot.frames, "fps": result.shot.fps,
        "size": [result.shot.painting.shape[1], result.shot.painting.shape[0]], "evaluations": result.evaluations,
        "seconds": {**result.seconds, "render": round(time.perf_counter() - start, 3)}, "warnings": result.warnings,
    }  # fmt: skip
