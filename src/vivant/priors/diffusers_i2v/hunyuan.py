"""HunyuanVideo image-to-video (Kong et al. 2024): flow matching; the painting beside the clip, or as its first frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Generator, Tensor

from ...process import Level, Video
from ...shot import Shot
from .base import Defaults, PipelinePrior
from .parts import PINNED, Parts, picture

OF_NOISE = 0.999
"""The pipeline starts from this much noise, the rest is the painting's latent."""

DROPPED = 4
"""Frames that the pipeline drops where the painting's latent goes beside the clip."""


class Hunyuan(PipelinePrior):
    """`HunyuanVideoImageToVideoPipeline`, both of its kinds (`latent_concat`, `token_replace`).

    A network with an embedded guidance hears the shot's guidance there and is asked once; one without is guided by the
    negative sentence, asked twice.
    """

    family = "hunyuan"
    fps = 24

    def __init__(
        self, pipe: Any, *, prompt_template: Mapping[str, Any] | None = None, max_sequence_length: int = 256,
        **options: Any,
    ) -> None:  # fmt: skip
        """`prompt_template`: what is wrapped around the sentence, the pipeline's own when None."""
        self.spatial, self.temporal = pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal
        config = pipe.transformer.config
        self.replaces = config.image_condition_type == "token_replace"
        self.channels = config.in_channels if self.replaces else (config.in_channels - 1) // 2
        self.multiple = max(16, self.spatial * config.patch_size)
        self.dtype, self.embedded = pipe.transformer.dtype, bool(config.guidance_embeds)
        self.words: dict[str, Any] = {"max_sequence_length": max_sequence_length}
        if prompt_template is not None:
            self.words["prompt_template"] = dict(prompt_template)
        super().__init__(pipe, **options)

    def defaults(self) -> Defaults:
        """6 is what the distilled networks were released with; their pipeline's 1 is for the guided ones."""
        told = super().defaults()
        return replace(told, guidance=6.0 if self.embedded else told.guidance)

    @property
    def dropped(self) -> int:
        """Frames made before the clip's own."""
        return 0 if self.replaces else DROPPED

    def asked(self, shot: Shot) -> int:
        """With the frames the pipeline drops."""
        return super().asked(shot) + self.dropped

    def made(self, num_frames: int) -> int:
        """Without them."""
        return super().made(num_frames) - self.dropped

    def timing(self, steps: int, cells: tuple[int, int, int]) -> dict[str, Any]:
        """From σ = 1 down, evenly before the scheduler's shift."""
        return {"sigmas": np.linspace(1.0, 0.0, steps + 1)[:-1]}

    def conditions(self, shot: Shot, rng: Generator) -> Parts:
        """LLaVA's reading of painting and sentence, CLIP's of the sentence, the painting's latent."""
        width, height = self.size(shot)
        # The pipeline reads the negative sentence beside a black picture, and thins its image tokens by 2 in any case.
        stride = 4 if self.replaces else 2
        parts = self._read("positive", shot.prompt, picture(shot), stride)
        parts |= self._read("negative", shot.negative, Image.new("RGB", (width, height), 0), 2)
        first = self.first(shot)
        if self.replaces:
            parts[PINNED] = first
        else:
            length = self.cells(shot)[0]
            rest = first.new_zeros(1, first.shape[1], length - 1, *first.shape[3:])
            known = first.new_zeros(1, 1, length, *first.shape[3:])
            known[:, :, 0] = 1
            parts["beside"] = torch.cat([torch.cat([first, rest], dim=2), known], dim=1)
        scale = self.card.guidance if shot.guidance is None else shot.guidance
        parts["guidance"] = torch.tensor([scale * 1000.0], device=self.device, dtype=self.dtype)
        return parts

    def _read(self, name: str, sentence: str, image: Image.Image, stride: int) -> Parts:
        pipe, device = self.pipe, self.device
        pooled = self.once(
            lambda: pipe._get_clip_prompt_embeds([sentence], 1, device=device, max_sequence_length=77),
            "pooled", sentence, device, by=pipe.text_encoder_2,
        )  # fmt: skip
        states, _, mask = self.once(
            lambda: pipe.encode_prompt(
                image=image, prompt=[sentence], pooled_prompt_embeds=pooled, device=device,
                image_embed_interleave=stride, **self.words,
            ),
            "words", sentence, np.asarray(image), stride, device, by=pipe.text_encoder,
        )  # fmt: skip
        found = {name: states, f"{name}_pooled": pooled, f"{name}_mask": mask}
        return {key: value.to(self.dtype) for key, value in found.items()}

    def first(self, shot: Shot) -> Float[Tensor, "1 C 1 h w"]:
        """The painting's latent."""
        pixels = self.pixels(shot)[:, :, None]
        return self.once(lambda: self.encode(pixels, Generator()).float(), "first", pixels, by=self.pipe.vae)

    def weights(self, shots: Sequence[Shot], level: Level) -> Float[Tensor, "B 1 L 1 1"]:
        """No second branch where guidance is embedded."""
        return torch.ones(len(shots), 1, 1, 1, 1) if self.embedded else super().weights(shots, level)

    def emit(self, z: Video, level: Level, parts: Parts, positive: bool) -> Video:
        """One branch."""
        name = "positive" if positive else "negative"
        fed = torch.cat([z, parts["beside"].to(z)], dim=1) if "beside" in parts else z
        network = self.pipe.transformer
        with self.caching.branch(network, positive):
            return network(
                hidden_states=fed.to(self.dtype), timestep=torch.full((z.shape[0],), level.t, device=z.device),
                encoder_hidden_states=parts[name], encoder_attention_mask=parts[f"{name}_mask"],
                pooled_projections=parts[f"{name}_pooled"], guidance=parts["guidance"] if self.embedded else None,
                return_dict=False,
            )[0]  # fmt: skip

    def encode(self, video: Float[Tensor, "1 3 F H W"], rng: Generator) -> Video:
        """The causal VAE."""
        vae = self.pipe.vae
        return vae.encode(video.to(vae.dtype)).latent_dist.mode() * self.pipe.vae_scaling_factor

    def anchored(self, x: Video, shot: Shot, rng: Generator) -> Video:
        """The painting's own latent in the first frame: this VAE sees all frames at once, and would blur it a little."""
        return torch.cat([self.first(shot).to(x), x[:, :, 1:]], dim=2)

    def shown(self, x: Video, shot: Shot) -> Float[Tensor, "1 3 F H W"]:
        """Without the frames the pipeline drops."""
        vae = self.pipe.vae
        return vae.decode(x.to(vae.dtype) / self.pipe.vae_scaling_factor, return_dict=False)[0][:, :, self.dropped :]

    def own_start(self, x: Video, noise: Video, level: Level) -> Video:
        """Noise with a thousandth of the painting's latent, as the pipeline mixes it."""
        return OF_NOISE * noise + (1 - OF_NOISE) * x[:, :, :1]

    def to_call(self, z: Video, shot: Shot, rng: Generator) -> Tensor:
        """(1, C, L, h, w) that the pipeline's own mixing turns into z."""
        return (z - (1 - OF_NOISE) * self.first(shot).to(z)) / OF_NOISE
