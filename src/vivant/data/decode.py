"""Frames of a clip at given times: seek, decode, turn, scale, crop; or one clear line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import InputError
from ..metrics.video import reason, rgb_of
from .buckets import Size, covering, cropped
from .sources import Item

SEEK = 1.0
"""Nearer to the start than this many seconds, decoding on is cheaper than seeking."""


@dataclass(frozen=True)
class Facts:
    """A clip as it is shown: `size` (width, height), mean `fps`, `duration` in seconds (its own span of a longer video)."""

    size: Size
    fps: float
    duration: float

    @property
    def frames(self) -> int:
        """about how many frames it has"""
        return max(1, round(self.duration * self.fps))


def probe(item: Item) -> Facts:
    """Size, rate and duration; the first frame is decoded, so that a broken file is found. Raises `InputError`."""
    with _opened(item) as (container, stream), _told(item):
        first = next(container.decode(stream), None)
        if first is None:
            raise InputError(f"expected a video with frames at {item.name}, found none in it")
        size = (first.height, first.width) if round(first.rotation / 90) % 2 else (first.width, first.height)
        fps, whole = _clock(container, stream, item)
    end = whole if item.end is None else min(item.end, whole)
    if end <= item.start:
        raise InputError(f"expected {item.name} to last longer than {item.start:.2f} s, it lasts {whole:.2f} s")
    return Facts(size, fps, end - item.start)


def decode(
    item: Item, times: Sequence[float], fps: float, target: Size | None = None, at: tuple[float, float] = (0.5, 0.5)
) -> UInt8[np.ndarray, "F H W 3"]:
    """The frames nearest to `times` (rising, seconds from the item's start), covering `target` (width, height) and cut at `at`.

    `fps` is the file's own rate: half a frame is how far a frame's time may lie from the one asked for. Raises `InputError`
    for a file that is broken or ends too early.
    """

    def picture(frame: Any) -> np.ndarray:
        return _picture(frame, target, at)

    moments = [item.start + t for t in times]
    frames = _gather(item, moments, fps, moments[0] > SEEK, picture)
    if frames is None:  # the seek went past the first frame: indexes lie, decoding from the start does not
        frames = _gather(item, moments, fps, False, picture)
    assert frames is not None
    shape = frames[0].shape
    # A stream may change its size midway; the first frame's counts.
    same = [
        f if f.shape == shape else cv2.resize(f, (shape[1], shape[0]), interpolation=cv2.INTER_AREA) for f in frames
    ]
    return np.stack(same)


def _gather(
    item: Item, moments: Sequence[float], fps: float, seek: bool, picture: Callable[[Any], np.ndarray]
) -> list[np.ndarray] | None:
    half, out = 0.5 / fps, []
    made: tuple[Any, np.ndarray] | None = None

    def add(frame: Any) -> None:
        nonlocal made
        if made is None or made[0] is not frame:  # a frame that is shown twice is converted once
            made = (frame, picture(frame))
        out.append(made[1])

    with _opened(item) as (container, stream), _told(item):
        began = float((stream.start_time or 0) * stream.time_base)
        if seek and container.format.name != "gif":
            container.seek(int((began + moments[0] - half) / stream.time_base), stream=stream, backward=True)
        else:
            seek = False
        last, then = None, 0.0
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise InputError(
                    f"expected a whole video at {item.name}, it is damaged near {then:.1f} s; export it again"
                )
            now = number / fps if frame.time is None else frame.time - began
            if last is None and now > moments[0] + half and seek:
                return None
            while last is not None and len(out) < len(moments) and now > moments[len(out)] + half:
                add(last)
            if len(out) == len(moments):
                break
            last, then = frame, now
        # The last frame stays on the screen for its own length.
        while last is not None and len(out) < len(moments) and moments[len(out)] <= then + 1.5 / fps:
            add(last)
    if len(out) < len(moments):
        raise InputError(
            f"expected a whole video at {item.name}, it breaks off at {then:.1f} of {moments[-1]:.1f} s; export it again"
        )
    return out


def walk(item: Item, facts: Facts, rate: float, side: int) -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]]:
    """(seconds from the item's start, frame) all along a clip, `rate` a second at most, scaled down to the longer `side`.

    Raises `InputError` for a file that is broken or ends too early.
    """
    scale = min(1.0, side / max(facts.size))
    target = max(1, round(facts.size[0] * scale)), max(1, round(facts.size[1] * scale))
    half, step = 0.5 / facts.fps, 1 / min(rate, facts.fps)
    due, now = 0.0, 0.0
    with _opened(item) as (container, stream), _told(item):
        began = float((stream.start_time or 0) * stream.time_base)
        seeks = item.start > SEEK and container.format.name != "gif"
        if seeks:
            container.seek(int((began + item.start - half) / stream.time_base), stream=stream, backward=True)
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise InputError(
                    f"expected a whole video at {item.name}, it is damaged near {now:.1f} s; export it again"
                )
            now = (number / facts.fps if frame.time is None else frame.time - began) - item.start
            if now > facts.duration - half:
                break
            if now >= due - half:
                yield now, _picture(frame, target, (0.5, 0.5))
                due = max(due + step, now + step / 2)
    if now < facts.duration - max(2.5 / facts.fps, 0.05 * facts.duration):
        raise InputError(
            f"expected a whole video at {item.name}, it breaks off at {now:.1f} of {facts.duration:.1f} s; export it again"
        )


class _opened:
    """The container and its first picture track, decoded by one thread: workers are what runs beside each other."""

    def __init__(self, item: Item) -> None:
        self.item = item

    def __enter__(self) -> tuple[Any, Any]:
        with _told(self.item):
            self.container = av.open(self.item.open())
            if not self.container.streams.video:
                self.container.close()
                raise InputError(f"expected a video with pictures at {self.item.name}, it has only sound")
        stream = self.container.streams.video[0]
        stream.thread_type = "NONE"
        return self.container, stream

    def __exit__(self, *error: object) -> None:
        self.container.close()


class _told:
    """FFmpeg's errors as `InputError`, one line."""

    def __init__(self, item: Item) -> None:
        self.item = item

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (av.error.FFmpegError, ValueError, OSError)):
            raise InputError(f"expected a video at {self.item.name}, it cannot be read: {reason(error)}") from None


def _clock(container: Any, stream: Any, item: Item) -> tuple[float, float]:
    """(fps, seconds) of the whole file: from its header, else by its packets, which are read and not decoded."""
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
    # Without a length of its own, a track may be shorter than the file: sound often goes on.
    alone = stream.duration or len(container.streams) == 1
    if fps > 0 and seconds > 0 and alone:
        return fps, seconds
    container.seek(0)
    times = sorted(float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None)
    if len(times) < 2:
        return fps or 8.0, max(len(times), 1) / (fps or 8.0)
    step = (times[-1] - times[0]) / (len(times) - 1) or 1 / 8
    return 1 / step, times[-1] - times[0] + step


def _picture(frame: Any, target: Size | None, at: tuple[float, float]) -> np.ndarray:
    turned = bool(round(frame.rotation / 90) % 2)
    if frame.format.has_palette or any(name in frame.format.name for name in ("rgba", "bgra", "argb", "abgr", "yuva")):
        rgba = frame.to_ndarray(format="rgba").astype(np.float32)
        alpha = rgba[..., 3:] / 255
        rgb = np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)  # on white, as pages show it
    else:
        size = (frame.width, frame.height)
        if target is not None:
            aim = (target[1], target[0]) if turned else target
            small = covering(size, aim)
            size = small if small[0] < size[0] else size
        rgb = rgb_of(frame, size)
    return np.ascontiguousarray(rgb if target is None else cropped(rgb, target, at))
