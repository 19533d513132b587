"""I2VGen-XL (Zhang et al. 2023): a two-dimensional VAE, the painting's latent beside the clip and CLIP's view of it."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
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
        positive, negative = self.once(
            lambda: self._words(shot), "words", shot.prompt, shot.negative, device, by=pipe.text_encoder
        )
        pipe._guidance_scale = 1.0  # its helpers double what they make where they are told of a negative branch
        crop = pipe.feature_extractor.crop_size
        square = code._resize_bilinear(
            code._center_crop_wide(picture(shot), (width, width)), (crop["width"], crop["height"])
        )
        image = self.once(
            lambda: pipe._encode_image(square, device, 1), "seen", np.asarray(square), device, by=pipe.image_encoder
        )
        # The pipeline's own method, with the painting's remembered distribution in the VAE's place. It samples from the
        # global generator: lent here, and put back.
        lent = SimpleNamespace(
            encode=lambda pixels: SimpleNamespace(latent_dist=self.spread(pixels)), config=pipe.vae.config
        )
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(rng.initial_seed())
            beside = type(pipe).prepare_image_latents(
                SimpleNamespace(vae=lent, do_classifier_free_guidance=False),
                self.pixels(shot).to(image.dtype),
                device,
                shot.frames,
                1,
            )
        return {
            "positive": positive, "negative": negative, "image": image, "beside": beside,
            "rate": torch.tensor([shot.fps], device=device),
        }  # fmt: skip

    def _words(self, shot: Shot) -> tuple[Tensor, Tensor]:
        pipe = self.pipe
        pipe._guidance_scale = 2.0  # there will be a negative branch
        return pipe.encode_prompt([shot.prompt], self.device, 1, [shot.negative], clip_skip=self.clip_skip)

    def spread(self, pixels: Float[Tensor, "1 3 H W"]) -> DiagonalGaussianDistribution:
        """The VAE's posterior of a picture."""
        vae = self.pipe.vae
        return DiagonalGaussianDistribution(
            self.once(lambda: vae.encode(pixels.to(vae.dtype)).latent_dist.parameters, "latent", pixels, by=vae)
        )

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
        latent = self.spread(video[:, :, 0].to(vae.dtype)).mode() * vae.config.scaling_factor
        return latent[:, :, None].repeat(1, 1, video.shape[2], 1, 1)

    def shown(self, x: Video, shot: Shot) -> Float[Tensor, "1 3 F H W"]:
        """`decode_frames` at a time."""
        return self.pipe.decode_latents(x.to(self.pipe.vae.dtype), self.decode_frames)

    def to_call(self, z: Video, shot: Shot, rng: Generator) -> Tensor:
        """(1, C, F, h, w), in the network's own precision: the pipeline takes it as it comes."""
        return super().to_call(z, shot, rng).to(self.pipe.unet.dtype)
