"""The feature networks a table looks through: the paper's where they are here, the shipped ones otherwise, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..errors import SettingError, VivantError, WeightsError
from .cache import FeatureCache, clip_features, frame_features
from .extractors import Extractor, TextExtractor, label, load, row

Role = Literal["video", "text", "frame", "likeness", "perceptual"]
"""sets of clips, words against frames, frame against frame, frame against painting, frame against real frame"""
PAPERS: dict[str, str] = {
    "video": "i3d",
    "text": "clip",
    "frame": "clip",
    "likeness": "dreamsim",
    "perceptual": "lpips",
}
SHIPPED: dict[str, str] = {
    "video": "gradients-3d", "frame": "gradients-2d", "likeness": "gradients-2d", "perceptual": "gradients-2d",
}  # fmt: skip
"""no words are read without a network"""


class Eyes:
    """Extractors by role, each loaded when it is first looked through. Raises `SettingError` for a name or role unknown."""

    def __init__(self, wanted: Mapping[str, str] | None = None, device: str = "auto") -> None:
        self.wanted = dict(wanted or {})
        for role, name in self.wanted.items():
            if role not in PAPERS:
                raise SettingError(f"expected an extractor's role among {', '.join(PAPERS)}, got {role!r}")
            row(name)
        self._device = device
        self._loaded: dict[str, Extractor] = {}
        self.cache = FeatureCache()

    def name(self, role: str) -> str:
        """The network of a role: the one asked for, the paper's where it is present, else the shipped one."""
        if role in self.wanted:
            return self.wanted[role]
        return PAPERS[role] if row(PAPERS[role]).present or role not in SHIPPED else SHIPPED[role]

    def label(self, metric: str, role: str) -> str:
        """What a measure may be called through these eyes."""
        return label(metric, self.name(role))

    def get(self, role: str) -> Extractor:
        """The network itself. Raises `WeightsError` that says what to pull."""
        name = self.name(role)
        if name not in self._loaded:
            if not row(name).present:  # known before its libraries are loaded, which takes longer than to say so
                raise WeightsError(f"the weights of {name} are not here; run `vivant extractors --pull {name}`")
            self._loaded[name] = load(name, self.device)
        return self._loaded[name]

    @cached_property
    def device(self) -> str:
        """Where networks run."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device

    def videos(
        self, paths: Iterable[Path], frames: int, skipped: Callable[[Path, VivantError], None] | None = None
    ) -> Float[Tensor, "N D"]:
        """Features of clips, each looked at once and kept by its content; what cannot be read goes to `skipped`."""
        found = clip_features(paths, self.get("video"), self.cache, frames, skipped=skipped)
        rows = [features.double() for _, features in found]
        return torch.stack(rows) if rows else torch.empty(0, 1)

    def frames(self, pixels: UInt8[np.ndarray, "F H W 3"], role: str = "frame") -> Float[Tensor, "F D"]:
        """Features of a clip's frames, or of pictures."""
        return frame_features(pixels, self.get(role)).double()

    def text(self, sentence: str) -> Float[Tensor, " D"]:
        """Features of a sentence, in the space of its network's frames. Raises `WeightsError` where none reads."""
        extractor = self.get("text")
        if not isinstance(extractor, TextExtractor):
            raise WeightsError(
                f"expected an extractor that reads sentences, {extractor.name} does not; --extractor text=clip"
            )
        return extractor.text([sentence])[0].double().cpu()
