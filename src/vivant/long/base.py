"""What the long methods share: settings, how windows tile a film, where they start, how one window holds on to another.

Two kinds of latents are joined differently. Pictures (every released model): neighbouring windows share latent frames,
and a join is those frames held, as latents, never decoded and encoded again. Displacements (the embedded prior): every
window is told from its own beginning, and whoever paints composes the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from ..errors import SettingError
from ..noise import white
from ..priors.protocol import Denoiser, SolvesItself, StartsItself, VideoPrior
from ..process import Level, Prediction, Video, diffuse
from ..shot import Shot
from ..solvers import SOLVERS, Solver

MOST = 100_000
"""frames of the longest film"""

OnCall = Callable[[Level], None]


@dataclass(frozen=True)
class Settings:
    """How a film is made of windows."""

    gamma: float = 0.8
    """share of the steps that later clips take over from the first (CLIA eq. 9)"""
    omega: float = 0.2
    """how much fresh noise is added to the predicted one (CLIA eq. 11)"""
    window: int | None = None
    """frames of a window; None: the model's own clip"""
    overlap: int | None = None
    """latent frames that neighbouring windows share; None: a quarter of a window, half of one for the joint methods"""
    fuse: str | None = None
    """FreeNoise: "windows" fuses whole windows even where they could be fused within the network's attention"""

    def __post_init__(self) -> None:
        for name, value in (("gamma", self.gamma), ("omega", self.omega)):
            if not 0 <= value <= 1:
                raise SettingError(f"expected {name} between 0 and 1, got {value}")
        if self.window is not None and not 2 <= self.window <= 2000:
            raise SettingError(f"expected a window of 2 to 2000 frames, got {self.window}")
        if self.overlap is not None and self.overlap < 1:
            raise SettingError(f"expected windows that share at least 1 latent frame, got overlap {self.overlap}")
        if self.fuse not in (None, "windows"):
            raise SettingError(f"expected windows to be fused, or nothing said of it, got {self.fuse!r}")


class Piece(NamedTuple):
    """A stretch of the film. `x`: (1, C, l, h, w); its first `lead` latent frames were shown by the piece before."""

    x: Video
    lead: int


class Kept(Protocol):
    """Where finished tensors go, and come from when a run was stopped."""

    def get(self, name: str) -> dict[str, Tensor] | None:
        """What was put under this name, or None."""
        ...

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep these, whole or not at all."""
        ...


class Below(Protocol):
    """The film so far, which plays on around the region that is dreamt now."""

    def around(self, denoise: Denoiser, window: int) -> Denoiser:
        """`denoise` inside the region, the film's window around it."""
        ...

    def beneath(self, prior: VideoPrior) -> VideoPrior:
        """`prior` inside the region, the film's first window around it."""
        ...

    def everywhere(self, denoise: Denoiser, tiles: Tiling, long: bool) -> Denoiser:
        """The same for a denoiser of all windows of a film (K, C, L, h, w), or of the `long` film (1, C, N, h, w)."""
        ...


class Forgets:
    """Keeps nothing: for films in memory."""

    def get(self, name: str) -> dict[str, Tensor] | None:
        """Always None."""
        return None

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Tiling:
    """How windows cover a film."""

    shot: Shot
    """the shot of one window: `frames` is what a window decodes to"""
    total: int
    """frames of the film"""
    length: int
    """latent frames of a window"""
    per_latent: int
    """frames to a latent frame, after the first"""
    overlap: int
    """latent frames shared with the window before; 0 for displacements"""
    count: int
    """number of windows"""
    moves: bool
    """latents are displacements"""
    notes: tuple[str, ...] = ()

    @property
    def stride(self) -> int:
        """Latent frames from one window's beginning to the next one's."""
        return self.length - self.overlap

    @property
    def latents(self) -> int:
        """Latent frames of the whole film."""
        return self.length + (self.count - 1) * self.stride

    @property
    def whole(self) -> int:
        """Frames that `latents` decode to."""
        return self.shot.frames + (self.count - 1) * self.stride * self.per_latent


def moves(prior: VideoPrior) -> bool:
    """Whether the prior's latents are displacements from the painting (it then paints films itself, by `reel`)."""
    return hasattr(prior, "reel")


def tiling(prior: VideoPrior, shot: Shot, total: int, settings: Settings, joint: bool = False) -> Tiling:
    """Windows that cover `total` frames; `joint`: for methods that denoise all windows together.

    Where no whole number of windows gives `total` the last one is cut, and `notes` says so. Raises `SettingError`.
    """
    if not 2 <= total <= MOST:
        raise SettingError(f"expected a film of 2 to {MOST} frames, got {total}")
    notes: list[str] = []
    own = prior.card.frames
    if moves(prior):
        if settings.overlap is not None and not joint:
            raise SettingError(
                f"expected no overlap for {prior.card.name}: its windows tell motion, each from its own beginning, and share "
                "no frames; leave --overlap away, or take --method windowed or freenoise"
            )
        # Motion has a pace: at fewer frames a second a clip of the same seconds has fewer frames.
        frames = settings.window or max(2, round(own * shot.fps / prior.card.fps))
        one = replace(shot, frames=frames)
        length = prior.still([one], Generator().manual_seed(0)).shape[2]
        count = -(-(total - 1) // frames)
        overlap, per = 0, 1
        if joint and count > 1:
            overlap = _overlap(settings, length, length // 2)
            count = 1 + -(-((count - 1) * length) // (length - overlap))
        if (total - 1) % frames and total > frames:
            notes.append(f"{total} frames are no whole number of windows of {frames}: the last one is cut short")
        return Tiling(one, total, length, per, overlap, count, True, tuple(notes))
    frames = settings.window or own
    one = replace(shot, frames=frames)
    length = prior.still([one], Generator().manual_seed(0)).shape[2]
    if length < 2:
        raise SettingError(f"expected a window of at least 2 latent frames, {frames} frames give {length}; lengthen it")
    # A VAE over time says itself how many frames a latent frame stands for: it rounds a window up, and cuts the rest.
    per = 1 if length >= frames else getattr(prior, "temporal", max(1, round((frames - 1) / (length - 1))))
    made = frames if length >= frames else 1 + (length - 1) * per
    if made != frames:
        notes.append(f"{prior.card.name} makes no windows of {frames} frames: they have {made}")
        one = replace(shot, frames=made)
    overlap = _overlap(settings, length, length // 2 if joint else length // 4)
    step = (length - overlap) * per
    count = 1 + max(0, -(-(total - made) // step))
    covered = made + (count - 1) * step
    if covered != total:
        notes.append(
            f"{total} frames are no whole number of windows of {made}: {covered} are made, the last {covered - total} left out"
        )
    return Tiling(one, total, length, per, overlap, count, False, tuple(notes))


def _overlap(settings: Settings, length: int, usual: int) -> int:
    overlap = settings.overlap or max(1, usual)
    if overlap >= length:
        raise SettingError(
            f"expected windows of {length} latent frames to share fewer than that, got overlap {overlap}"
        )
    return overlap


def home(prior: VideoPrior) -> torch.device:
    """Where the prior computes: what was kept on disk comes back to it."""
    return torch.device(getattr(prior, "device", "cpu"))


def noised(prior: VideoPrior, x: Video, level: Level, rng: Generator) -> Video:
    """A clean clip at the level the solver begins with, by the prior's own way where it has one."""
    return prior.start(x, level, rng) if isinstance(prior, StartsItself) else diffuse(x, white(x, rng), level)


def solver(prior: VideoPrior, whole: bool = True) -> Solver:
    """The prior's solver. Its own one only runs over whole grids of one clip; else the one its card names."""
    if whole and isinstance(prior, SolvesItself):
        return prior.solve
    return SOLVERS[prior.card.solver]


def held(denoise: Denoiser, head: Video | None) -> Denoiser:
    """The first frames of the clean clip are `head` (1, C, o, h, w), whatever the network says: windows join there.

    ε̂ follows from z = a·x̂0 + s·ε̂, so that the pair stays consistent.
    """
    if head is None:
        return denoise
    shared = head.shape[2]

    def call(z: Video, level: Level) -> Prediction:
        x0, eps = denoise(z, level)
        x0 = torch.cat([head.to(x0).expand(x0.shape[0], -1, -1, -1, -1), x0[:, :, shared:]], 2)
        return Prediction(x0, (z - level.a * x0) / level.s if level.s > 0 else eps)

    return call


def joined(x: Video, head: Video | None) -> Video:
    """A solved clip whose first frames are exactly `head`: some solvers end a little above the clean clip."""
    return x if head is None else torch.cat([head.to(x), x[:, :, head.shape[2] :]], 2)


def child(base: int, index: int) -> Generator:
    """The generator of window `index`: a window that is made again after a stop comes out the same."""
    return Generator().manual_seed((base + 0x9E3779B97F4A7C15 * (index + 1)) % 2**63)


def base_seed(rng: Generator) -> int:
    """One number of the generator, from which every window has its own."""
    return int(torch.randint(2**62, (1,), generator=rng, device=rng.device))


def windows(
    kept: Kept, count: int, make: Callable[[int, Video | None], Video], device: torch.device
) -> Iterator[Video]:  # fmt: skip
    """Windows 0 … count-1, each kept as soon as it is finished; those that are kept already are not made again.

    `make` takes the number of the window and the window before it (None for the first).
    """
    before: Video | None = None
    for k in range(count):
        found = kept.get(f"window_{k:05d}")
        x = found["x"].to(device) if found is not None else make(k, before)
        if found is None:
            kept.put(f"window_{k:05d}", {"x": x})
        yield x
        before = x
