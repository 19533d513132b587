"""Loops: of the embedded prior by bending its motion, of any other by turning the clip while it is dreamt."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vivant.awaken import awaken
from vivant.data.scenes import sample
from vivant.metrics.motion import loop_seam
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.combine import cyclic
from vivant.priors.miniature import paint
from vivant.priors.registry import load
from vivant.process import Level, Prediction
from vivant.render.render import render
from vivant.shot import Shot


def moving(length: float, swing: float = 0.0) -> np.ndarray:
    """Keyframes of an even drift to the right by `length` of the width, and a swing up and down that ends at rest."""
    t = np.arange(1, 9, dtype=np.float32).reshape(-1, 1, 1) / 8
    out = np.zeros((8, 3, 32, 32), np.float32)
    out[:, 0], out[:, 1] = -length * t, swing * np.sin(2 * np.pi * t)
    return out


@pytest.mark.parametrize(("length", "swing"), [(0.05, 0.0), (0.2, 0.0), (0.0, 0.03), (0.1, 0.02)])
def test_the_seam_is_a_step_like_any_other(length: float, swing: float) -> None:
    painting = sample(np.random.default_rng(3), 96, still=False).picture
    everywhere = np.ones((32, 32), np.float32)
    clip = list(paint.frames(painting, moving(length, swing), 24, everywhere, 0 * everywhere, loop=True))
    assert loop_seam(clip) <= 1.3
    steps = [np.abs(a.astype(int) - b).mean() for a, b in zip(clip, clip[1:] + clip[:1], strict=True)]
    assert min(steps) > 0.2 * np.median(steps), "it stops somewhere"
    once = list(paint.frames(painting, moving(length, swing), 24, everywhere, 0 * everywhere))
    if length >= 0.1:
        assert loop_seam(once) > 2, "without a loop the seam must show, or this test sees nothing"


def test_motion_that_ends_at_rest_is_not_bent() -> None:
    keys = moving(0.0, 0.03)
    np.testing.assert_allclose(paint.bent(keys), keys, atol=1e-7)
    assert np.abs(paint.bent(moving(0.2))[:, 0]).max() < 1e-6


@pytest.mark.parametrize("prompt", ["Clouds drift to the right and the water ripples", "Snow falls"])
def test_the_embedded_prior_loops(prompt: str) -> None:
    painting = sample(np.random.default_rng(11), 128, still=False).picture
    prior = load("miniature")
    shot = Shot(painting, prompt, frames=30, steps=6, distil=0.0, loop=True)
    clip = list(render(prior, awaken(prior, shot, None, torch.Generator().manual_seed(0)), shot))
    assert len(clip) == 30 and loop_seam(clip) <= 1.1


def test_turning_a_clip_changes_nothing_for_a_prior_without_ends() -> None:
    """A denoiser that treats all frames alike gives the same answer turned or not, frame for frame."""
    z = torch.randn(1, 2, 7, 4, 4, generator=torch.Generator().manual_seed(0))
    turns = []

    def framewise(z: torch.Tensor, level: Level) -> Prediction:
        turns.append(z[0, 0, :, 0, 0].clone())
        return Prediction(torch.tanh(z), z - torch.tanh(z))

    call = cyclic(framewise, torch.Generator().manual_seed(1))
    level = Level(0.6, 0.8, 3.0)
    for _ in range(5):
        x0, eps = call(z, level)
        torch.testing.assert_close(x0, torch.tanh(z))
        torch.testing.assert_close(eps, z - torch.tanh(z))
    assert len({tuple(t.tolist()) for t in turns}) > 1, "it never turned"


def test_a_looped_shot_of_another_prior_is_turned_at_every_step() -> None:
    """The prior without loops of its own sees the clip turned; the one that has them is left alone."""
    seen: list[torch.Tensor] = []

    class Watching(AnalyticPrior):
        def bind(self, shots, rng):  # type: ignore[no-untyped-def]
            inner = super().bind(shots, rng)

            def call(z: torch.Tensor, level: Level) -> Prediction:
                seen.append(z)
                return inner(z, level)

            return call

    shot = Shot(np.full((32, 32, 3), 40, np.uint8), "it moves", frames=9, steps=1, distil=0.0)
    starts = []
    for loop in (False, True):
        awaken(Watching(), replace(shot, loop=loop), None, torch.Generator().manual_seed(4))
        starts.append(seen.pop())
    turns = [t for t in range(9) if torch.equal(starts[0].roll(t, 2), starts[1])]
    assert len(turns) == 1 and turns != [0]
