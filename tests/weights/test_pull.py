"""Downloads, from a real server on localhost: what is shown, what is checked, what happens when it breaks."""

import hashlib
import io
import os
import tarfile
import urllib.request
from dataclasses import replace

import pytest

from vivant.errors import OutputError, SettingError, WeightsError
from vivant.priors import registry
from vivant.proxy.registry import PROXIES
from vivant.weights import fetch as fetching
from vivant.weights.fetch import Remote, fetch
from vivant.weights.pull import offer, pull

from .hub import Hub

BIG = bytes(range(256)) * 40  # ten kilobytes: an LFS file by the test hub's measure
FILES = {
    "model_index.json": b"{}", "README.md": b"a card", "unet/config.json": b"{}", "unet/diffusion_pytorch_model.safetensors": BIG,
    "unet/diffusion_pytorch_model.fp16.safetensors": BIG[::-1], "unet/diffusion_pytorch_model.bin": b"pickle", "demo.mp4": b"film",
}  # fmt: skip


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "models"


@pytest.fixture
def hub(models, monkeypatch):
    with Hub({"owner/name": dict(FILES)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_a_pipeline_is_shown_then_fetched_whole(hub, models):
    offered = offer("hub:owner/name")
    shown = "\n".join(offered.lines())
    assert "apache-2.0" in shown and "owner/name" in shown and str(models / "owner--name") in shown
    assert not models.exists()
    told = []
    folder = pull(offered, lambda file, done, total: told.append((done, total)))
    assert folder == models / "owner--name"
    got = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert got == {k: v for k, v in FILES.items() if "fp16" not in k and not k.endswith((".bin", ".mp4"))}
    assert told[-1] == (offered.total, offered.total) == (sum(map(len, got.values())),) * 2
    assert [path for method, path, _ in hub.asked if "/resolve/" in path][-1].endswith("model_index.json")


def test_what_is_here_and_right_is_not_fetched_again(hub):
    pull(offer("hub:owner/name"))
    hub.asked.clear()
    again = offer("hub:owner/name")
    assert again.missing == 0
    pull(again)
    assert not [path for _, path, _ in hub.asked if "/resolve/" in path]


def test_a_damaged_file_is_fetched_again(hub):
    folder = pull(offer("hub:owner/name"))
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(b"x" * len(BIG))
    pull(offer("hub:owner/name"))
    assert file.read_bytes() == BIG


def test_a_broken_connection_goes_on_where_it_stopped(hub, tmp_path):
    remote = Remote(
        f"{hub.url}/owner/name/unet/diffusion_pytorch_model.safetensors", "w", len(BIG), hashlib.sha256(BIG).hexdigest()
    )
    hub.break_after = [3000, 2000]
    gained = []
    assert fetch(remote, tmp_path / "w", {}, gained.append)
    assert (tmp_path / "w").read_bytes() == BIG and sum(gained) == len(BIG)
    assert [r for _, _, r in hub.asked] == [None, "bytes=3000-", "bytes=5000-"]


def test_a_stopped_download_goes_on_another_day(hub, tmp_path):
    remote = Remote(
        f"{hub.url}/owner/name/unet/diffusion_pytorch_model.safetensors", "w", len(BIG), hashlib.sha256(BIG).hexdigest()
    )

    def stop(count):
        if count == len(BIG):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote, tmp_path / "w", {}, stop)
    assert not (tmp_path / "w").exists()
    (tmp_path / "w.part").write_bytes(BIG[:4000])
    hub.asked.clear()
    assert fetch(remote, tmp_path / "w", {})
    assert [r for _, _, r in hub.asked] == ["bytes=4000-"]
    assert (tmp_path / "w").read_bytes() == BIG and not (tmp_path / "w.part").exists()
    assert not fetch(remote, tmp_path / "w", {})


def test_a_server_without_ranges_starts_again(hub, tmp_path):
    hub.ranges = False
    (tmp_path / "w.part").write_bytes(b"y" * 4000)
    gained = []
    remote = Remote(
        f"{hub.url}/owner/name/unet/diffusion_pytorch_model.safetensors", "w", len(BIG), hashlib.sha256(BIG).hexdigest()
    )
    assert fetch(remote, tmp_path / "w", {}, gained.append)
    assert (tmp_path / "w").read_bytes() == BIG and sum(gained) == len(BIG)


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json"])
def test_other_bytes_than_published_are_removed(hub, models, file):
    hub.served[file] = b"Z" * len(FILES[file])
    with pytest.raises(WeightsError, match="published hash"):
        pull(offer("hub:owner/name"))
    assert not list((models / "owner--name").rglob(file.rsplit("/", 1)[-1] + "*"))
    assert not registry.entry("hub:owner/name").present


def test_a_server_that_keeps_breaking(hub, tmp_path):
    hub.break_after = [0] * 10
    remote = Remote(f"{hub.url}/owner/name/unet/diffusion_pytorch_model.safetensors", "the/file", len(BIG))
    with pytest.raises(WeightsError, match=r"the/file.*pull again to go on"):
        fetch(remote, tmp_path / "w", {})
    assert len(hub.asked) == fetching.TRIES


def test_no_network(models, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="no network") as caught:
        offer("hub:owner/name")
    assert "\n" not in str(caught.value)


def test_an_unknown_and_a_gated_repository(hub):
    with pytest.raises(WeightsError, match="none of that name"):
        offer("hub:owner/other")
    hub.gated.add("owner/name")
    with pytest.raises(WeightsError, match="gated"):
        offer("hub:owner/name")


def test_a_repository_without_weights(hub):
    hub.repositories["owner/name"] = {"demo.mp4": b"film"}
    with pytest.raises(WeightsError, match="has none"):
        offer("hub:owner/name")


def test_a_name_that_leads_out_of_the_folder(hub):
    hub.repositories["owner/name"]["../../evil.json"] = b"{}"
    with pytest.raises(WeightsError, match="refused"):
        offer("hub:owner/name")


def test_no_room(hub, models, monkeypatch):
    offered = offer("hub:owner/name")
    monkeypatch.setattr("vivant.weights.pull.RESERVE", 10**18)
    with pytest.raises(OutputError, match="VIVANT_MODELS"):
        pull(offered)
    assert not (models / "owner--name").exists()


def test_what_is_not_downloaded(models):
    for name in ("miniature", "embedded"):
        with pytest.raises(SettingError, match=f"{name} is in the package"):
            offer(name)


def test_a_listed_model_takes_only_what_it_needs_and_borrows(hub, models):
    row = registry.REGISTRY["dynamicrafter_512"]
    hub.repositories[row.hub] = {"model.ckpt": BIG, "README.md": b"card", "film.webp": b"film", "LICENSE": b"words"}
    hub.repositories[row.borrow[0][0]] = {"vocab.json": b"{}", "merges.txt": b"#", "pytorch_model.bin": BIG}
    assert not row.present
    folder = pull(offer("dynamicrafter_512"))
    assert folder == models / "dynamicrafter_512" and row.present
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {"model.ckpt", "README.md", "LICENSE", "tokenizer/vocab.json", "tokenizer/merges.txt"}
    assert row.files() == [folder / "model.ckpt"]


def repositories(row) -> dict[str, dict[str, bytes]]:
    """What a proxy maker's repositories hold: what is wanted, and the same in other forms."""
    main = {pattern.replace("*", "config.json"): b"{}" for pattern in row.fetch}
    main |= {name: BIG for name in main if name.endswith(".safetensors")}
    other = {name.replace(".safetensors", ".fp16.safetensors"): b"half" for name in main if "safetensors" in name}
    lent = {repository: dict.fromkeys(names, BIG) | {"else.pth": b""} for repository, _, names in row.borrow}
    return {row.hub: {**main, **other, "all_in_one.safetensors": BIG}, **lent}


@pytest.mark.parametrize("name", [name for name in PROXIES if name != "embedded"])
def test_a_proxy_maker_is_pulled_like_a_model(hub, models, name):
    row = PROXIES[name]
    hub.repositories = repositories(row)
    offered = offer(name)
    shown = "\n".join(offered.lines())
    assert row.licence in shown and row.territory in shown and "download" in shown and not row.present
    hub.break_after = [7000]
    assert pull(offered) == models / "proxy" / name == row.place and row.present
    got = {str(p.relative_to(row.place)) for p in row.place.rglob("*") if p.is_file()}
    borrowed = {file for _, _, names in row.borrow for file in names}
    assert got == {pattern.replace("*", "config.json") for pattern in row.fetch} | borrowed
    hub.asked.clear()
    pull(offer(name))
    assert not [path for _, path, _ in hub.asked if "/resolve/" in path]


def test_a_maker_without_all_its_files_is_not_here(hub, models):
    """InvSR's predictor comes from a repository of its own, after everything else."""
    row = PROXIES["invsr"]
    hub.repositories = repositories(row)
    file = row.borrow[0][2][0]
    hub.served[file] = b"Z" * len(BIG)
    with pytest.raises(WeightsError, match="published hash"):
        pull(offer("invsr"))
    assert (row.place / "model_index.json").is_file() and not row.present


def test_an_archive_is_fetched_checked_by_size_and_opened(hub, models, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for part, name in (
            ("unet", "diffusion_pytorch_model.bin"),
            ("vae", "diffusion_pytorch_model.bin"),
            ("text_encoder", "pytorch_model.bin"),
        ):
            info = tarfile.TarInfo(f"animate_anything_512_v1.02/{part}/{name}")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"bytes"))
    hub.repositories["archive"] = {"model.tar": buffer.getvalue()}
    row = replace(registry.REGISTRY["animate_anything"], url=f"{hub.url}/archive/model.tar")
    monkeypatch.setitem(registry.REGISTRY, "animate_anything", row)
    offered = offer("animate_anything")
    assert offered.total == len(buffer.getvalue()) and any("by size only" in line for line in offered.lines())
    hub.break_after = [2000]
    assert pull(offered) == models / "animate_anything" and row.present
    assert os.listdir(models) == ["animate_anything"]


def test_the_token_stays_with_its_host(models):
    """A hub sends large files from another host; the login is none of that host's business."""
    handler = fetching._Redirect()
    request = urllib.request.Request("https://hub.example/file", headers={"Authorization": "Bearer secret", "X": "1"})
    away = handler.redirect_request(request, None, 302, "Found", {}, "https://cdn.example/file")
    same = handler.redirect_request(request, None, 302, "Found", {}, "https://hub.example/other")
    assert away.get_header("Authorization") is None and away.get_header("X") == "1"
    assert same.get_header("Authorization") == "Bearer secret"
