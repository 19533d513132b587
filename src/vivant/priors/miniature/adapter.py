"""The embedded prior behind the seam: its latents are motion, and paint stays paint because `decode` warps the painting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from ...data.captions import KINDS, SUBJECTS
from ...errors import PromptError
from ...process import Level, Prediction, Video, coefficients, recover
from ...shot import Arrow, Shot
from ..combine import masked
from ..once import Once
from ..protocol import Card, Denoiser
from . import paint, reel, weather
from .around import Lifted, Taken, around
from .net import Config, MotionUNet, PictureReader, conditions
from .pace import carried
from .sky import SKY, drifting, swept, unbroken
from .text import UNKNOWN, TextReader, tokenize
from .travel import spread
from .weights import FILE, SCALE, load_networks

TRAVELS = ("boat", "bird", "figure", "sun")
"""subjects whose outline moves with them: their motion may leave the place where they were painted"""
TRAVELLERS = [SUBJECTS.index(name) for name in TRAVELS]

BROAD = ("sky", "water", "grass")
"""subjects that fill a good part of a picture where they are at all"""


def presumed(scores: Float[Tensor, "1 K h w"], named: Float[Tensor, "K"]) -> Float[Tensor, "1 K h w"]:
    """What is where, given that what the sentence names is presumably in the picture.

    A named subject's scores are raised by one constant, at most 4 nats, until its likeliest cells (4, or a twelfth of
    the picture for the broad ones) reach an chance of 0.8: the words say what, the picture only has to say where.
    """
    scores = scores.clone()
    cells = scores.shape[-1] * scores.shape[-2]
    for k in torch.nonzero(named > 0.5).flatten().tolist():
        others = torch.cat([scores[0, :k], scores[0, k + 1 :]]).logsumexp(0)
        margin = (scores[0, k] - others).flatten().topk(cells // 12 if SUBJECTS[k] in BROAD else 4).values[-1]
        scores[0, k] += (math.log(0.8 / 0.2) - margin).clamp(0, 4)
    where = scores.softmax(1)
    # A doubtful place would move by a doubtful amount: what was named either moves in earnest there, or not at all.
    chosen = where * (named > 0.5).view(1, -1, 1, 1)
    # Broad ones border on much that must not move: more certainty is asked of their outline.
    low = torch.tensor([0.3 if name in BROAD else 0.1 for name in SUBJECTS], device=scores.device).view(1, -1, 1, 1)
    sure = ((chosen - low) / 0.3).clamp(0, 1)
    sure = sure / sure.sum(1, keepdim=True).clamp_min(1)
    rest = where - chosen
    return sure + rest * (1 - sure.sum(1, keepdim=True)) / rest.sum(1, keepdim=True).clamp_min(1e-6)


class Outlines(NamedTuple):
    """What may move within its own outline, and what takes its outline along, both in [0, 1]; things an arrow takes whole."""

    support: Float[np.ndarray, "h w"]
    travels: Float[np.ndarray, "h w"]
    things: tuple[Lifted, ...]


class Miniature:
    """Motion as latents: (B, 3, 8, 32, 32) keyframes of backward displacement and light, in units of `SCALE`."""

    card = Card(
        name="miniature",
        frames=72,
        fps=24,
        steps=16,
        guidance=3.0,
        size=None,
        solver="dpmpp_2m",
        gain=0.7,
        distil_evaluations=2,
        loops=True,
    )

    def __init__(self, reader: PictureReader, motion: MotionUNet, text: TextReader, device: str = "cpu") -> None:
        self.reader, self.motion, self.text = reader.eval().to(device), motion.eval().to(device), text.eval().to(device)
        self.config, self.device = motion.config, torch.device(device)
        self.once = Once()

    @classmethod
    def load(cls, device: str = "cpu", weights: Path = FILE) -> Miniature:
        """The prior with its packaged weights. Raises `WeightsError` where they are missing or broken."""
        reader, motion = PictureReader(Config()), MotionUNet(Config())
        load_networks(reader, motion, weights)
        return cls(reader, motion, TextReader.load(), device)

    def levels(self, shot: Shot, steps: int) -> list[Level]:
        """`steps + 1` levels of the cosine schedule, t from 0.99 to 0: a = cos(πt/2), s = sin(πt/2)."""
        clock = [0.99 * (1 - i / steps) for i in range(steps)]
        return [Level(math.cos(t * math.pi / 2), math.sin(t * math.pi / 2), t) for t in clock] + [Level(1.0, 0.0, 0.0)]

    def still(self, shots: Sequence[Shot], rng: Generator) -> Video:
        """No displacement, no change of light: zeros."""
        c = self.config
        return torch.zeros(len(shots), c.channels, c.keys, c.grid, c.grid, device=self.device)

    @torch.no_grad()
    def bind(self, shots: Sequence[Shot], rng: Generator) -> Denoiser:
        """A denoiser for one clip per shot. Words, picture and controls are read once, here."""
        pictures, where, told = (torch.cat(parts) for parts in zip(*(self._read(s) for s in shots), strict=True))
        masks = torch.cat([self._mask(s) for s in shots])
        arrows = torch.cat([self._arrows(s.controls.arrows) for s in shots])
        strength = torch.tensor([[0.5, 1.0]] * len(shots), device=self.device)
        ones = torch.ones(len(shots), device=self.device)
        worded = conditions(pictures, where, told, masks, arrows, strength, ones)
        wordless = conditions(pictures, where, told, masks, arrows, strength, 0 * ones)
        weight = shots[0].guidance if shots[0].guidance is not None else self.card.guidance

        @torch.no_grad()
        def call(z: Video, level: Level) -> Prediction:
            t = torch.full((z.shape[0],), level.t, device=z.device)
            out = self.motion(z, t, worded)
            # Guidance costs a second pass, and matters only while the clip takes shape (Kynkäänniemi et al. 2024).
            if weight != 1 and 0.3 <= level.t <= 0.9:
                plain = self.motion(z, t, wordless)
                out = plain + weight * (out - plain)
            return recover(z, out, level, *coefficients("v_prediction", level))

        near = torch.stack([self._grid(np.maximum(*self._around(s)[:2])) for s in shots])[:, None]
        return masked(call, self.still(shots, rng), self.reach(where, told, near) * masks[:, :, None])

    def reach(
        self, where: Float[Tensor, "B K h w"], told: Float[Tensor, "B K 10"], near: Float[Tensor, "B 1 h w"]
    ) -> Float[Tensor, "B 1 1 h w"]:
        """Where motion was asked for: the named subjects, the way ahead of those that travel, the arrows' surround."""
        moving = where * told[:, :, :1, None]
        ahead = moving.clone()
        for k in TRAVELLERS:
            ahead[:, k : k + 1] = F.max_pool2d(moving[:, k : k + 1], 13, 1, 6)
        asked = ahead.sum(1, keepdim=True) + near
        return ((asked - 0.15) / 0.35).clamp(0, 1)[:, :, None]

    def decode(self, x: Video, shot: Shot) -> Float[Tensor, "B 3 F H W"]:
        """The clips' frames at the painting's own size, in [-1, 1]."""
        clips = [np.stack(list(self.frames(one[None], shot))) for one in x]
        return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1

    def frames(self, x: Video, shot: Shot) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """One clip, frame by frame: the painting itself, carried along the motion."""
        clip = paint.frames(shot.painting, self.motion_of(x, shot), shot.frames, *self.outlines(shot), loop=shot.loop)
        falling, _ = weather.said(shot.prompt)
        if falling is not None:
            asked = _asked(shot)
            clip = weather.over(clip, falling, shot.frames, asked, shot.seed, paint.mount(shot.painting), shot.loop)
        yield from clip

    def motion_of(self, x: Video, shot: Shot) -> Float[np.ndarray, "L 3 h w"]:
        """Latents (1, 3, L, h, w) as displacement in fractions of the sides, and light, at the strength asked for."""
        # The scenes' motion is proportional to their strength: the clip is dreamt at 0.5 and painted at what is asked.
        scale = torch.tensor(SCALE, device=x.device).view(1, 3, 1, 1, 1)
        _, where, told = self._read(shot)
        dreamt = (x.float() * scale)[0].transpose(0, 1)
        if shot.controls.arrows:  # they say themselves how far
            dreamt = swept(dreamt, where[0], told[0], shot.controls.arrows, self.config.keys)
        else:
            dreamt = carried(drifting(dreamt, where[0], told[0]), where[0] * self._mask(shot)[0], told[0])
        return np.ascontiguousarray((dreamt * (_asked(shot) / 0.5)).cpu().numpy())

    def outlines(self, shot: Shot) -> Outlines:
        """What of a painting may move, at the strength asked for."""
        _, where, told = self._read(shot)
        taken = self._around(shot)
        # An arrow says which: others of its kind stay.
        others = torch.ones(len(SUBJECTS), 1, 1, device=self.device)
        others[list(taken.subjects)] = 0
        moving = where * told[:, :, :1, None] * self._mask(shot) * others
        # A figure that leans or nods stays where it is; only what drifts takes its outline along.
        leaves = moving * told[:, :, 5 + KINDS.index("drift"), None, None].clamp(0, 1)
        named = leaves[:, TRAVELLERS].sum(1)[0]
        beside, along = (self._grid(m) * self._mask(shot)[0, 0] for m in taken[:2])
        travels = torch.maximum(named, along)
        stays = (moving.sum(1)[0] - named + beside) * (1 - along)
        # The outline is drawn where the reader is surer than not: a doubtful spire belongs to the town, not to the sky.
        firm = ((stays - 0.45) / 0.3).clamp(0, 1)
        for thing in taken.things:
            cells = cv2.resize(thing.outline, tuple(travels.shape[::-1]), interpolation=cv2.INTER_AREA)
            travels = travels * self._grid(spread(cells, 1) < 0.05)
        paced = tuple(one._replace(way=one.way * np.float32(_asked(shot) / 0.5)) for one in taken.things)
        return Outlines(self._array(firm), self._array(travels.clamp(0, 1)), paced)

    def reel(self, shot: Shot, total: int) -> MotionFilm:
        """A film of `total` frames, painted window by window; `shot.frames` is how long one window lasts."""
        return MotionFilm(self, shot, total)

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of the prompt this model never learned, in order."""
        _, rest = weather.said(prompt)
        return tokenize(rest, self.text.vocabulary)[1] + weather.NAMED.findall(rest)

    def _read(self, shot: Shot) -> tuple[Tensor, Tensor, Tensor]:
        """The picture as the network takes it, what is where, and what the sentence tells each subject."""
        return self.once(lambda: self._told(shot), shot.painting, shot.prompt, by=(self.reader, self.text))

    @torch.no_grad()
    def _told(self, shot: Shot) -> tuple[Tensor, Tensor, Tensor]:
        picture, usual = self._looked(shot.painting, 1.0)
        scores = (usual + self._looked(shot.painting, 1.5)[1]) / 2
        falling, rest = weather.said(shot.prompt)
        told = torch.zeros(1, self.config.subjects, self.config.state, device=self.device)
        if rest or falling is None:
            ids, unknown = tokenize(rest, self.text.vocabulary)
            if falling is None and all(i == UNKNOWN for i in ids):
                raise PromptError(
                    "expected English words such as 'clouds drift to the right', knew none of: "
                    f"{', '.join(unknown[:6]) or shot.prompt[:60]}"
                )
            told = self.once(lambda: self.text.read(rest)[None].to(self.device), rest, by=self.text)
        where = presumed(scores, told[0, :, 0])
        if told[0, SKY, 0] > 0.5:
            near = (1.5 * self._looked(shot.painting, 2.0)[1].softmax(1)[0, SKY]).clamp(max=1)
            sky = unbroken(shot.painting, torch.minimum(where[0, SKY], near).cpu().numpy())
            where[0, SKY] = torch.from_numpy(sky).to(where)
        return picture, where, told

    def _looked(self, painting: UInt8[np.ndarray, "H W 3"], near: float) -> tuple[Tensor, Tensor]:
        """The picture (1, 3, n, n) the reader sees, `near` times as large as usual, and its scores (1, K, h, w), both ways."""
        side = round(self.config.picture * near / 16) * 16
        small = cv2.resize(painting, (side, side), interpolation=cv2.INTER_AREA)
        picture = torch.from_numpy(small).permute(2, 0, 1)[None].float().to(self.device) / 127.5 - 1
        scores = (self.reader(picture) + self.reader(picture.flip(-1)).flip(-1)) / 2
        return picture, F.interpolate(scores, (self.config.grid,) * 2, mode="area")

    def _around(self, shot: Shot) -> Taken:
        """What the arrows take along."""
        _, where, told = self._read(shot)
        named = torch.nonzero(told[0, :, 0] > 0.5).flatten().tolist()
        mask, arrows = shot.controls.mask, shot.controls.arrows

        def look() -> Taken:
            return around(arrows, self._array(where[0]), shot.painting, named, TRAVELLERS, mask)

        by = (self.reader, self.text)
        return self.once(look, shot.painting, shot.prompt, repr(arrows), mask if mask is not None else "", by=by)

    def _grid(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(x, np.float32)).to(self.device)

    def _array(self, x: Tensor) -> np.ndarray:
        return np.ascontiguousarray(x.cpu().numpy())

    def _mask(self, shot: Shot) -> Float[Tensor, "1 1 h w"]:
        g = self.config.grid
        if shot.controls.mask is None:
            return torch.ones(1, 1, g, g, device=self.device)
        small = cv2.resize(shot.controls.mask.astype(np.float32), (g, g), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(small)[None, None].to(self.device)

    def _arrows(self, arrows: Sequence[Arrow]) -> Float[Tensor, "1 3 h w"]:
        g = self.config.grid
        out = torch.zeros(1, 3, g, g, device=self.device)
        for arrow in arrows:
            x, y = (min(int(v * g), g - 1) for v in (arrow.x0, arrow.y0))
            rows, columns = slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2)
            out[0, 0, rows, columns] = arrow.speed * (arrow.x1 - arrow.x0) / SCALE[0]
            out[0, 1, rows, columns] = arrow.speed * (arrow.y1 - arrow.y0) / SCALE[1]
            out[0, 2, rows, columns] = 1
        return out


class MotionFilm:
    """A film of the embedded prior: windows of its latents in, the frames that lie in them out."""

    def __init__(self, prior: Miniature, shot: Shot, total: int) -> None:
        self.prior, self.shot = prior, shot
        support, travels, things = prior.outlines(shot)
        # An arrow says where things are at the film's end, not at a window's.
        things = tuple(one._replace(keys=prior.config.keys * total / shot.frames) for one in things)
        self.film = reel.Film(reel.Reel(shot.painting, support, travels, things), total, prior.config.keys, shot.frames)
        self.falling, _ = weather.said(shot.prompt)
        share = shot.frames / total
        arrows = tuple(
            replace(a, x1=a.x0 + share * (a.x1 - a.x0), y1=a.y0 + share * (a.y1 - a.y0)) for a in shot.controls.arrows
        )
        self.window = replace(shot, controls=replace(shot.controls, arrows=arrows))
        self.numbers = range(0)

    def go_on(self, x: Video, lead: int) -> int:
        """The next window (1, 3, l, h, w); returns how many frames lie in it. `lead` is 0: windows share no latents."""
        self.numbers = self.film.go_on(self.prior.motion_of(x, self.window))
        return len(self.numbers)

    def frames(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The frames of the present window, at the painting's own size."""
        shot, clip = self.shot, self.film.paint(self.numbers)
        if self.falling is None:
            return clip
        edge = paint.mount(shot.painting)
        return weather.over(
            clip, self.falling, shot.frames, _asked(shot), shot.seed, edge, begin=self.numbers.start, like=shot.painting
        )


def _asked(shot: Shot) -> float:
    return shot.controls.strength if shot.controls.strength is not None else 0.5
