"""What base models of one released folder share that see a clip frame by frame: an image VAE, CLIP's words, a schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..errors import SettingError
from ..process import Form, Level, Video, scheduler_levels
from ..shot import Shot
from .first_frame import form_of
from .folder import Parts
from .frames2d import decode, text_states, working_size
from .once import Once
from .protocol import Card, Denoiser

if TYPE_CHECKING:
    from typing import Self


class FramewisePrior(ABC):
    """Three of the four methods every prior has; a model adds its latents and its denoiser."""

    def __init__(self, parts: Parts[Any], card: Card, decode_frames: int, schedule: Any) -> None:
        """`decode_frames`: how many frames the VAE decodes at once; fewer need less memory."""
        self.parts, self.card, self.decode_frames, self.schedule = parts, card, decode_frames, schedule
        self.form: Form = form_of(schedule)
        self.once = Once()

    @staticmethod
    @abstractmethod
    def read(folder: Path | str, device: torch.device | str, dtype: torch.dtype) -> Parts[Any]:
        """The released folder's parts."""

    @abstractmethod
    def latents(self, shots: Sequence[Shot], rng: Generator) -> Float[Tensor, "B C 1 h w"]:
        """Each painting's latent; `rng` is read, not advanced."""

    @abstractmethod
    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """A denoiser for B = len(shots) clips."""

    @classmethod
    def from_folder(
        cls, folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, **options: Any
    ) -> Self:
        """Load the released folder; `options` go to the constructor."""
        return cls(cls.read(folder, device, dtype), **options)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.parts.unet.conv_out.weight.device

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        """`steps` levels at the schedule's own spacing, from the noisiest on, then (1, 0, 0)."""
        most = self.schedule.config.num_train_timesteps - 1
        if not 1 <= steps <= most:
            raise SettingError(f"expected between 1 and {most} steps for {self.card.name}, got {steps}")
        return scheduler_levels(self.schedule, steps)

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """Each painting's latent, repeated over the frames: (B, 4, frames, h, w). All take the first shot's size."""
        return self.latents(shots, rng).repeat(1, 1, shots[0].frames, 1, 1)

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """Latents (B, 4, F, h, w) to float32 frames in [-1, 1], `decode_frames` at a time."""
        return decode(self.parts.vae, x, self.decode_frames)

    def size(self, shots: Sequence[Shot]) -> tuple[int, int]:
        """(width, height) in pixels: the first painting's aspect at the card's area."""
        return working_size(shots[0].painting.shape[1::-1], self.card.size)

    def words(self, shots: Sequence[Shot]) -> Float[Tensor, "2B S D"]:
        """The text encoder's states of the B negative sentences, then of the B positive ones."""
        encoder = self.parts.text_encoder
        said = [shot.negative for shot in shots] + [shot.prompt for shot in shots]
        return self.once.each(
            lambda one: text_states(self.parts.tokenizer, encoder, one), said, self.device, by=encoder
        )

    def guidance(self, shot: Shot) -> float:
        """The shot's guidance, or the model's own."""
        return self.card.guidance if shot.guidance is None else shot.guidance
