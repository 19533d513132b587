"""CogVideoX image-to-video (Yang et al. 2024): v-prediction from zero terminal SNR, the painting's latent beside the clip."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...process import Level, Video
from ...shot import Shot
from .base import Defaults, PipelinePrior
from .grid import Grid, Step
from .parts import Parts, fresh

USUAL_SIZE = (1360, 768)
"""What 1.5 was released to generate."""


class CogVideoX(PipelinePrior):
    """`CogVideoXImageToVideoPipeline`: 1.0 (one size, one length) and 1.5 (any)."""

    family = "cogvideox"

    def __init__(self, pipe: Any, *, max_sequence_length: int = 226, **options: Any) -> None:
        config = pipe.transformer.config
        self.tokens, self.temporal = max_sequence_length, pipe.vae_scale_factor_temporal
        self.spatial = pipe.vae_scale_factor_spatial
        self.multiple = max(8, self.spatial * config.patch_size)
        self.channels, self.together = config.in_channels // 2, config.patch_size_t or 1
        if config.patch_size_t:  # its configuration gives the largest size, which nobody makes
            options.setdefault("size", USUAL_SIZE)
        super().__init__(pipe, **options)
        if config.use_learned_positional_embeddings:
            self.fit = "exact"  # learned positions exist for one size only

    def defaults(self) -> Defaults:
        """The size is the one the transformer was trained at; 1.5 doubled the frame rate."""
        config, told = self.pipe.transformer.config, super().defaults()
        return replace(
            told, width=told.width or config.sample_width * self.spatial, fps=16 if config.patch_size_t else 8,
            height=told.height or config.sample_height * self.spatial,
        )  # fmt: skip

    def length(self, shot: Shot) -> int:
        """1.5 takes latent frames in twos: what fills up is made before the clip and thrown away."""
        return self.asked(shot) + self.spare(shot) * self.temporal

    def spare(self, shot: Shot) -> int:
        """Latent frames before the clip's own."""
        return -((self.asked(shot) - 1) // self.temporal + 1) % self.together

    def conditions(self, shot: Shot, rng: Generator) -> Parts:
        """T5's words, and the painting's sampled latent at the first frame."""
        pipe, device = self.pipe, self.device
        positive, negative = self.once(
            lambda: pipe.encode_prompt(
                [shot.prompt], [shot.negative], True, max_sequence_length=self.tokens, device=device
            ),
            "words", shot.prompt, shot.negative, device, by=pipe.text_encoder,
        )  # fmt: skip
        (width, height), length = self.size(shot), self.length(shot)
        pixels = self.pixels(shot).to(positive.dtype)
        _, beside = self.once(
            lambda: pipe.prepare_latents(
                pixels, 1, self.channels, length, height, width, positive.dtype, device, fresh(rng),
                torch.zeros(1, device=device),
            ),
            "beside", pixels, length, rng.initial_seed(), rng.device, by=pipe.vae,
        )  # fmt: skip
        return {"positive": positive, "negative": negative, "beside": beside}

    def emit(self, z: Video, level: Level, parts: Parts, positive: bool) -> Video:
        """One branch; positions and the 1.5 speed embedding as the pipeline makes them."""
        pipe, network, words = self.pipe, self.pipe.transformer, parts["positive" if positive else "negative"]
        frames = z.transpose(1, 2).to(words.dtype)
        height, width = (side * self.spatial for side in z.shape[-2:])
        rotary = None
        if network.config.use_rotary_positional_embeddings:
            rotary = pipe._prepare_rotary_positional_embeddings(height, width, frames.shape[1], z.device)
        with self.caching.branch(network, positive):
            out = network(
                hidden_states=torch.cat([frames, parts["beside"].to(frames)], dim=2), encoder_hidden_states=words,
                timestep=torch.full((z.shape[0],), int(level.t), device=z.device), image_rotary_emb=rotary,
                ofs=None if network.config.ofs_embed_dim is None else frames.new_full((1,), 2.0), return_dict=False,
            )[0]  # fmt: skip
        return out.transpose(1, 2).float()

    def encode(self, video: Float[Tensor, "1 3 F H W"], rng: Generator) -> Video:
        """The causal VAE on the scale the decoder takes."""
        vae = self.pipe.vae
        return vae.encode(video.to(vae.dtype)).latent_dist.mode() * self.pipe.vae_scaling_factor_image

    def shown(self, x: Video, shot: Shot) -> Float[Tensor, "1 3 F H W"]:
        """Without the latent frames that only filled up."""
        kept = x[:, :, self.spare(shot) :].transpose(1, 2)
        return self.pipe.decode_latents(kept.to(self.pipe.vae.dtype))

    def to_call(self, z: Video, shot: Shot, rng: Generator) -> Tensor:
        """(1, L, C, h, w)."""
        return super().to_call(z, shot, rng).transpose(1, 2).to(self.pipe.transformer.dtype)

    def stepper(self, grid: Grid) -> Step:
        """CogVideoX's own DPM-Solver is handed its last x0 and the timestep before."""
        if "old_pred_original_sample" not in inspect.signature(grid.scheduler.step).parameters:
            return grid.step()
        memory: dict[str, Any] = {"x0": None, "t": None}

        def advance(out: Tensor, t: Tensor, sample: Tensor, rng: Generator) -> Tensor:
            sample, x0 = grid.scheduler.step(
                out, memory["x0"], t, memory["t"], sample, generator=rng, return_dict=False
            )
            memory.update(x0=x0, t=t)
            return sample

        return advance
