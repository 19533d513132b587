"""Read AnimateAnything from the released folder: scheduler, text_encoder, tokenizer, unet, vae, a config.json in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import WeightsError
from ..folder import autoencoder, clip_text, network, read_json, tokenizer
from .net import AnimateAnythingUNet, UNetConfig


@dataclass(frozen=True, eq=False)
class Parts:
    """The loaded folder, in eval mode on one device; `scheduler` is the saved noise schedule's configuration."""

    unet: AnimateAnythingUNet
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Mapping[str, Any]


def load(folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Parts:
    """Load the five parts; raises `WeightsError` on the first thing that is missing, damaged or of another shape."""
    root = Path(folder)
    if not root.is_dir():
        raise WeightsError(f"expected a folder of AnimateAnything weights at {root}, found none; download it first")
    return Parts(
        unet=network(root / "unet", lambda config: AnimateAnythingUNet(UNetConfig.from_json(config)), dtype).to(device),
        vae=network(root / "vae", autoencoder, dtype).to(device),
        text_encoder=network(root / "text_encoder", clip_text, dtype).to(device),
        tokenizer=tokenizer(root / "tokenizer"),
        scheduler=read_json(root / "scheduler" / "scheduler_config.json"),
    )
