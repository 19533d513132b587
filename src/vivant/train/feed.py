"""Clips in the order a training sees them: a function of seed and step alone, so that any step can be gone on from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.videos import Batches, VideoClips, normalised
from ..errors import InputError, OutputError, SettingError
from .config import Data

Example = dict[str, Any]
"""One clip: `frames` (3, F, H, W) in [-1, 1], `caption`, `fps`, `native_fps`, `key`; or what a recipe encoded of it."""

RATE = 24.0
"""frames a second that procedural clips count as"""
SCENES = 1_700_000_003
"""seeds of the procedural clips, others than those of evaluation"""


class Clips(Protocol):
    """A dataset by (epoch, number): the same clip for the same seed, epoch and number, in any process."""

    seed: int
    broken: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: tuple[int, int]) -> Example: ...

    def bucket(self, number: int) -> int:
        """Clips of one bucket are of one size."""
        ...


def generator(*address: int) -> Generator:
    """A generator for an address (seed, step, place …): what is drawn for a clip hangs on nothing else."""
    return Generator().manual_seed(int(np.random.SeedSequence(address).generate_state(1, np.uint64)[0] >> 1))


class Scenes(Dataset[Example]):
    """Procedural scenes as they move (`vivant.data.scenes`): exact motion, a sentence that tells it, no files."""

    gain: float = 1.0
    """factor on how far things go"""

    def __init__(
        self, count: int, frames: int, size: tuple[int, int], seed: int, strides: Sequence[int] = (1,)
    ) -> None:  # fmt: skip
        """`strides`: one is drawn for each clip; the largest covers a scene's whole motion, smaller ones its beginning."""
        self.count, self.frames, self.size, self.seed, self.strides = count, frames, size, seed, tuple(strides) or (1,)
        self.broken: list[str] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: tuple[int, int]) -> Example:
        from ..controls.steer import played
        from ..data.scenes import sample

        epoch, number = index
        if not 0 <= number < self.count:
            raise IndexError(number)
        stride = int(np.random.default_rng([SCENES, self.seed, number, epoch]).choice(self.strides))
        side = max(self.size)
        scene = sample(np.random.default_rng([SCENES, self.seed, number]), side, still=False)
        left, top = (side - self.size[0]) // 2, (side - self.size[1]) // 2
        field = scene.field * np.array([self.gain, self.gain, 1], np.float32)[:, None, None]
        every = played(scene.picture, field, (self.frames - 1) * max(self.strides) + 1)
        clip = np.stack(every[::stride][: self.frames])
        cut = np.ascontiguousarray(clip[:, top : top + self.size[1], left : left + self.size[0]])
        return {"frames": normalised(cut), "caption": scene.caption, "fps": RATE / stride, "native_fps": RATE,
                "key": f"scene-{number:06d}", "skipped": []}  # fmt: skip

    def bucket(self, number: int) -> int:
        """All of one size."""
        return 0


class Part(Dataset[Example]):
    """Some of the clips, renumbered."""

    def __init__(self, clips: Clips, numbers: Sequence[int]) -> None:
        self.clips, self.numbers, self.seed, self.broken = clips, list(numbers), clips.seed, clips.broken

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: tuple[int, int]) -> Example:
        return self.clips[index[0], self.numbers[index[1]]]

    def bucket(self, number: int) -> int:
        """As in the whole."""
        return self.clips.bucket(self.numbers[number])


def clips_of(data: Data, seed: int) -> tuple[Clips, Clips | None]:
    """(to train on, held out or None). Raises `InputError` where none are left, `SettingError` for numbers."""
    every: Any
    if data.source == "scenes":
        every = Scenes(data.scenes, data.frames, data.sizes[0], seed, data.strides)
    else:
        every = VideoClips(
            data.source, data.frames, rates=data.rates or None, strides=data.strides or None,
            size=data.buckets or data.size, seed=seed, caption=data.caption, missing=data.missing, crop=data.crop,
        )  # fmt: skip
    if not data.held_out:
        return every, None
    if data.held_out >= len(every):
        raise SettingError(
            f"expected fewer clips held out than there are, got {data.held_out} of {len(every)}; lower data.held_out"
        )
    # Every k-th: lists are often sorted by kind.
    kept = {i * len(every) // data.held_out for i in range(data.held_out)}
    return Part(every, [i for i in range(len(every)) if i not in kept]), Part(every, sorted(kept))


class Feed:
    """One process's share of each step, as lists of clips, from a step on and without end."""

    def __init__(
        self, clips: Clips, batch: int, seed: int, start: int = 0, workers: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        """`batch`: clips a step over all `world` processes. Raises `SettingError` where they cannot share it evenly."""
        if batch % world:
            raise SettingError(
                f"expected a batch that {world} processes share evenly, got {batch}; "
                f"set loop.batch={batch - batch % world or world}"
            )
        if not len(clips):
            raise InputError("expected clips to train on, found none; look at the filters and at data.source")
        self.clips, self.start, self.workers = clips, start, workers
        # All processes plan whole batches and take their own part, so that a step is the same clips for any number of them.
        self.order, self.part = Batches(clips, batch), slice(rank * batch // world, (rank + 1) * batch // world)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Example]]:
        loader: Any = DataLoader(
            self.clips, batch_sampler=_From(self.order, self.start, self.part), num_workers=self.workers, collate_fn=list,  # type: ignore[arg-type]
            worker_init_fn=_alone if self.workers else None, persistent_workers=self.workers > 0,
            generator=Generator(),
        )  # fmt: skip
        for examples in loader:
            for example in examples:
                self.clips.broken += [line for line in example.pop("skipped", []) if line not in self.clips.broken]
            yield examples


class _From:
    """The batch sampler: plans of one epoch after another, from a step on."""

    def __init__(self, order: Batches, start: int, part: slice) -> None:
        self.order, self.start, self.part = order, start, part

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        count = len(self.order.plan(0))
        epoch, step = divmod(self.start, count)
        while True:
            yield from (chunk[self.part] for chunk in self.order.plan(epoch)[step:])
            epoch, step = epoch + 1, 0


class Cached(Dataset[Example]):
    """What a recipe encoded of clips, one file each and draw: neither videos nor frozen networks are asked again.

    `encode`: one clip and a generator to tensors. `make` writes what is missing, each file whole; a damaged one is made
    again. Files are named by `kind` (what encodes), the clip's number and the draw.
    """

    def __init__(
        self, clips: Clips, folder: Path, kind: str, encode: Callable[[Example, Generator], dict[str, Tensor]],
        variants: int = 1,
    ) -> None:  # fmt: skip
        self.clips, self.folder, self.encode, self.variants = clips, folder, encode, variants
        self.kind = hashlib.sha256(kind.encode()).hexdigest()[:12]
        self.seed, self.broken = clips.seed, clips.broken

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: tuple[int, int]) -> Example:
        path = self.path(index[0] % self.variants, index[1])
        tensors = self._read(path)
        if tensors is None:
            raise InputError(f"expected an encoded clip at {path}, found none that is whole; run again to make it")
        return {"encoded": tensors, "key": f"{path.stem}"}

    def bucket(self, number: int) -> int:
        """As in the clips."""
        return self.clips.bucket(number)

    def path(self, variant: int, number: int) -> Path:
        """Where a draw of a clip is kept."""
        return self.folder / self.kind / f"{number:07d}-{variant}.safetensors"

    def make(self, rank: int = 0, world: int = 1, progress: Callable[[int, int], None] = lambda done, of: None) -> int:
        """Encode what is not there; every `world`-th file from `rank`. Returns how many were made."""
        made = 0
        wanted = [(v, n) for v in range(self.variants) for n in range(len(self.clips))][rank::world]
        for done, (variant, number) in enumerate(wanted):
            path = self.path(variant, number)
            if not path.is_file() or self._read(path) is None:
                example = self.clips[variant, number]
                self.broken += [line for line in example.get("skipped", []) if line not in self.broken]
                encoded = self.encode(example, generator(self.seed, number, variant, 7))
                part = path.with_suffix(f".{os.getpid()}.part")
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    save_file({k: v.detach().cpu().contiguous() for k, v in encoded.items()}, part)
                    os.replace(part, path)
                except OSError as error:
                    raise OutputError(
                        f"expected to write {path}: {error.strerror}; choose another data.cache"
                    ) from None
                finally:
                    part.unlink(missing_ok=True)
                made += 1
            progress(done + 1, len(wanted))
        return made

    @staticmethod
    def _read(path: Path) -> dict[str, Tensor] | None:
        try:
            return load_file(path)
        except (OSError, SafetensorError):
            return None


def _alone(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
