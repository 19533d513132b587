"""Pickles to safetensors: the same numbers, nothing run, nothing half-written."""

import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vivant.errors import OutputError, WeightsError
from vivant.weights import convert as converting
from vivant.weights import unpack as unpacking
from vivant.weights.convert import convert, read
from vivant.weights.unpack import unpack


def state():
    rng = torch.Generator().manual_seed(3)
    w = torch.randn(4, 6, generator=rng)
    return OrderedDict(
        weight=w, tied=w, slice=w[1:3], turned=w.t(), half=w.half(), brain=w.bfloat16(), whole=torch.arange(5),
        scalar=torch.tensor(2.5), empty=torch.zeros(0, 3),
    )  # fmt: skip


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("nested", [(), ("state_dict",), ("model", "state_dict")])
def test_the_same_numbers_under_the_same_names(tmp_path, old, nested):
    record = dict(state())
    for key in reversed(nested):
        record = {key: record, "epoch": 3}
    torch.save(record, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not old)
    made = convert(tmp_path / "a.ckpt", tmp_path / "out" / "b.safetensors")
    assert made.tensors == 9 and made.files == [tmp_path / "out" / "b.safetensors"]
    assert same(load_file(made.files[0]), dict(state()))
    assert os.listdir(tmp_path / "out") == ["b.safetensors"]


def test_other_entries_are_counted(tmp_path):
    torch.save({"state_dict": {"w": torch.ones(2), "step": 7, "names": ["a"]}}, tmp_path / "a.pt")
    made = convert(tmp_path / "a.pt", tmp_path)
    assert (made.tensors, made.skipped) == (1, 2) and made.files == [tmp_path / "a.safetensors"]


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("how", ["torch", "old torch", "plain pickle"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, how):
    mark = tmp_path / "it-ran"
    source = tmp_path / "evil.ckpt"
    record = {"state_dict": {"w": torch.ones(2)}, "callbacks": Bomb(mark)}
    if how == "plain pickle":
        source.write_bytes(pickle.dumps(record))
    else:
        torch.save(record, source, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(WeightsError) as caught:
        convert(source, tmp_path / "out.safetensors")
    line = str(caught.value)
    assert "refused" in line and "\n" not in line and "weights_only" not in line
    if how == "torch":
        assert "open" in line
    assert not mark.exists() and sorted(os.listdir(tmp_path)) == ["evil.ckpt"]
    torch.load(source, weights_only=False) if how != "plain pickle" else pickle.loads(source.read_bytes())
    assert mark.exists()  # the same bytes do run where nobody guards them


def test_in_a_folder_too(tmp_path):
    mark = tmp_path / "it-ran"
    (tmp_path / "m" / "unet").mkdir(parents=True)
    torch.save({"w": torch.ones(2)}, tmp_path / "m" / "a.bin")
    torch.save({"w": Bomb(mark)}, tmp_path / "m" / "unet" / "b.bin")
    with pytest.raises(WeightsError):
        convert(tmp_path / "m", tmp_path / "out")
    assert not mark.exists() and sorted(os.listdir(tmp_path)) == ["m"]


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "list"])
def test_what_is_no_checkpoint_is_one_line(tmp_path, damage):
    source = tmp_path / "a.bin"
    torch.save([torch.ones(3)] if damage == "list" else {"w": torch.ones(300)}, source)
    data = source.read_bytes()
    source.write_bytes({"cut": data[: len(data) // 2], "noise": b"\x00\x01" * 50, "empty": b"", "list": data}[damage])
    with pytest.raises(WeightsError) as caught:
        convert(source, tmp_path / "b.safetensors")
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == ["a.bin"]


def test_a_folder_keeps_what_it_had_under_the_names_loaders_look_for(tmp_path):
    root = tmp_path / "m"
    for part, name in (
        ("unet", "diffusion_pytorch_model.bin"),
        ("text_encoder", "pytorch_model.bin"),
        ("vae", "x.bin"),
    ):
        (root / part).mkdir(parents=True)
        (root / part / "config.json").write_text("{}")
        torch.save({part: torch.ones(2)}, root / part / name)
    (root / "vae" / "x.safetensors").write_bytes(b"already")
    (root / "text_encoder" / "pytorch_model.bin.index.json").write_text(
        '{"weight_map": {"k": "pytorch_model-1-of-2.bin"}}'
    )
    convert(root, tmp_path / "out")
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert names == {
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/x.safetensors",
        "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/model.safetensors.index.json",
    }  # fmt: skip
    assert (tmp_path / "out/vae/x.safetensors").read_bytes() == b"already"
    assert "model-1-of-2.safetensors" in (tmp_path / "out/text_encoder/model.safetensors.index.json").read_text()
    assert (tmp_path / "m/unet/diffusion_pytorch_model.bin").exists()


def test_targets_that_cannot_be(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "a.bin")
    (tmp_path / "there.safetensors").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        convert(tmp_path / "a.bin", tmp_path / "there.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == b"precious"
    with pytest.raises(OutputError):
        convert(tmp_path, tmp_path)
    with pytest.raises(OutputError):
        convert(tmp_path, tmp_path / "inside")
    with pytest.raises(OutputError):
        convert(tmp_path / "a.bin", tmp_path / "a.bin" / "b.safetensors")
    with pytest.raises(WeightsError, match="no such"):
        convert(tmp_path / "missing.bin", tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"\.ckpt"):
        convert(tmp_path / "there.safetensors", tmp_path / "b.safetensors")


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    torch.save({"w": torch.ones(2)}, tmp_path / "a.bin")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OutputError, match="No space"):
        convert(tmp_path / "a.bin", tmp_path / "b.safetensors")
    assert os.listdir(tmp_path) == ["a.bin"]


def test_reading_maps_and_does_not_copy(tmp_path):
    torch.save({"w": torch.ones(1000)}, tmp_path / "a.bin")
    tensors, _ = read(tmp_path / "a.bin")
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux tells which files are mapped")
    assert str(tmp_path / "a.bin") in maps.read_text("utf-8") and tensors["w"].sum() == 1000


# Archives


def archive(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if callable(data):
                data(info)
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["m.tar", "m.tar.gz"])
def test_an_archive_becomes_a_folder_without_its_wrapping(tmp_path, name):
    members = [("top/unet/a.bin", pickled({"w": torch.ones(3)})), ("./top/unet/config.json", b"{}")]
    made = convert(archive(tmp_path / name, members, "w:gz" if name.endswith("gz") else "w"), tmp_path / "out")
    assert made.files == [tmp_path / "out" / "unet" / "a.safetensors"]
    assert sorted(os.listdir(tmp_path)) == sorted([name, "out"]) and os.listdir(tmp_path / "out") == ["unet"]


def link(kind, to):
    def set_link(info):
        info.type, info.linkname = kind, to

    return set_link


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("../out.txt", b"x"), ("a/../../out.txt", b"x"), ("/tmp/vivant-evil", b"x"), ("a\\..\\b", b"x"), ("C:/x", b"x"),
        ("link", link(tarfile.SYMTYPE, "/etc/passwd")), ("link", link(tarfile.LNKTYPE, "../out.txt")),
        ("pipe", link(tarfile.FIFOTYPE, "")), ("dev", link(tarfile.CHRTYPE, "")),
    ],
)  # fmt: skip
def test_what_leads_out_of_the_folder_is_refused(tmp_path, name, data):
    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "m.tar", [("fine.txt", b"ok"), (name, data)])
    with pytest.raises(WeightsError, match="refused"):
        unpack(path, tmp_path / "in")
    assert sorted(os.listdir(tmp_path)) == ["in", "m.tar"] and os.listdir(tmp_path / "in") == ["fine.txt"]
    with pytest.raises(WeightsError):
        convert(path, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["in", "m.tar"]


def test_a_link_cannot_be_written_through(tmp_path):
    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "m.tar", [("a", link(tarfile.SYMTYPE, str(tmp_path))), ("a/evil.txt", b"x")])
    with pytest.raises(WeightsError):
        unpack(path, tmp_path / "in")
    assert sorted(os.listdir(tmp_path)) == ["in", "m.tar"]


def test_size_bombs(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    bomb = archive(tmp_path / "m.tar.gz", [("zeros", b"\0" * 40_000_000)], "w:gz")
    assert bomb.stat().st_size < 100_000
    with pytest.raises(WeightsError, match="too large"):
        unpack(bomb, tmp_path / "in")
    assert os.listdir(tmp_path / "in") == []
    monkeypatch.setattr(unpacking, "MOST_FILES", 3)
    many = archive(tmp_path / "n.tar", [(f"f{i}", b"") for i in range(5)])
    with pytest.raises(WeightsError, match="too large"):
        unpack(many, tmp_path / "in")
    monkeypatch.setattr(unpacking, "RESERVE", 10**18)
    with pytest.raises(WeightsError, match="too large"):
        unpack(archive(tmp_path / "o.tar", [("f", b"123")]), tmp_path / "in")


@pytest.mark.parametrize("how", ["cut", "zip", "twice", "none"])
def test_archives_that_are_none(tmp_path, how):
    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "m.tar", [] if how == "none" else [("a", b"x" * 5000)] * (2 if how == "twice" else 1))
    if how == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    if how == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a", "b")
    with pytest.raises(WeightsError) as caught:
        unpack(path, tmp_path / "in")
    assert "\n" not in str(caught.value)


def test_names():
    assert converting.renamed("pytorch_model") == "model"
    assert converting.renamed("pytorch_model-00001-of-00002") == "model-00001-of-00002"
    assert converting.renamed("diffusion_pytorch_model") == "diffusion_pytorch_model"
