"""From a pipeline object, a local folder or a hub name to the adapter of its family."""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...errors import DependencyError, SettingError, WeightsError
from ..folder import first_line, read_json
from .base import PipelinePrior

FAMILIES: dict[str, tuple[str, str]] = {
    "StableVideoDiffusionPipeline": ("svd", "StableVideo"),
    "I2VGenXLPipeline": ("i2vgen_xl", "I2VGenXL"),
    "CogVideoXImageToVideoPipeline": ("cogvideox", "CogVideoX"),
    "WanImageToVideoPipeline": ("wan", "Wan"),
    "LTXImageToVideoPipeline": ("ltx", "LTX"),
    "HunyuanVideoImageToVideoPipeline": ("hunyuan", "Hunyuan"),
}
"""The supported pipelines: class name to (module, adapter)."""

NEED_ACCELERATE = ("WanImageToVideoPipeline",)
"""Pipelines with parts that stay in float32 whatever the rest is in: diffusers loads them with accelerate only."""

HUB = "hub:"


def adapt(pipe: Any, **options: Any) -> PipelinePrior:
    """The prior around a live diffusers pipeline (or a subclass); `options` go to its family's adapter.

    Raises `SettingError` for a pipeline of no supported family.
    """
    for kind in type(pipe).__mro__:
        if kind.__name__ in FAMILIES:
            module, name = FAMILIES[kind.__name__]
            return getattr(import_module(f".{module}", __package__), name)(pipe, **options)
    raise SettingError(_unsupported(type(pipe).__name__))


def from_pretrained(
    source: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, **options: Any
) -> PipelinePrior:
    """Load a pipeline from a folder with model_index.json, or from `hub:owner/name` (`hub:owner/name@revision`).

    safetensors only; a folder is read without asking the hub. `options` go to the family's adapter. Raises
    `SettingError` for a pipeline of no supported family, `WeightsError` for one that cannot be read, `DependencyError`
    where accelerate is missing and needed.
    """
    import diffusers

    place = str(source)
    local = not place.startswith(HUB)
    name, _, revision = (place, "", "") if local else place.removeprefix(HUB).partition("@")
    extra: dict[str, Any] = {"local_files_only": True} if local else {"revision": revision or None}
    try:
        index = (
            read_json(Path(name) / "model_index.json")
            if local
            else diffusers.DiffusionPipeline.load_config(name, **extra)
        )
        kind = index.get("_class_name")
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"expected a diffusers pipeline at {place}, got {first_line(error)}") from None
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise SettingError(_unsupported(kind))
    if kind in NEED_ACCELERATE and find_spec("accelerate") is None:
        raise DependencyError(f"expected the package accelerate, which {kind} is loaded with; pip install accelerate")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the newest diffusers call it dtype, older ones do not yet
            pipe = getattr(diffusers, kind).from_pretrained(name, torch_dtype=dtype, use_safetensors=True, **extra)
    except Exception as error:  # diffusers and transformers raise a dozen kinds for a file that is missing or damaged
        raise WeightsError(f"expected a whole {kind} at {place}, got {first_line(error)}; download it again") from None
    return adapt(pipe.to(device), **options)


def _unsupported(kind: object) -> str:
    return f"expected a pipeline among {', '.join(FAMILIES)}, got {kind}"
