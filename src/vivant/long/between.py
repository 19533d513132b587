"""From one picture to another: natively where the model was trained for it, guided from both ends elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from ..awaken import distilled, slerp
from ..errors import ImageError
from ..flow import flow
from ..images import load_painting, resized
from ..noise import white
from ..priors.combine import watched
from ..priors.protocol import Denoiser, VideoPrior
from ..process import Level, Prediction, Video, diffuse
from ..recipe import absolute, picture_hash
from ..render.native import native
from ..shot import Shot
from ..stage import Progress, Stage, prepare, silent
from .base import OnCall, moves, noised, solver
from .film import Film

Frame = UInt8[np.ndarray, "H W 3"]
MATCH = 256
"""longest side in pixels at which two pictures are compared"""


def load_last(source: Any, painting: Frame) -> tuple[Frame, str | None]:
    """The last picture at the painting's size, and what is to be said of it; another shape raises `ImageError`."""
    last = load_painting(source)
    (height, width), (h, w) = painting.shape[:2], last.shape[:2]
    if (h, w) == (height, width):
        return last, None
    if abs(w / h / (width / height) - 1) > 0.02:
        raise ImageError(
            f"expected a last picture of the painting's shape ({width}×{height}), got {w}×{h}; crop it to match"
        )
    way = cv2.INTER_AREA if w > width else cv2.INTER_CUBIC
    return cv2.resize(last, (width, height), interpolation=way), f"the last picture was resized from {w}×{h}"


def from_both_ends(denoise: Denoiser, first: Video, last: Video) -> Denoiser:
    """One clip led from both ends: time reversal fusion (Feng et al. 2024), its end frames held.

    `denoise` is bound to two clips, from the first picture and from the last. The second is asked for the clip run
    backwards; each frame takes from both by how near it is. `first`, `last`: latents (1, C, 1, h, w) of the pictures.
    """

    def call(z: Video, level: Level) -> Prediction:
        said = denoise(torch.cat([z, z.flip(2)]), level).x0
        u = torch.linspace(0, 1, z.shape[2], device=z.device, dtype=z.dtype).view(1, 1, -1, 1, 1)
        x0 = torch.lerp(said[:1], said[1:].flip(2), u)
        x0 = torch.cat([first.to(x0), x0[:, :, 1:-1], last.to(x0)], 2)
        return Prediction(x0, (z - level.a * x0) / level.s)

    return call


def led(prior: VideoPrior, shot: Shot, rng: Generator, on_call: OnCall = lambda level: None) -> Video:
    """A clip (1, C, L, h, w) from `shot.painting` to `shot.last`, by any prior whose latents are pictures.

    The start is Every Painting Awakened's with the last picture for a proxy and its path run backwards, so that it ends
    on it. Two clips an evaluation.
    """
    shot = replace(shot, fused=True)
    assert shot.last is not None
    levels = prior.levels(shot, shot.steps)
    paths = [shot, shot.seen_as(shot.last)]
    still = prior.still(paths, rng)
    there, back = (distilled(prior, path, None, rng, on_call) for path in paths)
    x = slerp(there, back.flip(2), torch.linspace(0, 1, there.shape[2], device=there.device))
    denoise = watched(prior.bind(paths, rng), on_call)
    z = noised(prior, x, levels[0], rng)
    first, last = still[:1, :, :1], still[1:, :, -1:]
    x = solver(prior)(from_both_ends(denoise, first, last), z, levels, rng)
    return torch.cat([first, x[:, :, 1:-1], last], 2)


def native_prior(prior: Any, last: Frame) -> Any | None:
    """The same model led to `last` in its own way, or None where it has none."""
    from ..priors.dynamicrafter.adapter import DynamiCrafter

    if isinstance(prior, DynamiCrafter) and prior.parts.variant == "512_interp":
        return DynamiCrafter(prior.parts, mode="interpolate", last=last, decode_frames=prior.decode_frames)
    return None


def matched(first: Frame, last: Frame) -> tuple[Float[np.ndarray, "h w 2"], Float[np.ndarray, "h w 2"]]:
    """Where each place of `first` lies in `last`, and back, in fractions of the sides; nothing where they do not agree.

    Flow between small, blurred copies, trusted where there and back meet and the pictures look alike there, and
    continued from there; pictures that hardly agree anywhere are taken for unrelated: no flow, a plain dissolve.
    """
    height, width = first.shape[:2]
    scale = MATCH / max(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    a, b = (cv2.GaussianBlur(cv2.resize(p, size, interpolation=cv2.INTER_AREA), (0, 0), 1.5) for p in (first, last))
    there, back = flow(a, b), flow(b, a)
    out = []
    for one, other, mine, its in ((there, back, a, b), (back, there, b, a)):
        off = np.linalg.norm(one + _at(other, one), axis=-1)
        unlike = np.abs(_at(its.astype(np.float32), one) - mine).mean(-1)
        sure = np.exp(-((off / 2) ** 2) - (unlike / 30) ** 2).astype(np.float32)
        if float(sure.mean()) < 0.2:
            out.append(np.zeros_like(one))
            continue
        near = cv2.GaussianBlur(sure[..., None] * one, (0, 0), 6), cv2.GaussianBlur(sure, (0, 0), 6)[..., None]
        out.append((near[0] / (near[1] + 0.05) / np.array(size, np.float32)).astype(np.float32))
    return out[0], out[1]


def morphed(picture: Frame, way: Float[np.ndarray, "h w 2"], share: float) -> Frame:
    """A picture whose places have gone `share` of their `way` (fractions of the sides)."""
    height, width = picture.shape[:2]
    size = np.array([way.shape[1], way.shape[0]], np.float32)
    look = np.zeros_like(way)
    for _ in range(3):  # where a place came from: p = q - share·way(p), by iteration
        look = -share * _at(way, look * size)
    large = cv2.resize(look, (width, height), interpolation=cv2.INTER_LINEAR)
    x = large[..., 0] * width + np.arange(width, dtype=np.float32)
    y = large[..., 1] * height + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def _at(x: np.ndarray, offset: Float[np.ndarray, "h w 2"]) -> np.ndarray:
    """A map looked up at each place plus `offset` in cells."""
    height, width = x.shape[:2]
    at = offset.astype(np.float32) + np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    return cv2.remap(x, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def dissolved(prior: Any, shot: Shot, rng: Generator, on_call: OnCall = lambda level: None) -> Iterator[Frame]:
    """Frames from `shot.painting` to `shot.last` for a prior of displacements: both move, by motion dreamt together from
    one noise; the first goes out from itself, the last arrives at itself, each bent along the flow to the other, and they
    dissolve into each other."""
    from ..priors.miniature import paint

    assert shot.last is not None
    paths = [shot, shot.seen_as(shot.last)]
    levels = prior.levels(shot, shot.steps)
    x = prior.still(paths, rng)
    z = diffuse(x, white(x[:1], rng).expand_as(x), levels[0])
    x = solver(prior)(watched(prior.bind(paths, rng), on_call), z, levels, rng)
    clips = []
    for k, (one, path) in enumerate(zip(x, paths, strict=True)):
        field = prior.motion_of(one[None], path)
        support, travels, things = prior.outlines(path)
        # An arrow starts on the first picture: what lies there in the last one is another thing.
        clips.append(
            paint.frames(path.painting, field, shot.frames, support, travels, () if k else things, arrive=k == 1)
        )
    there, back = matched(shot.painting, shot.last)

    def frames() -> Iterator[Frame]:
        for i, (a, b) in enumerate(zip(*clips, strict=True)):
            u = i / (shot.frames - 1)
            share = u * u * (3 - 2 * u)
            if 0 < i < shot.frames - 1:
                yield cv2.addWeighted(morphed(a, there, share), 1 - share, morphed(b, back, 1 - share), share, 0)
            else:
                yield b if i else a

    return frames()


def pictures(prior: VideoPrior, x: Video, shot: Shot) -> Iterator[Frame]:
    """A decoded clip at the painting's size: strokes of the first painting at its beginning, of the last at its end."""
    assert shot.last is not None
    video: Tensor = prior.decode(x, shot)[0].float().clamp(-1, 1)
    generated = list(((video.permute(1, 2, 3, 0) + 1) * 127.5).round().byte().cpu().numpy())
    ends = [frame for frame, _ in native(generated[::-1], shot.last)][::-1]
    for i, (frame, _) in enumerate(native(generated, shot.painting)):
        u = i / max(len(generated) - 1, 1)
        yield cv2.addWeighted(frame, 1 - u, ends[i], u, 0)


def animate_between(
    painting: Any, last: Any, prompt: str, out: str | Path, *, frames: int | None = None, size: str = "native",
    on_progress: Progress | None = None, loaded: dict[Any, Any] | None = None, **how: Any,
) -> Film:  # fmt: skip
    """A clip that begins on one picture and ends on another, written to `out`. `how`: as `vivant.animate` takes it.

    `last` must have the painting's shape; another size is resized, and said so. Raises as `animate_long` does.
    """
    from ..render.export import check_target, export, spare

    out = Path(out)
    check_target(out)
    spare(out, painting, last, how.get("mask"))
    report = on_progress or silent
    start = time.perf_counter()
    end, said = load_last(last, resized(load_painting(painting), size))
    how["proxy"] = "none"  # the last picture is the second path
    stage = prepare(painting, prompt, frames=frames, size=size, last=end, loaded=loaded, progress=report, **how)
    film = Film(out, stage.shot.frames, stage.shot.fps, 1, warnings=stage.notes + ([said] if said else []))
    film.recipe = stage.recipe | {
        "between": {
            "last": absolute(last), "last_sha256": picture_hash(load_painting(last)), "frames": stage.shot.frames,
        }
    }  # fmt: skip
    film.seconds["prepare"] = time.perf_counter() - start
    start = time.perf_counter()

    def count(level: object) -> None:
        film.evaluations += 1
        report("dreaming", film.evaluations, 0)

    rendered = bridge(stage, film, count)
    film.seconds["generate"] = time.perf_counter() - start
    start = time.perf_counter()
    export(rendered, out, film.fps, json.dumps(film.recipe, sort_keys=True))
    film.seconds["render"] = time.perf_counter() - start
    return film


def bridge(stage: Stage, film: Film, on_call: OnCall) -> Iterator[Frame]:
    """The frames of an in-between; `film` is told what was adjusted."""
    from ..awaken import awaken

    shot, prior = stage.shot, stage.prior
    rng = torch.Generator().manual_seed(shot.seed)
    if moves(prior):
        return dissolved(prior, shot, rng, on_call)
    own = native_prior(prior, shot.last) if shot.last is not None else None
    prior = own or prior
    if shot.frames > prior.card.frames:
        film.warnings.append(
            f"{prior.card.name} makes clips of {prior.card.frames} frames: the way between has that many, not {shot.frames}"
        )
        shot = replace(shot, frames=prior.card.frames)
        film.frames = shot.frames
    x = awaken(prior, shot, None, rng, on_call) if own is not None else led(prior, shot, rng, on_call)
    return pictures(prior, x, shot)
