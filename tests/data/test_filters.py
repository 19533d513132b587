"""Measures against clips whose motion is known: what the camera did, what things did, where the cuts are, what moved."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_fill_holes

from tests.data.clips import write
from tests.metrics import made
from vivant.data import flows
from vivant.data.decode import probe
from vivant.data.filters import Measures, Rules, cuts_at, likeness, measure, parted, why_not
from vivant.data.masks import frozen, latent_mask, motion_mask
from vivant.data.sources import items
from vivant.errors import DependencyError, InputError, SettingError
from vivant.flow import flow
from vivant.metrics.functional import moved_area

SHARED = Path(__file__).parents[3] / "shared" / "videos"


def look(path: Path, frames: np.ndarray, fps: int = 8) -> Measures:
    (item,) = items(write(path, frames, fps))
    return measure(item, probe(item))[0]


def diagonal() -> float:
    return float(np.hypot(made.WIDTH, made.HEIGHT))


def test_a_panning_camera(tmp_path: Path) -> None:
    """Two pixels a frame, eight frames a second: all of it is the camera's."""
    found = look(tmp_path / "a.mp4", made.carried(made.painting(), 8, 2.0, 30))
    assert found.camera == pytest.approx(100 * 2 * 8 / diagonal(), rel=0.1)
    assert found.motion < 0.25 * found.camera and found.cuts == ()


def test_a_zooming_camera(tmp_path: Path) -> None:
    picture = made.painting()
    size, centre = (made.WIDTH, made.HEIGHT), (made.WIDTH / 2, made.HEIGHT / 2)
    zoomed = np.stack(
        [cv2.warpAffine(picture, cv2.getRotationMatrix2D(centre, 0, 1.02**i), size, flags=cv2.INTER_CUBIC,
                        borderMode=cv2.BORDER_REFLECT) for i in range(8)]
    )  # fmt: skip
    # Root mean square distance from the centre is the diagonal over √12.
    assert look(tmp_path / "a.mp4", zoomed).camera == pytest.approx(100 * 0.02 * 8 / np.sqrt(12), rel=0.2)


def test_a_thing_in_a_still_picture(tmp_path: Path) -> None:
    region = made.left_half(0.4)
    found = look(tmp_path / "a.mp4", made.carried(made.painting(), 8, 2.0, region=region))
    assert found.camera < 0.15
    assert found.motion == pytest.approx(0.4 * 100 * 2 * 8 / diagonal(), rel=0.25)
    assert found.moved == pytest.approx(0.4, abs=0.08)


def test_a_still_picture(tmp_path: Path) -> None:
    found = look(tmp_path / "a.mp4", made.carried(made.painting(), 8, 0.0))
    assert found.camera < 0.05 and found.motion < 0.05 and found.motion_score < 3 and found.moved < 0.02


def test_parted_without_corners() -> None:
    """Nothing to hold on to: all motion is of things."""
    motion, camera = parted(np.full((60, 80, 2), 3.0, np.float32), np.full((60, 80), 90, np.uint8))
    assert motion == pytest.approx(np.hypot(3, 3) / 100) and camera == 0


def test_cuts_are_found_where_they_are(tmp_path: Path) -> None:
    pictures = [made.painting(seed) for seed in range(3)]
    pictures[1] = np.ascontiguousarray(255 - pictures[1][::-1] // 2)
    pictures[2] = np.ascontiguousarray(pictures[2][:, ::-1] // 3)
    shots = [made.carried(p, 8, 1.0) for p in pictures]
    found = look(tmp_path / "a.mp4", np.concatenate(shots))
    assert [(round(8 * a), round(8 * b)) for a, b in found.cuts] == [(7, 8), (15, 16)]
    # What lies across the cut is no motion.
    assert found.camera < 15


def test_a_flash_is_no_cut(tmp_path: Path) -> None:
    clip = made.carried(made.painting(), 12, 1.0)
    clip[6] = np.clip(clip[6].astype(int) + 90, 0, 255).astype(np.uint8)
    assert look(tmp_path / "a.mp4", clip).cuts == ()


def test_fast_motion_is_no_cut() -> None:
    assert cuts_at([40, 42, 45, 41], [0.1] * 4) == [] and cuts_at([2, 2, 45, 3], [0.9, 0.9, 0.1, 0.9]) == [2]
    assert cuts_at([30], [0.1]) == [0] and cuts_at([2, 20, 2], [0.1] * 3) == []
    flat = np.full((40, 40, 3), 90, np.uint8)
    assert likeness(flat, flat) == 1.0 and likeness(flat, flat + 90) == 0.0


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/videos on this machine")
def test_real_videos() -> None:
    """A hand-held walk moves the camera, a sea seen from a stand does not; joined, they have one cut."""
    camera = {}
    for name in ("hike", "sea_swell"):
        (item,) = items(SHARED / f"{name}.mp4")
        camera[name] = measure(item, probe(item), rate=4, side=128)[0].camera
    assert camera["hike"] > 3.0 > 1.0 > camera["sea_swell"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/videos on this machine")
def test_real_videos_joined(tmp_path: Path) -> None:
    from vivant.data.decode import decode

    parts = []
    for name in ("hike", "car-turn"):
        (item,) = items(SHARED / f"{name}.mp4")
        parts.append(decode(item, [i / 8 for i in range(10)], probe(item).fps, (160, 160)))
    assert [round(8 * b) for _, b in look(tmp_path / "a.mp4", np.concatenate(parts)).cuts] == [10]


def test_masks() -> None:
    """A square that wanders: boxes as the released code has them, outlines as the paper, nothing where nothing is."""
    clip = np.full((4, 60, 80, 3), 100, np.uint8)
    for i in range(4):
        clip[i, 20:30, 10 + 5 * i : 20 + 5 * i] = 160
    box = motion_mask(clip)
    expected = np.zeros((60, 80), bool)
    expected[20:30, 10:35] = True
    assert np.array_equal(box, expected) and np.array_equal(box, moved_area(clip, 5))
    assert np.array_equal(motion_mask(clip, against="previous", shape="contours"), expected)
    assert not motion_mask(clip, threshold=60).any() and not motion_mask(clip[:1]).any()
    # Two squares of 36 pixels are 0.75 % of the picture each; 1 % leaves them out.
    small = np.full((2, 60, 80, 3), 100, np.uint8)
    small[1, 5:11, 5:11] = small[1, 40:46, 60:66] = 200
    assert motion_mask(small).sum() == 72 and motion_mask(small, least=0.01).sum() == 0
    # The equation's frame before sees what came and went; both see it against the first.
    hollow = np.full((2, 60, 80, 3), 100, np.uint8)
    cv2.circle(hollow[1], (40, 30), 20, (200, 200, 200), 3)
    disc = motion_mask(hollow, shape="contours")
    assert np.array_equal(disc, binary_fill_holes(hollow[1, ..., 0] == 200))
    assert motion_mask(hollow).sum() == disc.any(0).sum() * disc.any(1).sum()
    with pytest.raises(SettingError):
        motion_mask(clip, shape="discs")


def test_frozen() -> None:
    """Eq. 5, and masks at latent size."""
    z = torch.randn(1, 4, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    full = np.zeros((1, 48, 64), bool)
    full[:, :24, 32:] = True
    full[:, 24:28] = True  # half a cell: it counts
    full[:, 40:43] = True  # less: it does not
    mask = latent_mask(full, 6, 8)
    assert mask.shape == (1, 1, 1, 6, 8) and mask[0, 0, 0, 3].all() and not mask[0, 0, 0, 5].any()
    got = frozen(z, mask)
    assert torch.equal(got[..., :3, 4:], z[..., :3, 4:])
    assert torch.equal(got[:, :, :, 4:], z[:, :, :1, 4:].expand(-1, -1, 3, -1, -1))


def test_kept_flow(tmp_path: Path) -> None:
    clip = made.carried(made.painting(), 4, 3.0)
    (item,) = items(write(tmp_path / "a.mp4", clip))
    _, fields, mask = measure(item, probe(item))
    path = flows.keep(tmp_path / "f/a.safetensors", fields, mask, 8.0, "dis")
    got, area, rate = flows.load(path)
    assert got.shape == (3, 2, made.HEIGHT, made.WIDTH) and rate == 8.0 and np.array_equal(area.numpy() > 0, mask)
    assert got[:, 0].median() == pytest.approx(3, abs=0.1) and got[:, 1].abs().median() < 0.1
    path.write_bytes(b"cut")
    with pytest.raises(InputError, match="expected kept flow"):
        flows.load(path)


def test_flow_along_a_clip() -> None:
    """Every second frame of a turning picture: two steps joined are the turn by twice the angle, exactly."""
    height, width, angle = 40, 50, 0.05
    y, x = np.mgrid[:height, :width] - np.array([height / 2, width / 2])[:, None, None]

    def turn(by: float) -> torch.Tensor:
        c, s = np.cos(by), np.sin(by)
        return torch.from_numpy(np.stack([c * x - s * y - x, s * x + c * y - y])).float()

    steps = turn(angle).repeat(8, 1, 1, 1)
    got = flows.along(steps, 8.0, 0.25, 4.0, 4)
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    assert got.shape == (3, 2, height, width)
    assert torch.allclose(got[inside], turn(2 * angle).expand_as(got)[inside], atol=1e-3)
    assert torch.equal(flows.along(steps, 8.0, 0.0, 8.0, 9), steps)
    for begin, fps, frames in ((0.06, 8.0, 4), (0.0, 5.0, 4), (0.0, 16.0, 4), (0.25, 4.0, 5)):
        with pytest.raises(InputError, match=r"expected (a clip|flow)"):
            flows.along(steps, 8.0, begin, fps, frames)


def test_estimators() -> None:
    assert flows.estimator("dis") is flow
    with pytest.raises(SettingError, match="dis or raft"):
        flows.estimator("sift")


def test_raft_needs_torchvision() -> None:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        with pytest.raises(DependencyError, match=r"vivant\[raft\]"):
            flows.estimator("raft")
    else:
        pytest.skip("torchvision is here")


def test_raft_wrapper_pads() -> None:
    """Any size goes in, the same comes out; what the network sees is in [-1, 1], sides of eight, at least 128."""

    def network(a: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
        assert a.shape[-2] % 8 == a.shape[-1] % 8 == 0 and min(a.shape[-2:]) >= 128
        assert a.min() >= -1 and b.max() <= 1
        return [a[:, :2] * 0, (a - b)[:, :2]]

    first, second = made.painting(0)[:90, :141], made.painting(1)[:90, :141]
    got = flows._Raft(network, "cpu")(first, second)
    assert np.allclose(got, (first.astype(np.float32) - second)[..., :2] / 127.5, atol=1e-5)


def test_rules() -> None:
    row = {
        "cuts": [], "seconds": 2.0, "camera": 1.0, "motion_score": 20.0, "moved": 0.5, "confidence": 40, "caption": "x"
    }  # fmt: skip
    assert why_not(row, Rules()) is None
    for change, rules, why in (
        ({"camera": 3.5}, Rules(), "camera"), ({"cuts": [1.0, 2.0]}, Rules(), "cut"), ({"seconds": 0.5}, Rules(), "short"),
        ({}, Rules(motion=21), "still"), ({}, Rules(most_motion=19), "wild"), ({}, Rules(moved=0.4), "everywhere"),
        ({}, Rules(confidence=41), "undynamic"), ({"confidence": None}, Rules(confidence=1), "undynamic"),
        ({"caption": ""}, Rules(caption=True), "caption"), ({"error": "gone"}, Rules(), "broken"),
    ):  # fmt: skip
        assert (why_not(row | change, rules) or "").partition(":")[0] == why
    assert why_not(row | {"camera": 9, "cuts": [1.0], "seconds": 0.1}, Rules(None, True, seconds=None)) is None
