"""Frames as video: MP4 to show, ProRes to edit, FFV1 to keep every pixel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


@dataclass(frozen=True)
class Codec:
    """How one kind of file is written. `pixels`: FFmpeg's name; a name that begins with yuv is BT.709, limited range."""

    container: str
    name: str
    pixels: str
    options: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)


# fmt: off
CODECS = {
    ".mp4": Codec(
        "mp4", "libx264", "yuv420p", {"crf": "15", "preset": "medium"}, {"movflags": "faststart+use_metadata_tags"}
    ),
    ".mov": Codec(
        "mov", "prores_ks", "yuv444p10le", {"profile": "4444", "vendor": "apl0", "bits_per_mb": "8000"},
        {"movflags": "use_metadata_tags"},
    ),
    # Matroska draws a random identity for each file unless it is told to be exact.
    ".mkv": Codec("matroska", "ffv1", "bgr0", {"level": "3", "slicecrc": "1", "g": "1"}, {"fflags": "+bitexact"}),
}
# fmt: on


def write_video(frames: Iterator[np.ndarray], path: Path, fps: float, comment: str) -> None:
    """Encode (H, W, 3) uint8 frames as the suffix says; `comment` goes into the file. An odd side is repeated once in YUV."""
    codec = CODECS[path.suffix.lower()]
    yuv = codec.pixels.startswith("yuv")
    first = next(frames)
    height, width = first.shape[:2]
    pad = ((0, height % 2), (0, width % 2), (0, 0)) if yuv else ((0, 0),) * 3
    with av.open(str(path), "w", format=codec.container, options=codec.muxer) as file:
        file.metadata["comment"] = comment
        stream: Any = file.add_stream(codec.name, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width + pad[1][1], height + pad[0][1], codec.pixels
        # One thread: more of them may place slices differently, and the same recipe must give the same bytes.
        stream.options = {**codec.options, "threads": "1"}
        if yuv:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 1
        for rgb in itertools.chain([first], frames):
            padded = np.pad(rgb, pad, mode="edge") if any(p[1] for p in pad) else rgb
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), "rgb24")
            if yuv:
                frame = frame.reformat(
                    format=codec.pixels, src_colorspace=1, dst_colorspace=1, src_color_range=2, dst_color_range=1
                )
                frame.color_primaries, frame.color_trc = 1, 1
            else:
                frame = frame.reformat(format=codec.pixels)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
