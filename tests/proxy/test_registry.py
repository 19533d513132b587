"""The makers by name, and the way of a proxy through the pipeline and the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vivant
from tests.proxy import tiny
from vivant.cli import app, run
from vivant.data.scenes import sample
from vivant.errors import ImageError, OutputError, SettingError, WeightsError
from vivant.pipeline import make_proxy
from vivant.proxy.embedded import embedded
from vivant.proxy.registry import PROXIES, chosen, make


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    picture = sample(np.random.default_rng(5), 128, still=False).picture
    Image.fromarray(picture).save(tmp_path / "p.png")
    return tmp_path / "p.png"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_auto_takes_what_is_here(models: Path) -> None:
    assert chosen("auto", "cinemo") == "embedded"
    tiny.refiner(models / "proxy" / "refiner")
    assert PROXIES["refiner"].present
    assert (chosen("auto", "cinemo"), chosen("auto", "miniature")) == ("refiner", "embedded")
    with pytest.raises(SettingError, match="among auto"):
        chosen("photoshop")


@pytest.mark.parametrize("name", [name for name in PROXIES if name != "embedded"])
def test_a_maker_that_is_not_here_says_how_to_get_it(models: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=rf"proxy/{name}, .*vivant pull {name}` \(") as caught:
        make(name, np.zeros((32, 32, 3), np.uint8), "waves")
    assert PROXIES[name].licence in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_writes_a_png_and_nothing_else(
    painting: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made.png"
    assert run(lambda: app(["proxy", str(painting), "Clouds drift", "-o", str(out)], standalone_mode=False)) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out) and "structure distance" in said.err
    source = np.asarray(Image.open(painting))
    assert np.array_equal(np.asarray(Image.open(out)), embedded(source))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.png", "p.png"]


def test_bad_outputs_of_a_proxy(painting: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="png"):
        make_proxy(painting, "waves", tmp_path / "a.jpg")
    with pytest.raises(OutputError, match="folder"):
        make_proxy(painting, "waves", tmp_path / "none" / "a.png")
    with pytest.raises(OutputError, match="could not write"):
        (tmp_path / "d.png").mkdir()
        make_proxy(painting, "waves", tmp_path / "d.png")
    assert not list(tmp_path.glob(".*"))


def test_a_proxy_of_another_scene_is_refused(painting: Path) -> None:
    stranger = sample(np.random.default_rng(77), 128, still=False).picture
    shape = np.asarray(Image.open(painting)).shape
    stranger = np.asarray(Image.fromarray(stranger).resize((shape[1], shape[0])))
    from vivant.proxy.drift import STRANGER, drift

    assert drift(np.asarray(Image.open(painting)), stranger).structure > STRANGER
    with pytest.raises(ImageError, match="another"):
        vivant.animate(painting, "clouds drift", proxy=stranger, frames=4, steps=2)


def test_a_named_maker_goes_the_whole_way_and_is_remembered(painting: Path, models: Path, tmp_path: Path) -> None:
    folder = tiny.refiner(models / "proxy" / "refiner")
    assert folder.is_dir()
    result = vivant.animate(painting, "clouds drift", proxy="refiner", frames=4, steps=2)
    assert result.recipe["proxy"] == "refiner" and result.recipe["proxy_sha256"]
    plain = vivant.animate(painting, "clouds drift", proxy="auto", frames=4, steps=2)
    assert plain.recipe["proxy_sha256"] != result.recipe["proxy_sha256"]
