"""What trainings minimise, as pure functions of tensors; each under its equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..process import Form, Video, coefficients, vp_levels

Each = Float[Tensor, "B 1 1 1 1"]


@dataclass(frozen=True, eq=False)
class Noise:
    """A training schedule as four tables over its T timesteps: z = a·x0 + s·ε, and the network's F = p·x0 + q·ε."""

    a: Float[Tensor, " T"]
    s: Float[Tensor, " T"]
    p: Float[Tensor, " T"]
    q: Float[Tensor, " T"]

    @classmethod
    def of(cls, alphas_cumprod: Tensor, form: Form) -> Noise:
        """A variance-preserving schedule, (T,) ᾱ in [0, 1], and what the network predicts."""
        levels = vp_levels(alphas_cumprod, range(len(alphas_cumprod)))[:-1]
        return cls._tables([(x.a, x.s, *coefficients(form, x)) for x in levels])

    @classmethod
    def of_scheduler(cls, scheduler: Any, form: Form) -> Noise:
        """A diffusers scheduler's, with `alphas_cumprod`."""
        return cls.of(scheduler.alphas_cumprod, form)

    @classmethod
    def of_crafter(cls, schedule: Any) -> Noise:
        """DynamiCrafter's (`priors.dynamicrafter.schedule.Schedule`): a = k·√ᾱ, v = √ᾱ·ε - √(1-ᾱ)·k·x0."""
        levels = schedule.at(range(len(schedule.bars)))[:-1]
        return cls._tables([(x.a, x.s, *schedule.coefficients(x)) for x in levels])

    @classmethod
    def _tables(cls, rows: Sequence[tuple[float, ...]]) -> Noise:
        return cls(*torch.tensor(rows, dtype=torch.float64).float().unbind(1))

    def __len__(self) -> int:
        return len(self.a)

    def at(self, t: Int[Tensor, " B"], like: Tensor) -> tuple[Each, Each, Each, Each]:
        """(a, s, p, q) of each clip's timestep, ready to multiply `like` (B, C, L, h, w)."""
        shape = (-1, *[1] * (like.ndim - 1))
        a, s, p, q = (v[t.cpu()].view(shape).to(like) for v in (self.a, self.s, self.p, self.q))
        return a, s, p, q

    def noisy(self, x0: Video, eps: Video, t: Int[Tensor, " B"]) -> Video:
        """z = a·x0 + s·ε (Ho et al. 2020, eq. 4; AnimateAnything, eq. 2)."""
        a, s, _, _ = self.at(t, x0)
        return a * x0 + s * eps

    def target(self, x0: Video, eps: Video, t: Int[Tensor, " B"]) -> Video:
        """F = p·x0 + q·ε, what the network shall say."""
        _, _, p, q = self.at(t, x0)
        return p * x0 + q * eps

    def clean(self, z: Video, out: Video, t: Int[Tensor, " B"]) -> Video:
        """x̂0 from what the network said (AnimateAnything, eq. 8; `process.recover` for a timestep a clip).

        At a = 0 an ε-prediction says nothing about x0: division by zero, infinite.
        """
        a, s, p, q = self.at(t, z)
        return (q * z - s * out) / (a * q - s * p)


def each_mean(x: Tensor) -> Float[Tensor, " B"]:
    """The mean of (B, …) over everything but the clips, in float32."""
    return x.float().flatten(1).mean(1)


def denoising(out: Video, target: Video) -> Float[Tensor, " B"]:
    """|F - target|², the mean of each clip (AnimateAnything, eq. 3)."""
    return each_mean((out.float() - target.float()).square())


def motion_strength(z: Video) -> Float[Tensor, " B"]:
    """s(z), eq. 6 of AnimateAnything on the released model's scale: 10·Σ_c mean |z_i - z_(i-1)| over frames and places.

    Scaled VAE latents (B, C, L >= 2, h, w); about 1 to 16 on real clips, 0 for one that stands still.
    """
    if z.shape[2] < 2:
        raise ValueError(f"expected clips of at least 2 frames, got {z.shape[2]}")
    return 10 * z.float().diff(dim=2).abs().mean((2, 3, 4)).sum(1)


def strength_loss(x0: Video, guess: Video) -> Float[Tensor, " B"]:
    """(s(z0') - s(ẑ0))², eq. 7 of AnimateAnything; both (B, C, L, h, w)."""
    return (motion_strength(x0) - motion_strength(guess)).square()


def frozen(z: Video, mask: Float[Tensor, "B 1 1 h w"]) -> Video:
    """z0' = (1 - m)·z0⁰ + m·z0, eq. 5 of AnimateAnything: outside the mask the first frame, held."""
    return (1 - mask) * z[:, :, :1] + mask * z


def uniform_steps(count: int, rngs: Sequence[Generator]) -> Int[Tensor, " B"]:
    """A timestep in 0 … count - 1 for each clip, each from its own generator."""
    return torch.cat([torch.randint(count, (1,), generator=rng) for rng in rngs])


def own_noise(like: Video, rngs: Sequence[Generator]) -> Video:
    """Standard normal noise of the shape of `like`, each clip's from its own generator: no matter what it is batched with."""
    return torch.stack([torch.randn(like.shape[1:], generator=rng) for rng in rngs]).to(like)


def chances(rngs: Sequence[Generator]) -> Float[Tensor, " B"]:
    """A number in [0, 1) for each clip, from its own generator."""
    return torch.cat([torch.rand(1, generator=rng) for rng in rngs])
