"""A folder in the hub's layout, a live pipeline, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.priors.diffusers_i2v.families import CASES, generator, painting, pipeline, prior, relative, shot
from vivant.awaken import awaken
from vivant.errors import DependencyError, SettingError, WeightsError
from vivant.priors.diffusers_i2v import FAMILIES, adapt, from_pretrained


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    for name in CASES:
        pipeline(name).save_pretrained(root / name)
    return root


@pytest.fixture
def folder(folders: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(folders / "ltx", tmp_path / "copy"))


needs_accelerate = pytest.mark.skipif(
    find_spec("accelerate") is None, reason="accelerate, which Wan is loaded with, is not installed"
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_accelerate if "wan" in n else ()) for n in CASES])
def test_every_family_from_its_folder(name: str, folders: Path) -> None:
    case = CASES[name]
    loaded = from_pretrained(folders / name, size=case.size, fit="exact", **case.options)
    loaded.pipe.set_progress_bar_config(disable=True)
    told = shot(name, steps=2)
    expected = awaken(prior(name), told, painting(1), generator())
    assert relative(awaken(loaded, told, painting(1), generator()), expected) < 1e-3


def test_every_supported_pipeline_exists() -> None:
    import diffusers

    assert all(hasattr(diffusers, kind) for kind in FAMILIES)
    assert {type(pipeline(name)).__name__ for name in CASES} == set(FAMILIES)


@pytest.mark.skipif(find_spec("accelerate") is not None, reason="accelerate is installed")
def test_wan_without_accelerate_says_what_to_install(folders: Path) -> None:
    with pytest.raises(DependencyError, match="pip install accelerate"):
        from_pretrained(folders / "wan")


@needs_accelerate
def test_half_precision(folders: Path) -> None:
    loaded = from_pretrained(folders / "wan", dtype=torch.bfloat16, size=(48, 32), fit="exact", **CASES["wan"].options)
    loaded.pipe.set_progress_bar_config(disable=True)
    told = shot("wan", steps=2)
    x = awaken(loaded, told, painting(1), generator())
    assert x.dtype == torch.float32 and loaded.pipe.transformer.dtype == torch.bfloat16
    assert relative(x, awaken(prior("wan"), told, painting(1), generator())) < 0.1
    assert loaded.decode(x, told).isfinite().all()


def test_other_pipelines_are_refused_with_the_list(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxPipeline"}))
    with pytest.raises(SettingError, match=r"WanImageToVideoPipeline.*got FluxPipeline") as caught:
        from_pretrained(folder)
    assert "\n" not in str(caught.value)
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": ["my_code", "Pipe"]}))
    with pytest.raises(SettingError, match="my_code"):
        from_pretrained(folder)
    with pytest.raises(SettingError, match="got int"):
        adapt(3)


def test_damaged_folders_are_one_line(folder: Path, tmp_path: Path) -> None:
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-500])
    with pytest.raises(WeightsError, match="expected a whole LTXImageToVideoPipeline") as caught:
        from_pretrained(folder)
    assert "\n" not in str(caught.value)
    weights.unlink()
    torch.save({}, weights.with_suffix(".bin"))  # a pickle in its place is not touched
    with pytest.raises(WeightsError):
        from_pretrained(folder)
    with pytest.raises(WeightsError, match="model_index"):
        from_pretrained(tmp_path / "nothing")


def test_a_subclass_is_its_familys() -> None:
    pipe = pipeline("wan")
    kind = type("MyWan", (type(pipe),), {})
    mine = object.__new__(kind)
    mine.__dict__.update(pipe.__dict__)
    assert adapt(mine).family == "wan"
