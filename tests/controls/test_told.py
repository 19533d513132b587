"""Regions as the command line writes them."""

import numpy as np
import pytest

from vivant.controls.told import Told, region, regions, whole
from vivant.errors import InputError, SettingError
from vivant.shot import Arrow


def test_a_region_in_one_line():
    assert region(
        "mask=a.png; prompt=Clouds drift; strength=.4; arrow=0.2,0.3:0.5,0.3; arrow=.1,.1:.2,.2; feather=2%"
    ) == Told("a.png", "Clouds drift", 0.4, (Arrow(0.2, 0.3, 0.5, 0.3), Arrow(0.1, 0.1, 0.2, 0.2)), "2%")
    assert region("prompt='Water; it ripples';mask=0.1,0.2,0.5,0.9") == Told("0.1,0.2,0.5,0.9", "Water; it ripples")
    assert region("mask=[[0,0],[1,0],[1,1]]; prompt=It's a bird = it flies;") == Told(
        "[[0,0],[1,0],[1,1]]", "It's a bird = it flies"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mask=a.png", "expected prompt="),
        ("prompt=sky", "expected mask="),
        ("", "expected mask="),
        ("mask=a.png; prompt=sky; speed=3", "expected a region like"),
        ("mask=a.png; prompt", "expected a region like"),
        ("mask=a.png; mask=b.png; prompt=x", "mask once"),
        ("mask=a.png; prompt=x; strength=much", "strength between 0 and 1"),
        ("mask=a.png; prompt=x; arrow=up", "expected an arrow"),
    ],
)
def test_what_is_no_region_is_one_line(text, said):
    with pytest.raises(SettingError, match=said) as caught:
        region(text)
    assert "\n" not in str(caught.value)


def test_regions_are_read_at_the_paintings_size_and_named_by_number():
    one, two = regions(["mask=0,0,0.5,1; prompt=a", Told("0.5,0,1,1", "b", 0.3, feather=2)], (40, 20))
    assert one.prompt == "a" and one.controls.mask.sum() == 400 and one.controls.strength is None
    assert two.controls.strength == 0.3 and 0 < two.controls.mask.sum() < 400
    assert regions([one], (40, 20)) == (one,)
    for bad in ("mask=0,0,0,1; prompt=a", "mask=0,0,2,1; prompt=a", "mask=0,0,1,1; prompt=a; strength=3"):
        with pytest.raises(InputError, match=r"^region 2: "):
            regions([one, bad], (40, 20))


def test_without_a_sentence_for_all_nothing_moves_but_the_regions():
    told = regions(["mask=0,0,0.5,1; prompt=Clouds drift.", "mask=0.75,0,1,1; prompt=Water ripples"], (40, 20))
    prompt, mask = whole("", None, told)
    assert prompt == "Clouds drift; Water ripples"
    assert np.array_equal(mask, np.maximum(told[0].controls.mask, told[1].controls.mask))
    assert whole("Birds fly", "m.png", told) == ("Birds fly", "m.png") and whole("", None, ()) == ("", None)
