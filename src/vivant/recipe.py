"""The recipe: everything a result was made from, embedded in it, enough to make the same bytes again."""

from __future__ import annotations

import hashlib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """Settings, models and versions. Paths are absolute; hashes are sha256 over pixels (painting, mask, proxy) or weights."""

    painting: str
    painting_sha256: str
    prompt: str
    model: str
    weights_sha256: str
    seed: int
    frames: int
    fps: int
    steps: int
    guidance: float
    negative: str
    distil: float
    distil_evaluations: int | None
    curve: str
    gain: float
    blend: str
    proxy: str
    proxy_sha256: str | None
    mask: str | None
    mask_sha256: str | None
    strength: float | None
    arrows: list[list[float]]
    device: str
    versions: dict[str, str]
    loop: bool = False
    size: str = "native"
    model_size: list[int] | None = None
    feather: str | float | None = None
    regions: list[dict[str, Any]] = field(default_factory=list)
    compose: str = "together"
    lora: list[dict[str, Any]] = field(default_factory=list)
    format: int = FORMAT

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Recipe:
        """From JSON. Raises `InputError` naming the first entry that is missing, unknown or of a newer format."""
        if data.get("format") != FORMAT:
            raise InputError(
                f"expected a recipe of format {FORMAT}, got {data.get('format')!r}; use the vivant that made it"
            )
        names = {f.name for f in fields(cls)}
        # What came later has the value that was built in before.
        needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
        for missing in sorted(needed - data.keys()):
            raise InputError(f"expected {missing!r} in the recipe, it is missing")
        for unknown in sorted(data.keys() - names):
            raise InputError(f"expected no {unknown!r} in a recipe of format {FORMAT}")
        check_types(data)
        return cls(**data)


def check_types(data: Mapping[str, Any]) -> None:
    """Refuse a recipe whose entries are of other kinds than vivant writes: someone changed it. Raises `InputError`."""
    hints = typing.get_type_hints(Recipe)
    for name, value in data.items():
        if name in hints and not fits(value, hints[name]):
            raise _changed(name, value)
    for arrows in (data.get("arrows"), *(region.get("arrows") for region in data.get("regions", ()))):
        if not fits(arrows, list[list[float]]) or any(len(arrow) not in (4, 5) for arrow in arrows or ()):
            raise _changed("arrows", arrows)
    for region in data.get("regions", ()):
        for name, hint in REGION.items():
            if name not in region or not fits(region[name], hint):
                raise _changed(f"{name} of a region", region.get(name))
    for one in data.get("lora", ()):
        if not all(name in one and fits(one[name], hint) for name, hint in LORA.items()):
            raise _changed("lora", one)
    if data.get("model_size") is not None and len(data["model_size"]) != 2:
        raise _changed("model_size", data["model_size"])


REGION: dict[str, Any] = {
    "mask": str, "mask_sha256": str | None, "prompt": str, "strength": float | None, "feather": str | float | None,
}  # fmt: skip
"""what is written of a region, beside its arrows"""
LORA: dict[str, Any] = {"path": str, "sha256": str, "scale": float}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON is what a type says; a whole number is a float too, a truth value is no number."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if kind in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if kind is list:
        return isinstance(value, list) and all(fits(v, inner[0]) for v in value)
    if kind is dict:
        return isinstance(value, dict) and all(fits(v, inner[1]) for v in value.values())
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if hint is float else hint)


def _changed(name: str, value: Any) -> InputError:
    return InputError(
        f"expected {name} in the recipe as vivant writes it, got {str(value)[:60]!r}; the recipe was changed since"
    )


def picture_hash(pixels: np.ndarray | None) -> str | None:
    """sha256 of a picture's shape and pixels; None for none."""
    if pixels is None:
        return None
    digest = hashlib.sha256(str((pixels.shape, pixels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def check_same(what: str, path: str, want: str | None, pixels: np.ndarray | None) -> None:
    """Refuse to rerun from another picture than the one the recipe was made from."""
    if picture_hash(pixels) != want:
        raise InputError(f"expected the {what} the result was made from at {path}, its pixels have changed since")


def versions() -> dict[str, str]:
    """Versions that decide the bytes."""
    names = ("vivant", "torch", "numpy", "opencv-python-headless", "av", "pillow")
    return {name: metadata.version(name) for name in names}


def absolute(source: object) -> str:
    """A path as it is written into a recipe; a picture held in memory has none."""
    return str(Path(source).resolve()) if isinstance(source, str | Path) else "<memory>"
