"""MasaCtrl (Cao et al. 2023): invert the painting, draw it anew by the prompt, and let it look at the painting's own
keys and values, so that what the prompt changes is the pose and not the paint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Generator, Tensor, nn

from .pipelines import at_area, back, native_area, open_pipeline, shrink

CLASSES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
START_STEP = 4
"""the step from which the painting is looked at; before it the prompt lays out the picture"""
START_LAYER = {False: 10, True: 44}
"""the self-attention layer from which it is: of 16 in Stable Diffusion 1, of 70 in SDXL"""


class Mutual:
    """An attention processor whose target clips attend to their source (eq. 4): Attention(Q_target, K_source, V_source).

    The batch is [source, target] without words, then [source, target] with them; each half looks at its own source.
    """

    def __init__(self, moment: Moment) -> None:
        self.inner, self.moment = AttnProcessor2_0(), moment

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **more: Any
    ) -> Tensor:
        """(4, N, C) → (4, N, C)."""
        if self.moment.on and encoder_hidden_states is None:
            halves = hidden_states.unflatten(0, (2, -1))
            encoder_hidden_states = halves[:, :1].expand_as(halves).flatten(0, 1)
        return self.inner(attn, hidden_states, encoder_hidden_states, *args, **more)


class Moment:
    """Whether the source is looked at now."""

    on = False


class MasaCtrl:
    """On Stable Diffusion 1.4/1.5 or SDXL."""

    def __init__(self, pipe: Any, steps: int = 50, guidance: float = 7.5, area: int | None = None) -> None:
        from diffusers import DDIMScheduler

        self.pipe, self.steps, self.guidance = pipe, steps, guidance
        self.large = hasattr(pipe, "text_encoder_2")
        self.area = native_area(pipe) if area is None else area
        make: Any = DDIMScheduler
        self.scheduler = make(**SCHEDULE, clip_sample=False, set_alpha_to_one=False)
        self.scheduler.set_timesteps(steps)
        self.moment = Moment()
        layers = self_attentions(pipe.unet)
        # Smaller nets than the papers' keep the share of their layers.
        first = round(START_LAYER[self.large] / (70 if self.large else 16) * len(layers))
        for layer in layers[first:]:
            layer.set_processor(Mutual(self.moment))

    @classmethod
    def from_folder(
        cls, folder: Path | str, device: str = "cpu", dtype: torch.dtype = torch.float32, **options: Any
    ) -> MasaCtrl:
        """From any Stable Diffusion 1 or SDXL folder of the hub."""
        return cls(open_pipeline(folder, CLASSES, device, dtype), **options)

    @torch.no_grad()
    def __call__(self, painting: UInt8[np.ndarray, "H W 3"], prompt: str, rng: Generator) -> UInt8[np.ndarray, "H W 3"]:
        """The painting, redrawn by the prompt from its own inversion. Nothing is random."""
        picture = at_area(painting, self.area, 2 ** len(self.pipe.vae.config.block_out_channels))
        start = self.invert(self.encode(picture))
        return back(self.redraw(start, prompt, picture.size), painting)

    @torch.no_grad()
    def encode(self, picture: Image.Image) -> Float[Tensor, "1 C h w"]:
        """The mean of the picture's latent, scaled."""
        vae = self.pipe.vae
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(vae.device, vae.dtype) / 127.5 - 1
        return vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor

    @torch.no_grad()
    def invert(self, z: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 C h w"]:
        """DDIM run backwards (Song et al. 2021, eq. 13) with an empty prompt: the noise that gives the picture."""
        pixels = tuple(shrink(self.pipe) * n for n in z.shape[:1:-1])
        words = self.words(["", ""], pixels)
        for t in reversed(self.scheduler.timesteps.tolist()):
            before, after = self._alpha(t - self._gap), self._alpha(t)
            eps = self.network(torch.cat([z, z]), t, words)[:1]
            z = _move(z, eps, before, after)
        return z

    @torch.no_grad()
    def redraw(self, start: Float[Tensor, "1 C h w"], prompt: str, size: tuple[int, int]) -> Image.Image:
        """Source (no words) and target (the prompt) from one start; the target comes back."""
        z = start.repeat(2, 1, 1, 1)
        words = self.words(["", "", "", prompt], size)
        for i, t in enumerate(self.scheduler.timesteps.tolist()):
            self.moment.on = i >= START_STEP
            try:
                plain, told = self.network(torch.cat([z, z]), t, words).chunk(2)
            finally:
                self.moment.on = False
            z = _move(z, plain + self.guidance * (told - plain), self._alpha(t), self._alpha(t - self._gap))
        vae = self.pipe.vae
        pixels = vae.decode(z[1:].to(vae.dtype) / vae.config.scaling_factor).sample
        return self.pipe.image_processor.postprocess(pixels, output_type="pil")[0]

    def network(self, z: Float[Tensor, "B C h w"], t: int, words: tuple[Tensor, dict[str, Tensor]]) -> Tensor:
        """The UNet's ε."""
        states, added = words
        more = {"added_cond_kwargs": added} if added else {}
        return self.pipe.unet(z, t, encoder_hidden_states=states, **more).sample

    def words(self, prompts: list[str], size: tuple[int, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Text states (B, S, D), and what SDXL adds to its clock."""
        device = self.pipe.unet.device
        if not self.large:
            return self.pipe.encode_prompt(prompts, device, 1, False)[0], {}
        states, _, pooled, _ = self.pipe.encode_prompt(prompts, device=device, do_classifier_free_guidance=False)
        ids = torch.tensor(
            [[size[1], size[0], 0, 0, size[1], size[0]]] * len(prompts), device=device, dtype=states.dtype
        )
        return states, {"text_embeds": pooled, "time_ids": ids}

    @property
    def _gap(self) -> int:
        return self.scheduler.config.num_train_timesteps // self.steps

    def _alpha(self, t: int) -> float:
        return float(self.scheduler.alphas_cumprod[t] if t >= 0 else self.scheduler.final_alpha_cumprod)


def _move(z: Tensor, eps: Tensor, now: float, then: float) -> Tensor:
    """One deterministic DDIM step from ᾱ `now` to ᾱ `then`, either way."""
    x0 = (z - (1 - now) ** 0.5 * eps) / now**0.5
    return then**0.5 * x0 + (1 - then) ** 0.5 * eps


def self_attentions(unet: nn.Module) -> list[Any]:
    """The self-attention layers in the order in which the picture passes them."""
    parts = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)  # type: ignore[misc]
    return [m for part in parts for name, m in part.named_modules() if name.endswith("attn1")]
