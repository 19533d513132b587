"""The commands about the director's hand: calibrate a model's strength, measure what the controls do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import InputError, SettingError

PARTS = ("mask", "strength", "regions", "arrows")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Model = Annotated[str, typer.Option(help="Base model; see `vivant models`.")]
Seed = Annotated[int, typer.Option(help="Same seed, same scenes and clips.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]


def register(app: typer.Typer, eval_app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(calibrate)
    eval_app.command("controls")(controls)


def calibrate(
    model: Annotated[str, typer.Argument(help="Base model; see `vivant models`.")],
    scenes: Annotated[int, typer.Option(help="How many procedural scenes are animated.")] = 12,
    values: Annotated[int, typer.Option(help="At how many settings of the model's knob each of them is.")] = 10,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Where the curve goes. Default: with the model.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Measure how much a model moves at each setting, so that strength 0..1 means the same for every model."""
    from .controls import strength

    if scenes < 1 or values < 3:
        raise SettingError(f"expected at least 1 scene and 3 values, got {scenes} and {values}")
    target = out or strength.places(model)[0]
    if target.suffix.lower() != ".json":
        raise SettingError(f"expected a curve that ends in .json, got {target.name!r}")
    curve = strength.calibrate(_load(model, device, dtype), model, scenes, values, seed, _say)
    path = strength.save(curve, target)
    if as_json:
        print(json.dumps({**curve.as_dict(), "output": str(path)}))
        return
    print("| knob | motion, % of the diagonal a frame | strength |\n|---|---|---|")
    for knob, moves in zip(curve.knobs, curve.motions, strict=True):
        print(f"| {knob:.2f} | {moves:.3f} | {moves / strength.FULL:.2f} |")
    print(f"Spearman {curve.spearman:.3f} over {len(curve.knobs)} values, {curve.scenes} scenes", file=sys.stderr)
    print(path)


def controls(
    scenes: Annotated[int, typer.Option(help="How many held-out scenes.")] = 16,
    seed: Seed = 0,
    model: Model = "miniature",
    folder: Annotated[
        str, typer.Option(help="Real paintings with masks (a folder with a cases.json); skipped where there is none.")
    ] = "../shared/inputs",
    parts: Annotated[str, typer.Option(help="Which of mask,strength,regions,arrows.")] = ",".join(PARTS),
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Mask precision, strength, regions and arrows, each with the control and without."""
    chosen = [part.strip() for part in parts.split(",")]
    if not set(chosen) <= set(PARTS):
        raise SettingError(f"expected parts among {', '.join(PARTS)}, got {parts!r}")
    if scenes < 1:
        raise SettingError(f"expected at least 1 scene, got {scenes}")
    place: Path | None = Path(folder)
    if place is not None and not (place / "cases.json").is_file():
        if folder != "../shared/inputs":
            raise InputError(f"expected paintings and a cases.json in {folder}, found none")
        place = None
    from .controls.evaluate import markdown, report

    found = report(_load(model, device, dtype), model, scenes, seed, place, chosen, _say)
    print(json.dumps(found) if as_json else markdown(found))


def _load(model: str, device: str, dtype: str) -> Any:
    from .priors.registry import load
    from .stage import chosen_device

    return load(model, chosen_device(device), dtype)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
