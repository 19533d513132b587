"""What all diffusers image-to-video pipelines share behind the seam; a family adds its conditions and its network call."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ...errors import SettingError
from ...guidance import in_interval
from ...noise import white
from ...process import Form, Level, Prediction, Video, coefficients, diffuse, recover
from ...shot import Shot
from ..combine import masked
from ..frames2d import latent_mask, working_size
from ..once import Once
from ..protocol import Card, Denoiser
from .caching import Caching
from .grid import Grid, Step, noise_scale, opening, read_grid, suited_gain
from .parts import PINNED, Parts, fresh, picture, pinned


@dataclass(frozen=True)
class Defaults:
    """What the pipeline's own call takes when it is told nothing."""

    width: int
    height: int
    frames: int
    steps: int
    guidance: float
    fps: int


class PipelinePrior(ABC):
    """A diffusers pipeline as a `VideoPrior`: its components, its conditioning methods, its scheduler.

    What is random in its conditioning (the sampled latent of the painting, SVD's noise on it) is drawn from a fresh
    generator with the seed of the one passed: it is the same for both paths, for VSDS and for the sampling, and equal
    to what `pipe(..., generator=Generator().manual_seed(seed), latents=...)` draws.
    """

    family: ClassVar[str]
    fps: ClassVar[int] = 8
    spatial: int
    """pixels to one latent cell, per side"""
    multiple: int
    """sides are multiples of this many pixels"""
    temporal: int = 1
    """frames to one latent frame, after the first"""
    channels: int
    """latent channels"""

    def __init__(
        self, pipe: Any, size: tuple[int, int] | None = None, fit: Literal["area", "exact"] = "area",
        gain: float | None = None, guidance_interval: tuple[float, float] = (0.0, math.inf), cache: str | None = None,
    ) -> None:  # fmt: skip
        """`size`: (width, height), the pipeline's own when None; `fit`: its area in the painting's aspect, or exactly it.

        `gain`: factor on the VSDS step sizes in place of `suited_gain`; `guidance_interval`: guidance is on where noise
        over signal lies between the two, elsewhere the network is asked once a level. `cache`: one of `CACHES`, on
        while the method asks the network and never after.
        """
        low, high = guidance_interval
        if not 0 <= low < high:
            raise SettingError(f"expected a guidance interval 0 <= low < high, got {low} and {high}")
        self.pipe, self.fit, self.guidance_interval, self.once = pipe, fit, (low, high), Once()
        self.caching = Caching(pipe, cache, self.family)
        told = self.defaults()
        self.card = Card(
            name=self.family, frames=self.made(told.frames), fps=told.fps, steps=told.steps, guidance=told.guidance,
            size=size or (told.width, told.height), solver="ddim",
        )  # fmt: skip
        self.card = replace(self.card, gain=self.suited_gain() if gain is None else gain)
        self.gain = gain

    def suited_gain(self) -> float:
        """The VSDS gain that suits the pipeline's present scheduler at its default steps and size, for p = 0.6."""
        assert self.card.size is not None
        width, height = self.card.size
        cells = ((self.card.frames - 1) // self.temporal + 1, height // self.spatial, width // self.spatial)
        return round(suited_gain(self.grid(self.card.steps, cells).levels), 2)

    # What a family says

    @abstractmethod
    def conditions(self, shot: Shot, rng: Generator) -> Parts:
        """Everything the network is told about one clip, positive and negative, from the pipeline's own methods."""

    @abstractmethod
    def emit(self, z: Video, level: Level, parts: Parts, positive: bool) -> Video:
        """The network's raw output for one branch of the guidance."""

    @abstractmethod
    def encode(self, video: Float[Tensor, "1 3 F H W"], rng: Generator) -> Video:
        """Frames in [-1, 1] to scaled latents, without randomness."""

    @abstractmethod
    def shown(self, x: Video, shot: Shot) -> Float[Tensor, "1 3 F H W"]:
        """One clip's latents to frames, by the pipeline's own way."""

    def weights(self, shots: Sequence[Shot], level: Level) -> Float[Tensor, "B 1 L 1 1"]:
        """The guidance scale g of each clip (and frame): F_neg + g·(F_pos - F_neg). At most 1: no second branch."""
        scales = [self.card.guidance if s.guidance is None else s.guidance for s in shots]
        return torch.tensor(scales).clamp_min(1.0).view(-1, 1, 1, 1, 1)

    def timing(self, steps: int, cells: tuple[int, int, int]) -> dict[str, Any]:
        """What the pipeline passes to its scheduler's `set_timesteps` besides the step count."""
        return {}

    def own_start(self, x: Video, noise: Video, level: Level) -> Video:
        """The pipeline's initial latents for the untouched still, on the scale of z."""
        exploding = read_grid(self.pipe.scheduler, 1, **self.timing(1, _cells(x))).exploding
        return noise_scale(self.pipe.scheduler, level, exploding) * noise

    def to_call(self, z: Video, shot: Shot, rng: Generator) -> Tensor:
        """A start z (1, C, L, h, w) in the form the pipeline's `latents=` argument takes, for `shot.steps` steps."""
        grid = self.grid(shot.steps, _cells(z))
        return z / noise_scale(self.pipe.scheduler, grid.levels[0], grid.exploding)

    def stepper(self, grid: Grid) -> Step:
        """How one step of the scheduler is called."""
        return grid.step()

    # The four methods of every prior

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        """The pipeline's own grid: `steps` levels, then (1, 0, 0)."""
        return self.grid(steps, self.cells(shot)).levels

    @torch.no_grad()
    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """Each painting held still for the clip's frames, through the VAE: (B, C, L, h, w) float32."""
        clips = []
        for shot in shots:
            video = self.pixels(shot)[:, :, None].expand(-1, -1, self.length(shot), -1, -1)
            with self.upcast():
                latent = self.once(
                    lambda video=video: self.encode(video, fresh(rng)).float(),  # type: ignore[misc]
                    "clip", video[:, :, :1], video.shape[2], by=self.pipe.vae,
                )  # fmt: skip
                clips.append(self.anchored(latent, shot, rng))
        x = torch.cat(clips)
        x.untouched = True  # type: ignore[attr-defined]  # `start` tells the base model's clip by it
        return x

    def anchored(self, x: Video, shot: Shot, rng: Generator) -> Video:
        """The still with the first frame the pipeline itself uses, where it has one of its own."""
        return x

    @torch.no_grad()
    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """Each clip with its own painting, sentence, guidance and motion mask. Draws nothing from `rng` itself."""
        each = [self.conditions(shot, rng) for shot in shots]
        parts = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        form, number = self.form, self.caching.join(any(shot.loop for shot in shots))

        @torch.no_grad()
        def call(z: Video, level: Level) -> Prediction:
            self.caching.ask(number, level)
            fed = pinned(z, parts)
            out = self.emit(fed, level, parts, True).to(z)
            scale = self.weights(shots, level).to(z)
            if float(scale.max()) > 1 and in_interval(level, *self.guidance_interval):
                negative = self.emit(fed, level, parts, False).to(z)
                out = negative + scale * (out - negative)
            x0, eps = recover(z, out, level, *coefficients(form, level))
            if PINNED in parts:
                x0 = pinned(x0, parts)
                eps = (z - level.a * x0) / level.s
            return Prediction(x0, eps)

        if all(shot.controls.mask is None for shot in shots):
            return call
        still = self.still(shots, rng)
        held = torch.cat([latent_mask(shot, still.shape[-2:], still.device) for shot in shots])
        return masked(call, still, held)

    @torch.no_grad()
    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """Latents to `shot.frames` float32 frames in [-1, 1], clip by clip."""
        clips = [self.shown(clip[None], shot)[:, :, : shot.frames].float().clamp(-1, 1) for clip in x]
        self.pipe.maybe_free_model_hooks()
        return torch.cat(clips)

    # Its own start and solver

    def start(self, x: Video, level: Level, rng: Generator) -> Video:
        """A clip that VSDS or a proxy touched starts at `opening(level)`; the still as `still` gave it, like the
        pipeline itself: the base model stays the base model."""
        noise = white(x, rng)
        if getattr(x, "untouched", False):
            return self.own_start(x, noise, level)
        return diffuse(x, noise, opening(level))

    def solve(self, denoise: Denoiser, z: Video, levels: Sequence[Level], rng: Generator) -> Video:
        """The pipeline's scheduler, over its own grid of `len(levels) - 1` steps."""
        grid = self.grid(len(levels) - 1, _cells(z))
        if abs(grid.levels[0].s - levels[0].s) > 1e-6:
            raise SettingError(f"expected {self.family}'s own levels, got a grid that starts at {levels[0]}")
        try:
            return grid.solve(denoise, z, rng, self.stepper(grid))
        finally:
            self.caching.rest()

    # Sizes

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return torch.device(self.pipe._execution_device)

    @property
    def form(self) -> Form:
        """What the network emits."""
        return read_grid(self.pipe.scheduler, 2, **self.timing(2, (1, 1, 1))).form

    def grid(self, steps: int, cells: tuple[int, int, int]) -> Grid:
        """The scheduler at `steps`, for latents of (L, h, w) cells."""
        if steps < 1:
            raise SettingError(f"expected at least 1 step, got {steps}")
        return read_grid(self.pipe.scheduler, steps, self.device, **self.timing(steps, cells))

    def size(self, shot: Shot) -> tuple[int, int]:
        """(width, height) in pixels."""
        assert self.card.size is not None
        if self.fit == "exact":
            return self.card.size
        return working_size(shot.painting.shape[1::-1], self.card.size, self.multiple)

    def asked(self, shot: Shot) -> int:
        """`num_frames` of the pipeline's call: a temporal VAE takes k·temporal + 1; the rest is cut after decoding."""
        return -(-(shot.frames - 1) // self.temporal) * self.temporal + 1

    def made(self, num_frames: int) -> int:
        """The frames that come out of the pipeline's call; `asked` of them is `num_frames`, or what it is rounded to."""
        return (num_frames - 1) // self.temporal * self.temporal + 1

    def length(self, shot: Shot) -> int:
        """Frames that the latents stand for."""
        return self.asked(shot)

    def cells(self, shot: Shot) -> tuple[int, int, int]:
        """(L, h, w) of the latents."""
        width, height = self.size(shot)
        return (self.length(shot) - 1) // self.temporal + 1, height // self.spatial, width // self.spatial

    def pixels(self, shot: Shot) -> Float[Tensor, "1 3 H W"]:
        """The painting as the pipeline resizes it, in [-1, 1], float32."""
        width, height = self.size(shot)
        return self.pipe.video_processor.preprocess(picture(shot), height=height, width=width).to(self.device)

    def defaults(self) -> Defaults:
        """The defaults of the pipeline's own call; a family fills in what the call takes from its networks."""
        read = {k: v.default for k, v in inspect.signature(type(self.pipe).__call__).parameters.items()}
        return Defaults(
            width=read.get("width") or 0, height=read.get("height") or 0, frames=read.get("num_frames") or 0,
            steps=read["num_inference_steps"], guidance=read.get("guidance_scale", 1.0), fps=self.fps,
        )  # fmt: skip

    def with_size(self, size: tuple[int, int]) -> PipelinePrior:
        """The same prior generating at exactly (width, height)."""
        if any(side % self.multiple for side in size):
            raise SettingError(f"expected sides in multiples of {self.multiple} for {self.family}, got {size}")
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, card=replace(self.card, size=size), fit="exact")
        if self.gain is None:  # the clock of some flows depends on the size
            other.card = replace(other.card, gain=other.suited_gain())
        return other

    @contextmanager
    def upcast(self) -> Iterator[None]:
        """A VAE that overflows in float16 encodes in float32, as its pipeline has it do."""
        vae = self.pipe.vae
        half = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast"))
        if half:
            vae.to(dtype=torch.float32)
        try:
            yield
        finally:
            if half:
                vae.to(dtype=torch.float16)


def _cells(x: Video) -> tuple[int, int, int]:
    return x.shape[2], x.shape[3], x.shape[4]
