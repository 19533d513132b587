"""Films longer than a clip, written as they are dreamt: memory does not grow, and a stopped run goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..controls import mask as masks
from ..errors import InputError, SettingError
from ..images import load_painting, resized
from ..stage import Progress, Stage, prepare, silent
from .base import Forgets, Kept, Settings, Tiling, tiling
from .methods import JOINT, method
from .paint import painter
from .phased import shared_steps
from .segments import Folder, join

KEPT = (
    "model", "seed", "fps", "steps", "guidance", "negative", "distil", "distil_evaluations", "curve", "gain", "blend",
    "proxy", "mask", "feather", "strength", "arrows", "size", "device",
)  # fmt: skip
"""settings that a recipe gives back to `animate_long` as they are"""

TOLD: dict[str, dict[str, Any]] = {
    "film": {
        "frames": int, "method": str, "gamma": float, "omega": float, "window": int | None, "overlap": int | None,
    },
    "between": {"last": str, "last_sha256": str, "frames": int},
}  # fmt: skip
"""what a recipe says of a film and of an in-between, beside the settings of a clip"""


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
    omega: float = 0.2, window: int | None = None, overlap: int | None = None, fresh: bool = False,
    on_progress: Progress | None = None, loaded: dict[Any, Any] | None = None, **how: Any,
) -> Film:  # fmt: skip
    """Animate a painting for as long as asked, and write the film as its windows finish.

    `method`: a name of `methods.METHODS`; `gamma`, `omega`, `window`, `overlap`: see `Settings`; `how`: as `vivant.animate`
    takes it (model, seed, steps, fps, guidance, negative, mask, strength, arrows, proxy, distil …). `out`: .mp4 is written
    window by window, with `partial(out)` playable meanwhile; the other formats of `export` when all windows are there.
    A run that was stopped goes on from its finished windows when it is started again with the same settings, unless
    `fresh`. Raises `InputError`, `OutputError`, `ModelError`.
    """
    from ..render.export import check_target, spare

    out = Path(out)
    check_target(out)
    spare(out, painting, how.get("mask"), how.get("proxy"))
    report = on_progress or silent
    settings = Settings(gamma, omega, window, overlap)
    _known(method)
    if not 2 <= frames <= 100_000:
        raise SettingError(f"expected a film of 2 to 100000 frames, got {frames}")
    if how.get("regions"):
        raise SettingError(
            "expected one sentence for a film, got regions; make a clip of the model's length, or a story"
        )
    start = time.perf_counter()
    stage = prepare(painting, prompt, frames=window, loaded=loaded, progress=report, **how)
    tiles = tiling(stage.prior, stage.shot, frames, settings, method in JOINT)
    recipe = stage.recipe | {"film": {"frames": frames, "method": method} | asdict(settings)}
    film = Film(out, frames, stage.shot.fps, tiles.count, warnings=[*stage.notes, *tiles.notes], recipe=recipe)
    film.seconds["prepare"] = time.perf_counter() - start
    shoot(stage, tiles, method, settings, film, fresh, report)
    return film


def rerun_long(recipe: dict[str, Any], out: str | Path, on_progress: Progress | None = None) -> Film:
    """Make a film again from the recipe inside it: the same frames on the same machine and versions.

    Raises `InputError` when the painting, mask, proxy or weights are not the ones the recipe names.
    """
    from ..priors.registry import weights_hash
    from ..recipe import check_same, check_types, fits, versions

    kind = "between" if "between" in recipe else "film"
    if kind not in recipe:
        raise InputError(f"expected {kind!r} in the recipe of a film, it is missing")
    told = recipe[kind]
    if not isinstance(told, dict) or not all(
        name in told and fits(told[name], hint) for name, hint in TOLD[kind].items()
    ):
        raise InputError(f"expected a recipe of a film as vivant writes it, got {str(told)[:60]}; it was changed since")
    film = {name: told[name] for name in TOLD[kind]}
    check_types(recipe)
    try:
        how = {key: recipe[key] for key in KEPT}
        painting, prompt = recipe["painting"], recipe["prompt"]
        of, proxy_of, mask_of, weights = (
            recipe[f"{part}_sha256"] for part in ("painting", "proxy", "mask", "weights")
        )  # fmt: skip
    except KeyError as error:
        raise InputError(f"expected {error} in the recipe of a film, it is missing") from None
    if "<memory>" in (painting, how["proxy"], how["mask"]):
        raise SettingError("expected a film made from files, this one was made from pictures in memory; make it again")
    picture = load_painting(painting)
    check_same("painting", painting, of, picture)
    if how["mask"] is not None:
        size = resized(picture, how["size"]).shape[1::-1]
        check_same("mask", how["mask"], mask_of, masks.read(how["mask"], size, how["feather"]))
    if weights_hash(how["model"]) != weights:
        raise SettingError(
            f"expected {how['model']} with the weights the film was made with, this installation has others"
        )
    dtype = recipe.get("versions", {}).get("dtype", "auto")
    if "between" in recipe:
        from .between import animate_between

        last, last_of = film.pop("last"), film.pop("last_sha256")
        check_same("last picture", last, last_of, load_painting(last))
        made = animate_between(painting, last, prompt, out, on_progress=on_progress, dtype=dtype, **film, **how)
    else:
        made = animate_long(painting, prompt, out, on_progress=on_progress, dtype=dtype, **film, **how)
    if made.recipe["proxy_sha256"] != proxy_of:
        made.warnings.append(f"the proxy {how['proxy']!r} came out otherwise than when the film was made")
    changed = [n for n, v in versions().items() if recipe.get("versions", {}).get(n) != v]
    if changed:
        made.warnings.append(f"other versions than the film was made with ({', '.join(changed)}): bytes may differ")
    return made


def _known(name: str) -> None:
    method(name)


def shoot(
    stage: Stage, tiles: Tiling, name: str, settings: Settings, film: Film, fresh: bool = False,
    report: Progress = silent,
) -> None:  # fmt: skip
    """Dream, paint and write a film; `film` is told how it went."""
    kept = Folder(work_folder(film.path), film.recipe, fresh)
    if kept.resumed:
        film.resumed = len(list(kept.place.glob("window_*.safetensors")))
        film.warnings.append(f"going on from {film.resumed} finished windows")
    try:
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
    pieces = method(name)(
        stage.prior, stage.shot, stage.proxy, tiles.total, rng, settings, kept or Forgets(), count
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
    if name == "phased":
        return head + steps + (tiles.count - 1) * (steps - shared_steps(settings.gamma, steps))
    return head + steps * tiles.count
