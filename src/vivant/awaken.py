"""Every Painting Awakened: dual-path video score distillation, spherical fusion over the frames, any prior.

painting ─► still ─► VSDS ─┐
                           ├─► slerp over frames ─► diffuse ─► solve ─► latents
proxy    ─► still ─► VSDS ─┘
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor

from .errors import SettingError
from .noise import white
from .priors.combine import cyclic, watched
from .priors.protocol import Denoiser, SolvesItself, StartsItself, VideoPrior
from .process import Level, Video, diffuse
from .shot import Shot
from .solvers import SOLVERS


def step_sizes(curve: str, count: int, high: float = 10.0, low: float = 1.0) -> list[float]:
    """α of each VSDS step (paper fig. 6): `count` values between `high` and `low`."""
    half, line = (count + 1) // 2, np.linspace(high, low, count)
    stepwise = np.concatenate([np.linspace(high, low, half), np.full(count - half, low)])
    curves = {
        "stepwise-decreasing": stepwise, "linear-decreasing": line,
        "stepwise-increasing": stepwise[::-1], "linear-increasing": line[::-1],
    }  # fmt: skip
    if curve not in curves:
        raise SettingError(f"expected a step-size curve among {', '.join(curves)}, got {curve!r}")
    return [float(v) for v in curves[curve]]


def vsds(denoise: Denoiser, x: Video, levels: Sequence[Level], noise: Video, rates: Sequence[float]) -> Video:
    """Eq. 2 and 3: x ← x - α·w(t)·(ε̂(z_t) - ε), with one ε for all levels and w = s²/(a²+s²)."""
    for level, rate in zip(levels, rates, strict=True):
        weight = level.s**2 / (level.a**2 + level.s**2)
        _, eps = denoise(diffuse(x, noise, level), level)
        x = x - rate * weight * (eps - noise)
    return x


def slerp(p: Tensor, q: Tensor, u: Tensor) -> Tensor:
    """Eq. 4, per clip and per frame: sin((1-u)θ)/sinθ·p + sin(uθ)/sinθ·q, θ between the flattened frames.

    `p`, `q`: (B, C, L, h, w); `u`: (L,) in [0, 1]. float32 throughout; parallel or zero vectors fall back to lerp.
    """
    a, b = p.float(), q.float()
    norm_a, norm_b = (torch.linalg.vector_norm(v, dim=(1, 3, 4), keepdim=True) for v in (a, b))
    norms = norm_a * norm_b
    cos = ((a * b).sum((1, 3, 4), keepdim=True) / norms.clamp_min(1e-12)).clamp(-1, 1)
    theta, t = cos.acos(), u.float().view(1, 1, -1, 1, 1)
    flat = (cos.abs() > 1 - 1e-6) | (norms < 1e-12)
    sin = theta.sin().masked_fill(flat, 1.0)
    wp = torch.where(flat, 1 - t, ((1 - t) * theta).sin() / sin)
    wq = torch.where(flat, t, (t * theta).sin() / sin)
    return (wp * a + wq * b).to(p.dtype)


def lerp(p: Tensor, q: Tensor, u: Tensor) -> Tensor:
    """Straight-line fusion over the frames: the ablation without eq. 4."""
    return torch.lerp(p, q, u.to(p.dtype).view(1, 1, -1, 1, 1))


def distilled(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, rng: Generator,
    on_call: Callable[[Level], None] = lambda level: None,
) -> Video:  # fmt: skip
    """Eq. 2 to 4: the clip (1, C, L, h, w) that sampling starts from, both paths distilled as one batch, then fused."""
    paths = [shot] if proxy is None else [shot, shot.seen_as(proxy)]
    x = prior.still(paths, rng)
    if shot.distil > 0:
        head = vsds_levels(prior.levels(shot, shot.steps), shot.distil, shot.distil_evaluations)
        gain = shot.gain if shot.gain is not None else prior.card.gain
        rates = [gain * rate for rate in step_sizes(shot.curve, len(head))]
        x = vsds(watched(prior.bind(paths, rng), on_call), x, head, white(x, rng), rates)
    if proxy is not None:
        fuse = slerp if shot.blend == "slerp" else lerp
        u = torch.linspace(0, 1, x.shape[2], device=x.device)
        x = fuse(x[:1], x[1:], 1 - (2 * u - 1).abs() if shot.loop else u)  # a loop ends where it began
    return x


def awaken(
    prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, rng: Generator,
    on_call: Callable[[Level], None] = lambda level: None,
) -> Video:  # fmt: skip
    """The whole method; returns one clip of clean latents (1, C, L, h, w).

    Table 1's rows are arguments: `shot.distil=0` is +S, `proxy=None` +V, `shot.blend="lerp"` +V&U, `distil=0` with
    `proxy=None` the base model.
    """
    shot = replace(shot, fused=proxy is not None)
    x, levels = distilled(prior, shot, proxy, rng, on_call), prior.levels(shot, shot.steps)
    z = prior.start(x, levels[0], rng) if isinstance(prior, StartsItself) else diffuse(x, white(x, rng), levels[0])
    solve = prior.solve if isinstance(prior, SolvesItself) else SOLVERS[prior.card.solver]
    denoise = watched(prior.bind([shot], rng), on_call)
    return solve(cyclic(denoise, rng) if shot.loop and not prior.card.loops else denoise, z, levels, rng)


def vsds_levels(levels: Sequence[Level], p: float, evaluations: int | None) -> list[Level]:
    """The first ⌊p·T⌋ + 1 levels (paper §3.3), or `evaluations` of them, evenly spread."""
    head = list(levels[: min(int((len(levels) - 1) * p) + 1, len(levels) - 1)])
    if evaluations is None or evaluations >= len(head):
        return head
    return [head[i] for i in np.linspace(0, len(head) - 1, evaluations).round().astype(int)]
