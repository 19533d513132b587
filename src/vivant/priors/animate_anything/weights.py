"""Read AnimateAnything from the released folder: scheduler, text_encoder, tokenizer, unet, vae, a config.json in each."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from .. import folder as released
from .net import AnimateAnythingUNet, UNetConfig

__all__ = ["Parts", "load"]

Parts: TypeAlias = released.Parts[AnimateAnythingUNet]
"""The loaded folder."""


def load(folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Parts:
    """Load the parts; raises `WeightsError` on the first thing that is missing, damaged or of another shape."""
    return released.whole(
        folder, "AnimateAnything", lambda config: AnimateAnythingUNet(UNetConfig.from_json(config)), device, dtype
    )  # fmt: skip
