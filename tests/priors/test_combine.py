import pytest
import torch

from vivant.priors.combine import masked, watched
from vivant.process import Level, Prediction

LEVELS = [Level(0.0, 1.0, 999.0), Level(0.6, 0.8, 500.0), Level(0.3, 0.7, 700.0)]


def clips(seed, batch=2):
    return torch.randn(batch, 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def denoise(z, level):
    x0 = torch.tanh(z)
    return Prediction(x0, (z - level.a * x0) / level.s if level.s else torch.zeros_like(z))


@pytest.mark.parametrize("level", LEVELS)
def test_outside_the_mask_the_clip_is_the_still(level):
    z, still = clips(0), clips(1)
    mask = torch.zeros(1, 1, 1, 5, 6, dtype=torch.float64)
    mask[..., :3, :] = 1
    x0, _ = masked(denoise, still, mask)(z, level)
    assert torch.equal(x0[..., 3:, :], still[..., 3:, :])
    torch.testing.assert_close(x0[..., :3, :], denoise(z, level).x0[..., :3, :])


@pytest.mark.parametrize("level", LEVELS)
def test_the_pair_stays_consistent_under_a_soft_mask(level):
    z, still, mask = clips(0), clips(1), torch.rand(1, 1, 1, 5, 6, dtype=torch.float64)
    x0, eps = masked(denoise, still, mask)(z, level)
    torch.testing.assert_close(x0, still + mask * (denoise(z, level).x0 - still))
    torch.testing.assert_close(level.a * x0 + level.s * eps, z)


def test_a_full_mask_changes_nothing():
    z = clips(0)
    ours, plain = masked(denoise, clips(1), torch.ones(1, 1, 1, 5, 6))(z, LEVELS[1]), denoise(z, LEVELS[1])
    torch.testing.assert_close(ours.x0, plain.x0)
    torch.testing.assert_close(ours.eps, plain.eps)


def test_each_clip_may_have_its_own_mask():
    z, still = clips(0), clips(1)
    mask = torch.stack([torch.zeros(1, 1, 5, 6), torch.ones(1, 1, 5, 6)]).double()
    x0, _ = masked(denoise, still, mask)(z, LEVELS[1])
    assert torch.equal(x0[0], still[0])
    torch.testing.assert_close(x0[1], denoise(z, LEVELS[1]).x0[1])


def test_the_clean_end_has_no_noise_to_divide_by():
    z, still = clips(0), clips(1)
    x0, eps = masked(denoise, still, torch.zeros(1, 1, 1, 5, 6))(z, Level(1.0, 0.0, 0.0))
    assert torch.equal(x0, still) and bool(eps.isfinite().all())


def test_watched_tells_and_passes_on():
    told, z = [], clips(0)
    call = watched(denoise, told.append)
    for level in LEVELS:
        assert torch.equal(call(z, level).x0, denoise(z, level).x0)
    assert told == LEVELS


def test_denoisers_compose():
    told, z, still = [], clips(0), clips(1)
    mask = torch.zeros(1, 1, 1, 5, 6)
    x0, _ = watched(masked(watched(denoise, told.append), still, mask), told.append)(z, LEVELS[1])
    assert torch.equal(x0, still) and told == [LEVELS[1]] * 2
