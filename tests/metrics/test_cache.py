"""Features are computed once, in order, and never kept wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.metrics import made
from vivant.errors import InputError, SettingError, VivantError
from vivant.metrics.cache import FeatureCache, clip_features, content_of, features_of, frame_features, square_clip
from vivant.metrics.extractors import load
from vivant.render.export import export


class Counted:
    """Means of clips or frames; knows how often it was asked, and for how many."""

    version = "1"

    def __init__(self, takes: str = "videos", name: str = "means") -> None:
        self.takes, self.name, self.batches = takes, name, []

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(batch))
        return batch.float().mean(tuple(range(1, batch.ndim - 1)))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        export(list(made.carried(made.painting(i), 16, i)[:, :, : 192 - 2 * i]), folder / f"{i}.mp4", 8)
        for i in range(5)
    ]


def test_square_clips(paths: list[Path]) -> None:
    for path in paths:
        assert square_clip(path, 16, 64).shape == (16, 64, 64, 3)
    with pytest.raises(InputError, match="at least 17"):
        square_clip(paths[0], 17)


def test_features_come_in_order_and_in_batches(paths: list[Path]) -> None:
    extractor = Counted()
    found = list(clip_features(paths, extractor, side=32, batch=2))
    assert [p for p, _ in found] == paths and extractor.batches == [2, 2, 1]
    for path, features in found:
        assert torch.allclose(features, torch.from_numpy(square_clip(path, 16, 32)).float().mean((0, 1, 2)))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_any_number_of_clips(batch: int, paths: list[Path]) -> None:
    """More than one group of files looked at together, and more than are read ahead."""
    many = paths * 7
    found = [f for _, f in clip_features(many, Counted(), side=16, frames=2, batch=batch)]
    assert len(found) == len(many) and torch.allclose(torch.stack(found[:5]), torch.stack(found[5:10]))


def test_computed_once(paths: list[Path], tmp_path: Path) -> None:
    cache, extractor = FeatureCache(tmp_path), Counted()
    first = features_of(paths, extractor, cache)
    asked = sum(extractor.batches)
    assert torch.equal(features_of(paths[::-1], extractor, cache), first.flip(0)) and sum(extractor.batches) == asked
    # Another file of the same bytes is the same clip; another version or size is not.
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(paths[0].read_bytes())
    features_of([copy], extractor, cache)
    assert sum(extractor.batches) == asked
    extractor.version = "2"
    features_of([copy], extractor, cache)
    assert sum(extractor.batches) == asked + 1
    list(clip_features([copy], extractor, cache, side=32))
    assert sum(extractor.batches) == asked + 2


def test_damaged_entries_are_computed_anew(paths: list[Path], tmp_path: Path) -> None:
    cache, extractor = FeatureCache(tmp_path), Counted()
    first = features_of(paths[:1], extractor, cache)
    [file] = tmp_path.rglob("*.npy")
    for damage in (b"", b"not numpy", file.read_bytes()[:-3]):
        file.write_bytes(damage)
        assert torch.equal(features_of(paths[:1], extractor, cache), first)
    assert not list(tmp_path.rglob("*.part"))
    np.save(file, np.array([object()]), allow_pickle=True)
    assert torch.equal(features_of(paths[:1], extractor, cache), first)


def test_broken_clips_are_skipped_or_raised(paths: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(paths[0].read_bytes()[:1000])
    short = export(list(made.carried(made.painting(), 3)), tmp_path / "short.mp4", 8)
    listed = [paths[0], broken, tmp_path / "none.mp4", short, paths[1]]
    for cache in (None, FeatureCache(tmp_path / "cache")):
        left: list[tuple[Path, VivantError]] = []
        found = list(clip_features(listed, Counted(), cache, skipped=lambda p, e, to=left: to.append((p, e))))
        assert [p for p, _ in found] == [paths[0], paths[1]] and [p for p, _ in left] == listed[1:4]
        with pytest.raises(InputError):
            list(clip_features(listed, Counted(), cache))


def test_frames(tmp_path: Path) -> None:
    frames = made.carried(made.painting(), 5)
    cache, extractor = FeatureCache(tmp_path), Counted("frames")
    first = frame_features(frames, extractor, cache, batch=2)
    assert extractor.batches == [2, 2, 1] and first.shape == (5, 3)
    assert torch.equal(frame_features(frames.copy(), extractor, cache), first) and sum(extractor.batches) == 5
    frames[0, 0, 0, 0] ^= 1
    assert not torch.equal(frame_features(frames, extractor, cache), first)
    with pytest.raises(SettingError, match="takes clips"):
        frame_features(frames, load("gradients-3d"))
    with pytest.raises(SettingError, match="takes frames"):
        list(clip_features([], extractor))


def test_content_of_folders(tmp_path: Path) -> None:
    frames = list(made.carried(made.painting(), 3))
    a, b = export(frames, tmp_path / "a", 8), export(frames, tmp_path / "b", 8)
    assert content_of(a) == content_of(b)
    (b / "frame_00002.png").unlink()
    assert content_of(a) != content_of(b)
    with pytest.raises(InputError, match="no such file"):
        content_of(tmp_path / "c")
