"""LoRA (Hu et al. 2021) in a prior: W + (α/r)·B·A, merged once, so that it costs nothing when animating. Needs no peft.

The file is diffusers' `pytorch_lora_weights.safetensors`: keys `unet.MODULE.lora_A.weight` (r, in) and `.lora_B.weight`
(out, r), rank and α in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import SettingError, WeightsError

NAME = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"
NETWORKS = ("unet", "transformer")
OLD = (("lora.down", "lora_A"), ("lora.up", "lora_B"), ("lora_down", "lora_A"), ("lora_up", "lora_B"))
"""how older files spell the two factors"""


@dataclass(frozen=True)
class Part:
    """One module's share: `down` (r, in, …), `up` (out, r, …), and its factor α/r."""

    down: Tensor
    up: Tensor
    factor: float

    def change(self) -> Tensor:
        """(α/r)·B·A in float32, of the module's weight's shape; convolutions' 1×1 `up` included."""
        down, up = self.down.float(), self.up.float()
        if down.ndim == 2:
            return self.factor * (up @ down)
        return self.factor * torch.einsum("or...,ri...->oi...", up.flatten(1), down.flatten(1)).reshape(
            up.shape[0], *down.shape[1:]
        )


@dataclass(frozen=True)
class Chosen:
    """A LoRA to animate with: its file, how much of it, and the file's sha256."""

    path: Path
    scale: float
    sha256: str

    def written(self) -> dict[str, Any]:
        """As a recipe keeps it."""
        return {"path": str(self.path), "sha256": self.sha256, "scale": self.scale}


def chosen(given: Any) -> Chosen:
    """A LoRA as it is asked for: a file or a folder that holds one, "PATH:SCALE" for less or more of it, or (path, scale).

    Raises `SettingError` for a file that is not there and for a scale that is no number, `WeightsError` for another file.
    """
    if isinstance(given, Chosen):
        return given
    if isinstance(given, (tuple, list)) and len(given) == 2:
        path, factor = Path(given[0]).expanduser(), given[1]
    else:
        path, factor = _split(given)
    try:
        scale = float(factor)
    except (TypeError, ValueError):
        scale = math.nan
    if not math.isfinite(scale):
        raise SettingError(f"expected a number as a LoRA's scale (PATH:0.8), got {str(factor)[:40]!r} for {path}")
    place = path / NAME if path.is_dir() else path
    if not place.is_file():
        raise SettingError(f"expected a LoRA at {place}, found no such file")
    read(place)
    return Chosen(place.resolve(), scale, hashlib.sha256(place.read_bytes()).hexdigest())


def again(written: Iterable[Mapping[str, Any]]) -> tuple[Chosen, ...]:
    """The LoRAs that a recipe names. Raises `SettingError` where one is gone or is another file by now."""
    out = []
    for one in written:
        found = chosen((one["path"], one["scale"]))
        if found.sha256 != one["sha256"]:
            raise SettingError(
                f"expected the LoRA the result was made with at {one['path']}, the file has changed since"
            )
        out.append(found)
    return tuple(out)


def _split(given: Any) -> tuple[Path, Any]:
    """(path, scale) of "PATH" or "PATH:SCALE"; a file's own name may hold a colon."""
    path = Path(given).expanduser()
    head, colon, tail = str(given).rpartition(":")
    if path.exists() or not colon or not head or "/" in tail:
        return path, 1.0
    return Path(head).expanduser(), tail


def read(path: Path | str) -> dict[str, Part]:
    """The modules of a LoRA file (or of a folder that holds one) and their shares. Raises `WeightsError`."""
    place = Path(path)
    place = place / NAME if place.is_dir() else place
    try:
        with safe_open(place, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
            told = json.loads((file.metadata() or {}).get(METADATA, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise WeightsError(f"expected a LoRA (safetensors) at {place}, got {line}") from None
    told = {k.rpartition(".")[2]: v for k, v in told.items()} if isinstance(told, dict) else {}
    halves: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        for old, new in OLD:
            key = key.replace(f".{old}.", f".{new}.")
        found = re.fullmatch(r"(?:(\w+)\.)??(.+)\.(lora_A|lora_B|alpha)(?:\.weight)?", key)
        if found is None or key.startswith("text_encoder"):
            raise WeightsError(f"expected LoRA weights of a video network in {place}, got {key}")
        name = next((key.removeprefix(f"{n}.") for n in NETWORKS if key.startswith(f"{n}.")), key)
        halves.setdefault(re.sub(r"\.(lora_[AB]|alpha)(\.weight)?$", "", name), {})[found[3]] = value
    out = {}
    for name, pair in halves.items():
        if "lora_A" not in pair or "lora_B" not in pair or pair["lora_A"].shape[0] != pair["lora_B"].shape[1]:
            raise WeightsError(f"expected both halves of a LoRA of one rank for {name} in {place}; download it again")
        rank = pair["lora_A"].shape[0]
        alpha = float(pair["alpha"]) if "alpha" in pair else _alpha(told, name, rank)
        out[name] = Part(pair["lora_A"], pair["lora_B"], alpha / (rank**0.5 if told.get("use_rslora") else rank))
    if not out:
        raise WeightsError(f"expected LoRA weights in {place}, found none")
    return out


def _alpha(told: Mapping[str, Any], name: str, rank: int) -> float:
    """α of a module: its own where peft's pattern names it, else the file's, else the rank."""
    for key, value in (told.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(?:.*\.)?{key}", name):
            return float(value)
    return float(told.get("lora_alpha", rank))


def load_into(prior: Any, path: Path | str, scale: float = 1.0) -> int:
    """Merge a LoRA into a prior's network: W ← W + scale·(α/r)·B·A. Returns how many layers changed.

    `prior`: any whose `parts.unet` or pipeline's `unet` or `transformer` has the file's layers; it is changed in place,
    so load a fresh one. Merging with -scale takes it out again, up to rounding. Raises `WeightsError`, with nothing
    changed, for a LoRA of another network.
    """
    net = network_of(prior)
    parts = read(path)
    weights = {name: getattr(module, "weight", None) for name, module in net.named_modules()}
    changes: dict[str, Tensor] = {}
    for name, part in parts.items():
        weight = weights.get(name)
        change = part.change()
        if not isinstance(weight, Tensor) or weight.shape != change.shape:
            found = "no such layer" if not isinstance(weight, Tensor) else f"{tuple(weight.shape)}"
            raise WeightsError(
                f"expected a LoRA of this model at {path}, its {name} is {tuple(change.shape)}, the model has {found}"
            )
        changes[name] = change
    with torch.no_grad():
        for name, change in changes.items():
            weight = weights[name]
            assert weight is not None
            weight.copy_((weight.float() + scale * change.to(weight.device)).to(weight.dtype))
    return len(changes)


def network_of(prior: Any) -> nn.Module:
    """The network of a prior that a LoRA belongs to. Raises `SettingError` where a prior has none of the kind."""
    finders: tuple[Callable[[], Any], ...] = (
        lambda: prior.parts.unet, lambda: prior.pipe.unet, lambda: prior.pipe.transformer, lambda: prior.net,
    )  # fmt: skip
    for find in finders:
        try:
            net = find()
        except AttributeError:
            continue
        if isinstance(net, nn.Module):
            return net
    raise SettingError(f"expected a base model that takes LoRA, {prior.card.name} has none; choose another --model")
