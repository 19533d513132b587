"""Frames become files: MP4, MOV, MKV, GIF, WebP, APNG or a folder of PNGs, whole or not at all, with the recipe inside."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from ..errors import OutputError
from .video import CODECS, write_video

FORMATS = (*CODECS, ".gif", ".webp", ".apng", ".png")
MARK = "vivant-recipe:"


def export(frames: Iterable[np.ndarray], path: str | Path, fps: float, recipe: str = "{}") -> Path:
    """Write (H, W, 3) uint8 frames to `path`; the suffix decides the format, no suffix means a folder of PNGs.

    `recipe`: JSON that is embedded in the file. The file appears complete or not at all. Raises `OutputError`.
    """
    path = Path(path)
    check_target(path)
    writers: dict[str, Callable[..., None]] = {
        **dict.fromkeys(CODECS, _video),
        ".gif": _gif,
        ".webp": _webp,
        ".apng": _apng,
        ".png": _apng,
        "": _folder,
    }
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".vivant-", dir=path.parent))
        part = temporary / path.name
        writers[path.suffix.lower()](_checked(frames), part, fps, recipe)
        if path.is_dir() and not path.suffix:
            shutil.rmtree(path)
        os.replace(part, path)
    except (OSError, av.error.FFmpegError) as error:
        raise OutputError(f"could not write {path}: {error.strerror or error}; is there room on the disk?") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return path


def save_picture(picture: np.ndarray, path: Path) -> Path:
    """Write one (H, W, 3) uint8 picture as PNG, whole or not at all. Raises `OutputError`."""
    if not path.parent.is_dir():
        raise OutputError(f"expected a folder at {path.parent}, there is none; make it first")
    part = path.with_name(f".{path.name}.part")
    try:
        Image.fromarray(picture).save(part, format="PNG")
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"could not write {path}: {error.strerror or error}; is there room on the disk?") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def check_target(path: Path) -> None:
    """Refuse early, before any work is done: an unknown suffix, a missing or read-only folder, a folder in the way."""
    if path.name in ("", ".."):
        raise OutputError(f"expected a name for the result, got '{path}'; add one, such as {path / 'clip.mp4'}")
    if len(os.fsencode(path.name)) > 255:
        raise OutputError(f"expected a name of at most 255 bytes, got {len(os.fsencode(path.name))}; shorten it")
    if path.suffix.lower() not in (*FORMATS, ""):
        raise OutputError(f"expected an output ending in {', '.join(FORMATS)} or a folder, got {path.name!r}")
    if not path.parent.is_dir():
        raise OutputError(f"expected a folder at {path.parent}, there is none; make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"expected to write into {path.parent}, permission is denied")
    if path.is_dir() and path.suffix:
        raise OutputError(f"expected a file at {path}, a folder of that name is in the way")
    if path.is_dir() and any(p.name != "recipe.json" and not p.name.startswith("frame_") for p in path.iterdir()):
        raise OutputError(
            f"expected an empty folder or earlier frames at {path}, it holds other files; choose another name"
        )
    if path.is_file() and not path.suffix:
        raise OutputError(f"expected a folder at {path}, a file of that name is in the way; add .mp4 for a video")


def spare(path: Path, *given: object) -> None:
    """Refuse to write over what a result is made from: painting, mask, proxy, last picture; masks with their #label."""
    for source in given:
        if not isinstance(source, str | Path) or not str(source):
            continue
        for name in {str(source), str(source).rpartition("#")[0] or str(source)}:
            try:
                same = os.path.samefile(path, name)
            except (OSError, ValueError):
                same = False
            if same:
                raise OutputError(f"expected another name for the result than {name}, which it is made from; change -o")


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or (shape is not None and frame.shape != shape):
            raise OutputError(f"expected (H, W, 3) uint8 frames of one size, got {frame.shape} {frame.dtype}")
        shape = frame.shape
        yield frame
    if shape is None:
        raise OutputError("expected at least one frame, got none")


def _video(frames: Iterator[np.ndarray], path: Path, fps: float, recipe: str) -> None:
    write_video(frames, path, fps, MARK + recipe)


def _pictures(frames: Iterator[np.ndarray]) -> tuple[Image.Image, Iterator[Image.Image]]:
    images = (Image.fromarray(f) for f in frames)
    return next(images), images


def _gif(frames: Iterator[np.ndarray], path: Path, fps: float, recipe: str) -> None:
    first, rest = _pictures(frames)
    # One palette for the whole clip: a palette per frame would make the still parts shimmer.
    palette = first.quantize(256, method=Image.Quantize.MEDIANCUT)
    clip = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in rest]
    palette.save(
        path,
        "GIF",
        save_all=True,
        append_images=clip,
        duration=max(20, round(1000 / fps)),
        loop=0,
        comment=(MARK + recipe).encode(),
    )


def _webp(frames: Iterator[np.ndarray], path: Path, fps: float, recipe: str) -> None:
    first, rest = _pictures(frames)
    exif = Image.Exif()
    exif[0x010E] = MARK + json.dumps(json.loads(recipe))
    first.save(
        path,
        "WEBP",
        save_all=True,
        append_images=rest,
        duration=round(1000 / fps),
        loop=0,
        quality=92,
        method=3,
        exif=exif,
    )


def _apng(frames: Iterator[np.ndarray], path: Path, fps: float, recipe: str) -> None:
    first, rest = _pictures(frames)
    # Pillow walks the frames twice to settle on one mode, so they have to be a list.
    text = PngImagePlugin.PngInfo()
    text.add_itxt("vivant-recipe", recipe)
    first.save(path, "PNG", save_all=True, append_images=list(rest), duration=round(1000 / fps), loop=0, pnginfo=text)


def _folder(frames: Iterator[np.ndarray], path: Path, fps: float, recipe: str) -> None:
    path.mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"frame_{i:05d}.png")
    (path / "recipe.json").write_text(recipe)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe inside an exported file or folder. Raises `OutputError` when there is none."""
    path = Path(path)
    text = None
    try:
        if path.is_dir():
            text = (path / "recipe.json").read_text()
        elif path.suffix.lower() in CODECS:
            with av.open(str(path)) as file:
                # Matroska spells its tags in capitals.
                text = {k.lower(): v for k, v in file.metadata.items()}.get("comment", "").removeprefix(MARK)
        else:
            with Image.open(path) as image:
                found = image.info.get("vivant-recipe") or image.info.get("comment") or image.getexif().get(0x010E)
                text = found.decode() if isinstance(found, bytes) else found
                text = text.removeprefix(MARK) if text else None
        recipe = json.loads(text or "")
    except (
        OSError,
        ValueError,
        SyntaxError,
        RecursionError,
        Image.DecompressionBombError,
        av.error.FFmpegError,
    ) as error:
        raise OutputError(f"expected a file made by vivant at {path}, found no recipe in it") from error
    if not isinstance(recipe, dict):
        raise OutputError(f"expected a recipe in {path}, found {str(recipe)[:60]!r}")
    return recipe


def contact_sheet(frames: Sequence[np.ndarray], path: str | Path, columns: int = 3, width: int = 480) -> Path:
    """A PNG of a few frames side by side, `width` pixels each, and how much moved (last cell: dark is still)."""
    height = max(1, round(frames[0].shape[0] * width / frames[0].shape[1]))
    cells = [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]
    change = np.max([np.abs(c.astype(np.float32) - cells[0]).mean(-1) for c in cells], 0)
    cells.append(cv2.applyColorMap(np.clip(change * 4, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1])
    while len(cells) % columns:
        cells.append(np.zeros_like(cells[0]))
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    path = Path(path)
    part = path.with_name("." + path.name)
    Image.fromarray(np.vstack(rows)).save(part, "PNG")
    os.replace(part, path)
    return path
