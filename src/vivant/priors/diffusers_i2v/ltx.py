"""LTX-Video image-to-video (HaCohen et al. 2025): flow matching with the painting as a clean first latent frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...process import Level, Video
from ...shot import Shot
from .base import PipelinePrior
from .parts import PINNED, Parts, fresh


class LTX(PipelinePrior):
    """`LTXImageToVideoPipeline`. Its transformer takes a clip as a row of tokens; here it stays (B, C, L, h, w)."""

    family = "ltx"
    fps = 25

    def __init__(
        self, pipe: Any, *, decode_timestep: float = 0.05, decode_noise_scale: float = 0.025,
        max_sequence_length: int = 128, **options: Any,
    ) -> None:  # fmt: skip
        """`decode_timestep`, `decode_noise_scale`: how much of the last denoising a decoder that can is left to do."""
        self.decode_timestep, self.decode_noise, self.tokens = decode_timestep, decode_noise_scale, max_sequence_length
        self.spatial, self.temporal = pipe.vae_spatial_compression_ratio, pipe.vae_temporal_compression_ratio
        self.patch = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        self.multiple = max(32, self.spatial * self.patch[0])
        self.channels = pipe.transformer.config.in_channels
        super().__init__(pipe, **options)

    def timing(self, steps: int, cells: tuple[int, int, int]) -> dict[str, Any]:
        """The shift of the flow's clock grows with the number of tokens (Esser et al. 2024, §5.3.2)."""
        config = self.pipe.scheduler.config
        few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        mu = low + (cells[0] * cells[1] * cells[2] - few) * (high - low) / (many - few)
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}

    def conditions(self, shot: Shot, rng: Generator) -> Parts:
        """T5's words with their mask, and the painting's sampled latent for the first frame."""
        device = self.device
        positive, mask, negative, negative_mask = self.once(
            lambda: self.pipe.encode_prompt(
                [shot.prompt], [shot.negative], True, max_sequence_length=self.tokens, device=device
            ),
            "words", shot.prompt, shot.negative, device, by=self.pipe.text_encoder,
        )  # fmt: skip
        return {
            "positive": positive, "positive_mask": mask, "negative": negative, "negative_mask": negative_mask,
            "rate": torch.tensor([shot.fps]), PINNED: self.first(shot, rng, positive.dtype),
        }  # fmt: skip

    def first(self, shot: Shot, rng: Generator, dtype: torch.dtype) -> Float[Tensor, "1 C 1 h w"]:
        """The painting's latent as the pipeline samples it."""
        width, height = self.size(shot)
        pixels = self.pixels(shot).to(dtype)
        # One latent frame: the pipeline's noise for the others would be drawn and thrown away.
        tokens, _ = self.once(
            lambda: self.pipe.prepare_latents(
                pixels, 1, self.channels, height, width, 1, torch.float32, self.device, fresh(rng)
            ),
            "first", pixels, rng.initial_seed(), rng.device, by=self.pipe.vae,
        )  # fmt: skip
        return self.unpack(tokens, (1, height // self.spatial, width // self.spatial))

    def emit(self, z: Video, level: Level, parts: Parts, positive: bool) -> Video:
        """The first frame's tokens have clock 0."""
        network, name = self.pipe.transformer, "positive" if positive else "negative"
        cells = tuple(z.shape[2:])
        clock = torch.full((z.shape[0], 1, *cells), level.t, device=z.device)
        clock[:, :, 0] = 0
        rate = float(parts["rate"][0])
        with self.caching.branch(network, positive):
            out = network(
                hidden_states=self.pack(z).to(parts[name].dtype), encoder_hidden_states=parts[name],
                timestep=self.pack(clock)[..., 0], encoder_attention_mask=parts[f"{name}_mask"],
                num_frames=cells[0], height=cells[1], width=cells[2],
                rope_interpolation_scale=(self.temporal / rate, self.spatial, self.spatial), return_dict=False,
            )[0]  # fmt: skip
        return self.unpack(out.float(), cells)

    def encode(self, video: Float[Tensor, "1 3 F H W"], rng: Generator) -> Video:
        """The causal VAE, normalised channel by channel."""
        vae = self.pipe.vae
        latent = vae.encode(video.to(vae.dtype)).latent_dist.mode().float()
        return self.pipe._normalize_latents(latent, vae.latents_mean, vae.latents_std)

    def anchored(self, x: Video, shot: Shot, rng: Generator) -> Video:
        """The sampled first frame that the network is shown."""
        return torch.cat([self.first(shot, rng, self.pipe.text_encoder.dtype).to(x), x[:, :, 1:]], dim=2)

    def shown(self, x: Video, shot: Shot) -> Float[Tensor, "1 3 F H W"]:
        """Decoders that finish the denoising get a little noise, from the shot's seed."""
        vae = self.pipe.vae
        x = self.pipe._denormalize_latents(x, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
        x, time = x.to(vae.dtype), None
        if vae.config.timestep_conditioning:
            noise = torch.randn(x.shape, generator=Generator().manual_seed(shot.seed)).to(x)
            x = (1 - self.decode_noise) * x + self.decode_noise * noise
            time = torch.tensor([self.decode_timestep], device=x.device, dtype=x.dtype)
        return vae.decode(x, time, return_dict=False)[0]

    def to_call(self, z: Video, shot: Shot, rng: Generator) -> Tensor:
        """(1, tokens, C), the painting's own latent in the first frame: the pipeline encodes none when given latents."""
        first = self.first(shot, rng, self.pipe.text_encoder.dtype).to(z)
        return self.pack(torch.cat([first, z[:, :, 1:]], dim=2))

    def pack(self, x: Video) -> Tensor:
        """(B, C, L, h, w) to the transformer's tokens."""
        return self.pipe._pack_latents(x, *self.patch)

    def unpack(self, tokens: Tensor, cells: tuple[int, ...]) -> Video:
        """Tokens to (B, C, L, h, w)."""
        return self.pipe._unpack_latents(tokens, *cells, *self.patch)
