"""Real videos to train on: clips of F frames, at chosen rates and sizes, the same for a seed whatever reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError, SettingError
from .buckets import Size, nearest
from .decode import Facts, decode, probe
from .sources import Item, Source, items

TRIES = 16
"""Clips that are tried in place of a broken one."""

Index = int | tuple[int, int]
"""a clip's number, or (epoch, number)"""


class VideoClips(Dataset[dict[str, Any]]):
    """One clip of each video of a source an epoch.

    `clips[i]` and `clips[epoch, i]` give a dict: `frames` (3, F, H, W) float in [-1, 1], or (F, H, W, 3) uint8 with
    `as_bytes`; `caption`; `fps`, the rate the frames were taken at; `native_fps`, the file's own; `key`; `start`, seconds into the
    file; `facts`, what the list told of it; `skipped`, a line for each broken clip this one stands in for.
    The same (seed, epoch, number) gives the same clip, in any process and order.

    `rates` (frames a second) or `strides` (every n-th frame): one is drawn among those that fit the video; a rate above the
    file's own counts as its own. `size` (width, height), or several: the one nearest in shape. `caption`: the field to
    take, e.g. "wording"; `missing`: "error", "empty" (say nothing) or "skip" for clips without a caption. `keep` chooses
    items. `crop`: "centre" or "random"; `start`: "random", "first" or "middle"; `grid`: on every 1/grid seconds only, where
    `vivant data --flow` has looked (`flows.along`).
    `check` opens every clip once: broken and too short ones go now, each with a line in `broken`. Without it they are found
    on the way, and another clip of the same size takes their place.
    Raises `InputError` for a source without usable clips, `SettingError` for numbers out of range.
    """

    def __init__(
        self, source: Source, frames: int = 16, *, rates: Sequence[float] | None = None,
        strides: Sequence[int] | None = None, size: Size | Sequence[Size] = (256, 256), seed: int = 0,
        caption: str | None = None, missing: str = "error", keep: Callable[[Item], bool] | None = None,
        crop: str = "centre", start: str = "random", grid: float | None = None, as_bytes: bool = False, check: bool = True,
    ) -> None:  # fmt: skip
        self.frames, self.seed, self.as_bytes, self.epoch = frames, seed, as_bytes, 0
        self.rates = tuple(rates) if rates else ()
        self.strides = tuple(strides) if strides else (() if rates else (1,))
        self.sizes: tuple[Size, ...] = (size,) if isinstance(size[0], int) else tuple(size)  # type: ignore[assignment,arg-type]
        self.crop, self.start, self.grid, self.missing = crop, start, grid, missing
        self._validate(rates, strides)
        self.broken: list[str] = []
        self._facts: dict[int, Facts] = {}
        found = items(source, caption)
        self.items = [item for item in found if keep(item)] if keep else found
        self._need(len(self.items), f"none of {len(found)} clips passed the filter")
        if missing != "empty":
            self._need_captions(caption)
        if check or len(self.sizes) > 1:
            self._check(source)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Index) -> dict[str, Any]:
        epoch, number = (self.epoch, index) if isinstance(index, int) else index
        if not 0 <= number < len(self.items):
            raise IndexError(number)
        rng = np.random.default_rng([self.seed, epoch, number])
        skipped: list[str] = []
        for attempt in range(TRIES):
            try:
                return self._clip(number, rng) | {"skipped": skipped}
            except InputError as error:
                skipped.append(f"{self.items[number].key}: {error}")
                if attempt == 0:
                    others = self.of_bucket(self.bucket(number)) if len(self.sizes) > 1 else range(len(self.items))
                number = int(others[int(rng.integers(len(others)))])
        raise InputError(f"expected a usable clip, {len(set(skipped))} in a row are not; the first: {skipped[0]}")

    def bucket(self, number: int) -> int:
        """Which of `sizes` a clip is brought to."""
        return 0 if len(self.sizes) == 1 else nearest(self._known(number).size, self.sizes)

    def of_bucket(self, bucket: int) -> list[int]:
        """The numbers of the clips of one of `sizes`."""
        return [i for i in range(len(self.items)) if self.bucket(i) == bucket]

    def _clip(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        item, facts = self.items[number], self._known(number)
        rate = float(rng.choice(self._fitting(item, facts)))
        steps = round((facts.duration - (self.frames - 1) / rate) * facts.fps - 1 + 1e-6)
        spare = max(0, steps)
        first = {"random": int(rng.integers(spare + 1)), "first": 0, "middle": spare // 2}[self.start]
        at = (float(rng.random()), float(rng.random())) if self.crop == "random" else (0.5, 0.5)
        said = item.captions[int(rng.integers(len(item.captions)))] if item.captions else ""
        begin = first / facts.fps if self.grid is None else int(first / facts.fps * self.grid + 1e-6) / self.grid
        target = self.sizes[self.bucket(number)]
        pictures = decode(item, [begin + i / rate for i in range(self.frames)], facts.fps, target, at)
        return {
            "frames": pictures if self.as_bytes else normalised(pictures), "caption": said, "fps": rate,
            "native_fps": facts.fps, "key": item.key, "start": item.start + begin, "facts": dict(item.facts),
        }  # fmt: skip

    def _fitting(self, item: Item, facts: Facts) -> list[float]:
        wanted = [min(r, facts.fps) for r in self.rates] or [facts.fps / s for s in self.strides]
        # Half a frame of grace: headers round durations.
        fits = sorted({r for r in wanted if (self.frames - 1) / r <= facts.duration - 0.5 / facts.fps})
        if not fits:
            raise InputError(
                f"expected at least {(self.frames - 1) / max(wanted) + 1 / facts.fps:.2f} s for {self.frames} frames at {max(wanted):g} fps, "
                f"{item.name} lasts {facts.duration:.2f} s"
            )
        return fits

    def _known(self, number: int) -> Facts:
        if number not in self._facts:
            self._facts[number] = _told(self.items[number]) or probe(self.items[number])
        return self._facts[number]

    def _validate(self, rates: Sequence[float] | None, strides: Sequence[int] | None) -> None:
        if rates and strides:
            raise SettingError("expected rates or strides, got both; leave one out")
        if self.frames < 1 or any(r <= 0 for r in self.rates) or any(s < 1 for s in self.strides):
            raise SettingError(f"expected frames, rates and strides above 0, got {self.frames}, {rates}, {strides}")
        if any(len(s) != 2 or min(s) < 8 for s in self.sizes):
            raise SettingError(f"expected sizes (width, height) of at least 8 pixels, got {self.sizes}")
        for value, allowed in (
            (self.crop, ("centre", "random")),
            (self.start, ("random", "first", "middle")),
            (self.missing, ("error", "empty", "skip")),
        ):
            if value not in allowed:
                raise SettingError(f"expected one of {', '.join(allowed)}, got {value!r}")

    def _need_captions(self, caption: str | None) -> None:
        without = [item.key for item in self.items if not item.captions]
        if without and self.missing == "error":
            raise InputError(
                f"expected a caption for every clip, {len(without)} of {len(self.items)} have none (first: {without[0]}); "
                "put NAME.txt beside each, or allow clips without (missing: empty or skip)"
            )
        self.broken += [f"{key}: no caption" for key in without]
        total = len(self.items)
        self.items = [item for item in self.items if item.captions]
        self._need(len(self.items), f"none of {total} clips has a caption" + (f" in {caption!r}" if caption else ""))

    def _check(self, source: Source) -> None:
        def look(number: int) -> Facts | str:
            try:
                facts = self._known(number)
                self._fitting(self.items[number], facts)
                return facts
            except InputError as error:
                return f"{self.items[number].key}: {error}"

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(look, range(len(self.items))))
        bad = [line for line in found if isinstance(line, str)]
        self.broken += bad
        self._need(
            len(found) - len(bad), f"all {len(found)} clips of {source} are unusable; the first: {(bad or [''])[0]}"
        )
        good = [i for i, facts in enumerate(found) if not isinstance(facts, str)]
        self.items = [self.items[i] for i in good]
        self._facts = {new: self._facts[old] for new, old in enumerate(good)}

    @staticmethod
    def _need(count: int, why: str) -> None:
        if not count:
            raise InputError(f"expected at least one clip to train on, {why}")


class Batches:
    """Batches of a `VideoClips`, without end, each of one size; goes on exactly where a saved state was.

    Gives dicts: `frames` (B, 3, F, H, W) in [-1, 1] (or (B, F, H, W, 3) uint8), `caption` and `key` lists, `fps` and `native_fps` (B,).
    Every clip comes at least once an epoch: a last batch is filled up from the epoch's start. `rank` of `world` processes
    get different batches and equally many. `epoch` and `step` (batches given in it) are the position; broken clips
    that turn up go to `clips.broken`.
    """

    def __init__(
        self, clips: VideoClips, batch: int = 1, *, workers: int = 0, shuffle: bool = True, rank: int = 0, world: int = 1,
        pin: bool = False,
    ) -> None:  # fmt: skip
        if batch < 1 or workers < 0 or not 0 <= rank < world:
            raise SettingError(
                f"expected batch ≥ 1, workers ≥ 0, 0 ≤ rank < world, got {batch}, {workers}, {rank}, {world}"
            )
        self.clips, self.batch, self.workers, self.shuffle = clips, batch, workers, shuffle
        self.rank, self.world, self.pin = rank, world, pin
        self.epoch = self.step = 0

    def __len__(self) -> int:
        """batches of an epoch, for this process"""
        return len(self.plan(0))

    def plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        """This process's batches of an epoch as (epoch, clip's number)."""
        rng = np.random.default_rng([self.clips.seed, epoch])
        groups: dict[int, list[int]] = {}
        for number in range(len(self.clips)):
            groups.setdefault(self.clips.bucket(number), []).append(number)
        batches: list[list[int]] = []
        for _, group in sorted(groups.items()):
            order = rng.permutation(group) if self.shuffle else np.array(group)
            filled = np.resize(order, -(-len(order) // self.batch) * self.batch)
            batches += [[int(i) for i in chunk] for chunk in filled.reshape(-1, self.batch)]
        if self.shuffle:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        count = -(-len(batches) // self.world) * self.world
        even = [batches[i % len(batches)] for i in range(count)]
        return [[(epoch, number) for number in chunk] for chunk in even[self.rank :: self.world]]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        loader = DataLoader(
            self.clips, batch_sampler=_Order(self), num_workers=self.workers, collate_fn=collate, pin_memory=self.pin,
            worker_init_fn=_alone if self.workers else None, generator=torch.Generator(),
        )  # fmt: skip
        count = len(self)
        for batch in loader:
            self.step += 1
            if self.step == count:
                self.epoch, self.step = self.epoch + 1, 0
            self.clips.broken += [line for line in batch.pop("skipped") if line not in self.clips.broken]
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The position: what was given so far does not come again before the next epoch."""
        return {"epoch": self.epoch, "step": self.step, "seed": self.clips.seed, "clips": len(self.clips),
                "batch": self.batch, "world": self.world}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there, at the next `iter`. Raises `InputError` where seed, clips or batch are not the same."""
        mine = self.state_dict()
        for name in ("seed", "clips", "batch", "world"):
            if state.get(name) != mine[name]:
                raise InputError(
                    f"expected the data of the interrupted run ({name} {state.get(name)}), got {name} {mine[name]}"
                )
        self.epoch, self.step = state["epoch"], state["step"]


class _Order:
    """The batch sampler: from the position on, without end."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.epoch, self.step = batches, batches.epoch, batches.step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, step = self.epoch, self.step
        while True:
            yield from self.batches.plan(epoch)[step:]
            epoch, step = epoch + 1, 0


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stacked frames, rates as a tensor, the rest as lists."""
    frames = [torch.as_tensor(s["frames"]) for s in samples]
    return {
        "frames": torch.stack(frames), "caption": [s["caption"] for s in samples], "key": [s["key"] for s in samples],
        "fps": torch.tensor([s["fps"] for s in samples]), "native_fps": torch.tensor([s["native_fps"] for s in samples]),
        "start": torch.tensor([s["start"] for s in samples]), "facts": [s["facts"] for s in samples],
        "skipped": [line for s in samples for line in s["skipped"]],
    }  # fmt: skip


def normalised(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 as (3, F, H, W) float in [-1, 1]"""
    return torch.from_numpy(frames).permute(3, 0, 1, 2).float().div_(127.5).sub_(1)


def _told(item: Item) -> Facts | None:
    """What an annotated list knows already need not be looked up in the file."""
    facts = item.facts
    try:
        return Facts((int(facts["width"]), int(facts["height"])), float(facts["fps"]), float(facts["seconds"]))
    except (KeyError, TypeError, ValueError):
        return None


def _alone(worker: int) -> None:
    cv2.setNumThreads(0)
