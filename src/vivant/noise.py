"""The noise a clip starts from. Every function takes the generator it draws from; all but `shared` keep variance 1."""

from __future__ import annotations

import math

import torch
from torch import Generator

from .process import Level, Video, diffuse


def white(like: Video, rng: Generator) -> Video:
    """Independent standard normal noise (B, C, L, h, w) of the shape, dtype and device of `like`.

    Drawn in float32 on the generator's own device, so that a seed gives the same noise in every precision.
    """
    return torch.randn(like.shape, generator=rng, dtype=torch.float32, device=rng.device).to(like)


def shared(still: Video, level: Level, rng: Generator) -> Video:
    """Not noise alone but a start (AnimateAnything eq. 10): x_T = a_T·repeat(x0) + s_T·ε, ε independent per frame.

    `still`: (B, C, L, h, w), the painting held still; `level`: the noisiest. All frames share what the painting's
    signal leaves at a_T > 0, as the noisy clips of the training did.
    """
    return diffuse(still, white(still, rng), level)


def mixed(like: Video, alpha: float, rng: Generator) -> Video:
    """PYoCo's mixed noise (Ge et al. 2023, eq. 2): ε_f = √(α²/(1+α²))·ε_shared + √(1/(1+α²))·ε_ind,f.

    `like`: (B, C, L, h, w). Unit variance; two frames correlate by α²/(1+α²). `alpha` >= 0: 0 is `white`, infinity is
    one noise for all frames.
    """
    if not alpha >= 0:
        raise ValueError(f"expected alpha >= 0, got {alpha}")
    common = white(like[:, :, :1], rng)
    own = white(like, rng)
    angle = math.atan(alpha)  # sin² = α²/(1+α²), finite even where α is not
    return math.sin(angle) * common + math.cos(angle) * own


def freenoise(like: Video, rng: Generator, window: int = 16, stride: int = 4) -> Video:
    """Noise for long clips (FreeNoise, Qiu et al. 2024, §3.2): after `window` frames, shuffled copies of earlier ones.

    `like`: (B, C, L, h, w). Frames f … f+stride-1 repeat frames f-window … f-window+stride-1 in a random order, for
    f = window, window + stride, …; so far frames stay correlated, and no window holds the same noise twice in order.
    1 <= stride <= window. The last block may be short.
    """
    if not 1 <= stride <= window:
        raise ValueError(f"expected 1 <= stride <= window, got stride {stride} and window {window}")
    out = white(like, rng)
    frames = like.shape[2]
    for start in range(window, frames, stride):
        order = torch.randperm(stride, generator=rng, device=rng.device).to(out.device)
        count = min(stride, frames - start)
        out[:, :, start : start + count] = out[:, :, start - window + order[:count]]
    return out
