"""The picture's tokens: learnt queries that read CLIP's image tokens (a perceiver; Xing et al. 2023, §3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ResamplerConfig:
    """The resampler's sizes, by their official names; the defaults are the released models'."""

    dim: int = 1024
    depth: int = 4
    dim_head: int = 64
    heads: int = 12
    num_queries: int = 16
    embedding_dim: int = 1280
    output_dim: int = 1024
    ff_mult: float = 4
    video_length: int | None = 16

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ResamplerConfig:
        """Read the official configuration."""
        known = {field.name for field in fields(cls)}
        return cls(**{k: v for k, v in record.items() if k in known})


class Perceive(nn.Module):
    """Attention from the queries to the picture's tokens and the queries themselves."""

    def __init__(self, width: int, head: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, head * heads, bias=False)
        self.to_kv = nn.Linear(width, head * heads * 2, bias=False)
        self.to_out = nn.Linear(head * heads, width, bias=False)

    def forward(self, tokens: Float[Tensor, "B K C"], queries: Float[Tensor, "B Q C"]) -> Float[Tensor, "B Q C"]:
        """What the queries read."""
        queries = self.norm2(queries)
        k, v = self.to_kv(torch.cat([self.norm1(tokens), queries], dim=1)).chunk(2, dim=-1)
        split = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.to_q(queries), k, v)]
        return self.to_out(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """CLIP's image tokens to `num_queries` tokens for each of `video_length` frames, frame by frame."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        width, inner = config.dim, int(config.dim * config.ff_mult)
        count = config.num_queries * (config.video_length or 1)
        self.latents = nn.Parameter(torch.randn(1, count, width) / width**0.5)
        self.proj_in = nn.Linear(config.embedding_dim, width)
        self.proj_out = nn.Linear(width, config.output_dim)
        self.norm_out = nn.LayerNorm(config.output_dim)
        self.layers = nn.ModuleList()
        for _ in range(config.depth):
            forward = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, width, bias=False)
            )
            self.layers.append(nn.ModuleList([Perceive(width, config.dim_head, config.heads), forward]))

    def forward(self, x: Float[Tensor, "B K E"]) -> Float[Tensor, "B Q D"]:
        """`x`: the image tower's last hidden states, class token included, not normalised."""
        tokens, queries = self.proj_in(x), self.latents.expand(x.shape[0], -1, -1)
        for layer in self.layers:
            attend, forward = layer.children()
            queries = queries + attend(tokens, queries)
            queries = queries + forward(queries)
        return self.norm_out(self.proj_out(queries))
