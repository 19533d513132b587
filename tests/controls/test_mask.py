"""Every way of giving a mask, against the same area in another way; what is no mask is one line."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vivant.controls import mask
from vivant.errors import ImageError, InputError, SettingError

SIZE = (40, 20)
BOX = (0.25, 0.25, 0.75, 0.75)


@pytest.fixture
def area():
    expected = np.zeros((20, 40), np.float32)
    expected[5:15, 10:30] = 1
    return expected


def test_every_form_gives_the_same_mask(tmp_path, area):
    white = (area * 255).astype(np.uint8)
    Image.fromarray(white).save(tmp_path / "painted.png")
    layer = np.dstack([np.full_like(white, 255)] * 3 + [white])
    Image.fromarray(layer, "RGBA").save(tmp_path / "layer.png")
    coloured = np.where(area[..., None] > 0, [255, 0, 0], [0, 0, 255]).astype(np.uint8)
    Image.fromarray(coloured).save(tmp_path / "colours.png")
    palette = Image.fromarray((area * 3).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 9, 9, 9, 8, 8, 8, 200, 0, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray((area * 3).astype(np.uint8)).save(tmp_path / "grey.png")
    corners = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]
    (tmp_path / "shapes.json").write_text(
        json.dumps({"polygons": {"boat": corners, "sky": [[0, 0], [1, 0], [1, 0.1]]}})
    )
    (tmp_path / "shapes.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 80 40">'
        '<rect id="boat" x="20" y="10" width="40" height="20"/><circle id="sun" cx="4" cy="4" r="3"/></svg>'
    )
    forms = [
        tmp_path / "painted.png", tmp_path / "layer.png", f"{tmp_path}/colours.png#ff0000",
        f"{tmp_path}/colours.png#red", f"{tmp_path}/colours.png##f00", f"{tmp_path}/palette.png#3",
        f"{tmp_path}/grey.png#3", f"{tmp_path}/shapes.json#boat", f"{tmp_path}/shapes.svg#boat", "0.25,0.25,0.75,0.75",
        "[0.25, 0.25, 0.75, 0.75]", list(BOX), json.dumps(corners), [corners], white, Image.fromarray(white),
    ]  # fmt: skip
    for form in forms:
        given_mask = mask.read(form, SIZE)
        assert given_mask.dtype == np.float32 and given_mask.shape == (20, 40)
        assert np.array_equal(given_mask, area), form


def test_sizes_are_fitted_and_other_shapes_refused(tmp_path, area):
    Image.fromarray((area * 255).astype(np.uint8)).resize((120, 60), Image.Resampling.NEAREST).save(
        tmp_path / "large.png"
    )
    assert np.abs(mask.read(tmp_path / "large.png", SIZE) - area).mean() < 0.02
    labels = np.where(area[..., None] > 0, [255, 0, 0], [0, 0, 255]).astype(np.uint8).repeat(3, 0).repeat(3, 1)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    assert np.array_equal(mask.read(f"{tmp_path}/labels.png#red", SIZE), area)
    for source in (tmp_path / "large.png", f"{tmp_path}/labels.png#red"):
        with pytest.raises(ImageError, match="shape"):
            mask.read(source, (40, 40))


def test_feather_softens_inwards_only(area):
    soft = mask.read(BOX_TEXT, SIZE, 4)
    assert np.all(soft[area == 0] == 0) and soft.max() == 1 and 0 < soft[5, 15] < 0.5
    assert np.all(np.diff(soft[10, 9:15]) >= 0)
    assert np.array_equal(mask.read(BOX_TEXT, SIZE, "10%"), soft)  # of the longer side, 40
    assert np.array_equal(mask.read(BOX_TEXT, SIZE, 0), area)


BOX_TEXT = "0.25,0.25,0.75,0.75"


@pytest.mark.parametrize(
    ("given_feather", "pixels"),
    [("12", 12), (12, 12), ("12px", 12), ("2%", 20), (0.02, 20), (None, 0), ("0", 0), (1.0, 1)],
)
def test_feathers_in_pixels_and_shares(given_feather, pixels):
    assert mask.radius(given_feather, (1000, 400)) == pytest.approx(pixels)


@pytest.mark.parametrize("bad", ["wide", "-3", "70%", "2 cm", 900, "nan"])
def test_feathers_that_are_none(bad):
    with pytest.raises(SettingError, match="feather"):
        mask.radius(bad, (1000, 400))


edge = st.floats(0, 1, allow_nan=False)


@given(st.tuples(edge, edge, edge, edge))
@settings(max_examples=50, deadline=None)
def test_a_box_and_its_polygon_are_one(corners):
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    if x1 - x0 < 1e-6 or y1 - y0 < 1e-6:
        with pytest.raises(InputError):
            mask.read(f"{x0!r},{y0!r},{x0!r},{y1!r}", SIZE)
        return
    try:
        one = mask.read(f"{x0!r},{y0!r},{x1!r},{y1!r}", SIZE)
    except ImageError as error:
        assert "covers none" in str(error)
        return
    assert np.array_equal(one, mask.read([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], SIZE))
    # Its shares tell the box again: written down and read back, nothing is lost but what 8 bits cannot say.
    again = mask.read(np.rint(one * 255).astype(np.uint8), SIZE)
    assert np.abs(again - one).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("0.5,0.5,0.5,0.9", "of no size"),
        ("0.9,0.1,0.2,0.3", "of no size"),
        ("0.1,0.2,1.5,0.9", "inside the picture"),
        ("nan,0,1,1", "box"),
        ("[[0,0],[1,0],[2,1]]", "inside the picture"),
        ("[[0,0],[0,0],[0,0]]", "covers none"),
        ("[[0,0],[1,0]", "polygon such as"),
        ("[]", "at least one polygon"),
        ("[0.1,0.2,0.3]", "expected polygons"),
        ("nowhere.png", "no such file"),
        ("nowhere.svg#boat", "cannot be read"),
        (np.zeros((20, 40), np.uint8), "all-black"),
    ],
)
def test_what_is_no_mask_is_one_line(source, said):
    with pytest.raises(InputError, match=said) as caught:
        mask.read(source, SIZE)
    assert "\n" not in str(caught.value)


def test_labels_that_are_not_there_name_those_that_are(tmp_path):
    Image.fromarray(np.full((20, 40, 3), (0, 0, 255), np.uint8)).save(tmp_path / "blue.png")
    with pytest.raises(ImageError, match="found 0000ff"):
        mask.read(f"{tmp_path}/blue.png#ff0000", SIZE)
    with pytest.raises(ImageError, match="expected a label such as"):
        mask.read(f"{tmp_path}/blue.png#nocolour", SIZE)
    with pytest.raises(ImageError, match="palette or grey"):
        mask.read(f"{tmp_path}/blue.png#3", SIZE)
    black = tmp_path / "black.png"
    Image.new("L", SIZE).save(black)
    with pytest.raises(ImageError, match="all-black"):
        mask.read(black, SIZE)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ImageError, match=r"bad\.json"):
        mask.read(tmp_path / "bad.json", SIZE)


def test_a_feather_wider_than_the_mask_is_refused():
    with pytest.raises(SettingError, match="narrower"):
        mask.read("0.5,0.5,0.55,0.55", (100, 100), 40)


def test_recipes_name_a_mask_by_text_that_reads_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mask.spelled("a.png#sky") == f"{tmp_path}/a.png#sky"
    assert mask.spelled(BOX_TEXT) == BOX_TEXT and mask.spelled("[[0,0],[1,0],[1,1]]") == "[[0,0],[1,0],[1,1]]"
    assert mask.spelled(np.zeros((2, 2))) == "<memory>"
    assert np.array_equal(mask.read(mask.spelled(list(BOX)), SIZE), mask.read(list(BOX), SIZE))
    (tmp_path / "odd#name.png").write_bytes(b"")
    assert mask.spelled("odd#name.png") == f"{tmp_path}/odd#name.png"
