"""What is added to Stable Video Diffusion, in one safetensors file beside the official folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ...errors import WeightsError
from ..folder import differences, read_state
from .net import MotionUNet, is_ours, with_static_camera

NAME = "motion.safetensors"
"""the file's name in the model's folder"""
MAKE = "make it with `vivant train svd-flow --base FOLDER`"


def save(state: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors of `MotionUNet.state_dict()`, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, str(part), metadata)
    os.replace(part, path)


def read(path: Path) -> dict[str, Tensor]:
    """The file's tensors. Raises `WeightsError` where it is missing, damaged or of another model."""
    if not path.is_file():
        raise WeightsError(f"expected the motion layers at {path}, found none; {MAKE}")
    state = read_state(path)
    if "encoder.stem.weight" not in state:
        raise WeightsError(f"expected the motion layers in {path}, found no encoder.stem.weight; {MAKE}")
    return state


def fitted(unet: Any, state: dict[str, Tensor], kind: type[MotionUNet] = MotionUNet) -> MotionUNet:
    """A network around `unet`, of the widths and with the LoRA that the tensors have; still without their values."""
    net = kind(unet, width=state["encoder.stem.weight"].shape[0])
    ranks = {value.shape[0] for name, value in state.items() if ".lora_A." in name}
    return with_static_camera(net, ranks.pop()) if ranks else net


def fill(net: MotionUNet, state: dict[str, Tensor], path: Path) -> None:
    """Give a network the file's tensors: all that SVD has not, and of SVD's own those that were trained further."""
    own = net.state_dict()
    wanted = {name: value for name, value in own.items() if is_ours(name) or name in state}
    wrong = differences(state, wanted)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise WeightsError(f"{path} does not fit this Stable Video Diffusion: {wrong[0]}{more}; {MAKE}")
    net.load_state_dict({name: value.to(own[name].dtype) for name, value in state.items()}, strict=False)


def names_with_lora(state: dict[str, Tensor], net: MotionUNet) -> dict[str, Tensor]:
    """A file of before the LoRA, its keys as they are called under one: peft moves what it wraps to `base_layer`."""
    own = net.state_dict()
    out = {}
    for name, value in state.items():
        stem, _, leaf = name.rpartition(".")
        under = f"{stem}.base_layer.{leaf}"
        out[under if name not in own and under in own else name] = value
    return out
