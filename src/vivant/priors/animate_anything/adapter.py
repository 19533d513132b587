"""AnimateAnything as a `VideoPrior`: its own mask channel, its own strength, its VAE and text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...errors import SettingError, WeightsError
from ...process import Form, Level, Prediction, Video, coefficients, recover, scheduler_levels
from ...shot import Shot
from ..folder import first_line
from ..frames2d import decode, encode, latent_mask, text_states, working_size
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


class AnimateAnything:
    """The AnimateAnything 512 model behind the four methods every prior has."""

    def __init__(self, parts: Parts, card: Card = CARD, decode_frames: int = 4) -> None:
        """`decode_frames`: how many frames the VAE decodes at once; fewer need less memory."""
        self.card, self.parts, self.decode_frames = card, parts, decode_frames
        self.schedule = noise_schedule(parts.scheduler)
        self.form: Form = self.schedule.config.prediction_type
        if self.form not in ("epsilon", "v_prediction", "sample"):
            raise WeightsError(f"expected a scheduler that predicts epsilon, v_prediction or sample, got {self.form!r}")

    @classmethod
    def from_folder(
        cls, folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, **options: Any
    ) -> AnimateAnything:
        """Load the released folder (scheduler, text_encoder, tokenizer, unet, vae); `options` go to the constructor."""
        return cls(load(folder, device, dtype), **options)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.parts.unet.conv_out.weight.device

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        """`steps` levels evenly spread over the training steps, from the noisiest on, then (1, 0, 0)."""
        most = self.schedule.config.num_train_timesteps - 1
        if not 1 <= steps <= most:
            raise SettingError(f"expected between 1 and {most} steps for {self.card.name}, got {steps}")
        return scheduler_levels(self.schedule, steps)

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """Each painting's latent, repeated over the frames: (B, 4, frames, h, w). All take the first shot's size."""
        return self._latents(shots).repeat(1, 1, shots[0].frames, 1, 1)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """Each clip with its own painting, sentence, mask, strength and guidance. Draws nothing from `rng`."""
        condition = self._latents(shots)
        mask = torch.cat([latent_mask(shot, condition.shape[-2:], self.device) for shot in shots])
        motion = torch.tensor([strength_id(s, float(m.mean())) for s, m in zip(shots, mask, strict=True)])
        sentences = [s.negative for s in shots] + [s.prompt for s in shots]
        text = text_states(self.parts.tokenizer, self.parts.text_encoder, sentences)
        scales = [self.card.guidance if s.guidance is None else s.guidance for s in shots]
        return guided(
            self.parts.unet, text, condition, mask, motion.to(self.device), torch.tensor(scales, device=self.device),
            self.form,
        )  # fmt: skip

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """Latents (B, 4, F, h, w) to float32 frames in [-1, 1], `decode_frames` at a time."""
        return decode(self.parts.vae, x, self.decode_frames)

    def _latents(self, shots: Sequence[Shot]) -> Float[Tensor, "B C 1 h w"]:
        return encode(self.parts.vae, shots, working_size(shots[0].painting.shape[1::-1], self.card.size))


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
