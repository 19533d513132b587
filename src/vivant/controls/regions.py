"""Regions: parts of a painting that each move by a sentence, a strength and arrows of their own, on any base model.

together   x̂0 = x̂0 of the whole picture, and over it, region by region, x̂0 ← x̂0 + m·(x̂0_region - x̂0) at every step
in turn    the whole picture's clip first, then each region's, with the clip so far held still around it

AnimateAnything's guidance composition (Dai et al. 2023, §3.5), in the latents of any prior. Where two regions overlap
the later one decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, repeat
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from ..errors import SettingError
from ..priors.combine import masked
from ..priors.protocol import Denoiser, PaintsNative, VideoPrior
from ..process import Level, Prediction, Video
from ..render.freeze import feather
from ..shot import Controls, Region, Shot
from .steer import steered

HOW = ("together", "in turn")
ROOM = 1 / 32
"""how far, in parts of the longer side, a region's own clip moves beyond its outline: its seam lies in full motion"""
Awaken = Callable[..., Video]
"""`vivant.awaken.awaken`"""


def awakened(
    awaken: Awaken, prior: VideoPrior, shot: Shot, proxy: np.ndarray | None, rng: Generator,
    on_call: Callable[[Level], None] = lambda level: None, how: str = "together",
) -> Video:  # fmt: skip
    """The whole method for a shot with regions or without: clean latents (1, C, L, h, w). `how`: one of `HOW`.

    Raises `SettingError` for another `how`.
    """
    if how not in HOW:
        raise SettingError(f"expected regions moved together or in turn, got {how!r}")
    if not shot.regions or how == "together":
        return awaken(regional(prior, shot), shot, proxy, rng, on_call)
    if idle(shot):
        x = prior.still([shot], rng)
    else:
        alone = replace(shot, regions=())
        x = awaken(steered(prior, alone), alone, proxy, rng, on_call)
    for region, outline in zip(shot.regions, seams(shot), strict=True):
        mask, told = at_latents(outline, x), part(shot, region)
        around = steered(prior, told)
        if not shot.loop:  # a loop's denoiser sees the clip turned along time, where the clip so far would not fit
            around = Around(around, x, mask)
        x = x + mask * (awaken(around, told, proxy, rng, on_call).to(x) - x)
    return x


def regional(prior: VideoPrior, shot: Shot) -> VideoPrior:
    """The prior led along the shot's arrows and, where it has regions, composed of them; else the prior itself."""
    if isinstance(prior, _Regional):
        return prior
    return _Regional(prior) if shot.regions else steered(prior, shot)


def composed(prior: VideoPrior, shots: Sequence[Shot], rng: Generator) -> Denoiser:
    """One denoiser of the whole picture and of each region; (x0, eps) stays a consistent pair.

    `shots` are the paths of one painting: their regions are the first one's. Every part is bound with the same draws of
    `rng`, so that all see the same sample of the painting, and `rng` is left as the prior alone would leave it.
    """
    before = rng.get_state()
    whole = None if idle(shots[0]) else _bind(prior, [replace(s, regions=()) for s in shots], rng)
    still = prior.still(shots, rng) if whole is None else None
    after = rng.get_state()
    parts: list[tuple[Denoiser, Tensor]] = []
    for region, outline in zip(shots[0].regions, seams(shots[0]), strict=True):
        rng.set_state(before)
        parts.append((_bind(prior, [part(s, region) for s in shots], rng), outline))
    rng.set_state(after)
    small: dict[tuple[int, ...], list[Tensor]] = {}

    def call(z: Video, level: Level) -> Prediction:
        masks = small.setdefault(tuple(z.shape[-2:]), [at_latents(mask, z) for _, mask in parts])
        x0 = still.to(z) if still is not None else whole(z, level).x0 if whole is not None else z
        for (denoise, _), mask in zip(parts, masks, strict=True):
            x0 = x0 + mask.to(z) * (denoise(z, level).x0 - x0)
        # At s = 0 the input is the clip: no noise is left to tell.
        return Prediction(x0, (z - level.a * x0) / level.s if level.s else torch.zeros_like(z))

    return call


def _bind(prior: VideoPrior, shots: Sequence[Shot], rng: Generator) -> Denoiser:
    return steered(prior, shots[0]).bind(shots, rng)


def part(shot: Shot, region: Region) -> Shot:
    """The shot of one region alone, its mask wide enough for the seam; what it does not say is the whole picture's."""
    told = region.controls
    assert told.mask is not None
    strength = shot.controls.strength if told.strength is None else told.strength
    return replace(
        shot,
        prompt=region.prompt,
        regions=(),
        controls=Controls(mask=_wide(told.mask), strength=strength, arrows=told.arrows),
    )


def moving(shot: Shot) -> Float[np.ndarray, "H W"] | None:
    """Where anything may move: the mask and the regions united; None without a mask, when everything may."""
    mask = shot.controls.mask
    if mask is None:
        return None
    return np.maximum.reduce([mask, *(r.controls.mask for r in shot.regions if r.controls.mask is not None)])


def idle(shot: Shot) -> bool:
    """Whether nothing moves but the regions: the mask lies within them."""
    mask = shot.controls.mask
    inner = [r.controls.mask for r in shot.regions if r.controls.mask is not None]
    return mask is not None and bool(inner) and bool((mask <= np.maximum.reduce(inner)).all())


def overlaps(regions: Sequence[Region]) -> list[str]:
    """What is to be said of regions that overlap, the order being what decides."""
    notes = []
    masks = [np.asarray(r.controls.mask) > 0.5 for r in regions]
    for (i, a), (j, b) in combinations(enumerate(masks), 2):
        shared = int((a & b).sum())
        if not shared:
            continue
        of_first = shared / max(int(a.sum()), 1)
        if of_first > 0.99:
            notes.append(f"region {j + 1} covers region {i + 1} wholly and decides there: put the smaller one later")
        else:
            notes.append(
                f"regions {i + 1} and {j + 1} overlap in {100 * shared / a.size:.1f} % of the picture: "
                f"the later one, {j + 1}, decides there"
            )
    return notes


def seams(shot: Shot) -> list[Float[Tensor, "1 1 1 H W"]]:
    """The regions' masks, each feathered inwards by 1 % of the longer side, its middle kept however narrow it is.

    Where a later region adjoins, the earlier one reaches under it: between the two, what lies below never shows.
    """
    masks = [np.asarray(r.controls.mask, np.float32) for r in shot.regions]
    out = []
    for i, mask in enumerate(masks):
        for later in masks[i + 1 :]:
            mask = np.maximum(mask, np.where(later > 0, _wide(masks[i]), 0))
        soft = feather(mask, max(mask.shape) / 100)
        if float(soft.max()) < 0.9 * float(mask.max()):  # narrower than its seam
            soft = mask
        out.append(torch.from_numpy(np.ascontiguousarray(soft, np.float32))[None, None, None])
    return out


def _wide(mask: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    reach = max(1, round(ROOM * max(mask.shape)))
    return cv2.dilate((mask > 0).astype(np.float32), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))


def at_latents(mask: Float[Tensor, "1 1 1 H W"], x: Video) -> Float[Tensor, "1 1 1 h w"]:
    """A mask of the picture's size at that of latents, averaged over the pixels of each cell."""
    h, w = x.shape[-2:]
    return F.interpolate(mask[:, :, 0], size=(h, w), mode="area")[:, :, None].to(x)


class Around:
    """A prior that moves inside a mask while the clip `x` plays on around it."""

    def __init__(self, prior: VideoPrior, x: Video, mask: Tensor) -> None:
        _behind(self, prior)

        def bind(shots: Sequence[Shot], rng: Generator) -> Denoiser:
            return masked(prior.bind(shots, rng), x, mask)

        self.bind = bind

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["prior"], name)


class _Regional:
    """A prior whose denoisers, and frames where it paints them itself, are composed of a shot's regions."""

    def __init__(self, prior: VideoPrior) -> None:
        _behind(self, prior)
        self.still = self._still
        if isinstance(prior, PaintsNative):
            self.frames = self._frames

    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        prior: VideoPrior = self.__dict__["prior"]
        return composed(prior, shots, rng) if shots[0].regions else prior.bind(shots, rng)

    def _still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """The prior's, in every region carried along its arrows where the prior is led by them."""
        prior, before = self.__dict__["prior"], rng.get_state()
        x = steered(prior, replace(shots[0], regions=())).still(shots, rng)
        after = rng.get_state()
        for region, outline in zip(shots[0].regions, seams(shots[0]), strict=True):
            if region.controls.arrows:
                rng.set_state(before)
                mask = at_latents(outline, x)
                x = x + mask * (steered(prior, part(shots[0], region)).still(shots, rng).to(x) - x)
        rng.set_state(after)
        return x

    def _frames(self, x: Video, shot: Shot) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Each region's frames, painted by its own words and strength, over those of the whole picture."""
        paint = self.__dict__["prior"].frames
        whole: Any = repeat(shot.painting, shot.frames) if idle(shot) else paint(x, replace(shot, regions=()))
        yield from laid_over(whole, [paint(x, part(shot, region)) for region in shot.regions], shot)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["prior"], name)


def laid_over(
    whole: Iterable[UInt8[np.ndarray, "H W 3"]], streams: Sequence[Iterable[UInt8[np.ndarray, "H W 3"]]], shot: Shot
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames of the whole picture with each region's own frames over them, inside its seam."""
    places = [_place(outline[0, 0, 0].numpy()) for outline in seams(shot)]
    for below, *over in zip(whole, *streams, strict=True):
        out = below.copy()
        for frame, (box, weight) in zip(over, places, strict=True):
            out[box] = np.rint(out[box] + weight * (frame[box].astype(np.float32) - out[box])).astype(np.uint8)
        yield out


def _behind(wrapper: Any, prior: VideoPrior) -> None:
    """What is asked of a wrapper is the prior's. Protocols look for their methods without __getattr__: they are named."""
    wrapper.__dict__["prior"] = prior
    for name in ("card", "levels", "still", "decode", "start", "solve", "frames"):
        if hasattr(prior, name):
            wrapper.__dict__[name] = getattr(prior, name)


def _place(weight: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    x, y, w, h = cv2.boundingRect((weight > 0).astype(np.uint8))
    box = (slice(y, y + h), slice(x, x + w))
    return box, weight[box][..., None]
