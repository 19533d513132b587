"""Any video becomes (F, H, W, 3) uint8 sRGB frames with their times, or one clear line."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageSequence, UnidentifiedImageError

from ..errors import InputError
from ..images import MAX_PIXELS, load_painting

MAX_BYTES = 4 << 30
"""Frames of one video that are held at once."""

AHEAD = 32
"""Asked for this many frames at most, a video is read by one thread."""

FOLDER_FPS = 8.0
"""The rate a folder of pictures is taken to have."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Video:
    """`frames` (F, H, W, 3) uint8 sRGB; `times` (F,) seconds, the first 0, rising; `fps` the mean rate."""

    frames: UInt8[np.ndarray, "F H W 3"]
    times: Float[np.ndarray, " F"]
    fps: float
    path: Path
    cut: bool = False
    """whether the file goes on after the frames that were asked for"""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels"""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def variable(self) -> bool:
        """Whether frames are shown for unlike times (more than half a frame apart)."""
        steps = np.diff(self.times)
        return bool(len(steps) > 1 and np.ptp(steps) > 0.5 * np.median(steps))


def read_video(path: str | Path, most: int | None = None, side: int | None = None, shorter: bool = False) -> Video:
    """Read a video (anything FFmpeg can: MP4, WebM, AVI …), a GIF, WebP or APNG, or a folder of pictures in name order.

    `most`: stop after that many frames; `side`: scale to this longer side, or to this `shorter` one. Grey becomes RGB, turned videos are turned,
    frames of a size that changes midway get the first one's. Raises `InputError` for what is missing, unreadable, broken
    off, without a picture track or without frames, and for more frames than fit (4 GiB).
    """
    path = Path(path)
    if most is not None and most < 1:
        raise InputError(f"expected to read at least 1 frame, got {most}")
    try:
        if not path.exists():
            raise InputError(f"expected a video at {path}, found no such file")
        if path.is_dir():
            source = _folder(path)
        elif path.stat().st_size == 0:
            raise InputError(f"expected a video at {path}, the file is empty")
        else:
            source = _pillow(path) if _is_picture(path) else _ffmpeg(path, most, side, shorter)
        return _gather(source, path, most, side, shorter)
    except PermissionError:
        raise InputError(f"expected a readable video at {path}, permission was denied") from None


def first_frames(video: Video, count: int) -> UInt8[np.ndarray, "F H W 3"]:
    """The first `count` frames, as the papers' benchmarks take them. Raises `InputError` for a shorter video."""
    if len(video.frames) < count:
        raise InputError(f"expected at least {count} frames in {video.path}, got {len(video.frames)}")
    return video.frames[:count]


def _gather(
    source: Iterator[tuple[np.ndarray, float | None]], path: Path, most: int | None, side: int | None, shorter: bool
) -> Video:
    frames: list[np.ndarray] = []
    times: list[float | None] = []
    cut = False
    for frame, time in source:
        if most is not None and len(frames) >= most:
            cut = True
            break
        if frame.shape[0] * frame.shape[1] > MAX_PIXELS:
            raise InputError(f"expected frames of at most {MAX_PIXELS // 1_000_000} megapixels in {path}")
        scaled = _scaled(frame, side, shorter)
        if frames and scaled.shape != frames[0].shape:
            height, width = frames[0].shape[:2]
            scaled = cv2.resize(scaled, (width, height), interpolation=cv2.INTER_AREA)
        frames.append(np.ascontiguousarray(scaled))
        times.append(time)
        if len(frames) * frames[0].nbytes > MAX_BYTES:
            raise InputError(
                f"expected at most {MAX_BYTES >> 30} GiB of frames, {path} has more; cut it, or scale it down"
            )
    if not frames:
        raise InputError(f"expected a video with frames at {path}, found none in it")
    clock, fps = _clock(times)
    return Video(np.stack(frames), clock, fps, path, cut)


def _clock(times: list[float | None]) -> tuple[np.ndarray, float]:
    """Seconds from the first frame on, and the mean rate; files without times count as `FOLDER_FPS`."""
    known = [t for t in times if t is not None]
    if len(known) < len(times) or (len(times) > 1 and (known[-1] <= known[0] or min(np.diff(known)) < 0)):
        return np.arange(len(times)) / FOLDER_FPS, FOLDER_FPS
    clock = np.asarray(known) - known[0]
    return clock, float((len(clock) - 1) / clock[-1]) if len(clock) > 1 else FOLDER_FPS


def _target(width: int, height: int, side: int | None, shorter: bool) -> tuple[int, int]:
    """(width, height) once scaled"""
    if side is None:
        return width, height
    scale = side / (min(height, width) if shorter else max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _scaled(frame: np.ndarray, side: int | None, shorter: bool) -> np.ndarray:
    height, width = frame.shape[:2]
    size = _target(width, height, side, shorter)
    if size == (width, height):
        return frame
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if size[0] < width else cv2.INTER_CUBIC)


def _is_picture(path: Path) -> bool:
    """GIF, PNG and WebP by their first bytes: Pillow composes their frames, FFmpeg knows no animated WebP."""
    with path.open("rb") as file:
        start = file.read(16)
    return start.startswith((b"GIF8", b"\x89PNG")) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def _pillow(path: Path) -> Iterator[tuple[np.ndarray, float | None]]:
    clock, count = 0.0, 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                for frame in ImageSequence.Iterator(image):
                    rgba = frame.convert("RGBA")
                    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
                    yield np.asarray(flat), clock
                    count += 1
                    # Browsers show a frame of no length for a tenth of a second.
                    clock += (frame.info.get("duration") or 100) / 1000
    except UnidentifiedImageError:
        raise InputError(f"expected a video at {path}, its format is not known") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _broken(path, count, error) from None


def _ffmpeg(path: Path, most: int | None, side: int | None, shorter: bool) -> Iterator[tuple[np.ndarray, float | None]]:
    count = 0
    try:
        with av.open(str(path)) as file:
            if not file.streams.video:
                raise InputError(f"expected a video with pictures at {path}, it has only sound")
            stream = file.streams.video[0]
            # Threads decode frames ahead, which is wasted on the first few of many.
            stream.thread_type = "AUTO" if most is None or most > AHEAD else "NONE"
            for packet in file.demux(stream):
                if packet.is_corrupt:
                    raise _broken(path, count)
                for frame in packet.decode():
                    yield rgb_of(frame, _target(frame.width, frame.height, side, shorter)), _seconds(frame)
                    count += 1
    except av.error.EOFError:
        raise InputError(f"expected a video with frames at {path}, found none in it") from None
    except av.error.InvalidDataError as error:
        if count:
            raise _broken(path, count) from None
        raise InputError(f"expected a video at {path}, it cannot be read: {reason(error)}") from None
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(f"expected a video at {path}, it cannot be read: {reason(error)}") from None


def _seconds(frame: Any) -> float | None:
    return None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)


def rgb_of(frame: Any, size: tuple[int, int]) -> np.ndarray:
    """One decoded frame as sRGB: its own matrix where it is told, else that of its size; turned as its file says.

    Made smaller on the way: converting fewer pixels is what makes thousands of clips bearable.
    """
    told = int(frame.colorspace)
    matrix = told if told in (1, 4, 5, 6, 7, 9) else (1 if frame.height >= 720 else 5)
    small = size[0] < frame.width
    rgb = frame.reformat(
        *(size if small else (frame.width, frame.height)), "rgb24", src_colorspace=matrix, interpolation="AREA"
    ).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.rot90(rgb, turns) if turns else rgb


def _folder(path: Path) -> Iterator[tuple[np.ndarray, float | None]]:
    def natural(file: Path) -> list[tuple[int, int | str]]:
        return [(0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"(\d+)", file.name.lower()) if p]

    files = sorted(
        (p for p in path.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith(".")), key=natural
    )
    if not files:
        raise InputError(
            f"expected a folder of pictures at {path}, found none; name a video, or the folder of its frames"
        )
    shape = None
    for file in files:
        picture = load_painting(file)
        if shape is not None and picture.shape != shape:
            raise InputError(
                f"expected frames of one size in {path}, {file.name} is {picture.shape[1]}×{picture.shape[0]}; "
                "name a folder that holds one video's frames alone"
            )
        shape = picture.shape
        yield picture, None


def _broken(path: Path, count: int, error: BaseException | None = None) -> InputError:
    why = f": {reason(error)}" if error is not None and not count else ""
    return InputError(f"expected a whole video at {path}, it breaks off after {count} frames{why}; export it again")


def reason(error: BaseException) -> str:
    """What an error says, its first line, at most 120 characters; its kind where it says nothing."""
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__
