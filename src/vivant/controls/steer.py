"""Arrows on any prior: a base model without a way in for motion fields is led to where the painting would be carried.

The arrows' field carries the still painting's latents along; from there three things lead the model, none of them
trained: the start (latents and noise lie along the field), VSDS, which walks from the carried still and towards it, and
the noisy levels of the solve, where a clip's motion is decided. At the fine levels the model has its own way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..flow import flow as optical_flow
from ..noise import white
from ..priors.frames2d import latent_mask
from ..priors.protocol import Denoiser, PaintsNative, SolvesItself, StartsItself, VideoPrior
from ..process import Level, Prediction, Video, diffuse
from ..shot import Arrow, Controls, Shot
from .arrows import Field, carried, pointed
from .refine import field

if TYPE_CHECKING:
    from ..data.scenes import Scene

HEARS = frozenset({"svd_flow"})
"""Base models (names of their cards) whose networks follow arrows by themselves: they are left alone."""

MOTION = frozenset({"miniature"})
"""Base models whose latents are not pictures but motion: to be carried is another thing there."""

PULL = 0.6
"""Share of the way from x̂0 to the carried still that a prediction is led, where the field moves."""

FINEST = 0.3
"""s/a down to which predictions are led; below it a clip's motion is decided, and the model mends what the warp tore."""

NOISE_SHARE = 0.5
"""Variance of the starting noise that lies along the field; the rest is every frame's own, without which a model that
was trained on independent noise freezes."""


def steered(prior: VideoPrior, shot: Shot, pull: float = PULL, finest: float = FINEST) -> VideoPrior:
    """`prior`, led along the arrows of `shot`; `prior` itself where there are none, or where it hears them by itself."""
    if not shot.controls.arrows or prior.card.name in HEARS:
        return prior
    kind = SteeredMotion if prior.card.name in MOTION else Steered
    return kind(prior, shot, pull, finest)


class Steered:
    """Any `VideoPrior` whose latents lie over the picture, led along one shot's arrows; itself a `VideoPrior`."""

    def __init__(self, prior: VideoPrior, shot: Shot, pull: float = PULL, finest: float = FINEST) -> None:
        self.prior, self.shot, self.card = prior, shot, prior.card
        self.pull, self.finest = pull, finest
        # These protocols are told by the methods that are there.
        if isinstance(prior, PaintsNative):
            self.frames = prior.frames
        if isinstance(prior, SolvesItself):
            self.solve = prior.solve

    def __getattr__(self, name: str) -> Any:
        return getattr(self.prior, name)

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        """The prior's own."""
        return self.prior.levels(shot, steps)

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """The prior's own."""
        return self.prior.decode(x, shot)

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """The painting carried along the arrows, in latents, inside the shots' masks; its first frame is the still's own."""
        x = self.prior.still(shots, rng)
        if all(shot.controls.mask is None for shot in shots):
            return self.along(x)
        masks = torch.cat([latent_mask(shot, x.shape[-2:], x.device) for shot in shots]).to(x)
        return x + masks * (self.along(x) - x)

    def start(self, x: Video, level: Level, rng: Generator) -> Video:
        """The prior's own start, its noise led along the field."""
        if isinstance(self.prior, StartsItself):
            z = self.prior.start(x, level, rng)
        else:
            z = diffuse(x, white(x, rng), level)
        if level.s == 0:
            return z
        noise = (z - level.a * x) / level.s
        return level.a * x + level.s * self.along_noise(noise)

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """The prior's denoiser, led towards the carried still at the noisy levels. Draws only what the prior draws."""
        again = Generator(device=rng.device).manual_seed(rng.initial_seed())
        target = self.still(shots, again)
        flow = self.flow(target)
        length = np.hypot(flow[..., 0], flow[..., 1])
        where = torch.from_numpy(np.clip(length / max(0.2 * float(length.max()), 1e-9), 0, 1)).to(target)
        return led(self.prior.bind(shots, rng), target, self.pull * where, self.finest)

    def flow(self, x: Video) -> Field:
        """The arrows' field in latent cells, over the whole clip."""
        return field(self.shot.controls.arrows, (x.shape[-1], x.shape[-2]), self.shot.painting)

    def along(self, x: Video) -> Video:
        """Every latent frame carried from the painting's place to where the arrows have it at its time."""
        return warped(x, self._back(x))

    def along_noise(self, noise: Video, share: float = NOISE_SHARE) -> Video:
        """Noise of unit variance of which `share` is the first frame's, carried along the field."""
        back = self._back(noise)
        first = noise[:, :, :1].expand_as(noise)
        # Bilinear look-ups average, which takes variance away: it is given back place by place.
        moved = warped(first, back) / spread(back).sqrt().to(noise)
        mixed = math.sqrt(share) * moved + math.sqrt(1 - share) * noise
        return torch.cat([noise[:, :, :1], mixed[:, :, 1:]], dim=2)

    def _back(self, x: Video) -> Float[Tensor, "L h w 2"]:
        count = x.shape[2]
        times = [k / max(count - 1, 1) for k in range(count)]
        return torch.from_numpy(carried(self.flow(x), times)).to(x.device)


class SteeredMotion(Steered):
    """The same for the embedded prior: its latents are the backward displacement of each keyframe, and no motion is 0."""

    def start(self, x: Video, level: Level, rng: Generator) -> Video:
        """Diffused as ever: noise on a displacement does not move with it."""
        return diffuse(x, white(x, rng), level)

    def along(self, x: Video) -> Video:
        """`x` with the arrows' displacement added, keyframe by keyframe; the first keyframe has already moved."""
        from ..priors.miniature.weights import SCALE

        count, height, width = x.shape[2:]
        back = carried(self.flow(x), [(k + 1) / count for k in range(count)]) / (width * SCALE[0], height * SCALE[1])
        moved = torch.from_numpy(back).permute(3, 0, 1, 2)[None].to(x)
        return torch.cat([x[:, :2] + moved, x[:, 2:]], dim=1)


def led(denoise: Denoiser, target: Video, pull: Float[Tensor, "h w"], finest: float = FINEST) -> Denoiser:
    """x̂0 ← x̂0 + pull·(target - x̂0) at levels with s/a ≥ `finest`; ε̂ follows from z, so that the pair stays consistent.

    In VSDS (eq. 2, 3) this is distillation towards the target: x moves by α·w·a/s·(x̂0 - x).
    """

    def call(z: Video, level: Level) -> Prediction:
        x0, eps = denoise(z, level)
        if level.s == 0 or level.s < finest * level.a:
            return Prediction(x0, eps)
        x0 = x0 + pull.to(x0) * (target.to(x0) - x0)
        return Prediction(x0, (z - level.a * x0) / level.s)

    return call


def warped(x: Video, back: Float[Tensor, "L h w 2"]) -> Video:
    """Frame l of `x` (B, C, L, h, w) looked up at p + back[l](p), in cells, bilinearly, the border repeated."""
    batch, _, count, height, width = x.shape
    y, line = torch.meshgrid(torch.arange(height, device=x.device), torch.arange(width, device=x.device), indexing="ij")
    place = torch.stack([line, y], -1) + back
    place = (2 * place + 1) / torch.tensor([width, height], device=x.device) - 1
    frames = x.transpose(1, 2).flatten(0, 1)
    grid = place.repeat(batch, 1, 1, 1).to(frames)
    out = F.grid_sample(frames, grid, "bilinear", "border", align_corners=False)
    return out.unflatten(0, (batch, count)).transpose(1, 2)


def spread(back: Float[Tensor, "L h w 2"]) -> Float[Tensor, "L h w"]:
    """What variance the look-ups of `warped` leave of white noise: Σ of the squared weights, in [1/4, 1]."""
    height, width = back.shape[1:3]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=back.device), torch.arange(width, device=back.device), indexing="ij"
    )
    place = torch.stack([columns, rows], -1) + back
    last = torch.tensor([width - 1, height - 1], device=back.device)
    share = torch.minimum(place.clamp_min(0), last)  # beyond the border its cells are repeated
    share = share - share.floor()
    return ((1 - share) ** 2 + share**2).prod(-1)


def tracked(
    frames: Sequence[UInt8[np.ndarray, "H W 3"]], x: float, y: float, radius: float = 0.025
) -> Float[np.ndarray, " 2"]:
    """How far (pixels) the paint around a place (fractions) is carried over a clip: flow from frame to frame, followed.

    The median over the places within `radius` of the longer side.
    """
    height, width = frames[0].shape[:2]
    reach = max(1.5, radius * max(height, width))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    disc = np.hypot(columns + 0.5 - x * width, rows + 0.5 - y * height) <= reach
    start = np.stack([columns[disc], rows[disc]], -1)
    now = start.copy()
    for first, second in itertools.pairwise(frames):
        moved = optical_flow(first, second)
        look = cv2.remap(moved, now[:, None, 0], now[:, None, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        now = now + look[:, 0]
    return np.median(now - start, axis=0)


def angle_error(frames: Sequence[UInt8[np.ndarray, "H W 3"]], arrow: Arrow) -> float:
    """End-point angle error in degrees, 0 … 180: between where the arrow points and where its paint ended.

    Paint that went less than 0.5 % of the picture's diagonal has no direction: 90, what chance gives.
    """
    height, width = frames[0].shape[:2]
    way = np.array([(arrow.x1 - arrow.x0) * width, (arrow.y1 - arrow.y0) * height])
    went = tracked(frames, arrow.x0, arrow.y0)
    if np.hypot(*went) < 0.005 * math.hypot(height, width):
        return 90.0
    cos = float(went @ way) / float(np.hypot(*went) * np.hypot(*way))
    return float(np.degrees(np.arccos(np.clip(cos, -1, 1))))


def led_scenes(seed: int, size: int) -> Iterator[tuple[int, np.random.Generator, Scene, list[Arrow]]]:
    """Held-out procedural scenes without end, with one arrow a thing that moves: (number, generator, scene, arrows)."""
    from ..data.scenes import sample
    from ..metrics.evaluate import HELD_OUT
    from ..train.refine import exact, moving

    for index in itertools.count():
        rng = np.random.default_rng([HELD_OUT, seed, index, 5])
        scene = sample(rng, size, still=False)
        labels = cv2.resize(scene.labels, (32, 32), interpolation=cv2.INTER_NEAREST)
        arrows = pointed(exact(scene), labels, moving(scene), rng)
        if arrows:
            yield index, rng, scene, arrows


def angle_errors(
    prior: VideoPrior, count: int = 20, seed: int = 0, frames: int = 7, size: int = 192, row: str = "full",
    progress: Callable[[str], None] = lambda line: None, others: bool = False,
) -> dict[str, list[float]]:  # fmt: skip
    """End-point angle errors on `count` held-out procedural scenes, one number an arrow, in degrees.

    Each scene's exact motion gives one arrow a thing that moves; the sentence says what moves and never which way.
    "with": as `vivant animate --arrow` does it with this prior; "without": the same shot without arrows; "exact": the
    scene's own motion, which is how well flow can measure at all; "others", where asked for: led by the scene before's
    arrows and held to its own, which is what arrows of no meaning give.
    """
    from ..awaken import awaken
    from ..data.captions import describe
    from ..metrics.evaluate import ROWS, defaults
    from ..proxy.embedded import embedded
    from ..render.render import render

    options = dict(ROWS[row])
    proxied = bool(options.pop("proxy"))
    out: dict[str, list[float]] = {name: [] for name in ("with", "without", "exact", *["others"] * others)}
    done = 0
    before: tuple[Arrow, ...] = ()
    scenes = led_scenes(seed, size)
    while done < count:
        index, rng, scene, arrows = next(scenes)
        sentence = describe({thing: replace(motion, direction=None) for thing, motion in scene.plan.items()}, rng)
        proxy = embedded(scene.picture, sentence) if proxied else None
        clips = {"exact": played(scene.picture, scene.field, frames)}
        try:
            leads: dict[str, tuple[Arrow, ...]] = {"with": tuple(arrows), "without": ()}
            if others and before:
                leads["others"] = before
            for name, told in leads.items():
                shot = defaults(prior, scene.picture, sentence, Controls(arrows=told))
                shot = replace(shot, frames=frames, **options)
                x = awaken(steered(prior, shot), shot, proxy, Generator().manual_seed(seed + index + 1))
                clips[name] = list(render(prior, x, shot))
        except InputError:  # a sentence this prior has no word of
            continue
        for name, clip in clips.items():
            out[name] += [angle_error(clip, arrow) for arrow in arrows]
        before = tuple(arrows)
        done += 1
        progress(f"{done}/{count} " + ", ".join(f"{name} {np.median(v):.1f}°" for name, v in out.items() if v))
    return out


def played(
    picture: UInt8[np.ndarray, "H W 3"], keys: Float[np.ndarray, "K C h w"], frames: int
) -> list[UInt8[np.ndarray, "H W 3"]]:
    """A scene's exact clip: its picture looked up along its keyframes (backward displacement in fractions, light)."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    path = np.concatenate([np.zeros_like(keys[:1]), keys])
    out = []
    for k in range(frames):
        time = k / max(frames - 1, 1) * len(keys)
        low = min(int(time), len(keys) - 1)
        now = path[low] + (time - low) * (path[low + 1] - path[low])
        large = cv2.resize(
            np.ascontiguousarray(now.transpose(1, 2, 0)), (width, height), interpolation=cv2.INTER_LINEAR
        )
        moved = cv2.remap(
            picture, x + large[..., 0] * width, y + large[..., 1] * height, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )  # fmt: skip
        lit = moved.astype(np.float32) * (1 + large[..., 2:3])
        out.append(np.clip(np.round(lit), 0, 255).astype(np.uint8))
    return out
