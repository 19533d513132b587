"""Frame against frame, motion where asked, cosines: each against a closed form or another library."""

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cosine

from tests.metrics import made
from vivant.errors import InputError
from vivant.metrics.functional import (
    direction_error,
    frame_consistency,
    input_conformity,
    latent_motion_score,
    lpips,
    mask_precision,
    motion_inside,
    motion_score,
    moved_area,
    psnr,
    ssim,
    strength_error,
    text_alignment,
)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return made.painting()


def test_psnr_closed_form(picture: np.ndarray) -> None:
    still = np.stack([picture, picture])
    shifted = np.stack([picture, picture + 5])
    assert psnr(still, still) == 99
    assert psnr(still, shifted) == pytest.approx((99 + 20 * np.log10(255 / 5)) / 2, abs=1e-4)
    with pytest.raises(InputError, match="one length"):
        psnr(still, still[:1])


def test_ssim_against_its_formula(picture: np.ndarray) -> None:
    """Scipy's filters, the definition's constants, cropped as torchmetrics crops."""
    a, b = picture.astype(np.float64), made.noisy(picture[None], 20)[0].astype(np.float64)

    def mean(v: np.ndarray) -> np.ndarray:
        return gaussian_filter(v, (1.5, 1.5, 0), truncate=5 / 1.5, mode="mirror")

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    full = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    found = ssim(np.stack([picture] * 2), np.stack([b.astype(np.uint8), picture]))
    assert found == pytest.approx((full[5:-5, 5:-5].mean() + 1) / 2, abs=2e-3)


def test_ssim_takes_long_clips_in_parts(picture: np.ndarray) -> None:
    a = np.stack([picture[:32, :32]] * 19)
    b = made.noisy(a, 10)
    assert ssim(a, b) == pytest.approx(np.mean([ssim(x[None], y[None]) for x, y in zip(a, b, strict=True)]), abs=1e-6)
    with pytest.raises(InputError, match="11×11"):
        ssim(a[:, :8], b[:, :8])


def test_lpips_is_the_squared_distance(picture: np.ndarray) -> None:
    class Means:
        name, version, takes = "means", "1", "frames"

        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.float().mean((1, 2))

    a = np.stack([picture] * 6)
    b = a.copy()
    b[3:] += np.uint8(2)
    assert lpips(a, b, Means()) == pytest.approx(3 * 2**2 / 2, rel=1e-4)


def test_motion_score_by_hand() -> None:
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 30, np.uint8)
    assert motion_score(np.stack([black, black])) == 0
    # Grey has no hue and no saturation: a third of the step in value, times ten.
    assert motion_score(np.stack([black, white, black])) == pytest.approx(10 * 30 / 3)
    red, green = black.copy(), black.copy()
    red[..., 0], green[..., 1] = 200, 200
    assert motion_score(np.stack([red, green])) == pytest.approx(10 * 60 / 3)
    with pytest.raises(InputError, match="2 frames"):
        motion_score(black[None])


def test_strengths() -> None:
    latents = torch.zeros(4, 3, 2, 2)
    latents[:, 1] = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]
    assert latent_motion_score(latents) == pytest.approx(10 * 1.0)
    still = np.zeros((3, 16, 16, 3), np.uint8)
    assert strength_error(still, 4) == 16
    assert strength_error(still, 4, lambda frames: float(len(frames))) == 1


def test_moved_area_is_boxes() -> None:
    frames = np.zeros((3, 20, 30, 3), np.uint8)
    frames[1, 2:6, 3:8] = 200
    frames[2, 12, 20:25] = 200
    frames[2, 15, 22] = 200
    frames[1, 0, 29] = 15
    expected = np.zeros((20, 30), bool)
    expected[2:6, 3:8] = expected[12, 20:25] = expected[15, 22] = True
    assert np.array_equal(moved_area(frames), expected)
    assert moved_area(frames, threshold=10)[0, 29]
    # An L is its box; against the frame before, what came and went counts too.
    frames[2, 13, 20] = 200
    expected[12:14, 20:25] = True
    assert np.array_equal(moved_area(frames), expected)
    ramp = np.stack([np.full((8, 8, 3), v, np.uint8) for v in (0, 15, 30)])
    assert moved_area(ramp).all() and not moved_area(ramp, neighbours=True).any()


def test_mask_precision_is_a_share() -> None:
    frames = np.zeros((2, 20, 20, 3), np.uint8)
    frames[1, 5:15, 5:15] = 255
    mask = np.zeros((20, 20), np.float32)
    mask[:, :10] = 1
    assert mask_precision(frames, mask) == 0.5
    assert mask_precision(frames, cv2.resize(mask, (40, 40), interpolation=cv2.INTER_NEAREST)) == pytest.approx(
        0.5, abs=0.06
    )
    assert np.isnan(mask_precision(frames[:1].repeat(2, 0), mask))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_motion_inside_falls_with_the_mask(picture: np.ndarray, share: float) -> None:
    """The left half moves; a mask over `share` of that half sees about that much of the motion."""
    frames = made.carried(picture, 5, 1.5, region=made.left_half(0.5))
    assert motion_inside(frames, made.left_half(0.5 * share)) == pytest.approx(share, abs=0.08)
    assert np.isnan(motion_inside(np.stack([picture] * 2), made.left_half()))


@pytest.mark.parametrize("angle", [0, 90, 210])
def test_direction_error_is_the_angle(picture: np.ndarray, angle: float) -> None:
    region = made.left_half(0.6)
    frames = made.carried(picture, 4, 1.5, angle, region)
    for off in (0, 45, 180):
        asked = np.radians(angle + off)
        assert direction_error(frames, (np.cos(asked), np.sin(asked)), region) == pytest.approx(off, abs=6)
    assert direction_error(frames, (np.cos(np.radians(angle)), np.sin(np.radians(angle)))) < 6
    assert direction_error(np.stack([picture] * 2), (1, 0)) == 180


def test_cosines() -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    text = torch.randn(7, generator=torch.Generator().manual_seed(1))
    rows = x.double().numpy()
    expected = np.mean([1 - cosine(rows[i], rows[i + 1]) for i in range(4)])
    assert frame_consistency(x) == pytest.approx(expected, abs=1e-9)
    expected = np.mean([1 - cosine(r, text.double().numpy()) for r in rows])
    assert text_alignment(x, text) == text_alignment(x, text[None]) == pytest.approx(expected, abs=1e-9)
    assert input_conformity(text.repeat(3, 1), text) == pytest.approx(1)
    assert frame_consistency(3 * text.repeat(3, 1)) == pytest.approx(1)
    for call in (lambda: frame_consistency(x[:1]), lambda: text_alignment(x, text[:3]), lambda: text_alignment(x, x),
                 lambda: frame_consistency(x * float("inf"))):  # fmt: skip
        with pytest.raises(InputError):
            call()
