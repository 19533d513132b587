"""Every kind of picture comes in as sRGB, or is refused in one line."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vivant.errors import ImageError
from vivant.images import load_mask, load_painting, load_proxy


@pytest.fixture
def picture():
    x = np.linspace(0, 255, 48).astype(np.uint8)
    return np.stack([np.tile(x, (32, 1)), np.full((32, 48), 90, np.uint8), np.tile(x[::-1], (32, 1))], -1)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "png"), ("L", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "png"), ("LA", "png")],
)
def test_modes(tmp_path, picture, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture).convert("RGB").convert("L" if mode in ("LA", "1") else "RGB").convert(mode).save(path)
    out = load_painting(path)
    assert out.shape == (32, 48, 3) and out.dtype == np.uint8
    assert out.std() > 10
    if mode in ("RGB", "RGBA"):
        assert (out == picture).all()


def test_sixteen_bits_keep_their_tones(tmp_path, picture):
    deep = picture[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.abs(load_painting(tmp_path / "deep.png")[..., 1].astype(int) - picture[..., 0]).max() <= 1


def test_alpha_lies_over_white(tmp_path):
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (load_painting(tmp_path / "a.png") == 255).all()


def test_exif_rotation(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert load_painting(tmp_path / "a.png").shape == (48, 32, 3)


def test_a_profile_is_converted(tmp_path, picture):
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=lab)
    assert np.abs(load_painting(tmp_path / "a.png").astype(int) - picture).max() <= 2
    Image.fromarray(picture).save(tmp_path / "b.png", icc_profile=b"not a profile")
    assert (load_painting(tmp_path / "b.png") == picture).all()


def test_refusals(tmp_path, picture):
    def bad(name, data, words):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ImageError, match=words) as caught:
            load_painting(path)
        assert "\n" not in str(caught.value)

    Image.fromarray(picture).save(tmp_path / "ok.png")
    whole = (tmp_path / "ok.png").read_bytes()
    bad("none.png", None, "no such file")
    bad("empty.png", b"", "empty")
    bad("text.png", b"hello, this is not a picture at all", "not known")
    bad("cut.png", whole[: len(whole) // 2], "damaged")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    bad("one.png", None, "at least")
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bad("bomb.png", whole[:8] + chunk + whole[33:], "at most")
    with pytest.raises(ImageError, match="folder"):
        load_painting(tmp_path)


def test_masks_and_proxies(tmp_path, picture):
    mask = np.zeros((32, 48), np.uint8)
    mask[:, 24:] = 255
    Image.fromarray(mask).resize((96, 64), Image.Resampling.NEAREST).save(tmp_path / "m.png")
    out = load_mask(tmp_path / "m.png", (48, 32))
    assert out.shape == (32, 48) and out[:, :20].max() == 0 and out[:, 30:].min() == 1
    with pytest.raises(ImageError, match="shape"):
        load_mask(mask, (32, 48))
    with pytest.raises(ImageError, match="all-black"):
        load_mask(np.zeros((32, 48), np.uint8), (48, 32))
    assert load_proxy(np.repeat(np.repeat(picture, 2, 0), 2, 1), picture).shape == picture.shape
    with pytest.raises(ImageError, match="proxy"):
        load_proxy(np.zeros((40, 40, 3), np.uint8), picture)
