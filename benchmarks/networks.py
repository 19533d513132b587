"""Seconds and peak memory of one pass of each base model's network at its released width, random weights.

    python benchmarks/networks.py [NAMES] [--side 256] [--frames 8] [--threads 2] [--keep GB] [--device cpu] [--dtype float32]
                                  [--compile]

*plain* is the straightforward build of diffusers blocks: direct convolutions, over time as `Conv3d`, words projected for
every frame, feed-forwards whole. Times are ratios to it, the variants taking turns in one run; *CPU* is the same ratio of
the process's CPU time, which others on the machine disturb less; *difference* is the largest one of their outputs over
the largest output. Memory is the process's peak on a CPU (weights and kept transformed weights included), the
allocator's on a GPU. `--keep`: room for transformed weights (`vivant.priors.winograd.KEEP`). The first turn, which also
transforms weights, is not counted. No variant has dropout and all attend through `scaled_dot_product_attention`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from vivant.priors import layers, winograd
from vivant.priors.cinemo import net as cinemo_net
from vivant.priors.dynamicrafter import net as crafter_net


def animate_anything(frames: int, h: int, w: int) -> tuple[nn.Module, dict[str, Any]]:
    """The released 512 model."""
    from vivant.priors.animate_anything.net import AnimateAnythingUNet, UNetConfig

    net = AnimateAnythingUNet(UNetConfig())
    given = {"sample": torch.randn(1, 4, frames, h, w), "timestep": 500.0, "text": torch.randn(1, 77, 1024),
             "condition": torch.randn(1, 4, 1, h, w), "mask": torch.ones(1, 1, 1, h, w), "motion": 4.0}  # fmt: skip
    return net, given


def consisti2v(frames: int, h: int, w: int) -> tuple[nn.Module, dict[str, Any]]:
    """The released 256 model."""
    from vivant.priors.consisti2v.net import ConsistI2VUNet, UNetConfig

    net = ConsistI2VUNet(UNetConfig())
    return net, {"sample": torch.randn(1, 4, frames, h, w), "timestep": 500.0, "text": torch.randn(1, 77, 1024),
                 "first": torch.randn(1, 4, 1, h, w), "stride": 3.0}  # fmt: skip


def cinemo(frames: int, h: int, w: int) -> tuple[nn.Module, dict[str, Any]]:
    """The released model."""
    from vivant.priors.cinemo.net import CinemoUNet, UNetConfig

    net = CinemoUNet(UNetConfig())
    return net, {"residual": torch.randn(1, 4, frames, h, w), "timestep": 500.0, "text": torch.randn(1, 77, 768),
                 "first": torch.randn(1, 4, 1, h, w), "motion": 5.0}  # fmt: skip


def dynamicrafter(frames: int, h: int, w: int) -> tuple[nn.Module, dict[str, Any]]:
    """The released 512 model."""
    from vivant.priors.dynamicrafter.net import DynamiCrafterUNet, UNetConfig

    net = DynamiCrafterUNet(UNetConfig())
    context = torch.randn(1, 77 + 16 * frames, 1024)
    return net, {"x": torch.randn(1, 8, frames, h, w), "timesteps": torch.tensor([500]), "context": context}


NETWORKS: dict[str, Callable[[int, int, int], tuple[nn.Module, dict[str, Any]]]] = {
    f.__name__: f for f in (animate_anything, consisti2v, cinemo, dynamicrafter)
}


@torch.no_grad()
def build(name: str, frames: int, side: int, device: str, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Any]]:
    """A network without the wait of its own initialisation, and what it is asked."""
    torch.manual_seed(0)
    with torch.device("meta"):
        net, _ = NETWORKS[name](frames, side // 8, side // 8)
    net = net.to_empty(device=device).to(dtype).eval().requires_grad_(False)
    for part, value in net.state_dict().items():
        value.normal_(0, 0.02) if value.dim() > 1 else value.fill_(float(part.endswith("weight")))
    with torch.device("meta"):
        shapes = NETWORKS[name](frames, side // 8, side // 8)[1]
    given = {
        k: torch.randn(v.shape, device=device).to(dtype) if isinstance(v, torch.Tensor) else v
        for k, v in shapes.items()
    }
    if "timesteps" in given:
        given["timesteps"] = torch.tensor([500], device=device)
    return net, given


def word_by_frame(
    self: Any, attn: Any, x: torch.Tensor, encoder_hidden_states: torch.Tensor, attention_mask: None = None,
    count: int | None = None,
) -> Any:  # fmt: skip
    """A cross-attention whose words are repeated for every frame."""
    text = encoder_hidden_states.repeat_interleave(len(x) // len(encoder_hidden_states), dim=0)
    q, k, v = (
        y.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for y in (attn.to_q(x), attn.to_k(text), attn.to_v(text))
    )
    out = nn.functional.scaled_dot_product_attention(q, k, v, scale=attn.scale)
    return attn.to_out[0](out.transpose(1, 2).flatten(2))


def cinemo_block(self: Any, x: torch.Tensor, text: torch.Tensor, count: int) -> torch.Tensor:
    """Cinemo's block with the words repeated for every frame."""
    y = self.norm1(x)
    x = x + self.attn1.over(y, y)
    x = x + self.attn2.over(self.norm2(x), text.repeat_interleave(count, dim=0))
    y = x.unflatten(0, (-1, count)).transpose(1, 2).flatten(0, 1)
    y = y + self.attn_temp(self.norm_temp(y))
    y = y + self.ff(self.norm3(y))
    return y.unflatten(0, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)


def crafter_context(context: torch.Tensor, frames: int) -> crafter_net.Context:
    """DynamiCrafter's words, and its picture tokens where they are not each frame's own, repeated for every frame."""
    text, picture = deal(context, frames)
    count = len(text) * frames
    whole = None if picture is None else picture.repeat_interleave(count // len(picture), dim=0)
    return crafter_net.Context(text.repeat_interleave(frames, dim=0), whole)


deal = crafter_net.dealt


def never(x: torch.Tensor) -> bool:
    """No layer goes another way on a CPU."""
    return False


@contextmanager
def plain(net: nn.Module) -> Iterator[None]:
    """The straightforward build, for as long as this lasts."""
    swaps: list[tuple[Any, str, Any]] = [
        (layers.TimeConv, "forward", nn.Conv3d.forward), (layers.OneTextAClip, "__call__", word_by_frame),
        (cinemo_net.Block, "forward", cinemo_block), (crafter_net, "dealt", crafter_context),
    ]  # fmt: skip
    here = [m for m in list(sys.modules.values()) if getattr(m, "inferring", None) is winograd.inferring]
    swaps += [(module, "inferring", never) for module in here]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in swaps]
    hooks = [(module, module._forward_pre_hooks.copy()) for module in net.modules() if module._forward_pre_hooks]
    for owner, name, value in swaps:
        setattr(owner, name, value)
    for module, _ in hooks:
        module._forward_pre_hooks.clear()
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        for module, kept in hooks:
            module._forward_pre_hooks.update(kept)


def measure(name: str, args: argparse.Namespace) -> list[str]:
    """Lines of the table for one network."""
    dtype = getattr(torch, args.dtype)
    net, given = build(name, args.frames, args.side, args.device, dtype)
    chosen = ["plain", "ours"] + (["ours, compiled"] if args.compile else [])
    compiled = torch.compile(net) if args.compile else net
    times: dict[str, list[tuple[float, float]]] = {variant: [] for variant in chosen}
    outputs: dict[str, torch.Tensor] = {}
    if args.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    for turn in range(args.turns + 1):
        for variant in chosen:
            run = compiled if "compiled" in variant else net
            start, cpu = time.perf_counter(), time.process_time()
            with torch.no_grad(), plain(net) if variant == "plain" else nullcontext():
                outputs[variant] = run(**given).float()
            if args.device != "cpu":
                torch.cuda.synchronize()
            if turn:  # the first turn warms up
                times[variant].append((time.perf_counter() - start, time.process_time() - cpu))
    seconds, work = ({v: statistics.median(t[i] for t in times[v]) for v in chosen} for i in (0, 1))
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if args.device == "cpu"
        else torch.cuda.max_memory_allocated()
    )
    scale = float(outputs["plain"].abs().max())
    lines = []
    for v in chosen:
        off = float((outputs[v] - outputs["plain"]).abs().max()) / scale
        ratios = f"{seconds[v] / seconds['plain']:.2f} | {work[v] / work['plain']:.2f}"
        lines.append(f"| {name} | {v} | {seconds[v]:.2f} | {ratios} | {off:.0e} | {peak / 1e9:.1f} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--keep", type=float, default=winograd.KEEP / 1e9)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    winograd.KEEP = int(args.keep * 1e9)
    print(
        "| network | variant | seconds | time / plain | CPU / plain | difference | peak GB |\n|---|---|---|---|---|---|---|"
    )
    for name in args.names:
        for line in measure(name, args):
            print(line, flush=True)


if __name__ == "__main__":
    main()
