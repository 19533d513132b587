"""Seconds and peak memory of one pass of each base model's network at its released width, random weights.

    python benchmarks/networks.py [NAMES] [--side 256] [--frames 8] [--threads 2] [--device cpu] [--dtype float32] [--compile]

*plain* is the straightforward build: convolutions over time as `Conv3d`, channels first. Times are ratios to it, the
variants taking turns in one run; *difference* is the largest one of their outputs over the largest output. Memory is the
process's peak on a CPU (weights included), the allocator's on a GPU. The networks have no dropout and attend through
`scaled_dot_product_attention` in every variant.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vivant.priors.layers import TimeConv


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


def plain(conv: TimeConv, x: torch.Tensor) -> torch.Tensor:
    """The convolution over time as `Conv3d` computes it."""
    return nn.Conv3d.forward(conv, x)


def measure(name: str, args: argparse.Namespace) -> list[str]:
    """Lines of the table for one network."""
    dtype = getattr(torch, args.dtype)
    net, given = build(name, args.frames, args.side, args.device, dtype)
    fast = TimeConv.forward
    chosen = ["plain", "ours", "ours, channels-last"] + (["ours, compiled"] if args.compile else [])
    compiled = torch.compile(net) if args.compile else net
    seconds: dict[str, list[float]] = {variant: [] for variant in chosen}
    outputs: dict[str, torch.Tensor] = {}
    if args.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    for turn in range(args.turns + 1):
        for variant in chosen:
            TimeConv.forward = plain if variant == "plain" else fast  # type: ignore[method-assign, assignment]
            form = torch.channels_last if "last" in variant else torch.contiguous_format
            for module in net.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(memory_format=form)  # type: ignore[call-overload]
            run = compiled if "compiled" in variant else net
            start = time.perf_counter()
            with torch.no_grad():
                outputs[variant] = run(**given).float()
            if args.device != "cpu":
                torch.cuda.synchronize()
            if turn:  # the first turn warms up
                seconds[variant].append(time.perf_counter() - start)
    TimeConv.forward = fast  # type: ignore[method-assign]
    base = statistics.median(seconds["plain"])
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if args.device == "cpu"
        else torch.cuda.max_memory_allocated()
    )
    scale = float(outputs["plain"].abs().max())
    lines = []
    for variant in chosen:
        middle = statistics.median(seconds[variant])
        off = float((outputs[variant] - outputs["plain"]).abs().max()) / scale
        lines.append(f"| {name} | {variant} | {middle:.2f} | {middle / base:.2f} | {off:.0e} | {peak / 1e9:.1f} |")
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
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| network | variant | seconds | time / plain | difference | peak GB |\n|---|---|---|---|---|---|")
    for name in args.names:
        for line in measure(name, args):
            print(line, flush=True)


if __name__ == "__main__":
    main()
