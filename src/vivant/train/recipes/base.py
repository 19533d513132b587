"""What the recipes share: sentences read once, weights chosen by pattern, folders others can load, the small base."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...errors import SettingError

REMEMBERED = 4096
"""sentences whose states are kept in memory"""


class Sentences:
    """A text encoder that reads each sentence once: its states (S, D) in float32 on the CPU."""

    def __init__(self, read: Callable[[list[str]], Tensor]) -> None:
        self.read, self.known = read, dict[str, Tensor]()

    def __call__(self, sentence: str) -> Tensor:
        if sentence not in self.known:
            if len(self.known) >= REMEMBERED:
                self.known.pop(next(iter(self.known)))
            with torch.no_grad():
                self.known[sentence] = self.read([sentence])[0].float().cpu()
        return self.known[sentence]


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a name holds a match of a regular expression. Raises `SettingError` for a broken one."""
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise SettingError(f"expected a regular expression in model.trained, got {pattern!r} ({error})") from None
    return lambda name: found.search(name) is not None


def link_tree(source: Path, target: Path, without: Iterable[str] = ()) -> None:
    """The files of a folder in another, as hard links where the disk allows it; `without`: first names left out."""
    left = set(without)
    for path in sorted(source.rglob("*")):
        inner = path.relative_to(source)
        if inner.parts[0] in left or not path.is_file():
            continue
        (target / inner).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), target / inner)
        except OSError:
            shutil.copyfile(path, target / inner)


def write_json(path: Path, record: Any) -> None:
    """A JSON file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1), "utf-8")


def write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Tensors as safetensors, each with memory of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in state.items()}, path)


def base_folder(name: str) -> Path:
    """A base model's folder: a path, or the place of a model of `vivant models`."""
    from ...priors.registry import REGISTRY

    path = Path(name).expanduser()
    return REGISTRY[name].place if not path.is_dir() and name in REGISTRY else path


def device_of(choice: str) -> torch.device:
    """The device that frozen networks go to: what accelerate takes for this process."""
    if choice == "cpu":
        return torch.device("cpu")
    from accelerate import PartialState

    return torch.device(PartialState().device)
