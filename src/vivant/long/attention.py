"""FreeNoise's window-fused attention (Qiu et al. 2024, §3.3, eq. 5 to 7): a network runs on a whole film, its attention over
time on overlapping windows of the length it was trained on, whose outputs are fused.

    F_j = Σ_i w(j - s_i)·F_j^i / Σ_i w(j - s_i),    w(p) = min(p, L-1-p) + 1, window i from frame s_i on

Each window counts its positions from 0. Where the painting goes in as the network's own frame 0 it leads every window, as
it led every clip of the training; its own output is the first window's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..priors.protocol import VideoPrior

Call = Callable[..., Any]


def central(length: int) -> Float[Tensor, " L"]:
    """Weights that fall off from the middle: p or L-1-p, whichever is less, plus one."""
    place = torch.arange(length, dtype=torch.float64)
    return torch.minimum(place, length - 1 - place) + 1


@dataclass(frozen=True)
class Windows:
    """How a film of `count` of a network's frames is attended to."""

    count: int
    length: int
    """frames of a window, the painting's included"""
    stride: int
    lead: int = 0
    """1 where the network's frame 0 is the painting"""

    @property
    def parts(self) -> int:
        """How many windows' worth of frames the film has: so many parts are computed one after another to save memory."""
        return -(-self.count // self.length)

    @cached_property
    def each(self) -> list[tuple[Int[Tensor, " L"], Float[Tensor, " L"]]]:
        """The frames of each window, and its share in each of them; the shares in a frame sum to 1."""
        wide, moving = self.length - self.lead, self.count - self.lead
        starts = list(range(0, moving - wide + 1, self.stride))
        if starts[-1] + wide < moving:
            starts.append(moving - wide)
        own = [torch.arange(s, s + wide) + self.lead for s in starts]
        places = [torch.cat([torch.arange(self.lead), mine]) for mine in own]
        weights = [
            torch.cat([torch.full((self.lead,), float(k == 0), dtype=torch.float64), central(wide)])
            for k in range(len(starts))
        ]
        total = torch.zeros(self.count, dtype=torch.float64)
        for place, weight in zip(places, weights, strict=True):
            total[place] += weight
        return [(place, weight / total[place]) for place, weight in zip(places, weights, strict=True)]

    def fused(self, call: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
        """`call` on each window of `x`, whose frames lie along `axis`; another number of frames than a film's: as it is."""
        if x.shape[axis] != self.count or self.count <= self.length:
            return call(x)
        out = torch.zeros(())
        for k, (places, shares) in enumerate(self.each):
            places = places.to(x.device)
            said = call(x.index_select(axis, places))
            if k == 0:
                size = list(said.shape)
                size[axis] = self.count
                out = torch.zeros(size, dtype=torch.promote_types(said.dtype, torch.float32), device=said.device)
            view = [1] * said.ndim
            view[axis] = -1
            out.index_add_(axis, places, said.to(out) * shares.to(out).view(view))
        return out.to(x.dtype)


def networks(prior: VideoPrior) -> list[nn.Module]:
    """The prior's UNets; none for priors of other networks."""
    held = (getattr(getattr(prior, holder, None), "unet", None) for holder in ("parts", "pipe"))
    found = [net for net in (*held, getattr(prior, "net", None)) if isinstance(net, nn.Module)]
    return list(dict.fromkeys(found))


def _modules(prior: VideoPrior) -> list[nn.Module]:
    return list(dict.fromkeys(module for net in networks(prior) for module in net.modules()))


def leads(prior: VideoPrior) -> tuple[int, int]:
    """(lead, extra): whether the network's frame 0 is the painting, and how many frames it has beside the latent ones."""
    kinds = {type(net).__name__ for net in networks(prior)}
    if "AnimateAnythingUNet" in kinds:
        return 1, 1
    return int(bool(kinds & {"ConsistI2VUNet", "CinemoUNet"})), 0


def over_time(prior: VideoPrior) -> bool:
    """Whether windows can be fused within the prior's network: attention over time was found in it."""
    return any(True for module in _modules(prior) for _ in sites(module, Windows(1, 1, 1)))


def numbered(prior: VideoPrior) -> bool:
    """Whether the network tells each frame of a clip of its own length something of its own: DynamiCrafter's picture tokens."""
    return any(type(net).__name__ == "DynamiCrafterUNet" for net in networks(prior))


def sites(module: nn.Module, windows: Windows) -> Iterator[tuple[Any, str, Call]]:
    """(object, method's name, what takes its place) for every attention over time that `module` itself is."""
    from diffusers.models.transformers.transformer_temporal import (
        TransformerSpatioTemporalModel,
        TransformerTemporalModel,
    )
    from diffusers.models.unets.unet_i2vgen_xl import I2VGenXLTransformerTemporalEncoder

    from ..priors.cinemo.net import TemporalAttention
    from ..priors.consisti2v.net import TemporalBlock
    from ..priors.dynamicrafter.net import TemporalTransformer
    from ..priors.svd_flow.net import MotionAttention

    if isinstance(module, TransformerTemporalModel | TemporalTransformer):
        for block in cast(Any, module.transformer_blocks):
            for attention in (block.attn1, block.attn2):
                if attention is not None:
                    yield attention, "forward", _along(windows, attention.forward, 1)
    elif isinstance(module, I2VGenXLTransformerTemporalEncoder):
        yield module.attn1, "forward", _along(windows, module.attn1.forward, 1)
    elif isinstance(module, TemporalAttention):
        yield module, "forward", _along(windows, module.forward, 1)
    elif isinstance(module, TemporalBlock):
        yield module.attn1, "over_time", _along(windows, module.attn1.over_time, 2)
        yield module.attn2, "over_words", _along(windows, module.attn2.over_words, 2)  # it turns with the frame's place
    elif isinstance(module, TransformerSpatioTemporalModel):
        yield from _spatio_temporal(module, windows)
    elif isinstance(module, MotionAttention):
        yield module, "forward", _motion(windows, module.forward)


def _along(windows: Windows, real: Call, axis: int) -> Call:
    def call(x: Tensor, *given: Any, **more: Any) -> Tensor:
        return windows.fused(lambda part: real(part, *given, **more), x, axis)

    return call


def _spatio_temporal(module: Any, windows: Windows) -> Iterator[tuple[Any, str, Call]]:
    """Stable Video Diffusion adds each frame's place before its temporal block: it is added in the windows instead."""
    embed = module.time_pos_embed.forward

    def nowhere(wave: Tensor, *given: Any) -> Tensor:
        return torch.zeros_like(embed(wave, *given))

    def within(real: Call) -> Call:
        def call(x: Tensor, num_frames: int, encoder_hidden_states: Tensor | None = None) -> Tensor:
            def window(part: Tensor) -> Tensor:
                count = part.shape[1]
                places = embed(module.time_proj(torch.arange(count, device=x.device)).to(x.dtype))
                moved = (part + places[None, :, None]).flatten(0, 1)
                return real(moved, num_frames=count, encoder_hidden_states=encoder_hidden_states).unflatten(
                    0, (-1, count)
                )

            return windows.fused(window, x.unflatten(0, (-1, num_frames)), 1).flatten(0, 1)

        return call

    yield module.time_pos_embed, "forward", nowhere
    for block in module.temporal_transformer_blocks:
        yield block, "forward", within(block.forward)


def _motion(windows: Windows, real: Call) -> Call:
    """Attention to motion: everything it is given has the frames of all clips one after another."""

    def call(z: Tensor, motion: Tensor, heard: Tensor, frames: int) -> Tensor:
        width, many = z.shape[1], motion.shape[1]
        if motion.shape[-2:] != z.shape[-2:]:
            motion = nn.functional.interpolate(motion, size=z.shape[-2:], mode="bilinear")
        told = heard.view(-1, 1, 1, 1).expand(-1, 1, *z.shape[-2:]).to(z)

        def window(part: Tensor) -> Tensor:
            flat = part.flatten(0, 1)
            parts = flat[:, :width], flat[:, width : width + many], flat[:, -1:, 0, 0].unsqueeze(-1)
            return real(*parts, part.shape[1]).unflatten(0, (-1, part.shape[1]))

        together = torch.cat([z, motion.to(z), told], 1).unflatten(0, (-1, frames))
        return windows.fused(window, together, 1).flatten(0, 1)

    return call


def _in_parts(windows: Windows, real: Call) -> Call:
    """A layer that looks at one row at a time, some rows after the others: its inner tensors need not all be there."""

    def call(x: Tensor, *given: Any, **more: Any) -> Tensor:
        rows = x.shape[0]
        if windows.parts <= 1 or rows < windows.parts or more:
            return real(x, *given, **more)
        if any(not isinstance(v, Tensor) or v.shape[0] != rows for v in given):
            return real(x, *given)
        parts = zip(*(v.tensor_split(windows.parts) for v in (x, *given)), strict=True)
        return torch.cat([real(*part) for part in parts])

    return call


@contextmanager
def fused_over_time(prior: VideoPrior, latents: int, length: int, stride: int) -> Iterator[None]:
    """Within it the prior's network attends over time in windows when it is given a film of `latents` latent frames.

    `length`, `stride`: latent frames of a window, and from one window to the next. Feed-forwards and convolutions of single
    frames are computed a window's worth of frames at a time.
    """
    from diffusers.models.attention import FeedForward
    from diffusers.models.resnet import ResnetBlock2D

    lead, extra = leads(prior)
    windows = Windows(latents + extra, length + extra, stride, lead)
    with ExitStack() as put_back:
        for module in _modules(prior):
            places = list(sites(module, windows))
            if isinstance(module, FeedForward | ResnetBlock2D):
                places.append((module, "forward", _in_parts(windows, module.forward)))
            for owner, name, instead in places:
                put_back.callback(_put_back, owner, name, vars(owner).get(name))
                setattr(owner, name, instead)
        yield


def _put_back(owner: Any, name: str, before: Any) -> None:
    if before is None:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
