"""Fréchet and kernel distances against closed forms, scipy and torchmetrics; bias and intervals against simulation."""

import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from vivant.errors import InputError, SettingError
from vivant.metrics.functional import (
    SmallSampleWarning,
    bootstrap,
    frechet_bias,
    frechet_distance,
    frechet_of_moments,
    kernel_distance,
    moments,
)

pytestmark = pytest.mark.filterwarnings("ignore::vivant.metrics.functional.SmallSampleWarning")


def drawn(seed: int, count: int, width: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(99 + width)) / width**0.5
    return scale * torch.randn(count, width, generator=rng) @ mix + shift


def by_scipy(a: torch.Tensor, b: torch.Tensor) -> float:
    x, y = a.double().numpy(), b.double().numpy()
    cov = [np.atleast_2d(np.cov(v, rowvar=False)) for v in (x, y)]
    # Two full-rank covariances: below that sqrtm itself fails.
    root = sqrtm(cov[0] @ cov[1]).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * root))


@pytest.mark.parametrize(("n", "m", "width"), [(60, 60, 8), (40, 97, 8), (33, 32, 16), (500, 30, 5), (9, 9, 1)])
def test_frechet_is_scipys(n: int, m: int, width: int) -> None:
    a, b = drawn(1, n, width), drawn(2, m, width, 1.4, 0.3)
    expected = by_scipy(a, b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_of_moments(moments(a), moments(b)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_frechet_closed_forms() -> None:
    a = drawn(3, 50, 6).double()
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(6 * 4, rel=1e-9)
    # Commuting covariances: the trace term is the squared difference of the scales.
    variance = float(moments(a).covariance.trace())
    centred = a - a.mean(0)
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * variance, rel=1e-6)
    x, y = torch.randn(30, 1, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 5, 41)[:, None]
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-5)


def test_frechet_with_fewer_clips_than_features() -> None:
    """Two clips span one line each: the closed form of two segments."""
    a = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]])
    b = torch.tensor([[0.0, 0, 0], [0.0, 2, 0]])
    # Means (1,0,0) and (0,1,0), variances 2 along x and along y: the roots do not overlap.
    assert frechet_distance(a, b) == pytest.approx(2 + 2 + 2)
    assert frechet_of_moments(moments(a), moments(b)) == pytest.approx(6)


def test_the_bias_is_measured() -> None:
    """Equal distributions: all of the distance is bias, and the measured bias says so within a third."""
    values, told = [], []
    for i in range(8):
        a, b = drawn(10 + i, 120, 12), drawn(50 + i, 120, 12)
        values.append(frechet_distance(a, b))
        told.append(frechet_bias(a, b, torch.Generator().manual_seed(i)))
    assert np.mean(told) == pytest.approx(np.mean(values), rel=0.35)
    assert frechet_bias(drawn(0, 3, 4), drawn(1, 3, 4)) == float("inf")


def test_small_samples_are_warned_about() -> None:
    with pytest.warns(SmallSampleWarning, match=r"20 against 30 clips are few for 8 features: about .* is bias"):
        frechet_distance(drawn(0, 20, 8), drawn(1, 30, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(drawn(0, 80, 8), drawn(1, 90, 8))
        bootstrap(frechet_distance, drawn(0, 80, 8), drawn(1, 90, 8), torch.Generator().manual_seed(0), 3)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (15, 26)])
def test_kernel_is_the_double_sum(n: int, m: int) -> None:
    a, b = drawn(5, n, 4), drawn(6, m, 4, 1.3)
    x, y = a.double().numpy(), b.double().numpy()

    def k(u: np.ndarray, v: np.ndarray) -> float:
        return (float(u @ v) / 4 + 1) ** 3

    expected = np.mean([k(x[i], x[j]) for i in range(n) for j in range(n) if i != j])
    expected += np.mean([k(y[i], y[j]) for i in range(m) for j in range(m) if i != j])
    expected -= 2 * np.mean([k(u, v) for u in x for v in y])
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_kernel_is_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    a, b = drawn(5, 30, 6).double(), drawn(6, 30, 6, 1.3).double()
    assert kernel_distance(a, b) == pytest.approx(float(poly_mmd(a, b)), rel=1e-9)


def test_kernel_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = drawn(5, 33, 4), drawn(6, 21, 4, 1.3)
    whole = kernel_distance(a, b)
    monkeypatch.setattr("vivant.metrics.functional.kernel.BLOCK", 8)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_kernel_is_unbiased() -> None:
    """Equal distributions at ten clips: the mean over many draws is zero within its own error."""
    values = [kernel_distance(drawn(2 * i, 10, 3), drawn(2 * i + 1, 10, 3)) for i in range(300)]
    assert abs(np.mean(values)) < 3.5 * np.std(values) / 300**0.5
    assert min(values) < 0


def test_bootstrap_covers() -> None:
    """The difference of means, known exactly: 95 % intervals hold it in 95 of 100 repetitions, give or take 6."""

    def shift(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a.mean(0) - b.mean(0)).sum())

    held = 0
    for i in range(100):
        rng = torch.Generator().manual_seed(i)
        found = bootstrap(shift, torch.randn(50, 1, generator=rng), torch.randn(60, 1, generator=rng) + 1, rng, 100)
        held += found.low <= -1 <= found.high
        assert found.low <= found.value <= found.high
    assert 89 <= held <= 100


def test_bootstrap_is_repeatable_and_scales_with_the_sample() -> None:
    a, b = drawn(0, 400, 3), drawn(1, 400, 3, 1.2)
    found = [bootstrap(frechet_distance, a, b, torch.Generator().manual_seed(4), 40) for _ in range(2)]
    assert found[0] == found[1]
    few = bootstrap(frechet_distance, a[:50], b[:50], torch.Generator().manual_seed(4), 40)
    assert few.high - few.low > 1.5 * (found[0].high - found[0].low)


def test_refusals() -> None:
    good = drawn(0, 5, 3)
    for bad, word in [
        (good[:1], "at least 2"),
        (good[0], "tensor"),
        (good * float("nan"), "finite"),
        (good[:, :2], "widths"),
    ]:
        for function in (frechet_distance, kernel_distance):
            with pytest.raises(InputError, match=word):
                function(good, bad)
    with pytest.raises(InputError, match="one width"):
        frechet_of_moments(moments(good), moments(good[:, :2]))
    with pytest.raises(SettingError, match="level"):
        bootstrap(frechet_distance, good, good, torch.Generator(), level=1.5)
