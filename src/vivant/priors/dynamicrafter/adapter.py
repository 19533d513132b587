"""DynamiCrafter as a `VideoPrior`: a painting animated, looped, or led to a second painting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Generator, Tensor

from ...errors import ImageError, SettingError
from ...guidance import combine, rescale, text_weights, three_branch_weights
from ...noise import white
from ...process import Level, Prediction, Video, diffuse, recover
from ...shot import Shot
from ...solvers import ancestral_sigma, ddim_stochastic
from ..combine import masked
from ..frames2d import decode, encode, latent_mask, pixels, working_size
from ..once import Once
from ..protocol import Card, Denoiser
from .encoders import image_states, text_states
from .schedule import SCHEDULES, Schedule
from .weights import RATES, VARIANTS, Parts, load

SIZES = {"256": (256, 256), "512": (512, 320), "1024": (1024, 576), "512_interp": (512, 320)}
CARDS: dict[str, Card] = {
    variant: Card(
        name="dynamicrafter_" + variant.replace("512_interp", "interp"), frames=16, fps=8, steps=50,
        guidance=7.5, size=SIZES[variant], solver="ddim_stochastic",
    )
    for variant in VARIANTS
}  # fmt: skip
"""What each variant is and defaults to, by its name. A loop makes one frame less than it dreams."""

CALM_TO_LIVELY = {"256": (1, 6), "512": (30, 15), "1024": (15, 5), "512_interp": (30, 5)}
"""What `strength` 0 and 1 ask for: a larger frame stride moves more, and so does a lower frame rate."""

Mode = Literal["i2v", "loop", "interpolate"]
Network = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def guided(
    net: Network,
    contexts: Sequence[Float[Tensor, "B K D"]],
    weights: Sequence[Sequence[float]],
    concat: Float[Tensor, "B C L h w"],
    fs: Tensor,
    schedule: Schedule,
) -> Denoiser:
    """Bind the conditions, sum the branches and rescale: F = Σ wᵢ·Fᵢ, spread as the last branch's (rescale φ).

    `contexts`: one a branch, text and picture together last. `weights`: each clip's own, as many as branches, of sum 1.
    Branches that no clip weighs are not asked; all share the conditioning latents and `fs` (B,).
    """
    asked = [i for i in range(len(contexts)) if any(w[i] for w in weights)]

    @torch.no_grad()
    def denoise(z: Video, level: Level) -> Prediction:
        x = torch.cat([z, concat.to(z)], dim=1)
        t = torch.full((z.shape[0],), int(level.t), device=z.device)
        out = [net(x, t, contexts[i], fs).to(z.dtype) for i in asked]
        clips = [combine([o[b : b + 1] for o in out], [w[i] for i in asked]) for b, w in enumerate(weights)]
        mixed = torch.cat(clips)
        if schedule.rescale and len(asked) > 1:
            mixed = rescale(mixed, out[-1], schedule.rescale)
        return recover(z, mixed, level, *schedule.coefficients(level))

    return denoise


class DynamiCrafter:
    """One of the released models behind the methods every prior has, with its own start and its own solver."""

    def __init__(
        self,
        parts: Parts,
        card: Card | None = None,
        mode: Mode | None = None,
        last: np.ndarray | None = None,
        cfg_img: float | None = None,
        begin: Literal["auto", "noise", "clip"] = "auto",
        decode_frames: int = 4,
    ) -> None:
        """`mode`: "i2v", or "loop" (default) and "interpolate" of the 512_interp model, the latter towards `last`.

        `last`: (H, W, 3) uint8, the picture a clip ends on. `cfg_img`: guidance towards the painting in a branch of its
        own (three branches a step), None: text and painting together. `begin`: see `levels`. `decode_frames`: how
        many frames the VAE decodes at once. Raises `SettingError` for a mode that the variant was not trained for.
        """
        ends = parts.variant == "512_interp"
        self.mode: Mode = mode or (("loop" if last is None else "interpolate") if ends else "i2v")
        if self.mode not in ("i2v", "loop", "interpolate") or (self.mode != "i2v") != ends:
            raise SettingError(
                f"expected mode {'loop or interpolate' if ends else 'i2v'} for DynamiCrafter {parts.variant}, got "
                f"{self.mode!r}; loops and interpolation need variant 512_interp, which does nothing else"
            )
        if (last is not None) != (self.mode == "interpolate"):
            raise SettingError(f"expected a last picture for interpolation and for nothing else, mode is {self.mode!r}")
        if last is not None and (last.dtype != np.uint8 or last.ndim != 3 or last.shape[2] != 3):
            raise ImageError(f"expected an (H, W, 3) uint8 last picture, got {last.shape} {last.dtype}")
        if begin not in ("auto", "noise", "clip"):
            raise SettingError(f"expected begin auto, noise or clip, got {begin!r}")
        if cfg_img is not None and not 0 <= cfg_img <= 50:
            raise SettingError(f"expected cfg_img between 0 and 50, got {cfg_img}")
        self.parts, self.last, self.cfg_img, self.begin, self.decode_frames = parts, last, cfg_img, begin, decode_frames
        self.schedule, self.once = SCHEDULES[parts.variant], Once()
        self.extra = int(self.mode == "loop")
        usual = CARDS[parts.variant]
        self.card = card or replace(usual, frames=usual.frames - self.extra)

    @classmethod
    def from_folder(
        cls, folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
        variant: str | None = None, **options: Any,
    ) -> DynamiCrafter:  # fmt: skip
        """Load `model.safetensors` or `model.ckpt` and `tokenizer/`; `options` go to the constructor.

        `variant`: one of `CARDS`, None: what the checkpoint tells. It does not tell 512 from 512_interp: asking for a
        loop or an interpolation does.
        """
        if variant is not None and variant not in CARDS:
            raise SettingError(f"expected a DynamiCrafter variant among {', '.join(CARDS)}, got {variant!r}")
        parts = load(folder, device, dtype, variant)
        if variant is None and parts.variant == "512" and options.get("mode") in ("loop", "interpolate"):
            parts = replace(parts, variant="512_interp")
        return cls(parts, **options)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.parts.vae.device

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        """The official timesteps, then (1, 0, 0).

        The 512 and 1024 models begin at pure noise, a = 0, where nothing of a distilled or fused clip would be left,
        and where a network that learnt to expect pure noise would not look for it. So a shot that is distilled or
        fused with a proxy's begins later, at the first level that keeps as much of the clip as the last step of the
        ε-models does, on which the method was built (`Schedule.carrying`: a/s = 0.068), with its steps spread over what
        remains: distillation and solver see the same levels. Any other shot is sampled as officially. `begin="clip"` and
        "noise" choose one for every shot.
        """
        carry = (shot.distil > 0 or shot.fused) if self.begin == "auto" else self.begin == "clip"
        return self.schedule.levels(steps, carry and self.schedule.zero_snr)

    def start(self, x: Video, level: Level, rng: Generator) -> Video:
        """The clip at `level`; a clip that only stands still becomes pure noise where the official sampler begins.

        With `begin` at odds with the shot a clip that moves may meet a = 0: it is then noised to the level that carries
        it and handed to the solver all the same, which makes little of it.
        """
        noise = white(x, rng)
        official = level.a == 0 or not self.schedule.zero_snr
        if official and torch.equal(x, x[:, :, :1].expand_as(x)):
            return noise
        return diffuse(x, noise, level if level.a > 0 else self.schedule.at([self.schedule.carrying])[0])

    def solve(self, denoise: Denoiser, z: Video, levels: Sequence[Level], rng: Generator) -> Video:
        """The official sampler: DDIM with η = 1, its noise that of ᾱ, its last step to ᾱ of the first training step."""
        if len(levels) < 2:
            return z
        return ddim_stochastic(denoise, z, [*levels[:-1], self.schedule.end(levels[-2])], rng, ancestral_sigma())

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """Each painting's latent, repeated: (B, 4, frames, h, w), one frame more for a loop. Draws nothing."""
        return self._latents(shots, None).repeat(1, 1, shots[0].frames + self.extra, 1, 1)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """Each clip with its own painting, sentence, mask, strength and guidance.

        `rng` gives the VAE's sample of each painting, one noise for all clips. Sixteen latent frames have sixteen
        picture tokens each; any other number of frames shares all 256, as the network was written.
        """
        concat = self._concat(shots, rng)
        empty, words = self._words([s.negative for s in shots]), self._words([s.prompt for s in shots])
        seen = torch.cat([self._tokens(pixels(shot, self._size(shots))) for shot in shots])
        unseen = self._tokens(torch.zeros(1, 3, 224, 224)).expand_as(seen)
        contexts = [torch.cat(pair, dim=1) for pair in ((empty, unseen), (empty, seen), (words, seen))]
        weights = []
        for shot in shots:
            g = self.card.guidance if shot.guidance is None else shot.guidance
            none, both = text_weights(g)
            weights.append((none, 0.0, both) if self.cfg_img is None else three_branch_weights(self.cfg_img, g))
        fs = torch.tensor([frame_rate(shot, self.parts.variant) for shot in shots], device=self.device)
        denoise = guided(self.parts.unet, contexts, weights, concat, fs, self.schedule)
        if all(shot.controls.mask is None for shot in shots):
            return denoise
        mask = torch.cat([latent_mask(shot, concat.shape[-2:], self.device) for shot in shots])
        return masked(denoise, self.still(shots, rng), mask)

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """Latents (B, 4, L, h, w) to float32 frames in [-1, 1]; a loop's last frame is its first, and left out."""
        return decode(self.parts.vae, x[:, :, : x.shape[2] - self.extra], self.decode_frames)

    def _size(self, shots: Sequence[Shot]) -> tuple[int, int]:
        """Pixels: sides that the VAE and then the UNet can halve evenly."""
        shrinks = 2 ** (len(self.parts.vae.config.block_out_channels) - 1)
        return working_size(
            shots[0].painting.shape[1::-1], self.card.size, shrinks * self.parts.unet.config.multiple
        )  # fmt: skip

    def _latents(self, shots: Sequence[Shot], rng: Generator | None) -> Float[Tensor, "B C 1 h w"]:
        """The mode of each painting's posterior, or a sample of it: the same noise for every painting."""
        if rng is None:
            return encode(self.parts.vae, shots, self._size(shots), self.once)
        before, out = rng.get_state(), []
        for shot in shots:
            rng.set_state(before)
            out.append(encode(self.parts.vae, [shot], self._size(shots), self.once, rng))
        return torch.cat(out)

    def _concat(self, shots: Sequence[Shot], rng: Generator) -> Float[Tensor, "B C L h w"]:
        """The conditioning latents: the painting on every frame, or on the first alone with the end on the last."""
        first = self._latents(shots, rng)
        frames = shots[0].frames + self.extra
        if self.mode == "i2v":
            return first.repeat(1, 1, frames, 1, 1)
        last = first
        if self.last is not None:
            last = self._latents([shot.seen_as(_fitted(self.last, shot.painting)) for shot in shots], rng)
        gap = torch.zeros_like(first).repeat(1, 1, frames - 2, 1, 1)
        return torch.cat([first, gap, last], dim=2)

    def _words(self, sentences: list[str]) -> Float[Tensor, "B S D"]:
        encoder = self.parts.text
        return self.once.each(
            lambda said: text_states(self.parts.tokenizer, encoder, said), sentences, self.device, by=encoder
        )

    @torch.no_grad()
    def _tokens(self, picture: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 Q D"]:
        image, resampler = self.parts.image, self.parts.resampler
        return self.once(
            lambda: resampler(image_states(image, picture.to(self.device))),
            "seen",
            picture,
            self.device,
            by=(image, resampler),
        )


def frame_rate(shot: Shot, variant: str) -> int:
    """The network's `fs`: the variant's own without a strength, else a whole number in the range it was trained on."""
    strength = shot.controls.strength
    if strength is None:
        return RATES[variant]
    calm, lively = CALM_TO_LIVELY[variant]
    return round(calm + strength * (lively - calm))


def _fitted(picture: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A picture cropped about its centre and resized to another's size."""
    return np.array(ImageOps.fit(Image.fromarray(picture), like.shape[1::-1], Image.Resampling.LANCZOS))
