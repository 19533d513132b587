"""What a feature network is to the metrics, and what a metric may be called with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Extractor(Protocol):
    """Turns a batch into features, one row for each clip or frame."""

    @property
    def name(self) -> str:
        """What tables call it; a result carries it."""

    @property
    def version(self) -> str:
        """Changes whenever the features do: the sha256 of its weights, or the revision of its code."""

    @property
    def takes(self) -> Literal["videos", "frames"]:
        """What a batch is made of."""

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, F, H, W, 3) videos or (B, H, W, 3) frames, uint8, to (B, D) float features on the extractor's device."""


@runtime_checkable
class TextExtractor(Extractor, Protocol):
    """An extractor of frames that also reads sentences."""

    def text(self, sentences: Sequence[str]) -> Tensor:
        """(N, D) features in the space of the frames' features."""


PUBLISHED = {
    ("frechet", "i3d"): "FVD",
    ("kernel", "i3d"): "KVD",
    ("text", "clip"): "CLIPSIM",
    ("consistency", "clip"): "Tem-Cons",
    ("conformity", "dreamsim"): "PIC",
    ("perceptual", "lpips"): "LPIPS",
}
"""The papers' names, each with the one network it stands for."""

PLAIN = {
    "frechet": "Fréchet distance", "kernel": "kernel distance", "text": "text alignment",
    "consistency": "frame consistency", "conformity": "input conformity", "perceptual": "perceptual distance",
}  # fmt: skip


def label(metric: str, extractor: Extractor | str) -> str:
    """What a result is called: the paper's name with the paper's network, else the measure and the network's name.

    `metric`: frechet, kernel, text, consistency, conformity or perceptual.
    """
    name = extractor if isinstance(extractor, str) else extractor.name
    return PUBLISHED.get((metric, name)) or f"{PLAIN[metric]} ({name})"
