"""Configurations: what is read, what is refused, and how the refusal reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from vivant.errors import SettingError
from vivant.train.config import SHIPPED, Data, Loop, as_plain, read
from vivant.train.recipes import animate_anything, dynamicrafter

KINDS = {"animate_anything": animate_anything.Config, "dynamicrafter": dynamicrafter.Config}


def test_a_file_and_changes_make_a_record(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: animate-anything\nloop: {steps: 5, rate: 1e-4, precision: no}\ndata: {size: [64, 32]}\n")
    told = read(animate_anything.Config, path, ["loop.steps=7", "held_out=3", "data.rates=[4, 8.5]", "cache=here"])
    assert (told.loop.steps, told.loop.rate, told.loop.precision) == (7, 1e-4, "no")
    assert (told.data.size, told.data.held_out, told.data.rates, told.data.cache) == (
        (64, 32),
        3,
        (4.0, 8.5),
        Path("here"),
    )
    assert told.loop.batch == Loop().batch
    assert read(animate_anything.Config, path, ["cache="]).data.cache is None
    assert as_plain(told)["data"]["size"] == [64, 32]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_sound(path: Path) -> None:
    recipe, _, name = path.stem.rpartition("_")
    told = read(KINDS[recipe], name, (), recipe.replace("_", "-"))  # type: ignore[arg-type]
    assert told == read(KINDS[recipe], path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("steps=many", "expected a whole number for loop.steps, got 'many'"),
        ("steps=1.5", "expected a whole number for loop.steps, got 1.5"),
        ("steps=0", "loop: expected steps above 0, got 0"),
        ("average=1", "from 0 to below 1, got 1"),
        ("micro=9", "loop: expected micro of at most batch, 8, got 9"),
        ("checkpointing=maybe", "expected true or false for loop.checkpointing, got 'maybe'"),
        ("precision=fp8", "expected loop.precision among no, bf16, fp16, got 'fp8'"),
        ("loop.stepz=4", "known key, got 'loop.stepz'; did you mean loop.steps?"),
        ("size=[1, 2, 3]", r"expected 2 values for data.size, got [1, 2, 3]"),
        ("size=[60, 64]", "multiples of 8"),
        ("steps", "expected key=value, got 'steps'"),
        ("trained=[1", "expected a value like"),
        ("data=4", "known key, got 'data'"),
        ("model.text_drop=2", "model: expected text_drop between 0 and 1, got 2"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(animate_anything.Config, None, [change])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def refused(text: str) -> str:
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(SettingError) as caught:
            read(animate_anything.Config, tmp_path / "a.yaml", (), "animate-anything")
        return str(caught.value)

    assert "got one of dynamicrafter" in refused("recipe: dynamicrafter")
    assert "known key, got loop.stps; did you mean steps?" in refused("loop: {stps: 3}")
    assert "keys and values under loop" in refused("loop: 3")
    assert "a list" in refused("[1, 2]") and "got 'word'" in refused("word")
    for nothing in ("", "# a remark", "{}", "~"):
        assert "the file is empty" in refused(nothing)
    assert "expected YAML" in refused("a: [")
    with pytest.raises(SettingError, match="one of full, lora, tiny, got 'tin'"):
        read(animate_anything.Config, "tin", (), "animate-anything")
    with pytest.raises(SettingError, match="expected a configuration at"):
        read(animate_anything.Config, tmp_path / "none.yaml")


def test_a_key_that_two_places_have_must_say_which() -> None:
    with pytest.raises(SettingError, match=r"one key, frames? may be|known key"):
        read(animate_anything.Config, None, ["nothing=1"])
    with pytest.raises(SettingError, match=r"rates or data\.strides"):
        Data(rates=(8.0,), strides=(2,))
    with pytest.raises(SettingError, match="ends=true"):
        dynamicrafter.Model(stage="adapt", ends=True)
