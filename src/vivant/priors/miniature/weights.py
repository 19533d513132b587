"""Where the embedded prior's weights live and how they are read: safetensors, float16, config and scale inside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...errors import WeightsError

FILE = Path(__file__).with_name("miniature.safetensors")
SCALE = (0.03, 0.03, 0.2)
"""what one latent unit is: fractions of the width, of the height, relative light"""


def save_networks(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write both networks whole or not at all, as float16."""
    temporary = path.with_suffix(".part")
    save_file({k: v.detach().half().contiguous() for k, v in tensors.items()}, str(temporary), metadata)
    os.replace(temporary, path)


def load_networks(reader: nn.Module, motion: nn.Module, path: Path = FILE) -> None:
    """Load strictly into both networks. Raises `WeightsError` for a missing, broken or mismatched file."""
    if not path.is_file():
        raise WeightsError(
            f"expected the embedded model's weights at {path.name}, found none; run `vivant train miniature`"
        )
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    except SafetensorError as error:
        raise WeightsError(f"expected a safetensors file at {path}, could not read it: {error}") from error
    for prefix, net in (("reader.", reader), ("motion.", motion)):
        part = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        want = net.state_dict()
        for name in want:
            if name not in part:
                raise WeightsError(
                    f"expected {prefix}{name} in {path.name}, it is missing; is it another model's file?"
                )
            if part[name].shape != want[name].shape:
                raise WeightsError(
                    f"expected {prefix}{name} of shape {tuple(want[name].shape)}, got {tuple(part[name].shape)} in {path.name}"
                )
        net.load_state_dict({k: v.to(torch.float32) for k, v in part.items()})
