"""LoRA (Hu et al. 2021) while it learns: put in through peft, saved as diffusers saves it. `priors.lora` merges the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import DependencyError, SettingError, WeightsError
from ..priors.lora import METADATA, NAME


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
