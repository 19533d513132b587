"""Folders, lists and shards give the same clips, and say in one line what is wrong with them."""

import json
import tarfile
from pathlib import Path

import pytest

from tests.data.clips import numbered, shard, write
from vivant.data.sources import braces, items
from vivant.errors import InputError


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clip") / "a.mp4", numbered(4))


def test_folder_with_captions_beside(clip: Path, tmp_path: Path) -> None:
    for name in ("b/two.mp4", "a.mp4", "c.webm", ".hidden/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(clip.read_bytes())
    (tmp_path / "a.txt").write_text("\ufeffA boat\n", encoding="utf-8")
    (tmp_path / "b/two.json").write_text(json.dumps({"text": ["one", "two"], "mood": 3}))
    found = items(tmp_path)
    assert [i.key for i in found] == ["a", "b/two", "c"]
    assert [i.captions for i in found] == [("A boat",), ("one", "two"), ()]
    assert found[1].facts["mood"] == 3


def test_list_in_the_folder(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.mp4", "text": "Waves"}\n')
    assert [i.captions for i in items(tmp_path)] == [("Waves",)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "path,caption,start,end\na.mp4,A man,1.5,2\n"),
        ("l.jsonl", '{"video": "a.mp4", "prompt": "A man", "start": 1.5, "end": 2}\n\n'),
        ("l.json", '[{"path": "a.mp4", "caption": "A man", "start": "1.5", "end": 2}]'),
        ("l.json", '{"data": [{"video_path": "a.mp4", "start": 1.5, "end": 2, "data": [{"prompt": "A man"}]}]}'),
    ],
)
def test_lists(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (item,) = items(tmp_path / name)
    assert (item.path, item.captions, item.start, item.end) == (tmp_path / "a.mp4", ("A man",), 1.5, 2.0)


def test_more_lists(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("videoid,contentUrl,duration,page_dir,name\n7,http://x,PT1S,0_50,Rain\n")
    (item,) = items(tmp_path / "w.csv")
    assert (item.key, item.path, item.captions) == ("7", tmp_path / "0_50/7.mp4", ("Rain",))
    (tmp_path / "m.json").write_text('{"a.mp4": "A man", "b.mp4": {"caption": "x", "wording": "man walking"}}')
    assert [i.captions for i in items(tmp_path / "m.json")] == [("A man",), ("x",)]
    assert [i.captions for i in items(tmp_path / "m.json", "wording")] == [(), ("man walking",)]


def test_shards(clip: Path, tmp_path: Path) -> None:
    for k in range(2):
        shard(tmp_path / f"s-{k}.tar", {
            "x/0.txt": b"first", "x/0.mp4": clip.read_bytes(), "1.json": b'{"caption": "second", "n": 1}',
            "1.mp4": clip.read_bytes(), "readme.md": b"no clip",
        })  # fmt: skip
    found = items(str(tmp_path / "s-{0..1}.tar"))
    assert [i.key for i in found] == ["s-0/x/0", "s-0/1", "s-1/x/0", "s-1/1"]
    assert [i.captions for i in found[:2]] == [("first",), ("second",)] and found[1].facts == {
        "caption": "second",
        "n": 1,
    }
    stream = found[0].open()
    assert not isinstance(stream, str) and stream.read() == clip.read_bytes()
    assert items(tmp_path) == items([tmp_path / "s-0.tar", tmp_path / "s-1.tar"]) == found
    # A list may name a file inside a shard.
    (tmp_path / "l.jsonl").write_text('{"path": "s-1.tar", "member": "1.mp4", "caption": "c"}')
    assert items(tmp_path / "l.jsonl")[0].member == found[3].member


def test_same_keys_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,key\na.mp4,k\nb.mp4,k\n")
    assert [i.key for i in items(tmp_path / "l.csv")] == ["k", "k#2"]


def test_braces() -> None:
    assert braces("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("none", None, "found no such"),
        ("a.txt", b"x", "expected a folder, a list"),
        ("a.csv", b"path,caption\n", "it has none"),
        ("a.csv", b"caption\nx\n", "expected a path in row 1"),
        ("a.csv", b"path,start\na.mp4,soon\n", "start in seconds in row 1"),
        ("a.csv", b"path\n\xff\xfe.mp4\n", "UTF-8"),
        ("a.json", b"{", "expected JSON"),
        ("a.json", b"[3]", "expected an object"),
        ("a.jsonl", b'{"path": "a.mp4"}\nx\n', "line 2"),
        ("a.tar", b"no tar", "plain tar"),
    ],
)
def test_bad_sources(name: str, data: bytes | None, said: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        items(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_bad_shards(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(clip.read_bytes())
    with tarfile.open(tmp_path / "z.tar", "w:gz") as file:
        file.add(tmp_path / "b.mp4", "b.mp4")
    with pytest.raises(InputError, match="unpack compressed"):
        items(tmp_path / "z.tar")
    whole = shard(tmp_path / "s.tar", {"a.mp4": clip.read_bytes()})
    (item,) = items(whole)
    whole.write_bytes(whole.read_bytes()[:600])
    with pytest.raises(InputError, match="breaks off"):
        item.open()


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        items(tmp_path)


@pytest.mark.parametrize("pattern", ["{000..9999999999}.tar", "{0..9999}-{0..9999}.tar"])
def test_patterns_of_endless_names_are_refused(pattern):
    with pytest.raises(InputError, match="expected a pattern of at most"):
        braces(pattern)
