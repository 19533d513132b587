"""The commands about arrows: the overlay, and the trainings of what follows them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_show import Stopped, kept_state
from .errors import OutputError, SettingError

Given = Annotated[
    list[str],
    typer.Option(
        "--arrow", help='"x0,y0:x1,y1" in fractions; "…*2" goes twice as far; "x,y" pins its place. May be repeated.'
    ),
]


def register(app: typer.Typer, train_app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(arrows)
    train_app.command("refine")(train_refine)
    train_app.command("svd-flow")(train_svd_flow)


def arrows(
    painting: Annotated[Path, typer.Argument(help="The picture.")],
    arrow: Given,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the overlay goes (PNG).")] = Path("overlay.png"),
    refined: Annotated[
        bool, typer.Option("--refined/--dense", help="Fit the field to what is in the picture, or spread it plainly.")
    ] = True,
    frames: Annotated[int, typer.Option(help="Frames of the clip, for its motion strength.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about the field.")] = False,
) -> None:
    """Draw arrows and the motion field they make over the painting, for checking."""
    import numpy as np

    from .controls.arrows import motion_fields, parse, said, strength
    from .controls.overlay import overlay
    from .controls.refine import field
    from .images import load_painting
    from .render.export import save_picture, spare

    told = [parse(text) for text in arrow]
    if out.suffix.lower() != ".png":
        raise OutputError(f"expected an overlay that ends in .png, got {out.name!r}")
    if not 2 <= frames <= 2000:
        raise SettingError(f"expected frames between 2 and 2000, got {frames}")
    spare(out, painting)
    picture = load_painting(painting)
    scale = min(1.0, 512 / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    flow = field(told, size, picture if refined else None)
    made = save_picture(overlay(picture, told, flow), out)
    length = np.hypot(flow[..., 0], flow[..., 1])
    report = {
        "output": str(made), "arrows": [said(a) for a in told], "refined": refined,
        "strength": round(strength(motion_fields(flow, frames)), 1), "moving_share": round(float((length > 0.5).mean()), 4),
        "longest": round(float(length.max()) / float(np.hypot(*size)), 4),
    }  # fmt: skip
    if as_json:
        print(json.dumps(report))
        return
    print(made)
    print(
        f"{len(told)} arrows move {report['moving_share']:.0%} of the picture, the longest way {report['longest']:.1%} "
        f"of the diagonal, motion strength {report['strength']:.0f}",
        file=sys.stderr,
    )


def train_refine(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/refine"),
    steps: Annotated[int, typer.Option(help="Batches to learn from.")] = 20000,
    minutes: Annotated[float | None, typer.Option(help="Stop after this long.")] = None,
    resume: Annotated[Path | None, typer.Option(help="A state.pt to go on from.")] = None,
    batch: int = 16,
    rate: float = 2e-3,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
) -> None:
    """Train the refinement of arrow fields on procedural scenes; print its error before and after on held-out ones."""
    from .train.refine import SAVE_EVERY, main

    with Stopped(kept_state(out / "state.pt", SAVE_EVERY)):
        print(json.dumps(main(out, steps, minutes, resume, batch, rate, seed, threads, device)))


def train_svd_flow(
    tiny: Annotated[bool, typer.Option("--tiny", help="A small network from nothing, on procedural scenes.")] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/svd-flow"),
    base: Annotated[Path | None, typer.Option(help="Folder of Stable Video Diffusion, to start from.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Folder of videos; procedural scenes where not given.")] = None,
    stage: Annotated[str, typer.Option(help="motion: fields and temporal layers; camera: the static-camera LoRA.")] = "motion",
    flow: Annotated[str, typer.Option(help="Optical flow of videos: dis or raft.")] = "dis",
    steps: Annotated[int, typer.Option(help="Batches to learn from.")] = 100000,
    minutes: Annotated[float | None, typer.Option(help="Stop after this long.")] = None,
    resume: Annotated[Path | None, typer.Option(help="A state.pt to go on from.")] = None,
    batch: int = 4,
    rate: Annotated[float | None, typer.Option(help="Learning rate; the paper's 3e-5 on a base, 2e-3 for --tiny.")] = None,
    evaluate: Annotated[int, typer.Option(help="Held-out scenes to measure arrows on at the end.")] = 0,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
) -> None:  # fmt: skip
    """Train Stable Video Diffusion to follow motion fields."""
    from .train.svd_flow import SAVE_EVERY, Settings, main

    settings = Settings(
        tiny=tiny, out=out, base=base, videos=videos, stage=stage, flow=flow, steps=steps, minutes=minutes, resume=resume,
        batch=batch, rate=rate, evaluate=evaluate, seed=seed, threads=threads, device=device,
    )  # fmt: skip
    with Stopped(kept_state(out / settings.state, SAVE_EVERY)):
        print(json.dumps(main(settings)))
