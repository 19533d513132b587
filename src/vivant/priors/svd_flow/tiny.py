"""A small network of the same build, which learns from nothing on a CPU: what the recipe, and the tests, train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from . import weights
from .adapter import SvdFlow
from .net import MotionUNet

GROUPS = 8
"""SVD's 32 groups would hold one channel each at this width, and norms of single channels take out what the timestep
adds."""


class _Placed(nn.Module):
    """`dtype` and `device`, as pipelines ask their parts for them."""

    anchor: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Of its one tensor."""
        return self.anchor.dtype

    @property
    def device(self) -> torch.device:
        """Of its one tensor."""
        return self.anchor.device


class Mosaic(_Placed):
    """A VAE in closed form for the small network: a latent cell is the mean colour of 4×4 pixels, and its grey.

    What changes in a clip has about unit variance at this scale; what `Residual` leaves to the network is that alone.
    """

    scale = 8.0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchor", torch.ones(1))
        self.config = _Config(scaling_factor=self.scale, force_upcast=False, block_out_channels=(1, 1, 1))

    def encode(self, x: Float[Tensor, "N 3 H W"]) -> SimpleNamespace:
        """`latent_dist.mode()`: (N, 4, H/4, W/4)."""
        colour = F.avg_pool2d(x, 4)
        latent = torch.cat([colour, colour.mean(1, keepdim=True)], 1)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latent))

    def decode(self, z: Float[Tensor, "N 4 h w"], num_frames: int = 1) -> SimpleNamespace:
        """`sample`: (N, 3, 4h, 4w)."""
        return SimpleNamespace(sample=F.interpolate(z[:, :3], scale_factor=4.0, mode="bicubic"))

    def forward(self, sample: Tensor, num_frames: int = 1) -> Tensor:
        """There and back; diffusers reads this signature."""
        return self.decode(self.encode(sample).latent_dist.mode(), num_frames).sample


class NoView(_Placed):
    """An image encoder that sees nothing: the small network knows the painting by its latent alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1, width), requires_grad=False)

    def forward(self, pixels: Tensor) -> SimpleNamespace:
        """`image_embeds`: zeros (N, width)."""
        return SimpleNamespace(image_embeds=self.anchor.expand(len(pixels), -1))


class Residual(MotionUNet):
    """The small network's start: it sees and gives the clip's difference from its painting, z - a·c and F + s·c.

    A released SVD can hold a painting still before it learns what motion fields mean. A network from nothing spends its
    first hours on that alone; here it is given (Cinemo's residual, Ma et al. 2024, in SVD's terms, F = a·ε - s·x0).
    """

    def forward(
        self, sample: Float[Tensor, "B L C h w"], timestep: Tensor, *told: Tensor, **more: Tensor
    ) -> Float[Tensor, "B L C h w"]:
        """As `MotionUNet`'s. Where the painting is withheld (zeros) the two are the same."""
        sigma = (4 * timestep).exp().reshape(-1, 1, 1, 1, 1).to(sample)
        a = 1 / (1 + sigma**2).sqrt()
        z, painting = sample.chunk(2, dim=2)
        held = Mosaic.scale * painting
        return super().forward(torch.cat([z - a * held, painting], 2), timestep, *told, **more) - sigma * a * held


class _Config(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


def tiny_pipeline(frames: int = 4, widths: tuple[int, ...] = (32, 32)) -> Any:
    """A StableVideoDiffusionPipeline of random small blocks around `Mosaic`. Draws from the global generator."""
    from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel
    from transformers.models.clip import CLIPImageProcessor

    unet: Any = UNetSpatioTemporalConditionModel(
        block_out_channels=widths, layers_per_block=1, in_channels=8, out_channels=4, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * (len(widths) - 1) + ("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * (len(widths) - 1),
        num_attention_heads=2, addition_time_embed_dim=32, projection_class_embeddings_input_dim=96, num_frames=frames,
    )  # fmt: skip
    for module in unet.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = GROUPS
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", interpolation_type="linear",
        prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002, steps_offset=1, timestep_spacing="leading",
        timestep_type="continuous", use_karras_sigmas=True,
    )  # fmt: skip
    return StableVideoDiffusionPipeline(
        vae=Mosaic(), image_encoder=NoView(32), unet=unet, scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(crop_size=32, size=32),
    )  # fmt: skip


def tiny_prior(path: Path | None = None, frames: int = 4, size: int = 48, steps: int = 12) -> SvdFlow:
    """The small network as a prior, with the weights of a `motion.safetensors` that `--tiny` wrote where a path is given."""
    pipe = tiny_pipeline(frames)
    if path is None:
        prior = SvdFlow(pipe, Residual(pipe.unet), size=(size, size))
    else:
        state = weights.read(path)
        net = weights.fitted(pipe.unet, state, Residual)
        weights.fill(net, state, path)
        prior = SvdFlow(pipe, net, size=(size, size))
    prior.card = replace(prior.card, guidance=1.0, steps=steps)
    return prior
