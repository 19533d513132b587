"""ConsistI2V as a `VideoPrior`: frame 0 is the painting, FrameInit its start, the frame stride its strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...errors import SettingError
from ...frequency import frame_init, low_pass
from ...guidance import three_branch_weights
from ...noise import mixed
from ...process import Form, Level, Prediction, Video, coefficients, recover
from ...shot import Shot
from ..combine import masked
from ..first_frame import ddim_schedule, frozen_noise, level_at, masks, mix, pinned, sampled_latents
from ..framewise import FramewisePrior
from ..protocol import Card, Denoiser
from .net import ConsistI2VUNet
from .weights import Parts, load

CARD = Card(name="consisti2v", frames=16, fps=8, steps=50, guidance=7.5, size=(256, 256), solver="ddim")

NOISE: Mapping[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
"""The noise it is sampled with officially, linear although Stable Diffusion's own is not."""

STEPS: Mapping[str, Any] = {"steps_offset": 1, "timestep_spacing": "leading", "prediction_type": "epsilon"}
"""The official sampling where no scheduler was saved."""

SLOWEST, USUAL, FASTEST = 1.0, 3.0, 5.0
"""Frame strides: of `strength=0`, of the official samples, of `strength=1`. Training drew from 1 to 5 (Ren et al. 2024,
implementation details): the more filmed frames between two of the clip's, the more motion between them."""


@dataclass(frozen=True)
class FrameInit:
    """FrameInit's settings (Ren et al. 2024): which frequencies of space and time are the painting's, noised how far.

    `noise_level`: a training step; `d_s`, `d_t`: the filter's cuts, 0 for noise alone; `alpha`: how much noise frames
    share (PYoCo).
    """

    noise_level: int = 850
    d_s: float = 0.25
    d_t: float = 0.25
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.noise_level < 0 or min(self.d_s, self.d_t) < 0 or not self.alpha >= 0:
            raise SettingError(f"expected no negative FrameInit setting, got {self}")


def guided(
    net: ConsistI2VUNet,
    text: Float[Tensor, "2B S D"],
    first: Float[Tensor, "B C 1 h w"],
    stride: Float[Tensor, " B"] | float,
    weights: Sequence[tuple[float, float, float]],
    start: Level,
    form: Form = "epsilon",
) -> Denoiser:
    """Bind the conditions and mix three branches: [noisy frame 0, no words], [frame 0, no words], [frame 0, words].

    `text`: the B negative prompts, then the B positive ones; `weights`: the branches' weights of each clip; branches
    that weigh nothing are not computed. The noisy frame 0 is the one at `start`, the level the solver begins with.
    """
    negative, positive = text.chunk(2)
    used = [n for n in range(3) if any(clip[n] for clip in weights)]
    words = torch.cat([(negative, negative, positive)[n] for n in used])
    shares = [[clip[n] for clip in weights] for n in used]

    @torch.no_grad()
    def denoise(z: Video, level: Level) -> Prediction:
        noisy = start.a * first + start.s * frozen_noise(first, z, level)
        shown = torch.cat([(noisy, first, first)[n] for n in used])
        rest = z[:, :, 1:]
        out = net(torch.cat([rest] * len(used)), level.t, words, shown, stride).to(z.dtype)
        return pinned(first, z, recover(rest, mix(out, shares), level, *coefficients(form, level)), level)

    return denoise


class ConsistI2V(FramewisePrior):
    """The ConsistI2V model behind the four methods every prior has, and a start of its own."""

    def __init__(
        self,
        parts: Parts,
        card: Card = CARD,
        decode_frames: int = 4,
        image_guidance: float = 1.0,
        frame_init: FrameInit | None = FrameInit(),
        noise: Mapping[str, Any] = NOISE,
    ) -> None:
        """`decode_frames`: how many frames the VAE decodes at once; `image_guidance`: 1 is none, more a third branch.

        `frame_init`: None starts as every prior does. `noise` overrides the saved scheduler; {} trusts it.
        """
        if not 1 <= image_guidance <= 50:
            raise SettingError(f"expected image guidance between 1 and 50, got {image_guidance}")
        super().__init__(parts, card, decode_frames, ddim_schedule({**STEPS, **parts.scheduler}, noise))
        self.image_guidance, self.frame_init = image_guidance, frame_init

    @staticmethod
    def read(folder: Path | str, device: torch.device | str, dtype: torch.dtype) -> Parts:
        """The released folder: text_encoder, tokenizer, unet, vae."""
        return load(folder, device, dtype)

    def latents(self, shots: Sequence[Shot], rng: Generator) -> Float[Tensor, "B C 1 h w"]:
        """A sample of each painting's posterior, by the seed of `rng` alone."""
        return sampled_latents(self.parts.vae, shots, self.size(shots), self.once, rng)

    def start(self, x: Video, level: Level, rng: Generator) -> Video:
        """FrameInit: the low frequencies of `x`, noised, under the high ones of noise that frames share in part.

        Its own noise level, not `level`, says how far; as officially, the result is taken for a start at `level`.
        """
        how = self.frame_init or FrameInit(d_s=0)
        noise = mixed(x, how.alpha, rng)
        last = self.schedule.config.num_train_timesteps - 1
        passes = low_pass("gaussian", (x.shape[2], x.shape[3], x.shape[4]), how.d_s, how.d_t)
        return frame_init(x, noise, level_at(self.schedule, min(how.noise_level, last)), passes).to(x)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """Each clip with its own painting, sentence, mask, strength and guidance. `rng` is read, not advanced."""
        first, text = self.latents(shots, rng), self.words(shots)
        stride = torch.tensor([frame_stride(shot) for shot in shots], device=self.device)
        weights = [self._weights(shot) for shot in shots]
        start = self.levels(shots[0], shots[0].steps)[0]
        denoise = guided(self.parts.unet, text, first, stride, weights, start, self.form)
        mask = masks(shots, first.shape[-2:], self.device)
        return denoise if mask is None else masked(denoise, first, mask)

    def _weights(self, shot: Shot) -> tuple[float, float, float]:
        return three_branch_weights(self.image_guidance, self.guidance(shot))


def frame_stride(shot: Shot) -> float:
    """The network's frame stride: 1 to 5 with the strength, 3 when none is set."""
    strength = shot.controls.strength
    return USUAL if strength is None else SLOWEST + (FASTEST - SLOWEST) * strength
