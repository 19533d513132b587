"""The proxy makers by name: what they are, and how each is loaded when it is asked for. Loads no torch by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from ..errors import SettingError, WeightsError
from ..priors.entry import IN_PACKAGE, Source

if TYPE_CHECKING:
    from .protocol import ProxyMaker


@dataclass(frozen=True)
class Entry(Source):
    """One maker. It lies under `proxy/NAME` in the models' folder."""

    under: str = "proxy"
    load: Callable[[Path, str], ProxyMaker] = field(repr=False, kw_only=True)


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


def _part(name: str, file: str = "diffusion_pytorch_model") -> tuple[str, str]:
    return f"{name}/config.json", f"{name}/{file}.safetensors"


ABOUT = ("model_index.json", "README.md", "scheduler/*")
UNET, VAE, TEXT, TEXT_2 = _part("unet"), _part("vae"), _part("text_encoder", "model"), _part("text_encoder_2", "model")
CHECKER = (*_part("safety_checker", "model"), "feature_extractor/*")
"""The files of a pipeline's parts; repositories hold them in half precision and as pickles besides."""

WHOLE = (("model_index.json",),)
"""It is fetched last: a folder that has it has everything."""

PREDICTOR = "noise_predictor_sd_turbo_v5"

PROXIES: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry(
            "embedded", "a cleaned, clarified rendering; offline", "this project", IN_PACKAGE, "Apache-2.0", "no limits",
            load=_embedded,
        ),
        Entry(
            "refiner", "SDXL's refiner, image to image by the sentence",
            "SDXL (Podell et al., ICLR 2024, arXiv 2307.01952) as SDEdit (Meng et al., ICLR 2022)",
            "huggingface.co/stabilityai/stable-diffusion-xl-refiner-1.0", "CreativeML Open RAIL++-M", "no stated limits",
            hub="stabilityai/stable-diffusion-xl-refiner-1.0",
            fetch=(*ABOUT, "LICENSE.md", "tokenizer_2/*", *TEXT_2, *UNET, *VAE), download_bytes=12_200_000_000,
            weights=WHOLE, load=_refiner,
        ),
        Entry(
            "masactrl", "redraws the painting by the sentence from its own keys and values",
            "MasaCtrl (Cao et al., ICCV 2023, arXiv 2304.08465) on Stable Diffusion 1.4",
            "huggingface.co/CompVis/stable-diffusion-v1-4; a Stable Diffusion 1.5 or SDXL folder serves too",
            "CreativeML Open RAIL-M", "no stated limits", hub="CompVis/stable-diffusion-v1-4",
            fetch=(*ABOUT, "tokenizer/*", *TEXT, *UNET, *VAE, *CHECKER), download_bytes=5_480_000_000,
            weights=WHOLE, load=_masactrl,
        ),
        Entry(
            "invsr", "super-resolution by noise inversion, one to five steps",
            "InvSR (Yue et al., CVPR 2025, arXiv 2412.09013) on SD-Turbo",
            "huggingface.co/stabilityai/sd-turbo with the noise predictor of huggingface.co/OAOA/InvSR",
            "S-Lab 1.0 (predictor) and Stability AI's community licence (SD-Turbo): non-commercial", "no stated limits",
            hub="stabilityai/sd-turbo", fetch=(*ABOUT, "LICENSE*", "tokenizer/*", *TEXT, *UNET, *VAE),
            borrow=(("OAOA/InvSR", "", (f"{PREDICTOR}.pth",)),), download_bytes=5_310_000_000,
            weights=(*WHOLE, (f"{PREDICTOR}.safetensors", f"{PREDICTOR}.pth")),
            load=_invsr,
        ),
        Entry(
            "edit", "an instruct editor told to show the scene a moment later",
            "InstructPix2Pix (Brooks et al., CVPR 2023, arXiv 2211.09800)",
            "huggingface.co/timbrooks/instruct-pix2pix; a FLUX Kontext or Qwen-Image-Edit folder serves too", "MIT",
            "no stated limits", hub="timbrooks/instruct-pix2pix",
            fetch=(*ABOUT, "tokenizer/*", *TEXT, *UNET, *VAE, *CHECKER), download_bytes=5_480_000_000,
            weights=WHOLE, load=_edit,
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
            f"expected the weights of the proxy maker {entry.name} at {entry.place}, found none or not all; "
            f"run `vivant pull {entry.name}` ({entry.licence})"
        )
    return _loaded(entry.name, entry.place, device)(painting, prompt, torch.Generator().manual_seed(seed))


@lru_cache(1)
def _loaded(name: str, folder: Path, device: str) -> ProxyMaker:
    return PROXIES[name].load(folder, device)


def _dtype(device: str) -> Any:
    import torch

    return torch.bfloat16 if device.startswith("cuda") else torch.float32
