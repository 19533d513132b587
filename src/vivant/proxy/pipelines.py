"""Open a diffusers pipeline from a local folder in the hub's layout, for the proxies that need one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from ..errors import WeightsError
from ..priors.folder import first_line
from ..priors.frames2d import working_size


def open_pipeline(
    folder: Path | str, classes: Sequence[str], device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Any:
    """The pipeline saved in `folder`, one of `classes` by its model_index.json. Safetensors only; nothing is downloaded.

    Raises `WeightsError` for a folder that is missing, damaged or of another pipeline.
    """
    index = Path(folder) / "model_index.json"
    try:
        name = json.loads(index.read_text("utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(f"expected a pipeline folder with a model_index.json at {folder}, found none") from None
    # A text-to-image folder serves its image-to-image sibling: the parts are the same.
    if name not in classes:
        raise WeightsError(f"expected a pipeline among {', '.join(classes)} at {folder}, got {name}")
    import diffusers

    try:
        pipe = getattr(diffusers, classes[0] if name in SIBLINGS.get(classes[0], ()) else name).from_pretrained(
            str(folder), torch_dtype=dtype, local_files_only=True, use_safetensors=True
        )
    except Exception as error:  # diffusers raises many kinds for one reason
        raise WeightsError(
            f"could not load the pipeline at {folder}: {first_line(error)}; download the folder again"
        ) from None
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


SIBLINGS = {
    "StableDiffusionXLImg2ImgPipeline": ("StableDiffusionXLPipeline",),
}
"""pipelines whose folders also serve the one named first"""


def at_area(painting: UInt8[np.ndarray, "H W 3"], area: int, multiple: int) -> Image.Image:
    """The painting in its own shape with about `area` pixels, sides rounded to `multiple`."""
    side = round(area**0.5)
    size = working_size(painting.shape[1::-1], (side, side), multiple)
    return Image.fromarray(painting).resize(size, Image.Resampling.LANCZOS)


def back(picture: Image.Image, painting: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A generated picture at the painting's size."""
    size = (painting.shape[1], painting.shape[0])
    return np.array(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))


def shrink(pipe: Any) -> int:
    """How many pixels a side one latent position stands for."""
    return int(2 ** (len(pipe.vae.config.block_out_channels) - 1))


def native_area(pipe: Any) -> int:
    """The pixels of a picture of the size the network was trained at (SDXL 1024², Stable Diffusion 1 512²)."""
    return int((pipe.unet.config.sample_size * shrink(pipe)) ** 2)
