"""vivant (from *tableau vivant*): a still painting and a sentence in, a video that moves as the sentence says out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        DependencyError,
        ImageError,
        InputError,
        ModelError,
        OutputError,
        PromptError,
        SettingError,
        VivantError,
        WeightsError,
    )
    from .latents import awaken_latents
    from .pipeline import Result, animate, rerun
    from .shot import Arrow, Controls, Region, Shot

__version__ = "0.3.1"

_HOMES = {
    **dict.fromkeys(("animate", "rerun", "Result"), "pipeline"),
    **dict.fromkeys(("Shot", "Controls", "Arrow", "Region"), "shot"),
    "awaken_latents": "latents",
    **dict.fromkeys(
        (
            "VivantError",
            "InputError",
            "ImageError",
            "PromptError",
            "SettingError",
            "OutputError",
            "ModelError",
            "WeightsError",
            "DependencyError",
        ),
        "errors",
    ),
}

__all__ = [
    "Arrow", "Controls", "DependencyError", "ImageError", "InputError", "ModelError", "OutputError", "PromptError", "Region",
    "Result", "SettingError", "Shot", "VivantError", "WeightsError", "animate", "awaken_latents", "rerun",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vivant' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
