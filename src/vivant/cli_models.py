"""The commands about base models and this machine: models, pull, convert, doctor, and what `animate --plan` prints."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import SettingError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (models, pull, convert, doctor):
        app.command()(command)


def models(
    name: Annotated[
        str | None, typer.Argument(help="One model or proxy maker, in full; also hub:owner/name or a folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List base models and proxy makers: what they do, licence, territory, size, whether present."""
    from .priors.registry import REGISTRY, entry
    from .proxy.registry import PROXIES

    if name is not None:
        row = PROXIES[name] if name in PROXIES else entry(name)
        if as_json:
            print(json.dumps(row.as_dict()))
            return
        networks = ", ".join(f"{part} {count / 1e6:.0f} M" for part, count in getattr(row, "params", {}).items())
        _show(row, ({"networks": networks} if networks else {}) | {"folder": str(row.place)})
        return
    lists = {"models": REGISTRY.values(), "proxies": PROXIES.values()}
    if as_json:
        print(json.dumps({which: [row.as_dict() for row in rows] for which, rows in lists.items()}))
        return
    for each in lists["models"]:
        _show(each)
    print("\nProxy makers")
    for each in lists["proxies"]:
        _show(each)


def _show(row: Any, more: dict[str, str] | None = None) -> None:
    print(f"{row.name}  {'present' if row.present else 'not on this machine'}")
    for key, value in {**row.facts(), **(more or {})}.items():
        print(f"    {key:<10}{value}")


def pull(
    name: Annotated[str, typer.Argument(help="A model or proxy maker of `vivant models`, or hub:owner/name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Agree to the licence that is shown; do not ask.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where to; default: $VIVANT_MODELS/NAME, of a proxy maker proxy/NAME in it.")
    ] = None,
) -> None:
    """Download a model or a proxy maker, licence and size shown first; goes on where it was stopped."""
    from .weights.pull import offer
    from .weights.pull import pull as fetch

    offered = offer(name, folder)
    if offered.row.present and folder is None and offered.row.hub is None:
        print(offered.folder)
        return
    for line in offered.lines():
        print(line, file=sys.stderr)
    if not yes:
        if not sys.stdin.isatty():
            raise SettingError(
                f"expected a yes to the licence above; to agree without being asked: vivant pull {name} --yes"
            )
        typer.confirm("Download under this licence?", abort=True, err=True)
    try:
        with _Bar(offered.total) as bar:
            print(fetch(offered, bar))
    except KeyboardInterrupt:
        print(f"vivant: stopped; `vivant pull {name}` goes on from here", file=sys.stderr)
        raise SystemExit(130) from None


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help=".ckpt .bin .pt .tar or a folder.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="A .safetensors file, or a folder.")],
    as_json: Json = False,
) -> None:
    """Turn pickled weights into safetensors; a pickle that would run code is refused and never run."""
    from .weights.convert import convert as run

    made = run(source, target)
    if as_json:
        print(json.dumps({"files": [str(f) for f in made.files], "tensors": made.tensors, "skipped": made.skipped}))
        return
    for file in made.files:
        print(file)
    print(f"{made.tensors} tensors, {made.skipped} other entries left out", file=sys.stderr)


def doctor(as_json: Json = False) -> None:
    """Say what this machine has, and which models fit it: device, versions, disk, caches, codecs."""
    found = examine()
    if as_json:
        print(json.dumps(found))
        return
    from .priors.registry import gigabytes

    print(", ".join(f"{name} {version or 'not here'}" for name, version in found["versions"].items()))
    device = found["device"]
    print(f"device    {device['name']}, {device['threads']} threads")
    print(f"memory    {gigabytes(device['ram_free'])} of {gigabytes(device['ram'])} RAM free")
    if device["vram"]:
        print(f"GPU       {gigabytes(device['vram_free'])} of {gigabytes(device['vram'])} free")
    for place in found["disk"]:
        print(f"disk      {gigabytes(place['free'])} free at {place['path']} ({place['for']})")
    print("codecs    " + ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in found["codecs"].items()))
    for row in found["models"]:
        print(f"    {row['name']:<22}{'present' if row['present'] else 'absent':<9}{row['verdict']}")


def examine() -> dict[str, Any]:
    """Everything `doctor` says, in plain JSON types."""
    import platform
    import shutil
    from importlib import metadata

    import av
    import torch

    from .machine import machine
    from .priors.registry import REGISTRY, models_folder

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    packages = {"vivant": "vivant", "torch": "torch", "diffusers": "diffusers", "transformers": "transformers",
                "numpy": "numpy", "av": "av", "opencv": "opencv-python-headless", "accelerate": "accelerate"}  # fmt: skip
    here = machine("auto", models_folder())
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    places = {"here": Path.cwd(), "models": models_folder(), "hub cache": hub.expanduser()}
    encoders = {"h264": "libx264", "ProRes": "prores_ks", "GIF": "gif", "WebP": "libwebp_anim", "APNG": "apng"}
    return {
        "versions": {"Python": platform.python_version()} | {name: version(p) for name, p in packages.items()},
        "device": {
            "name": f"{here.device}: {torch.cuda.get_device_name(here.device)}" if here.vram else "cpu",
            "threads": torch.get_num_threads(), "ram": here.ram, "ram_free": here.ram_free, "vram": here.vram,
            "vram_free": here.vram_free, "bf16": here.bf16,
        },
        "disk": [
            {"for": name, "path": str(path), "exists": path.is_dir(), "free": shutil.disk_usage(_existing(path)).free}
            for name, path in places.items()
        ],
        "codecs": {name: codec in av.codecs_available for name, codec in encoders.items()},
        "models": [_verdict(name, here) for name in REGISTRY],
    }  # fmt: skip


def _verdict(name: str, here: Any) -> dict[str, Any]:
    from . import memory
    from .priors.registry import gigabytes

    found = memory.plan(name, here)
    need = f"{gigabytes(found.peak)} in {found.dtype}"
    if not found.fits:
        word = f"too large: {memory.missing(found)}"
    elif found.offload:
        word = f"fits with offloading: {need}"
    else:
        word = f"fits: {need}" + (f" ({'; '.join(found.choices)})" if found.choices else "")
    return {
        "name": name, "present": found.present, "verdict": word, "fits": found.fits, "offload": found.offload,
        "peak": found.peak, "dtype": found.dtype, "choices": found.choices,
    }  # fmt: skip


def show_plan(
    painting: Path, size: str, model: str, device: str, dtype: str, frames: int | None, steps: int | None, distil: float,
    distil_evaluations: int | None, proxy: str, allow_smaller: bool,
    model_size: tuple[int, int] | None, as_json: bool,
) -> None:  # fmt: skip
    """What `animate` would take, printed; nothing is loaded."""
    from . import memory
    from .images import load_painting, resized

    picture = resized(load_painting(painting), size)
    found = memory.plan(
        model, device, dtype, (picture.shape[1], picture.shape[0]), frames, steps, distil, distil_evaluations,
        1 if proxy == "none" else 2, allow_smaller, model_size,
    )  # fmt: skip
    print(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))


def _existing(path: Path) -> Path:
    return next(p for p in (path.resolve(), *path.resolve().parents) if p.exists())


class _Bar:
    """The download's progress on the terminal; silent where there is none."""

    def __init__(self, total: int) -> None:
        self.total, self.bar, self.task = total, None, None  # type: tuple[int, Any, Any]

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("starting", total=self.total or None)
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, file: str, done: int, total: int) -> None:
        if self.bar is not None:
            self.bar.update(self.task, description=file[-40:], completed=done)
