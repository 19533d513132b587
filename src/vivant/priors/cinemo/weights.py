"""Read Cinemo from the released folder: scheduler, text_encoder, tokenizer, unet, vae_temporal_decoder and/or vae, a config.json in each."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from .. import folder as released
from .net import CinemoUNet, UNetConfig, optional

__all__ = ["Parts", "load"]

Parts: TypeAlias = released.Parts[CinemoUNet]
"""The loaded folder."""


def load(folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Parts:
    """Load the parts; raises `WeightsError` on the first thing that is missing, damaged or of another shape.

    The temporal decoder where there is one, else the image VAE.
    """
    return released.whole(
        folder, "Cinemo", lambda config: CinemoUNet(UNetConfig.from_json(config)), device, dtype, optional
    )  # fmt: skip
