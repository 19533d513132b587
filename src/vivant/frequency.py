"""Starts that keep the painting's layout: low frequencies of a noised clean clip, high frequencies of the noise.

FrameInit (ConsistI2V) mixes over space and time, DCTInit (Cinemo) over space. Pure functions; noise is passed in.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .process import Level, Video, diffuse

AXES = (-3, -2, -1)


def low_pass(
    kind: str, shape: tuple[int, int, int], d_s: float = 0.25, d_t: float = 0.25, order: int = 4
) -> Float[Tensor, "L h w"]:
    """A low-pass filter in [0, 1] over (L, h, w), zero frequency in the middle (fftshift's layout).

    `d_s`, `d_t`: where it stops, in space and time, as a share of the highest frequency; at 0 nothing passes. With
    d² = (d_s/d_t·(2t/L-1))² + (2i/h-1)² + (2j/w-1)², `kind` is "gaussian" (ConsistI2V's: exp(-d²/(2·d_s²))),
    "butterworth" (1/(1 + (d²/d_s²)^order)), "ideal" (d² <= 2·d_s) or "box" (a block of whole frequencies). Raises
    `ValueError` for another kind.
    """
    if kind not in ("gaussian", "butterworth", "ideal", "box"):
        raise ValueError(f"expected a filter among gaussian, butterworth, ideal, box, got {kind!r}")
    if d_s == 0 or d_t == 0:
        return torch.zeros(shape)
    if kind == "box":
        out = torch.zeros(shape)
        # One reach for both spatial axes, taken from the height, as in the recorded official runs.
        reach = (round(shape[0] // 2 * d_t), round(shape[1] // 2 * d_s), round(shape[1] // 2 * d_s))
        block = tuple(slice(max(0, n // 2 - r), n // 2 + r) for n, r in zip(shape, reach, strict=True))
        out[block] = 1
        return out
    t, i, j = torch.meshgrid(*(2 * torch.arange(n).double() / n - 1 for n in shape), indexing="ij")
    distance = (d_s / d_t * t) ** 2 + i**2 + j**2
    if kind == "gaussian":
        return (-distance / (2 * d_s**2)).exp().float()
    if kind == "butterworth":
        return (1 / (1 + (distance / d_s**2) ** order)).float()
    return (distance <= 2 * d_s).float()


def frequency_mix(low: Video, high: Video, passes: Float[Tensor, "L h w"]) -> Video:
    """Re IFFT(FFT(low)·P + FFT(high)·(1-P)) over (L, h, w); `passes` = P has zero frequency in the middle."""
    centred = torch.fft.ifftshift(passes.to(high), dim=AXES)
    return high + torch.fft.ifftn(torch.fft.fftn(low - high, dim=AXES) * centred, dim=AXES).real


def frame_init(x: Video, noise: Video, level: Level, passes: Float[Tensor, "L h w"]) -> Video:
    """FrameInit (Ren et al. 2024, after FreeInit, Wu et al. 2023): low frequencies of `x` noised, the rest noise.

    `x`, `noise`: (B, C, L, h, w), clean latents and standard normal noise, the same in both parts. Computed in float32
    or better.
    """
    wide = torch.promote_types(noise.dtype, torch.float32)
    x, noise = x.to(noise.device, wide), noise.to(wide)
    return frequency_mix(diffuse(x, noise, level), noise, passes.to(noise.device))


def dct_rows(size: int, count: int) -> Float[Tensor, "count size"]:
    """The first `count` rows of the orthonormal DCT-II of length `size`, float64."""
    k, n = torch.arange(count).double()[:, None], torch.arange(size).double()
    rows = math.sqrt(2 / size) * torch.cos(math.pi * k * (2 * n + 1) / (2 * size))
    rows[:1] /= math.sqrt(2)
    return rows


def dct_mix(low: Video, high: Video, share: float) -> Video:
    """The lowest ⌊share·h⌋ × ⌊share·w⌋ spatial DCT frequencies of `low`, all others of `high`, frame by frame.

    Temporal frequencies are all kept, so a 3-D DCT says the same. The mix is high + P_h·(low - high)·P_w with
    P = DᵀD projecting on the first rows D of the orthonormal DCT: no transform of the rest is needed.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share between 0 and 1, got {share}")
    projections = []
    for size in high.shape[-2:]:
        rows = dct_rows(size, int(size * share))
        projections.append((rows.T @ rows).to(high))
    return high + projections[0] @ (low - high) @ projections[1]


def dct_init(x: Video, noise: Video, level: Level, share: float = 0.23) -> Video:
    """DCTInit (Ma et al. 2024): low spatial frequencies of `x` noised to `level`, the rest of the same noise.

    `x`, `noise`: (B, C, L, h, w). Computed in float32 or better.
    """
    wide = torch.promote_types(torch.promote_types(x.dtype, noise.dtype), torch.float32)
    x, noise = x.to(noise.device, wide), noise.to(wide)
    return dct_mix(diffuse(x, noise, level), noise, share)
