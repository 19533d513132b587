"""Files come out whole, of the right format, with the recipe inside, or not at all."""

import av
import numpy as np
import pytest
from PIL import Image

from vivant.errors import OutputError
from vivant.render.export import check_target, contact_sheet, export, read_recipe, spare

RECIPE = '{"prompt": "nuages — 雲", "format": 1}'


@pytest.fixture
def frames():
    y, x = np.mgrid[0:33, 0:47]
    return [np.stack([x * 5 + i * 3, y * 7, 200 - x * 3], -1).clip(0, 255).astype(np.uint8) for i in range(6)]


def test_mp4(tmp_path, frames):
    path = export(iter(frames), tmp_path / "a.mp4", 24, RECIPE)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        decoded = [f.reformat(format="rgb24", src_colorspace=1).to_ndarray() for f in file.decode(video=0)]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.codec_context.colorspace, stream.codec_context.color_primaries) == (1, 1)
        assert float(stream.average_rate) == 24
    assert len(decoded) == 6 and decoded[0].shape == (34, 48, 3)
    error = np.abs(decoded[3][:33, :47].astype(int) - frames[3])
    assert error.mean() < 4
    assert read_recipe(path)["prompt"] == "nuages — 雲"


def test_prores(tmp_path, frames):
    path = export(iter(frames), tmp_path / "a.mov", 24, RECIPE)
    with av.open(str(path)) as file:
        seen = file.streams.video[0].codec_context
        decoded = [f.reformat(format="rgb24", src_colorspace=1).to_ndarray() for f in file.decode(video=0)]
        assert (seen.name, seen.pix_fmt, seen.colorspace, seen.color_range) == ("prores", "yuv444p12le", 1, 1)
    assert len(decoded) == 6
    assert np.abs(decoded[3][:33, :47].astype(int) - frames[3]).mean() < 1  # MP4's is above 1
    assert read_recipe(path)["prompt"] == "nuages — 雲"


def test_ffv1_keeps_every_pixel(tmp_path, frames):
    path = export(iter(frames), tmp_path / "a.mkv", 24, RECIPE)
    with av.open(str(path)) as file:
        decoded = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    np.testing.assert_array_equal(decoded, frames)
    assert read_recipe(path)["prompt"] == "nuages — 雲"


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_same_frames_same_bytes(tmp_path, frames, name):
    files = [export(iter(frames), tmp_path / f"{i}{name}", 24, RECIPE) for i in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.apng", "a.png"])
def test_animations(tmp_path, frames, name):
    path = export(iter(frames), tmp_path / name, 10, RECIPE)
    with Image.open(path) as image:
        assert image.n_frames == 6 and image.size == (47, 33)
        image.seek(4)
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - frames[4]).mean() < (0.01 if "png" in name else 12)
    assert read_recipe(path)["prompt"] == "nuages — 雲"


def test_folder(tmp_path, frames):
    path = export(iter(frames), tmp_path / "out", 10, RECIPE)
    assert len(list(path.glob("frame_*.png"))) == 6 and read_recipe(path)["format"] == 1
    export(iter(frames[:2]), path, 10, RECIPE)
    assert len(list(path.glob("frame_*.png"))) == 2


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.webp", "a.apng", "out"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_nothing_half_written(tmp_path, frames, name, error):
    def broken():
        yield from frames[:3]
        raise error(28, "No space left on device")

    if name != "out":
        (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(OutputError if error is OSError else KeyboardInterrupt):
        export(broken(), tmp_path / name, 10, RECIPE)
    assert [p.name for p in tmp_path.iterdir()] == ([] if name == "out" else [name])
    assert name == "out" or (tmp_path / name).read_bytes() == b"mine"


def test_targets_that_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diary.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name, words in (
        ("a.xyz", "ending in"),
        ("no/a.mp4", "there is none"),
        ("other", "other files"),
        ("file", "in the way"),
    ):
        with pytest.raises(OutputError, match=words):
            check_target(tmp_path / name)
    with pytest.raises(OutputError, match="no recipe"):
        read_recipe(tmp_path / "file")


def test_contact_sheet(tmp_path, frames):
    with Image.open(contact_sheet(frames[:5], tmp_path / "s.png", width=94)) as image:
        assert image.size == (282, 132)


def test_what_a_result_is_made_from_is_not_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save("mask.png")
    (tmp_path / "other.png").symlink_to(tmp_path / "mask.png")
    for made_from in ("mask.png", tmp_path / "mask.png", "mask.png#ff0000", "mask.png##ff0000"[:8], "other.png"):
        with pytest.raises(OutputError, match="expected another name for the result"):
            spare(tmp_path / "mask.png", None, "auto", made_from)
    spare(tmp_path / "new.png", "mask.png", None, np.zeros(3), "0.1,0.2,0.3,0.4", "", "a\0b")


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[1]", "\xff"])
def test_recipes_that_are_none(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text, "latin-1")
    with pytest.raises(OutputError, match="expected a ") as found:
        read_recipe(tmp_path)
    assert "NoneType" not in str(found.value)
