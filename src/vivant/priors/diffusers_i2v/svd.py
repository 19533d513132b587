"""Stable Video Diffusion (Blattmann et al. 2023): no text; how much moves is its `motion_bucket_id`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...process import Level, Video
from ...shot import Shot
from .base import Defaults, PipelinePrior
from .parts import Parts, fresh, picture

USUAL_BUCKET = 127
"""`motion_bucket_id` when no strength is asked for: the pipeline's default."""

STRONGEST_BUCKET = 255
"""`motion_bucket_id` of `strength=1`: the largest of the training."""


class StableVideo(PipelinePrior):
    """`StableVideoDiffusionPipeline`. The sentence is not heard: this model knows pictures only.

    Guidance grows over the frames, from `least_guidance` at the painting to the shot's guidance at the last frame.
    """

    family = "svd"
    fps = 7

    def __init__(
        self, pipe: Any, *, least_guidance: float = 1.0, noise_aug_strength: float = 0.02, decode_frames: int = 8,
        **options: Any,
    ) -> None:  # fmt: skip
        """`noise_aug_strength`: noise on the painting the network sees; `decode_frames`: frames decoded at once."""
        self.least, self.augmentation, self.decode_frames = least_guidance, noise_aug_strength, decode_frames
        self.spatial = pipe.vae_scale_factor
        # The UNet halves its input between its blocks, and the pipeline wants sides in eights.
        self.multiple = max(8, self.spatial * 2 ** (len(pipe.unet.config.block_out_channels) - 1))
        self.channels = pipe.unet.config.in_channels // 2
        super().__init__(pipe, **options)

    def defaults(self) -> Defaults:
        """Frames come from the UNet's configuration, guidance is the last frame's."""
        return replace(super().defaults(), frames=self.pipe.unet.config.num_frames, guidance=3.0)

    def conditions(self, shot: Shot, rng: Generator) -> Parts:
        """CLIP's view of the painting, its slightly noised latent, and (fps - 1, motion, noise) as numbers."""
        pipe, device = self.pipe, self.device
        image = self.once(
            lambda: pipe._encode_image(picture(shot), device, 1, False),
            "seen", shot.painting, device, by=pipe.image_encoder,
        )  # fmt: skip
        pixels = self.pixels(shot)
        draws = fresh(rng)
        noised = pixels + self.augmentation * torch.randn(pixels.shape, generator=draws, device=draws.device).to(pixels)
        with self.upcast():
            latent = self.once(
                lambda: pipe._encode_vae_image(noised, device, 1, False), "noised", noised, by=pipe.vae
            ).to(image.dtype)
        numbers = pipe._get_add_time_ids(
            shot.fps - 1, bucket(shot.controls.strength), self.augmentation, image.dtype, 1, 1, False
        )
        return {"image": image, "latent": latent[:, None], "numbers": numbers.to(device)}

    def weights(self, shots: Sequence[Shot], level: Level) -> Float[Tensor, "B 1 L 1 1"]:
        """From `least_guidance` to the clip's guidance along its frames; all 1 where the clip's guidance is."""
        rows = []
        for shot in shots:
            most = self.card.guidance if shot.guidance is None else shot.guidance
            rows.append(torch.linspace(self.least, most, shot.frames) if most > 1 else torch.ones(shot.frames))
        return torch.stack(rows)[:, None, :, None, None]

    def emit(self, z: Video, level: Level, parts: Parts, positive: bool) -> Video:
        """The negative branch sees neither the painting nor its latent."""
        image, latent = (v if positive else torch.zeros_like(v) for v in (parts["image"], parts["latent"]))
        frames = z.transpose(1, 2).to(image.dtype)
        fed = torch.cat([frames, latent.expand(-1, frames.shape[1], -1, -1, -1)], dim=2)
        time = torch.tensor(level.t, device=z.device)
        out = self.pipe.unet(
            fed, time, encoder_hidden_states=image, added_time_ids=parts["numbers"], return_dict=False
        )[0]
        return out.transpose(1, 2)

    def encode(self, video: Float[Tensor, "1 3 F H W"], rng: Generator) -> Video:
        """An image VAE: one frame, repeated."""
        vae = self.pipe.vae
        latent = vae.encode(video[:, :, 0].to(vae.dtype)).latent_dist.mode() * vae.config.scaling_factor
        return latent[:, :, None].repeat(1, 1, video.shape[2], 1, 1)

    def shown(self, x: Video, shot: Shot) -> Float[Tensor, "1 3 F H W"]:
        """The temporal decoder, `decode_frames` at a time."""
        return self.pipe.decode_latents(x.transpose(1, 2).to(self.pipe.vae.dtype), x.shape[2], self.decode_frames)

    def to_call(self, z: Video, shot: Shot, rng: Generator) -> Tensor:
        """(1, F, C, h, w) noise of unit scale: the pipeline multiplies it by the scheduler's first sigma."""
        return super().to_call(z, shot, rng).transpose(1, 2).to(self.pipe.unet.dtype)


def bucket(strength: float | None) -> int:
    """The network's motion id of a strength in [0, 1]."""
    return USUAL_BUCKET if strength is None else round(STRONGEST_BUCKET * strength)
