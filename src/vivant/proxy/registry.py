"""The proxy makers by name: what they are, and how each is loaded when it is asked for. Loads no torch by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from ..errors import SettingError, WeightsError
from ..priors.registry import models_folder

if TYPE_CHECKING:
    from .protocol import ProxyMaker


@dataclass(frozen=True)
class Entry:
    """One maker. `hub`: where its folder comes from; it lies under `proxy/NAME` in the models' folder."""

    name: str
    does: str
    hub: str
    licence: str
    load: Callable[[Path, str], ProxyMaker]

    @property
    def folder(self) -> Path:
        """Where its weights are looked for."""
        return models_folder() / "proxy" / self.name

    @property
    def present(self) -> bool:
        """Whether it can be used here."""
        return self.name == "embedded" or (self.folder / "model_index.json").is_file()


def _embedded(folder: Path, device: str) -> ProxyMaker:
    from .embedded import embedded

    return lambda painting, prompt, rng: embedded(painting, prompt)


def _refiner(folder: Path, device: str) -> ProxyMaker:
    from .refiner import Refiner

    return Refiner.from_folder(folder, device, _dtype(device))


def _masactrl(folder: Path, device: str) -> ProxyMaker:
    from .masactrl import MasaCtrl

    return MasaCtrl.from_folder(folder, device, _dtype(device))


def _invsr(folder: Path, device: str) -> ProxyMaker:
    from .invsr import InvSR

    return InvSR.from_folder(folder, device, _dtype(device))


def _edit(folder: Path, device: str) -> ProxyMaker:
    from .edit import Editor

    return Editor.from_folder(folder, device, _dtype(device))


PROXIES: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry("embedded", "a cleaned, clarified rendering; offline", "in the package", "Apache-2.0", _embedded),
        Entry(
            "refiner", "SDXL refiner, image to image by the prompt", "stabilityai/stable-diffusion-xl-refiner-1.0",
            "CreativeML Open RAIL++-M", _refiner,
        ),
        Entry(
            "masactrl", "redraws the painting by the prompt from its own keys and values",
            "a Stable Diffusion 1.4/1.5 or SDXL folder", "CreativeML Open RAIL-M", _masactrl,
        ),
        Entry(
            "invsr", "super-resolution by noise inversion on SD-Turbo", "stabilityai/sd-turbo with OAOA/InvSR's noise predictor",
            "S-Lab 1.0 and Stability AI: non-commercial", _invsr,
        ),
        Entry(
            "edit", "an instruct editor: FLUX Kontext, Qwen-Image-Edit, InstructPix2Pix",
            "black-forest-labs/FLUX.1-Kontext-dev, Qwen/Qwen-Image-Edit, timbrooks/instruct-pix2pix",
            "FLUX non-commercial; Apache-2.0; MIT", _edit,
        ),
    )
}  # fmt: skip


def chosen(name: str, model: str = "miniature") -> str:
    """The maker a name stands for. "auto": the refiner where it is present, the embedded one otherwise, and always for
    `miniature`, which was trained on pictures like those it makes."""
    if name == "auto":
        return "refiner" if model != "miniature" and PROXIES["refiner"].present else "embedded"
    if name not in PROXIES:
        raise SettingError(f"expected a proxy among auto, none, {', '.join(PROXIES)}, got {name!r}")
    return name


def make(
    name: str, painting: UInt8[np.ndarray, "H W 3"], prompt: str, seed: int = 42, device: str = "cpu",
    model: str = "miniature",
) -> UInt8[np.ndarray, "H W 3"]:  # fmt: skip
    """A painting's proxy image by the maker of that name. Raises `WeightsError` where its weights are not here."""
    import torch

    entry = PROXIES[chosen(name, model)]
    if not entry.present:
        raise WeightsError(
            f"expected {entry.name}'s folder at {entry.folder}, found none; fetch it from {entry.hub} ({entry.licence})"
        )
    return _loaded(entry.name, entry.folder, device)(painting, prompt, torch.Generator().manual_seed(seed))


@lru_cache(1)
def _loaded(name: str, folder: Path, device: str) -> ProxyMaker:
    return PROXIES[name].load(folder, device)


def _dtype(device: str) -> Any:
    import torch

    return torch.bfloat16 if device.startswith("cuda") else torch.float32
