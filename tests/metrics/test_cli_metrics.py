"""`vivant metrics` and `vivant extractors` as a user meets them."""

import http.server
import json
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.metrics import made
from vivant.cli import app, run
from vivant.errors import WeightsError
from vivant.metrics.cache import FeatureCache
from vivant.metrics.extractors.pull import fetch, unzip
from vivant.metrics.extractors.registry import Row
from vivant.metrics.eyes import Eyes
from vivant.metrics.report import Asked, measure, reference_of
from vivant.render.export import export


def call(*words: object) -> int:
    return run(lambda: app([str(w) for w in words], standalone_mode=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    picture, half = made.painting()[:72, :96], np.indices((72, 96))[1] < 48
    Image.fromarray(picture).save(root / "painting.png")
    Image.fromarray(half.astype(np.uint8) * 255).save(root / "mask.png")
    (root / "real").mkdir()
    for i in range(3):
        export(list(made.carried(picture, 16, 1.0, 90 * i, half)), root / f"v{i}.apng", 8)
        export(list(made.carried(picture, 16, 1.2, 90 * i, half)), root / "real" / f"v{i}.mp4", 8)
    return root


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    return json.loads(capsys.readouterr().out)


def test_a_video_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("metrics", folder / "v0.apng", "--json") == 0
    [video] = found(capsys)["videos"]
    assert video["size"] == [96, 72] and video["frames"] == 16 and video["fps"] == 8
    metrics = video["metrics"]
    assert set(metrics) == {
        "motion_score", "static_score", "flicker", "loop_seam", "consistency", "brush_preservation", "colour_drift", "conformity",
    }  # fmt: skip
    assert metrics["static_score"]["value"] == pytest.approx(0.5, abs=0.1)
    assert metrics["brush_preservation"]["value"] > 0.85
    assert (
        "first frame" in metrics["colour_drift"]["note"]
        and metrics["conformity"]["label"] == "input conformity (gradients-2d)"
    )


def test_everything_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--painting", folder / "painting.png", "--mask", folder / "mask.png", "--prompt", "The clouds drift to the right",
             "--strength", "30", "--reference", folder / "real")  # fmt: skip
    assert call("metrics", folder / "v0.apng", folder / "v1.apng", *words, "--json") == 0
    report = found(capsys)
    first, second = (v["metrics"] for v in report["videos"])
    assert first["freeze_max"]["value"] == 0 and first["motion_inside"]["value"] > 0.8
    assert first["direction_error"]["value"] < 15 and 75 < second["direction_error"]["value"] < 105
    assert first["text"]["value"] is None and "--pull clip" in first["text"]["note"]
    assert first["psnr"]["value"] > 15 and 0 < first["ssim"]["value"] < 1 and "v0.mp4" in first["psnr"]["note"]
    assert first["perceptual"]["label"] == "perceptual distance (gradients-2d)"
    assert first["strength_error"]["value"] == pytest.approx((first["motion_score"]["value"] - 30) ** 2)
    assert 0 < first["mask_precision"]["value"] <= 1
    sets = report["set"]
    assert (
        sets["frechet"]["label"] == "Fréchet distance (gradients-3d)" and "2 against 3 clips" in sets["frechet"]["note"]
    )
    assert sets["kernel"]["low"] <= sets["kernel"]["value"] <= sets["kernel"]["high"]


def test_the_table(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [folder / f"v{i}.apng" for i in range(2)]
    monkeypatch.setenv("COLUMNS", "56")
    assert call("metrics", *paths, "--reference", folder / "real") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "[" in line) <= 56
    assert sum(line.startswith("motion score") for line in lines) > 1
    for word in (
        "static score [share] ↓",
        "brush preservation",
        "Fréchet distance (gradients-3d) ↓",
        "against the first frame",
    ):
        assert any(word in line for line in lines), word
    assert not any("FVD" in line for line in lines)


def test_a_broken_one_among_good_ones(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((folder / "real" / "v0.mp4").read_bytes()[:1500])
    assert call("metrics", broken, folder / "v0.apng", "--json") == 2
    out = capsys.readouterr()
    report = json.loads(out.out)
    assert len(report["videos"]) == 1 and report["errors"][0]["path"] == str(broken)
    assert all(line.startswith("vivant: expected") for line in out.err.strip().splitlines())
    assert call("metrics", broken) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--painting", "none.png"], "painting"), (["--reference", "none"], "reference"), (["--mask", "none.png"], "mask"),
        (["--frames", "0"], "at least"), (["--extractor", "video"], "ROLE=NAME"), (["--extractor", "video=vgg"], "extractor among"),
        (["--extractor", "smell=clip"], "role among"),
    ],
)  # fmt: skip
def test_refusals(words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("metrics", folder / "v0.apng", *words) == 2
    assert said in capsys.readouterr().err


def test_one_frame_has_few_measures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("metrics", folder / "painting.png", "--json") == 0
    [video] = found(capsys)["videos"]
    assert video["metrics"]["motion_score"]["value"] is None and "2 frames" in video["metrics"]["motion_score"]["note"]
    assert video["metrics"]["brush_preservation"]["value"] == 1


def test_one_video_against_a_folder_has_no_distance(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("metrics", folder / "v0.apng", "--reference", folder / "real", "--json") == 0
    assert found(capsys)["set"] == {}
    short = folder / "short"
    short.mkdir(exist_ok=True)
    export(list(made.carried(made.painting()[:72, :96], 4)), short / "a.mp4", 8)
    assert call("metrics", folder / "v0.apng", folder / "v1.apng", "--reference", short) == 2
    assert "at least 2 real clips" in capsys.readouterr().err


def test_nothing_moves_and_nothing_is_frozen(folder: Path, tmp_path: Path) -> None:
    still = export([made.painting()[:72, :96]] * 4, tmp_path / "still", 8)
    Image.fromarray(np.full((72, 96), 255, np.uint8)).save(tmp_path / "white.png")
    _, rows = measure(still, Asked(mask=tmp_path / "white.png"), Eyes())
    values = {v.key: v for v in rows}
    assert values["motion_inside"].value is None and values["motion_inside"].note == "nothing moves"
    assert values["freeze_max"].value is None and "nothing is frozen" in values["freeze_max"].note
    assert values["static_score"].value == 1
    assert values["loop_seam"].as_dict()["value"] == 1


def test_cut_videos_have_no_seam(folder: Path) -> None:
    video, rows = measure(folder / "v0.apng", Asked(frames=5, cache=None), Eyes())
    values = {v.key: v for v in rows}
    assert video.cut and values["loop_seam"].value is None and "goes on" in values["loop_seam"].note


def test_features_are_kept_unless_fresh(folder: Path, models: Path) -> None:
    assert call("metrics", folder / "v0.apng", "--fresh", "--json") == 0
    assert not (models / "features").exists()
    assert call("metrics", folder / "v0.apng", "--json") == 0
    assert FeatureCache().folder == models / "features" and list((models / "features").rglob("*.npy"))


def test_the_real_clip_of_a_name(folder: Path) -> None:
    real = folder / "real"
    assert reference_of(folder / "v1.apng", real) == real / "v1.mp4"
    assert reference_of(folder / "other.apng", real) is None
    assert reference_of(folder / "v1.apng", real / "v2.mp4") == real / "v2.mp4"
    assert reference_of(folder / "v1.apng", None) is None


# --- extractors


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("extractors") == 0
    words = capsys.readouterr().out
    assert all(f"{name}  not on this machine" in words for name in ("i3d", "videomae", "clip", "dreamsim", "lpips"))
    assert "gradients-3d  present" in words
    assert call("extractors", "--json") == 0
    assert len(found(capsys)["extractors"]) == 7
    assert call("extractors", "--pull", "vgg") == 2 and call("extractors", "--pull", "i3d") == 2
    assert "vivant extractors --pull i3d --yes" in capsys.readouterr().err
    assert call("extractors", "--pull", "gradients-3d") == 0


@pytest.fixture
def served(tmp_path: Path):
    (tmp_path / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a: object, **k: object) -> None:
            super().__init__(*a, directory=str(tmp_path / "web"), **k)  # type: ignore[arg-type]

        def log_message(self, *a: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "web", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pull_checks_and_unpacks(served: tuple[Path, str], models: Path) -> None:
    web, url = served
    with zipfile.ZipFile(web / "a.zip", "w") as file:
        file.writestr("models/x_lora/adapter.bin", b"1")
        file.writestr("models/y.pth", b"2")
    row = Row("x", "", "", "", lambda d: None, files=(("a.zip", f"{url}/a.zip", None, None),), needs=("y.pth",))  # type: ignore[arg-type, return-value]
    assert fetch(row) == models / "extractors" / "x" and row.present
    assert (row.folder / "x_lora" / "adapter.bin").read_bytes() == b"1" and not (row.folder / "a.zip").exists()
    (web / "w.pt").write_bytes(b"other bytes")
    wrong = Row("w", "", "", "", lambda d: None, files=(("w.pt", f"{url}/w.pt", None, "0" * 64),), needs=("w.pt",))  # type: ignore[arg-type, return-value]
    with pytest.raises(WeightsError, match="hash"):
        fetch(wrong)
    assert not wrong.present
    lacking = Row("l", "", "", "", lambda d: None, files=(("w.pt", f"{url}/w.pt", None, None),), needs=("v.pt",))  # type: ignore[arg-type, return-value]
    with pytest.raises(WeightsError, match=r"v\.pt among the files"):
        fetch(lacking)


def test_archives_that_lead_out_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("../out.txt", b"1")
    with pytest.raises(WeightsError, match="leads out"):
        unzip(tmp_path / "evil.zip", tmp_path / "in")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="whole zip"):
        unzip(tmp_path / "bad.zip", tmp_path / "in")
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("words", [
    ("--painting", "BAD"), ("--mask", "BAD"), ("--device", "toaster"), ("--strength", "nan"),
])  # fmt: skip
def test_what_was_named_must_be_usable(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    assert call("metrics", folder / "v0.apng", words[0], words[1].replace("BAD", str(tmp_path / "bad.jpg"))) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("vivant: expected ") and said.err.count("\n") == 1
