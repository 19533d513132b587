"""Cinemo as a `VideoPrior`: motion residuals turned into frames, DCTInit its start, the motion id its strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...errors import SettingError
from ...frequency import dct_init
from ...guidance import text_weights
from ...noise import white
from ...process import Form, Level, Prediction, Video, coefficients, diffuse, recover
from ...shot import Shot
from ..combine import masked
from ..first_frame import ddim_schedule, level_at, masks, mix, pinned, sampled_latents
from ..framewise import FramewisePrior
from ..protocol import Card, Denoiser
from .net import CinemoUNet
from .weights import Parts, load

CARD = Card(name="cinemo", frames=16, fps=8, steps=50, guidance=7.5, size=(512, 320), solver="ddim")

NOISE: Mapping[str, Any] = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
"""The noise it is sampled with officially, in place of whatever its scheduler was saved with."""


@dataclass(frozen=True)
class MotionIds:
    """The motion ids of a still, an ordinary and a lively clip: strength 0, none set, strength 1.

    The paper measures intensity by the structural similarity of a clip's frames (Ma et al. 2024), so the larger the id
    the less moves. The released application asks for 80 to 99, 90 unless told; notes beside the released settings say
    otherwise in places, so the direction is given here, once, checked, and can be turned round.
    """

    still: float = 99.0
    usual: float = 90.0
    lively: float = 80.0

    def __post_init__(self) -> None:
        low, high = sorted((self.still, self.lively))
        if not (0 <= low < high <= 100 and low <= self.usual <= high):
            raise SettingError(f"expected motion ids in 0..100, the usual one between two others, got {self}")

    def of(self, shot: Shot) -> float:
        """The motion id of a shot."""
        strength = shot.controls.strength
        return self.usual if strength is None else self.still + (self.lively - self.still) * strength


@dataclass(frozen=True)
class DCTInit:
    """DCTInit's settings (Ma et al. 2024): the share of each spatial frequency axis taken from the painting, noised.

    `noise_level`: a training step. A share of 0 starts from noise alone.
    """

    noise_level: int = 975
    share: float = 0.23

    def __post_init__(self) -> None:
        if self.noise_level < 0 or not 0 <= self.share <= 1:
            raise SettingError(f"expected a noise level from 0 on and a share between 0 and 1, got {self}")


def guided(
    net: CinemoUNet,
    text: Float[Tensor, "2B S D"],
    first: Float[Tensor, "B C 1 h w"],
    motion: Float[Tensor, " B"] | float,
    weights: Sequence[tuple[float, float]],
    form: Form = "epsilon",
) -> Denoiser:
    """Bind the conditions and mix two branches, without words and with them.

    `text`: the B negative prompts, then the B positive ones; `weights`: the branches' weights of each clip; a branch
    that weighs nothing is not computed. What is denoised are frames: the network sees z - a·first and its x̂0 has
    `first` added. Noise is noise of either, so ε̂ stays.
    """
    used = [n for n in range(2) if any(clip[n] for clip in weights)]
    words = torch.cat([text.chunk(2)[n] for n in used])
    shares = [[clip[n] for clip in weights] for n in used]

    @torch.no_grad()
    def denoise(z: Video, level: Level) -> Prediction:
        residual = z[:, :, 1:] - level.a * first
        out = net(torch.cat([residual] * len(used)), level.t, words, first, motion).to(z.dtype)
        x0, eps = recover(residual, mix(out, shares), level, *coefficients(form, level))
        return pinned(first, z, Prediction(first + x0, eps), level)

    return denoise


class Cinemo(FramewisePrior):
    """The Cinemo model behind the four methods every prior has, and a start of its own.

    Latents are all frames, the painting's first: L = 1 + 15, not the 15 residuals the network denoises. Frame 0 of the
    slerp is then the painting, the last frame the proxy's end, as in every prior; and masks, which hold frames still,
    need no word about residuals. Frame 0 is pinned: its residual is 0 by definition.
    """

    def __init__(
        self,
        parts: Parts,
        card: Card = CARD,
        decode_frames: int = 14,
        motion_ids: MotionIds = MotionIds(),
        dct_init: DCTInit | None = DCTInit(),
        noise: Mapping[str, Any] = NOISE,
    ) -> None:
        """`decode_frames`: how many frames the VAE decodes at once; the temporal decoder sees these and no others.

        `dct_init`: None starts from noise. `noise` overrides the saved scheduler; {} trusts it.
        """
        super().__init__(parts, card, decode_frames, ddim_schedule(parts.scheduler, noise))
        self.motion_ids, self.dct_init = motion_ids, dct_init

    @staticmethod
    def read(folder: Path | str, device: torch.device | str, dtype: torch.dtype) -> Parts:
        """The released folder: scheduler, text encoder, tokenizer, UNet, VAE."""
        return load(folder, device, dtype)

    def latents(self, shots: Sequence[Shot], rng: Generator) -> Float[Tensor, "B C 1 h w"]:
        """A sample of each painting's posterior, by the seed of `rng` alone."""
        return sampled_latents(self.parts.vae, shots, self.size(shots), self.once, rng)

    def start(self, x: Video, level: Level, rng: Generator) -> Video:
        """DCTInit: residuals start with the low spatial frequencies of the frames of `x`, noised; the rest is noise.

        As officially, it is the frames and not their residuals that are noised, to its own noise level, not `level`.
        Frame 0 of `x` is taken for the painting.
        """
        how = self.dct_init or DCTInit(share=0)
        first, noise = x[:, :, :1], white(x, rng)
        last = self.schedule.config.num_train_timesteps - 1
        noised = level_at(self.schedule, min(how.noise_level, last))
        residual = dct_init(x[:, :, 1:], noise[:, :, 1:], noised, how.share).to(x)
        return torch.cat([diffuse(first, noise[:, :, :1], level), level.a * first + residual], dim=2)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """Each clip with its own painting, sentence, mask, strength and guidance. `rng` is read, not advanced."""
        first, text = self.latents(shots, rng), self.words(shots)
        motion = torch.tensor([self.motion_ids.of(shot) for shot in shots], device=self.device)
        weights = [text_weights(self.guidance(shot)) for shot in shots]
        denoise = guided(self.parts.unet, text, first, motion, weights, self.form)
        mask = masks(shots, first.shape[-2:], self.device)
        return denoise if mask is None else masked(denoise, first, mask)

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """Latents (B, 4, F, h, w) to float32 frames in [-1, 1], `decode_frames` at a time."""
        if not self.parts.over_time:
            return super().decode(x, shot)
        return torch.stack([self._over_time(clip) for clip in x])

    @torch.no_grad()
    def _over_time(self, clip: Float[Tensor, "C F h w"]) -> Float[Tensor, "3 F H W"]:
        vae = self.parts.vae
        parts = (clip.transpose(0, 1) / vae.config.scaling_factor).to(vae.dtype).split(self.decode_frames)
        frames = [vae.decode(part, num_frames=len(part)).sample.float().clamp(-1, 1) for part in parts]
        return torch.cat(frames).transpose(0, 1)
