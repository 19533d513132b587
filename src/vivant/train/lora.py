"""LoRA (Hu et al. 2021): W + (α/r)·B·A. Trained through peft, saved as diffusers saves it, merged into any prior.

The file is diffusers' `pytorch_lora_weights.safetensors`: keys `unet.MODULE.lora_A.weight` (r, in) and `.lora_B.weight`
(out, r), rank and α in its metadata. Merging needs no peft, and costs nothing when animating.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import DependencyError, SettingError, WeightsError

NAME = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"
NETWORKS = ("unet", "transformer")
A, B = ".lora_A.default.weight", ".lora_B.default.weight"
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


def inject(net: nn.Module, pattern: str, rank: int = 16, alpha: int | None = None) -> list[str]:
    """Give every linear layer or convolution whose name matches `pattern` (a whole regular expression) a LoRA through peft.

    B starts at zero: nothing changes until it learns. A is drawn from the global generator, as peft does. Returns the
    layers' names. Raises `SettingError` where none matches, `DependencyError` without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise DependencyError("expected the package peft for LoRA; pip install 'vivant[train]'") from None
    if rank < 1:
        raise SettingError(f"expected a LoRA rank of at least 1, got {rank}")
    names = [
        name for name, module in net.named_modules()
        if re.fullmatch(pattern, name) and isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d))
    ]  # fmt: skip
    if not names:
        raise SettingError(f"expected layers for LoRA, none matches {pattern!r}")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=names, lora_dropout=0.0), net)
    return names


def is_lora(name: str) -> bool:
    """Whether a parameter is a LoRA's."""
    return ".lora_A." in name or ".lora_B." in name


def save(state: Mapping[str, Tensor], folder: Path, alpha: float, network: str = "unet") -> Path:
    """The LoRA tensors of a state dict (peft's names), as diffusers writes them. `alpha`: the factor's α."""
    kept = {
        f"{network}.{name.replace('.default.', '.')}": value.detach().cpu().contiguous()
        for name, value in state.items() if is_lora(name)
    }  # fmt: skip
    if not kept:
        raise WeightsError("expected LoRA weights to save, found none")
    rank = next(v.shape[0] for k, v in kept.items() if k.endswith(".lora_A.weight"))
    targets = sorted({k.removeprefix(f"{network}.").rpartition(".lora_")[0] for k in kept})
    told = {"r": rank, "lora_alpha": alpha, "target_modules": targets, "lora_dropout": 0.0, "bias": "none"}
    metadata = {"format": "pt", METADATA: json.dumps({f"{network}.{k}": v for k, v in told.items()}, sort_keys=True)}
    save_file(kept, folder / NAME, metadata)
    return folder / NAME


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
    alphas = {k.rpartition(".")[2]: v for k, v in told.items() if k.endswith(".lora_alpha") or k == "lora_alpha"}
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
        alpha = float(pair["alpha"]) if "alpha" in pair else float(alphas.get("lora_alpha", rank))
        out[name] = Part(pair["lora_A"], pair["lora_B"], alpha / rank)
    if not out:
        raise WeightsError(f"expected LoRA weights in {place}, found none")
    return out


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
    raise SettingError(f"expected a base model that takes LoRA, {prior.card.name} has no network for it")
