"""The ladder done to a real model: a tiny AnimateAnything in the released layout, animated under short memory."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from vivant import memory, pipeline
from vivant.ladder import apply, networks, singly
from vivant.machine import Machine
from vivant.memory import need, plan
from vivant.priors import registry
from vivant.priors.registry import REGISTRY, entry

from .priors import released

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> registry.Entry:
    """The list's animate_anything, its weights tiny and its working size small."""
    from vivant.priors.animate_anything.adapter import CARD, AnimateAnything

    root = tmp_path / "animate_anything"
    with torch.random.fork_rng():
        released.animate_anything(root)
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path))
    registry.weights_hash.cache_clear()
    card = dataclasses.replace(CARD, size=(128, 128))
    row = dataclasses.replace(
        entry("animate_anything"), size=(128, 128), params={"unet": 10**6, "vae": 10**5},
        load=lambda device, dtype: AnimateAnything.from_folder(root, device, dtype, card=card),
    )  # fmt: skip
    monkeypatch.setitem(REGISTRY, "animate_anything", row)
    return row


def dream(**settings):
    return pipeline.animate(
        PICTURE, "waves roll ashore", model="animate_anything", frames=3, steps=2, device="cpu", **settings
    )


def short(monkeypatch, size):
    monkeypatch.setattr(memory, "machine", lambda device, folder=None: Machine("cpu", size, size))


def test_one_after_the_other_gives_the_same_clip(tiny, monkeypatch):
    clips = []

    def watched(device, dtype):
        prior = tiny.load(device, dtype)
        decode = prior.decode

        def noted(x, shot):
            clips.append((x, decode(x, shot)))
            return clips[-1][1]

        prior.decode = noted
        return prior

    monkeypatch.setitem(REGISTRY, "animate_anything", dataclasses.replace(tiny, load=watched))
    plain = dream()
    next(plain.frames())
    assert not plain.warnings and plain.recipe["versions"]["memory"] == "as is"
    size = memory.working(tiny, (96, 64))
    short(monkeypatch, need(tiny, "float32", *size, 3, "cpu", paths=1, decode_frames=1) + 1)
    lean = dream()
    next(lean.frames())
    assert [line.split(": ")[1] for line in lean.warnings] == [
        "the VAE decodes one frame at a time", "the two paths go one after the other",
    ]  # fmt: skip
    assert plain.evaluations == lean.evaluations
    for a, b in zip(*clips, strict=True):
        assert a.shape == b.shape and float((a - b).abs().max()) < 1e-3 * float(a.abs().max())


def test_the_paths_of_a_model_nobody_measured_may_go_singly_too(monkeypatch):
    row = dataclasses.replace(entry("cinemo"), cell=None)
    monkeypatch.setitem(REGISTRY, "cinemo", row)
    size = memory.working(row, None)
    one, both = (need(row, "float32", *size, kind="cpu", paths=paths) for paths in (1, 2))
    assert one < both
    assert plan("cinemo", Machine("cpu", both, both), frames=16).choices == []
    lean = plan("cinemo", Machine("cpu", one, one), frames=16)
    assert lean.fits and lean.choices == ["the two paths go one after the other"]


def test_clips_bound_singly_draw_what_they_draw_together():
    """A model that draws while it binds draws once for all its clips, so that they do not depend on their company."""
    drawn = []

    def bind(shots, rng):
        drawn.append((len(shots), float(torch.rand((), generator=rng))))
        return lambda z, level: z

    ends = []
    for way in (bind, singly(bind)):
        rng = torch.Generator().manual_seed(5)
        way([None, None], rng)
        ends.append(float(torch.rand((), generator=rng)))
    (two, together), *apart = drawn
    assert two == 2 and apart == [(1, together)] * 2 and ends[0] == ends[1]


def test_a_smaller_size_is_what_the_model_works_at(tiny, monkeypatch):
    seen = []
    bind = REGISTRY["animate_anything"].load

    def watched(device, dtype):
        prior = bind(device, dtype)
        still = prior.still

        def noted(shots, rng):
            seen.append(still(shots, rng).shape[-2:])
            return still(shots, rng)

        prior.still = noted
        return prior

    monkeypatch.setitem(REGISTRY, "animate_anything", dataclasses.replace(tiny, load=watched))
    dream()
    least = plan("animate_anything", Machine("cpu", 1, 1), painting=(96, 64), frames=3, allow_smaller=True)
    short(monkeypatch, least.peak)
    result = dream(allow_smaller=True)
    small, full = (int(np.prod(size)) for size in (seen[1], seen[0]))
    assert small < full and any("smaller working size" in line for line in result.warnings)
    assert "smaller" in result.recipe["versions"]["memory"]


def test_a_rerun_takes_the_precision_of_the_result(tiny):
    told = []
    load = tiny.load
    row = dataclasses.replace(tiny, load=lambda device, dtype: told.append(dtype) or load(device, torch.float32))
    REGISTRY["animate_anything"] = row
    (Path(tiny.place).parent / "p.png").write_bytes(png())
    result = pipeline.animate(
        Path(tiny.place).parent / "p.png", "waves roll ashore", model="animate_anything", frames=2, steps=2, device="cpu",
        dtype="bfloat16",
    )  # fmt: skip
    pipeline.rerun(result.recipe)
    assert told == [torch.bfloat16, torch.bfloat16]


def png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "png")
    return buffer.getvalue()


def test_visiting_networks_dream_the_same(tiny):
    pytest.importorskip("accelerate", reason="needs the offload extra")
    offloaded = dataclasses.replace(plan("animate_anything", Machine("cpu", 10**11, 10**11)), offload=True)
    load = tiny.load

    def visiting(device, dtype):
        prior = load("cpu", dtype)
        apply(prior, offloaded)
        assert all(hasattr(net, "_hf_hook") for net in networks(prior).values())
        return prior

    plain = list(dream().frames())
    REGISTRY["animate_anything"] = dataclasses.replace(tiny, load=visiting)
    assert all((a == b).all() for a, b in zip(plain, dream().frames(), strict=True))
