"""Films longer than a clip, written as they are dreamt: memory does not grow, and a stopped run goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..controls import told
from ..errors import SettingError
from ..images import load_painting, resized
from ..stage import Progress, Stage, chosen_device, named_proxy, prepare, silent
from . import freenoise
from .base import Forgets, Kept, Settings, Tiling, tiling
from .layers import dream, layers
from .methods import JOINT
from .methods import method as known
from .paint import painter
from .phased import shared_steps
from .segments import Folder, join, known_recipe, spare_partial


@dataclass
class Film:
    """A film that was made, or is being made."""

    path: Path
    frames: int
    fps: int
    windows: int
    evaluations: int = 0
    resumed: int = 0
    """windows found finished"""
    seconds: dict[str, float] = field(default_factory=dict)
    busy: float = 0.0
    """processor seconds of dreaming: what a machine shared with others does not blur"""
    warnings: list[str] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)


def work_folder(out: Path) -> Path:
    """Where the finished windows of a film that is being made wait."""
    return out.with_name(f".{out.name}.windows")


def partial(out: Path) -> Path:
    """The film as far as it is: playable at any time, gone when the film is whole."""
    return out.with_name(f"{out.stem}.partial.mp4")


def animate_long(
    painting: Any, prompt: str, out: str | Path, *, frames: int = 125, method: str = "phased", gamma: float = 0.8,
    omega: float = 0.2, window: int | None = None, overlap: int | None = None, fuse: str | None = None,
    fresh: bool = False, on_progress: Progress | None = None, loaded: dict[Any, Any] | None = None, **how: Any,
) -> Film:  # fmt: skip
    """Animate a painting for as long as asked, and write the film as its windows finish.

    `method`: a name of `methods.METHODS`; `gamma`, `omega`, `window`, `overlap`, `fuse`: see `Settings`; `how`: as
    `vivant.animate` takes it (model, seed, steps, fps, mask, regions, strength, arrows, proxy, distil …). `out`: .mp4 is written
    window by window, with `partial(out)` playable meanwhile; the other formats of `export` when all windows are there.
    A run that was stopped goes on from its finished windows when it is started again with the same settings, unless
    `fresh`. Raises `InputError`, `OutputError`, `ModelError`.
    """
    from ..render.export import check_target, spare

    out = Path(out)
    check_target(out)
    spare(out, painting, how.get("mask"), how.get("proxy"), *masks_of(how.get("regions", ())))
    report = on_progress or silent
    settings = Settings(gamma, omega, window, overlap, fuse)
    known(method)
    if not 2 <= frames <= 100_000:
        raise SettingError(f"expected a film of 2 to 100000 frames, got {frames}")
    start = time.perf_counter()
    begun = {} if fresh else known_recipe(work_folder(out)).get("film")
    same = isinstance(begun, dict) and begun.get("method") == method
    room = has_room(method, painting, frames, how, begun if same else None)
    stage = prepare(painting, prompt, frames=window, loaded=loaded, progress=report, **how)
    tiles = tiling(stage.prior, stage.shot, frames, settings, method in JOINT)
    notes = [*stage.notes, *tiles.notes]
    if method == "freenoise":
        settings, said = freenoise.settled(stage.prior, tiles, settings, room)
        notes += said
    arrows = stage.shot.controls.arrows or any(area.controls.arrows for area in stage.shot.regions)
    if arrows and method != "phased" and not tiles.moves:
        notes.append("arrows lead each window of a film from its beginning: by phased they are smoothest")
    recipe = stage.recipe | {"film": {"frames": frames, "method": method} | asdict(settings)}
    film = Film(out, frames, stage.shot.fps, tiles.count, warnings=notes, recipe=recipe)
    film.seconds["prepare"] = time.perf_counter() - start
    shoot(stage, tiles, method, settings, film, fresh, report)
    return film


def masks_of(regions: Iterable[Any]) -> list[Any]:
    """The masks of regions in whichever form they are, where these are files."""
    given = (told.region(one) if isinstance(one, str) else one for one in regions)
    return [getattr(one, "mask", None) for one in given]


def has_room(method: str, painting: Any, frames: int, how: dict[str, Any], begun: dict[str, Any] | None) -> bool:
    """Whether `method` may denoise the whole film as one clip. `begun`: the settings of the run that is gone on with.

    Free memory comes and goes: what was begun one way is not gone on with in another.
    """
    if method != "freenoise":
        return True
    return begun.get("fuse") is None if begun else fits(painting, frames, how)


def fits(painting: Any, frames: int, how: dict[str, Any]) -> bool:
    """Whether this machine can denoise the whole film as one clip. Asked before the model is loaded."""
    from .. import memory

    picture = resized(load_painting(painting), how.get("size", "native"))
    device = chosen_device(how.get("device", "auto"))
    paths = 1 if named_proxy(how.get("proxy", "auto")) == "none" else 2
    found = memory.plan(
        how.get("model", "miniature"), device, how.get("dtype", "auto"), (picture.shape[1], picture.shape[0]), frames,
        paths=paths, allow_smaller=how.get("allow_smaller", False), model_size=how.get("model_size"),
    )  # fmt: skip
    return found.fits


def shoot(
    stage: Stage, tiles: Tiling, name: str, settings: Settings, film: Film, fresh: bool = False,
    report: Progress = silent,
) -> None:  # fmt: skip
    """Dream, paint and write a film; `film` is told how it went."""
    kept = Folder(work_folder(film.path), film.recipe, fresh)
    if kept.resumed:
        film.resumed = len(list(kept.place.glob("window_*.safetensors")))
        done = f"{film.resumed} finished windows" if film.resumed else "the steps that were taken"
        film.warnings.append(f"going on from {done}")
    try:
        spare_partial(partial(film.path), film.recipe, fresh)
        _shoot(stage, tiles, name, settings, film, kept, report)
    except BaseException:
        kept.leave()
        raise


def _shoot(
    stage: Stage, tiles: Tiling, name: str, settings: Settings, film: Film, kept: Folder, report: Progress
) -> None:
    from ..render.export import export

    out = film.path
    text = json.dumps(film.recipe, sort_keys=True)
    if out.suffix.lower() != ".mp4":
        export(
            (f for _, part in dreamt(stage, tiles, name, settings, film, kept, report) for f in part()),
            out,
            film.fps,
            text,
        )
        kept.remove()
        return
    parts: list[Path] = []
    joined = 0
    for count, paint in dreamt(stage, tiles, name, settings, film, kept, report):
        part = kept.place / f"part_{len(parts):05d}.mp4"
        if count == 0:
            continue
        if not part.exists():
            start = time.perf_counter()
            export(paint(), part, film.fps)
            film.seconds["render"] = film.seconds.get("render", 0.0) + time.perf_counter() - start
        parts.append(part)
        # Joining copies packets; over a very long film it is done ever more rarely.
        if len(parts) > 1.1 * joined:
            join(parts, partial(out), text)
            joined = len(parts)
    join(parts, out, text)
    partial(out).unlink(missing_ok=True)
    kept.remove()


def dreamt(
    stage: Stage, tiles: Tiling, name: str, settings: Settings, film: Film, kept: Kept | None = None,
    report: Progress = silent,
) -> Iterator[tuple[int, Callable[[], Iterator[np.ndarray]]]]:  # fmt: skip
    """The film window by window: how many new frames it brings, and how to paint them (or not: they may be there)."""
    expected = evaluations(tiles, name, settings, stage)
    brush = painter(stage.prior, tiles)
    painted = 0

    def count(level: object) -> None:
        film.evaluations += 1
        report("dreaming", film.evaluations, expected)

    def paint() -> Iterator[np.ndarray]:
        for i, frame in enumerate(brush.frames()):
            report("painting", painted + i + 1, tiles.total)
            yield frame

    rng = torch.Generator().manual_seed(stage.shot.seed)
    pieces = dream(
        name, stage.prior, stage.shot, stage.proxy, tiles.total, rng, settings, kept or Forgets(), count,
        stage.recipe.get("compose", "together"),
    )  # fmt: skip
    while True:
        start, busy = time.perf_counter(), time.process_time()
        piece = next(pieces, None)
        film.seconds["generate"] = film.seconds.get("generate", 0.0) + time.perf_counter() - start
        film.busy += time.process_time() - busy
        if piece is None:
            return
        brought = brush.go_on(piece.x, piece.lead)
        yield brought, paint
        painted += brought


def evaluations(tiles: Tiling, name: str, settings: Settings, stage: Stage) -> int:
    """How often the denoiser is asked for a whole film, the distillation included."""
    from ..awaken import vsds_levels

    shot, steps = tiles.shot, tiles.shot.steps
    head = 0
    if shot.distil > 0:
        head = len(vsds_levels(stage.prior.levels(shot, steps), shot.distil, shot.distil_evaluations))
    once = head + steps * (1 if name == "freenoise" and freenoise.inside(stage.prior, tiles, settings) else tiles.count)
    if name == "phased":
        once = head + steps + (tiles.count - 1) * (steps - shared_steps(settings.gamma, steps))
    return once * layers(shot, stage.recipe.get("compose", "together"))
