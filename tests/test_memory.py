"""Plans: the estimate against live storage counted at full size and against published numbers; the ladder rung by rung."""

import dataclasses
import importlib.util
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vivant import ladder, memory, pipeline
from vivant.errors import DependencyError, ModelError, SettingError
from vivant.machine import Machine, machine
from vivant.memory import check, loading, need, plan
from vivant.priors import registry
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.registry import REGISTRY, entry
from vivant.process import Level, Prediction
from vivant.shot import Shot

SHARED = Path(__file__).parents[2] / "shared" / "parity"
GB = 10**9
DESK = Machine("cpu", 16 * GB, 12 * GB)


def gpu(vram, ram=64):
    return Machine("cuda", ram * GB, ram * GB, int(vram * GB), int(vram * GB), True)


class Peak(TorchDispatchMode):
    """The most bytes of storage alive at once, beside those that were there before."""

    def __init__(self, before):
        super().__init__()
        self.known, self.now, self.most = before, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (place := tensor.untyped_storage())._cdata not in self.known:
                self.known[place._cdata] = None
                self.now += place.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(place, self.gone, place._cdata, place.nbytes())
        return out

    def gone(self, key, size):
        del self.known[key]
        self.now -= size


def count(make, inputs):
    """Numbers alive at once while a network of full size runs on tensors without storage."""
    with FakeTensorMode(), torch.no_grad():
        net = make().eval()
        held = [*net.parameters(), *net.buffers()]
        args = inputs()
        held += [a for a in tree_leaves(args) if isinstance(a, torch.Tensor)]
        storages = [t.untyped_storage() for t in held]  # kept, so that their places stay taken
        with Peak({s._cdata: None for s in storages}) as peak:
            net(*args)
    return peak.most / 4


def config(name):
    file = SHARED / name / "full_keys.json"
    if not file.exists():
        pytest.skip("needs the official configurations of ../shared/parity")
    return json.loads(file.read_text("utf-8"))["config"]


def randoms(*shapes):
    return tuple(torch.randn(shape) if isinstance(shape, tuple) else shape for shape in shapes)


def animate_anything(h, w):
    from vivant.priors.animate_anything.net import AnimateAnythingUNet, UNetConfig

    read = UNetConfig.from_json(config("animate_anything"))
    return count(
        lambda: AnimateAnythingUNet(read),
        lambda: randoms((1, 4, 16, h, w), 500.0, (1, 77, 1024), (1, 4, 1, h, w), (1, 1, 1, h, w), (1,)),
    )


def consisti2v(h, w):
    from vivant.priors.consisti2v.net import ConsistI2VUNet, UNetConfig

    read = UNetConfig.from_json(config("consisti2v"))
    return count(
        lambda: ConsistI2VUNet(read), lambda: randoms((1, 4, 15, h, w), 500.0, (1, 77, 1024), (1, 4, 1, h, w), 3.0)
    )


def cinemo(h, w):
    from vivant.priors.cinemo.net import CinemoUNet, UNetConfig

    read = UNetConfig.from_json(config("cinemo"))
    return count(
        lambda: CinemoUNet(read), lambda: randoms((1, 4, 15, h, w), 500.0, (1, 77, 768), (1, 4, 1, h, w), 10.0)
    )


def dynamicrafter_512(h, w):
    from vivant.priors.dynamicrafter.net import DynamiCrafterUNet, UNetConfig

    return count(
        lambda: DynamiCrafterUNet(UNetConfig()),
        lambda: randoms((1, 8, 16, h, w), torch.ones(1), (1, 333, 1024), torch.ones(1)),
    )


@pytest.mark.parametrize("measured", [animate_anything, consisti2v, cinemo, dynamicrafter_512])
def test_the_denoiser_takes_what_is_counted(measured):
    row = entry(measured.__name__)
    w, h = (side // 8 for side in row.size)
    cells = measured(h, w) / (16 * h * w)
    assert cells <= row.cell <= 1.1 * cells


def test_the_decoder_takes_what_is_counted():
    from diffusers import AutoencoderKL

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512), layers_per_block=2,
            )  # fmt: skip

        def forward(self, z):
            return self.vae.decode(z)

    found = count(Decoder, lambda: randoms((2, 4, 40, 64)))
    assert memory.DECODER == pytest.approx(found / (2 * 320 * 512), rel=0.02)


@pytest.mark.parametrize(("name", "published"), [("256", 11.9), ("512", 12.8), ("1024", 18.3)])
def test_against_what_the_authors_measured(name, published):
    """DynamiCrafter's README: float32 weights, one guidance branch at a time, frames decoded one by one."""
    row = dataclasses.replace(entry(f"dynamicrafter_{name}"), branches=1)
    assert need(row, "float32", paths=1, decode_frames=1) / GB == pytest.approx(published, rel=0.05)


def test_the_miniature_against_its_process():
    """The figures in the registry: resident memory at 512x512, 2000x1500 and 4000x3000 (403, 689, 1585 MB)."""
    for (w, h), seen in {(512, 512): 403e6, (2000, 1500): 689e6, (4000, 3000): 1585e6}.items():
        assert need(entry("miniature"), "float32", w, h) == pytest.approx(seen, rel=0.08)


def test_more_of_anything_takes_more():
    row = entry("dynamicrafter_512")
    base = need(row, "bfloat16")
    assert need(row, "bfloat16", width=1024) > base and need(row, "bfloat16", frames=32) > base
    assert need(row, "float32") > 1.8 * base - GB and need(row, "bfloat16", paths=1) < base
    assert need(row, "bfloat16", offload=True, paths=1) < need(row, "bfloat16", paths=1)
    assert need(row, "bfloat16", 1024, 1024, paths=1, tiling=True) <= need(row, "bfloat16", 1024, 1024, paths=1)


# The ladder


def test_the_rungs_are_taken_one_by_one():
    taken = []
    for vram in np.arange(60, 3, -0.25):
        found = plan("dynamicrafter_1024", gpu(vram), allow_smaller=True)
        if found.fits and found.choices not in taken:
            taken.append(found.choices)
            check_without_accelerate(found)
    names = [" + ".join(word.split(",")[0] for word in choices) for choices in taken]
    assert names[0] == "" and "one frame at a time" not in names[0]
    assert "one after the other" in names[1] and "visit" not in names[1]
    assert any("visit" in n for n in names) and any("smaller" in n for n in names)
    assert [len(choices) for choices in taken[:3]] == sorted(len(choices) for choices in taken[:3])


def check_without_accelerate(found):
    if found.offload and importlib.util.find_spec("accelerate") is None:
        with pytest.raises(DependencyError, match=r"vivant\[offload\]"):
            check(found)
    else:
        check(found)


def test_a_plan_that_fits_takes_no_more_than_there_is():
    for name in REGISTRY:
        for here in (DESK, gpu(8), gpu(12), gpu(24), gpu(80)):
            found = plan(name, here, allow_smaller=True)
            assert found.fits == (found.peak <= here.free and found.ram <= here.ram_free)
            assert found.decode_frames is None or found.choices


def test_smaller_only_with_consent():
    here = gpu(7.5)
    no = plan("dynamicrafter_1024", here)
    assert not no.fits and not no.smaller and (no.width, no.height) == (1024, 576)
    yes = plan("dynamicrafter_1024", here, allow_smaller=True)
    assert yes.fits and yes.smaller and yes.width * yes.height < 1024 * 576
    assert yes.width % 64 == 0 and yes.height % 64 == 0 and any("smaller" in c for c in yes.choices)


def test_what_does_not_fit_says_what_is_short_and_what_helps():
    with pytest.raises(ModelError) as caught:
        check(plan("dynamicrafter_1024", gpu(8)))
    line = str(caught.value)
    assert "8.0 GB are free" in line and "--allow-smaller" in line and "--frames 8" in line and "--model" in line
    assert "\n" not in line and not isinstance(caught.value, SettingError)
    with pytest.raises(ModelError, match="bfloat16"):
        check(plan("cinemo", Machine("cpu", 8 * GB, 6 * GB)))
    with pytest.raises(ModelError, match="loading needs"):
        check(plan("dynamicrafter_256", gpu(24, ram=8)))


def test_precision():
    old = dataclasses.replace(gpu(24), bf16=False)
    assert plan("cinemo", DESK).dtype == "float32"
    assert plan("cinemo", gpu(24)).dtype == "bfloat16" and plan("cinemo", old).dtype == "float16"
    assert plan("cinemo", gpu(24), dtype="fp32").dtype == "float32" and plan("miniature", gpu(24)).dtype == "float32"
    with pytest.raises(SettingError, match="float32"):
        plan("miniature", DESK, dtype="bfloat16")
    with pytest.raises(SettingError, match="float9"):
        plan("cinemo", DESK, dtype="float9")


def test_the_size_follows_the_painting():
    found = plan("animate_anything", DESK, painting=(2000, 1000))
    assert (found.width, found.height) == (728, 360)
    assert plan("miniature", DESK, painting=(4000, 3000)).peak > plan("miniature", DESK, painting=(400, 300)).peak


def test_evaluations_are_those_that_happen(monkeypatch):
    picture = np.full((40, 56, 3), 120, np.uint8)
    for settings in ({}, {"distil": 0.0}, {"distil_evaluations": 1}, {"proxy": "none"}):
        result = pipeline.animate(picture, "Clouds drift", steps=4, frames=3, device="cpu", **settings)
        settings.pop("proxy", None)
        assert plan("miniature", DESK, steps=4, **settings).evaluations == result.evaluations


def test_loading_reads_a_single_file_whole():
    crafter, folders = entry("dynamicrafter_256"), entry("consisti2v")
    assert loading(crafter, "float32", False) > 4 * sum(crafter.params.values())
    assert loading(folders, "float32", False) < 4 * sum(folders.params.values())
    assert loading(folders, "bfloat16", True) > loading(folders, "bfloat16", False) - 10


def test_this_machine():
    here = machine("cpu")
    assert 0 < here.ram_free <= here.ram and here.disk_free > 0 and here.kind == "cpu" and here.free == here.ram_free
    if not torch.cuda.is_available():
        assert machine("auto").device == "cpu"
        with pytest.raises(SettingError):
            machine("cuda")


@pytest.mark.gpu
def test_this_gpu():
    here = machine("auto")
    assert here.kind == "cuda" and 0 < here.vram_free <= here.vram


# Doing it


def test_nothing_is_loaded_where_it_would_not_fit(monkeypatch):
    monkeypatch.setattr(memory, "machine", lambda device, folder=None: Machine("cpu", GB, GB))
    monkeypatch.setattr(registry, "load", lambda *a, **k: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match="expected enough memory for cinemo"):
        pipeline.animate(np.full((40, 56, 3), 120, np.uint8), "Clouds drift", model="cinemo", device="cpu")


def test_what_was_done_is_said_and_recorded(monkeypatch):
    class Slow(AnalyticPrior):
        decode_frames = 4

    row = dataclasses.replace(
        entry("consisti2v"), name="mine", params={"unet": 10}, cell=1.0, size=(64, 64), branches=1, weights=(),
        load=lambda device, dtype: Slow(),
    )  # fmt: skip
    monkeypatch.setitem(REGISTRY, "mine", row)
    floor = need(row, "float32", kind="cpu", width=64, height=64, frames=4, decode_frames=1)
    monkeypatch.setattr(memory, "machine", lambda device, folder=None: Machine("cpu", floor, floor))
    picture = np.full((64, 64, 3), 120, np.uint8)
    result = pipeline.animate(picture, "Clouds drift", model="mine", frames=4, steps=2, device="cpu")
    assert any("one frame at a time" in line for line in result.warnings)
    assert result.recipe["versions"]["dtype"] == "float32" and "one frame" in result.recipe["versions"]["memory"]


def test_paths_in_turn_give_what_the_batch_gives():
    prior = AnalyticPrior()
    shots = [Shot(np.full((16, 16, 3), v, np.uint8), "a", frames=4, steps=2) for v in (60, 180)]
    level = prior.levels(shots[0], 4)[1]
    z = prior.still(shots, torch.Generator().manual_seed(0)) + 0.3
    seen = []

    def watched(given, rng):
        denoise = prior.bind(given, rng)

        def call(x, at):
            seen.append(len(x))
            return denoise(x, at)

        return call

    together = prior.bind(shots, torch.Generator().manual_seed(1))(z, level)
    alone = ladder.singly(watched)(shots, torch.Generator().manual_seed(1))(z, level)
    assert seen == [1, 1]
    assert torch.allclose(together.x0, alone.x0, atol=1e-6) and torch.allclose(together.eps, alone.eps, atol=1e-6)


class Net(torch.nn.Module):
    """A network that notes where it was when it was called."""

    def __init__(self):
        super().__init__()
        self.layer, self.moves = torch.nn.Linear(3, 3), []

    def forward(self, x, scale=1.0):
        return self.layer(x) * scale

    def to(self, *args, **kwargs):
        self.moves.append(str(args[0]))
        return super().to(*args, **kwargs)


class Holder:
    """A prior with two networks, one of them a real VAE."""

    def __init__(self):
        from diffusers import AutoencoderKL

        with torch.random.fork_rng():
            torch.manual_seed(0)
            vae = AutoencoderKL(block_out_channels=(32,), norm_num_groups=8, layers_per_block=1).eval()
            self.parts = type("Parts", (), {})()
            self.parts.unet, self.parts.vae, self.parts.tokenizer = Net(), vae, object()


def small(**changes):
    return dataclasses.replace(plan("consisti2v", DESK), **changes)


def test_tiles_and_a_smaller_size():
    prior = Holder()
    prior.card, prior.decode_frames = AnalyticPrior().card, 4
    said = ladder.apply(prior, small(tiling=True, decode_frames=1, smaller=True, width=64, height=128))
    assert prior.parts.vae.use_tiling and prior.parts.vae.use_slicing and prior.decode_frames == 1
    assert prior.card.size == (64, 128) and len(said) == 3
    untouched = Holder()
    assert ladder.apply(untouched, small()) == [] and not untouched.parts.vae.use_tiling


def test_offloading_without_accelerate_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setitem(sys.modules, "accelerate.hooks", None)
    with pytest.raises(DependencyError, match=r"pip install 'vivant\[offload\]'"):
        ladder.offload(Holder(), "cuda")


@torch.no_grad()
def visits(device):
    pytest.importorskip("accelerate", reason="needs the offload extra")
    plain, prior = Holder(), Holder()
    prior.parts.unet.layer.load_state_dict(plain.parts.unet.layer.state_dict())
    ladder.offload(prior, device)
    x, picture = torch.randn(2, 3), torch.randn(1, 3, 16, 16)
    assert torch.allclose(prior.parts.unet(x, scale=2.0), plain.parts.unet(x, scale=2.0), atol=1e-5)
    assert prior.parts.unet.moves[-2:] == [device, "cpu"]
    a, b = (p.parts.vae.encode(picture).latent_dist for p in (prior, plain))
    assert a.mean.device.type == "cpu" and torch.allclose(a.mean, b.mean, atol=1e-4)
    decoded = [p.parts.vae.decode(b.mean).sample for p in (prior, plain)]
    assert decoded[0].device.type == "cpu" and torch.allclose(*decoded, atol=1e-4)
    assert {p.device.type for p in prior.parts.vae.parameters()} == {"cpu"}


def test_networks_visit():
    visits("cpu")


@pytest.mark.gpu
def test_networks_visit_the_gpu():
    visits("cuda")


def test_the_seam_is_kept():
    """A bound denoiser in turn answers with predictions, whatever the level."""
    one = ladder.singly(lambda shots, rng: lambda z, level: Prediction(z * level.a, z * level.s))
    out = one([None, None], torch.Generator())(torch.ones(2, 1, 1, 1, 1), Level(0.5, 0.25, 3))
    assert out.x0.shape == (2, 1, 1, 1, 1) and float(out.eps.mean()) == 0.25
