"""Read Cinemo from the released folder: scheduler, text_encoder, tokenizer, unet, vae_temporal_decoder and/or vae."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import WeightsError
from ..folder import autoencoder, clip_text, network, read_json, tokenizer
from .net import CinemoUNet, UNetConfig, optional


@dataclass(frozen=True, eq=False)
class Parts:
    """The loaded folder, in eval mode on one device; `scheduler` is the saved noise schedule's configuration.

    `over_time`: whether the VAE decodes several frames of a clip with an eye on each other.
    """

    unet: CinemoUNet
    vae: Any
    over_time: bool
    text_encoder: Any
    tokenizer: Any
    scheduler: Mapping[str, Any]


def temporal_autoencoder(config: dict[str, Any]) -> nn.Module:
    """The image VAE with the temporal decoder of Stable Video Diffusion."""
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder.from_config(config)


def load(folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Parts:
    """Load the parts, the temporal decoder where there is one, else the image VAE.

    Raises `WeightsError` on the first thing that is missing, damaged or of another shape.
    """
    root = Path(folder)
    if not root.is_dir():
        raise WeightsError(f"expected a folder of Cinemo weights at {root}, found none; download it first")
    over_time = (root / "vae_temporal_decoder").is_dir()
    vae = (
        network(root / "vae_temporal_decoder", temporal_autoencoder, dtype)
        if over_time
        else network(root / "vae", autoencoder, dtype)
    )
    return Parts(
        unet=network(root / "unet", lambda config: CinemoUNet(UNetConfig.from_json(config)), dtype, optional).to(
            device
        ),
        vae=vae.to(device),
        over_time=over_time,
        text_encoder=network(root / "text_encoder", clip_text, dtype).to(device),
        tokenizer=tokenizer(root / "tokenizer"),
        scheduler=read_json(root / "scheduler" / "scheduler_config.json"),
    )
