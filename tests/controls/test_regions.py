"""Regions on priors whose right answer is known: each part by its own clip, the pair consistent, the seams whole."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Generator
from torch.nn import functional as F

from vivant.awaken import awaken
from vivant.controls import regions
from vivant.data.scenes import sample
from vivant.errors import SettingError
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.protocol import PaintsNative, SolvesItself, StartsItself
from vivant.priors.registry import load
from vivant.process import diffuse
from vivant.shot import Arrow, Controls, Region, Shot

WAYS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1)}


class ByWords(AnalyticPrior):
    """The analytic prior, its motion told by the sentence; it draws on binding, as priors with a sampled latent do."""

    def mean(self, shots):
        each = []
        for shot in shots:
            self.motion = WAYS[shot.prompt.split()[-1]]
            each.append(super().mean([shot]))
        return torch.cat(each)

    def bind(self, shots, rng):
        self.drawn = [*getattr(self, "drawn", []), float(torch.rand(1, generator=rng))]
        return super().bind(shots, rng)


def rng(seed=3):
    return Generator().manual_seed(seed)


def half(side):
    mask = np.zeros((128, 192), np.float32)
    mask[:, slice(0, 96) if side == "left" else slice(96, 192)] = 1
    return mask


@pytest.fixture
def shot():
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    told = (
        Region("sky to the left", Controls(mask=half("left"))), Region("sky to the right", Controls(mask=half("right"))),
    )  # fmt: skip
    return Shot(picture, "sky goes down", frames=4, steps=6, distil=0.0, regions=told)


def exact(prior, shot, prompt):
    """The clip of one sentence, without masks."""
    return prior.mean([replace(shot, prompt=prompt, regions=(), controls=Controls())])


@pytest.mark.parametrize("how", regions.HOW)
def test_each_region_moves_by_its_own_sentence(shot, how):
    prior = ByWords(sigma=0.02)
    x = regions.awakened(awaken, prior, shot, None, rng(), how=how)
    inner = {"sky to the left": slice(1, 11), "sky to the right": slice(13, 23)}
    for prompt, columns in inner.items():
        want = exact(prior, shot, prompt)[..., columns]
        assert (x[..., columns] - want).abs().mean() < 0.05
        for other in {"sky to the left", "sky to the right", "sky goes down"} - {prompt}:
            assert (x[..., columns] - exact(prior, shot, other)[..., columns]).abs().mean() > 0.3


def test_predictions_are_the_parts_predictions_under_their_masks(shot):
    prior = ByWords()
    denoise = regions.composed(prior, [shot], rng())
    clean = prior.still([shot], rng())
    levels = prior.levels(shot, 4)
    masks = [regions.at_latents(m, clean) for m in regions.seams(shot)]
    for level in levels[:-1]:
        z = diffuse(clean, torch.randn(clean.shape, generator=rng()), level)
        x0, eps = denoise(z, level)
        assert torch.allclose(level.a * x0 + level.s * eps, z, atol=1e-4)
        want = prior.bind([replace(shot, regions=())], rng())(z, level).x0
        for mask, region in zip(masks, shot.regions, strict=True):
            part = prior.bind([regions.part(shot, region)], rng())(z, level).x0
            want = (1 - mask) * want + mask * part
        assert torch.allclose(x0, want, atol=1e-5)
    end = denoise(clean, levels[-1])
    assert bool(end.x0.isfinite().all() and end.eps.isfinite().all())


def test_both_paths_are_composed_each_of_its_own_picture(shot):
    prior = ByWords()
    other = shot.seen_as(255 - shot.painting)
    level = prior.levels(shot, 4)[1]
    z = diffuse(prior.still([shot, other], rng()), torch.randn(2, 3, 4, 16, 24, generator=rng()), level)
    both = regions.composed(prior, [shot, other], rng())(z, level).x0
    for i, one in enumerate((shot, other)):
        assert torch.allclose(both[i : i + 1], regions.composed(prior, [one], rng())(z[i : i + 1], level).x0, atol=1e-5)


def test_all_parts_are_bound_with_the_same_draws_and_the_generator_goes_on_as_without_regions(shot):
    prior = ByWords()
    plain, with_regions = rng(), rng()
    prior.bind([replace(shot, regions=())], plain)
    prior.drawn = []
    regions.composed(prior, [shot], with_regions)
    assert len(prior.drawn) == 3 and len(set(prior.drawn)) == 1
    assert torch.equal(plain.get_state(), with_regions.get_state())


def test_the_later_region_decides_where_two_overlap(shot):
    everywhere = np.ones((128, 192), np.float32)
    told = tuple(Region(f"sky to the {way}", Controls(mask=everywhere)) for way in ("left", "right"))
    prior = ByWords(sigma=0.02)
    x = regions.awakened(awaken, prior, replace(shot, regions=told), None, rng())
    assert (x - exact(prior, shot, "sky to the right")).abs().mean() < 0.05
    assert regions.overlaps(told) == ["region 2 covers region 1 wholly and decides there: put the smaller one later"]
    apart = shot.regions
    assert regions.overlaps(apart) == []
    grown = replace(apart[1], controls=Controls(mask=np.maximum(half("right"), half("left") * (np.arange(192) > 76))))
    (note,) = regions.overlaps((apart[0], grown))
    assert note.startswith("regions 1 and 2 overlap in 9.9 % of the picture: the later one, 2")


def test_what_lies_in_no_region_and_outside_the_mask_is_still(shot):
    top = np.zeros((128, 192), np.float32)
    top[:64] = 1
    told = (Region("sky to the left", Controls(mask=half("left") * top)),)
    quiet = replace(shot, regions=told, controls=Controls(mask=half("left") * top))
    assert regions.idle(quiet) and not regions.idle(shot)
    prior = ByWords()
    for how in regions.HOW:
        prior.drawn = []
        x = regions.awakened(awaken, prior, quiet, None, rng(), how=how)
        still = prior.still([quiet], rng())
        assert torch.allclose(x[..., 12:], still[..., 12:], atol=1e-5) and torch.allclose(
            x[..., 8:, :], still[..., 8:, :], atol=1e-5
        )
        assert (x[..., :8, :11] - still[..., :8, :11]).abs().max() > 0.5
        assert len(prior.drawn) == 1, "the still whole was asked of the network"


def test_the_frozen_part_is_that_outside_mask_and_regions(shot):
    assert regions.moving(shot) is None
    masked = replace(shot, controls=Controls(mask=half("left")))
    assert np.array_equal(regions.moving(masked), np.ones((128, 192), np.float32))
    alone = replace(masked, regions=shot.regions[:1])
    assert np.array_equal(regions.moving(alone), half("left"))


def test_seams_leave_no_gap_between_neighbours_and_stay_inside(shot):
    under, over = (m[0, 0, 0].numpy() for m in regions.seams(shot))
    assert np.all(over[half("right") == 0] == 0) and over[:, 96].max() < 1 and over[60, 150] == 1
    below = 1 - (under + (1 - under) * over)  # what of the whole picture shows
    assert below[:, 10:-10].max() < 1e-6
    thin = np.zeros((128, 192), np.float32)
    thin[60] = 1
    narrow = replace(shot, regions=(Region("sky to the left", Controls(mask=thin)),))
    assert regions.seams(narrow)[0].max() > 0.9


def test_masks_at_latents_are_the_mean_of_their_cells():
    mask = torch.rand(1, 1, 1, 64, 96, generator=rng())
    x = torch.zeros(1, 3, 2, 8, 12)
    assert torch.allclose(regions.at_latents(mask, x)[0, 0, 0], F.avg_pool2d(mask[0], 8)[0, 0], atol=1e-6)


def test_a_region_inherits_strength_and_moves_beyond_its_outline(shot):
    strong = replace(shot, controls=Controls(strength=0.7))
    one = regions.part(strong, strong.regions[0])
    assert one.controls.strength == 0.7 and one.prompt == "sky to the left" and one.regions == ()
    assert np.all(one.controls.mask[half("left") > 0] == 1) and one.controls.mask[60, 100] == 1
    assert one.controls.mask[60, 110] == 0
    own = replace(strong.regions[0], controls=replace(strong.regions[0].controls, strength=0.1))
    assert regions.part(strong, own).controls.strength == 0.1


def test_the_wrapper_offers_what_the_prior_offers_and_nothing_else(shot):
    prior = ByWords()
    assert regions.regional(prior, replace(shot, regions=())) is prior
    wrapped = regions.regional(prior, shot)
    assert regions.regional(wrapped, shot) is wrapped
    assert wrapped.card is prior.card and wrapped.sigma == prior.sigma
    for protocol in (PaintsNative, StartsItself, SolvesItself):
        assert not isinstance(wrapped, protocol)

    class Own(ByWords):
        def start(self, x, level, generator):
            return x

        def solve(self, denoise, z, levels, generator):
            return z

        def frames(self, x, one):
            sign = {"left": 50, "right": 200, "down": 120}[one.prompt.split()[-1]]
            for _ in range(one.frames):
                yield np.full(one.painting.shape, sign, np.uint8)

    wrapped = regions.regional(Own(), shot)
    assert all(isinstance(wrapped, p) for p in (PaintsNative, StartsItself, SolvesItself))
    frames = list(wrapped.frames(prior.still([shot], rng()), shot))
    assert len(frames) == shot.frames and frames[0][60, 40, 0] == 50 and frames[0][60, 150, 0] == 200
    row = frames[0][60, 80:112, 0].astype(int)
    assert set(np.sign([b - a for a, b in pairwise(row)])) <= {0, 1}, "something else shows through the seam"
    quiet = replace(shot, regions=shot.regions[:1], controls=Controls(mask=half("left")))
    assert np.array_equal(next(wrapped.frames(None, quiet))[:, 96:], shot.painting[:, 96:])


def test_arrows_of_a_region_lead_it_on_a_prior_that_hears_none(shot):
    arrow = Arrow(0.2, 0.5, 0.4, 0.5)
    controls = Controls(mask=half("left"), arrows=(arrow,))
    one = replace(shot, regions=(replace(shot.regions[0], controls=controls),))
    prior = ByWords()
    still = regions.regional(prior, one).still([one], rng())
    plain = prior.still([one], rng())
    assert (still[..., :11] - plain[..., :11]).abs().max() > 0.1 and torch.allclose(still[..., 13:], plain[..., 13:])


@pytest.mark.parametrize("how", regions.HOW)
def test_the_embedded_prior_paints_each_region_by_its_own_words(how):
    """Two halves of a sky, one still: what is named moves, in its half alone, and the frame has no gap."""
    prior = load("miniature")
    scene = next(
        s for s in (sample(np.random.default_rng([5, i]), 128) for i in range(20)) if (s.labels == 0).mean() > 0.5
    )
    left = np.zeros((128, 128), np.float32)
    left[:, :64] = 1
    told = (
        Region("The sky drifts to the left", Controls(mask=left, strength=1.0)),
        Region("Nothing moves", Controls(mask=1 - left)),
    )
    one = Shot(
        scene.picture, "The sky drifts", frames=5, steps=4, distil=0.0, regions=told, guidance=1.0,
        controls=Controls(mask=np.ones_like(left)),
    )  # fmt: skip
    x = regions.awakened(awaken, prior, one, None, rng(), how=how)
    frames = list(regions.regional(prior, one).frames(x, one))
    changed = np.abs(frames[-1].astype(int) - scene.picture).mean(-1) > 4
    assert len(frames) == 5 and np.array_equal(frames[0], scene.picture)
    assert changed[:, :60].mean() > 0.05 and changed[:, 70:].mean() < 0.01


def test_other_ways_of_composing_are_refused(shot):
    with pytest.raises(SettingError, match="together or in turn"):
        regions.awakened(awaken, ByWords(), shot, None, rng(), how="twice")
