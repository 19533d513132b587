"""Loaders of the published layouts, on tiny copies written here."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vivant.data.benchmarks import SENTENCE, load_benchmark, read_prompts, recognised
from vivant.errors import InputError, SettingError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(path)


@pytest.fixture
def vtt(tmp_path: Path) -> Path:
    """The 2016 release: an info file for the test videos and the videos in a folder of their own."""
    videos = [{"video_id": f"video{7010 + i}", "split": "test", "id": i, "category": 3, "url": "u",
               "start time": 1.0, "end time": 9.0} for i in range(4)]  # fmt: skip
    videos.append({"video_id": "video3", "split": "train", "id": 9, "category": 0, "url": "u"})
    sentences = [
        {"sen_id": 10 * i + j, "video_id": v["video_id"], "caption": f"caption {j} of {v['video_id']}"}
        for i, v in enumerate(videos)
        for j in range(3)
    ]
    info = {"info": {"year": "2016"}, "videos": videos, "sentences": sentences}
    (tmp_path / "test_videodatainfo.json").write_text(json.dumps(info))
    touch(*(tmp_path / "TestVideo" / f"video{7010 + i}.mp4" for i in range(3)), tmp_path / "TrainVal" / "video3.mp4")
    return tmp_path


def test_msrvtt_of_2016(vtt: Path) -> None:
    assert recognised(vtt) == "msrvtt"
    cases = load_benchmark(vtt)
    assert [c.name for c in cases] == ["video7010", "video7011", "video7012"]  # the fourth has no file, one is of train
    assert all(c.prompt.endswith(f"of {c.name}") and c.reference == c.painting for c in cases)
    assert [c.name for c in load_benchmark(vtt, split="train")] == ["video3"]
    assert len(load_benchmark(vtt, split="all")) == 4


def test_the_draw_is_the_seeds(vtt: Path) -> None:
    first = load_benchmark(vtt, count=2, seed=1)
    assert first == load_benchmark(vtt, count=2, seed=1) and len(first) == 2
    drawn = {tuple(c.prompt for c in load_benchmark(vtt, seed=s)) for s in range(8)}
    assert len(drawn) > 1  # another seed draws other captions


def test_msrvtt_1k_a(tmp_path: Path) -> None:
    with (tmp_path / "MSRVTT_JSFUSION_test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "vid_key", "video_id", "sentence"])
        writer.writerow(["ret0", "msr9770", "video9770", "a person is connecting something, slowly"])
        writer.writerow(["ret1", "msr9771", "video9771", "a little girl does gymnastics"])
    touch(tmp_path / "MSRVTT" / "videos" / "all" / "video9770.mp4")
    [case] = load_benchmark(tmp_path)
    assert (case.name, case.prompt) == ("video9770", "a person is connecting something, slowly")
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text("key,video\n1,2\n")
    with pytest.raises(InputError, match="columns video_id, sentence"):
        load_benchmark(tmp_path)


def test_msrvtt_without_its_videos_or_damaged(vtt: Path) -> None:
    for video in vtt.rglob("*.mp4"):
        video.unlink()
    with pytest.raises(InputError, match=r"video7010\.mp4"):
        load_benchmark(vtt)
    (vtt / "test_videodatainfo.json").write_text('{"videos": [{}], "sentences": []}')
    with pytest.raises(InputError, match=r"got no .split"):
        load_benchmark(vtt)
    (vtt / "test_videodatainfo.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        load_benchmark(vtt)


def test_ucf101(tmp_path: Path) -> None:
    names = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "YoYo/v_YoYo_g25_c05.avi", "Archery/v_Archery_g08_c01.avi"]
    touch(*(tmp_path / "UCF-101" / n for n in names))
    assert recognised(tmp_path) == "ucf101"
    assert len(load_benchmark(tmp_path)) == 3  # without lists: all of them
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "testlist01.txt").write_text("\n".join(names[:2]) + "\n")
    (lists / "trainlist01.txt").write_text(names[2] + " 3\n")
    cases = load_benchmark(tmp_path)
    assert [(c.group, c.prompt) for c in cases] == [("ApplyEyeMakeup", "apply eye makeup"), ("YoYo", "yo yo")]
    assert [c.group for c in load_benchmark(tmp_path, split="train")] == ["Archery"]
    assert len(load_benchmark(tmp_path, split="all")) == 3
    (lists / "testlist01.txt").write_text("Archery/archery.avi\n")
    with pytest.raises(InputError, match="v_Archery_g01_c01"):
        load_benchmark(tmp_path)


def test_clips_by_their_names_and_sidecars(tmp_path: Path) -> None:
    touch(tmp_path / "nature" / "sea-waves-1093_large.mp4", tmp_path / "fair" / "31415.webm", tmp_path / "lake.mov")
    (tmp_path / "lake.txt").write_text("the lake ripples\nsecond line\n")
    cases = {c.painting.name: c for c in load_benchmark(tmp_path, "clips")}
    assert cases["sea-waves-1093_large.mp4"].prompt == "sea waves" and cases["lake.mov"].prompt == "the lake ripples"
    assert cases["31415.webm"].prompt == SENTENCE and cases["31415.webm"].group == "fair"
    (tmp_path / "p.json").write_text(json.dumps({"31415": "a wheel turns"}))
    said = {c.painting.name: c.prompt for c in load_benchmark(tmp_path, "clips", prompts=tmp_path / "p.json")}
    assert said["31415.webm"] == "a wheel turns" and said["lake.mov"] == "the lake ripples"


def test_wikiart(tmp_path: Path) -> None:
    picture(tmp_path / "Impressionism" / "claude-monet_water-lilies-1919.jpg")
    picture(tmp_path / "Realism" / "ivan-shishkin_rain-1891.jpg")
    assert recognised(tmp_path) == "paintings"
    (tmp_path / "prompts.csv").write_text('claude-monet_water-lilies-1919.jpg,"the water ripples, slowly"\n')
    cases = load_benchmark(tmp_path)
    assert [(c.group, c.prompt) for c in cases] == [
        ("Impressionism", "the water ripples, slowly"), ("Realism", SENTENCE),
    ]  # fmt: skip
    assert cases[0].name == "Impressionism-claude-monet_water-lilies-1919" and cases[0].reference is None
    (tmp_path / "style_val.csv").write_text("Realism/ivan-shishkin_rain-1891.jpg,21\n")
    assert [c.group for c in load_benchmark(tmp_path)] == ["Realism"]
    assert len(load_benchmark(tmp_path, split="all")) == 2


def test_cases_json(tmp_path: Path) -> None:
    for name in ("a.png", "sky.png", "b.png"):
        picture(tmp_path / name)
    entries = [
        {"image": "a.png", "prompt": "clouds drift", "region": "sky.png", "direction": [1, 0], "strength": 0.4},
        {"image": "a.png", "prompt": "clouds drift", "mask": "sky.png"},
        {"image": "a.png", "last": "b.png", "prompt": "between"},
    ]
    (tmp_path / "cases.json").write_text(json.dumps(entries))
    first, second = load_benchmark(tmp_path)
    assert first.direction == (1, 0) and first.strength == 0.4 and first.mask is None
    assert first.region == second.mask == second.region == (tmp_path / "sky.png").resolve()
    assert first.name != second.name
    entries[0]["region"] = "none.png"
    (tmp_path / "cases.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"none\.png"):
        load_benchmark(tmp_path)
    (tmp_path / "cases.json").write_text('[{"picture": 1}]')
    with pytest.raises(InputError, match="entry 0"):
        load_benchmark(tmp_path)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        load_benchmark(tmp_path / "nowhere")
    with pytest.raises(InputError, match="none of them"):
        load_benchmark(tmp_path)
    picture(tmp_path / "a.png")
    for bad in ({"kind": "kinetics"}, {"count": 0}, {"split": "validation"}):
        with pytest.raises(SettingError):
            load_benchmark(tmp_path, **bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="ucf101 cases"):
        load_benchmark(tmp_path, "ucf101")
    with pytest.raises(InputError, match="cases"):
        load_benchmark(tmp_path, "clips")
    with pytest.raises(InputError, match="MSRVTT_data"):
        load_benchmark(tmp_path, "msrvtt")
    (tmp_path / "p.json").write_text("[1]")
    with pytest.raises(InputError, match="sentence"):
        read_prompts(tmp_path / "p.json")
    with pytest.raises(InputError, match="no such file"):
        load_benchmark(tmp_path, prompts=tmp_path / "q.json")
