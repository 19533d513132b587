"""The list of base models: what it says against the adapters and the official checkpoints, and how a name is found."""

import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vivant.errors import SettingError, WeightsError
from vivant.machine import Machine
from vivant.memory import need, plan
from vivant.priors import registry
from vivant.priors.registry import REGISTRY, entry, load

SHARED = Path(__file__).parents[3] / "shared" / "parity"


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    registry.weights_hash.cache_clear()
    yield tmp_path
    registry.weights_hash.cache_clear()


def test_the_list_loads_nothing_heavy():
    code = (
        "import sys, vivant.priors.registry as r; [e.as_dict() for e in r.REGISTRY.values()]; "
        "sys.exit(bool({'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_who_is_in_it():
    assert list(REGISTRY) == [
        "miniature", "animate_anything", "consisti2v", "cinemo", "dynamicrafter_256", "dynamicrafter_512",
        "dynamicrafter_1024", "dynamicrafter_interp", "svd_flow",
    ]  # fmt: skip
    assert [REGISTRY[n].hub for n in list(REGISTRY)[2:]] == [
        "TIGER-Lab/ConsistI2V", "maxin-cn/Cinemo", "Doubiiu/DynamiCrafter", "Doubiiu/DynamiCrafter_512",
        "Doubiiu/DynamiCrafter_1024", "Doubiiu/DynamiCrafter_512_Interp", "stabilityai/stable-video-diffusion-img2vid-xt",
    ]  # fmt: skip


@pytest.mark.parametrize("name", REGISTRY)
def test_every_row_is_whole(name):
    row = entry(name)
    told = row.as_dict()
    assert all(told[key] for key in ("does", "paper", "source", "licence", "territory", "memory", "download"))
    assert json.loads(json.dumps(told)) == told
    assert all(told["memory_bytes"][d] == need(row, d) for d in row.dtypes)
    assert row.steps > 0 and row.frames > 0 and row.weights


CARDS = {
    "miniature": ("miniature.adapter", lambda m: m.Miniature.card),
    "animate_anything": ("animate_anything.adapter", lambda m: m.CARD),
    "consisti2v": ("consisti2v.adapter", lambda m: m.CARD),
    "cinemo": ("cinemo.adapter", lambda m: m.CARD),
    "dynamicrafter_256": ("dynamicrafter.adapter", lambda m: m.CARDS["256"]),
    "dynamicrafter_512": ("dynamicrafter.adapter", lambda m: m.CARDS["512"]),
    "dynamicrafter_1024": ("dynamicrafter.adapter", lambda m: m.CARDS["1024"]),
    "dynamicrafter_interp": ("dynamicrafter.adapter", lambda m: m.CARDS["512_interp"]),
}


@pytest.mark.parametrize("name", CARDS)  # svd_flow takes its card from its pipeline
def test_a_plan_needs_no_adapter_and_yet_agrees_with_it(name):
    module, find = CARDS[name]
    card, row = find(importlib.import_module(f"vivant.priors.{module}")), entry(name)
    assert (row.frames, row.steps, row.size) == (card.frames, card.steps, card.size)
    assert row.distil_evaluations == card.distil_evaluations


@pytest.mark.parametrize(
    ("name", "file", "parts"),
    [
        ("animate_anything", "animate_anything/full_keys.json", ("unet",)),
        ("consisti2v", "consisti2v/full_keys.json", ("unet",)), ("cinemo", "cinemo/full_keys.json", ("unet",)),
        ("dynamicrafter_512", "dynamicrafter/full_keys_512.json", ("unet", "image_proj_model", "vae", "text_encoder")),
    ],
)  # fmt: skip
def test_the_numbers_of_parameters_are_the_official_ones(name, file, parts):
    if not (SHARED / file).exists():
        pytest.skip("needs the official key lists of ../shared/parity")
    record = json.loads((SHARED / file).read_text("utf-8"))
    counts = record.get("param_counts") or {"unet": record["total_params"]}
    theirs = {"unet": "model.diffusion_model", "vae": "first_stage_model", "text_encoder": "cond_stage_model"}
    for part in parts:
        assert entry(name).params[part] == counts.get(
            theirs[part] if "param_counts" in record and part in theirs else part
        )


def test_the_miniature_is_here_and_loads():
    row = entry("miniature")
    assert row.present and len(row.files()) == 2
    both = b"".join(f.read_bytes() for f in row.files())
    assert registry.weights_hash("miniature") == hashlib.sha256(both).hexdigest()
    assert load("miniature").card.name == "miniature"
    with pytest.raises(SettingError, match="float32"):
        load("miniature", dtype="float16")


@pytest.mark.parametrize("name", [n for n in REGISTRY if n != "miniature"])
def test_missing_weights_say_how_to_get_them(models, name):
    assert not entry(name).present
    with pytest.raises(WeightsError, match=f"vivant pull {name}"):
        load(name)


@pytest.mark.parametrize(
    ("name", "module", "attribute", "extra"),
    [
        ("animate_anything", "animate_anything", "AnimateAnything", {}), ("consisti2v", "consisti2v", "ConsistI2V", {}),
        ("cinemo", "cinemo", "Cinemo", {}),
        ("dynamicrafter_256", "dynamicrafter", "DynamiCrafter", {"variant": "256"}),
        ("dynamicrafter_512", "dynamicrafter", "DynamiCrafter", {"variant": "512"}),
        ("dynamicrafter_1024", "dynamicrafter", "DynamiCrafter", {"variant": "1024"}),
        ("dynamicrafter_interp", "dynamicrafter", "DynamiCrafter", {"variant": "512_interp"}),
    ],
)  # fmt: skip
def test_the_adapter_is_told_folder_device_and_precision(models, monkeypatch, name, module, attribute, extra):
    adapter = getattr(importlib.import_module(f"vivant.priors.{module}.adapter"), attribute)
    told = []
    monkeypatch.setattr(adapter, "from_folder", lambda *args, **more: told.append((args, more)))
    (models / name).mkdir()
    load(name, "meta", "bfloat16")
    assert told == [((models / name, "meta", torch.bfloat16), extra)]


def test_weights_count_when_all_of_them_are_there_whichever_their_form(models):
    row = entry("consisti2v")
    for part, file in (("unet", "diffusion_pytorch_model.bin"), ("vae", "diffusion_pytorch_model.safetensors")):
        (row.place / part).mkdir(parents=True)
        (row.place / part / file).write_bytes(part.encode())
    assert not row.present
    (row.place / "text_encoder").mkdir()
    (row.place / "text_encoder" / "model.safetensors").write_bytes(b"t")
    assert row.present and registry.weights_hash("consisti2v") == hashlib.sha256(b"unet").hexdigest()
    (row.place / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"safe")
    assert row.files() == [row.place / "unet" / "diffusion_pytorch_model.safetensors"]


# Pipelines of diffusers


def pipeline(folder):
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    save_file({"w": torch.zeros(3, 4), "b": torch.zeros(5)}, folder / "transformer" / "a.safetensors")
    return folder


def test_a_pipeline_of_the_hub_or_of_a_folder_is_dispatched(models, monkeypatch):
    told = []
    monkeypatch.setattr("vivant.priors.diffusers_i2v.from_pretrained", lambda *args: told.append(args))
    load("hub:owner/name", "cpu", "float16")
    load("hub:owner/name@v1", "cpu", "float16")
    pulled = pipeline(models / "owner--name")
    load("hub:owner/name", "cpu", "float16")
    load(str(pulled), "cuda", "bfloat16")
    assert told == [
        ("hub:owner/name", "cpu", torch.float16), ("hub:owner/name@v1", "cpu", torch.float16),
        (str(pulled), "cpu", torch.float16), (str(pulled), "cuda", torch.bfloat16),
    ]  # fmt: skip


def test_a_pipeline_tells_its_size_by_its_files(models):
    row = entry(str(pipeline(models / "mine")))
    assert row.present and dict(row.params) == {"transformer": 17} and row.memory_bytes("float32") > 68
    assert plan(str(models / "mine"), Machine("cpu", 10**10, 10**10)).rough
    (models / "mine" / "transformer" / "b.safetensors").write_bytes(b"damaged")
    assert dict(entry(str(models / "mine")).params) == {"transformer": 17}


def test_a_pipeline_that_diffusers_downloaded_before(models):
    snapshot = models / "cache" / "models--owner--name" / "snapshots" / ("b" * 40)
    pipeline(snapshot)
    refs = models / "cache" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("b" * 40)
    assert entry("hub:owner/name").present and entry("hub:owner/name").place == snapshot


def test_where_a_licence_excludes_places():
    assert "European Union" in entry("hub:tencent/HunyuanVideo-I2V").territory
    assert entry("hub:owner/name").licence == entry("hub:owner/name").territory == "see the model page"


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "hub:",
        "hub:owner",
        "hub:a/b/c",
        "hub:../x",
        "hub:a/..",
        "hub:a/b@../c",
        "/nowhere/at/all",
        "./none",
        "",
    ],
)
def test_names_that_are_none(models, name):
    with pytest.raises(SettingError) as caught:
        entry(name)
    assert "\n" not in str(caught.value)
