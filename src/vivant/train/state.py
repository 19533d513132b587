"""What a training leaves on disk: states to go on from, each whole or not there, and a moving average of the weights."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import OutputError, SettingError, WeightsError

RUN = "run.json"
AVERAGE = "average.safetensors"


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of `target` when the block ends well, and is gone when it does not."""
    part = target.with_name(f".{target.name}.part")
    old = target.with_name(f".{target.name}.old")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        for path in part.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())  # a name that survives a power cut must not point at nothing
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.replace(target, old)
        os.replace(part, target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"expected to write {target}: {error.strerror or error}; free space or choose --out"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def states(out: Path) -> list[Path]:
    """The whole states of a run, oldest first."""
    found = [p for p in (out / "states").glob("step-*") if re.fullmatch(r"step-\d+", p.name) and (p / RUN).is_file()]
    return sorted(found, key=step_of)


def prune(out: Path, keep: int) -> None:
    """Leave the newest `keep` states, and none that are half-written."""
    for path in states(out)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
    for path in (out / "states").glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def fingerprint(trained: Mapping[str, Tensor]) -> str:
    """What names and shapes are trained, in 12 letters."""
    rows = sorted((name, tuple(value.shape)) for name, value in trained.items())
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:12]


def step_of(state: Path) -> int:
    """The step that a state's folder is named by."""
    return int(state.name.removeprefix("step-"))


def belongs(out: Path, recipe: str, resume: bool) -> list[Path]:
    """The states of a folder that a training may use. Raises `SettingError` for those of another run, or of another recipe."""
    found = states(out)
    if found and not resume:
        raise SettingError(f"expected a new folder, {out} holds a training; add --resume or choose another --out")
    if found:
        read_run(found[-1], recipe)
    return found


def read_run(folder: Path, recipe: str, trained: str | None = None) -> dict[str, Any]:
    """`run.json` of a state; raises `WeightsError` where it is another recipe's or trains other weights."""
    try:
        record = json.loads((folder / RUN).read_text("utf-8"))
        found, weights = str(record["recipe"]), str(record["trained"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"expected a training's state at {folder}, got {type(error).__name__}; begin a new run"
        ) from None
    if found != recipe:
        raise WeightsError(f"expected a state of {recipe} at {folder}, got one of {found}; choose another --out")
    if trained is not None and weights != trained:
        raise WeightsError(
            f"expected a state of the same trained weights at {folder}, got others (another stage, base or pattern); "
            "choose another --out"
        )
    return dict(record)


def differing(before: Any, now: Any, where: str = "") -> list[str]:
    """One line for every setting that differs between two plain records."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(name for name in now if name not in before)]
        return [line for n in names for line in differing(before.get(n), now.get(n), f"{where}.{n}".lstrip("."))]
    return [] if before == now else [f"{where}: {before} before, {now} now"]


class Average:
    """A moving average of trained weights (EMA): average ← d·average + (1-d)·weights, d rising to `decay`.

    d = min(decay, (1 + n)/(10 + n)) at update n, so that the first weights, which know nothing, are soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.live = {name: p for name, p in net.named_parameters() if p.requires_grad}
        self.kept = {name: p.detach().clone().float() for name, p in self.live.items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """After each step of the optimiser."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in self.kept.items():
            value.lerp_(self.live[name].detach().float(), share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network with its averaged weights, for as long as the block lasts. Without an average: as it is."""
        with torch.no_grad():
            before = {name: self.live[name].detach().clone() for name in self.kept}
            for name, value in self.kept.items():
                self.live[name].copy_(value)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    self.live[name].copy_(value)

    def save(self, folder: Path) -> None:
        """Into a state's folder."""
        from safetensors.torch import save_file

        if self.kept:
            save_file(
                {k: v.contiguous() for k, v in self.kept.items()}, folder / AVERAGE, {"updates": str(self.updates)}
            )

    def load(self, folder: Path) -> None:
        """From a state's folder. Raises `WeightsError` where it is not there or not of these weights."""
        from safetensors import SafetensorError, safe_open

        if not self.kept:
            return
        try:
            with safe_open(folder / AVERAGE, "pt") as file:
                for name, value in self.kept.items():
                    value.copy_(file.get_tensor(name))
                self.updates = int((file.metadata() or {})["updates"])
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            line = (str(error) or type(error).__name__).splitlines()[0][:120]
            raise WeightsError(f"expected {AVERAGE} of this run in {folder}, got {line}; set loop.average=0") from None
