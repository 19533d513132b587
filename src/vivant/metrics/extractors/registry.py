"""The extractors by name: what each is for, where its weights come from, how it is loaded. Loads no torch by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SettingError
from ...priors.entry import models_folder

if TYPE_CHECKING:
    from .protocol import Extractor


@dataclass(frozen=True)
class Row:
    """One extractor. `files`: (name here, URL, bytes, sha256), or `hub` with the patterns to fetch there."""

    name: str
    does: str
    paper: str
    licence: str
    load: Callable[[str], Extractor] = field(repr=False)
    files: tuple[tuple[str, str, int | None, str | None], ...] = ()
    hub: str | None = None
    patterns: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """files that must be there, of each comma-separated choice one"""

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return models_folder() / "extractors" / self.name

    @property
    def present(self) -> bool:
        """Whether it can be used on this machine."""
        return all(any((self.folder / n).is_file() for n in names.split(",")) for names in self.needs)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.name, "present": self.present, "does": self.does, "paper": self.paper,
            "licence": self.licence, "from": self.source, "folder": str(self.folder) if self.needs else None,
        }  # fmt: skip

    @property
    def source(self) -> str:
        """Where its weights come from."""
        if self.hub:
            return f"huggingface.co/{self.hub}"
        return " ".join(url for _, url, _, _ in self.files) or "in the package, no weights"


I3D_SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
ALEXNET_SHA256 = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"


def _gradients_3d(device: str) -> Extractor:
    from .gradients import GradientClips

    return GradientClips(device)


def _gradients_2d(device: str) -> Extractor:
    from .gradients import GradientFrames

    return GradientFrames(device)


def _i3d(device: str) -> Extractor:
    from .networks import I3D

    return I3D.load(device=device)


def _videomae(device: str) -> Extractor:
    from .networks import VideoMae

    return VideoMae.load(device=device)


def _clip(device: str) -> Extractor:
    from .networks import Clip

    return Clip.load(device=device)


def _lpips(device: str) -> Extractor:
    from .lpips import Lpips

    return Lpips.load(device=device)


def _dreamsim(device: str) -> Extractor:
    from .dreamsim import DreamSim

    return DreamSim.load(device=device)


_CONFIGS = ("config.json", "preprocessor_config.json")
_EITHER = "model.safetensors,pytorch_model.bin"

EXTRACTORS: dict[str, Row] = {
    r.name: r
    for r in (
        Row("gradients-3d", "clips, offline: gradients in space and time", "none", "Apache-2.0", _gradients_3d),
        Row("gradients-2d", "frames, offline: gradients and colour on a grid", "none", "Apache-2.0", _gradients_2d),
        Row(
            "i3d", "clips: FVD, KVD", "Carreira & Zisserman 2017; Unterthiner et al. 2019", "Apache-2.0", _i3d,
            files=((
                "i3d_torchscript.pt",
                "https://huggingface.co/flateon/FVD-I3D-torchscript/resolve/1c2d61711c52571ad617a1063e6fa691b212e184/i3d_torchscript.pt",
                51_235_320, I3D_SHA256,
            ),),
            needs=("i3d_torchscript.pt",),
        ),
        Row(
            "videomae", "clips: Fréchet and kernel distances", "Tong et al. 2022", "CC-BY-NC-4.0", _videomae,
            hub="MCG-NJU/videomae-base-finetuned-kinetics",
            patterns=(*_CONFIGS, "pytorch_model.bin"), needs=("config.json", _EITHER),
        ),
        Row(
            "clip", "frames and words: CLIPSIM, Tem-Cons", "Radford et al. 2021", "MIT", _clip,
            hub="openai/clip-vit-base-patch32",
            patterns=(*_CONFIGS, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
                      "merges.txt", "pytorch_model.bin"),
            needs=("config.json", _EITHER, "vocab.json,tokenizer.json"),
        ),
        Row(
            "dreamsim", "frames: PIC", "Fu et al. 2023", "MIT", _dreamsim,
            files=(
                ("dreamsim.zip", "https://github.com/ssundaram21/dreamsim/releases/download/v0.1.0/dreamsim_checkpoint.zip",
                 None, None),
                ("dino_vitbase16_pretrain.pth",
                 "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth", None, None),
            ),
            needs=("dino_vitbase16_pretrain.pth", "clip_vitb16_pretrain.pth.tar", "open_clip_vitb16_pretrain.pth.tar"),
        ),
        Row(
            "lpips", "frames: LPIPS", "Zhang et al. 2018 (AlexNet, v0.1)", "BSD-2-Clause", _lpips,
            files=((
                "alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                244_408_911, ALEXNET_SHA256,
            ),),
            needs=("alexnet-owt-7be5be79.pth",),
        ),
    )
}  # fmt: skip


def row(name: str) -> Row:
    """One extractor's row. Raises `SettingError`."""
    if name not in EXTRACTORS:
        raise SettingError(
            f"expected an extractor among {', '.join(EXTRACTORS)}, got {name!r}; see `vivant extractors`"
        )
    return EXTRACTORS[name]


def load(name: str, device: str = "cpu") -> Extractor:
    """An extractor, its weights checked. Raises `SettingError` for a name, `WeightsError` that says what to pull."""
    return row(name).load(device)
