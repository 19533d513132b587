"""Weights of feature networks: found, checked before anything is read from them, and read without running code."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import WeightsError
from ...priors.entry import models_folder


def place(name: str) -> Path:
    """Where an extractor's files lie: `extractors/NAME` under $VIVANT_MODELS, or under ~/.cache/vivant."""
    return models_folder() / "extractors" / name


def existing(path: Path, name: str) -> Path:
    """The file itself, or the line that says what to pull. Raises `WeightsError`."""
    if not path.is_file():
        raise WeightsError(
            f"expected the weights of {name} at {path}, found none; run `vivant extractors --pull {name}`, or set "
            "VIVANT_MODELS to where they are"
        )
    return path


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()  # Python 3.10 has no file_digest
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def script(path: Path, name: str, expected: str, device: str) -> Any:
    """A TorchScript archive, which is code: run only when its bytes are the published ones. Raises `WeightsError`."""
    data = existing(path, name).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise WeightsError(
            f"expected {path} with sha256 {expected[:12]}…, got {found[:12]}…; it holds code and was not run; remove it and pull again"
        )
    try:
        # From the bytes that were hashed, not from the file: it could change in between.
        return torch.jit.load(io.BytesIO(data), map_location=device).eval()
    except RuntimeError as error:
        raise WeightsError(f"expected a TorchScript archive at {path}: {str(error).splitlines()[0][:120]}") from None


def tensors(path: Path, name: str, expected: str | None = None) -> dict[str, Any]:
    """What a .safetensors or a pickle of plain tensors holds; a pickle that would run code is refused, never run.

    Raises `WeightsError`, also where the sha256 is not the expected one.
    """
    existing(path, name)
    if expected is not None and (found := sha256(path)) != expected:
        raise WeightsError(f"expected {path} with sha256 {expected[:12]}…, got {found[:12]}…; remove it and pull again")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(f"expected plain tensors in {path}, it would run code; refused") from None
    except Exception as error:  # safetensors and torch raise what they like for a damaged file
        raise WeightsError(
            f"expected whole weights at {path}: {str(error).splitlines()[0][:120]}; pull again"
        ) from None


def model_file(folder: Path, name: str) -> Path:
    """The weights in a folder of transformers' layout, safetensors first. Raises `WeightsError`."""
    found = next((p for p in (folder / "model.safetensors", folder / "pytorch_model.bin") if p.is_file()), None)
    return found or existing(folder / "model.safetensors", name)


def fill(network: nn.Module, state: dict[str, Tensor], name: str, spare: tuple[str, ...] = ()) -> nn.Module:
    """Load every tensor of a network, those beginning with `spare` may be left over. Raises `WeightsError`."""
    keys = network.load_state_dict(state, strict=False)
    complain(name, keys.missing_keys, [k for k in keys.unexpected_keys if not spare or not k.startswith(spare)])
    return network.eval().requires_grad_(False)


def complain(name: str, missing: list[str], unknown: list[str]) -> None:
    """Raise `WeightsError` for tensors that are missing or left over; old files hold position ids, which are no weights."""
    missing, unknown = ([k for k in keys if not k.endswith("position_ids")] for keys in (missing, unknown))
    if missing or unknown:
        raise WeightsError(
            f"expected the weights of {name}, {len(missing)} tensors are missing and {len(unknown)} unknown "
            f"(such as {(missing + unknown)[0]}); pull again"
        )
