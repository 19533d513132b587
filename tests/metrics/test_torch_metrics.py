"""The classes add up to what the functions say, stay small, and leave nothing out in silence."""

import pickle

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from tests.metrics import made
from vivant.errors import InputError
from vivant.metrics import functional as f
from vivant.metrics import torch_metrics as t
from vivant.metrics.extractors import load

pytestmark = [
    pytest.mark.filterwarnings("ignore::vivant.metrics.functional.SmallSampleWarning"),
    pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning"),
]


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [made.carried(made.painting(i), 4, 1.0 + i, 90 * i)[:, :96, :96] for i in range(3)]


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(90, 6, generator=rng) + 50, 1.5 * torch.randn(70, 6, generator=rng) + 50


def fed(metric: t.FrechetVideoDistance | t.KernelVideoDistance, a: torch.Tensor, b: torch.Tensor) -> float:
    for real, x in ((True, a), (False, b)):
        for part in x.split(16):
            metric.update(part, real)
    return float(metric.compute())


def test_frechet_streams(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    metric = t.FrechetVideoDistance(load("gradients-3d"))
    expected = f.frechet_distance(*features)
    assert fed(metric, *features) == pytest.approx(expected, rel=1e-9)
    (_, ma, ca), (_, mb, cb) = f.moments(features[0]), f.moments(features[1])
    assert expected == pytest.approx(float(_compute_fid(ma, ca, mb, cb)), rel=1e-6)
    metric.reset()
    assert fed(metric, *features) == pytest.approx(expected, rel=1e-9)
    assert float(pickle.loads(pickle.dumps(metric)).compute()) == pytest.approx(expected, rel=1e-9)
    assert metric.label == "Fréchet distance (gradients-3d)"


def test_frechet_of_videos(clips: list[np.ndarray]) -> None:
    extractor = load("gradients-3d")
    metric = t.FrechetVideoDistance(extractor)
    batch = torch.from_numpy(np.stack(clips))
    metric.update(batch, real=True)
    metric.update(batch[:2], real=False)
    metric.update(batch[2:], real=False)
    assert float(metric.compute()) == pytest.approx(0, abs=1e-4)
    with pytest.raises(InputError, match="width"):
        metric.update(torch.zeros(2, 3), real=True)


def test_memory_is_flat(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    def held(metric: t.FrechetVideoDistance | t.KernelVideoDistance) -> int:
        states = [getattr(metric, name) for name in metric._defaults]
        return sum(x.numel() for s in states for x in (s if isinstance(s, list) else [s]))

    frechet, kernel = t.FrechetVideoDistance(load("gradients-3d")), t.KernelVideoDistance(load("gradients-3d"), most=20)
    fed(frechet, *features), fed(kernel, *features)
    before = held(frechet), held(kernel)
    first = frechet.compute()
    for _ in range(5):
        fed(frechet, *features), fed(kernel, *features)
    frechet.update(features[0], real=False)
    assert frechet.compute() != first  # not the value that was kept
    assert (held(frechet), held(kernel)) == before == (2 * (1 + 6 + 36), 2 * 20 * 6)


def test_kernel_is_exact_until_it_is_full(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    features = (features[0] - 50, features[1] - 49)
    expected = f.kernel_distance(*features)
    assert fed(t.KernelVideoDistance(load("gradients-3d")), *features) == pytest.approx(expected, rel=1e-6)
    some = [fed(t.KernelVideoDistance(load("gradients-3d"), most=40, seed=s), *features) for s in range(20)]
    assert np.mean(some) == pytest.approx(expected, rel=0.25) and len(set(some)) > 1


def test_one_clip_has_no_distance(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    for metric in (t.FrechetVideoDistance(load("gradients-3d")), t.KernelVideoDistance(load("gradients-3d"))):
        with pytest.raises(InputError, match="at least 2"):
            metric.compute()
        metric.update(features[0][:1], real=True)
        metric.update(features[1], real=False)
        with pytest.raises(InputError, match="at least 2"):
            metric.compute()


def test_few_clips_are_warned_about(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.warns(f.SmallSampleWarning, match="20 clips are few for 6"):
        fed(t.FrechetVideoDistance(load("gradients-3d")), features[0][:20], features[1])


@pytest.mark.parametrize(
    ("metric", "function"),
    [(t.MotionScore, f.motion_score), (t.LoopSeam, f.loop_seam), (t.Flicker, f.flicker), (t.StaticScore, f.static_score)],
)  # fmt: skip
def test_frames_alone(metric: type[t.MeanOverClips], function: object, clips: list[np.ndarray]) -> None:
    found = metric()
    found.update(clips[0])
    found.update(torch.from_numpy(np.stack(clips[1:])))
    assert float(found.compute()) == pytest.approx(np.mean([function(c) for c in clips]))  # type: ignore[operator]


def test_against(clips: list[np.ndarray]) -> None:
    pictures = [c[0] for c in clips]
    mask = np.zeros((96, 96), np.uint8)
    mask[:, :48] = 1
    for metric, function, against in [
        (t.Psnr, f.psnr, clips[::-1]), (t.Ssim, f.ssim, clips[::-1]), (t.MotionMaskPrecision, f.mask_precision, mask),
        (t.BrushPreservation, f.brush_preservation, pictures), (t.ColourDrift, f.colour_drift, pictures),
        (t.MotionInside, f.motion_inside, mask), (t.MotionStrengthError, f.strength_error, [3.0, 4.0, 5.0]),
    ]:  # fmt: skip
        found = metric()
        found.update(clips, against)
        each = against if isinstance(against, list) else [against] * 3
        assert float(found.compute()) == pytest.approx(
            np.mean([function(c, a) for c, a in zip(clips, each, strict=True)])
        )
    with pytest.raises(InputError, match="3 clips, got 2"):
        t.Psnr().update(clips, clips[:2])


def test_freeze_and_direction(clips: list[np.ndarray]) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[:40] = 1
    found = t.FreezeError()
    found.update(clips, [c[0] for c in clips], mask)
    each = [f.freeze_error(c, c[0], mask) for c in clips]
    assert float(found.compute()) == pytest.approx(np.mean([e.mean for e in each]))
    assert float(found.worst) == max(e.max for e in each)
    way = t.DirectionError()
    way.update(clips, (1.0, 0.0))
    assert float(way.compute()) == pytest.approx(np.mean([f.direction_error(c, (1.0, 0.0)) for c in clips]))


def test_clips_without_a_value_are_counted(clips: list[np.ndarray]) -> None:
    metric = t.MotionInside()
    assert torch.isnan(metric.compute())
    still = clips[0][:1].repeat(3, 0)
    metric.update([still, clips[1]], np.ones((96, 96)))
    assert float(metric.compute()) == 1 and int(metric.count) == 1 and int(metric.without) == 1


def test_features(clips: list[np.ndarray]) -> None:
    extractor = load("gradients-2d")
    mixed = [clips[0], clips[1][:3], clips[2][:, :80]]
    seen = [extractor(torch.from_numpy(c)) for c in mixed]
    consistency = t.FrameConsistency(extractor, batch=2)
    consistency.update(mixed)
    assert float(consistency.compute()) == pytest.approx(np.mean([f.frame_consistency(x) for x in seen]), abs=1e-5)
    conformity = t.InputConformity(extractor)
    conformity.update(mixed, clips[0][0])
    picture = extractor(torch.from_numpy(clips[0][:1]))[0]
    assert float(conformity.compute()) == pytest.approx(
        np.mean([f.input_conformity(x, picture) for x in seen]), abs=1e-5
    )
    distance = t.PerceptualDistance(extractor)
    distance.update(clips, clips[::-1])
    assert float(distance.compute()) > 0 and distance.label == "perceptual distance (gradients-2d)"
    with pytest.raises(InputError, match="reads none"):
        t.TextAlignment(extractor)


def test_text_alignment(clips: list[np.ndarray]) -> None:
    class Words:
        name, version, takes = "words", "1", "frames"

        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.float().mean((1, 2))

        def text(self, sentences: list[str]) -> torch.Tensor:
            return torch.tensor([[float(len(s)), 1.0, 2.0] for s in sentences])

    metric = t.TextAlignment(Words())
    metric.update(clips[:2], ["a", "longer"])
    frames = [torch.from_numpy(c).float().mean((1, 2)) for c in clips]
    expected = [f.text_alignment(frames[i], torch.tensor([n, 1.0, 2.0])) for i, n in enumerate((1.0, 6.0))]
    assert float(metric.compute()) == pytest.approx(np.mean(expected), abs=1e-6)
