"""DynamiCrafter's UNet, resampler, sampler and training targets against their recordings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Generator, Tensor

from vivant.guidance import text_weights, three_branch_weights
from vivant.priors.dynamicrafter.adapter import guided
from vivant.priors.dynamicrafter.net import DynamiCrafterUNet, UNetConfig
from vivant.priors.dynamicrafter.resampler import Resampler, ResamplerConfig
from vivant.priors.dynamicrafter.schedule import SCHEDULES, Schedule
from vivant.priors.dynamicrafter.weights import OLD_RATE, RATE, networks, shapes
from vivant.process import Level, Prediction, Video, diffuse
from vivant.solvers import ancestral_sigma, ddim_stochastic

from .record import UNET, Outcome, Record, relative

FIRST_STEP = 2e-3
"""Of runs with η = 1 from zero terminal SNR: the official float32 root is not 0 at the first step, as it should be."""


@torch.no_grad()
def dynamicrafter(record: Record) -> Iterator[Outcome]:
    """Whatever the file holds: sampling runs with a stand-in network, the resampler, or the UNet."""
    if "cases" in record.metadata:
        yield from _sampling(record)
        return
    config = json.loads(record.metadata["config"])
    if "num_queries" in config:
        resampler = Resampler(ResamplerConfig.from_json(config))
        resampler.load_state_dict(record.model)
        yield Outcome("output.tokens", relative(resampler(record.inputs["x"]), record.outputs["tokens"]), UNET)
        return
    yield from _unet(record, UNetConfig.from_json(config))


def _unet(record: Record, config: UNetConfig) -> Iterator[Outcome]:
    """Every `output.[prefix]sample[suffix]`: the suffix names what was changed, the prefix the set of inputs."""
    net = DynamiCrafterUNet(config)
    old, new = (name.removeprefix("model.diffusion_model.") for name in (OLD_RATE, RATE))
    net.load_state_dict({k.replace(old, new): v for k, v in record.model.items()})
    net.eval()
    for name, reference in record.outputs.items():
        prefix, _, suffix = name.partition("sample")
        given = {key.removeprefix(prefix): value for key, value in record.inputs.items() if key.startswith(prefix)}
        if suffix not in ("", "_default_fs", "_shared_context") or "x" not in given:
            yield Outcome(f"output.{name} (no such case is known)", float("nan"), UNET)
            continue
        context = given["context_shared" if suffix == "_shared_context" else "context"]
        fs = None if suffix == "_default_fs" else given.get("fs")
        yield Outcome(f"output.{name}", relative(net(given["x"], given["timesteps"], context, fs), reference), UNET)


def _sampling(record: Record) -> Iterator[Outcome]:
    """Each case's schedule, branches, steps and result, and the training targets."""
    tensors = load_file(record.path)
    cases = json.loads(record.metadata["cases"])
    for name, case in cases.items():
        yield from _case(name, case, tensors, stand_in(record.model))
    for name in sorted({key.partition(".")[0] for key in tensors if key.startswith("train")}):
        found = [schedule_of(case) for case in cases.values() if f"train{case['res']}" == name]
        schedule = found[0] if found else SCHEDULES[name.removeprefix("train")]
        yield from _training(name, schedule, tensors, stand_in(record.model))


def schedule_of(case: Mapping[str, Any]) -> Schedule:
    """The schedule a case was run with."""
    return Schedule(
        form="v_prediction" if case["parameterization"] == "v" else "epsilon",
        zero_snr=case["rescale_betas_zero_snr"],
        base=case["base_scale"] if case["use_dynamic_rescale"] else None,
        trailing=case["spacing"] == "uniform_trailing",
        rescale=case["gr"],
    )


def stand_in(model: Mapping[str, Tensor]) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The recorded runs' network: tanh(W·x + U·mean(context) + a·sin(t/100) + c·fs/20)."""

    def net(x: Tensor, t: Tensor, context: Tensor, fs: Tensor) -> Tensor:
        seen = context.mean(1) @ model["U"].T
        clock = model["a"] * torch.sin(0.01 * t.float())[:, None] + model["c"] * 0.05 * fs.float()[:, None]
        return torch.tanh(torch.einsum("oc,bcfhw->bofhw", model["W"], x) + (seen + clock)[..., None, None, None])

    return net


def _case(name: str, case: Mapping[str, Any], tensors: Mapping[str, Tensor], net: Any) -> Iterator[Outcome]:
    schedule = schedule_of(case)
    clock = schedule.clock(case["S"])
    levels = schedule.at(clock)
    levels = [*levels[:-1], schedule.end(levels[-2])]
    loose = schedule.zero_snr and case["eta"] == 1
    sigma = ancestral_sigma(case["eta"])
    drawn = [sigma(now, after) for now, after in pairwise(levels)]
    for key, ours in (
        ("ddim_timesteps", torch.tensor(clock[::-1])),
        ("ddim_alphas", schedule.bars[clock[::-1]]),
        ("ddim_sigmas", torch.tensor(drawn[::-1], dtype=torch.float64)),
        ("ddim_scale_arr", schedule.scale[clock[::-1]]),
        ("alphas_cumprod", schedule.bars),
    ):
        recorded = tensors.get(f"{name}.schedule.{key}")
        if recorded is not None and bool(recorded.any()):
            yield Outcome(f"{name}.schedule.{key}", relative(ours, recorded), UNET)

    contexts = [tensors[f"input.context_{kind}"] for kind in ("uncond", "uncond_text_only", "cond")]
    none, both = text_weights(case["cfg"])
    weights = (none, 0.0, both)
    if case["multi"] and case["cfg_img"] is not None:  # the official default is the text's, which is the rule above
        weights = three_branch_weights(case["cfg_img"], case["cfg"])
    given = {k.removeprefix(f"{name}.input."): v for k, v in tensors.items() if k.startswith(f"{name}.input.")}
    clips = given["x_T"].shape[0]
    denoise = guided(net, contexts, [weights] * clips, tensors["input.c_concat"], given["fs"], schedule)
    seen: list[Video] = []
    clean: list[Video] = []

    def watched(z: Video, level: Level) -> Prediction:
        guess = denoise(z, level)
        seen.append(z)
        k = schedule.scale[int(levels[min(len(seen), len(levels) - 2)].t)]
        clean.append(guess.x0 * float(k))  # what the official code calls pred_x0 is scaled for the next level
        return guess

    noise = iter(given["noise"])
    out = ddim_stochastic(watched, given["x_T"], levels, Generator(), sigma, lambda like, rng: next(noise))
    tolerance = FIRST_STEP if loose else UNET
    results = {"x_inter": torch.stack([*seen[1:], out]), "pred_x0": torch.stack(clean), "sample": out}
    for key, ours in results.items():
        yield Outcome(f"{name}.output.{key}", relative(ours, tensors[f"{name}.output.{key}"]), tolerance)
    t = torch.tensor(clock)
    for kind, context in zip(("uncond", "uncond_text_only", "cond"), contexts, strict=True):
        recorded = tensors.get(f"{name}.output.model_{kind}")
        if recorded is not None:
            pairs = [(torch.cat([z, tensors["input.c_concat"]], dim=1), i) for z, i in zip(seen, t, strict=True)]
            ours = torch.stack([net(x, i.expand(clips), context, given["fs"]) for x, i in pairs])
            yield Outcome(f"{name}.output.model_{kind}", relative(ours, recorded), tolerance)


def _training(name: str, schedule: Schedule, tensors: Mapping[str, Tensor], net: Any) -> Iterator[Outcome]:
    """The noisy clip, the target and the loss of a training step."""
    given = {k.removeprefix(f"{name}.input."): v for k, v in tensors.items() if k.startswith(f"{name}.input.")}
    z, noise, clock = given["z"], given["noise"], given["t"].tolist()
    noisy, target = [], []
    for i, level in enumerate(schedule.at(clock)[:-1]):
        p, q = schedule.coefficients(level)
        noisy.append(diffuse(z[i], noise[i], level))
        target.append(p * z[i] + q * noise[i])
    scaled = schedule.scale[given["t"]].float().view(-1, 1, 1, 1, 1) * z
    x, wanted = torch.stack(noisy), torch.stack(target)
    out = net(torch.cat([x, given["c_concat"]], dim=1), given["t"], given["context"], given["fs"])
    loss = (out - wanted).square().mean().reshape(1)
    for key, ours in {"x_start_scaled": scaled, "x_noisy": x, "target": wanted, "loss": loss}.items():
        yield Outcome(f"{name}.output.{key}", relative(ours, tensors[f"{name}.output.{key}"]), UNET)


def dynamicrafter_shapes(record: Mapping[str, Any]) -> dict[str, Any]:
    """The names and shapes of our checkpoint, as far as the record lists parts, or of the UNet a config describes."""
    if "keys" not in record:
        with torch.device("meta"):
            return dict(DynamiCrafterUNet(UNetConfig.from_json(record)).state_dict())
    recorded = record["keys"]
    variant = "256" if any(key.endswith(".attn2.alpha") for key in recorded) else "512"
    parts = {prefix: net for prefix, net in networks(variant).items() if any(k.startswith(prefix) for k in recorded)}
    ours: dict[str, Any] = shapes(parts)
    if any(key.startswith(OLD_RATE) for key in recorded):
        ours = {key.replace(RATE, OLD_RATE): shape for key, shape in ours.items()}
    return ours


RUNS: dict[str, Callable[[Record], Iterator[Outcome]]] = {"dynamicrafter": dynamicrafter}
SHAPES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"dynamicrafter": dynamicrafter_shapes}
