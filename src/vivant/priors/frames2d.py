"""What the base models with Stable Diffusion's image VAE and CLIP text encoder share: a frame is a latent picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Generator, Tensor

from ..process import Video
from ..shot import Shot
from .once import Once

MULTIPLE = 8
"""Sides are rounded to multiples of this many pixels."""


def working_size(painting: tuple[int, ...], size: tuple[int, int] | None, multiple: int = MULTIPLE) -> tuple[int, int]:
    """(width, height) in pixels: `size`'s area in the painting's aspect, sides rounded to `multiple`."""
    scale = 1.0 if size is None else math.sqrt(size[0] * size[1] / (painting[0] * painting[1]))
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in painting)
    return width, height


def pixels(shot: Shot, size: tuple[int, int]) -> Float[Tensor, "1 3 H W"]:
    """The painting at (width, height), in [-1, 1]."""
    picture = Image.fromarray(shot.painting).resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


@torch.no_grad()
def encode(
    vae: Any, shots: Sequence[Shot], size: tuple[int, int], once: Once, rng: Generator | None = None
) -> Float[Tensor, "B C 1 h w"]:
    """Each painting's scaled latent, float32: the mode of the posterior, or a sample of it when `rng` is given.

    The posterior is computed `once`, the sample drawn every time.
    """

    def spread(picture: Tensor) -> tuple[Tensor, Tensor]:
        posterior = vae.encode(picture).latent_dist
        return posterior.mean.float(), posterior.std.float()

    out = []
    for shot in shots:
        picture = pixels(shot, size).to(vae.device, vae.dtype)
        z, std = once(partial(spread, picture), "latent", picture, by=vae)
        if rng is not None:
            z = z + std * torch.randn(z.shape, generator=rng, device=rng.device).to(z)
        out.append(z * vae.config.scaling_factor)
    return torch.cat(out)[:, :, None]


@torch.no_grad()
def decode(vae: Any, x: Video, at_once: int) -> Float[Tensor, "B 3 F H W"]:
    """Latents (B, 4, F, h, w) to float32 frames in [-1, 1], `at_once` at a time."""
    flat = (x.transpose(1, 2).flatten(0, 1) / vae.config.scaling_factor).to(vae.dtype)
    frames = [vae.decode(part).sample.float().clamp(-1, 1) for part in flat.split(at_once)]
    return torch.cat(frames).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def latent_mask(shot: Shot, size: Sequence[int], device: torch.device) -> Float[Tensor, "1 1 1 h w"]:
    """The motion mask at latent size, soft edges kept; ones where none was given."""
    mask = shot.controls.mask
    if mask is None:
        return torch.ones(1, 1, 1, *size, device=device)
    small = torch.nn.functional.interpolate(
        torch.from_numpy(np.array(mask, dtype=np.float32))[None, None], size=tuple(size), mode="bilinear"
    )
    return small[:, :, None].to(device)


@torch.no_grad()
def text_states(tokenizer: Any, encoder: Any, prompts: list[str]) -> Float[Tensor, "N S D"]:
    """The text encoder's last hidden states; longer sentences are cut."""
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return encoder(tokens.input_ids.to(encoder.device))[0]
