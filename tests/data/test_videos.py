"""The clips that training sees: the right frames, of the right size, the same again for a seed, and none that is broken."""

from __future__ import annotations

import struct
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.clips import number, numbered, shard, write
from vivant.data.buckets import buckets, covering, nearest
from vivant.data.decode import decode, probe, walk
from vivant.data.sources import items
from vivant.data.videos import Batches, VideoClips
from vivant.errors import InputError, SettingError
from vivant.metrics.video import read_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good clips (wide, tall, wide), captioned."""
    place = tmp_path_factory.mktemp("videos")
    for name, size in (("a.mp4", (64, 48)), ("b.webm", (48, 64)), ("c.mkv", (80, 48))):
        write(place / name, numbered(24, size))
        (place / name).with_suffix(".txt").write_text(f"Clip {name[0]}")
    return place


def _same(first: dict, second: dict) -> bool:
    return first["key"] == second["key"] and torch.equal(first["frames"], second["frames"])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.gif"])
def test_frames_at_times(name: str, tmp_path: Path) -> None:
    """Any frame of any container, after a seek or without: as reading from the start on gives it."""
    path = write(tmp_path / name, numbered(28), fps=10)
    (item,) = items(path)
    facts = probe(item)
    assert facts.size == (64, 48) and facts.fps == pytest.approx(10, rel=0.02) and facts.frames == 28
    for picked in ([0, 1, 2], [3, 9, 15, 21], [13, 14, 15], [17, 27], [27]):
        assert number(decode(item, [p / 10 for p in picked], facts.fps)) == picked
    whole = read_video(path).frames
    got = decode(item, [1.2, 2.5], facts.fps)
    assert np.abs(got.astype(int) - whole[[12, 25]]).max() <= 1


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_times_in_whole_milliseconds(name: str, tmp_path: Path) -> None:
    """Thirty a second do not fall on them: the nearest frame counts, not the one before."""
    (item,) = items(write(tmp_path / name, numbered(28), fps=30))
    picked = [1, 2, 5, 8, 13, 20]
    assert number(decode(item, [p / 30 for p in picked], probe(item).fps)) == picked


def test_uneven_times(tmp_path: Path) -> None:
    """The frame on the screen counts, however long each is shown."""
    path = write(tmp_path / "a.mkv", numbered(6), fps=10, times=[0, 10, 20, 100, 110, 120])
    (item,) = items(path)
    assert number(decode(item, [0.0, 0.2, 0.6, 0.9, 1.0, 1.2], 10.0)) == [0, 2, 2, 2, 3, 5]


def test_a_span_of_a_longer_video(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", numbered(28), fps=8)
    (tmp_path / "l.csv").write_text("path,caption,start,end\na.mp4,x,1.5,2.5\n")
    clips = VideoClips(tmp_path / "l.csv", 8, size=(32, 32), as_bytes=True)
    assert number(clips[0]["frames"]) == list(range(12, 20)) and clips[0]["start"] == 1.5
    assert [round(t * 8) for t, _ in walk(clips.items[0], probe(clips.items[0]), 4, 64)] == [0, 2, 4, 6]


def test_turned(tmp_path: Path) -> None:
    """A telephone's video, lying in its file, is upright in size, bucket and picture."""
    rng = np.random.default_rng(0)
    path = write(
        tmp_path / "a.mp4",
        np.repeat(np.kron(rng.integers(0, 2, (1, 6, 8, 3)), np.ones((1, 8, 8, 1))) * 200, 6, 0).astype(np.uint8),
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    clips = VideoClips(tmp_path, 2, size=[(64, 48), (48, 64)], missing="empty", as_bytes=True, start="first")
    assert probe(clips.items[0]).size == (48, 64)
    assert np.abs(clips[0]["frames"].astype(int) - read_video(path).frames[:2]).max() <= 1


def test_cropped(tmp_path: Path) -> None:
    """A picture cut to a bucket keeps its shape: nothing is stretched."""
    picture = np.zeros((1, 64, 128, 3), np.uint8)
    picture[:, :, 32:64] = 255  # in the left half of the middle
    write(tmp_path / "a.mp4", np.repeat(picture, 6, 0))
    got = VideoClips(tmp_path, 4, size=(32, 32), missing="empty", as_bytes=True)[0]["frames"]
    assert got.shape == (4, 32, 32, 3)
    assert got[0, :, :15].min() > 225 and got[0, :, 17:].max() < 30


def test_rates(folder: Path) -> None:
    """Eight a second taken at four: every second frame; the clip lies inside the video."""
    clips = VideoClips(folder, 6, rates=(4,), size=(32, 32), as_bytes=True)
    for epoch in range(4):
        clip = clips[epoch, 0]
        shown = number(clip["frames"])
        assert np.diff(shown).tolist() == [2] * 5 and shown[0] == round(clip["start"] * 8)
        assert clip["fps"] == 4 and clip["native_fps"] == pytest.approx(8)
    assert len({clips[e, 0]["start"] for e in range(8)}) > 2
    assert {VideoClips(folder, 4, rates=(2, 4, 30), size=(32, 32))[e, 0]["fps"] for e in range(24)} == {2.0, 4.0, 8.0}
    assert {VideoClips(folder, 6, strides=(1, 4), size=(32, 32))[e, 0]["fps"] for e in range(24)} == {2.0, 8.0}
    # The whole video is 24 frames: the longest clip that fits begins with it.
    assert number(VideoClips(folder, 12, strides=(2,), size=(32, 32), as_bytes=True)[0]["frames"])[0] in (0, 1)
    assert number(VideoClips(folder, 24, size=(32, 32), as_bytes=True, start="middle")[0]["frames"]) == list(range(24))


def test_float_frames(folder: Path) -> None:
    one = VideoClips(folder, 3, size=(40, 24), start="first")[0]
    raw = VideoClips(folder, 3, size=(40, 24), start="first", as_bytes=True)[0]
    assert one["frames"].shape == (3, 3, 24, 40) and one["frames"].dtype == torch.float32
    assert torch.allclose(one["frames"][:, 1], torch.from_numpy(raw["frames"][1] / 127.5 - 1).permute(2, 0, 1).float())
    assert one["caption"] == "Clip a" and one["key"] == "a" and one["skipped"] == []


def test_the_same_for_a_seed(folder: Path) -> None:
    first, second = (VideoClips(folder, 4, rates=(2, 4, 8), size=(32, 32), crop="random", seed=3) for _ in range(2))
    order = [(0, 2), (1, 0), (0, 1), (1, 0)]
    assert all(_same(first[i], second[i]) for i in order) and all(_same(first[i], second[i]) for i in reversed(order))
    other = VideoClips(folder, 4, rates=(2, 4, 8), size=(32, 32), crop="random", seed=4)
    assert not all(_same(first[0, i], other[0, i]) for i in range(3))


def test_a_shard_is_as_its_folder(folder: Path, tmp_path: Path) -> None:
    files = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    packed = VideoClips(shard(tmp_path / "s.tar", files), 4, size=(32, 32))
    loose = VideoClips(folder, 4, size=(32, 32))
    assert [i.key for i in packed.items] == ["s/a", "s/b", "s/c"]
    assert all(torch.equal(packed[i]["frames"], loose[i]["frames"]) for i in range(3))


def test_broken_clips_are_told_and_replaced(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "d.mp4").write_bytes(b"no video at all")
    (tmp_path / "e.mp4").write_bytes(b"")
    write(tmp_path / "f.mp4", numbered(3))
    for name in "def":
        (tmp_path / f"{name}.txt").write_text("x")
    checked = VideoClips(tmp_path, 6, size=(32, 32))
    assert [i.key for i in checked.items] == ["a", "b", "c"]
    assert [line.partition(":")[0] for line in checked.broken] == ["d", "e", "f"]
    assert (
        "cannot be read" in checked.broken[0] and "empty" in checked.broken[1] and "0.75 s for 6" in checked.broken[2]
    )
    found_late = VideoClips(tmp_path, 6, size=(32, 32), check=False)
    stand_in = found_late[3]
    assert stand_in["key"] in "abc" and stand_in["skipped"][0].startswith("d: ")
    assert _same(stand_in, VideoClips(tmp_path, 6, size=(32, 32), check=False)[3])
    batches = Batches(found_late, 6)
    assert len(next(iter(batches))["key"]) == 6
    assert {line[0] for line in found_late.broken} == {"d", "e", "f"}


def test_a_video_that_breaks_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (item,) = items(path)
    with pytest.raises(InputError, match=r"breaks off|cannot be read|damaged"):
        decode(item, [4.5, 4.8], 8.0)


def test_nothing_left_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"all 3 clips.*at least 12\.50 s for 100 frames"):
        VideoClips(folder, 100)
    with pytest.raises(InputError, match="none of 3 clips passed"):
        VideoClips(folder, keep=lambda item: False)
    write(tmp_path / "a.mp4", numbered(20))
    with pytest.raises(InputError, match="a caption for every clip, 1 of 1 have none"):
        VideoClips(tmp_path, 4)
    with pytest.raises(InputError, match="none of 1 clips has a caption"):
        VideoClips(tmp_path, 4, missing="skip")
    assert VideoClips(tmp_path, 4, missing="empty")[0]["caption"] == ""
    with pytest.raises(SettingError, match="rates or strides"):
        VideoClips(folder, rates=(4,), strides=(1,))
    with pytest.raises(SettingError, match="centre, random"):
        VideoClips(folder, crop="left")


def test_buckets() -> None:
    found = buckets(256 * 256, 64, 2.0)
    assert (256, 256) in found and all(w * h <= 65536 and w % 64 == h % 64 == 0 and 0.5 <= w / h <= 2 for w, h in found)
    assert found[nearest((1920, 1080), found)] == (320, 192) and found[nearest((1000, 999), found)] == (256, 256)
    assert covering((100, 50), (40, 40)) == (80, 40)
    with pytest.raises(SettingError):
        buckets(10, 64)


def test_batches_of_one_size(folder: Path) -> None:
    clips = VideoClips(folder, 4, size=[(64, 48), (48, 64)])
    seen: dict[str, torch.Size] = {}
    batches = Batches(clips, 2)
    for batch in islice(batches, len(batches)):
        assert batch["frames"].shape[0] == 2 and batch["fps"].shape == (2,)
        seen |= dict.fromkeys(batch["key"], batch["frames"].shape[-2:])
    assert seen == {"a": (48, 64), "b": (64, 48), "c": (48, 64)}
    assert (batches.epoch, batches.step) == (1, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_where_it_stopped(folder: Path, workers: int) -> None:
    def clips() -> VideoClips:
        return VideoClips(folder, 4, rates=(4, 8), size=(32, 32), seed=5)

    whole = [(b["key"], b["frames"]) for b in islice(Batches(clips(), 1), 8)]
    first = Batches(clips(), 1, workers=workers)
    keys = [b["key"] for b in islice(first, 4)]
    later = Batches(clips(), 1)
    later.load_state_dict(first.state_dict())
    rest = [(b["key"], b["frames"]) for b in islice(later, 4)]
    assert keys + [k for k, _ in rest] == [k for k, _ in whole]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(rest, whole[4:], strict=True))
    with pytest.raises(InputError, match="seed 5"):
        Batches(VideoClips(folder, 4, seed=6), 1).load_state_dict(first.state_dict())


def test_processes_share_an_epoch(folder: Path) -> None:
    clips = VideoClips(folder, 4, size=(32, 32))
    plans = [Batches(clips, 1, rank=r, world=2).plan(0) for r in range(2)]
    assert len(plans[0]) == len(plans[1]) == 2
    assert {n for plan in plans for chunk in plan for _, n in chunk} == {0, 1, 2}


def test_data_leaves_other_randomness_alone(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(iter(Batches(VideoClips(folder, 4, size=(32, 32)), 1)))
    assert torch.equal(before, torch.get_rng_state())
