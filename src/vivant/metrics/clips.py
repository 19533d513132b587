"""Folders of clips, whoever made them: which are there, and their frames at a rate and size asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ..data.benchmarks import PICTURES, VIDEOS
from ..errors import InputError, OutputError, VivantError
from .video import read_video

CLIPS = (*VIDEOS, ".webp", ".apng")


def clips_of(folder: Path) -> dict[str, Path]:
    """The clips of a folder by name without suffix: videos, animated pictures, and folders of `frame_*.png`.

    Raises `InputError` for a folder that is missing or holds none.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of clips at {folder}, found none")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and next(path.glob("frame_*.png"), None):
            found[path.name] = path
        elif path.suffix.lower() in CLIPS:
            found.setdefault(path.stem, path)
    if not found:
        raise InputError(f"expected clips in {folder}, found none")
    return found


def retimed(path: Path, fps: float, count: int, side: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The first `count` frames of a clip at `fps` (the frame that was shown at that moment), longer side `side`, even sides.

    A clip that ends earlier ends earlier; at least two frames come out. Raises `InputError`.
    """
    video = read_video(path)
    ends = float(video.times[-1]) + 1 / video.fps
    for i in range(count):
        if i >= 2 and i / fps >= ends - 1e-6:
            return
        at = int(np.searchsorted(video.times, i / fps + 1e-6, side="right")) - 1
        yield scaled(video.frames[at], side)


def scaled(frame: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "H2 W2 3"]:
    """A frame with its longer side `side`, sides even."""
    factor = side / max(frame.shape[:2])
    width, height = (max(2, 2 * round(v * factor / 2)) for v in (frame.shape[1], frame.shape[0]))
    if (width, height) == (frame.shape[1], frame.shape[0]):
        return np.ascontiguousarray(frame)
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=way))


def picture_and_prompt(clips: Iterable[Path], paintings: Path | None, name: str) -> tuple[np.ndarray | None, str]:
    """The painting clips were made from and its sentence: from the folder `paintings`, else from a recipe inside a clip."""
    from ..images import load_painting
    from ..render.export import read_recipe

    picture, words = None, ""
    if paintings is not None:
        here = next(
            (p for p in sorted(paintings.glob(f"{name}.*")) if p.suffix.lower() in PICTURES and p.stem == name), None
        )
        picture = load_painting(here) if here else None
    for path in clips:
        try:
            recipe = read_recipe(path)
        except OutputError:
            continue
        words = words or str(recipe.get("prompt", ""))
        source = Path(str(recipe.get("painting", "")))
        if picture is None and source.is_file():
            try:
                picture = load_painting(source)
            except VivantError:
                continue
        if picture is not None and words:
            break
    return picture, words
