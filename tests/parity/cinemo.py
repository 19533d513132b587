"""Cinemo's UNet, its DCTInit start, its guidance and its schedule against their recordings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.fft import idct

from vivant.frequency import dct_init, dct_mix
from vivant.guidance import text_weights
from vivant.priors.cinemo.net import ROTARY, CinemoUNet, UNetConfig, optional
from vivant.priors.first_frame import ddim_schedule, level_at, mix
from vivant.priors.layers import frequencies
from vivant.process import diffuse

from .record import UNET, Outcome, Record, relative
from .sampling import absolute, ddim_step, schedule_table

START = 1e-5
"""Of DCTInit, absolute: what it adds to noise is itself small."""


@torch.no_grad()
def network(record: Record) -> Iterator[Outcome]:
    """Every `output.[prefix]sample`: the prefix names the set of inputs."""
    net = CinemoUNet(UNetConfig.from_json(json.loads(record.metadata["config"])))
    state = {name: value for name, value in record.model.items() if not optional(name)}
    for name in record.model.keys() - state.keys():  # constants the network computes for itself
        yield Outcome(f"model.{name}", relative(frequencies(ROTARY), record.model[name]), 1e-6)
    net.load_state_dict(state)
    net.eval()
    for name, reference in record.outputs.items():
        prefix, _, suffix = name.partition("sample")
        given = {key.removeprefix(prefix): value for key, value in record.inputs.items() if key.startswith(prefix)}
        if suffix or "sample" not in given:
            yield Outcome(f"output.{name} (no such case is known)", float("nan"), UNET)
            continue
        ours = net(
            given["sample"], given["timestep"], given["encoder_hidden_states"], given["base_content"],
            given["added_motion_ids"],
        )  # fmt: skip
        yield Outcome(f"output.{name}", relative(ours, reference), UNET)


def shapes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The names and shapes of our state dict, without any storage, and of the constants a checkpoint may hold."""
    with torch.device("meta"):
        net = CinemoUNet(UNetConfig.from_json(config))
    freqs = {
        f"{name}.rotary_emb.freqs": (ROTARY // 2,) for name, _ in net.named_modules() if name.endswith("attn_temp")
    }
    return {**net.state_dict(), **freqs}


def dctinit(record: Record) -> Iterator[Outcome]:
    """Every case of `params` that has a share: the noised painting, the mask and the start."""
    schedule = ddim_schedule({}, json.loads(record.metadata["config"]))
    for case, how in json.loads(record.metadata["params"]).items():
        if f"{case}.noise" not in record.inputs or "percentage" not in how:
            continue
        noise, first = record.inputs[f"{case}.noise"], record.inputs[f"{case}.base_content"]
        level, still = level_at(schedule, how["noise_level"]), first.expand(noise.shape)
        ours = {
            "base_content_noise": diffuse(still, noise, level),
            "mask": passed(noise.shape[-2], noise.shape[-1], how["percentage"]),
            "latents": dct_init(still, noise, level, how["percentage"]),
        }
        for key, value in ours.items():
            if f"{case}.{key}" in record.outputs:
                yield Outcome(f"output.{case}.{key}", absolute(value, record.outputs[f"{case}.{key}"]), START)


def passed(height: int, width: int, share: float) -> torch.Tensor:
    """Which DCT coefficients the mix takes from its first clip, seen from outside: it is asked for each in turn."""
    rows, columns = (torch.from_numpy(idct(np.eye(n), norm="ortho", axis=1)).float() for n in (height, width))
    waves = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(1, 1, -1, height, width)
    kept = (dct_mix(waves, torch.zeros_like(waves), share) * waves).sum((-1, -2))
    return kept.reshape(height, width)


def guidance(record: Record) -> Iterator[Outcome]:
    """Guidance, single DDIM steps on residuals with it, and the frames they become."""
    how, reference = json.loads(record.metadata["params"])["guidance"], record.outputs
    out, z, first = (record.inputs[f"guidance.{key}"] for key in ("noise_pred", "latents", "base_content"))
    eps = mix(out, [[w] for w in text_weights(how["guidance_scale"])])
    if "guidance.noise_pred" in reference:
        yield Outcome("output.guidance.noise_pred", relative(eps, reference["guidance.noise_pred"]), START)
    if "guidance.decode_latents" in reference:
        frames = torch.cat([first, first + z], dim=2)
        yield Outcome("output.guidance.decode_latents", relative(frames, reference["guidance.decode_latents"]), START)
    schedule = ddim_schedule({}, json.loads(record.metadata["config"]))
    yield from ddim_step(record, schedule, how["num_inference_steps"], z, eps)


def cinemo(record: Record) -> Iterator[Outcome]:
    """What the file holds: a network, starts, guidance, a schedule."""
    if record.model:
        yield from network(record)
    if any(key.endswith(".noise") for key in record.inputs):
        yield from dctinit(record)
    if "guidance.noise_pred" in record.inputs:
        yield from guidance(record)
    if any(key.startswith("scheduler.") for key in record.outputs):
        yield from schedule_table(record, ddim_schedule({}, json.loads(record.metadata["config"])))


RUNS: dict[str, Callable[[Record], Iterator[Outcome]]] = {"cinemo": cinemo}
SHAPES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"cinemo": shapes}
