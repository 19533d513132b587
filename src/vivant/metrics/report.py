"""What `vivant metrics` says of any video: every measure that the given material allows, and why the others are missing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from ..errors import InputError, ModelError, VivantError
from ..images import load_mask, load_painting
from . import functional as f
from . import motion as flows
from .cache import FRAMES, FeatureCache, clip_features, frame_features
from .eyes import Eyes
from .video import PICTURES, Video, read_video

MOST = 128
"""Frames of a video that are looked at."""

SIDE = 512
"""The longer side at which motion, light and brushwork are measured."""

STEPS = 16
"""Frames between which optical flow is computed, spread over the clip."""


@dataclass(frozen=True)
class Value:
    """One measure. `value` None: it could not be taken, `note` says why."""

    key: str
    label: str
    value: float | None
    better: Literal["up", "down", ""] = ""
    unit: str = ""
    note: str = ""
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; infinity and NaN, which JSON has not, are null with a note."""
        number = self.value if self.value is not None and math.isfinite(self.value) else None
        odd = self.value is not None and number is None
        out = {"label": self.label, "value": number, "unit": self.unit, "better": self.better}
        note = self.note or (str(self.value) if odd else "")
        return (
            out
            | ({"note": note} if note else {})
            | ({"low": self.low, "high": self.high} if self.low is not None else {})
        )


@dataclass(frozen=True)
class Asked:
    """What clips are measured against, as far as it is given."""

    painting: Path | None = None
    prompt: str = ""
    mask: Path | None = None
    reference: Path | None = None
    strength: float | None = None
    frames: int = MOST
    cache: FeatureCache | None = field(default_factory=FeatureCache)


class Clip:
    """One video at the sizes the measures ask for, each made when it is first needed."""

    def __init__(self, video: Video, asked: Asked) -> None:
        self.video, self.asked = video, asked

    @cached_property
    def all(self) -> np.ndarray:
        """Every frame, the longer side at most `SIDE`."""
        frames = self.video.frames
        scale = SIDE / max(frames.shape[1:3])
        if scale >= 1:
            return frames
        size = (round(frames.shape[2] * scale), round(frames.shape[1] * scale))
        return np.stack([cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in frames])

    @cached_property
    def some(self) -> np.ndarray:
        """At most `STEPS` of them, evenly, the first and the last among them."""
        return self.all[np.unique(np.linspace(0, len(self.all) - 1, STEPS).round().astype(int))]

    @cached_property
    def seen(self) -> f.motion.Seen:
        """The optical flow of some frames."""
        return flows.activity(list(f.frames.clip(self.some, 2)))

    @cached_property
    def painting(self) -> np.ndarray:
        """The painting, or the first frame where none is given."""
        return load_painting(self.asked.painting) if self.asked.painting else self.video.frames[0]

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) 0..1 at the video's own size."""
        assert self.asked.mask is not None
        return load_mask(self.asked.mask, self.video.size)


def measure(path: Path, asked: Asked, eyes: Eyes) -> tuple[Video, list[Value]]:
    """Everything that can be said of one video alone. Raises `InputError` for a video, painting or mask that cannot be used."""
    video = read_video(path, asked.frames)
    clip = Clip(video, asked)
    against = "" if asked.painting else "against the first frame; --painting names the painting"
    whole = "" if not video.cut else f"of the first {asked.frames} frames"
    rows = [
        _taken("motion_score", "motion score", lambda: f.motion_score(clip.all), "", "steps × 10", whole),
        _taken("static_score", "static score", lambda: f.static_score(clip.some, clip.seen), "down", "share", whole),
        _taken("flicker", "flicker", lambda: f.flicker(clip.all), "down", "steps", whole),
        _taken("loop_seam", "loop seam", lambda: _seam(clip), "down", "× a step"),
        _looked("consistency", "frame", eyes, lambda name: f.frame_consistency(_features(clip.all, eyes, name, asked)), whole),
        _taken("brush_preservation", "brush preservation", lambda: f.brush_preservation(clip.some, clip.painting), "up", "0..1", against),
        _taken("colour_drift", "colour drift", lambda: f.colour_drift(clip.some, clip.painting), "down", "ΔE", against),
        _looked("conformity", "likeness", eyes, lambda name: _conformity(clip, eyes, name), against),
    ]  # fmt: skip
    if asked.mask is not None:
        frozen = _taken_two(lambda: f.freeze_error(video.frames, clip.painting, clip.mask))
        exact = against or (
            "" if clip.painting.shape[:2] == video.frames.shape[1:3] else "the painting was scaled to the video"
        )
        rows += [
            _taken("mask_precision", "motion mask precision", lambda: f.mask_precision(video.frames, clip.mask), "up", "share", empty="nothing moves"),
            _taken("motion_inside", "motion inside the mask", lambda: f.motion_inside(clip.some, clip.mask, clip.seen), "up", "share", empty="nothing moves"),
            _taken("freeze_max", "freeze error, worst", lambda: frozen().max, "down", "steps", exact, "nothing is frozen"),
            _taken("freeze_mean", "freeze error, mean", lambda: frozen().mean, "down", "steps", exact, "nothing is frozen"),
        ]  # fmt: skip
    if asked.strength is not None:
        strength = asked.strength
        rows.append(
            _taken("strength_error", "motion strength error", lambda: f.strength_error(clip.all, strength), "down")
        )
    if asked.prompt:
        rows.append(_looked("text", "text", eyes, lambda name: f.text_alignment(
            _features(clip.some, eyes, name, asked), eyes.text(asked.prompt).float())))  # fmt: skip
        rows += _direction(clip)
    real = reference_of(path, asked.reference)
    if real is not None:
        rows += _against(video, read_video(real, asked.frames), eyes, real)
    return video, rows


def sets(paths: Sequence[Path], reference: Path, eyes: Eyes, cache: FeatureCache | None, seed: int = 0) -> list[Value]:
    """The distances between the videos as a set and a folder of real ones: with intervals, and how much of them is bias.

    Raises `InputError` where either side has fewer than two clips of 16 frames.
    """
    from .clips import clips_of

    short: list[str] = []

    def skipped(path: Path, error: VivantError) -> None:
        short.append(str(error))

    extractor = eyes.get("video")
    found = []
    for side, what in ((list(clips_of(reference).values()), f"real clips in {reference}"), (list(paths), "videos")):
        rows = [x for _, x in clip_features(side, extractor, cache, skipped=skipped)]
        if len(rows) < 2:
            why = f" ({short[0]})" if short else ""
            raise InputError(
                f"expected at least 2 {what} of {FRAMES} frames for a distance between sets, got {len(rows)}{why}"
            )
        found.append(torch.stack(rows))
    real, fake = found
    out = []
    functions: dict[str, Callable[[torch.Tensor, torch.Tensor], float]] = {
        "frechet": f.frechet_distance,
        "kernel": f.kernel_distance,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", f.SmallSampleWarning)  # said in the note
        for key, function in functions.items():
            spread = f.bootstrap(function, real, fake, torch.Generator().manual_seed(seed), 100)
            note = f"{len(fake)} against {len(real)} clips"
            if key == "frechet":
                bias = f.frechet_bias(real, fake)
                note += f", about {bias:.3g} of it bias" if math.isfinite(bias) else ", too few to measure its bias"
            if short:
                note += f", {len(short)} left out"
            out.append(Value(key, eyes.label(key, "video"), spread.value, "down", "", note, spread.low, spread.high))
    return out


def reference_of(path: Path, reference: Path | None) -> Path | None:
    """The real clip of a video: the reference itself where it is one, else the one of its name in the folder."""
    if reference is None:
        return None
    if reference.is_file() or any(p.suffix.lower() in PICTURES for p in reference.iterdir()):
        return reference
    return next((p for p in sorted(reference.iterdir()) if p.stem == path.stem and p.resolve() != path.resolve()), None)


def _against(video: Video, real: Video, eyes: Eyes, name: Path) -> list[Value]:
    count = min(len(video.frames), len(real.frames))
    size = video.size
    frames = real.frames[:count]
    note = f"{count} frames against {name.name}"
    if real.size != size:
        frames = np.stack([cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in frames])
        note += ", scaled to the video"
    ours = video.frames[:count]
    return [
        _taken("psnr", "PSNR", lambda: f.psnr(ours, frames), "up", "dB", note),
        _taken("ssim", "SSIM", lambda: f.ssim(ours, frames), "up", "", note),
        _looked(
            "perceptual", "perceptual", eyes, lambda _: f.lpips(ours, frames, eyes.get("perceptual")), note, "down"
        ),
    ]


def _seam(clip: Clip) -> float:
    if clip.video.cut:
        raise InputError("the video goes on after the frames that were read; --frames reads more")
    return f.loop_seam(clip.all)


def _conformity(clip: Clip, eyes: Eyes, role: str) -> float:
    picture = clip.painting if clip.asked.painting else clip.all[0]
    features = _features(picture[None], eyes, role, clip.asked)
    return f.input_conformity(_features(clip.some, eyes, role, clip.asked), features[0])


def _direction(clip: Clip) -> list[Value]:
    """The direction that the sentence tells, held against the motion; nothing where it tells none."""
    from ..priors.miniature.text import TextReader

    told = [m.direction for m in TextReader.load().plan(clip.asked.prompt).values() if m.direction is not None]
    if not told:
        return []
    x, y = told[0]
    note = f"read from the sentence: ({x:+.2f}, {y:+.2f}), x right, y down"
    mask = clip.mask if clip.asked.mask is not None else None
    return [_taken("direction_error", "direction error",
                   lambda: f.direction_error(clip.some, (x, y), mask, clip.seen), "down", "°", note)]  # fmt: skip


def _features(frames: np.ndarray, eyes: Eyes, role: str, asked: Asked) -> torch.Tensor:
    return frame_features(frames, eyes.get(role), asked.cache)


def _taken(
    key: str, label: str, take: Callable[[], float], better: Literal["up", "down", ""] = "", unit: str = "", note: str = "",
    empty: str = "",
) -> Value:  # fmt: skip
    """A measure, or why there is none: one that a clip is too short for does not keep the others from being taken."""
    try:
        value = float(take())
    except (InputError, ModelError) as error:
        return Value(key, label, None, better, unit, " ".join(str(error).split()))
    return (
        Value(key, label, None, better, unit, empty)
        if math.isnan(value)
        else Value(key, label, value, better, unit, note)
    )


def _taken_two(take: Callable[[], f.FreezeError]) -> Callable[[], f.FreezeError]:
    kept: list[f.FreezeError] = []

    def once() -> f.FreezeError:
        if not kept:
            kept.append(take())
        return kept[0]

    return once


def _looked(
    metric: str, role: str, eyes: Eyes, take: Callable[[str], float], note: str = "", better: Literal["up", "down"] = "up"
) -> Value:  # fmt: skip
    return _taken(metric, eyes.label(metric, role), lambda: take(role), better, "", note)
