"""Wan (Wan team 2025): 2.1, 2.2 with two experts (high noise, low noise), and the small 2.2 with a clean first frame."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...process import Level, Video
from ...shot import Shot
from .base import Defaults, PipelinePrior
from .parts import PINNED, Parts, picture


class Wan(PipelinePrior):
    """`WanImageToVideoPipeline`, all three kinds, told apart by the pipeline's own configuration."""

    family = "wan"
    fps = 16

    def __init__(
        self, pipe: Any, *, low_noise_guidance: float | None = None, max_sequence_length: int = 512, **options: Any
    ) -> None:
        """`low_noise_guidance`: the second expert's guidance, the shot's when None."""
        self.low_noise_guidance, self.tokens = low_noise_guidance, max_sequence_length
        self.spatial, self.temporal = pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal
        some = pipe.transformer if pipe.transformer is not None else pipe.transformer_2
        self.multiple = max(16, self.spatial * some.config.patch_size[1])
        self.channels = pipe.vae.config.z_dim
        self.patch, self.dtype, self.sees = some.config.patch_size, some.dtype, some.config.image_dim is not None
        _lend_ftfy(pipe)
        super().__init__(pipe, **options)

    def conditions(self, shot: Shot, rng: Generator) -> Parts:
        """UMT5's words, CLIP's view where the network wants it, and the painting's latent: beside the clip, or in it."""
        pipe, device = self.pipe, self.device
        positive, negative = self.once(
            lambda: pipe.encode_prompt(
                [shot.prompt], [shot.negative], True, max_sequence_length=self.tokens, device=device
            ),
            "words", shot.prompt, shot.negative, device, by=pipe.text_encoder,
        )  # fmt: skip
        parts = {"positive": positive.to(self.dtype), "negative": negative.to(self.dtype)}
        if self.sees:
            seen = self.once(
                lambda: pipe.encode_image(picture(shot), device), "seen", shot.painting, device, by=pipe.image_encoder
            )
            parts["image"] = seen.to(self.dtype)
        parts[PINNED if pipe.config.expand_timesteps else "beside"] = self.beside(shot)
        return parts

    def beside(self, shot: Shot) -> Float[Tensor, "1 C L h w"]:
        """The painting's latent as the pipeline makes it: with a mask beside the whole clip, or one frame to pin."""
        (width, height), length, pixels, device = self.size(shot), self.length(shot), self.pixels(shot), self.device
        return self.once(
            lambda: self.pipe.prepare_latents(
                pixels, 1, self.channels, height, width, length, torch.float32, device, None,
                torch.zeros(1, device=device),
            )[1],
            "beside", pixels, length, by=self.pipe.vae,
        )  # fmt: skip

    def made(self, num_frames: int) -> int:
        """This pipeline rounds its own way."""
        return num_frames if num_frames % self.temporal == 1 else num_frames // self.temporal * self.temporal + 1

    def expert(self, level: Level) -> tuple[Any, bool]:
        """The network for this level, and whether it is the low-noise one."""
        ratio = self.pipe.config.boundary_ratio
        low = ratio is not None and level.t < ratio * self.pipe.scheduler.config.num_train_timesteps
        return (self.pipe.transformer_2 if low else self.pipe.transformer), low

    def weights(self, shots: Sequence[Shot], level: Level) -> Float[Tensor, "B 1 L 1 1"]:
        """The shot's guidance; the second expert's own where one was given."""
        if self.low_noise_guidance is not None and self.expert(level)[1]:
            shots = [replace(shot, guidance=self.low_noise_guidance) for shot in shots]
        return super().weights(shots, level)

    def emit(self, z: Video, level: Level, parts: Parts, positive: bool) -> Video:
        """A clean first frame has its own clock: 0."""
        network, _ = self.expert(level)
        time = torch.full((z.shape[0],), level.t, device=z.device)
        if PINNED in parts:
            rows, columns = (side // p for side, p in zip(z.shape[-2:], self.patch[1:], strict=True))
            tokens = torch.ones(z.shape[2] // self.patch[0], rows * columns, device=z.device)
            tokens[0] = 0
            time = time[:, None] * tokens.flatten()
        fed = torch.cat([z, parts["beside"].to(z)], dim=1) if "beside" in parts else z
        with self.caching.branch(network, positive):
            return network(
                hidden_states=fed.to(self.dtype), timestep=time,
                encoder_hidden_states=parts["positive" if positive else "negative"],
                encoder_hidden_states_image=parts.get("image"), return_dict=False,
            )[0]  # fmt: skip

    def encode(self, video: Float[Tensor, "1 3 F H W"], rng: Generator) -> Video:
        """The causal VAE, normalised channel by channel."""
        vae = self.pipe.vae
        mean, std = _scales(vae)
        latent = vae.encode(video.to(self.device, vae.dtype)).latent_dist.mode().float()
        return (latent - mean.to(latent)) / std.to(latent)

    def shown(self, x: Video, shot: Shot) -> Float[Tensor, "1 3 F H W"]:
        """Back through the causal VAE."""
        vae = self.pipe.vae
        mean, std = _scales(vae)
        x = x.to(vae.dtype)
        return vae.decode(x * std.to(x) + mean.to(x), return_dict=False)[0]

    def anchored(self, x: Video, shot: Shot, rng: Generator) -> Video:
        """The pinned first frame, so that the still is what the network holds still."""
        if not self.pipe.config.expand_timesteps:
            return x
        return torch.cat([self.beside(shot).to(x), x[:, :, 1:]], dim=2)

    def defaults(self) -> Defaults:
        """The small 2.2 was trained at 704 lines and 24 frames a second."""
        told = super().defaults()
        if not self.pipe.config.expand_timesteps:
            return told
        return replace(told, fps=24)


def _scales(vae: Any) -> tuple[Tensor, Tensor]:
    config = vae.config
    return tuple(torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))  # type: ignore[return-value]


def _lend_ftfy(pipe: Any) -> None:
    """diffusers cleans Wan's sentences with the optional package ftfy, and stumbles where it is missing (0.42).

    Of what it does, sentences typed in Unicode need composed characters and straight quotes.
    """
    code = import_module(type(pipe).__module__)
    if not hasattr(code, "ftfy"):
        code.ftfy = SimpleNamespace(fix_text=mended)  # type: ignore[attr-defined]


def mended(text: str) -> str:
    """`text` with composed characters and straight quotes."""
    return unicodedata.normalize("NFC", text).translate(str.maketrans("‘’“”", "''\"\""))
