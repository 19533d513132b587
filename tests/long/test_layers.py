"""Regions and arrows in films: each part by its own film, whatever the method, composed at once or in turn."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from vivant.data.scenes import sample
from vivant.long.again import rerun_long
from vivant.long.base import Forgets, Settings, moves, tiling
from vivant.long.film import Film, animate_long, dreamt, evaluations
from vivant.long.layers import dream
from vivant.long.methods import JOINT, METHODS, method
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.registry import load
from vivant.render.export import read_recipe
from vivant.shot import Arrow, Controls, Region, Shot
from vivant.stage import Stage

WAYS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1)}


class ByWords(AnalyticPrior):
    """The exact prior, its motion told by the sentence."""

    def mean(self, shots):
        each = []
        for one in shots:
            self.motion = WAYS[one.prompt.split()[-1]]
            each.append(super().mean([one]))
        return torch.cat(each)


def half(side: str) -> np.ndarray:
    mask = np.zeros((128, 192), np.float32)
    mask[:, slice(0, 96) if side == "left" else slice(96, 192)] = 1
    return mask


def shot(**changes: Any) -> Shot:
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    told = (Region("sky to the left", Controls(mask=half("left"))),)
    how: dict[str, Any] = {"steps": 6, "distil": 0.4, "regions": told} | changes
    return Shot(picture, "sky goes down", **how)


def film(one: Shot, name: str, compose: str = "together") -> list[Any]:
    prior, rng = ByWords(sigma=0.001), Generator().manual_seed(1)
    return list(dream(name, prior, one, None, 20, rng, Settings(), Forgets(), lambda level: None, compose))


@pytest.mark.parametrize("compose", ["together", "in turn"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_each_region_moves_by_its_own_sentence(name: str, compose: str) -> None:
    one = shot()
    pieces = film(one, name, compose)
    whole, inner = (film(replace(one, regions=(), prompt=p), name) for p in ("sky goes down", "sky to the left"))
    assert len(pieces) == len(whole) and sum(p.x.shape[2] - p.lead for p in pieces) >= 20
    for piece, around, inside in zip(pieces, whole, inner, strict=True):
        assert piece.lead == around.lead
        torch.testing.assert_close(piece.x[..., 13:], around.x[..., 13:], atol=0.03, rtol=0)
        torch.testing.assert_close(piece.x[..., :8], inside.x[..., :8], atol=0.03, rtol=0)
    for before, piece in pairwise(pieces):
        torch.testing.assert_close(piece.x[:, :, : piece.lead], before.x[:, :, -piece.lead :], atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["phased", "windowed"])
def test_without_a_sentence_all_else_is_still(name: str) -> None:
    one = shot(controls=Controls(mask=half("left")))
    for piece in film(one, name, "in turn"):
        still = ByWords().still([replace(one, frames=piece.x.shape[2])], Generator())
        torch.testing.assert_close(piece.x[..., 13:], still[..., 13:])
        assert float((piece.x - still)[:, :, -1, :, :8].abs().mean()) > 0.1


def test_in_turn_holds_a_window_of_each_and_asks_for_every_layer() -> None:
    prior, one = (
        ByWords(sigma=0.01),
        shot(regions=(*shot().regions, Region("sea to the right", Controls(mask=half("right"))))),
    )
    tiles = tiling(prior, one, 60, Settings())
    made = Film(Path("-"), 60, 8, tiles.count)
    stage = Stage(prior, one, None, {"compose": "in turn"})
    count = evaluations(tiles, "phased", Settings(), stage)
    seen = []
    for brought, paint in dreamt(stage, tiles, "phased", Settings(), made):
        seen.append(made.evaluations)
        assert len(list(paint())) == brought
    assert made.evaluations == count and seen[0] < count / 2, "the first window is there before the last is begun"


def test_arrows_lead_films_of_models_that_hear_none() -> None:
    arrow = Controls(arrows=(Arrow(0.25, 0.5, 0.6, 0.5),))
    plain, led = (
        film(replace(shot(), regions=(), controls=hand, prompt="sky goes down"), "phased")
        for hand in (Controls(), arrow)
    )
    assert float((plain[0].x - led[0].x).abs().mean()) > 0.01


# On the embedded model


@pytest.fixture(scope="module")
def prior() -> Any:
    return load("miniature")


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return sample(np.random.default_rng(11), 96, still=False).picture


@pytest.mark.parametrize("compose", ["together", "in turn"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_embedded_model_films_regions(prior: Any, scene: np.ndarray, name: str, compose: str) -> None:
    upper = np.zeros((96, 96), np.float32)
    upper[:40] = 1
    told = Region("Clouds drift to the right", Controls(mask=upper, strength=0.9))
    one = Shot(
        scene, "Clouds drift to the right", controls=Controls(mask=upper), steps=4, distil=0.0, fps=8, regions=(told,)
    )
    assert moves(prior)
    settings = Settings(window=8)
    tiles = tiling(prior, one, 20, settings, name in JOINT)
    made = Film(Path("-"), 20, 8, tiles.count)
    frames = [
        f
        for _, paint in dreamt(Stage(prior, one, None, {"compose": compose}), tiles, name, settings, made)
        for f in paint()
    ]
    assert len(frames) == 20 and all(np.array_equal(f[40:], scene[40:]) for f in frames), "still to the pixel"
    assert np.abs(frames[-1][:30].astype(int) - scene[:30]).mean() > 1
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    assert max(steps) < 4 * float(np.median(steps)), "nothing jumps at a join"


def test_a_film_with_regions_is_made_again_from_its_recipe(prior: Any, scene: np.ndarray, tmp_path: Path) -> None:
    painting, mask = tmp_path / "a.png", tmp_path / "m.png"
    Image.fromarray(scene).save(painting)
    Image.fromarray((np.arange(96)[:, None] < 40).repeat(96, 1).astype(np.uint8) * 255).save(mask)
    regions = [
        f"mask={mask}; prompt=Clouds drift to the right; strength=.8; feather=3",
        "mask=0,0.6,1,1; prompt=The water ripples",
    ]
    how: dict[str, Any] = {"frames": 12, "window": 8, "steps": 2, "proxy": "none", "distil": 0.0, "fps": 8}
    first = animate_long(painting, "", tmp_path / "one.mp4", regions=regions, compose="in turn", **how)
    recipe = read_recipe(first.path)
    assert [area["prompt"] for area in recipe["regions"]] == ["Clouds drift to the right", "The water ripples"]
    again = rerun_long(json.loads(json.dumps(recipe)), tmp_path / "two.mp4")
    assert first.path.read_bytes() == again.path.read_bytes() and again.warnings == first.warnings
    with av.open(str(first.path)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 12
    Image.fromarray(np.full((96, 96), 255, np.uint8)).save(mask)
    from vivant.errors import InputError, OutputError

    with pytest.raises(InputError, match="region's mask"):
        rerun_long(recipe, tmp_path / "three.mp4")
    with pytest.raises(OutputError, match="made from"):
        animate_long(painting, "", mask, regions=regions, **how)


def test_regions_with_other_models_films(scene: np.ndarray) -> None:
    """Pictures in latents: the painter freezes what lies in no region."""
    one = shot(controls=Controls(mask=half("left")))
    tiles = tiling(ByWords(), one, 12, Settings())
    stage = Stage(ByWords(sigma=0.01), one, None, {"compose": "together"})
    made = Film(Path("-"), 12, 8, tiles.count)
    frames = [f for _, paint in dreamt(stage, tiles, "phased", Settings(), made) for f in paint()]
    assert all(np.array_equal(f[:, 96:], one.painting[:, 96:]) for f in frames)
    assert method("phased") is METHODS["phased"] and len(frames) == 12
