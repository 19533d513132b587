"""Every metric as a pure function: numpy frames or feature tensors in, numbers out, no networks and no state."""

from .clip import frame_consistency, input_conformity, text_alignment
from .frechet import Moments, frechet_bias, frechet_distance, frechet_of_moments, moments
from .image import lpips, psnr, ssim
from .kernel import kernel_distance
from .motion import (
    direction_error,
    latent_motion_score,
    mask_precision,
    motion_inside,
    motion_score,
    moved_area,
    strength_error,
)
from .painting import (
    FreezeError,
    brush_preservation,
    colour_drift,
    flicker,
    freeze_error,
    loop_seam,
    static_score,
)
from .sample import Interval, SmallSampleWarning, bootstrap

__all__ = [
    "FreezeError", "Interval", "Moments", "SmallSampleWarning", "bootstrap", "brush_preservation", "colour_drift",
    "direction_error", "flicker", "frame_consistency", "frechet_bias", "frechet_distance", "frechet_of_moments",
    "freeze_error", "input_conformity", "kernel_distance", "latent_motion_score", "loop_seam", "lpips",
    "mask_precision", "moments", "motion_inside", "motion_score", "moved_area", "psnr", "ssim", "static_score",
    "strength_error", "text_alignment",
]  # fmt: skip
