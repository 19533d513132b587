"""ConsistI2V's UNet, its FrameInit start, its guidance and its schedule against their recordings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from vivant.frequency import frame_init, low_pass
from vivant.guidance import rescale, text_weights, three_branch_weights
from vivant.priors.consisti2v.net import ConsistI2VUNet, UNetConfig
from vivant.priors.first_frame import ddim_schedule, level_at, mix
from vivant.process import diffuse

from .record import UNET, Outcome, Record, relative
from .sampling import absolute, ddim_step, schedule_table

START = 1e-5
"""Of FrameInit, absolute: what it adds to noise is itself small."""


@torch.no_grad()
def network(record: Record) -> Iterator[Outcome]:
    """Every `output.[prefix]sample`: the prefix names the set of inputs."""
    net = ConsistI2VUNet(UNetConfig.from_json(json.loads(record.metadata["config"])))
    net.load_state_dict(record.model)
    net.eval()
    for name, reference in record.outputs.items():
        prefix, _, suffix = name.partition("sample")
        given = {key.removeprefix(prefix): value for key, value in record.inputs.items() if key.startswith(prefix)}
        if suffix or "sample" not in given:
            yield Outcome(f"output.{name} (no such case is known)", float("nan"), UNET)
            continue
        stride = given.get("frame_stride", torch.tensor(3))
        ours = net(
            given["sample"], given["timestep"], given["encoder_hidden_states"], given["first_frame_latents"], stride
        )  # fmt: skip
        yield Outcome(f"output.{name}", relative(ours, reference), UNET)


def shapes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The names and shapes of our state dict, without any storage."""
    with torch.device("meta"):
        return dict(ConsistI2VUNet(UNetConfig.from_json(config)).state_dict())


def frameinit(record: Record) -> Iterator[Outcome]:
    """Every case of `params` that has a filter: the noise, the noised painting, the filter and the start."""
    schedule = ddim_schedule({}, json.loads(record.metadata["config"]))
    for case, how in json.loads(record.metadata["params"]).items():
        if f"{case}.first_frame_latents" not in record.inputs:
            continue
        given = {key: record.inputs[f"{case}.{key}"] for key in ("first_frame_latents", "noise_base", "noise_ind")}
        shared = how["noise_alpha"] ** 2 / (1 + how["noise_alpha"] ** 2)
        noise = shared**0.5 * given["noise_base"] + (1 - shared) ** 0.5 * given["noise_ind"]
        still = given["first_frame_latents"][:, :, None].expand_as(noise)
        level = level_at(schedule, how["noise_level"])
        size = (noise.shape[2], noise.shape[3], noise.shape[4])
        passes = low_pass(how["filter"], size, how["d_s"], how["d_t"], how.get("n") or 4)
        ours = {
            "noise": noise, "lpf": passes, "z_T": diffuse(still, noise, level),
            "latents": frame_init(still, noise, level, passes),
        }  # fmt: skip
        for key, value in ours.items():
            if f"{case}.{key}" in record.outputs:
                yield Outcome(f"output.{case}.{key}", absolute(value, record.outputs[f"{case}.{key}"]), START)


def guidance(record: Record) -> Iterator[Outcome]:
    """Both ways of guidance, its rescaling, and single DDIM steps with it."""
    how, reference = json.loads(record.metadata["params"])["guidance"], record.outputs
    out, z = record.inputs["guidance.noise_pred"], record.inputs["guidance.latents"]
    txt, img = how["guidance_scale_txt"], how["guidance_scale_img"]
    branches = out.chunk(3)
    both = mix(out, [[w] for w in three_branch_weights(img, txt)])
    text = mix(torch.cat([branches[0], branches[2]]), [[w] for w in text_weights(txt)])
    rescaled = rescale(text, branches[2], how["guidance_rescale"])
    for key, ours in (("both", both), ("text", text), ("text_rescaled", rescaled)):
        if f"guidance.{key}" in reference:
            yield Outcome(f"output.guidance.{key}", relative(ours, reference[f"guidance.{key}"]), START)
    schedule = ddim_schedule({}, json.loads(record.metadata["config"]))
    yield from ddim_step(record, schedule, how["num_inference_steps"], z, both)


def consisti2v(record: Record) -> Iterator[Outcome]:
    """What the file holds: a network, starts, guidance, a schedule."""
    if record.model:
        yield from network(record)
    if any(key.endswith(".first_frame_latents") for key in record.inputs):
        yield from frameinit(record)
    if "guidance.noise_pred" in record.inputs:
        yield from guidance(record)
    if any(key.startswith("scheduler.") for key in record.outputs):
        yield from schedule_table(record, ddim_schedule({}, json.loads(record.metadata["config"])))


RUNS: dict[str, Callable[[Record], Iterator[Outcome]]] = {"consisti2v": consisti2v}
SHAPES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"consisti2v": shapes}
