"""A film in parts: each written whole, joined without encoding again, so that what is there can be played at any time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
from torch import Tensor

from ..errors import InputError, OutputError
from ..render.export import MARK, read_recipe


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
    """Where a film's finished windows wait until it is whole, so that the same command goes on from them.

    What a run of another recipe left there is not touched: it is refused, unless it is to begin anew.
    """

    def __init__(self, place: Path, recipe: Mapping[str, Any], fresh: bool = False) -> None:
        """`fresh`: begin anew in any case. Raises `OutputError` when the folder cannot be made, or is another run's."""
        self.place = place
        text = json.dumps(recipe, sort_keys=True)
        self.hash = hashlib.sha256(text.encode()).hexdigest()
        mark = place / "recipe.json"
        self.lock = _locked(mark)
        known = _read(mark)
        begun = any(place.rglob("*.safetensors"))
        self.resumed = known.get("sha256") == self.hash and not fresh and begun
        if begun and not self.resumed and not fresh:
            self._unlock()
            raise OutputError(
                f"expected {place} to be of this very film, it is of another that was stopped "
                f"({differs(known.get('recipe'), json.loads(text))}); give another -o, or --fresh to begin anew"
            )
        try:
            if not self.resumed:
                self._unlock()
                if place.exists():
                    shutil.rmtree(place)
                place.mkdir()
                part = place / ".recipe"
                part.write_text(json.dumps({"sha256": self.hash, "recipe": recipe}))
                os.replace(part, mark)
                self.lock = _locked(mark)
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
        self._unlock()
        if not any(self.place.rglob("*.safetensors")):
            self.remove()

    def remove(self) -> None:
        """The film is whole: nothing is left of its parts."""
        self._unlock()
        shutil.rmtree(self.place, ignore_errors=True)

    def _unlock(self) -> None:
        if self.lock is not None:
            self.lock.close()
            self.lock = None


def differs(before: Any, now: Mapping[str, Any]) -> str:
    """In what two recipes differ, in a few names."""
    if not isinstance(before, dict):
        return "its recipe cannot be read"
    names: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key), now.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            names += [inner for inner in sorted(one.keys() | other.keys()) if one.get(inner) != other.get(inner)]
        elif not key.endswith("_sha256"):
            names.append(key)
    return f"another {', '.join(names[:4])}" if names else "other pictures"


def spare_partial(path: Path, recipe: Mapping[str, Any], fresh: bool) -> None:
    """Refuse to write over the unfinished film of another run. Raises `OutputError`."""
    if fresh or not path.exists():
        return
    try:
        same = read_recipe(path) == json.loads(json.dumps(recipe))
    except InputError:
        same = False
    if not same:
        raise OutputError(
            f"expected {path} to be this film as far as it is, it is another; move it away, give another -o, or --fresh"
        )


def known_recipe(place: Path) -> dict[str, Any]:
    """The recipe of the film that was begun in a folder; empty where there is none."""
    found = _read(place / "recipe.json").get("recipe")
    return found if isinstance(found, dict) else {}


def _read(mark: Path) -> dict[str, Any]:
    try:
        known = json.loads(mark.read_text()) if mark.is_file() else {}
    except (ValueError, OSError):
        return {}
    return known if isinstance(known, dict) else {}


def _locked(mark: Path) -> IO[str] | None:
    """Held while the film is being made, let go by the system when the process ends. Raises `OutputError`."""
    if not mark.is_file():
        return None
    try:
        import fcntl
    except ImportError:  # another system: two runs of one film are not told apart there
        return None
    file = mark.open()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return None  # a file system without locks
        raise OutputError(
            f"expected no other run that writes this film, {mark.parent} is one's just now; wait for it"
        ) from None
    return file
