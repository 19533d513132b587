"""Read ConsistI2V from the released folder: text_encoder, tokenizer, unet, vae, a config.json in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import WeightsError
from ..folder import autoencoder, clip_text, network, read_json, tokenizer
from .net import ConsistI2VUNet, UNetConfig


@dataclass(frozen=True, eq=False)
class Parts:
    """The loaded folder, in eval mode on one device; `scheduler` is a saved schedule's configuration or {}."""

    unet: ConsistI2VUNet
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Mapping[str, Any]


def load(folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Parts:
    """Load the parts; raises `WeightsError` on the first thing that is missing, damaged or of another shape.

    The release has no scheduler folder; one that is there is read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise WeightsError(f"expected a folder of ConsistI2V weights at {root}, found none; download it first")
    saved = root / "scheduler" / "scheduler_config.json"
    return Parts(
        unet=network(root / "unet", lambda config: ConsistI2VUNet(UNetConfig.from_json(config)), dtype).to(device),
        vae=network(root / "vae", autoencoder, dtype).to(device),
        text_encoder=network(root / "text_encoder", clip_text, dtype).to(device),
        tokenizer=tokenizer(root / "tokenizer"),
        scheduler=read_json(saved) if saved.is_file() else {},
    )
