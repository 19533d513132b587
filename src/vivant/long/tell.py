"""A script becomes one film: shot by shot, each kept as soon as it is whole, joined with titles, transitions and sound."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch

from ..errors import InputError, SettingError
from ..images import load_painting, resized
from ..recipe import fits, picture_hash, versions
from ..shot import Controls, Shot
from ..stage import Progress, prepare, silent
from . import freenoise, hand
from .base import Settings, tiling
from .between import bridge, load_last
from .cards import card, entering, fitted, leaving, shown
from .film import Film, dreamt, has_room, partial, work_folder
from .methods import JOINT, method
from .segments import Folder, join, known_recipe, spare_partial
from .story import LONGEST, Story, StoryShot, read


def tell(
    script: str | Path | Story, out: str | Path, *, fresh: bool = False, on_progress: Progress | None = None
) -> Film:  # fmt: skip
    """Make the film of a script (a file, or a `Story`) and write it as MP4.

    Seconds are what a shot is seen for; during a dissolve both shots are. A telling that was stopped goes on from its
    finished shots and windows. Raises `InputError` (with the script's line), `OutputError`, `ModelError`.
    """
    from ..render.export import check_target, spare

    out = Path(out)
    check_target(out)
    if out.suffix.lower() != ".mp4":
        raise SettingError(f"expected a film that ends in .mp4, got {out.name!r}")
    story = script if isinstance(script, Story) else read(script)
    spare(out, story.audio, *(p for s in story.shots for p in (s.painting, s.last, s.mask, *hand.files(s.hand))))
    judge(story)
    report = on_progress or silent
    start = time.perf_counter()
    size = canvas(story)
    recipe = {
        "story": json.loads(json.dumps(asdict(story), default=str)),
        "pictures": _hashes(story),
        "versions": versions(),
    }
    film = Film(out, 0, story.fps, len(story.shots), recipe=recipe)
    kept = Folder(work_folder(out), recipe, fresh)
    if kept.resumed:
        film.warnings.append("going on from the finished shots")
    try:
        spare_partial(partial(out), recipe, fresh)
        _tell(story, film, kept, size, report)
    except BaseException:
        kept.leave()
        raise
    film.seconds["film"] = time.perf_counter() - start
    return film


def _tell(story: Story, film: Film, kept: Folder, size: tuple[int, int], report: Progress) -> None:
    from ..render.export import export

    out, recipe = film.path, film.recipe
    parts: list[Path] = []
    tail: list[np.ndarray] = []
    loaded: dict[Any, Any] = {}
    for k, shot in enumerate(story.shots):
        count, fade_in, fade_out, longer = timing(story, k)
        part = kept.place / f"part_{k:05d}.mp4"
        found = kept.get(f"tail_{k:05d}")
        film.frames += count
        if part.exists() and found is not None:
            tail = list(found["frames"].numpy()) if longer else []
        else:
            rest: list[np.ndarray] = []
            frames = (fitted(f, size) for f in _frames(story, shot, count + longer, size, kept, film, loaded, report))
            export(leaving(entering(frames, tail, fade_in), count, fade_out, longer, rest), part, story.fps)
            tail = rest
            kept.put(f"tail_{k:05d}", {"frames": torch.from_numpy(np.stack(tail) if tail else np.zeros(1, np.uint8))})
        parts.append(part)
        join(parts, partial(out), json.dumps(recipe, sort_keys=True))
    join(parts, out, json.dumps(recipe, sort_keys=True), story.audio)
    partial(out).unlink(missing_ok=True)
    kept.remove()


def judge(story: Story) -> None:
    """Refuse what no shot can be made with before the first is begun. Raises `InputError` with the shot's line."""
    from ..priors.registry import entry

    for shot in story.shots:
        how = {key: value for key, value in shot.how.items() if key not in ("model", "proxy", "device")}
        try:
            method(how.pop("method", "phased"))
            Settings(how.pop("gamma", 0.8), how.pop("omega", 0.2), how.pop("window", None))
            entry(shot.how.get("model", "miniature"))
            strength = Controls(strength=how.pop("strength", None))
            Shot(np.zeros((16, 16, 3), np.uint8), shot.prompt or "nothing moves", controls=strength, **how)
        except InputError as error:
            raise type(error)(f"the shot of line {shot.line}: {error}") from None


def retell(recipe: dict[str, Any], out: Path, on_progress: Progress | None = None) -> Film:
    """Tell a story again from the recipe inside its film.

    Raises `InputError` when its pictures are not the ones the film was made from, or the recipe was changed.
    """
    try:
        told = dict(recipe["story"])
        shots = tuple(
            _shot({k: Path(v) if k in ("painting", "last") and v is not None else v for k, v in shot.items()})
            for shot in told.pop("shots")
        )
        sound, font = (None if told.pop(k) is None else Path(recipe["story"][k]) for k in ("audio", "font"))
        story = Story(shots, audio=sound, font=font, **told)
        kinds = [(story, get_type_hints(Story)), *((shot, get_type_hints(StoryShot)) for shot in shots)]
        for one, hints in kinds:
            for name in hints.keys() - {"shots"}:
                if not fits(getattr(one, name), hints[name]):
                    raise ValueError(name)
        if not (1 <= story.fps <= 120 and shots and all(0.1 <= shot.seconds <= LONGEST for shot in shots)):
            raise ValueError("fps or seconds")
        for shot in shots:
            hand.given(shot.hand), hand.files(shot.hand)
        known = recipe["pictures"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"expected the recipe of a story as vivant writes it, it was changed since ({error})"
        ) from None
    for path in (sound, font):
        if path is not None and not path.is_file():
            raise InputError(f"expected the file the story was told with at {path}, found none")
    if _hashes(story) != known:
        raise InputError("expected the pictures the story was told with, their pixels have changed since")
    film = tell(story, out, on_progress=on_progress)
    changed = [n for n, v in versions().items() if dict(recipe.get("versions") or {}).get(n) != v]
    if changed:
        film.warnings.append(f"other versions than the film was made with ({', '.join(changed)}): bytes may differ")
    return film


def _shot(said: dict[str, Any]) -> StoryShot:
    return StoryShot(**said)


def timing(story: Story, k: int) -> tuple[int, int, int, int]:
    """Of shot k, in frames: how many it is seen for, rising from black, sinking to it, and dissolving into the next."""
    shots = story.shots
    count = max(2, round(shots[k].seconds * story.fps))
    long = round(story.dissolve * story.fps)
    after = shots[k + 1] if k + 1 < len(shots) else None
    fade_in = min(long // 2, count // 2) if k and shots[k].transition == "fade" else 0
    fade_out = min(long // 2, count // 2) if after is not None and after.transition == "fade" else 0
    longer = 0
    if after is not None and after.transition == "dissolve":
        longer = min(long, max(2, round(after.seconds * story.fps)) - 1)
    return count, fade_in, fade_out, longer


def canvas(story: Story) -> tuple[int, int]:
    """(width, height) of the film: the first painting's, even."""
    first = next(s for s in story.shots if s.painting is not None)
    picture = resized(load_painting(str(first.painting)), story.size)
    return picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2


def _hashes(story: Story) -> list[str | None]:
    paths = {str(p) for s in story.shots for p in (s.painting, s.last) if p is not None}
    return [picture_hash(load_painting(p)) for p in sorted(paths)]


def _frames(
    story: Story, shot: StoryShot, count: int, size: tuple[int, int], kept: Folder, film: Film, loaded: dict[Any, Any],
    report: Progress,
) -> Iterator[np.ndarray]:  # fmt: skip
    """The frames of one shot, or of its card."""
    if shot.painting is None:
        yield from shown(card(shot.title, size, story.font), count, story.fps // 2)
        return
    how = dict(shot.how)
    name = how.pop("method", "phased")
    settings = Settings(how.pop("gamma", 0.8), how.pop("omega", 0.2), how.pop("window", None))
    where = f"the shot of line {shot.line}"
    try:
        picture = resized(load_painting(str(shot.painting)), story.size)
        last, said = (None, None) if shot.last is None else load_last(str(shot.last), picture)
        if last is not None:
            how["proxy"] = "none"
        place = kept.place / f"shot_{shot.line:05d}"
        begun = known_recipe(place).get("settings")
        room = has_room(name, str(shot.painting), count, {**how, "size": story.size}, begun)
        stage = prepare(
            str(shot.painting), shot.prompt, size=story.size, fps=story.fps, mask=shot.mask, last=last, loaded=loaded,
            frames=count if last is not None else settings.window, progress=report, **hand.given(shot.hand), **how,
        )  # fmt: skip
        notes = stage.notes + ([said] if said else [])
        if last is not None:
            one = Film(film.path, count, story.fps, 1)
            clip = bridge(stage, one, _count(film))
            film.warnings += [f"{where}: {note}" for note in notes + one.warnings]
            yield from stretched(clip, one.frames, count)
            return
        tiles = tiling(stage.prior, stage.shot, count, settings, name in JOINT)
        if name == "freenoise":
            settings, told = freenoise.settled(stage.prior, tiles, settings, room)
            notes += told
    except InputError as error:
        raise type(error)(f"{where}: {error}") from None
    film.warnings += [f"{where}: {note}" for note in notes]
    one = Film(film.path, count, story.fps, tiles.count)
    shelf = Folder(place, stage.recipe | {"frames": count, "method": name, "settings": asdict(settings)})
    try:
        for _, paint in dreamt(stage, tiles, name, settings, one, shelf, report):
            yield from paint()
    except BaseException:
        shelf.leave()
        raise
    film.evaluations += one.evaluations
    shelf.remove()


def _count(film: Film) -> Any:
    def call(level: object) -> None:
        film.evaluations += 1

    return call


def stretched(clip: Iterator[np.ndarray], made: int, count: int) -> Iterator[np.ndarray]:
    """A clip of `made` frames shown over `count`: where it has fewer, each is held for longer."""
    for i, frame in enumerate(clip):
        begin, end = -(-i * count // made), -(-(i + 1) * count // made)
        for _ in range(end - begin):
            yield frame
