"""Videos whose every frame can be told apart, in the containers that data come in."""

from __future__ import annotations

import io
import tarfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def numbered(count: int = 24, size: tuple[int, int] = (64, 48), step: int = 8, first: int = 20) -> np.ndarray:
    """(F, H, W, 3) flat grey frames, each `step` brighter than the last."""
    width, height = size
    levels = (first + step * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def number(frames: np.ndarray, step: int = 8, first: int = 20) -> list[int]:
    """Which of `numbered`'s frames these (F, H, W, 3) are."""
    return [round((float(np.median(f)) - first) / step) for f in frames]


def write(path: Path, frames: np.ndarray, fps: int = 8, gop: int = 6, times: list[int] | None = None) -> Path:
    """An .mp4, .mkv, .webm or .gif; `times`: when each frame is shown, in hundredths of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        pictures = [Image.fromarray(f) for f in frames]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=1000 // fps, loop=0)
        return path
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.gop_size = gop
        stream.options = {"crf": "10", "cpu-used": "8"} if path.suffix == ".webm" else {"crf": "8"}
        if times:
            stream.codec_context.time_base = Fraction(1, 100)
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
            if times:
                frame.pts, frame.time_base = times[i], Fraction(1, 100)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def shard(path: Path, files: dict[str, bytes]) -> Path:
    """A plain tar of these files, in this order."""
    with tarfile.open(path, "w") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path
