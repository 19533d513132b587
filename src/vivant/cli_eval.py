"""The commands of the measuring room: the papers' tables, the figures, the user study."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_study import pair, study_app
from .errors import InputError, OutputError, SettingError

figure_app = typer.Typer(help="The papers' figures, each with its numbers.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Run folder: clips, measures, tables. The same folder resumes.")]
Models = Annotated[str, typer.Option(help="Base models, comma between; see `vivant models`.")]
Source = Annotated[
    list[str] | None,
    typer.Option(
        "--paintings", help="scenes, or a folder: paintings, clips, MSR-VTT, UCF-101, cases.json. NAME=DIR names it."
    ),
]
Kind = Annotated[str, typer.Option(help="auto, msrvtt, ucf101, clips, paintings or cases.")]
Count = Annotated[int | None, typer.Option(help="This many cases, drawn with the seed (default: all; 8 scenes).")]
Given = Annotated[
    list[str] | None, typer.Option("--method", help="LABEL=DIR: a row from clips made elsewhere, named by case.")
]
Prompts = Annotated[Path | None, typer.Option(help="Sentences by file name: .json or .csv.")]
Print = Annotated[str, typer.Option("--print", help="md, csv or tex; all three are written.")]
Seed = Annotated[int, typer.Option(help="Same seed, same clips.")]
EXTRACTORS = "Feature networks ROLE=NAME, e.g. video=i3d; default: the paper's where it is here, else the shipped one."


HELP = {
    "table1": "What VSDS, slerp and proxy bring, over base models (Every Painting Awakened, Table 1).",
    "curves": "The four step-size curves of VSDS (Every Painting Awakened, figure 6).",
    "proportions": "The share p of the steps that VSDS spans (Every Painting Awakened, figure 7).",
    "proxies": "Who makes the proxy image (Every Painting Awakened, figure 8).",
    "clia1": "Motion fields and motion strength (CLIA, Table 1).",
    "clia2": "Four ways to longer clips (CLIA, Table 2).",
    "gammas": "Where phased inference splits: quality and time (CLIA, figure 8).",
    "dynamicrafter1": "FVD, KVD and PIC on each benchmark (DynamiCrafter, Table 1).",
    "dynamicrafter2": "A user study's preference rates (DynamiCrafter, Table 2).",
    "dynamicrafter3": "The two streams and the training (DynamiCrafter, Table 3).",
    "animateanything2": "How the image is given; time and memory (AnimateAnything, Table 2).",
    "animateanything3": "Motion mask precision (AnimateAnything, Table 3).",
    "animateanything4": "Motion strength error (AnimateAnything, Table 4).",
}
"""the tables that `metrics.papers` holds, as the command line names them without loading it"""


def register(app: typer.Typer, eval_app: typer.Typer) -> None:
    """Add the commands to the command line."""
    eval_app.command("miniature")(eval_miniature)
    eval_app.command("inputs")(eval_inputs)
    for name, says in HELP.items():
        eval_app.command(name, help=says)(_table_command(name))
    eval_app.add_typer(figure_app, name="figure")
    app.add_typer(study_app, name="study")


def eval_miniature(
    scenes: int = 200,
    seed: Seed = 0,
    rows: str = "base,+V,+S,+V&U,full",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Held-out procedural scenes: what and where, inside, still ratio, PSNR of the rest, for each ablation."""
    from .metrics.evaluate import main as run

    run("miniature", scenes, seed, as_json, rows)


def eval_inputs(
    folder: str = "../shared/inputs",
    seed: Seed = 0,
    keep: str | None = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Real paintings with known regions and directions (a folder with a cases.json)."""
    from .metrics.evaluate import main as run

    run("inputs", seed=seed, as_json=as_json, folder=folder, keep=keep)


def _table_command(name: str) -> Any:
    """One command for every table: the table is data."""

    def command(
        out: Out,
        models: Models = "miniature",
        paintings: Source = None,
        kind: Kind = "auto",
        count: Count = None,
        split: Annotated[str, typer.Option(help="train, test or all, where a benchmark has splits.")] = "test",
        prompts: Prompts = None,
        prompt: Annotated[str | None, typer.Option(help="The sentence of paintings that have none.")] = None,
        strength: Annotated[float | None, typer.Option(help="The strength of cases that have none, 0..1.")] = None,
        arrows: Annotated[bool, typer.Option("--arrows", help="Read arrows from the real clips.")] = False,
        method: Given = None,
        reference: Annotated[
            Path | None, typer.Option(help="Real videos to hold sets of clips against, where cases have none.")
        ] = None,
        study: Annotated[Path | None, typer.Option(help="What `vivant study read --json` printed.")] = None,
        extra: Annotated[str, typer.Option("--also", help="More columns, comma between; --columns lists them.")] = "",
        columns: Annotated[bool, typer.Option("--columns", help="List the columns there are and stop.")] = False,
        extractor: Annotated[list[str] | None, typer.Option(help=EXTRACTORS)] = None,
        devices: Annotated[str, typer.Option(help="Comma between; a process each: cuda:0,cuda:1 or cpu,cpu.")] = "auto",
        size: Annotated[str, typer.Option(help="native, WIDTHxHEIGHT, or the longer side.")] = "512",
        frames: Annotated[int | None, typer.Option(help="Frames of a clip (default: the model's own).")] = None,
        steps: Annotated[int | None, typer.Option(help="Denoising steps (default: the model's own).")] = None,
        seed: Seed = 42,
        lossless: Annotated[bool, typer.Option("--lossless", help="Keep clips as folders of PNGs, not MP4.")] = False,
        show: Print = "md",
        intervals: Annotated[bool, typer.Option("--intervals", help="Print bootstrap intervals of 95 %.")] = False,
        as_json: Json = False,
    ) -> None:
        from .metrics.bench import Bench, evaluate
        from .metrics.columns import COLUMNS
        from .metrics.papers import TABLES
        from .metrics.tables import PRINTS

        if columns:
            for key, column in COLUMNS.items():
                print(f"{key:<20}{column.head.text():<28}{column.says}")
            return
        if show not in PRINTS:
            raise SettingError(f"expected --print {', '.join(PRINTS)}, got {show!r}")
        sources = [pair(text) for text in paintings or ["scenes"]]
        bench = Bench(
            table=TABLES[name], out=out, models=[m for m in models.split(",") if m],
            sources={label or "": place for label, place in sources}, kind=kind, count=count, split=split,
            prompts=prompts, prompt=prompt, strength=strength, arrows=arrows,
            given={label: Path(place) for label, place in map(_named, method or [])}, reference=reference,
            study=_read(study) if study else None, also=tuple(c for c in extra.split(",") if c),
            extractors=dict(map(_named, extractor or [])), devices=[d for d in devices.split(",") if d], size=size,
            frames=frames, steps=steps, seed=seed, suffix="" if lossless else ".mp4", intervals=intervals,
        )  # fmt: skip
        result = evaluate(bench, _progress())
        if as_json:
            print(json.dumps(result.as_dict()))
        else:
            print("\n".join(PRINTS[show](grid) for grid in result.grids), end="")
        for line in result.failures:
            print(f"vivant: {line}", file=sys.stderr)

    return command


@figure_app.command("tsne")
def figure_tsne(
    groups: Annotated[list[str], typer.Argument(metavar="LABEL=DIR…", help="Folders of clips.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The plot, PNG or PDF.")] = Path("tsne.png"),
    count: Annotated[int, typer.Option(help="Clips of each folder.")] = 8,
    frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 16,
    extractor: Annotated[str | None, typer.Option(help="Feature network of frames; default: the shipped one.")] = None,
    seed: Seed = 42,
    as_json: Json = False,
) -> None:
    """Every Painting Awakened, fig. 2: frames of clips in a feature space, and the linear trend as a number."""
    from .metrics.bench import frame_features
    from .metrics.clips import clips_of
    from .metrics.figures import tsne

    named = {label: list(clips_of(Path(place)).values())[:count] for label, place in map(_named, groups)}
    numbers = tsne({k: [frame_features(c, extractor, frames) for c in clips] for k, clips in named.items()}, out, seed)
    if as_json:
        print(json.dumps({"output": str(out), "groups": numbers}))
        return
    print("| group | clips | linear trend | spread | linear trend in the map |\n|---|---:|---:|---:|---:|")
    for label, n in numbers.items():
        print(f"| {label} | {n['clips']} | {n['trend']:.3f} | {n['spread']:.3g} | {n['map_trend']:.3f} |")


@figure_app.command("lambda")
def figure_lambda(
    weights: Annotated[Path, typer.Argument(help="DynamiCrafter's model.ckpt or .safetensors.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The plot, PNG or PDF.")] = None,
    as_json: Json = False,
) -> None:
    """DynamiCrafter, fig. 2: λ of each cross-attention layer."""
    from .metrics.figures import lambda_figure, lambdas

    values = lambdas(weights)
    if out is not None:
        lambda_figure(values, out)
    if as_json:
        print(json.dumps([{"layer": layer, "lambda": value} for layer, value in values]))
        return
    for layer, value in values:
        print(f"{layer:<12}{value:.4f}")


@figure_app.command("noise")
def figure_noise(
    painting: Annotated[Path, typer.Argument(help="The picture.")],
    prompt: Annotated[str, typer.Argument(help="What moves.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The plot, PNG or PDF.")] = None,
    model: Annotated[str, typer.Option(help="Base model.")] = "miniature",
    steps: Annotated[int | None, typer.Option(help="Denoising steps (default: the model's own).")] = None,
    size: Annotated[str, typer.Option(help="native, WIDTHxHEIGHT, or the longer side.")] = "256",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Seed = 42,
    as_json: Json = False,
) -> None:
    """CLIA, fig. 3: the estimated noise and the outlines at every timestep."""
    from .metrics.bench import noise_of
    from .metrics.figures import noise_figure

    profile = noise_of(painting, prompt, model, steps, size, device, seed)
    if out is not None:
        noise_figure(profile, out)
    if as_json:
        print(json.dumps([n._asdict() for n in profile]))
        return
    print("| step | t | mean of ε̂ | spread of ε̂ | contours there |\n|---:|---:|---:|---:|---:|")
    for n in profile:
        print(f"| {n.step} | {n.t:.1f} | {n.mean:.4f} | {n.spread:.4f} | {n.contour:.3f} |")


@figure_app.command("strip")
def figure_strip(
    clips: Annotated[list[str], typer.Argument(metavar="[LABEL=]CLIP…", help="Clips of any make.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="PNG.")] = Path("strip.png"),
    count: Annotated[int, typer.Option(help="Frames of each.")] = 5,
    height: Annotated[int, typer.Option(help="Pixels of a frame.")] = 160,
) -> None:
    """A contact strip: a row a clip."""
    from .metrics.figures import strip

    print(strip({label: frames for label, (frames, _) in _clips(clips).items()}, out, count, height))


@figure_app.command("side")
def figure_side(
    clips: Annotated[list[str], typer.Argument(metavar="[LABEL=]CLIP…", help="Clips of any make.")],
    out: Annotated[Path, typer.Option("-o", "--out", help=".mp4 .gif .webp .apng")] = Path("side.mp4"),
    height: Annotated[int, typer.Option(help="Pixels of a frame.")] = 256,
) -> None:
    """Clips beside each other as one video."""
    from .metrics.figures import side_by_side

    read = _clips(clips)
    print(side_by_side({k: frames for k, (frames, _) in read.items()}, out, next(iter(read.values()))[1], height))


def _named(text: str) -> tuple[str, str]:
    label, place = pair(text)
    if not label or not place:
        raise SettingError(f"expected LABEL=PLACE, got {text!r}")
    return label, place


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "rates" in data:
            return data
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected JSON of `vivant study read --json` in {path}: {str(error).splitlines()[0]}"
        ) from error
    raise InputError(f"expected JSON of `vivant study read --json` in {path}, got something else")


def _clips(texts: list[str]) -> dict[str, tuple[Any, float]]:
    from .metrics.video import read_video

    read: dict[str, tuple[Any, float]] = {}
    for label, place in map(pair, texts):
        name = label or Path(place).stem
        name = name if name not in read else f"{name} {len(read) + 1}"
        video = read_video(Path(place))
        read[name] = (video.frames, video.fps)
    if not read:
        raise OutputError("expected at least one clip, got none")
    return read


def _progress() -> Any:
    """One line a clip on the terminal, none where there is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int, job: Any, made: Any) -> None:
        what = f"{made.seconds:.1f} s" if not made.error else made.error
        print(f"{done}/{total} {job.model} {job.row} {job.case}: {what}", file=sys.stderr)

    return show
