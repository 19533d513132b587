"""The base models by name: what they are, and how each is loaded when it is asked for. Loads no torch by itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingError, WeightsError

if TYPE_CHECKING:
    from .protocol import VideoPrior


@dataclass(frozen=True)
class Entry:
    """One row of `vivant models`. `files`: what the weights' hash is taken over."""

    name: str
    does: str
    paper: str
    source: str
    licence: str
    territory: str
    download: str
    memory: str
    load: Callable[[str], VideoPrior]
    files: Callable[[], list[Path]]

    @property
    def present(self) -> bool:
        """Whether its weights are on this machine."""
        return bool(self.files()) and all(f.is_file() for f in self.files())


def models_folder() -> Path:
    """Where downloaded models lie: $VIVANT_MODELS, or ~/.cache/vivant."""
    return Path(os.environ.get("VIVANT_MODELS", Path.home() / ".cache" / "vivant"))


def _miniature(device: str) -> VideoPrior:
    from .miniature.adapter import Miniature

    return Miniature.load(device)


def _miniature_files() -> list[Path]:
    here = Path(__file__).parent / "miniature"
    return [here / "miniature.safetensors", here / "text.safetensors"]


def _animate_anything(device: str) -> VideoPrior:
    from .animate_anything import adapter, weights

    folder = models_folder() / "animate_anything"
    if not folder.is_dir():
        raise WeightsError(
            f"expected the folder animate_anything_512_v1.02 of the official release at {folder}, found none; "
            "unpack it there, or set VIVANT_MODELS"
        )
    return adapter.AnimateAnything(weights.load(folder, device=device))


def _animate_anything_files() -> list[Path]:
    unet = models_folder() / "animate_anything" / "unet"
    return sorted(unet.glob("*.safetensors"))[:1] or sorted(unet.glob("*.bin"))[:1]


REGISTRY: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry(
            "miniature", "motion fields from words; the painting itself is carried along; offline, on a CPU",
            "this project", "in the package", "Apache-2.0", "no limits", "13 MB, shipped", "1 GB", _miniature, _miniature_files,
        ),
        Entry(
            "animate_anything", "open-domain image animation with motion mask and strength",
            "AnimateAnything (Dai et al., 2023)", "github.com/alibaba/animate-anything: animate_anything_512_v1.02.tar",
            "MIT (code); weights built on ModelScope text-to-video, CC-BY-NC 4.0", "no stated limits, non-commercial", "about 4 GB",
            "about 10 GB", _animate_anything, _animate_anything_files,
        ),
    )
}  # fmt: skip


def entry(name: str) -> Entry:
    """The row of a model. Raises `SettingError` for an unknown name."""
    if name not in REGISTRY:
        raise SettingError(f"expected a model among {', '.join(REGISTRY)}, got {name!r}; see `vivant models`")
    return REGISTRY[name]


def load(name: str, device: str = "cpu") -> VideoPrior:
    """Load a model. Raises `SettingError` for an unknown name and `WeightsError` for missing or broken weights."""
    return entry(name).load(device)


@lru_cache
def weights_hash(name: str) -> str:
    """sha256 over the model's weight files: part of every recipe."""
    digest = hashlib.sha256()
    for path in entry(name).files():
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
