"""The long methods against what they must come to in closed form, on the exact prior."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from vivant.errors import SettingError
from vivant.long.base import Settings, held, tiling
from vivant.long.freenoise import central
from vivant.long.methods import JOINT, METHODS, method
from vivant.long.phased import anchored, order, rescheduled, shared_steps
from vivant.long.windowed import agreed, cut, even, laid, together
from vivant.priors.analytic import AnalyticPrior
from vivant.process import Level, Prediction
from vivant.shot import Shot

STEPS = 10


def shot(**changes: object) -> Shot:
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    how: dict = {"steps": STEPS, "distil": 0.0, "seed": 3} | changes
    return Shot(picture, "clouds drift", **how)


def dream(name: str, total: int, settings: Settings = Settings(), one: Shot | None = None, **prior_how: object):
    prior = AnalyticPrior(**prior_how)  # type: ignore[arg-type]
    calls: list[Level] = []
    pieces = list(
        method(name)(prior, one or shot(), None, total, Generator().manual_seed(1), settings, None, calls.append)
    )
    return prior, pieces, calls


class Shelf:
    """Keeps tensors in a dictionary."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Tensor]] = {}

    def get(self, name: str) -> dict[str, Tensor] | None:
        return self.held.get(name)

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self.held[name] = {k: v.clone() for k, v in tensors.items()}


def test_windows_cover_the_film_and_the_rest_is_said() -> None:
    prior = AnalyticPrior()  # 8 frames a clip, 2 shared: windows begin every 6
    exact = tiling(prior, shot(), 8 + 6 * 3, Settings())
    assert (exact.count, exact.latents, exact.notes) == (4, 26, ())
    cut_short = tiling(prior, shot(), 25, Settings())
    assert cut_short.count == 4 and "the last 1 left out" in cut_short.notes[0]
    assert tiling(prior, shot(), 3, Settings()).count == 1
    assert tiling(prior, shot(), 125, Settings(window=16, overlap=4)).count == 11


def test_displacements_share_no_frames_and_say_so() -> None:
    class Moves(AnalyticPrior):
        def reel(self) -> None: ...

    with pytest.raises(SettingError, match=r"no overlap for analytic: its windows tell motion.*--method windowed"):
        tiling(Moves(), shot(), 50, Settings(overlap=2))
    assert tiling(Moves(), shot(), 50, Settings(overlap=2), joint=True).overlap == 2


@pytest.mark.parametrize(
    "how", [{"gamma": -0.1}, {"gamma": 1.1}, {"omega": -1.0}, {"omega": 1.5}, {"window": 1}, {"overlap": 0}]
)
def test_settings_out_of_range(how: dict) -> None:
    with pytest.raises(SettingError, match=f"expected.*{next(iter(how))}"):
        Settings(**how)


def test_what_no_film_can_be_made_of() -> None:
    with pytest.raises(SettingError, match="2 to"):
        tiling(AnalyticPrior(), shot(), 1, Settings())
    with pytest.raises(SettingError, match="share fewer"):
        tiling(AnalyticPrior(), shot(), 50, Settings(overlap=8))
    with pytest.raises(SettingError, match="method among phased"):
        method("forever")


def test_the_paper_s_share_of_steps() -> None:
    assert [shared_steps(0.8, steps) for steps in (25, 16, 10)] == [20, 12, 8]
    assert shared_steps(0.7, 10) == 7, "a product that rounds to 6.999… is 7"


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.8, 1.0])
def test_phased_asks_the_network_as_often_as_equation_9_says(gamma: float) -> None:
    _, pieces, calls = dream("phased", 125, Settings(gamma=gamma))
    later = STEPS - shared_steps(gamma, STEPS)
    assert len(calls) == STEPS + (len(pieces) - 1) * later
    _, others, direct = dream("continuation", 125)
    assert len(direct) == STEPS * len(others) and len(others) == len(pieces)


def test_the_paper_s_ratio_of_evaluations() -> None:
    """125 frames in clips of 25, γ = 0.8 (§4.1): at most the paper's 0.46 of direct continuation."""
    how = Settings(window=25, overlap=1)
    ratio = len(dream("phased", 125, how)[2]) / len(dream("continuation", 125, how)[2])
    assert ratio <= 0.35


def test_the_long_noise_is_a_shuffle_of_all_clips() -> None:
    places = order(5, 8, Generator().manual_seed(0))
    assert torch.equal(places.flatten().sort().values, torch.arange(8).repeat_interleave(5))
    assert not torch.equal(places[0].sort().values, torch.arange(8)), "shuffled as one sequence, not clip by clip"
    n = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 4, 8, 16, 16)
    assert torch.equal(rescheduled(n, places[0], 0.0, Generator())[0, 0, :, 0, 0], places[0].float())
    more = rescheduled(n, places[0], 0.2, Generator().manual_seed(0)) - n[:, :, places[0]]
    assert float(more.std()) == pytest.approx(0.2, rel=0.05) and abs(float(more.mean())) < 0.01


def test_a_clip_begins_where_the_last_ended_and_ends_where_it_would_have() -> None:
    x = torch.randn(1, 2, 8, 3, 3, generator=Generator().manual_seed(0))
    head = torch.randn(1, 2, 2, 3, 3, generator=Generator().manual_seed(1))
    led = anchored(x, head)
    assert torch.equal(led[:, :, :2], head)
    torch.testing.assert_close(led[:, :, -1], x[:, :, -1])
    offset = head[:, :, -1] - x[:, :, 1]
    assert float(((led - x)[:, :, 2] / offset).mean()) > 0.9, "it leaves the join slowly"


@pytest.mark.parametrize("form", ["epsilon", "v_prediction", "flow"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_on_every_form(name: str, form: str) -> None:
    _, pieces, _ = dream(name, 30, form=form, sigma=0.05)
    frames = sum(p.x.shape[2] - p.lead for p in pieces)
    assert frames >= 30 and all(torch.isfinite(p.x).all() for p in pieces)
    for before, piece in pairwise(pieces):
        torch.testing.assert_close(piece.x[:, :, : piece.lead], before.x[:, :, -piece.lead :], atol=2e-3, rtol=0)


def test_continuation_is_the_prior_s_own_clip_at_first() -> None:
    prior, pieces, _ = dream("continuation", 14, sigma=0.01)
    one = tiling(prior, shot(), 14, Settings()).shot
    torch.testing.assert_close(pieces[0].x, prior.mean([one]), atol=0.05, rtol=0)
    torch.testing.assert_close(pieces[1].x[:, :, 2:], prior.mean([one])[:, :, 2:], atol=0.05, rtol=0)


def test_windows_agree_on_their_mean() -> None:
    """A sharp Gaussian says its mean whatever it sees: the film is the mean of the windows' means."""
    prior, pieces, _ = dream("windowed", 20, sigma=0.001)
    tiles = tiling(prior, shot(), 20, Settings(), joint=True)
    means = prior.mean([tiles.shot]).repeat(tiles.count, 1, 1, 1, 1)
    want = cut(laid(means, tiles, even(tiles)), tiles)
    torch.testing.assert_close(torch.cat([p.x for p in pieces]), want.float(), atol=0.02, rtol=0)


def test_one_window_alone_is_what_it_says() -> None:
    tiles = tiling(AnalyticPrior(), shot(), 8, Settings(), joint=True)
    z = torch.randn(1, 3, 8, 2, 2, generator=Generator().manual_seed(0))

    def says(z: Tensor, level: Level) -> Prediction:
        return Prediction(0.5 * z, (z - level.a * 0.5 * z) / level.s)

    level = Level(0.8, 0.6, 1.0)
    for weights in (even(tiles), central(tiles)):
        torch.testing.assert_close(together(says, tiles, weights)(z, level).eps, says(z, level).eps)


def test_displacements_agree_by_their_steps() -> None:
    """An even drift looks the same from every window's beginning: nothing is to be agreed upon."""
    from dataclasses import replace

    tiles = replace(tiling(AnalyticPrior(), shot(), 26, Settings(overlap=4)), moves=True)
    drift = torch.arange(1.0, 9).view(1, 1, 8, 1, 1).expand(tiles.count, 2, 8, 2, 2)
    torch.testing.assert_close(agreed(drift, tiles, even(tiles)), drift)
    quick = drift * torch.tensor([1.0, 2.0] * 5)[: tiles.count].view(-1, 1, 1, 1, 1)
    steps = torch.diff(agreed(quick, tiles, torch.ones(tiles.count, 8))[0, 0, :, 0, 0])
    assert steps.tolist() == pytest.approx([1.0] * 3 + [1.5] * 4)


def test_held_frames_are_consistent() -> None:
    head = torch.ones(1, 1, 2, 1, 1)
    z = torch.randn(1, 1, 5, 1, 1, generator=Generator().manual_seed(0))
    x0, eps = held(lambda z, level: Prediction(0 * z, z / level.s), head)(z, Level(0.6, 0.8, 0))
    assert torch.equal(x0[:, :, :2], head) and float(x0[:, :, 2:].abs().max()) == 0
    torch.testing.assert_close(0.6 * x0 + 0.8 * eps, z)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_film_that_was_stopped_comes_out_the_same(name: str) -> None:
    def begin(kept: Shelf, calls: list[Level]):
        prior, one = AnalyticPrior(sigma=0.3), shot(distil=0.6)
        return method(name)(prior, one, None, 40, Generator().manual_seed(1), Settings(), kept, calls.append)

    whole: list[Level] = []
    want = [p.x for p in begin(Shelf(), whole)]
    kept, before, after = Shelf(), [], []  # type: ignore[var-annotated]
    stopped = begin(kept, before)
    for _ in range(3):
        next(stopped)
    stopped.close()
    got = [p.x for p in begin(kept, after)]
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
    assert len(before) + len(after) == len(whole), "nothing is dreamt twice"
    assert name in JOINT or after


def test_nothing_drifts_off_however_long() -> None:
    """Forty windows on, a clip still ends where the first one did."""
    _, pieces, _ = dream("phased", 8 + 6 * 39, Settings(omega=0.2), sigma=0.05)
    assert len(pieces) == 40
    last, tenth, first = (pieces[k].x[:, :, -1] for k in (39, 10, 0))
    assert float((last - first).abs().mean()) < 2 * float((tenth - first).abs().mean()) + 0.02
