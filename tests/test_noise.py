import math

import pytest
import torch

from vivant.noise import freenoise, mixed, shared, white
from vivant.process import Level

BIG = (2, 4, 8, 48, 48)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def frame_correlation(noise, i, j):
    x, y = noise[:, :, i].flatten(), noise[:, :, j].flatten()
    return float((x * y).mean())


ALL = {
    "white": lambda like, rng: white(like, rng),
    "shared": lambda like, rng: shared(like, Level(0.1, 0.995, 999.0), rng),
    "mixed": lambda like, rng: mixed(like, 1.0, rng),
    "freenoise": lambda like, rng: freenoise(like, rng, window=4, stride=2),
}


@pytest.mark.parametrize("name", ALL)
def test_the_generator_decides_and_nothing_else(name):
    like = torch.zeros(1, 3, 9, 4, 5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    out = ALL[name](like, seeded(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert out.shape == like.shape and out.dtype == like.dtype
    assert torch.equal(out, ALL[name](like, seeded(3)))
    assert not torch.equal(out, ALL[name](like, seeded(4)))
    assert ALL[name](like.half(), seeded(3)).dtype == torch.float16
    assert torch.equal(like, torch.zeros_like(like))
    rng = seeded(3)
    assert not torch.equal(ALL[name](like, rng), ALL[name](like, rng))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 3.0, math.inf])
def test_mixed_has_unit_variance_and_the_stated_correlation(alpha):
    noise = mixed(torch.zeros(BIG), alpha, seeded())
    expected = 1.0 if math.isinf(alpha) else alpha**2 / (1 + alpha**2)
    for i, j in ((0, 1), (0, 7), (3, 4)):
        assert frame_correlation(noise, i, j) == pytest.approx(expected, abs=0.05)
    for i in range(8):
        assert frame_correlation(noise, i, i) == pytest.approx(1, abs=0.05)
    assert abs(float(noise.mean())) < 0.05


def test_mixed_is_its_equation():
    like = torch.zeros(2, 3, 4, 5, 6)
    rng = seeded()
    common, own = white(like[:, :, :1], rng), white(like, rng)
    torch.testing.assert_close(mixed(like, 2.0, seeded()), math.sqrt(4 / 5) * common + math.sqrt(1 / 5) * own)


@pytest.mark.parametrize("alpha", [-0.1, math.nan])
def test_mixed_refuses_a_wrong_alpha(alpha):
    with pytest.raises(ValueError, match="expected alpha >= 0"):
        mixed(torch.zeros(1, 1, 2, 2, 2), alpha, seeded())


def test_white_is_white():
    noise = white(torch.zeros(BIG), seeded())
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert abs(frame_correlation(noise, 0, 1)) < 0.05
    assert torch.equal(white(torch.zeros(BIG).half(), seeded()), noise.half())


def test_shared_is_equation_10():
    still = torch.randn(1, 4, 1, 6, 6, generator=seeded(9)).repeat(1, 1, 5, 1, 1)
    level = Level(0.07, 0.9975, 999.0)
    start = shared(still, level, seeded())
    torch.testing.assert_close(start, 0.07 * still + 0.9975 * white(still, seeded()))
    assert torch.equal(shared(still, Level(1.0, 0.0, 0.0), seeded()), still)
    assert torch.equal(shared(still, Level(0.0, 1.0, 999.0), seeded()), white(still, seeded()))


@pytest.mark.parametrize("frames, window, stride", [(12, 4, 2), (11, 4, 3), (13, 5, 5), (9, 4, 1), (24, 16, 4)])
def test_freenoise_shuffles_earlier_frames_block_by_block(frames, window, stride):
    noise = freenoise(torch.zeros(1, 2, frames, 4, 4), seeded(), window, stride)
    assert torch.equal(noise[:, :, :window], white(torch.zeros(1, 2, frames, 4, 4), seeded())[:, :, :window])

    def name(i):
        """The first frame that holds the same noise as frame i."""
        return next(j for j in range(frames) if torch.equal(noise[:, :, j], noise[:, :, i]))

    names = [name(i) for i in range(frames)]
    assert names[:window] == list(range(window))
    for begin in range(window, frames, stride):
        block, source = names[begin : begin + stride], names[begin - window : begin - window + stride]
        assert len(set(block)) == len(block) and set(block) <= set(source)
        if len(block) == stride:
            assert sorted(block) == sorted(source)


def test_freenoise_really_shuffles():
    noise = freenoise(torch.zeros(1, 1, 64, 4, 4), seeded(), window=32, stride=32)
    assert not torch.equal(noise[:, :, 32:], noise[:, :, :32])


def test_freenoise_of_a_short_clip_is_white():
    like = torch.zeros(1, 2, 8, 4, 4)
    assert torch.equal(freenoise(like, seeded()), white(like, seeded()))


def test_freenoise_every_window_holds_independent_frames():
    noise = freenoise(torch.zeros(1, 4, 24, 32, 32), seeded(), window=8, stride=4)
    for begin in range(0, 17, 4):
        window = noise[0, :, begin : begin + 8].transpose(0, 1).flatten(1)
        torch.testing.assert_close(window.corrcoef(), torch.eye(8), rtol=0, atol=0.1)


@pytest.mark.parametrize("window, stride", [(4, 5), (4, 0), (0, 0)])
def test_freenoise_refuses_a_wrong_stride(window, stride):
    with pytest.raises(ValueError, match="expected 1 <= stride <= window"):
        freenoise(torch.zeros(1, 1, 8, 2, 2), seeded(), window, stride)
