"""What a table is run on, brought to one form: a picture on disk for every case, and what is told of its motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ..data.benchmarks import SENTENCE, VIDEOS, Case, load_benchmark
from ..errors import OutputError, SettingError
from ..flow import flow

ARROWS = 5
"""drags read from a real clip: the strongest, apart from each other"""
LEAST = 0.01
"""displacement, of the diagonal, under which nothing is worth an arrow"""


def cases_of(
    source: str, out: Path, kind: str = "auto", count: int | None = None, seed: int = 0, prompts: Path | None = None,
    split: str = "test", size: str = "native", arrows: bool = False,
) -> list[Case]:  # fmt: skip
    """The cases of a folder, or of "scenes" (procedural paintings, held out), each with its picture on disk.

    The first frame of a video is written to `out`. `size` as `vivant.animate` takes it. `arrows`: where a case has a real
    clip and no arrows, they are read from it. Raises `InputError`, `SettingError`, `OutputError`.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"expected to make the folder {out}: {error.strerror or error}") from error
    if source == "scenes":
        cases = scenes(count or 8, seed, out)
    else:
        cases = load_benchmark(Path(source), kind, count, seed, prompts, split)
    ready = []
    for case in cases:
        if arrows and case.reference is not None and not case.arrows:
            case = replace(case, arrows=drags(list(_frames(case.reference, 16))))
        if case.painting.suffix.lower() in VIDEOS:
            case = replace(case, painting=_kept(_frames(case.painting, 1)[0], out / f"{case.name}.png"))
        ready.append(case)
    return [c if size == "native" else _sized(c, out, size) for c in ready]


def completed(cases: Sequence[Case], prompt: str | None, strength: float | None) -> list[Case]:
    """The cases with a sentence and a strength for those that bring none of their own."""
    return [
        replace(
            case, prompt=prompt if prompt and case.prompt == SENTENCE else case.prompt,
            strength=strength if case.strength is None else case.strength,
        )
        for case in cases
    ]  # fmt: skip


def scenes(count: int, seed: int, out: Path, side: int = 192, frames: int = 16) -> list[Case]:
    """Held-out procedural paintings: picture, region of what is named, and as real clip the scene's own exact motion."""
    from ..data.captions import SUBJECTS
    from ..data.scenes import TRAVELS, sample
    from ..priors.miniature import paint
    from ..render.export import export
    from .evaluate import HELD_OUT

    if count < 1:
        raise SettingError(f"expected at least 1 scene, got {count}")
    cases = []
    for i in range(count):
        scene = sample(np.random.default_rng([HELD_OUT, seed, i]), side, still=False)
        name = f"scene-{seed}-{i:04d}"
        picture = _kept(scene.picture, out / f"{name}.png")
        named = np.isin(scene.labels, [SUBJECTS.index(s) for s in scene.plan])
        region = _kept(np.repeat(named[..., None].astype(np.uint8) * 255, 3, 2), out / f"{name}.region.png")
        reference = out / f"{name}.mp4"
        if not reference.exists():

            def layer(names: list[str]) -> np.ndarray:
                shown = np.isin(scene.labels, [SUBJECTS.index(s) for s in names]).astype(np.float32)  # noqa: B023
                return cv2.resize(shown, (32, 32), interpolation=cv2.INTER_AREA)

            things = [s for s in scene.plan if s in TRAVELS]
            rest = [s for s in scene.plan if s not in things]
            export(paint.frames(scene.picture, scene.field, frames, layer(rest), layer(things)), reference, 8)
        cases.append(Case(name, scene.caption, picture, reference, region=region, strength=round(scene.strength, 3)))
    return cases


def drags(
    frames: Sequence[UInt8[np.ndarray, "H W 3"]], most: int = ARROWS
) -> tuple[tuple[float, float, float, float], ...]:
    """The strongest motions of a clip as arrows (x0, y0, x1, y1) in fractions, at least a sixth of the picture apart.

    What CLIA's benchmark asks for: sparse trajectories taken from the real video. Empty where nothing moves.
    """
    if len(frames) < 2:
        return ()
    height, width = frames[0].shape[:2]
    moved = flow(frames[0], frames[-1])
    moved = np.dstack([cv2.GaussianBlur(moved[..., k], (0, 0), max(height, width) / 48) for k in (0, 1)])
    left = np.hypot(moved[..., 0], moved[..., 1])
    found: list[tuple[float, float, float, float]] = []
    while len(found) < most and left.max() > LEAST * np.hypot(height, width):
        y, x = np.unravel_index(int(left.argmax()), left.shape)
        dx, dy = moved[y, x]
        start, end = (x / width, y / height), ((x + dx) / width, (y + dy) / height)
        found.append((*(float(v) for v in start), *(float(np.clip(v, 0, 1)) for v in end)))  # type: ignore[arg-type]
        cv2.circle(left, (int(x), int(y)), max(height, width) // 6, 0.0, -1)
    return tuple(found)


def _frames(path: Path, count: int) -> np.ndarray:
    from .video import read_video

    return read_video(path, count).frames


def _kept(picture: UInt8[np.ndarray, "H W 3"], path: Path) -> Path:
    """Written once: a resumed run finds the same bytes."""
    from ..render.export import save_picture

    return path.resolve() if path.is_file() else save_picture(np.ascontiguousarray(picture), path.resolve())


def _sized(case: Case, out: Path, size: str) -> Case:
    from ..images import load_painting, resized

    picture = load_painting(case.painting)
    # A benchmark's longer side is a bound: nothing is gained by measuring what was only magnified.
    small = picture if size.isdigit() and max(picture.shape[:2]) <= int(size) else resized(picture, size)
    if small.shape == picture.shape:
        return case
    return replace(case, painting=_kept(small, out / f"{case.name}.{size}.png"))
