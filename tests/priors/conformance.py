"""What any prior must keep. `check(prior, shot)` holds a prior to all of it; each rule can be called alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from vivant.awaken import awaken
from vivant.ladder import singly
from vivant.priors.protocol import VideoPrior
from vivant.process import Level, diffuse
from vivant.shot import Shot
from vivant.solvers import SOLVERS

SEED = 7


def check(prior: VideoPrior, shot: Shot, rel: float = 1e-4, likeness: float = 0.1) -> None:
    """All rules. `rel`: tolerance relative to the largest value; `likeness`: of the still's decoding, in [-1, 1]."""
    levels_descend(prior, shot)
    still_has_one_clip_a_shot(prior, shot)
    prediction_is_consistent(prior, shot, rel)
    clips_are_independent(prior, shot, rel)
    seed_decides(prior, shot)
    still_decodes_to_the_painting(prior, shot, likeness)
    paths_may_go_one_after_the_other(prior, shot)
    solvers_run(prior, shot)


def rng(seed: int = SEED) -> Generator:
    """A fresh generator."""
    return Generator().manual_seed(seed)


def other(shot: Shot) -> Shot:
    """The same shot of another painting: mirrored, with its colours turned."""
    return shot.seen_as(np.ascontiguousarray(255 - shot.painting[:, ::-1, ::-1]))


def middle(prior: VideoPrior, shot: Shot, steps: int = 4) -> list[Level]:
    """The levels a denoiser is asked for, without the clean end."""
    return prior.levels(shot, steps)[:-1]


def close(ours: Tensor, expected: Tensor, rel: float, what: str) -> None:
    """Equal up to `rel` of the largest expected value."""
    assert ours.shape == expected.shape, f"{what}: expected shape {tuple(expected.shape)}, got {tuple(ours.shape)}"
    error = float((ours - expected).abs().max()) / max(float(expected.abs().max()), 1e-6)
    assert error <= rel, f"{what}: relative error {error:.2e} above {rel:.0e}"


def noisy(prior: VideoPrior, shots: list[Shot], level: Level) -> Tensor:
    """The stills at a level; clip i's noise depends on i alone."""
    x = prior.still(shots, rng())
    noise = torch.stack([torch.randn(x.shape[1:], generator=rng(i)) for i in range(len(shots))]).to(x)
    return diffuse(x, noise, level)


def levels_descend(prior: VideoPrior, shot: Shot) -> None:
    """`steps + 1` levels, noise over signal strictly falling, ending at (1, 0, ·)."""
    for steps in (1, 2, 5, prior.card.steps):
        levels = prior.levels(shot, steps)
        assert len(levels) == steps + 1, f"expected {steps + 1} levels for {steps} steps, got {len(levels)}"
        assert tuple(levels[-1][:2]) == (1.0, 0.0), f"expected the last level at (1, 0, ·), got {levels[-1]}"
        shares = [level.s / (level.a + level.s) for level in levels]
        assert all(b < a for a, b in pairwise(shares)), f"noise does not fall: {shares}"


def still_has_one_clip_a_shot(prior: VideoPrior, shot: Shot) -> None:
    """(B, C, L, h, w), finite, one clip a shot, the same clip alone and in company."""
    alone, both = prior.still([shot], rng()), prior.still([shot, other(shot)], rng())
    assert alone.ndim == 5 and alone.shape[0] == 1, f"expected (1, C, L, h, w), got {tuple(alone.shape)}"
    assert both.shape == (2, *alone.shape[1:]), f"expected 2 clips like {tuple(alone.shape)}, got {tuple(both.shape)}"
    assert bool(both.isfinite().all()), "still is not finite"
    close(both[:1], alone, 1e-4, "still, clip 0 of two")


def prediction_is_consistent(prior: VideoPrior, shot: Shot, rel: float) -> None:
    """a·x0 + s·eps == z at every level, with the shape of z, and nothing left for autograd."""
    shots = [shot, other(shot)]
    denoise = prior.bind(shots, rng())
    for level in middle(prior, shot):
        z = noisy(prior, shots, level)
        before = z.clone()
        x0, eps = denoise(z, level)
        assert torch.equal(z, before), "the denoiser changed its input"
        assert x0.shape == eps.shape == z.shape, f"expected {tuple(z.shape)}, got {tuple(x0.shape)}, {tuple(eps.shape)}"
        assert not x0.requires_grad and not eps.requires_grad, "the denoiser keeps a graph"
        close(level.a * x0 + level.s * eps, z, rel, f"a·x0 + s·eps at {level}")


def clips_are_independent(prior: VideoPrior, shot: Shot, rel: float) -> None:
    """Clip 0 of a batch of two equals the clip alone; clip 1 too, so each clip sees its own painting."""
    first, second = shot, other(shot)
    both = prior.bind([first, second], rng())
    for level in middle(prior, shot):
        z = noisy(prior, [first, second], level)
        together = both(z, level)
        for i, one in enumerate((first, second)):
            apart = prior.bind([one], rng())(z[i : i + 1], level)
            close(together.x0[i : i + 1], apart.x0, rel, f"x0 of clip {i} at {level}")
            close(together.eps[i : i + 1], apart.eps, rel, f"eps of clip {i} at {level}")


def seed_decides(prior: VideoPrior, shot: Shot) -> None:
    """The same generator seed gives the same bits; the global generator is neither read nor moved."""
    level = middle(prior, shot)[1]

    def once() -> Tensor:
        g = rng()
        x = prior.still([shot], g)
        z = diffuse(x, torch.randn(x.shape, generator=g).to(x), level)
        return torch.stack(tuple(prior.bind([shot], g)(z, level)))

    torch.manual_seed(0)
    one = once()
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(one, once()), "the same seed gave different predictions"
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state()), "the prior drew from the global generator"


def still_decodes_to_the_painting(prior: VideoPrior, shot: Shot, likeness: float) -> None:
    """decode: (B, 3, F, H, W) within [-1, 1]; the still's frames all look like the painting, at a coarse scale."""
    x = prior.still([shot], rng())
    frames = prior.decode(x, shot)
    assert frames.ndim == 5 and frames.shape[:3] == (1, 3, shot.frames), f"got frames {tuple(frames.shape)}"
    assert prior.decode(torch.cat([x, x]), shot).shape == (2, *frames.shape[1:]), "decode: expected a batch of two"
    assert float(frames.abs().max()) <= 1.05, f"expected frames in [-1, 1], got up to {float(frames.abs().max())}"
    painting = torch.from_numpy(shot.painting).permute(2, 0, 1)[None].float() / 127.5 - 1
    coarse = F.interpolate(painting, size=(8, 8), mode="area")
    ours = F.interpolate(frames[0].transpose(0, 1).float().cpu(), size=(8, 8), mode="area")
    error = float((ours - coarse).abs().mean(dim=(1, 2, 3)).max())
    assert error <= likeness, f"a still frame is {error:.3f} from the painting, above {likeness}"


def paths_may_go_one_after_the_other(prior: VideoPrior, shot: Shot, rel: float = 1e-3) -> None:
    """With both paths bound singly, as the memory ladder does, the whole method gives the same clip."""
    short = replace(shot, steps=3)
    one: Any = copy.copy(prior)
    one.bind = singly(prior.bind)
    proxy = other(short).painting
    together, apart = awaken(prior, short, proxy, rng()), awaken(one, short, proxy, rng())
    close(apart, together, rel, "paths one after the other")


def solvers_run(prior: VideoPrior, shot: Shot) -> None:
    """Every solver, and the whole method with a proxy, gives finite latents that decode."""
    short = replace(shot, steps=3)
    levels = prior.levels(short, short.steps)
    for name, solve in SOLVERS.items():
        x = solve(prior.bind([short], rng()), noisy(prior, [short], levels[0]), levels, rng())
        assert bool(x.isfinite().all()), f"{name} gave latents that are not finite"
    x = awaken(prior, short, other(short).painting, rng())
    assert x.shape == prior.still([short], rng()).shape, f"awaken gave {tuple(x.shape)}"
    frames = prior.decode(x, short)
    assert bool(x.isfinite().all() and frames.isfinite().all()), "awaken gave frames that are not finite"
