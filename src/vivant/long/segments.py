"""A film in parts: each written whole, joined without encoding again, so that what is there can be played at any time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from torch import Tensor

from ..errors import OutputError
from ..render.export import MARK


def join(parts: Sequence[Path], path: Path, recipe: str = "{}", audio: Path | None = None) -> Path:
    """One MP4 of parts that `render.export` wrote at one size and rate: their packets, one after another.

    `audio`: a file whose sound is laid under the film as AAC, cut where the film ends. The file appears whole or not at
    all. Raises `OutputError`, also for a sound that cannot be read.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(part), "w", format="mp4", options={"movflags": "faststart+use_metadata_tags"}) as film:
            film.metadata["comment"] = MARK + recipe
            out: Any = None
            sound: Any = None
            shown = Fraction(0)
            decoded: int | None = None
            for name in parts:
                with av.open(str(name)) as given:
                    stream = given.streams.video[0]
                    if out is None:
                        out = film.add_stream_from_template(stream)
                        out.time_base = stream.time_base
                        # Every stream is announced before the first packet is written.
                        sound = film.add_stream("aac", rate=48000) if audio is not None else None
                    assert stream.time_base is not None and stream.average_rate is not None
                    offset = int(shown / stream.time_base)
                    for packet in given.demux(stream):
                        if packet.dts is None:
                            continue
                        # A part of two frames is decoded as it is shown, a longer one begins to be decoded earlier: the
                        # order of decoding goes on from the part before.
                        decoded = packet.dts + offset if decoded is None else max(packet.dts + offset, decoded + 1)
                        packet.pts, packet.dts = (packet.pts or 0) + offset, decoded
                        packet.stream = out
                        film.mux(packet)
                    shown += Fraction(stream.frames) / stream.average_rate
            if audio is not None:
                _lay(audio, film, sound, shown)
        os.replace(part, path)
    except (OSError, av.error.FFmpegError) as error:
        raise OutputError(f"could not write {path}: {error.strerror or error}; is there room on the disk?") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _lay(audio: Path, film: Any, sound: Any, seconds: Fraction) -> None:
    """The sound of a file, as the film's, up to `seconds`."""
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48000)
    left = int(seconds * 48000)
    clock = 0
    with av.open(str(audio)) as given:
        frames = (f for source in (given.decode(given.streams.audio[0]), [None]) for f in source)
        for frame in frames:
            for piece in resampler.resample(frame):
                if left <= 0:
                    break
                if piece.samples > left:
                    whole = piece.to_ndarray()[:, :left].copy()
                    piece = av.AudioFrame.from_ndarray(whole, format="fltp", layout="stereo")
                    piece.sample_rate = 48000
                piece.pts, piece.time_base = clock, Fraction(1, 48000)
                clock += piece.samples
                left -= piece.samples
                film.mux(sound.encode(piece))
            if left <= 0:
                break
    film.mux(sound.encode(None))


class Folder:
    """Where a film's finished windows wait until it is whole. A folder of another recipe is emptied."""

    def __init__(self, place: Path, recipe: Mapping[str, Any], fresh: bool = False) -> None:
        """`fresh`: begin anew in any case. Raises `OutputError` when the folder cannot be made."""
        self.place = place
        text = json.dumps(recipe, sort_keys=True)
        self.hash = hashlib.sha256(text.encode()).hexdigest()
        mark = place / "recipe.json"
        try:
            known = json.loads(mark.read_text()).get("sha256") if mark.is_file() else None
        except (ValueError, AttributeError):
            known = None
        self.resumed = known == self.hash and not fresh and any(place.rglob("*.safetensors"))
        try:
            if place.exists() and not self.resumed:
                shutil.rmtree(place)
            place.mkdir(exist_ok=True)
            if not self.resumed:
                part = place / ".recipe"
                part.write_text(json.dumps({"sha256": self.hash, "recipe": recipe}))
                os.replace(part, mark)
        except OSError as error:
            raise OutputError(f"could not make the work folder {place}: {error.strerror or error}") from error

    def get(self, name: str) -> dict[str, Tensor] | None:
        """Tensors kept under this name; None where there are none, or none that can be read."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.place / f"{name}.safetensors"
        if not path.is_file():
            return None
        try:
            return load_file(path)
        except (SafetensorError, OSError):
            return None

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors, whole or not at all. Raises `OutputError`."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        path = self.place / f"{name}.safetensors"
        part = self.place / f".{name}.part"
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part)
            os.replace(part, path)
        except (OSError, SafetensorError) as error:
            said = getattr(error, "strerror", None) or error
            raise OutputError(f"could not write {path}: {said}; is there room on the disk?") from error
        finally:
            part.unlink(missing_ok=True)

    def leave(self) -> None:
        """The work was given up: what nothing can be gone on from is not left behind."""
        if not any(self.place.rglob("*.safetensors")):
            self.remove()

    def remove(self) -> None:
        """The film is whole: nothing is left of its parts."""
        shutil.rmtree(self.place, ignore_errors=True)
