"""diffusers' blocks as a CPU likes them (`lean`).

They stay what they were, with the same parameters, and compute as they did wherever that does not apply.
"""

from __future__ import annotations

from typing import Any

from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .lean import (
    Pair,
    activated,
    add_fed,
    along,
    ends,
    fed,
    gated,
    last,
    look,
    one,
    over_frames,
    own,
    pictures,
    pieces,
    project,
    shortcut,
    tokens,
)
from .winograd import inferring


class InPieces(FeedForward):
    """diffusers' gated feed-forward."""

    def forward(self, hidden_states: Float[Tensor, "*n c"], *args: Any, **kwargs: Any) -> Float[Tensor, "*n c"]:
        """Same shape."""
        x, (inner, outer) = hidden_states, ends(self)
        if not (inferring(x) and own(inner) and own(outer)):
            return super().forward(x, *args, **kwargs)
        flat = x.flatten(0, -2)
        out = flat.new_zeros(len(flat), outer.out_features)
        for rows in pieces(len(flat), 1):
            add_fed(out[rows], flat[rows], inner, outer)
        return out.view(*x.shape[:-1], -1)


class Resnet(ResnetBlock2D):
    """diffusers' resnet of an image."""

    def forward(self, input_tensor: Tensor, temb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(N, C, h, w) to (N, O, h, w)."""
        x = input_tensor
        if self.training or not inferring(x):
            return super().forward(x, temb, *args, **kwargs)
        x = last(x)
        y = self.conv1(activated(self.norm1, x))
        y.add_(self.time_emb_proj(F.silu(temb))[:, :, None, None])
        return shortcut(self.conv_shortcut, x, self.conv2(activated(self.norm2, y)), self.output_scale_factor)


class TimeConvs(TemporalConvLayer):
    """diffusers' four convolutions over time."""

    def forward(self, hidden_states: Tensor, num_frames: int = 1) -> Tensor:
        """(B·L, C, h, w), same shape."""
        x = hidden_states
        if self.training or not inferring(x):
            return super().forward(x, num_frames)
        y = last(x).unflatten(0, (-1, num_frames)).transpose(1, 2)
        for stage in (self.conv1, self.conv2, self.conv3, self.conv4):
            y = stage[-1](activated(stage[0], y))
        return y.transpose(1, 2).flatten(0, 1).add_(x)


class Block(BasicTransformerBlock):
    """diffusers' transformer block, for tokens that are given up."""

    def on(
        self, x: Float[Tensor, "n s c"], told: Pair | None = None, first: dict[nn.Module, Pair] | None = None
    ) -> Tensor:
        """Same shape. `told`: keys and values of words, as one clip has them; `first`: see `look`."""
        x = look(x, self.attn1, self.norm1, None, first)
        x = look(x, self.attn2, self.norm2, told)
        return fed(x, self.norm3, self.ff)


class Spatial(Transformer2DModel):
    """diffusers' transformer within frames, their words one set a clip."""

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **more: Any) -> Any:  # type: ignore[override]
        """(B·L, C, h, w), same shape, alone in a tuple; `encoder_hidden_states`: (B, S, D)."""
        x, text = hidden_states, encoder_hidden_states
        blocks: Any = self.transformer_blocks
        if not inferring(x):
            return super().forward(x, text, **more)
        told = [(block.attn2.to_k(text), block.attn2.to_v(text)) for block in blocks]
        firsts: list[dict[nn.Module, Pair]] = [{} for _ in text]

        def through(here: Tensor, clip: int, part: slice) -> Tensor:
            y = project(self.proj_in, tokens(self.norm(here)))
            for block, pair in zip(blocks, told, strict=True):
                sees = getattr(block.attn1.processor, "first_frame", False)
                y = block.on(y, one(pair, clip), firsts[clip] if sees else None)
            return project(self.proj_out, y).add_(tokens(here))

        x = last(x)
        return (pictures(over_frames(x, len(text), through), x),)


class Temporal(TransformerTemporalModel):
    """diffusers' transformer over the frames of each place."""

    def forward(self, hidden_states: Tensor, *, num_frames: int = 1, **more: Any) -> Any:  # type: ignore[override]
        """(B·L, C, h, w), same shape, alone in a tuple."""
        x = hidden_states
        if not inferring(x):
            return super().forward(x, num_frames=num_frames, **more)
        return (along(self, x, num_frames, lambda block, y: block.on(y)),)


KINDS: dict[type[nn.Module], type[nn.Module]] = {
    ResnetBlock2D: Resnet, TemporalConvLayer: TimeConvs, BasicTransformerBlock: Block, Transformer2DModel: Spatial,
    TransformerTemporalModel: Temporal, FeedForward: InPieces,
}  # fmt: skip


def leaner(module: nn.Module) -> type[nn.Module] | None:
    """What a layer of diffusers' may become; None for others, and for those with switches that are not known here."""
    if isinstance(module, ResnetBlock2D):
        plain = module.time_embedding_norm == "default" and not (module.up or module.down or module.skip_time_act)
        if not (plain and module.time_emb_proj is not None and isinstance(module.nonlinearity, nn.SiLU)):
            return None
    elif isinstance(module, FeedForward) and not gated(module):
        return None
    return KINDS.get(type(module))
