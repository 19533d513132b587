"""Read ConsistI2V from the released folder: text_encoder, tokenizer, unet, vae, a config.json in each."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from .. import folder as released
from .net import ConsistI2VUNet, UNetConfig

__all__ = ["Parts", "load"]

Parts: TypeAlias = released.Parts[ConsistI2VUNet]
"""The loaded folder."""


def load(folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Parts:
    """Load the parts; raises `WeightsError` on the first thing that is missing, damaged or of another shape.

    The release has no scheduler folder; one that is there is read.
    """
    return released.whole(
        folder, "ConsistI2V", lambda config: ConsistI2VUNet(UNetConfig.from_json(config)), device, dtype, scheduler=False
    )  # fmt: skip
