"""What base models share whose frame 0 is the painting: one sampled latent, a pinned frame, guidance, a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..errors import WeightsError
from ..guidance import combine
from ..process import Form, Level, Prediction, Video
from ..shot import Shot
from .folder import first_line
from .frames2d import encode, latent_mask
from .once import Once

SCHEDULE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
    "prediction_type", "timestep_spacing", "steps_offset",
)  # fmt: skip
"""What is read of a saved scheduler; what is absent is as in diffusers' DDIM."""

STREAM = 0x1A7E27
"""Sets the stream the paintings' latents are sampled from apart from the one that draws the starting noise."""


def sampled_latents(
    vae: Any, shots: Sequence[Shot], size: tuple[int, int], once: Once, rng: Generator
) -> Float[Tensor, "B C 1 h w"]:
    """Each painting's latent, sampled from the VAE's posterior as in the models' training.

    The draw depends on the seed `rng` was made with and on nothing else: `still` and every `bind` of one animation must
    pin the same frame, whatever was drawn between them, and a clip must not depend on its company. `rng` stays put.
    """
    seed = rng.initial_seed() ^ STREAM
    return torch.cat([encode(vae, [shot], size, once, Generator().manual_seed(seed)) for shot in shots])


def pinned(first: Float[Tensor, "B C 1 h w"], z: Video, rest: Prediction, level: Level) -> Prediction:
    """Put frame 0 before the prediction of the others: x̂0 is `first`, and ε̂ what it takes, (z - a·x̂0)/s."""
    noise = frozen_noise(first, z, level)
    return Prediction(torch.cat([first, rest.x0], dim=2), torch.cat([noise, rest.eps], dim=2))


def frozen_noise(first: Float[Tensor, "B C 1 h w"], z: Video, level: Level) -> Float[Tensor, "B C 1 h w"]:
    """Frame 0's noise. DDIM keeps it from the start to the end, as x̂0 there is always `first`."""
    return (z[:, :, :1] - level.a * first) / level.s if level.s > 0 else torch.zeros_like(first)


def mix(out: Float[Tensor, "NB C L h w"], weights: Sequence[Sequence[float]]) -> Video:
    """Guidance by each clip's own weights: `weights[n][i]` for branch n, clip i; N·B outputs, branch by branch."""
    branches = out.chunk(len(weights))
    clips = range(len(weights[0]))
    return torch.cat([combine([b[i : i + 1] for b in branches], [w[i] for w in weights]) for i in clips])


def masks(shots: Sequence[Shot], size: Sequence[int], device: torch.device) -> Float[Tensor, "B 1 1 h w"] | None:
    """The motion masks at latent size; None where no shot has one."""
    if all(shot.controls.mask is None for shot in shots):
        return None
    return torch.cat([latent_mask(shot, size, device) for shot in shots])


def ddim_schedule(saved: Mapping[str, Any], noise: Mapping[str, Any]) -> Any:
    """The DDIM schedule of a saved scheduler, whatever kind it was saved as, `noise` overriding what it says.

    Raises `WeightsError` for one that makes no schedule or predicts none of noise, velocity and clean clip.
    """
    from diffusers import DDIMScheduler

    record = {**saved, **noise}
    if record.get("trained_betas") is None:
        for name in ("beta_start", "beta_end", "beta_schedule"):
            if name not in record:  # diffusers would fill in another model's noise
                raise WeightsError(f"expected {name} in scheduler_config.json, found none; download the folder again")
    try:
        schedule = DDIMScheduler(**{name: record[name] for name in SCHEDULE if name in record})
    except Exception as error:
        raise WeightsError(f"scheduler_config.json describes no noise schedule: {first_line(error)}") from None
    form_of(schedule)
    return schedule


def form_of(schedule: Any) -> Form:
    """What the network predicts. Raises `WeightsError` for a form that is not known."""
    form = schedule.config.prediction_type
    if form not in ("epsilon", "v_prediction", "sample"):
        raise WeightsError(f"expected a scheduler that predicts epsilon, v_prediction or sample, got {form!r}")
    return form


def level_at(schedule: Any, t: int) -> Level:
    """The level of training step `t`."""
    bar = float(schedule.alphas_cumprod[t].double())
    return Level(bar**0.5, (1 - bar) ** 0.5, float(t))
