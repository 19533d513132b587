"""A source, measured clip by clip, described and sifted: a list to train on, the clips left out, and a page about both."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError, SettingError
from .decode import Facts, probe
from .describe import Describe, by_rules
from .filters import Rules, measure, why_not
from .flows import Estimate, estimator, keep
from .sources import Item, Source, items
from .statistics import page

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Work:
    """How clips are looked at; other settings measure anew. `split` makes a clip of each shot of a video with cuts."""

    rate: float = 8.0
    side: int = 256
    split: bool = False
    flow: str | None = None
    """dis or raft: keep the flows and motion masks too"""


@dataclass
class Annotated:
    """What came of it: rows of kept and of left-out clips, and the files written."""

    kept: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    out: Path
    left_out: Path
    page: Path
    measured: int = 0
    """clips that were measured now; the others had been before"""
    warnings: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, int]:
        """{rule: clips it left out}"""
        return dict(Counter(row["why"].partition(":")[0] for row in self.dropped).most_common())


def annotate(
    source: Source, out: Path, rules: Rules = Rules(), work: Work = Work(), describe: Describe | None = by_rules,
    caption: str | None = None, workers: int = 1, fresh: bool = False, on_progress: Progress | None = None,
) -> Annotated:  # fmt: skip
    """Measure, describe and sift all clips of a source into `out` (.jsonl).

    Beside NAME.jsonl: NAME.dropped.jsonl with a `why` for each clip left out, NAME.html with the statistics, NAME.measured.jsonl, to
    which each clip's numbers go as soon as they are known (the same command goes on from there; other rules look at no video
    again), and with `work.flow` the folder NAME.flow. Each is written whole or not at all. `describe`: None adds no
    descriptions. Raises `InputError` for a source without clips and where no clip is kept, `OutputError`.
    """
    if out.suffix.lower() != ".jsonl":
        raise OutputError(f"expected a name that ends in .jsonl for the annotated list, got {out.name}")
    if workers < 1:
        raise SettingError(f"expected at least 1 worker, got {workers}")
    if not 0 < work.rate <= 1000 or work.side < 32:
        raise SettingError(
            f"expected a rate above 0 and up to 1000 and a side of at least 32 pixels, got {work.rate} and {work.side}"
        )
    found = items(source, caption)
    journal = Journal(out.with_suffix(".measured.jsonl"), fresh)
    flows = out.with_suffix(".flow") if work.flow else None
    rows, now = _measured(found, journal, work, flows, workers, on_progress)
    warnings = []
    silent = sum(not row["caption"] for row in rows)
    if silent:
        warnings.append(f"{silent} of {len(rows)} clips have no caption")
    if describe is not None:
        _described(rows, describe, on_progress)
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for row in rows:
        why = why_not(row, rules)
        (kept if why is None else dropped).append(row if why is None else row | {"why": why})
    result = Annotated(kept, dropped, out, out.with_suffix(".dropped.jsonl"), out.with_suffix(".html"), now, warnings)
    if not kept:
        counted = ", ".join(f"{name} {count}" for name, count in result.reasons.items())
        raise InputError(
            f"expected at least one clip to pass the rules, none of {len(rows)} does ({counted}; first: {dropped[0]['key']}, {dropped[0]['why']})"
        )
    whole(result.left_out, "".join(_line(_placed(row, out)) for row in dropped))
    whole(result.page, page(kept, dropped, out.stem))
    whole(out, "".join(_line(_placed(row, out)) for row in kept))
    return result


class Journal:
    """Rows by the hash of what they were measured on; appended to, so that a stopped run loses one clip at most."""

    def __init__(self, path: Path, fresh: bool = False) -> None:
        self.path = path
        self.rows: dict[str, list[dict[str, Any]]] = {}
        if fresh:
            path.unlink(missing_ok=True)
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:  # the last line of a run that was killed may be half a line
                    entry = json.loads(line)
                    self.rows[entry["id"]] = entry["rows"]
                except (ValueError, KeyError, TypeError):
                    continue

    def add(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Keep one clip's rows now. Raises `OutputError`."""
        self.rows[name] = rows
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                # After half a line a new one begins, or it would be lost with it.
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")
                file.write(_line({"id": name, "rows": rows}).encode())
        except OSError as error:
            raise OutputError(f"expected to write {self.path}: {error.strerror or error}") from None


def _measured(
    found: Sequence[Item], journal: Journal, work: Work, flows: Path | None, workers: int, progress: Progress | None
) -> tuple[list[dict[str, Any]], int]:
    estimate = estimator(work.flow or "dis")

    def one(item: Item) -> list[dict[str, Any]]:
        return list(_rows(item, work, flows, estimate))

    names = [_name(item, work) for item in found]
    missing = [
        i for i, name in enumerate(names) if name not in journal.rows or not _flows_there(journal.rows[name], flows)
    ]
    with ThreadPoolExecutor(workers) as pool:  # decoding and flow hold no lock
        futures = [pool.submit(one, found[i]) for i in missing]
        try:
            for done, (i, future) in enumerate(zip(missing, futures, strict=True), 1):
                journal.add(names[i], future.result())
                if progress:
                    progress("measuring", done, len(missing))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    out = []
    for item, name in zip(found, names, strict=True):
        for row in journal.rows[name]:
            # Captions, and what a list tells, may have changed since: they are read each time.
            told = {k: v for k, v in item.facts.items() if k not in ("error", "why")}
            base = told | {"key": item.key, "path": str(item.path), "caption": _caption(item)}
            extra = {"member": item.member.name} if item.member else {}
            key = {"key": f"{item.key}{row['piece']}"} if "piece" in row else {}
            out.append(base | extra | {k: v for k, v in row.items() if k != "piece"} | key)
    return out, len(missing)


def _rows(item: Item, work: Work, flows: Path | None, estimate: Estimate) -> Iterator[dict[str, Any]]:
    """One row of a clip, or with `split` of each of its shots; a broken one's row holds the `error`."""
    try:
        facts = probe(item)
        found, fields, mask = measure(item, facts, work.rate, work.side, estimate)
        if work.split and found.cuts:
            edges = [0.0, *(first for _, first in found.cuts)]
            ends = [*(last + 1 / facts.fps for last, _ in found.cuts), facts.duration]
            # Pieces too short to look at are no clips.
            for begin, end in zip(edges, ends, strict=True):
                if end - begin >= 2 / min(work.rate, facts.fps):
                    piece = replace(item, start=item.start + begin, end=item.start + end)
                    for row in _rows(piece, replace(work, split=False), flows, estimate):
                        # A shot is what lies between cuts; what still looks like one at its edge is not one.
                        yield row | {"cuts": [], "piece": f"@{begin:.2f}"}
            return
        row = _row(item, facts) | {
            k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(found).items() if k != "cuts"
        }
        row["cuts"] = [round(first, 3) for _, first in found.cuts]
        if flows is not None:
            path = keep(
                flows / f"{_safe(item)}.safetensors", fields, mask, min(work.rate, facts.fps), work.flow or "dis"
            )
            row["flow"] = str(path)
        yield row
    except InputError as error:
        yield {"error": " ".join(str(error).split())}


def _row(item: Item, facts: Facts) -> dict[str, Any]:
    row: dict[str, Any] = {
        "width": facts.size[0], "height": facts.size[1], "fps": round(facts.fps, 4), "seconds": round(facts.duration, 4)
    }  # fmt: skip
    if item.start or item.end is not None:
        row |= {"start": round(item.start, 4), "end": round(item.start + facts.duration, 4)}
    return row


def _described(rows: list[dict[str, Any]], describe: Describe, progress: Progress | None) -> None:
    spoken = [row for row in rows if row["caption"] and "error" not in row]
    said = [row["caption"] if isinstance(row["caption"], str) else row["caption"][0] for row in spoken]
    for row, told in zip(spoken, describe(said), strict=True):
        row |= {"confidence": told.confidence, "wording": told.wording, "category": told.category, "described": told.by}
    if progress:
        progress("describing", len(said), len(said))


def _caption(item: Item) -> str | list[str]:
    return list(item.captions) if len(item.captions) > 1 else (item.captions[0] if item.captions else "")


def _name(item: Item, work: Work) -> str:
    try:
        state = item.path.stat()
        seen: tuple[Any, ...] = (state.st_size, state.st_mtime_ns)
    except OSError:
        seen = ()
    place = (str(item.path.resolve()), item.member, item.start, item.end)
    return hashlib.sha256(repr((place, seen, work.rate, work.side, work.split, work.flow)).encode()).hexdigest()[:32]


def _flows_there(rows: list[dict[str, Any]], flows: Path | None) -> bool:
    return flows is None or all(Path(row["flow"]).exists() for row in rows if "flow" in row)


def _safe(item: Item) -> str:
    """A file name for a key: readable, and never another's."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in item.key)[-80:]
    return f"{plain}-{hashlib.sha256(repr((item.key, item.start, item.end)).encode()).hexdigest()[:8]}"


def _placed(row: dict[str, Any], out: Path) -> dict[str, Any]:
    """Paths as the list's own folder sees them, where the files lie below it: the folder may then be moved."""
    folder = out.parent.resolve()
    placed = dict(row)
    for name in ("path", "flow"):
        if name in row:
            path = Path(row[name]).resolve()
            placed[name] = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    return placed


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def whole(path: Path, text: str) -> None:
    """Write a file whole, or not at all. Raises `OutputError`."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"expected to write {path}: {error.strerror or error}") from None
