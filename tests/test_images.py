"""Every kind of picture comes in as sRGB, or is refused in one line."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vivant.errors import ImageError, SettingError
from vivant.images import load_mask, load_painting, load_proxy, resized


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


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path):
    Image.new("RGB", (32, 24), (200, 60, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(load_painting(tmp_path / "a.jpg").astype(int) - (200, 60, 30)).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(tmp_path, picture, orientation):
    flip, turn = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose
    ways = {1: (), 2: (flip,), 3: (turn.ROTATE_180,), 4: (turn.FLIP_TOP_BOTTOM,), 5: (turn.TRANSPOSE,),
            6: (turn.ROTATE_90,), 7: (turn.TRANSVERSE,), 8: (turn.ROTATE_270,)}  # fmt: skip
    stored = Image.fromarray(picture)
    for way in ways[orientation]:
        stored = stored.transpose(way)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert (load_painting(tmp_path / "a.png") == picture).all()


def profile(gamma, primaries):
    """A small matrix profile (ICC 2.1): one gamma and the primaries' XYZ (D50) for red, green and blue."""

    def xyz(values):
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))

    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"desc": text, b"cprt": b"text" + bytes(4) + b"none", b"wtpt": xyz((0.9642, 1, 0.8249))}
    tags |= {name: xyz(p) for name, p in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    tags |= {name: curve for name in (b"rTRC", b"gTRC", b"bTRC")}
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


# In linear light, Adobe RGB to sRGB is R = 1.3984·r - 0.3984·g: (150, 100, 100) at gamma 2.2 gives 0.384, which is 167.
WIDE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""the primaries of Adobe RGB (1998), adapted to D50"""


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_wide_gamut_becomes_srgb(tmp_path, suffix):
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    for colour, want in (
        ((150, 100, 100), (167, 100, 100)),
        ((128, 128, 128), (128, 128, 128)),
        ((0, 255, 0), (0, 255, 0)),
    ):
        path = tmp_path / f"a.{suffix}"
        Image.new("RGB", (24, 24), colour).save(path, icc_profile=profile(2.2, WIDE), **options)
        assert np.abs(load_painting(path).astype(int) - want).max() <= 3


def test_a_wide_gamut_survives_alpha_and_palette(tmp_path):
    plain = Image.new("RGB", (24, 24), (150, 100, 100))
    for picture in (plain.convert("RGBA"), plain.quantize(4)):
        picture.save(tmp_path / "a.png", icc_profile=profile(2.2, WIDE))
        assert np.abs(load_painting(tmp_path / "a.png").astype(int) - (167, 100, 100)).max() <= 3


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_a_float_tiff(tmp_path, picture, top):
    Image.fromarray(picture[..., 0].astype(np.float32) / 255 * top).save(tmp_path / "a.tif")
    assert np.abs(load_painting(tmp_path / "a.tif")[..., 2].astype(int) - picture[..., 0]).max() <= 1


def test_a_picture_that_is_not_a_number_everywhere(tmp_path, picture):
    values = picture[..., 0].astype(np.float32) / 255
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    out = load_painting(tmp_path / "a.tif")
    assert out[0, 0].max() == 0 and np.abs(out[1:, :, 0].astype(int) - picture[1:, :, 0]).max() <= 1


def test_a_transparent_palette_lies_over_white(tmp_path):
    image = Image.new("P", (20, 20), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(1, (0, 0, 10, 20))
    image.save(tmp_path / "a.png", transparency=0)
    out = load_painting(tmp_path / "a.png")
    assert (out[:, :10] == (40, 50, 60)).all() and (out[:, 10:] == 255).all()


def test_names_that_are_no_files():
    for name in ("a" * 300 + ".png", "a\0b.png"):
        with pytest.raises(ImageError):
            load_painting(name)


@pytest.mark.parametrize("array", [np.zeros((0, 20, 3), np.uint8), np.zeros((20, 20, 2), np.uint8), np.zeros((20, 20, 3)), np.zeros(9, np.uint8)])  # fmt: skip
def test_arrays_of_another_kind(array):
    with pytest.raises(ImageError, match="expected"):
        load_painting(array)


@given(st.integers(1, 40), st.integers(1, 40))
def test_any_size_comes_in_as_it_is_or_is_refused(width, height):
    array = np.random.default_rng(width * 41 + height).integers(0, 256, (height, width, 3), np.uint8)
    if min(width, height) < 16:
        with pytest.raises(ImageError, match=f"got {width}×{height}"):
            load_painting(array)
    else:
        assert (load_painting(array) == array).all()


@given(st.integers(16, 120), st.integers(16, 120), st.integers(16, 120), st.integers(16, 120))
def test_masks_and_proxies_fit_or_are_refused(width, height, other_width, other_height):
    painting = np.full((height, width, 3), 90, np.uint8)
    mask = np.full((other_height, other_width), 255, np.uint8)
    proxy = np.full((other_height, other_width, 3), 40, np.uint8)
    if abs(other_width * height / (other_height * width) - 1) <= 0.02:
        assert (load_mask(mask, (width, height)) == 1).all()
        fitted = load_proxy(proxy, painting)
        assert fitted.shape == painting.shape and (fitted == 40).all()
    else:
        for call in (lambda: load_mask(mask, (width, height)), lambda: load_proxy(proxy, painting)):
            with pytest.raises(ImageError, match=f"{width}×{height}.*got {other_width}×{other_height}"):
                call()


@pytest.mark.parametrize("kind", [bool, np.float32, np.uint8, np.uint16])
def test_masks_of_every_kind_say_the_same(kind):
    half = np.zeros((32, 48))
    half[:, 24:] = 1
    scale = {np.uint8: 255, np.uint16: 65535}.get(kind, 1)
    out = load_mask((half * scale).astype(kind), (48, 32))
    assert out.dtype == np.float32 and (out == half).all()


@pytest.mark.parametrize(
    ("asked", "got"), [("native", (61, 40)), ("122x80", (122, 80)), ("122", (122, 80)), ("31X20", (32, 20))]
)
def test_a_size_is_kept_to(asked, got):
    painting = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    assert resized(painting, asked).shape[1::-1] == got


@pytest.mark.parametrize("asked", ["", "big", "100x", "-3x4", "100x100", "8", "99999999", "99999x65573", "0"])
def test_a_size_that_cannot_be(asked):
    with pytest.raises(SettingError, match="expected"):
        resized(np.zeros((40, 61, 3), np.uint8), asked)
