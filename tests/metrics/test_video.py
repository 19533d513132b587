"""Every kind of file a clip may come in, and every way it may be broken."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.metrics import made
from vivant.errors import InputError
from vivant.metrics.video import first_frames, read_video
from vivant.render.export import export


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return made.carried(made.painting(), 7, 3.0)


def encode(path: Path, frames: np.ndarray, pts: list[int] | None = None, fmt: str = "yuv420p", codec: str = "libx264",
           options: dict[str, str] | None = None) -> Path:  # fmt: skip
    with av.open(str(path), "w", options=options or {}) as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], fmt
        stream.codec_context.time_base = Fraction(1, 100)
        if codec == "libx264":
            stream.options = {"crf": "8", "bf": "0"}
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
            frame.pts, frame.time_base = (pts[i] if pts else 10 * i), Fraction(1, 100)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.mark.parametrize(("name", "error"), [("a.mp4", 6), ("a.gif", 14), ("a.webp", 6), ("a.apng", 0), ("folder", 0)])
def test_every_export_is_read_back(name: str, error: float, frames: np.ndarray, tmp_path: Path) -> None:
    path = export(list(frames), tmp_path / name, 10)
    video = read_video(path)
    assert video.frames.shape == frames.shape and video.frames.dtype == np.uint8
    assert np.abs(video.frames.astype(int) - frames).mean() <= error
    assert video.fps == pytest.approx(8 if name == "folder" else 10)
    assert video.times[0] == 0 and (np.diff(video.times) > 0).all() and not video.variable and not video.cut


@pytest.mark.parametrize("size", [(144, 192), (720, 1280)])
def test_flat_colours_come_back(size: tuple[int, int], tmp_path: Path) -> None:
    """Through the exporter's BT.709, small and large."""
    flat = np.zeros((2, *size, 3), np.uint8)
    flat[:] = (200, 60, 30)
    video = read_video(export(list(flat), tmp_path / "a.mp4", 10))
    assert np.abs(video.frames.astype(int) - flat).max() <= 3


def test_parts_and_sizes(frames: np.ndarray, tmp_path: Path) -> None:
    path = export(list(frames), tmp_path / "a.mp4", 10)
    some = read_video(path, most=3, side=96)
    assert some.frames.shape == (3, 72, 96, 3) and some.cut and some.size == (96, 72)
    assert not read_video(path, most=7).cut
    assert len(first_frames(read_video(path), 5)) == 5
    with pytest.raises(InputError, match="at least 8 frames"):
        first_frames(read_video(path), 8)
    with pytest.raises(InputError, match="at least 1"):
        read_video(path, most=0)


def test_variable_rate(frames: np.ndarray, tmp_path: Path) -> None:
    pts = [0, 10, 20, 60, 70, 120, 130]
    video = read_video(encode(tmp_path / "v.mp4", frames, pts))
    assert np.allclose(video.times, np.array(pts) / 100, atol=1e-3)
    assert video.variable and video.fps == pytest.approx(6 / 1.3, rel=1e-3)


def test_grey_and_other_codecs(frames: np.ndarray, tmp_path: Path) -> None:
    grey = frames.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)
    video = read_video(encode(tmp_path / "g.mkv", grey, fmt="gray", codec="ffv1"))
    assert np.array_equal(video.frames, grey)
    video = read_video(encode(tmp_path / "m.avi", frames, fmt="yuvj420p", codec="mjpeg"))
    assert np.abs(video.frames.astype(int) - frames).mean() < 12
    Image.fromarray(grey[0, ..., 0]).save(tmp_path / "one.png")
    assert np.array_equal(read_video(tmp_path / "one.png").frames[0], grey[0])


def test_folders(frames: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for i in (2, 10, 1):
        Image.fromarray(frames[i % 7]).save(folder / f"frame{i}.png")
    (folder / "recipe.json").write_text("{}")
    assert np.array_equal(read_video(folder).frames, frames[[1, 2, 3]])
    Image.fromarray(frames[0, :50]).save(folder / "frame11.png")
    with pytest.raises(InputError, match=r"frame11\.png is 192×50"):
        read_video(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        read_video(tmp_path / "empty")


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.apng"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated(name: str, share: float, frames: np.ndarray, tmp_path: Path) -> None:
    path = export(list(frames), tmp_path / name, 10)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError) as caught:
        read_video(path)
    assert str(caught.value).startswith("expected") and "\n" not in str(caught.value)


def test_truncated_before_its_index(frames: np.ndarray, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", frames)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"cannot be read|found none"):
        read_video(path)


def test_refusals(frames: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all, only words " * 50)
    with av.open(str(tmp_path / "sound.wav"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
        file.mux(stream.encode())
    for name, word in [
        ("empty.mp4", "empty"),
        ("text.mp4", "cannot be read"),
        ("sound.wav", "only sound"),
        ("no.mp4", "no such"),
    ]:
        with pytest.raises(InputError, match=word):
            read_video(tmp_path / name)


def test_no_frames(frames: np.ndarray, tmp_path: Path) -> None:
    """A header with a picture track in it, and nothing behind."""
    with av.open(str(tmp_path / "none.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        file.start_encoding()
    with pytest.raises(InputError, match="found none in it"):
        read_video(tmp_path / "none.mkv")


def test_too_much(monkeypatch: pytest.MonkeyPatch, frames: np.ndarray, tmp_path: Path) -> None:
    path = export(list(frames), tmp_path / "a.apng", 10)
    monkeypatch.setattr("vivant.metrics.video.MAX_BYTES", 3 * frames[0].nbytes)
    with pytest.raises(InputError, match="GiB of frames"):
        read_video(path)
    assert len(read_video(path, most=2).frames) == 2


def test_turned(frames: np.ndarray, tmp_path: Path) -> None:
    """A display matrix that turns to the right, as telephones write it, written into the track's header."""
    path = encode(tmp_path / "t.mp4", frames)
    upright = read_video(path).frames
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    assert np.array_equal(read_video(path).frames, np.rot90(upright, -1, (1, 2)))
