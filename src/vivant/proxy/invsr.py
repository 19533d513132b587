"""InvSR (Yue et al. 2025): super-resolution by inversion: a small net predicts the noise from which SD-Turbo draws the
picture again, sharp. Its licence is non-commercial (S-Lab 1.0)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ..errors import SettingError, WeightsError
from ..priors.folder import differences, read_state
from .pipelines import open_pipeline

CLOCKS = {1: (200,), 2: (200, 100), 3: (200, 100, 50), 4: (200, 150, 100, 50), 5: (250, 200, 150, 100, 50)}
"""the noise levels of 1 to 5 steps, of 1000"""
SCALE = 4
PROMPT = "Cinematic, high-contrast, 8k, ultra HD, meticulous detailing, hyper sharpness"
PREDICTOR = ("noise_predictor_sd_turbo_v5.safetensors", "noise_predictor_sd_turbo_v5.pth")


class NoisePredictor(nn.Module):
    """From a picture and a clock to the distribution of the noise: a VAE encoder that knows the time, 33.8 M weights."""

    def __init__(
        self, widths: tuple[int, ...] = (256, 512), layers: int = 3, clock: int = 512, head: int = 64, groups: int = 32
    ) -> None:
        super().__init__()
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], clock)
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            get_down_block(
                "AttnDownBlock2D", num_layers=layers, in_channels=widths[max(i - 1, 0)], out_channels=width,
                temb_channels=clock, add_downsample=i < len(widths) - 1, resnet_eps=1e-6, resnet_act_fn="silu",
                resnet_groups=groups, attention_head_dim=head, downsample_padding=0,
            )
            for i, width in enumerate(widths)
        )  # fmt: skip
        self.mid_block = UNetMidBlock2D(
            in_channels=widths[-1], temb_channels=clock, resnet_eps=1e-6, attention_head_dim=head, resnet_groups=groups
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 8, 3, padding=1)

    def forward(self, picture: Float[Tensor, "B 3 H W"], t: int) -> DiagonalGaussianDistribution:
        """`picture` in [-1, 1] at a quarter of the size; the noise (B, 4, H/2, W/2) at clock `t`."""
        clock = torch.full((picture.shape[0],), t, device=picture.device)
        e = self.time_embedding(self.time_proj(clock).to(picture.dtype))
        h = self.conv_in(picture)
        for block in self.down_blocks:
            h, _ = block(h, e)
        h = self.mid_block(h, e)
        return DiagonalGaussianDistribution(self.conv_out(F.silu(self.conv_norm_out(h))))


class InvSR:
    """The painting at a quarter of the working size, drawn again at full size: strokes become surfaces and things."""

    def __init__(
        self,
        pipe: Any,
        predictor: NoisePredictor,
        steps: int = 1,
        area: int = 1024 * 1024,
        tile: int = 512,
        colour: bool = True,
    ) -> None:
        """`steps` 1 to 5; `area`: pixels it works at; `tile`: side of the overlapping squares; `colour`: keep the painting's."""
        if steps not in CLOCKS:
            raise SettingError(f"expected 1 to 5 steps for InvSR, got {steps}")
        if tile % 64:
            raise SettingError(f"expected a tile in multiples of 64 pixels, got {tile}")
        self.pipe, self.predictor = pipe, predictor.eval()
        self.clocks, self.area, self.tile, self.colour = CLOCKS[steps], area, tile, colour

    @classmethod
    def from_folder(
        cls, folder: Path | str, device: str = "cpu", dtype: torch.dtype = torch.float32, **options: Any
    ) -> InvSR:
        """From stabilityai/sd-turbo's folder with OAOA/InvSR's noise predictor (.safetensors or .pth) in it."""
        path = next((Path(folder) / name for name in PREDICTOR if (Path(folder) / name).is_file()), None)
        if path is None:
            raise WeightsError(
                f"expected {' or '.join(PREDICTOR)} in {folder}, found neither; fetch it from OAOA/InvSR"
            )
        state = {key.removeprefix("encoder."): value for key, value in read_state(path).items()}
        with torch.device("meta"):
            net = NoisePredictor(**_sizes(state))
        wrong = differences(state, net.state_dict())
        if wrong:
            raise WeightsError(f"{path} is no InvSR noise predictor: {wrong[0]}")
        net.load_state_dict({k: v.to(dtype) for k, v in state.items()}, assign=True)
        pipe = open_pipeline(folder, ("StableDiffusionPipeline",), device, dtype)
        return cls(pipe, net.to(device).requires_grad_(False), **options)

    @torch.no_grad()
    def __call__(self, painting: UInt8[np.ndarray, "H W 3"], prompt: str, rng: Generator) -> UInt8[np.ndarray, "H W 3"]:
        """The painting redrawn, at its size. The sentence has no part in it; the words SD-Turbo gets are InvSR's own."""
        height, width = painting.shape[:2]
        scale = (self.area / (height * width)) ** 0.5
        high, wide = (max(self.tile, round(n * scale / 64) * 64) for n in (height, width))
        pixels = torch.from_numpy(painting.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        target = F.interpolate(pixels, (high, wide), mode="bicubic", antialias=True).clamp(-1, 1)
        low = F.interpolate(target, (high // SCALE, wide // SCALE), mode="bicubic", antialias=True).clamp(-1, 1)
        made = self._tiled(low.to(self.pipe.device, self.pipe.unet.dtype), rng).float().cpu()
        if self.colour:
            made = with_colours_of(made, target)
        out = F.interpolate(made, (height, width), mode="bicubic", antialias=True).clamp(-1, 1)
        return ((out[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()

    def _tiled(self, low: Float[Tensor, "1 3 h w"], rng: Generator) -> Float[Tensor, "1 3 H W"]:
        """Squares that overlap by half, blended under a bell."""
        side = self.tile // SCALE
        total = torch.zeros(1, 3, low.shape[2] * SCALE, low.shape[3] * SCALE, device=low.device)
        weight = torch.zeros_like(total[:, :1])
        line = torch.exp(-(torch.linspace(-1, 1, self.tile, device=low.device) ** 2) / 0.5)
        bell = (line[:, None] * line[None]).clamp_min(1e-3)
        for y in starts(low.shape[2], side):
            for x in starts(low.shape[3], side):
                made = self.draw(low[:, :, y : y + side, x : x + side], rng)
                place = (..., slice(SCALE * y, SCALE * (y + side)), slice(SCALE * x, SCALE * (x + side)))
                total[place] += bell * made
                weight[place] += bell
        return total / weight

    def draw(self, low: Float[Tensor, "1 3 h w"], rng: Generator) -> Float[Tensor, "1 3 H W"]:
        """One square, 4 times as large: z_t = z + σ_t·n with n from the predictor, then Euler's method down to σ = 0."""
        vae, unet = self.pipe.vae, self.pipe.unet
        words = self.pipe.encode_prompt([PROMPT], low.device, 1, False)[0]
        high = F.interpolate(low, scale_factor=SCALE, mode="bicubic", antialias=True).clamp(-1, 1)
        z0 = vae.encode(high).latent_dist.mean * vae.config.scaling_factor
        sigmas = [self._sigma(t) for t in self.clocks] + [0.0]
        moments = self.predictor(low, self.clocks[0])
        noise = moments.mean + moments.std * torch.randn(z0.shape, generator=rng, device=rng.device).to(z0)
        z = z0 + sigmas[0] * noise
        for t, now, after in zip(self.clocks, sigmas, sigmas[1:], strict=False):
            eps = unet(z / (now**2 + 1) ** 0.5, t - 1, encoder_hidden_states=words).sample
            z = z + (after - now) * eps
        return vae.decode(z / vae.config.scaling_factor).sample.float().clamp(-1, 1)

    def _sigma(self, t: int) -> float:
        """Noise over signal at clock `t` (the network's own clock counts from 0)."""
        bar = float(self.pipe.scheduler.alphas_cumprod[t - 1])
        return ((1 - bar) / bar) ** 0.5


def starts(length: int, side: int) -> list[int]:
    """Where squares of `side` begin, half overlapping, the last flush with the end."""
    return sorted({*range(0, max(length - side, 0) + 1, max(side // 2, 1)), max(length - side, 0)})


def with_colours_of(made: Float[Tensor, "1 3 H W"], target: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 3 H W"]:
    """The detail of one picture on the low frequencies of another (StableSR's wavelet correction, five levels)."""
    return made - _coarse(made) + _coarse(target)


def _coarse(x: Tensor, levels: int = 5) -> Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel[None] / 16).expand(3, 1, 3, 3)
    for i in range(levels):
        gap = 2**i
        x = F.conv2d(F.pad(x, (gap,) * 4, mode="replicate"), kernel, groups=3, dilation=gap)
    return x


def _sizes(state: dict[str, Tensor]) -> dict[str, Any]:
    """The predictor's sizes, read off its weights."""
    depth = 1 + max((int(k.split(".")[1]) for k in state if k.startswith("down_blocks.")), default=-1)
    try:
        widths = tuple(state[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(depth))
        layers = 1 + max(int(k.split(".")[3]) for k in state if k.startswith("down_blocks.0.resnets."))
        clock = state["time_embedding.linear_1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise WeightsError(f"expected InvSR's noise predictor, its weights lack {error}") from None
    return {"widths": widths, "layers": layers, "clock": clock, "head": min(64, widths[0])}
