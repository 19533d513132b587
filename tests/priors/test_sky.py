"""The sky of the embedded prior: what stands before it is kept whole, its drift is one motion, slower at the horizon."""

import numpy as np
import torch

from vivant.data.captions import KINDS, SUBJECTS
from vivant.priors.miniature.sky import FRAME, SKY, drifting, parallax, swept, unbroken
from vivant.shot import Arrow


def told(kind: str = "drift", named: bool = True) -> torch.Tensor:
    out = torch.zeros(len(SUBJECTS), 10)
    out[SKY, 0] = float(named)
    out[SKY, 5 + KINDS.index(kind)] = 1
    return out


def where(rows: int = 16) -> torch.Tensor:
    """Sky above, hills below."""
    out = torch.zeros(len(SUBJECTS), 32, 32)
    out[SKY, :rows] = 1
    out[SUBJECTS.index("hill"), rows:] = 1
    return out


def test_the_drift_grows_with_the_distance_from_the_horizon() -> None:
    pace = parallax(where()[SKY].numpy(), np.zeros((32, 32), np.float32))
    assert pace is not None
    column = pace[:16, 16]
    assert (np.diff(column) <= 1e-6).all() and column[0] > 0.99 and column[15] < 0.15


def test_a_frame_stands_before_nothing_and_an_open_sky_drifts_whole() -> None:
    sky, frame = np.ones((32, 32), np.float32), np.zeros((32, 32), np.float32)
    sky[:2], frame[:2] = 0, 1
    pace = parallax(sky, frame)
    assert pace is not None and (pace == 1).all()
    assert parallax(np.zeros((32, 32), np.float32), frame) is None


def test_eddies_are_smoothed_and_the_way_is_kept() -> None:
    rng = torch.Generator().manual_seed(0)
    field = torch.zeros(8, 3, 32, 32)
    field[:, 0] = -0.1
    eddies = field.clone()
    eddies[:, :2] += 0.05 * torch.randn(8, 2, 32, 32, generator=rng)
    eddies[:, 2] = 0.3
    out = drifting(eddies, where(), told())
    high = out[:, :2, :5]
    assert float(high[:, 0].mean()) < -0.08 and float(high[:, 0].std()) < 0.015
    assert torch.equal(out[:, :, 17:], eddies[:, :, 17:]) and torch.equal(out[:, 2], eddies[:, 2])
    assert float(out[:, :2, 14:16].abs().mean()) < 0.25 * float(high.abs().mean())


def test_the_sky_goes_as_far_as_its_arrow_says_and_as_one() -> None:
    field = 0.02 * torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    out = swept(field, where(), told(), [Arrow(0.3, 0.1, 0.4, 0.15, 2.0), Arrow(0.5, 0.9, 0.6, 0.9)], 8)
    assert torch.allclose(out[-1, 0, :5], torch.tensor(-0.2), atol=0.01)
    assert torch.allclose(out[-1, 1, :5], torch.tensor(-0.1), atol=0.01)
    assert torch.allclose(out[3, 0, 3], out[7, 0, 3] / 2, atol=1e-6), "evenly over the clip"
    assert torch.equal(out[:, :, 17:], field[:, :, 17:]) and torch.equal(out[:, 2], field[:, 2])
    # Low in the sky, where it drifts slowly, an arrow is still believed: its place goes as far as it says.
    low = swept(field, where(), told(), [Arrow(0.3, 0.32, 0.4, 0.32)], 8)
    assert -0.11 < float(low[-1, 0, 10, 9]) < -0.08


def test_arrows_that_point_apart_elsewhere_or_nowhere_leave_the_field() -> None:
    field = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    there, back, below = Arrow(0.3, 0.1, 0.4, 0.1), Arrow(0.6, 0.1, 0.5, 0.1), Arrow(0.3, 0.9, 0.4, 0.9)
    for arrows in ([there, back], [below], [], [there, Arrow(0.6, 0.1, 0.6, 0.1)]):
        assert torch.equal(swept(field, where(), told(), arrows, 8), field)
    assert torch.equal(swept(field, where(), told("swirl"), [there], 8), field)


def test_a_sky_that_is_not_told_to_drift_is_left_alone() -> None:
    field = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for plan in (told("swirl"), told(named=False)):
        assert torch.equal(drifting(field, where(), plan), field)


def test_a_sail_that_the_outline_cuts_through_is_not_sky() -> None:
    """A white sail before a blue sky, its upper half read as sky: all of it is taken out of the sky."""
    painting = np.full((128, 128, 3), (60, 110, 190), np.uint8)
    painting[100:] = (20, 40, 60)
    painting[36:100, 56:76] = (240, 235, 225)
    sky = np.zeros((32, 32), np.float32)
    sky[:25] = 1
    sky[16:25, 14:19] = 0
    out = unbroken(painting, sky)
    assert out[10:16, 15:18].max() < 0.2, "the sail's top is still sky"
    assert out[2:8].min() > 0.95 and out[10:20, 24:].min() > 0.95, "the sky is no longer sky"
    assert (out <= sky).all() and FRAME != SKY


def test_a_sky_that_is_doubted_everywhere_stays() -> None:
    painting = np.full((128, 128, 3), (60, 110, 190), np.uint8)
    doubt = np.full((32, 32), 0.5, np.float32)
    assert np.allclose(unbroken(painting, doubt), doubt, atol=0.01)
