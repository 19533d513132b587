"""Title cards, pictures on a canvas of another shape, and transitions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ..errors import InputError

Frame = UInt8[np.ndarray, "H W 3"]


def fitted(frame: Frame, size: tuple[int, int]) -> Frame:
    """The whole frame on a canvas of `size` = (width, height), black where it does not reach: paintings are not cropped."""
    height, width = frame.shape[:2]
    if (width, height) == size:
        return frame
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    x, y = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[y : y + inner[1], x : x + inner[0]] = cv2.resize(frame, inner, interpolation=way)
    return canvas


def card(text: str, size: tuple[int, int], font: Path | None = None) -> Frame:
    """Words in the middle of a black frame, wrapped to three quarters of its width. Raises `InputError` for a bad font."""
    width, height = size
    points = max(10, min(width, height) // 11)
    try:
        face = ImageFont.truetype(str(font), points) if font else ImageFont.load_default(points)
    except OSError as error:
        raise InputError(f"expected a TrueType or OpenType font at {font}, it cannot be read: {error}") from None
    picture = Image.new("RGB", size)
    draw = ImageDraw.Draw(picture)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, face) <= 0.75 * width:
            lines[-1] = longer
        else:
            lines.append(word)
    draw.multiline_text(
        (width / 2, height / 2),
        "\n".join(lines),
        (235, 232, 224),
        face,
        anchor="mm",
        align="center",
        spacing=points // 2,
    )
    return np.asarray(picture)


def shown(still: Frame, count: int, rise: int) -> Iterator[Frame]:
    """A card for `count` frames, rising from black and sinking back into it over `rise` frames."""
    for i in range(count):
        light = min(1.0, (i + 1) / max(rise, 1), (count - i) / max(rise, 1))
        yield still if light >= 1 else dimmed(still, light)


def dimmed(frame: Frame, light: float) -> Frame:
    """A frame darkened to `light` in [0, 1]."""
    return cv2.convertScaleAbs(frame, alpha=float(light))


def entering(frames: Iterable[Frame], before: list[Frame], fade: int) -> Iterator[Frame]:
    """A shot whose first frames dissolve from `before`, the frames that the shot before it was longer by.

    `fade`: frames over which it rises from black instead.
    """
    for i, frame in enumerate(frames):
        if i < len(before):
            u = (i + 1) / (len(before) + 1)
            yield cv2.addWeighted(before[i], 1 - u, frame, u, 0)
        elif i < fade:
            yield dimmed(frame, (i + 1) / (fade + 1))
        else:
            yield frame


def leaving(frames: Iterable[Frame], count: int, fade: int, tail: int, rest: list[Frame]) -> Iterator[Frame]:
    """A shot of `count` frames and `tail` more: it sinks to black over its last `fade`, the tail is put into `rest`."""
    waiting: deque[Frame] = deque()
    for i, frame in enumerate(frames):
        if i >= count:
            waiting.append(frame)
        elif i >= count - fade:
            yield dimmed(frame, (count - i) / (fade + 1))
        else:
            yield frame
    rest.extend(list(waiting)[:tail])
