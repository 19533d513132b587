"""Memory that is used again: a system takes back what is freed, and gives it anew page by page, at more than the work costs."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


class Scratch(threading.local):
    """One a thread, since each is read after it is written."""

    def __init__(self) -> None:
        self.rooms: dict[tuple[str, torch.dtype], Tensor] = {}


_scratch = Scratch()


def room(name: str, *shape: int, like: Tensor | None = None) -> Tensor:
    """Numbers to write to, the same memory each time it is asked for by this name.

    In float32, or the type of `like`. What is in it lasts until it is asked for again by the same thread.
    """
    dtype = torch.float32 if like is None else like.dtype
    size, kept = math.prod(shape), _scratch.rooms.get((name, dtype))
    if kept is None or len(kept) < size:
        with torch.inference_mode(False):  # it may be written to in another mode the next time
            kept = _scratch.rooms[name, dtype] = torch.empty(size, dtype=dtype)
    return kept[:size].view(shape)
