"""I2VGen-XL (Zhang et al. 2023): a two-dimensional VAE, the painting's latent beside the clip and CLIP's view of it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...process import Level, Video
from ...shot import Shot
from .base import PipelinePrior
from .parts import Parts, picture


class I2VGenXL(PipelinePrior):
    """`I2VGenXLPipeline`. It crops the painting to its size where the other families stretch it."""

    family = "i2vgen_xl"
    fps = 16

    def __init__(self, pipe: Any, *, clip_skip: int = 1, decode_frames: int = 4, **options: Any) -> None:
        """`decode_frames`: frames the VAE decodes at once."""
        self.clip_skip, self.decode_frames = clip_skip, decode_frames
        self.spatial, self.channels = pipe.vae_scale_factor, pipe.unet.config.in_channels
        self.multiple = max(8, self.spatial * 2 ** (len(pipe.unet.config.block_out_channels) - 1))
        words = pipe.text_encoder
        if not hasattr(words, "text_model"):  # transformers 5 took a layer away that the pipeline still goes through
            words.__dict__["text_model"] = words
        super().__init__(pipe, **options)

    def conditions(self, shot: Shot, rng: Generator) -> Parts:
        """CLIP's words, CLIP's view of a square crop, the painting's sampled latent with each frame's place behind it."""
        pipe, device, code = self.pipe, self.device, import_module(type(self.pipe).__module__)
        width, _ = self.size(shot)
        pipe._guidance_scale = 2.0  # the pipeline's helpers ask it whether there will be a negative branch
        positive, negative = pipe.encode_prompt([shot.prompt], device, 1, [shot.negative], clip_skip=self.clip_skip)
        pipe._guidance_scale = 1.0
        crop = pipe.feature_extractor.crop_size
        square = code._center_crop_wide(picture(shot), (width, width))
        image = pipe._encode_image(code._resize_bilinear(square, (crop["width"], crop["height"])), device, 1)
        pixels = self.pixels(shot).to(image.dtype)
        # The pipeline samples the latent from the global generator: lent here, and put back.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(rng.initial_seed())
            beside = pipe.prepare_image_latents(pixels, device, shot.frames, 1)
        return {
            "positive": positive, "negative": negative, "image": image, "beside": beside,
            "rate": torch.tensor([shot.fps], device=device),
        }  # fmt: skip

    def pixels(self, shot: Shot) -> Float[Tensor, "1 3 H W"]:
        """The painting, cropped."""
        code = import_module(type(self.pipe).__module__)
        return self.pipe.video_processor.preprocess(code._center_crop_wide(picture(shot), self.size(shot))).to(
            self.device
        )

    def emit(self, z: Video, level: Level, parts: Parts, positive: bool) -> Video:
        """The negative branch sees the latent but not CLIP's view."""
        image = parts["image"] if positive else torch.zeros_like(parts["image"])
        return self.pipe.unet(
            z.to(image.dtype), torch.tensor(int(level.t), device=z.device),
            encoder_hidden_states=parts["positive" if positive else "negative"], fps=parts["rate"],
            image_latents=parts["beside"], image_embeddings=image, return_dict=False,
        )[0]  # fmt: skip

    def encode(self, video: Float[Tensor, "1 3 F H W"], rng: Generator) -> Video:
        """An image VAE: one frame, repeated."""
        vae = self.pipe.vae
        latent = vae.encode(video[:, :, 0].to(vae.dtype)).latent_dist.mode() * vae.config.scaling_factor
        return latent[:, :, None].repeat(1, 1, video.shape[2], 1, 1)

    def shown(self, x: Video, shot: Shot) -> Float[Tensor, "1 3 F H W"]:
        """`decode_frames` at a time."""
        return self.pipe.decode_latents(x.to(self.pipe.vae.dtype), self.decode_frames)

    def to_call(self, z: Video, shot: Shot, rng: Generator) -> Tensor:
        """(1, C, F, h, w), in the network's own precision: the pipeline takes it as it comes."""
        return super().to_call(z, shot, rng).to(self.pipe.unet.dtype)
