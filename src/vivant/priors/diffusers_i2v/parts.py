"""What the families hand to their networks, and small things they do alike."""

from __future__ import annotations

from typing import TypeAlias

import torch
from PIL import Image
from torch import Generator, Tensor

from ...process import Video
from ...shot import Shot

Parts: TypeAlias = dict[str, Tensor]
"""A clip's conditions by name, each with a batch axis in front."""

PINNED = "pinned"
"""The condition (B, C, 1, h, w) that some families put in the first frame's place, clean, at every level."""


def fresh(rng: Generator) -> Generator:
    """A generator at the beginning of the passed one's seed."""
    return Generator(device=rng.device).manual_seed(rng.initial_seed())


def picture(shot: Shot) -> Image.Image:
    """The painting as pipelines take it."""
    return Image.fromarray(shot.painting)


def pinned(z: Video, parts: Parts) -> Video:
    """The clip with its first frame replaced by the pinned one, where the family has one."""
    if PINNED not in parts:
        return z
    return torch.cat([parts[PINNED].to(z), z[:, :, 1:]], dim=2)
