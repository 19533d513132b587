"""Frame against frame: PSNR, SSIM, and LPIPS through an extractor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8

from ...errors import InputError
from .frames import clip

if TYPE_CHECKING:
    from ..extractors import Extractor

SAME = 99.0
"""dB of identical frames, as in `vivant.metrics.motion.psnr`"""


def psnr(a: UInt8[np.ndarray, "F H W 3"], b: UInt8[np.ndarray, "F H W 3"]) -> float:
    """Mean over frames of 10 log₁₀(255² / MSE), in dB; identical frames count 99. Raises `InputError`."""
    a, b = _pair(a, b)
    values = []
    for x, y in zip(a, b, strict=True):
        error = float(np.mean((x.astype(np.float32) - y.astype(np.float32)) ** 2, dtype=np.float64))
        values.append(min(SAME, 10 * np.log10(255.0**2 / error)) if error > 0 else SAME)
    return float(np.mean(values))


def ssim(a: UInt8[np.ndarray, "F H W 3"], b: UInt8[np.ndarray, "F H W 3"]) -> float:
    """Mean structural similarity, −1..1 (Wang et al. 2004, eq. 13): 11 × 11 Gaussian window, σ = 1.5, mean of the channels.

    By torchmetrics. Raises `InputError`, also for frames under 11 pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as measure

    a, b = _pair(a, b)
    if min(a.shape[1:3]) < 11:
        raise InputError(f"expected frames of at least 11×11 for SSIM, got {a.shape[2]}×{a.shape[1]}")
    values = []
    for i in range(0, len(a), 8):  # eight frames at a time: a long clip in float32 is large
        x, y = (torch.from_numpy(np.ascontiguousarray(v[i : i + 8])).permute(0, 3, 1, 2).float() for v in (a, b))
        values.append(torch.as_tensor(measure(x, y, data_range=255.0, reduction="none")).reshape(-1))
    return float(torch.cat(values).mean())


def lpips(a: UInt8[np.ndarray, "F H W 3"], b: UInt8[np.ndarray, "F H W 3"], extractor: Extractor) -> float:
    """Mean over frames of the squared distance between the extractor's features (Zhang et al. 2018, eq. 1).

    With `vivant.metrics.extractors.Lpips`, whose features are scaled so that this sum is LPIPS, it is LPIPS; with another
    extractor of frames it is that one's perceptual distance, and is to be called by its name. Raises `InputError`.
    """
    a, b = _pair(a, b)
    values = []
    for i in range(0, len(a), 4):
        x, y = (extractor(torch.from_numpy(np.ascontiguousarray(v[i : i + 4]))).double() for v in (a, b))
        values.append((x - y).square().flatten(1).sum(1))
    return float(torch.cat(values).mean())


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = clip(a), clip(b)
    if a.shape != b.shape:
        raise InputError(f"expected two clips of one length and size, got {a.shape[:3]} and {b.shape[:3]}")
    return a, b
