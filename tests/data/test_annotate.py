"""A source becomes a list to train on: sifted, resumable, whole or not at all; and a page that tells of it."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.clips import shard, write
from tests.metrics import made
from vivant.data import annotate as module
from vivant.data.annotate import Work, annotate
from vivant.data.describe import Description
from vivant.data.filters import Rules
from vivant.data.flows import along, load
from vivant.data.statistics import page
from vivant.data.videos import VideoClips
from vivant.errors import InputError, OutputError

WORK = Work(rate=8, side=96)


@pytest.fixture(scope="module")
def pile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still camera, a panning one, a cut, a broken file."""
    place = tmp_path_factory.mktemp("pile")
    picture = made.painting()
    write(place / "leaf.mp4", made.carried(picture, 12, 1.0, region=made.left_half(0.3)))
    write(place / "pan.mp4", made.carried(picture, 12, 3.0))
    other = np.ascontiguousarray(255 - made.painting(3)[::-1] // 2)
    write(place / "two.mp4", np.concatenate([made.carried(p, 10, 0.0) for p in (picture, other)]))
    (place / "bad.mp4").write_bytes(b"no video")
    for name, text in (("leaf", "A tree swaying"), ("pan", "A man walking"), ("two", "View of a lake"), ("bad", "x")):
        (place / f"{name}.txt").write_text(text)
    return place


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sifted(pile: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    result = annotate(pile, out, work=WORK)
    (kept,) = rows(out)
    assert kept["key"] == "leaf" and kept["path"] == str(pile / "leaf.mp4") and kept["caption"] == "A tree swaying"
    assert (kept["wording"], kept["category"], kept["confidence"]) == ("tree swaying", "nature", 50)
    assert (kept["width"], kept["height"], kept["fps"], kept["seconds"]) == (made.WIDTH, made.HEIGHT, 8.0, 1.5)
    dropped = {row["key"]: row["why"] for row in rows(tmp_path / "a.dropped.jsonl")}
    assert dropped["bad"].startswith("broken: expected a video") and dropped["pan"].startswith("camera: moves")
    assert dropped["two"] == "cut: at 1.25 s" and result.reasons == {"broken": 1, "camera": 1, "cut": 1}
    # It is a source: what was measured need not be looked up again, and each field can be the caption.
    clips = VideoClips(out, 4, size=(32, 32), caption="wording")
    assert clips[0]["caption"] == "tree swaying" and clips[0]["facts"]["category"] == "nature"


def test_split(pile: Path, tmp_path: Path) -> None:
    annotate(pile / "two.mp4", tmp_path / "a.jsonl", Rules(), Work(8, 96, split=True))
    first, second = rows(tmp_path / "a.jsonl")
    assert (first["key"], first["start"], first["end"]) == ("two@0.00", 0.0, 1.25)
    assert (second["key"], second["start"], second["end"]) == ("two@1.25", 1.25, 2.5)
    assert first["motion_score"] < 5 and first["cuts"] == []
    clips = VideoClips(tmp_path / "a.jsonl", 10, size=(64, 48), as_bytes=True)
    shots = [clips[i]["frames"].astype(int) for i in range(2)]
    assert all(np.abs(s - s[:1]).mean() < 4 for s in shots) and np.abs(shots[0][0] - shots[1][0]).mean() > 20


def test_stopped_and_gone_on(pile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the third clip and inside a line: nothing but the journal is there, and the rest is done later."""
    whole = annotate(pile, tmp_path / "w.jsonl", work=WORK)
    seen: list[str] = []
    true = module.measure

    def failing(item: Any, *rest: Any) -> Any:
        seen.append(item.key)
        if item.key == "two":
            raise KeyboardInterrupt
        return true(item, *rest)

    monkeypatch.setattr(module, "measure", failing)
    with pytest.raises(KeyboardInterrupt):
        annotate(pile, tmp_path / "a.jsonl", work=WORK)
    assert [p.name for p in tmp_path.glob("a.*")] == ["a.measured.jsonl"]
    with (tmp_path / "a.measured.jsonl").open("a") as file:
        file.write('{"id": "ha')
    monkeypatch.setattr(module, "measure", lambda item, *rest: (seen.append(item.key), true(item, *rest))[1])
    seen.clear()
    result = annotate(pile, tmp_path / "a.jsonl", work=WORK)
    assert seen == ["two"] and result.measured == 1
    assert (result.kept, result.dropped) == (whole.kept, whole.dropped)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "w.jsonl").read_bytes()
    # Other rules look at nothing again; another file of the same name does, and so does --fresh.
    assert annotate(pile, tmp_path / "a.jsonl", Rules(camera=None, cut=True), WORK).measured == 0 and seen == ["two"]
    assert len(rows(tmp_path / "a.jsonl")) == 3
    assert annotate(pile, tmp_path / "a.jsonl", work=WORK, fresh=True).measured == 4


def test_flow_is_kept(pile: Path, tmp_path: Path) -> None:
    work = Work(8, 96, flow="dis")
    annotate(pile / "pan.mp4", tmp_path / "a.jsonl", Rules(camera=None), work)
    (row,) = rows(tmp_path / "a.jsonl")
    assert not Path(row["flow"]).is_absolute()
    flow, mask, rate = load(tmp_path / row["flow"])
    assert flow.shape == (11, 2, 72, 96) and mask.shape == (72, 96) and rate == 8.0
    assert flow[:, 0].median() == pytest.approx(1.5, abs=0.15)  # three pixels at half the size
    # A clip drawn on the flow's grid has its flow at hand.
    clip = VideoClips(tmp_path / "a.jsonl", 4, rates=(4,), grid=rate)[0]
    own = along(flow, rate, clip["start"], clip["fps"], 4)
    assert own.shape == (3, 2, 72, 96) and own[:, 0].median() == pytest.approx(3.0, abs=0.3)
    (tmp_path / row["flow"]).unlink()
    assert annotate(pile / "pan.mp4", tmp_path / "a.jsonl", Rules(camera=None), work).measured == 1


def test_shards_and_workers(pile: Path, tmp_path: Path) -> None:
    shard(
        tmp_path / "s.tar",
        {f"{n}.{s}": (pile / f"{n}.{s}").read_bytes() for n in ("leaf", "pan") for s in ("mp4", "txt")},
    )
    annotate(tmp_path / "s.tar", tmp_path / "a.jsonl", work=WORK, workers=2)
    (row,) = rows(tmp_path / "a.jsonl")
    assert (row["path"], row["member"], row["key"]) == ("s.tar", "leaf.mp4", "s/leaf")
    assert VideoClips(tmp_path / "a.jsonl", 4, size=(32, 32))[0]["caption"] == "A tree swaying"


def test_nothing_passes(pile: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of 4 does \(still 2, broken 1, cut 1; first: bad"):
        annotate(pile, tmp_path / "a.jsonl", Rules(motion=900, camera=None), WORK)
    assert [p.name for p in tmp_path.iterdir()] == ["a.measured.jsonl"]
    with pytest.raises(OutputError, match="jsonl"):
        annotate(pile, tmp_path / "a.csv")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="expected to write"):
        annotate(pile / "leaf.mp4", tmp_path / "file" / "a.jsonl", work=WORK)


def test_confidence_and_captions(pile: Path, tmp_path: Path) -> None:
    rules = Rules(camera=None, cut=True, confidence=40)
    annotate(pile, tmp_path / "a.jsonl", rules, WORK)
    assert [r["key"] for r in rows(tmp_path / "a.jsonl")] == ["leaf", "pan"]
    told = annotate(
        pile, tmp_path / "a.jsonl", rules, WORK, lambda texts: [Description(90, t, "others", "me") for t in texts]
    )
    assert [r["wording"] for r in told.kept] == ["A tree swaying", "A man walking", "View of a lake"]
    (tmp_path / "x").mkdir()
    (tmp_path / "x/leaf.mp4").write_bytes((pile / "leaf.mp4").read_bytes())
    silent = annotate(tmp_path / "x", tmp_path / "s.jsonl", work=WORK)
    assert silent.warnings == ["1 of 1 clips have no caption"] and "wording" not in silent.kept[0]
    with pytest.raises(InputError, match="caption 1"):
        annotate(tmp_path / "x", tmp_path / "s.jsonl", Rules(caption=True), WORK)


class Reader(html.parser.HTMLParser):
    """The page's tags (balanced), attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_the_page() -> None:
    base = {
        "seconds": 2.0,
        "motion_score": 12.0,
        "motion": 1.0,
        "camera": 0.1,
        "moved": 0.3,
        "fps": 8.0,
        "width": 64,
        "height": 48,
    }
    told = [
        ("human", 80, "man <running>"),
        ("human", 85, "man walking"),
        ("nature", 50, "clouds drifting"),
        ("none", 5, "none"),
    ]
    kept = [base | {"caption": "x", "category": c, "confidence": n, "wording": w} for c, n, w in told]
    text = page(kept, [{"why": "camera: moves 9 %"}], "A <set>")
    read = Reader(text)
    assert not read.open
    assert {tag for tag, _ in read.found}.isdisjoint({"script", "img", "link", "iframe"}) and "http" not in text
    assert "4 of 5 clips kept, 8 s of video, 4 with a caption." in read.text and "A <set>" in read.text
    labels = [a["aria-label"] for tag, a in read.found if tag == "svg"]
    assert labels[0] == "human 2, nature 1, none 1" and labels[2].startswith("man 2, ")
    titles = set(read.text)
    assert {
        "human, 80 to 90: 2",
        "nature, 50 to 60: 1",
        "2 to 2.2: 4",
        "camera: 1",
        "64×48: 4",
        "human: 2 (50%)",
    } <= titles
    # No captions, no charts of them; nothing at all is still a page.
    bare = Reader(page([base], [], "b"))
    assert "What moves" not in bare.text and "Length" in bare.text and not Reader(page([], [], "c")).open
