"""Features computed once: clips read ahead, networks fed in batches, results kept under the hash of what they came from."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..errors import InputError, OutputError, SettingError, VivantError
from ..priors.entry import models_folder
from .extractors import Extractor
from .video import PICTURES, first_frames, read_video

FRAMES, SIDE = 16, 256
"""What the papers measure sets of clips on: the first 16 frames at 256 × 256."""

AHEAD = 4
"""Batches of clips whose files are looked at together."""


class FeatureCache:
    """Features on disk, one small file each, by extractor and by the hash of the content they came from.

    Lies in `features` under $VIVANT_MODELS, or under ~/.cache/vivant. A damaged file counts as missing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or models_folder() / "features"

    def path(self, extractor: Extractor, content: str) -> Path:
        """The file of one entry; another version of the extractor has another."""
        key = hashlib.sha256(f"{extractor.name}\0{extractor.version}\0{content}".encode()).hexdigest()
        return self.folder / extractor.name / key[:2] / f"{key[2:]}.npy"

    def get(self, extractor: Extractor, content: str) -> Tensor | None:
        """What was kept, or None."""
        try:
            return torch.from_numpy(np.load(self.path(extractor, content), allow_pickle=False))
        except (OSError, ValueError, EOFError):
            return None

    def put(self, extractor: Extractor, content: str, features: Tensor) -> None:
        """Keep features, whole or not at all. Raises `OutputError`."""
        path = self.path(extractor, content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
                np.save(file, features.detach().float().cpu().numpy(), allow_pickle=False)
            os.replace(file.name, path)
        except OSError as error:
            raise OutputError(
                f"expected to keep features in {self.folder}: {error.strerror or error}; free some disk, or set VIVANT_MODELS to another"
            ) from None


def content_of(path: str | Path) -> str:
    """The sha256 of a file's bytes; of a folder's pictures, names and bytes. Raises `InputError`."""
    path, digest = Path(path), hashlib.sha256()
    try:
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES) if path.is_dir() else [path]
        for file in files:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() if path.is_dir() else b"")
            with file.open("rb") as data:
                while block := data.read(1 << 20):
                    digest.update(block)
    except FileNotFoundError:
        raise InputError(f"expected a video at {path}, found no such file") from None
    except OSError as error:
        raise InputError(f"expected a readable video at {path}: {error.strerror or error}") from None
    return digest.hexdigest()


def clip_features(
    paths: Iterable[str | Path], extractor: Extractor, cache: FeatureCache | None = None, frames: int = FRAMES,
    side: int = SIDE, batch: int = 8, workers: int = 2, skipped: Callable[[Path, VivantError], None] | None = None,
) -> Iterator[tuple[Path, Float[Tensor, " D"]]]:  # fmt: skip
    """(path, features) of each clip's first `frames` frames, the middle square at `side` × `side`, in order, on the CPU.

    Clips that the cache knows are not even decoded; the others are read by `workers` threads while the network works on
    the batch before. Memory does not grow with the number of clips. A clip that cannot be read is given to `skipped`,
    or raises its `InputError` where there is none. Raises `SettingError` for an extractor of frames.
    """
    if extractor.takes != "videos":
        raise SettingError(f"expected an extractor of clips, {extractor.name} takes frames")

    def content(path: Path) -> str:
        return f"{content_of(path)} first {frames} square {side}"

    def looked_up(path: Path) -> tuple[Tensor | None, str | VivantError]:
        try:
            key = content(path) if cache is not None else ""
            return (cache.get(extractor, key) if cache is not None else None), key
        except VivantError as error:
            return None, error

    def decoded(path: Path) -> Tensor | VivantError:
        try:
            return torch.from_numpy(square_clip(path, frames, side))
        except VivantError as error:
            return error

    source = map(Path, paths)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        while group := list(islice(source, AHEAD * batch)):
            known = list(pool.map(looked_up, group))
            found: dict[int, Tensor | VivantError] = {}
            wanted: list[tuple[int, str]] = []
            for i, (features, key) in enumerate(known):
                if features is not None:
                    found[i] = features
                elif isinstance(key, VivantError):
                    found[i] = key
                else:
                    wanted.append((i, key))
            reading = [pool.submit(decoded, group[i]) for i, _ in wanted[: 2 * batch]]
            for start in range(0, len(wanted), batch):
                clips = {}
                for k in range(start, min(start + batch, len(wanted))):
                    clips[k] = reading[k].result()
                    reading[k] = None  # type: ignore[call-overload]
                reading += [pool.submit(decoded, group[i]) for i, _ in wanted[len(reading) : start + 3 * batch]]
                good = [k for k, c in clips.items() if isinstance(c, Tensor)]
                found |= {wanted[k][0]: c for k, c in clips.items() if isinstance(c, VivantError)}
                if good:
                    rows = extractor(torch.stack([clips[k] for k in good])).float().cpu()  # type: ignore[misc]
                    for k, features in zip(good, rows, strict=True):
                        found[wanted[k][0]] = features
                        if cache is not None:
                            cache.put(extractor, wanted[k][1], features)
            for i, path in enumerate(group):
                result = found[i]
                if isinstance(result, Tensor):
                    yield path, result
                elif skipped is None:
                    raise result
                else:
                    skipped(path, result)


def frame_features(
    frames: UInt8[np.ndarray, "F H W 3"], extractor: Extractor, cache: FeatureCache | None = None, batch: int = 16
) -> Float[Tensor, "F D"]:
    """Features of a clip's frames, or of pictures, on the CPU. Raises `SettingError` for an extractor of clips."""
    if extractor.takes != "frames":
        raise SettingError(f"expected an extractor of frames, {extractor.name} takes clips")
    frames = np.require(frames, requirements=["C", "W"])  # torch takes no read-only memory
    key = f"{hashlib.sha256(frames.data).hexdigest()} frames {frames.shape}"
    known = cache.get(extractor, key) if cache is not None else None
    if known is not None:
        return known
    found = torch.cat([extractor(part).float().cpu() for part in torch.from_numpy(frames).split(batch)])
    if cache is not None:
        cache.put(extractor, key, found)
    return found


def square_clip(path: str | Path, frames: int = FRAMES, side: int = SIDE) -> UInt8[np.ndarray, "F S S 3"]:
    """A video's first frames, the shorter side scaled to `side`, the middle cut out. Raises `InputError`."""
    clip = first_frames(read_video(path, most=frames, side=side, shorter=True), frames)
    top, left = (clip.shape[1] - side) // 2, (clip.shape[2] - side) // 2
    return np.ascontiguousarray(clip[:, top : top + side, left : left + side])


def features_of(
    paths: Sequence[str | Path], extractor: Extractor, cache: FeatureCache | None = None
) -> Float[Tensor, "N D"]:
    """The features of many clips as one tensor; see `clip_features`."""
    return torch.stack([features for _, features in clip_features(paths, extractor, cache)])
