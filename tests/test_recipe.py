"""A recipe comes back from JSON as it was, and nothing else passes for one."""

import json
from dataclasses import MISSING, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivant.errors import InputError
from vivant.recipe import FORMAT, Recipe, absolute, check_same, picture_hash, versions


def recipe(**changes):
    values = dict(
        painting="/p.png", painting_sha256="a", prompt="clouds drift", model="miniature", weights_sha256="b", seed=42,
        frames=16, fps=8, steps=25, guidance=3.0, negative="", distil=0.6, distil_evaluations=None,
        curve="stepwise-decreasing", gain=0.7, blend="slerp", proxy="auto", proxy_sha256=None, mask=None,
        mask_sha256=None, strength=None, arrows=[[0.1, 0.2, 0.3, 0.4]], device="cpu", versions={"torch": "2.4"},
    )  # fmt: skip
    return Recipe(**{**values, **changes})


@given(
    prompt=st.text(),
    seed=st.integers(0, 2**63 - 1),
    strength=st.none() | st.floats(0, 1),
    gain=st.floats(0, 10),
    arrows=st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), max_size=3),
)
def test_round_trip(prompt, seed, strength, gain, arrows):
    made = recipe(prompt=prompt, seed=seed, strength=strength, gain=gain, arrows=arrows)
    assert Recipe.parse(json.loads(json.dumps(made.as_dict(), sort_keys=True))) == made


@pytest.mark.parametrize(
    "name", [f.name for f in fields(Recipe) if f.default is MISSING and f.default_factory is MISSING]
)
def test_every_entry_is_needed(name):
    data = recipe().as_dict()
    del data[name]
    with pytest.raises(InputError, match=f"'{name}'.*missing"):
        Recipe.parse(data)


def test_an_unknown_entry():
    with pytest.raises(InputError, match="'colour'"):
        Recipe.parse({**recipe().as_dict(), "colour": "red"})


@pytest.mark.parametrize("number", [0, FORMAT + 1, None, "1"])
def test_another_format(number):
    with pytest.raises(InputError, match="format"):
        Recipe.parse({**recipe().as_dict(), "format": number})


def test_no_format_at_all():
    with pytest.raises(InputError, match="format"):
        Recipe.parse({})


def test_the_hash_sees_pixels_shape_and_type():
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    changed = picture.copy()
    changed[3, 3, 2] += 1
    hashes = [picture_hash(p) for p in (picture, changed, picture.reshape(2, 8, 3), picture.view(np.int8), None)]
    assert len(set(hashes)) == 5 and hashes[-1] is None
    assert picture_hash(np.asfortranarray(picture)) == hashes[0]


def test_check_same():
    picture = np.zeros((4, 4, 3), np.uint8)
    check_same("painting", "/p.png", picture_hash(picture), picture)
    check_same("mask", "/m.png", None, None)
    for want, got in ((picture_hash(picture), picture + 1), (None, picture), (picture_hash(picture), None)):
        with pytest.raises(InputError, match=r"/p\.png.*changed"):
            check_same("painting", "/p.png", want, got)


def test_paths_are_absolute_and_memory_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("a.png") == str(tmp_path.resolve() / "a.png")
    assert absolute(np.zeros(3)) == "<memory>"


def test_versions_that_decide_the_bytes():
    assert set(versions()) >= {"vivant", "torch", "numpy", "av", "pillow"} and all(versions().values())


def test_a_recipe_from_before_loops_and_sizes_means_none_of_both():
    data = recipe().as_dict()
    del data["loop"], data["size"]
    assert (Recipe.parse(data).loop, Recipe.parse(data).size) == (False, "native")


@pytest.mark.parametrize("change", [
    {"seed": "x"}, {"steps": None}, {"painting": 5}, {"painting": None}, {"arrows": [[1]]}, {"arrows": "abc"}, {"loop": 1},
    {"regions": [{}]}, {"regions": 5}, {"versions": None}, {"versions": {"torch": 5}}, {"model_size": [1]}, {"seed": True},
    {"regions": [{"mask": 5, "mask_sha256": "", "prompt": "", "strength": None, "feather": None, "arrows": []}]},
])  # fmt: skip
def test_entries_of_another_kind_are_refused(change):
    data = json.loads(json.dumps(recipe(model_size=[64, 64]).as_dict()))
    with pytest.raises(InputError, match=r"expected .* in the recipe as vivant writes it"):
        Recipe.parse({**data, **change})
    region = {
        "mask": "a.png",
        "mask_sha256": "",
        "prompt": "x",
        "strength": 1,
        "feather": "2%",
        "arrows": [[0, 0, 1, 1]],
    }
    assert Recipe.parse({**data, "regions": [region], "guidance": 3}).guidance == 3
