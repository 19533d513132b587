"""A recipe small enough to be followed by hand: what the loop's tests train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from vivant.train.config import Loop


class Block(nn.Module):
    """A unit for recomputation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.tanh(self.one(x)))


class Toy:
    """Learn to denoise vectors; a frozen layer, a block, dropout."""

    name = "toy"
    units = ("Block",)
    kind = "toy"

    def __init__(self, dropout: float = 0.0, room: int = 100) -> None:
        """`room`: clips at a time that memory has room for."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net: nn.Module = nn.Sequential(nn.Linear(6, 6), Block(6), nn.Dropout(dropout), nn.Linear(6, 6))
        self.room, self.seen = room, list[int]()

    def trains(self, name: str) -> bool:
        return not name.startswith("0.")

    def encode(self, example: dict[str, Any], rng: Generator) -> dict[str, Tensor]:
        return {"x": example["frames"]}

    def loss(self, net: nn.Module, batch: dict[str, Tensor], rngs: Sequence[Generator]) -> dict[str, Tensor]:
        x = batch["x"]
        self.seen.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        noise = torch.stack([torch.randn(x.shape[1:], generator=rng) for rng in rngs])
        value = (net(x + 0.1 * noise) - x).square().mean(1)
        return {"loss": value, "far": value.sqrt()}

    def sheet(self, net: nn.Module, batch: dict[str, Tensor], rng: Generator) -> list[np.ndarray]:
        shade = int(net(batch["x"][:1]).abs().mean().clamp(0, 1) * 255)
        return [np.full((16, 16, 3), shade, np.uint8)] * 3

    def save(self, state: Mapping[str, Tensor], folder: Path) -> None:
        save_file({k: v.contiguous() for k, v in state.items()}, folder / "toy.safetensors")


class Vectors:
    """Nine clips of six numbers."""

    def __init__(self, count: int = 9, bad: int | None = None, seed: int = 3) -> None:
        self.count, self.bad, self.seed, self.broken = count, bad, seed, list[str]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Any]:
        epoch, number = index
        x = torch.from_numpy(np.random.default_rng([epoch, number]).normal(size=6)).float()
        return {"frames": x * float("nan") if number == self.bad else x, "key": f"clip-{number}"}

    def bucket(self, number: int) -> int:
        return 0


def loop(**changes: Any) -> Loop:
    """Eight steps on a CPU, a state every third."""
    settings = {"steps": 8, "batch": 4, "rate": 1e-2, "device": "cpu", "save_every": 3, "log_every": 1, "threads": 1}
    return Loop(**(settings | changes))  # type: ignore[arg-type]
