"""One strength for every base model: 0..1 of a motion that can be measured, by a curve fitted once for each of them.

strength s ─► motion s·FULL, in % of the picture's diagonal a frame ─► the model's own knob, by its curve read backwards

Each adapter turns `controls.strength` evenly into what its network hears (a motion id, a stride, a bucket): that even
scale is the knob. Models that hear nothing of the kind are moved by the gain of VSDS. Loads no torch by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from ..errors import OutputError, SettingError
from ..shot import Controls, Shot
from .fit import isotonic, pchip, spearman

RATE = 8
"""frames a second that motion is counted at, so that a clip of 24 is not thrice as slow as one of 8"""
FULL = 0.2
"""% of the diagonal a frame that strength 1 asks for: as far as the embedded model goes, within what "Controllable Longer
Image Animation" shows (eq. 8, M_s = 100 to 400), and its usual pace is then 0.5"""
DEAF = ("cogvideox", "wan", "ltx", "hunyuan", "i2vgen_xl")
"""base models whose networks hear nothing of strength: the VSDS gain is their knob, 0.5 their card's own"""
CALIBRATION = 1_500_000_001
"""seeds of the scenes curves are fitted on: others than those of training and of evaluation"""
SIDE = 192
"""pixels of those scenes"""
FLAT = "the strength changes nothing that can be measured"


@dataclass(frozen=True)
class Curve:
    """How much a model moves at each setting of its knob. `knobs` in [0, 1], rising; `motions` in % a frame, never falling."""

    model: str
    knob: str
    """"own": what the adapter makes of `controls.strength`; "gain": VSDS"""
    knobs: tuple[float, ...]
    motions: tuple[float, ...]
    measured: tuple[float, ...] = ()
    """the means the curve was fitted to"""
    spearman: float = 1.0
    """rank correlation of `measured` with `knobs`"""
    scenes: int = 0

    def __post_init__(self) -> None:
        rising = all(b > a for a, b in pairwise(self.knobs)) and all(b >= a for a, b in pairwise(self.motions))
        if (
            len(self.knobs) != len(self.motions)
            or len(self.knobs) < 2
            or not rising
            or self.knob not in ("own", "gain")
        ):
            raise SettingError(
                f"expected a strength curve of rising knobs and motions, got {self.knobs} and {self.motions}; "
                f"run `vivant calibrate {self.model}`"
            )

    def motion(self, knob: float) -> float:
        """The motion at a knob in [0, 1], % of the diagonal a frame."""
        return float(pchip(np.array(self.knobs), np.array(self.motions), np.array([knob]))[0])

    def setting(self, strength: float) -> float:
        """The knob at which the model moves as much as a strength asks for, or its nearest end."""
        fine = np.linspace(self.knobs[0], self.knobs[-1], 1001)
        moves = pchip(np.array(self.knobs), np.array(self.motions), fine)
        # Where the curve is level the smaller knob does: the slope tells apart what is equal.
        return float(np.interp(strength * FULL, moves + 1e-9 * np.arange(len(fine)), fine))

    @property
    def reach(self) -> float:
        """The strength it gets to."""
        return self.motions[-1] / FULL

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def parse(cls, data: Any) -> Curve:
        """From JSON. Raises `SettingError`."""
        try:
            told = {f.name: data[f.name] for f in fields(cls) if f.name in data}
            for name in ("knobs", "motions", "measured"):
                told[name] = tuple(float(v) for v in told.get(name, ()))
            return cls(**told)
        except (KeyError, TypeError, ValueError) as error:
            raise SettingError(f"expected a strength curve as `vivant calibrate` writes it, got {error}") from None


def calibrated(shot: Shot, card: Any, model: str) -> tuple[Shot, list[str]]:
    """The shot with every strength (its own, its regions') turned into the model's knob, and what is to be said of it.

    `card`: the prior's. Without a curve the knob is the strength itself. Without a strength nothing changes.
    """
    given = [c.strength for c in (shot.controls, *(r.controls for r in shot.regions)) if c.strength is not None]
    if not given:
        return shot, []
    curve, notes = load(model), []
    if curve is None:
        notes.append(f"{model} is not calibrated: strength is on its own scale; run `vivant calibrate {model}`")
    elif max(given) > 1.1 * curve.reach:
        notes.append(
            f"{model} moves as much as a strength of {max(curve.reach, 0):.2f} at most, {max(given):g} was asked"
        )

    def turned(controls: Controls) -> Controls:
        if controls.strength is None:
            return controls
        return replace(controls, strength=controls.strength if curve is None else curve.setting(controls.strength))

    out = replace(
        shot, controls=turned(shot.controls),
        regions=tuple(replace(r, controls=turned(r.controls)) for r in shot.regions),
    )  # fmt: skip
    if knob_of(card) == "gain":
        if out.controls.strength is not None:
            out = replace(out, gain=gain_at(out.controls.strength, card.gain))
        if any(r.controls.strength is not None for r in shot.regions):
            notes.append(f"{model} has one strength for the whole picture: those of single regions are not heard")
        if shot.distil == 0:
            notes.append(f"{model} takes its strength from the distillation, and distil is 0: strength changes nothing")
    return out, notes


def knob_of(card: Any) -> str:
    """ "own" or "gain": what a prior's strength turns."""
    return "gain" if card.name in DEAF else "own"


def gain_at(knob: float, usual: float) -> float:
    """The VSDS gain at a knob in [0, 1]: none at 0, the card's own at 0.5, twice that at 1."""
    return 2 * knob * usual


def set_to(shot: Shot, card: Any, knob: float) -> Shot:
    """The shot with its model's knob at a value, whatever its strength says."""
    if knob_of(card) == "gain":
        return replace(shot, gain=gain_at(knob, card.gain))
    return replace(shot, controls=replace(shot.controls, strength=knob))


# Where curves are kept


def places(model: str) -> list[Path]:
    """Where the curve of a model is looked for: the user's own, then the package's."""
    from ..priors.entry import models_folder
    from ..priors.registry import REGISTRY

    own = models_folder() / model.removeprefix("hub:").replace("/", "--").lstrip("-.~")
    shipped = REGISTRY[model].folder if model in REGISTRY else None
    return [folder / "strength.json" for folder in (own, shipped) if folder is not None]


def load(model: str) -> Curve | None:
    """The curve of a model, None where it has none. Raises `SettingError` where it cannot be read."""
    path = next((p for p in places(model) if p.is_file()), None)
    if path is None:
        return None
    try:
        return Curve.parse(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, SettingError) as error:
        raise SettingError(
            f"expected a strength curve at {path}, it cannot be read ({str(error).splitlines()[0]}); "
            f"run `vivant calibrate {model}`"
        ) from None


def save(curve: Curve, path: Path) -> Path:
    """Write a curve, whole or not at all. Raises `OutputError`."""
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(curve.as_dict(), indent=1) + "\n", "utf-8")
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"expected to write the strength curve at {path}: {error.strerror}; use --out") from error
    return path


def digest(model: str) -> str | None:
    """What the knobs of a model hang on, for recipes: 12 letters of its curve's sha256, None without a curve."""
    curve = load(model)
    return None if curve is None else hashlib.sha256(repr((curve.knobs, curve.motions)).encode()).hexdigest()[:12]


# Measuring and fitting


def calibrate(
    prior: Any, model: str, scenes: int = 12, values: int = 10, seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Curve:  # fmt: skip
    """Run a model on procedural scenes at `values` settings of its knob and fit its curve. Raises `SettingError`."""
    if scenes < 1 or values < 3:
        raise SettingError(f"expected at least 1 scene and 3 values, got {scenes} and {values}")
    knobs = np.linspace(0, 1, values)
    table = []
    for i, (shot, region) in enumerate(stages(prior, scenes, seed, CALIBRATION)):
        table.append([motion(frames, rate, region) for frames, rate in clips(prior, shot, knobs, seed + i)])
        progress(f"{i + 1}/{scenes} {' '.join(f'{v:.2f}' for v in table[-1])}")
    means = np.mean(table, axis=0)
    rank = spearman(knobs, means)
    if means[-1] - means[0] < 0.01 * FULL:
        progress(FLAT)
    fitted = isotonic(means)
    return Curve(
        model, knob_of(prior.card), tuple(knobs.round(6).tolist()), tuple(fitted.round(6).tolist()),
        tuple(means.round(6).tolist()), round(rank, 4), scenes,
    )  # fmt: skip


def stages(prior: Any, count: int, seed: int, family: int) -> Iterator[tuple[Shot, Bool[np.ndarray, "H W"]]]:
    """Procedural scenes in which something changes its place, and where that is."""
    from ..data.captions import SUBJECTS
    from ..data.scenes import sample
    from ..metrics.evaluate import defaults

    made = i = 0
    while made < count:
        scene = sample(np.random.default_rng([family, seed, i]), SIDE, still=False)
        i += 1
        moving = [s for s, told in scene.plan.items() if told.kind != "flicker"]
        region = np.isin(scene.labels, [SUBJECTS.index(s) for s in moving])
        if region.mean() < 0.02:
            continue
        made += 1
        yield defaults(prior, scene.picture, scene.caption, Controls()), region


def clips(
    prior: Any, shot: Shot, knobs: Sequence[float] | np.ndarray, seed: int
) -> Iterator[tuple[list[np.ndarray], float]]:
    """One clip a setting of the knob, with its frames a second; the base path, without a proxy."""
    import torch

    from ..awaken import awaken
    from ..priors.protocol import PaintsNative
    from ..render.render import render

    card = prior.card
    shot, rate = replace(shot, frames=card.frames, fps=card.fps), float(card.fps)
    if isinstance(prior, PaintsNative):  # its clip lasts as long whatever its number of frames
        seconds = card.frames / card.fps
        shot = replace(shot, frames=max(2, round(seconds * RATE) + 1))
        rate = (shot.frames - 1) / seconds

    def dream(knob: float) -> tuple[Shot, Any]:
        told = set_to(shot, card, float(knob))
        return told, awaken(prior, told, None, torch.Generator().manual_seed(seed))

    (_, low), (_, high) = dream(knobs[0]), dream(knobs[-1])
    # A model whose strength is a matter of painting dreams the same clip at both ends, and so between them.
    same = low.shape == high.shape and bool((low == high).all())
    for knob in knobs:
        told, x = (set_to(shot, card, float(knob)), low) if same else dream(knob)
        yield list(render(prior, x, told)), rate


def motion(frames: Sequence[np.ndarray], rate: float, region: Bool[np.ndarray, "H W"] | None = None) -> float:
    """The mean flow inside a region (None: everywhere), % of the diagonal a frame at `RATE` frames a second.

    `frames`: (H, W, 3) uint8; `rate`: theirs. Flow is DIS between neighbours (`vivant.flow`).
    """
    from ..flow import flow

    if len(frames) < 2:
        raise ValueError(f"expected at least 2 frames, got {len(frames)}")
    lengths = [np.hypot(*np.moveaxis(flow(a, b), -1, 0)) for a, b in pairwise(frames)]
    mean = np.mean([v[region].mean() if region is not None else v.mean() for v in lengths])
    return float(100 * mean / np.hypot(*frames[0].shape[:2]) * rate / RATE)
