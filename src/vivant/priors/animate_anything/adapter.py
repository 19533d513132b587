"""AnimateAnything as a `VideoPrior`: its own mask channel, its own strength, its VAE and text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...errors import WeightsError
from ...process import Form, Level, Prediction, Video, coefficients, recover
from ...shot import Shot
from ..folder import first_line
from ..frames2d import encode, latent_mask
from ..framewise import FramewisePrior
from ..protocol import Card, Denoiser
from .net import AnimateAnythingUNet
from .weights import Parts, load

CARD = Card(name="animate_anything", frames=16, fps=8, steps=25, guidance=9.0, size=(512, 512), gain=1.0)

STRONGEST = 16.0
"""The strength id of `strength=1` when everything moves."""

USUAL = 8.0
"""The strength id when none is asked for: what the model's authors, and Every Painting Awakened, sample with."""

SCHEDULE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
    "prediction_type",
)  # fmt: skip
"""What is read of a saved scheduler: the noise it was trained with, not how it was last sampled."""


def guided(
    net: AnimateAnythingUNet,
    text: Float[Tensor, "2B S D"],
    condition: Float[Tensor, "b C 1 h w"],
    mask: Float[Tensor, "b 1 1 h w"] | None,
    motion: Tensor | float | None,
    guidance: Float[Tensor, " B"] | float,
    form: Form = "epsilon",
) -> Denoiser:
    """Bind the conditions and apply F = F_neg + g·(F_pos - F_neg).

    `text` holds the B negative prompts, then the B positive ones; both halves share painting, mask and strength.
    `guidance` is one g for all clips or one a clip.
    """
    scale = torch.as_tensor(guidance, device=text.device).reshape(-1, 1, 1, 1, 1)

    @torch.no_grad()
    def denoise(z: Video, level: Level) -> Prediction:
        out = net(torch.cat([z, z]), level.t, text, condition, mask, motion).to(z.dtype)
        negative, positive = out.chunk(2)
        mixed = negative + scale.to(z.dtype) * (positive - negative)
        return recover(z, mixed, level, *coefficients(form, level))

    return denoise


class AnimateAnything(FramewisePrior):
    """The AnimateAnything 512 model behind the four methods every prior has."""

    def __init__(self, parts: Parts, card: Card = CARD, decode_frames: int = 4) -> None:
        """`decode_frames`: how many frames the VAE decodes at once; fewer need less memory."""
        super().__init__(parts, card, decode_frames, noise_schedule(parts.scheduler))

    @staticmethod
    def read(folder: Path | str, device: torch.device | str, dtype: torch.dtype) -> Parts:
        """The released folder: scheduler, text_encoder, tokenizer, unet, vae."""
        return load(folder, device, dtype)

    def latents(self, shots: Sequence[Shot], rng: Generator) -> Float[Tensor, "B C 1 h w"]:
        """The mode of each painting's posterior: draws nothing."""
        return encode(self.parts.vae, shots, self.size(shots), self.once)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """Each clip with its own painting, sentence, mask, strength and guidance. Draws nothing from `rng`."""
        condition = self.latents(shots, rng)
        mask = torch.cat([latent_mask(shot, condition.shape[-2:], self.device) for shot in shots])
        motion = torch.tensor([strength_id(s, float(m.mean())) for s, m in zip(shots, mask, strict=True)])
        scales = torch.tensor([self.guidance(shot) for shot in shots], device=self.device)
        return guided(
            self.parts.unet, self.words(shots), condition, mask, motion.to(self.device), scales, self.form
        )  # fmt: skip


def strength_id(shot: Shot, moving: float) -> float:
    """The network's strength id: 16 · strength · the share of the picture that moves, 8 when no strength is set.

    It shrinks with the mask because the model was trained on the motion of the whole frame, still parts included.
    """
    strength = shot.controls.strength
    return USUAL if strength is None else STRONGEST * strength * moving


def noise_schedule(saved: Mapping[str, Any]) -> Any:
    """The saved scheduler's noise, sampled at DPM-Solver's linearly spaced timesteps, whatever it was saved with."""
    from diffusers import DPMSolverMultistepScheduler

    if saved.get("trained_betas") is None:
        for name in ("beta_start", "beta_end", "beta_schedule"):
            if name not in saved:  # diffusers would fill in another model's noise
                raise WeightsError(f"expected {name} in scheduler_config.json, found none; download the folder again")
    kept = {name: saved[name] for name in SCHEDULE if name in saved}
    try:
        return DPMSolverMultistepScheduler(**kept, timestep_spacing="linspace")
    except Exception as error:
        raise WeightsError(f"scheduler_config.json describes no noise schedule: {first_line(error)}") from None
