"""A recorded run of an official network, and the comparison of ours with it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from torch import Tensor

UNET, VSDS, EXACT = 1e-4, 2e-4, 1e-6


class Record(NamedTuple):
    """One recorded run."""

    path: Path
    metadata: dict[str, str]
    model: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Outcome(NamedTuple):
    """One compared output."""

    output: str
    rel: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """False for NaN too."""
        return self.rel <= self.tolerance


def read(path: Path | str) -> Record:
    """Read a record; its weights are stored as float16 but were run as float32."""
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = dict(file.metadata() or {})
    rooms: dict[str, dict[str, Tensor]] = {"model": {}, "input": {}, "output": {}}
    for name, tensor in tensors.items():
        room, _, rest = name.partition(".")
        if room in rooms:
            rooms[room][rest] = tensor
    model = {name: t.float() if t.is_floating_point() else t for name, t in rooms["model"].items()}
    return Record(Path(path), metadata, model, rooms["input"], rooms["output"])


def relative(ours: Tensor, reference: Tensor) -> float:
    """Largest difference over the reference's largest value; infinite when the shapes differ."""
    if ours.shape != reference.shape:
        return float("inf")
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())
