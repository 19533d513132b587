"""What a memory plan says, done to a loaded model: fewer frames at once, paths in turn, tiles, networks that visit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from .errors import DependencyError
from .memory import TILE, Plan
from .priors import winograd
from .priors.protocol import Denoiser, VideoPrior
from .process import Level, Prediction, Video
from .shot import Shot

Bind = Callable[[Sequence[Shot], Generator], Denoiser]


def apply(prior: VideoPrior, plan: Plan) -> list[str]:
    """Set the model up as planned; returns what was done, in words. Raises `DependencyError` without accelerate."""
    mine: Any = prior  # what a model lets be set is asked of it, not of the protocol
    if plan.smaller or plan.asked:
        mine.card = dataclasses.replace(prior.card, size=(plan.width, plan.height))
    if plan.decode_frames and hasattr(prior, "decode_frames"):
        mine.decode_frames = plan.decode_frames
    if plan.singly:
        mine.bind = singly(prior.bind)
    if plan.tiling:
        for name, net in networks(prior).items():
            if "vae" in name and hasattr(net, "enable_tiling"):
                net.enable_slicing()
                net.enable_tiling()
                if hasattr(net, "tile_latent_min_size"):  # its own measure is what it was trained at: 32 to 768
                    net.tile_sample_min_size, net.tile_latent_min_size = TILE, TILE // 8
    if plan.kept:
        winograd.KEEP = plan.kept
    if plan.offload:
        offload(prior, plan.device)
    return plan.choices


def singly(bind: Bind) -> Bind:
    """The clips of a batch one after the other: the memory of one, the time of all.

    Each is bound from the same state of `rng`, since what a model draws while it binds is one draw for all clips.
    """

    def bound(shots: Sequence[Shot], rng: Generator) -> Denoiser:
        before, each = rng.get_state(), []
        for shot in shots:
            rng.set_state(before)
            each.append(bind([shot], rng))
        if len(each) == 1:
            return each[0]

        def denoise(z: Video, level: Level) -> Prediction:
            found = [one(z[i : i + 1], level) for i, one in enumerate(each)]
            return Prediction(torch.cat([f.x0 for f in found]), torch.cat([f.eps for f in found]))

        return denoise

    return bound


def networks(prior: object) -> dict[str, Any]:
    """The networks a model holds, by attribute: its own, its `parts`', its pipeline's."""
    holders = [prior, getattr(prior, "parts", None), getattr(prior, "pipe", None)]
    found: dict[str, Any] = {}
    for holder in holders:
        items = getattr(holder, "components", None) or getattr(holder, "__dict__", {})
        found.update({name: value for name, value in items.items() if isinstance(value, nn.Module)})
    return found


def offload(prior: object, device: str) -> None:
    """Let the networks stay in RAM and visit `device` one at a time, whenever they are called.

    A diffusers pipeline does it by its own means. Elsewhere latents and conditions stay where the network rests, on the
    CPU: a call takes its tensors along and brings its answer back, so that the model's own code need not know.
    """
    try:
        from accelerate.hooks import ModelHook, add_hook_to_module
        from accelerate.utils import send_to_device
    except ImportError:
        raise DependencyError("expected accelerate for offloading, found none; pip install 'vivant[offload]'") from None
    pipe = getattr(prior, "pipe", None)
    if pipe is not None:
        pipe.enable_model_cpu_offload(device=device)
        return

    class Visit(ModelHook):
        """One network's visit: there before the call, home after it."""

        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            module.to(device)
            return send_to_device(args, device), send_to_device(kwargs, device)

        def post_forward(self, module: nn.Module, output: Any) -> Any:
            module.to("cpu")
            return home(output, send_to_device)

    for net in networks(prior).values():
        if not any(True for _ in net.parameters()):
            continue
        visit = Visit()
        add_hook_to_module(net, visit)
        for name in ("encode", "decode"):  # a VAE is called by these and not by its forward
            if hasattr(net, name):
                setattr(net, name, _visiting(net, getattr(net, name), visit))


def home(output: Any, send: Callable[[Any, str], Any]) -> Any:
    """An answer on the CPU, a VAE's posterior too."""
    posterior = getattr(output, "latent_dist", None)
    if posterior is not None:
        moved = type(posterior)(posterior.parameters.to("cpu"), deterministic=posterior.deterministic)
        return type(output)(latent_dist=moved)
    return send(output, "cpu")


def _visiting(net: nn.Module, method: Callable[..., Any], visit: Any) -> Callable[..., Any]:
    def call(*args: Tensor, **kwargs: Any) -> Any:
        args, kwargs = visit.pre_forward(net, *args, **kwargs)
        return visit.post_forward(net, method(*args, **kwargs))

    return call
