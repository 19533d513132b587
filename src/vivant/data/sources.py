"""Where clips come from: folders, CSV/JSON/JSONL lists and WebDataset shards, as one list of items with their captions."""

from __future__ import annotations

import csv
import glob
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError
from . import shards

VIDEOS = (".mp4", ".gif", ".webm", ".mkv", ".mov", ".avi", ".m4v")
LISTS = (".csv", ".json", ".jsonl")
PATHS = ("path", "file", "file_name", "filename", "video", "video_path", "videopath", "clip")
CAPTIONS = ("caption", "captions", "text", "prompt", "sentence", "name")
KEYS = ("key", "id", "video_id", "videoid")

Source = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Item:
    """One clip of a source. `key` is unique in it; `start` and `end` (seconds) cut a piece out of a longer video."""

    key: str
    path: Path
    captions: tuple[str, ...] = ()
    """ways to say it; one is drawn for each epoch"""
    member: shards.Member | None = None
    """where in the shard at `path`"""
    start: float = 0.0
    end: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """everything else that the list, or the JSON beside the clip, tells"""

    @property
    def name(self) -> str:
        """For messages: the file, or the shard and the file in it."""
        return f"{self.path}:{self.member.name}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """Lower-case, with its dot; empty for a folder of frames."""
        return Path(self.member.name if self.member else self.path).suffix.lower()

    def open(self) -> str | BinaryIO:
        """What PyAV opens. Raises `InputError` for what is missing or empty."""
        if self.member:
            return io.BytesIO(shards.read(self.path, self.member))
        try:
            if self.path.stat().st_size == 0:
                raise InputError(f"expected a video at {self.path}, the file is empty")
        except OSError as error:
            raise InputError(f"expected a video at {self.path}: {error.strerror or error}") from None
        return str(self.path)


def items(source: Source, field_of_caption: str | None = None) -> list[Item]:
    """All clips of a source, in a fixed order, not opened yet.

    `source`: a folder (searched through, captions in NAME.txt or NAME.json beside each clip, or in a list in the folder), a
    .csv, .json or .jsonl list, a .tar shard, a pattern (`shards-{000..009}.tar`, `*.mp4`), one video, or several of these.
    `field_of_caption`: the caption's column or JSON field, where it is not one of the usual names. Raises `InputError`.
    """
    if isinstance(source, (str, Path)):
        return _unique(_items(source, field_of_caption))
    return _unique(item for one in source for item in _items(one, field_of_caption))


def _items(source: str | Path, caption: str | None) -> Iterator[Item]:
    path = Path(source)
    if path.is_dir():
        yield from _folder(path, caption)
    elif path.suffix.lower() in LISTS and path.is_file():
        yield from _list(path, caption)
    elif path.suffix.lower() == ".tar" and path.is_file():
        yield from _shard(path, caption)
    elif path.suffix.lower() in VIDEOS and path.is_file():
        yield _beside(path, path.stem, caption)
    elif path.exists():
        raise InputError(
            f"expected a folder, a list (.csv .json .jsonl), a shard (.tar) or a video at {path}, got {path.suffix or 'a file'}"
        )
    else:
        found = sorted({name for pattern in braces(str(source)) for name in glob.glob(pattern, recursive=True)})
        if not found:
            raise InputError(f"expected clips at {source}, found no such file or folder")
        for name in found:
            yield from _items(name, caption)


MOST = 100_000
"""names that one pattern may stand for"""


def braces(pattern: str) -> list[str]:
    """`a-{08..10}.tar` as a-08, a-09, a-10; `{a,b}` as a, b. Several multiply."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    inner = match[1]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    many = math.prod(max(1, int(b) - int(a) + 1) for a, b in re.findall(r"\{(\d+)\.\.(\d+)\}", pattern))
    if many > MOST:
        raise InputError(f"expected a pattern of at most {MOST} names, got {many} from {pattern}")
    parts = [f"{i:0{len(span[1])}d}" for i in range(int(span[1]), int(span[2]) + 1)] if span else inner.split(",")
    return [whole for part in parts for whole in braces(pattern[: match.start()] + part + pattern[match.end() :])]


def _folder(folder: Path, caption: str | None) -> Iterator[Item]:
    files = sorted(p for p in folder.rglob("*") if not any(q.startswith(".") for q in p.relative_to(folder).parts))
    told: dict[str, Item] = {}
    for name in ("captions", "metadata"):
        for suffix in LISTS:
            if (file := folder / f"{name}{suffix}").is_file():
                told |= {str(item.path.resolve()): item for item in _list(file, caption)}
    found = False
    for file in files:
        if file.suffix.lower() in VIDEOS and file.is_file():
            found = True
            key = file.relative_to(folder).with_suffix("").as_posix()
            own = _beside(file, key, caption)
            listed = told.get(str(file.resolve()))
            yield own if listed is None else replace(listed, key=key, captions=own.captions or listed.captions)
        elif file.suffix.lower() == ".tar":
            found = True
            yield from _shard(file, caption)
    if not found:
        raise InputError(f"expected clips ({' '.join(VIDEOS)}) or shards (.tar) in {folder}, found none")


def _beside(file: Path, key: str, caption: str | None) -> Item:
    text: tuple[str, ...] = ()
    facts: dict[str, Any] = {}
    if (told := file.with_suffix(".json")).is_file():
        facts = _object(_read(told), str(told))
        text = captions_of(facts, caption)
    if (said := file.with_suffix(".txt")).is_file():
        text = tuple(filter(None, [_read(said).strip()]))
    return Item(key, file, text, facts=facts)


def _shard(path: Path, caption: str | None) -> Iterator[Item]:
    for key, members in shards.samples(path).items():
        video = next((m for suffix, m in members.items() if f".{suffix.split('.')[-1]}" in VIDEOS), None)
        if video is None:
            continue
        text: tuple[str, ...] = ()
        facts: dict[str, Any] = {}
        if "json" in members:
            name = f"{path}:{members['json'].name}"
            facts = _object(_decode(shards.read(path, members["json"]), name), name)
            text = captions_of(facts, caption)
        if "txt" in members:
            said = _decode(shards.read(path, members["txt"]), f"{path}:{members['txt'].name}")
            text = tuple(filter(None, [said.strip()]))
        yield Item(f"{path.stem}/{key}", path, text, video, facts=facts)


def _list(path: Path, caption: str | None) -> Iterator[Item]:
    text = _read(path)
    if path.suffix.lower() == ".csv":
        rows: list[Any] = list(csv.DictReader(io.StringIO(text)))
    elif path.suffix.lower() == ".jsonl":
        rows = [_json(line, f"{path}, line {i}") for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    else:
        rows = _rows(_json(text, str(path)))
    if not rows:
        raise InputError(f"expected clips in the list {path}, it has none")
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"expected an object with a path in row {i} of {path}, got {type(row).__name__}")
        yield _row(row, path, i, caption)


def _rows(data: Any) -> list[Any]:
    """A list of objects; {"data": [...]}; {path: caption}; {path: {…}}."""
    if isinstance(data, dict):
        inner = next((data[k] for k in ("data", "clips", "videos") if isinstance(data.get(k), list)), None)
        if inner is not None:
            return inner
        return [{"path": k} | (v if isinstance(v, dict) else {"caption": v}) for k, v in data.items()]
    return data if isinstance(data, list) else []


def _row(row: dict[str, Any], path: Path, number: int, caption: str | None) -> Item:
    place = next((str(row[k]) for k in PATHS if row.get(k)), None)
    if place is None and row.get("videoid") and "page_dir" in row:  # WebVid
        place = f"{row['page_dir']}/{row['videoid']}.mp4"
    if place is None:
        raise InputError(f"expected a path in row {number} of {path} (one of: {', '.join(PATHS)}), got {sorted(row)}")
    file = path.parent / place
    span: list[float | None] = []
    for name in ("start", "end"):
        value = row.get(name)
        try:
            span.append(None if value in (None, "") else float(str(value)))
        except ValueError:
            raise InputError(f"expected {name} in seconds in row {number} of {path}, got {value!r}") from None
    key = next((str(row[k]) for k in KEYS if row.get(k)), Path(place).with_suffix("").as_posix())
    member = shards.find(file, str(row["member"])) if row.get("member") else None
    # AnimateAnything's lists hold the caption a level down: {"video_path": …, "data": [{"prompt": …}]}.
    inner = row.get("data")
    told = captions_of(row, caption) or tuple(
        text for one in (inner if isinstance(inner, list) else []) if isinstance(one, dict) for text in captions_of(one)
    )
    own = {k: v for k, v in row.items() if k not in (*PATHS, "member", "start", "end", "key")}
    return Item(key, file, told, member, span[0] or 0.0, span[1], own)


def captions_of(row: Mapping[str, Any], wanted: str | None = None) -> tuple[str, ...]:
    """The sentences of a row: of the field `wanted`, else of the first usual name that holds any."""
    for name in (wanted,) if wanted else CAPTIONS:
        value = row.get(name)
        texts = value if isinstance(value, list) else [value]
        said = tuple(" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip())
        if said:
            return said
    return ()


def _unique(found: Iterable[Item]) -> list[Item]:
    seen: Counter[str] = Counter()
    out = []
    for item in found:
        seen[item.key] += 1
        out.append(item if seen[item.key] == 1 else replace(item, key=f"{item.key}#{seen[item.key]}"))
    return out


def _read(path: Path) -> str:
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"expected readable text at {path}: {error.strerror or error}") from None


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"expected text in UTF-8 in {name}; save it as UTF-8") from None


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"expected JSON in {name}: {error}") from None


def _object(text: str, name: str) -> dict[str, Any]:
    data = _json(text, name)
    if not isinstance(data, dict):
        raise InputError(f"expected a JSON object in {name}, got {type(data).__name__}")
    return data
