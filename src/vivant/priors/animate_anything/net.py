"""The AnimateAnything UNet (Dai et al. 2023): a text-to-video UNet that also sees the painting, a mask and a strength.

The painting's latent goes in as frame 0 and its output is dropped; the mask is a fifth input channel; the strength
joins the timestep's embedding. The blocks are diffusers' 3-D UNet blocks; only the way in and through them is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_3d_blocks import UNetMidBlock3DCrossAttn, get_down_block, get_up_block
from jaxtyping import Float, Num
from torch import Tensor, nn

from ...process import Video
from ..layers import OneTextAClip, TimeConv, check_widths, clips, fast, frames, read_config, tile, together, vector
from ..lean import activated, last

TEMPORAL_GROUPS = 32
"""Group count of the temporal convolutions and of `transformer_in`, whatever `norm_num_groups` says: the released
weights were trained so, and at their width both are 32."""


@dataclass(frozen=True)
class UNetConfig:
    """What `unet/config.json` says; the defaults are the released 512 model. Widths are in channels."""

    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",)
    up_block_types: tuple[str, ...] = ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1024
    attention_head_dim: int = 64
    motion_mask: bool = True
    motion_strength: bool = True

    def __post_init__(self) -> None:
        check_widths(self, TEMPORAL_GROUPS)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> UNetConfig:
        """Read a parsed `config.json`; entries that do not shape the network (class names, versions) are left out."""
        return read_config(cls, record)


class AnimateAnythingUNet(nn.Module):
    """F(z, t | text, painting, mask, strength). Its state dict has the released checkpoint's names and shapes."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, first = config.block_out_channels, config.block_out_channels[0]
        embed = first * 4
        heads = config.attention_head_dim  # diffusers' old naming: the blocks read this number as the width of one head
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.conv_in2 = nn.Conv2d(config.in_channels + 1, first, 3, padding=1)
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, embed, act_fn=config.act_fn, cond_proj_dim=first)
        # Dead in the released model (its strength acts through cond_proj); kept so that checkpoints load strictly.
        self.motion_embedding = nn.Sequential(nn.Linear(first, embed), nn.SiLU(), nn.Linear(embed, embed))
        self.transformer_in = TransformerTemporalModel(
            num_attention_heads=8, attention_head_dim=config.attention_head_dim, in_channels=first, num_layers=1,
            norm_num_groups=TEMPORAL_GROUPS,
        )  # fmt: skip
        shared: dict[str, Any] = {
            "temb_channels": embed, "resnet_eps": config.norm_eps, "resnet_groups": config.norm_num_groups,
            "cross_attention_dim": config.cross_attention_dim, "num_attention_heads": heads,
            "dual_cross_attention": False,
        }  # fmt: skip
        self.down_blocks = nn.ModuleList()
        for i, kind in enumerate(config.down_block_types):
            self.down_blocks.append(
                get_down_block(
                    kind, num_layers=config.layers_per_block, in_channels=widths[max(i - 1, 0)],
                    out_channels=widths[i], add_downsample=i < len(widths) - 1, resnet_act_fn=config.act_fn,
                    downsample_padding=config.downsample_padding, **shared,
                )
            )  # fmt: skip
        self.mid_block = UNetMidBlock3DCrossAttn(
            in_channels=widths[-1], output_scale_factor=config.mid_block_scale_factor, **shared
        )
        self.up_blocks = nn.ModuleList()
        rising = widths[::-1]
        for i, kind in enumerate(config.up_block_types):
            last = i == len(rising) - 1
            self.up_blocks.append(
                get_up_block(
                    kind, num_layers=config.layers_per_block + 1, in_channels=rising[i if last else i + 1],
                    out_channels=rising[i], prev_output_channel=rising[max(i - 1, 0)], add_upsample=not last,
                    resnet_act_fn=config.act_fn, resolution_idx=i, **shared,
                )
            )  # fmt: skip
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, first, eps=config.norm_eps)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, TemporalConvLayer):
                for stage in (module.conv1, module.conv2, module.conv3, module.conv4):
                    norm = stage[0]
                    assert isinstance(norm, nn.GroupNorm)
                    norm.num_groups = TEMPORAL_GROUPS
                    conv = TimeConv(norm.num_channels)
                    conv.load_state_dict(stage[-1].state_dict())
                    stage[-1] = conv
            elif isinstance(module, TransformerTemporalModel):
                module.proj_in.register_forward_pre_hook(together)
            elif isinstance(module, Transformer2DModel):
                for block in cast(Any, module.transformer_blocks):
                    block.attn2.set_processor(OneTextAClip())
        fast(self)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type; outputs come in it too."""
        return self.conv_out.weight.dtype

    def forward(
        self,
        sample: Video,
        timestep: Num[Tensor, " b"] | float,
        text: Float[Tensor, "b S D"],
        condition: Float[Tensor, "b C 1 h w"],
        mask: Float[Tensor, "b 1 1 h w"] | None = None,
        motion: Num[Tensor, " b"] | float | None = None,
    ) -> Video:
        """Predict F for noisy latents (B, C, L, h, w), any h and w.

        `text`: token features; `condition`: the painting's clean latent; `mask` in [0, 1], 1 moves (None: the maskless
        way in); `motion`: strength id, about 0..16 (None: no strength term). Each may have a smaller batch b that
        divides B: it is tiled, so that the halves of a guidance batch share it.
        """
        batch, count = sample.shape[0], sample.shape[2] + 1
        emb = self._embed(timestep, motion, batch, sample.device).repeat_interleave(count, dim=0)
        text = tile(text.to(self.dtype), batch)
        x = torch.cat([tile(condition, batch), sample], dim=2).to(self.dtype)
        if mask is not None and self.config.motion_mask:
            over = tile(mask.to(self.dtype), batch).expand(-1, -1, count, -1, -1)
            x = self.conv_in2(frames(torch.cat([over, x], dim=1)))
        else:
            x = self.conv_in(frames(x))
        x = self.transformer_in(last(x), num_frames=count, return_dict=False)[0]
        x = self._through(x, emb, text, count)
        x = self.conv_out(activated(self.conv_norm_out, x))
        return clips(x, count)[:, :, 1:]

    def _embed(
        self, timestep: Tensor | float, motion: Tensor | float | None, batch: int, device: torch.device
    ) -> Tensor:
        """(B, 4·width): linear_2(silu(linear_1(sin(t) + W·sin(motion))))."""
        wave = self.time_proj(vector(timestep, batch, device)).to(self.dtype)
        strength = None
        if motion is not None and self.config.motion_strength:
            strength = self.time_proj(vector(motion, batch, device)).to(self.dtype)
        return self.time_embedding(wave, strength)

    def _through(self, x: Tensor, emb: Tensor, text: Tensor, count: int) -> Tensor:
        """Down, middle, up: (B·count, width, h, w) to the same shape."""
        skips: tuple[Tensor, ...] = (x,)
        for block in self.down_blocks:
            extra = {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}
            x, kept = block(hidden_states=x, temb=emb, num_frames=count, **extra)
            skips += kept
        x = self.mid_block(x, emb, encoder_hidden_states=text, num_frames=count)
        for block in self.up_blocks:
            depth = len(cast(nn.ModuleList, block.resnets))
            skips, mine = skips[:-depth], skips[-depth:]
            extra = {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}
            # Sides that halve unevenly are restored to the size the next block's skips have.
            size = tuple(skips[-1].shape[2:]) if skips else None
            x = block(
                hidden_states=x, temb=emb, res_hidden_states_tuple=mine, upsample_size=size, num_frames=count, **extra
            )
        return x
