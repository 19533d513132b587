"""AnimateAnything's UNet and Every Painting Awakened's equations against their recordings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from vivant.awaken import slerp, vsds
from vivant.priors.animate_anything.adapter import guided
from vivant.priors.animate_anything.net import AnimateAnythingUNet, UNetConfig
from vivant.process import Level, diffuse

from .record import EXACT, UNET, VSDS, Outcome, Record, read, relative


def animate_anything_net(record: Record) -> AnimateAnythingUNet:
    """The recorded UNet, its state dict loaded strictly."""
    net = AnimateAnythingUNet(UNetConfig.from_json(json.loads(record.metadata["config"])))
    net.load_state_dict(record.model)
    return net.eval()


@torch.no_grad()
def animate_anything(record: Record) -> Iterator[Outcome]:
    """Every `output.[prefix]sample[suffix]`: the suffix names what was changed, the prefix the set of inputs."""
    net = animate_anything_net(record)
    for name, reference in record.outputs.items():
        prefix, _, suffix = name.partition("sample")
        given = {key.removeprefix(prefix): value for key, value in record.inputs.items() if key.startswith(prefix)}
        if suffix not in ("", "_cfg", "_motion_none", "_mask_none") or "sample" not in given:
            yield Outcome(f"output.{name} (no such case is known)", float("nan"), UNET)
            continue
        text = given["encoder_hidden_states" + ("_cfg" if suffix == "_cfg" else "")]
        sample = given["sample"].repeat(max(1, text.shape[0] // given["sample"].shape[0]), 1, 1, 1, 1)
        mask = None if suffix == "_mask_none" else given.get("mask")
        motion = None if suffix == "_motion_none" else given.get("motion")
        ours = net(sample, given["timestep"], text, given["condition_latent"], mask, motion)
        yield Outcome(f"output.{name}", relative(ours, reference), UNET)


def epa(record: Record) -> Iterator[Outcome]:
    """Dual-path distillation's equations: vsds (eq. 2, 3), slerp (eq. 4) and the noised start."""
    if "vsds_latents" in record.outputs:
        yield from _vsds(record)
    if "slerp_a" in record.inputs:
        yield from _slerp(record)


def _vsds(record: Record) -> Iterator[Outcome]:
    given, reference = record.inputs, record.outputs
    net = animate_anything_net(record if record.model else read(weights_of(record)))
    schedule = zip(given["alpha_t"].tolist(), given["sigma_t"].tolist(), given["vsds_timesteps"].tolist(), strict=True)
    levels = [Level(a, s, float(t)) for a, s, t in schedule]
    rates, scale = given["step_sizes"].tolist(), float(json.loads(record.metadata["config"])["guidance_scale"])
    denoise = guided(
        net, given["prompt_embeds"], given["image_latent"], given.get("mask"), given.get("motion"), scale
    )  # fmt: skip
    noise = given["constant_noise"]
    x = given["image_latent"].expand_as(noise).clone()
    if "vsds_guided_eps_0" in reference:
        first = denoise(diffuse(x, noise, levels[0]), levels[0])
        yield Outcome("output.vsds_guided_eps_0", relative(first.eps, reference["vsds_guided_eps_0"]), UNET)
    if "vsds_trace" in reference:
        trace, step = [], x
        for level, rate in zip(levels, rates, strict=True):
            step = vsds(denoise, step, [level], noise, [rate])
            trace.append(step)
        yield Outcome("output.vsds_trace", relative(torch.stack(trace), reference["vsds_trace"]), VSDS)
    ours = vsds(denoise, x, levels, noise, rates)
    yield Outcome("output.vsds_latents", relative(ours, reference["vsds_latents"]), VSDS)
    if "vsds_latents_f64" in reference:
        yield Outcome("output.vsds_latents_f64", relative(ours, reference["vsds_latents_f64"]), VSDS)


def _slerp(record: Record) -> Iterator[Outcome]:
    given, reference = record.inputs, record.outputs
    a, b = given["slerp_a"], given["slerp_b"]
    ours = slerp(a, b, torch.linspace(0, 1, a.shape[2]))
    for name in ("slerp_f32", "slerp_f64"):
        if name in reference:
            yield Outcome(f"output.{name}", relative(ours, reference[name]), EXACT)
    if "init_f32" in reference:
        start = Level(float(given["alpha_t"][0]), float(given["sigma_t"][0]), float(given["timesteps"][0]))
        yield Outcome(
            "output.init_f32", relative(diffuse(ours, given["slerp_noise"], start), reference["init_f32"]), EXACT
        )  # fmt: skip


def weights_of(record: Record) -> Path:
    """The file that holds the weights a record was made with; its `unet` entry names it, from some folder above."""
    named = re.search(r"[\w./-]+\.safetensors", record.metadata.get("unet", ""))
    if named is None:
        raise SystemExit(f"expected model.* or a `unet` entry that names a safetensors file in {record.path}")
    here, wanted = record.path.resolve(), Path(named[0])
    above = [*here.parents, *Path(__file__).resolve().parents]
    tails = [Path(*wanted.parts[i:]) for i in range(len(wanted.parts))]
    for tail in tails:
        for folder in above:
            if (folder / tail).is_file():
                return folder / tail
    raise SystemExit(f"expected {wanted} in a folder above {record.path}, found none")


def animate_anything_shapes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The names and shapes of our state dict, without any storage."""
    with torch.device("meta"):
        return dict(AnimateAnythingUNet(UNetConfig.from_json(config)).state_dict())


RUNS: dict[str, Callable[[Record], Iterator[Outcome]]] = {"animate_anything": animate_anything, "epa": epa}
SHAPES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"animate_anything": animate_anything_shapes}
