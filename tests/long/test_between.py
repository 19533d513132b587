"""From one picture to another: both ends kept, the way between moving from both."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from vivant.data.scenes import sample
from vivant.errors import ImageError
from vivant.long.between import animate_between, from_both_ends, led, load_last, matched, morphed
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.registry import load
from vivant.process import Level, Prediction
from vivant.shot import Shot


def blobs(shift: int = 0) -> np.ndarray:
    rng = np.random.default_rng(3)
    small = rng.integers(20, 235, (24, 36, 3), np.uint8)
    wide = cv2.resize(small, (288, 192), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(np.roll(wide, shift, 1))


@pytest.mark.parametrize("form", ["epsilon", "v_prediction", "flow"])
def test_a_clip_led_from_both_ends_begins_and_ends_on_the_pictures(form) -> None:
    first, last = blobs()[:32, :48].copy(), blobs()[100:132, 60:108].copy()
    prior = AnalyticPrior(form, sigma=0.1, motion=(0, 0))
    shot = Shot(first, "clouds drift", steps=8, frames=8, last=last)
    calls: list[Level] = []
    x = led(prior, shot, Generator().manual_seed(0), calls.append)
    still = prior.still([shot, shot.seen_as(last)], Generator())
    torch.testing.assert_close(x[:, :, 0], still[:1, :, 0])
    torch.testing.assert_close(x[:, :, -1], still[1:, :, -1])
    near = (x[:, :, 1] - still[:1, :, 0]).abs().mean() < (x[:, :, 1] - still[1:, :, 0]).abs().mean()
    assert near and float(x.abs().max()) < 3
    assert len(calls) == 8 + 2 * 5, "each clip is distilled by itself, then both are asked at once"


def test_the_second_clip_is_run_backwards_and_each_frame_takes_from_the_nearer_end() -> None:
    def says(z: Tensor, level: Level) -> Prediction:  # every clip counts its frames from its own picture on
        count = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(2, 1, 5, 1, 1)
        return Prediction(count + torch.tensor([0.0, 100.0]).view(2, 1, 1, 1, 1), z)

    z = torch.randn(1, 1, 5, 1, 1, generator=Generator().manual_seed(0))
    first, last = torch.full((1, 1, 1, 1, 1), 7.0), torch.full((1, 1, 1, 1, 1), 9.0)
    x0, eps = from_both_ends(says, first, last)(z, Level(0.6, 0.8, 0))
    assert x0.flatten().tolist() == pytest.approx(
        [7, 0.75 * 1 + 0.25 * 103, 0.5 * 2 + 0.5 * 102, 0.25 * 3 + 0.75 * 101, 9]
    )
    torch.testing.assert_close(0.6 * x0 + 0.8 * eps, z)


def test_a_known_shift_is_found_and_halved() -> None:
    a, b = blobs(), blobs(12)
    there, back = matched(a, b)
    inner = (slice(40, -40), slice(60, -60))
    assert float(np.median(there[inner][..., 0])) * 288 == pytest.approx(12, abs=1)
    assert float(np.median(back[inner][..., 0])) * 288 == pytest.approx(-12, abs=1)
    middle = slice(40, -40), slice(60, -60)
    halves = morphed(a, there, 0.5)[middle].astype(int), morphed(b, back, 0.5)[middle].astype(int)
    assert np.abs(halves[0] - halves[1]).mean() < 0.35 * np.abs(a[middle].astype(int) - b[middle]).mean()
    assert np.array_equal(morphed(a, there, 0.0), a)


def test_unrelated_pictures_are_dissolved_in_place() -> None:
    rng = np.random.default_rng(5)
    other = cv2.resize(rng.integers(20, 235, (24, 36, 3), np.uint8), (288, 192), interpolation=cv2.INTER_CUBIC)
    there, back = matched(blobs(), np.ascontiguousarray(other[::-1]))
    assert not there.any() and not back.any()


def test_the_last_picture_is_fitted_or_refused() -> None:
    painting = blobs()
    same, said = load_last(painting, painting)
    assert said is None and np.array_equal(same, painting)
    small, said = load_last(np.ascontiguousarray(painting[::2, ::2]), painting)
    assert small.shape == painting.shape and said is not None and "144×96" in said
    with pytest.raises(ImageError, match="painting's shape"):
        load_last(np.ascontiguousarray(painting[:, :150]), painting)


def test_the_embedded_model_leads_one_picture_into_another(tmp_path: Path) -> None:
    first = sample(np.random.default_rng(11), 96, still=False).picture
    last = sample(np.random.default_rng(12), 96, still=False).picture
    film = animate_between(
        first, last, "Clouds drift to the right", tmp_path / "a.mp4", frames=9, steps=4,
        loaded={("miniature", "cpu", "float32"): load("miniature")},
    )  # fmt: skip
    with av.open(str(film.path)) as file:
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in file.decode(video=0)]
    assert len(frames) == 9
    assert np.abs(frames[0] - first).mean() < 11 and np.abs(frames[-1] - last).mean() < 11
    far = [np.abs(f - frames[0]).mean() for f in frames]
    assert all(b > a - 1 for a, b in pairwise(far)), "steadily from one to the other"


def test_a_clip_that_arrives_ends_on_its_picture() -> None:
    from vivant.priors.miniature import paint

    painting = blobs()[:96, :96].copy()
    field = np.zeros((8, 3, 32, 32), np.float32)
    field[:, 0] = -0.08 * (np.arange(1, 9) / 8)[:, None, None]
    everywhere = np.ones((32, 32), np.float32)
    arriving = list(paint.frames(painting, field, 9, everywhere, 0 * everywhere, arrive=True))
    leaving = list(paint.frames(painting, field, 9, everywhere, 0 * everywhere))
    assert np.array_equal(arriving[-1], painting) and np.array_equal(leaving[0], painting)
    # Both go to the right: seen from its end, an arriving clip lies to the left of where it will be.
    here, there = leaving[4][:, 20:-20].astype(int), arriving[4][:, 20:-20].astype(int)
    shift = round(0.08 * 96 / 2)
    assert np.abs(here - np.roll(painting, shift, 1)[:, 20:-20]).mean() < np.abs(here - painting[:, 20:-20]).mean() / 2
    assert (
        np.abs(there - np.roll(painting, -shift, 1)[:, 20:-20]).mean() < np.abs(there - painting[:, 20:-20]).mean() / 2
    )


def test_shots_keep_their_last_picture() -> None:
    shot = Shot(blobs(), "clouds drift", last=blobs(4))
    assert replace(shot, frames=5).last is shot.last
