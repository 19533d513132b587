"""SDXL's refiner as image-to-image: the proxy that "Every Painting Awakened" names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Generator

from ..errors import SettingError
from .pipelines import at_area, back, native_area, open_pipeline

CLASSES = ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLPipeline")


class Refiner:
    """SDEdit (Meng et al. 2022) with the refiner: the painting, noised by `strength`, denoised towards the prompt."""

    def __init__(
        self, pipe: Any, strength: float = 0.3, steps: int = 30, guidance: float = 5.0, area: int | None = None
    ) -> None:
        """`strength` in (0, 1]: the share of the noise; `area`: pixels it works at, what it was trained at when None."""
        if not 0 < strength <= 1:
            raise SettingError(f"expected a strength above 0 and at most 1, got {strength}")
        self.pipe, self.strength, self.steps, self.guidance = pipe, strength, steps, guidance
        self.area = native_area(pipe) if area is None else area

    @classmethod
    def from_folder(
        cls, folder: Path | str, device: str = "cpu", dtype: torch.dtype = torch.float32, **options: Any
    ) -> Refiner:
        """From stabilityai/stable-diffusion-xl-refiner-1.0, or any SDXL folder."""
        return cls(open_pipeline(folder, CLASSES, device, dtype), **options)

    @torch.no_grad()
    def __call__(self, painting: UInt8[np.ndarray, "H W 3"], prompt: str, rng: Generator) -> UInt8[np.ndarray, "H W 3"]:
        """The proxy at the painting's size. No negative prompt: the usual ones argue against paintings."""
        multiple = 2 ** len(self.pipe.vae.config.block_out_channels)
        picture = at_area(painting, self.area, multiple)
        made = self.pipe(
            prompt=prompt, image=picture, strength=self.strength, num_inference_steps=self.steps,
            guidance_scale=self.guidance, generator=rng, output_type="pil",
        ).images[0]  # fmt: skip
        return back(made, painting)
