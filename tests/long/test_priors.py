"""Every long method on the released models' layouts, tiny and random: whatever a window is there, it joins and decodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from tests.priors import released
from tests.priors.diffusers_i2v import families
from vivant.long import freenoise
from vivant.long.base import Settings, tiling
from vivant.long.between import led, native_prior, pictures
from vivant.long.methods import JOINT, METHODS, method
from vivant.long.paint import painter
from vivant.priors.animate_anything.adapter import AnimateAnything
from vivant.priors.cinemo.adapter import Cinemo
from vivant.priors.consisti2v.adapter import ConsistI2V
from vivant.priors.dynamicrafter.adapter import DynamiCrafter
from vivant.shot import Shot

THREE_D = ("cogvideox", "ltx", "wan")
"""VAEs whose latent frames stand for several"""


def shot(**changes: Any) -> Shot:
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    how: dict[str, Any] = {"steps": 3, "distil": 0.6, "distil_evaluations": 1, "guidance": 2.0} | changes
    return Shot(picture, "waves roll ashore", **how)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name not in made:
            root: Path = tmp_path_factory.mktemp("released") / name
            if name.startswith("dynamicrafter"):
                variant = name.removeprefix("dynamicrafter_")
                made[name] = DynamiCrafter.from_folder(released.dynamicrafter(root, variant), variant=variant)
                small = (16, 16)
            elif name == "svd" or name in THREE_D:
                made[name] = families.prior(name)
                return made[name]
            else:
                kind = {"animate_anything": AnimateAnything, "consisti2v": ConsistI2V, "cinemo": Cinemo}[name]
                made[name] = kind.from_folder(getattr(released, name)(root))
                small = (32, 32)
            made[name].card = replace(made[name].card, size=small)
        return made[name]

    return of


ALL = [(name, how) for name in ("dynamicrafter_512", "cogvideox") for how in sorted(METHODS)]
SOME = [
    ("animate_anything", "phased"), ("consisti2v", "continuation"), ("cinemo", "windowed"), ("svd", "phased"),
    ("ltx", "phased"), ("wan", "freenoise"), ("cinemo", "freenoise"), ("svd", "freenoise"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how"), [*ALL, *SOME])
def test_windows_of_every_model_join(make: Callable[[str], Any], name: str, how: str) -> None:
    prior = make(name)
    frames = 9 if name in THREE_D else 4
    tiles = tiling(prior, shot(), 2 * frames, Settings(window=frames), how in JOINT)
    rng = Generator().manual_seed(0)
    pieces = list(method(how)(prior, shot(), None, 2 * frames, rng, Settings(window=frames)))
    assert len(pieces) == tiles.count >= 2
    assert all(torch.isfinite(p.x).all() and p.x.shape[2] == tiles.length for p in pieces)
    for before, piece in pairwise(pieces):
        assert piece.lead == tiles.overlap
        torch.testing.assert_close(piece.x[:, :, : piece.lead], before.x[:, :, -piece.lead :], atol=0.02, rtol=0.02)
    brush = painter(prior, tiles)
    shown = 0
    for piece in pieces:
        brought = brush.go_on(piece.x, piece.lead)
        painted = list(brush.frames())
        assert len(painted) == brought and all(f.shape == (32, 48, 3) for f in painted)
        shown += brought
    assert shown == 2 * frames


def test_a_temporal_vae_s_windows_are_of_its_own_length(make: Callable[[str], Any]) -> None:
    prior = make("cogvideox")
    tiles = tiling(prior, shot(), 30, Settings(window=10))
    assert tiles.per_latent == 4 and tiles.shot.frames == 1 + (tiles.length - 1) * 4
    assert any("makes no windows of 10 frames" in note for note in tiles.notes)


def test_where_freenoise_fuses(make: Callable[[str], Any]) -> None:
    """DynamiCrafter deals 16 picture tokens to each of a clip's own 16 frames: a longer clip would not be dealt."""
    for name, within in (("cinemo", True), ("dynamicrafter_512", False)):
        prior = make(name)
        tiles = tiling(prior, shot(frames=16), 40, Settings(), joint=True)
        assert freenoise.inside(prior, tiles) is within, name
        assert ("within" in freenoise.settled(prior, tiles, Settings(), True)[1][0]) is within


@pytest.mark.parametrize("name", ["cinemo", "dynamicrafter_512", "cogvideox"])
def test_models_lead_to_a_last_picture(make: Callable[[str], Any], name: str) -> None:
    prior = make(name)
    one = shot(frames=9 if name in THREE_D else 4, last=255 - shot().painting)
    x = led(prior, one, Generator().manual_seed(0))
    still = prior.still([one.seen_as(one.last)], Generator().manual_seed(0))
    torch.testing.assert_close(x[:, :, -1], still[:, :, -1], atol=0.05, rtol=0.05)
    assert len(list(pictures(prior, x, one))) == one.frames


def test_the_model_trained_for_it_leads_natively(make: Callable[[str], Any]) -> None:
    from vivant.awaken import awaken

    last = 255 - shot().painting
    assert native_prior(make("dynamicrafter_512"), last) is None
    prior = native_prior(make("dynamicrafter_512_interp"), last)
    assert prior is not None and prior.mode == "interpolate" and np.array_equal(prior.last, last)
    prior.card = replace(prior.card, size=(16, 16))
    one = shot(frames=4, last=last)
    x = awaken(prior, one, None, Generator().manual_seed(0))
    assert len(list(pictures(prior, x, one))) == 4
