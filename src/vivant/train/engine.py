"""What the loop runs on: accelerate, the optimiser, recomputed activations, memory that ran out; and what a recipe is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import DependencyError
from .config import Loop
from .feed import Cached, Clips, Example, generator

Encoded = dict[str, Tensor]


class Recipe(Protocol):
    """What is trained, on what, for what: all the loop knows of a paper."""

    name: str
    net: nn.Module
    """everything that learns, and what it is part of; called only by `loss` and `sheet`"""
    units: tuple[str, ...]
    """class names of the blocks that gradient checkpointing computes again"""
    kind: str
    """what decides the encoded clips: another value, other files in the cache"""

    def trains(self, name: str) -> bool:
        """Whether a parameter of `net` learns."""
        ...

    def encode(self, example: Example, rng: Generator) -> Encoded:
        """One clip through the frozen networks; the tensors have no batch axis."""
        ...

    def loss(self, net: nn.Module, batch: Encoded, rngs: Sequence[Generator]) -> dict[str, Tensor]:
        """(B,) numbers by name, of each clip; "loss" is minimised. Draws from each clip's own generator."""
        ...

    def sheet(self, net: nn.Module, batch: Encoded, rng: Generator) -> list[np.ndarray]:
        """Frames (H, W, 3) uint8 of one clip as the network makes it now, of the first of `batch`."""
        ...

    def save(self, state: Mapping[str, Tensor], folder: Path) -> None:
        """Write what was learnt, in the format others read."""
        ...


@dataclass
class Report:
    """What a training did."""

    steps: int
    seconds: float
    clips_per_second: float
    waiting: float
    """share of the time in which the network waited for clips"""
    micro: int
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    notes: list[str] = field(default_factory=list)


def processes(settings: Loop) -> Any:
    """The processes of a training (accelerate's `PartialState`), met here where `accelerate launch` started several.

    Raises `DependencyError` without accelerate.
    """
    try:
        from accelerate import PartialState
    except ImportError:
        raise DependencyError(
            "expected the package accelerate, which training runs on; pip install 'vivant[train]'"
        ) from None
    return PartialState(cpu=settings.device == "cpu")


def accelerator_of(settings: Loop) -> Any:
    """accelerate's `Accelerator` for a device and precision. Raises `DependencyError` without the package."""
    processes(settings)
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(
            reset_partial_state=True
        )  # another training of this process may have had another precision
    return Accelerator(
        cpu=settings.device == "cpu", mixed_precision=settings.precision, step_scheduler_with_optimizer=False
    )


def optimiser_of(weights: list[nn.Parameter], settings: Loop) -> torch.optim.Optimizer:
    """AdamW, or bitsandbytes' with eight-bit moments. Raises `DependencyError` where that cannot be used."""
    kind: Any
    if settings.optimiser == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except Exception:  # without a GPU its import fails in several ways
            raise DependencyError(
                "expected the package bitsandbytes and a GPU for loop.optimiser=adamw8bit; pip install 'vivant[train8bit]', "
                "or set loop.optimiser=adamw"
            ) from None
        kind = AdamW8bit
    else:
        kind = torch.optim.AdamW
    return kind(weights, lr=settings.rate, betas=settings.betas, weight_decay=settings.weight_decay)


def only_trained(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
    """Leave frozen weights out of states: the base has them."""
    for model, state in zip(models, weights, strict=False):
        learns = {name for name, p in model.named_parameters() if p.requires_grad}
        for name in [name for name in state if name not in learns]:
            del state[name]


@contextmanager
def seeded(*address: int) -> Iterator[None]:
    """Torch's global generators at an address for as long as the block lasts: dropout knows no other."""
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(generator(*address).initial_seed())
        yield


def recompute(net: nn.Module, units: Sequence[str]) -> int:
    """Gradient checkpointing (Chen et al. 2016): blocks of these classes keep their inputs alone while training.

    Returns how many. Names in the state dict stay; what the blocks compute stays.
    """
    count = 0
    for module in net.modules():
        if type(module).__name__ in units:
            module.forward = partial(_again, module, module.forward)
            count += 1
    return count


def _again(module: nn.Module, forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
    if module.training and torch.is_grad_enabled():
        return checkpoint(forward, *args, use_reentrant=False, **named)
    return forward(*args, **named)


def ran_out(error: BaseException) -> bool:
    """Whether memory was short, on a GPU or not."""
    said = str(error).lower()
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "out of memory" in said
        or "can't allocate memory" in said
    )


def cached(
    recipe: Recipe, clips: Clips, folder: Path | None, variants: int = 1, say: Callable[[str], None] = lambda line: None,
    of: str = "",
) -> Clips:  # fmt: skip
    """The clips, or their encoded form in a folder, made now where it is not there yet. `of`: what decides the clips."""
    if folder is None:
        return clips
    from accelerate import PartialState

    state = PartialState()
    store = Cached(clips, folder, f"{recipe.kind} {of}", recipe.encode, variants)
    made = store.make(state.process_index, state.num_processes, lambda done, of: say(f"encoded {done}/{of}"))
    state.wait_for_everyone()
    say(f"{made} clips encoded, {len(store) * variants - made} were there")
    return store
