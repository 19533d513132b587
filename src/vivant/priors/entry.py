"""One row of the lists of base models and proxy makers: what it is, what it needs, where its files lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError

if TYPE_CHECKING:
    from .protocol import VideoPrior

Load = Callable[[str, Any], "VideoPrior"]
"""(device, torch dtype) to a prior"""

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""The precisions a model may be loaded in, and their bytes a number."""

SEE_PAGE = "see the model page"


IN_PACKAGE = "in the package"


@dataclass(frozen=True)
class Source:
    """What is downloaded, or comes with the package: what it is, under which licence, where it comes from and lies.

    `weights`: for each file that must be there, its possible names, the preferred first; `hashed`: how many of those the
    weights' hash is taken over.
    """

    name: str
    does: str
    paper: str
    source: str
    licence: str
    territory: str
    folder: Path | None = None
    """where its files lie; None: `models_folder()/under/name`"""
    under: str = ""
    hub: str | None = None
    revision: str | None = None
    url: str | None = None
    fetch: tuple[str, ...] = ()
    """the files to download, as patterns; nothing: all that a pipeline is made of"""
    borrow: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """what another repository has to lend: (repository, folder here, names there)"""
    download_bytes: int | None = None
    """None: not known before the server is asked"""
    weights: tuple[tuple[str, ...], ...] = ()
    hashed: int = 1

    @property
    def place(self) -> Path:
        """The folder of its files."""
        return self.folder or models_folder() / self.under / self.name

    def files(self) -> list[Path]:
        """The files the weights' hash is taken over, as far as they are there."""
        return self._found()[: self.hashed]

    def _found(self) -> list[Path]:
        options = ([self.place / name for name in names] for names in self.weights)
        return [found for paths in options if (found := next((p for p in paths if p.is_file()), None))]

    @property
    def present(self) -> bool:
        """Whether all its weights are on this machine."""
        return bool(self.weights or self.source == IN_PACKAGE) and len(self._found()) == len(self.weights)

    @property
    def download(self) -> str:
        """How much is to download, in words."""
        if self.hub is None and self.url is None:
            return "nothing: in the package" if self.source == IN_PACKAGE else "nothing: a folder of yours"
        return gigabytes(self.download_bytes) if self.download_bytes else SEE_PAGE

    def facts(self) -> dict[str, str]:
        """What a list says of it, in words."""
        return {
            "does": self.does, "paper": self.paper, "from": self.source, "licence": self.licence,
            "territory": self.territory, "download": self.download,
        }  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.name, "present": self.present, "does": self.does, "paper": self.paper, "source": self.source,
            "licence": self.licence, "territory": self.territory, "folder": str(self.place),
            "download_bytes": self.download_bytes, "download": self.download,
        }  # fmt: skip


@dataclass(frozen=True)
class Entry(Source):
    """One row of `vivant models`: a base model.

    `params`: numbers in each network, by part; `cell`: numbers alive at once in the denoiser for each latent position
    of one clip and guidance branch, measured at full size without storage; `size`: (width, height) it generates at,
    None for the painting's own.
    """

    load: Load = field(repr=False, kw_only=True)
    params: Mapping[str, int] = field(default_factory=dict)
    cell: float | None = None
    size: tuple[int, int] | None = None
    frames: int = 16
    steps: int = 50
    distil_evaluations: int | None = None
    branches: int = 2
    decode_frames: int = 4
    """frames that its decoder takes at once when memory is no concern"""
    dtypes: tuple[str, ...] = tuple(DTYPES)
    alone: tuple[int, int] | None = None
    """for a model that works on the painting itself: bytes of the process, and bytes more for each pixel; measured"""

    def memory_bytes(self, dtype: str | None = None) -> int | None:
        """Bytes at its own size and length in a precision (its usual one on a GPU); None when nothing is known."""
        from ..memory import need

        return need(self, dtype or self.usual) if self.params else None

    @property
    def usual(self) -> str:
        """Its precision on a GPU."""
        return "bfloat16" if "bfloat16" in self.dtypes else self.dtypes[0]

    @property
    def memory(self) -> str:
        """How much memory it takes at its own size, in words."""
        if not self.params:
            return "not known before it is here"
        words = [f"{gigabytes(self.memory_bytes(d) or 0)} in {d}" for d in ("bfloat16", "float32") if d in self.dtypes]
        clip = f"{self.size[0]}x{self.size[1]}" if self.size else "1920x1080"
        return f"{', '.join(words)}, for {self.frames} frames at {clip}"

    def facts(self) -> dict[str, str]:
        """With the memory it takes."""
        return super().facts() | {"memory": self.memory}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return super().as_dict() | {
            "memory": self.memory,
            "memory_bytes": {d: self.memory_bytes(d) for d in self.dtypes} if self.params else {},
            "parameters": sum(self.params.values()) or None, "size": list(self.size) if self.size else None,
            "frames": self.frames, "steps": self.steps,
        }  # fmt: skip


def gigabytes(count: float) -> str:
    """Bytes for people, in powers of ten."""
    return f"{count / 1e6:.0f} MB" if count < 0.995e9 else f"{count / 1e9:.1f} GB"


def models_folder() -> Path:
    """Where downloaded models lie: $VIVANT_MODELS, or ~/.cache/vivant."""
    return Path(os.environ.get("VIVANT_MODELS") or Path.home() / ".cache" / "vivant")


def numbers(path: Path) -> int:
    """How many numbers a safetensors file holds, read from its header alone. Raises `WeightsError`."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), 100_000_000)))
        return sum(prod(value["shape"]) for key, value in header.items() if key != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(f"expected a whole safetensors file at {path}; download it again") from None
