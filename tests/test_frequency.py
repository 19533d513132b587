"""FrameInit and DCTInit: closed forms, and the transforms of numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from vivant.frequency import dct_init, dct_mix, dct_rows, frame_init, frequency_mix, low_pass
from vivant.process import Level, diffuse

LEVEL = Level(0.6, 0.8, 700.0)


def pair(shape: tuple[int, ...] = (2, 3, 5, 6, 7), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)


# FrameInit


def test_a_filter_of_ones_gives_the_noised_clip_and_of_zeros_the_noise() -> None:
    x, noise = pair()
    torch.testing.assert_close(frame_init(x, noise, LEVEL, torch.ones(5, 6, 7)), diffuse(x, noise, LEVEL))
    torch.testing.assert_close(frame_init(x, noise, LEVEL, torch.zeros(5, 6, 7)), noise)


def test_the_mix_is_numpys() -> None:
    low, high = pair()
    passes = low_pass("gaussian", (5, 6, 7), 0.4, 0.3)
    axes = (-3, -2, -1)
    spectra = [np.fft.fftshift(np.fft.fftn(v.double().numpy(), axes=axes), axes=axes) for v in (low, high)]
    both = spectra[0] * passes.numpy() + spectra[1] * (1 - passes.numpy())
    expected = np.fft.ifftn(np.fft.ifftshift(both, axes=axes), axes=axes).real
    np.testing.assert_allclose(frequency_mix(low, high, passes).numpy(), expected, atol=1e-5)


def test_the_mean_passes_and_a_checkerboard_does_not() -> None:
    i = torch.arange(8)
    board = ((-1.0) ** (i[:, None, None] + i[None, :, None] + i[None, None, :]))[None, None]
    passes = low_pass("gaussian", (8, 8, 8))
    torch.testing.assert_close(
        frequency_mix(torch.ones_like(board), torch.zeros_like(board), passes)[0, 0, 0, 0, 0], torch.tensor(1.0)
    )
    assert frequency_mix(board, torch.zeros_like(board), passes).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["gaussian", "butterworth", "ideal", "box"])
def test_filters_are_one_in_the_middle_and_fall_outwards(kind: str) -> None:
    passes = low_pass(kind, (8, 10, 12), 0.25, 0.25)
    assert passes.shape == (8, 10, 12)
    assert passes[4, 5, 6] == 1
    assert 0 <= passes.min() and passes.max() <= 1
    for axis in (passes[4:, 5, 6], passes[4, 5:, 6], passes[4, 5, 6:]):
        assert (axis[1:] <= axis[:-1]).all() and axis[-1] < 1


def test_the_gaussian_is_its_formula_and_cuts_of_zero_pass_nothing() -> None:
    passes = low_pass("gaussian", (8, 8, 8), 0.5, 0.25)
    assert passes[6, 4, 4] == pytest.approx(np.exp(-((2 * 0.5) ** 2) / (2 * 0.25)))
    assert passes[4, 6, 4] == pytest.approx(np.exp(-(0.5**2) / (2 * 0.25)))
    assert not low_pass("gaussian", (4, 4, 4), 0.0, 0.25).any()
    assert not low_pass("ideal", (4, 4, 4), 0.25, 0.0).any()
    with pytest.raises(ValueError, match="expected a filter among"):
        low_pass("round", (4, 4, 4))


# DCTInit


def test_the_rows_are_scipys_orthonormal_dct() -> None:
    np.testing.assert_allclose(dct_rows(9, 9).numpy(), fft.dct(np.eye(9), norm="ortho", axis=0), atol=1e-12)
    assert dct_rows(9, 4).shape == (4, 9)
    assert dct_rows(5, 0).shape == (0, 5)


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 6), height=st.integers(1, 13), width=st.integers(1, 14), share=st.floats(0, 1),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_mix_is_scipys_in_three_dimensions(frames: int, height: int, width: int, share: float, seed: int) -> None:
    low, high = (v.double() for v in pair((1, 2, frames, height, width), seed))
    mask = np.zeros((height, width))
    mask[: int(height * share), : int(width * share)] = 1
    axes = (-3, -2, -1)
    spectra = [fft.dctn(v.numpy(), axes=axes, norm="ortho") for v in (low, high)]
    expected = fft.idctn(spectra[0] * mask + spectra[1] * (1 - mask), axes=axes, norm="ortho")
    np.testing.assert_allclose(dct_mix(low, high, share).numpy(), expected, atol=1e-10)


def test_a_share_of_all_gives_the_noised_clip_and_of_none_the_noise() -> None:
    x, noise = pair()
    torch.testing.assert_close(dct_init(x, noise, LEVEL, 1.0), diffuse(x, noise, LEVEL))
    torch.testing.assert_close(dct_init(x, noise, LEVEL, 0.0), noise)
    with pytest.raises(ValueError, match="between 0 and 1"):
        dct_init(x, noise, LEVEL, 1.5)


def test_half_precision_is_computed_in_float32() -> None:
    x, noise = pair()
    passes = low_pass("gaussian", (5, 6, 7))
    for start in (frame_init(x.half(), noise.half(), LEVEL, passes), dct_init(x.half(), noise.half(), LEVEL)):
        assert start.dtype == torch.float32
