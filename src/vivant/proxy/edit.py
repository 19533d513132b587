"""Instruct editors (FLUX Kontext, Qwen-Image-Edit, InstructPix2Pix): told to show the scene a moment later."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Generator

from ..errors import SettingError
from .pipelines import at_area, back, open_pipeline

CLASSES = (
    "FluxKontextPipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline",
    "StableDiffusionInstructPix2PixPipeline", "StableDiffusionXLInstructPix2PixPipeline",
)  # fmt: skip
ORDER = "{prompt}. Keep the composition, the place of every thing, and the painter's style."


class Editor:
    """Any diffusers pipeline that edits an image by words."""

    def __init__(
        self, pipe: Any, steps: int = 28, guidance: float | None = None, area: int = 1024 * 1024, order: str = ORDER
    ) -> None:
        """`order`: what the editor is told, `{prompt}` in it standing for the sentence; `guidance` None: its own."""
        if "{prompt}" not in order:
            raise SettingError(f"expected an order with {{prompt}} in it, got {order!r}")
        self.pipe, self.steps, self.guidance, self.area, self.order = pipe, steps, guidance, area, order

    @classmethod
    def from_folder(
        cls, folder: Path | str, device: str = "cpu", dtype: torch.dtype = torch.float32, **options: Any
    ) -> Editor:
        """From black-forest-labs/FLUX.1-Kontext-dev, Qwen/Qwen-Image-Edit, timbrooks/instruct-pix2pix and the like."""
        return cls(open_pipeline(folder, CLASSES, device, dtype), **options)

    @torch.no_grad()
    def __call__(self, painting: UInt8[np.ndarray, "H W 3"], prompt: str, rng: Generator) -> UInt8[np.ndarray, "H W 3"]:
        """The edited painting at its own size."""
        picture = at_area(painting, self.area, 16)
        known = signature(self.pipe.__call__).parameters
        wanted: dict[str, Any] = {"width": picture.width, "height": picture.height}
        if self.guidance is not None:
            wanted[
                "true_cfg_scale" if "true_cfg_scale" in known and "guidance_scale" not in known else "guidance_scale"
            ] = self.guidance
        # Kontext would otherwise move the picture to one of its own favourite shapes, and to a megapixel.
        wanted |= {"_auto_resize": False, "max_area": picture.width * picture.height}
        made = self.pipe(
            prompt=self.order.format(prompt=prompt.strip().rstrip(".")), image=picture, num_inference_steps=self.steps,
            generator=rng, output_type="pil", **{k: v for k, v in wanted.items() if k in known},
        ).images[0]  # fmt: skip
        return back(made, painting)
