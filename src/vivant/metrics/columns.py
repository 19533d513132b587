"""The columns a table may have: what is measured of a clip, of a set of clips, or of the making of them.

A column that looks through a feature network is called by the paper's name only with the paper's network; with another it
says whose distance it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from torch import Tensor

from ..data.benchmarks import Case
from ..errors import InputError
from ..images import load_mask, load_painting
from . import functional as measure
from .eyes import Eyes, Role
from .tables import Head
from .video import read_video

FRAMES = 16
"""frames of a clip that are measured, as in all four papers; `Seen.frames` holds more where the table's clips are longer"""


class Seen:
    """One clip with what it is held against, each read when it is first asked for."""

    def __init__(self, case: Case, path: Path, eyes: Eyes, frames: int = FRAMES) -> None:
        self.case, self.path, self.eyes, self.most = case, path, eyes, frames

    @cached_property
    def frames(self) -> np.ndarray:
        """(F, H, W, 3) uint8"""
        return read_video(self.path, self.most).frames

    @cached_property
    def painting(self) -> np.ndarray:
        """(H, W, 3) uint8"""
        return load_painting(self.case.painting)

    @cached_property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """The clip and the real one: frame against frame from the first on, the real one at the clip's size."""
        if self.case.reference is None:
            raise InputError("expected a real clip to hold it against, this case has none")
        real = read_video(self.case.reference, self.most).frames
        count = min(len(real), len(self.frames))
        height, width = self.frames.shape[1:3]
        fitted = [
            f if f.shape[:2] == (height, width) else cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA)
            for f in real[:count]
        ]
        return self.frames[:count], np.stack(fitted)

    @cached_property
    def region(self) -> np.ndarray:
        """(H, W) bool at the clip's size: where the motion should be."""
        where = self.case.region or self.case.mask
        if where is None:
            raise InputError("expected a mask or region, this case has none")
        return load_mask(where, (self.frames.shape[2], self.frames.shape[1])) > 0.5

    @cached_property
    def features(self) -> Tensor:
        """(F, D), of the frames"""
        return self.eyes.frames(self.frames)


@dataclass(frozen=True)
class Column:
    """One measure. Exactly one of `clip`, `group`, `took` and `study` is given."""

    label: str
    better: Literal["up", "down", ""]
    digits: int
    says: str
    clip: Callable[[Seen], float] | None = None
    group: Callable[[Tensor, Tensor], float] | None = None
    took: str = ""
    study: str = ""
    role: Role | Literal[""] = ""
    """whose eyes it looks through"""
    metric: str = ""
    """what `extractors.label` knows it as"""
    scale: float = 1.0
    unit: str = ""

    @property
    def head(self) -> Head:
        """The column's head under the paper's name."""
        return Head(self.label, self.better, self.digits, self.unit)

    def seen_by(self, eyes: Eyes) -> Head:
        """The head as it may be called with these eyes."""
        return Head(self.called(eyes), self.better, self.digits, self.unit)

    def called(self, eyes: Eyes) -> str:
        """The label with these eyes: the paper's only through the paper's network."""
        return eyes.label(self.metric, self.role) if self.role else self.label


def _strength(seen: Seen) -> float:
    if seen.case.strength is None:
        raise InputError("expected a strength that was asked for, this case has none; --strength gives one")
    return measure.strength_error(seen.frames, seen.case.strength)


def _direction(seen: Seen) -> float:
    if seen.case.direction is None:
        raise InputError("expected a direction that was asked for, this case has none")
    where = seen.region.astype(np.uint8) if seen.case.region or seen.case.mask else None
    return measure.direction_error(seen.frames, seen.case.direction, where)


COLUMNS: dict[str, Column] = {
    "fvd": Column("FVD", "down", 2, "Fréchet distance to the real clips", group=measure.frechet_distance, role="video",
                  metric="frechet"),
    "kvd": Column("KVD", "down", 4, "kernel distance to the real clips", group=measure.kernel_distance, role="video",
                  metric="kernel"),
    "clipsim": Column("CLIPSIM", "up", 2, "likeness of frames and sentence, × 100", role="text", metric="text",
                      clip=lambda s: measure.text_alignment(s.eyes.frames(s.frames, "text"), s.eyes.text(s.case.prompt)),
                      scale=100),
    "consistency": Column("Tem-Cons", "up", 4, "likeness of neighbouring frames", role="frame", metric="consistency",
                          clip=lambda s: measure.frame_consistency(s.features)),
    "pic": Column("PIC", "up", 4, "likeness of the frames to the painting", role="likeness", metric="conformity",
                  clip=lambda s: measure.input_conformity(s.eyes.frames(s.frames, "likeness"), s.eyes.frames(s.painting[None], "likeness"))),
    "psnr": Column("PSNR", "up", 2, "dB, against the real clip, frame by frame", clip=lambda s: measure.psnr(*s.pair)),
    "ssim": Column("SSIM", "up", 4, "structure, against the real clip", clip=lambda s: measure.ssim(*s.pair)),
    "lpips": Column("LPIPS", "down", 4, "perceptual distance to the real clip", role="perceptual", metric="perceptual",
                    clip=lambda s: measure.lpips(*s.pair, s.eyes.get("perceptual"))),
    "mask_precision": Column("Motion Mask Precision", "up", 3, "overlap of what moved with the mask",
                             clip=lambda s: measure.mask_precision(s.frames, s.region.astype(np.uint8))),
    "strength_error": Column("Motion Strength Error", "down", 3, "motion against the strength asked for", clip=_strength),
    "motion": Column("Motion", "", 3, "mean change from frame to frame", clip=lambda s: measure.motion_score(s.frames)),
    "inside": Column("Inside", "up", 3, "share of the motion in the region",
                     clip=lambda s: measure.motion_inside(s.frames, s.region.astype(np.uint8))),
    "direction": Column("Direction", "down", 1, "angle to the direction asked for", clip=_direction, unit="°"),
    "brush": Column("Brushwork", "up", 3, "fine paint that rides along",
                    clip=lambda s: measure.brush_preservation(s.frames, s.painting)),
    "freeze": Column("Freeze", "down", 2, "mean stray of what is outside the region, 8-bit steps",
                     clip=lambda s: measure.freeze_error(s.frames, s.painting, s.region.astype(np.uint8)).mean),
    "seam": Column("Loop seam", "down", 2, "the step from last to first over a usual step",
                   clip=lambda s: measure.loop_seam(s.frames)),
    "colour": Column("Colour drift", "down", 2, "ΔE from the painting",
                     clip=lambda s: measure.colour_drift(s.frames, s.painting)),
    "flicker": Column("Flicker", "down", 3, "trembling of the light, 8-bit steps",
                      clip=lambda s: measure.flicker(s.frames)),
    "static": Column("Static", "", 3, "share of the picture that stands still",
                     clip=lambda s: measure.static_score(s.frames)),
    "seconds": Column("Time", "down", 2, "seconds a clip took", took="seconds", unit=" s"),
    "memory": Column("Mem", "down", 1, "peak memory", took="memory", scale=1e-9, unit=" G"),
    "evaluations": Column("Evaluations", "", 0, "calls of the denoiser a clip", took="evaluations"),
    "study:motion": Column("M.Q.", "up", 2, "user study: best motion", study="motion", scale=100, unit="%"),
    "study:coherence": Column("T.C.", "up", 2, "user study: most coherent", study="coherence", scale=100, unit="%"),
    "study:conformity": Column("I.C.", "up", 2, "user study: conforms to the picture", study="conformity", scale=100,
                               unit="%"),
}  # fmt: skip
