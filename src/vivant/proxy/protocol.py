"""What a proxy maker offers: one call, from painting and prompt to an image of the same scene."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from torch import Generator


class ProxyMaker(Protocol):
    """An image model that moves a painting towards what video models were trained on ("Every Painting Awakened", §3.2)."""

    def __call__(self, painting: UInt8[np.ndarray, "H W 3"], prompt: str, rng: Generator) -> UInt8[np.ndarray, "H W 3"]:
        """The proxy at the painting's size; `rng` decides what is random."""
        ...
