"""The method for a pipeline you already hold: the latents its own call starts from, after VSDS, fusion and diffusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Generator, Tensor

from .awaken import awaken
from .images import load_painting, load_proxy
from .priors.diffusers_i2v import adapt
from .priors.diffusers_i2v.base import PipelinePrior
from .priors.protocol import Denoiser
from .process import Level, Prediction, Video
from .shot import Controls, Shot


def awaken_latents(
    pipe: Any,
    painting: str | Path | Image.Image | np.ndarray,
    proxy: str | Path | Image.Image | np.ndarray | None,
    prompt: str,
    *,
    seed: int = 0,
    steps: int | None = None,
    distil: float = 0.6,
    distil_evaluations: int | None = None,
    blend: str = "slerp",
    curve: str = "stepwise-decreasing",
    gain: float | None = None,
    negative: str = "",
    guidance: float | None = None,
    strength: float | None = None,
    frames: int | None = None,
    fps: int | None = None,
    width: int | None = None,
    height: int | None = None,
    on_call: Callable[[Level], None] = lambda level: None,
    **options: Any,
) -> Tensor:
    """Where "Every Painting Awakened" starts the sampling, in the form `pipe(..., latents=)` takes.

        latents = awaken_latents(pipe, painting, proxy, prompt, seed=7)
        pipe(image=painting, prompt=prompt, latents=latents, generator=torch.Generator().manual_seed(7))

    is then what `awaken` makes with the same seed: the pipeline samples, with its own scheduler, from the painting's and
    the proxy's distilled and fused latents at the first level. Whatever is None is the default of the pipeline's call;
    what is given here must be given there too (`steps` as `num_inference_steps`, `frames` as `num_frames`, `guidance`,
    `negative`, `width`, `height`). `proxy=None` with `distil=0` gives the pipeline's plain noise. `options` go to the
    family's adapter. Raises `SettingError` for a pipeline of no supported family, and what `Shot` and `load_painting`
    raise.
    """
    prior = adapt(pipe, **options)
    told = prior.defaults()
    prior = prior.with_size((width or told.width, height or told.height))
    picture = load_painting(painting)
    shot = Shot(
        picture, prompt, negative=negative, controls=Controls(strength=strength),
        frames=prior.made(frames or told.frames),
        fps=fps or told.fps, steps=steps or told.steps, guidance=guidance, seed=seed, distil=distil,
        distil_evaluations=distil_evaluations, curve=curve, gain=gain, blend=blend,
    )  # fmt: skip
    other = None if proxy is None else load_proxy(proxy, picture)
    rng = Generator().manual_seed(seed)
    try:
        z = awaken(_UpToTheStart(prior), shot, other, rng, on_call)
    finally:
        prior.caching.rest()  # the pipeline's own call begins with nothing remembered
    with torch.no_grad():
        return prior.to_call(z, shot, rng)


class _UpToTheStart:
    """A prior whose solver does nothing, so that the method ends where the pipeline's own sampling begins."""

    def __init__(self, prior: PipelinePrior) -> None:
        self.card, self.prior = prior.card, prior

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        return self.prior.levels(shot, steps)

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        return self.prior.still(shots, rng)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """Encodes at the first question: the one for sampling is never asked."""
        bound: list[Denoiser] = []

        def call(z: Video, level: Level) -> Prediction:
            if not bound:
                bound.append(self.prior.bind(shots, rng))
            return bound[0](z, level)

        return call

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        return self.prior.decode(x, shot)

    def start(self, x: Video, level: Level, rng: Generator) -> Video:
        return self.prior.start(x, level, rng)

    def solve(self, denoise: Denoiser, z: Video, levels: Sequence[Level], rng: Generator) -> Video:
        return z
