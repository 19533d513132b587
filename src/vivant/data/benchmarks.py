"""Benchmarks in the layouts they are published in, as one list of cases: what to animate, by which words, held to what.

A case whose `painting` is a video is animated from that video's first frame, as the papers do with MSR-VTT and UCF-101.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, SettingError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
SENTENCE = "gentle natural motion"
"""what a painting without words is animated by; `prompts` says better"""


@dataclass(frozen=True)
class Case:
    """One thing to animate. `name` is unique in its benchmark and fit for a file name; paths are absolute."""

    name: str
    prompt: str
    painting: Path
    """a picture, or a video whose first frame it is"""
    reference: Path | None = None
    """the real clip"""
    mask: Path | None = None
    """the mask it is animated with"""
    region: Path | None = None
    """where the motion should be; measured, not told"""
    direction: tuple[float, float] | None = None
    strength: float | None = None
    arrows: tuple[tuple[float, float, float, float], ...] = ()
    """(x0, y0, x1, y1) in fractions of the picture"""
    proxy: Path | None = None
    group: str = ""
    """class, style or folder"""


def load_benchmark(
    folder: Path, kind: str = "auto", count: int | None = None, seed: int = 0, prompts: Path | None = None,
    split: str = "test",
) -> list[Case]:  # fmt: skip
    """The cases of a folder; `count` of them drawn at random with `seed`, in the benchmark's own order.

    `kind`: auto, msrvtt, ucf101, clips, paintings or cases (a cases.json). `prompts`: a .json or .csv from a file's name,
    with or without suffix, to its sentence. Raises `InputError` for a folder that is not of that layout.
    """
    if not folder.is_dir():
        raise InputError(f"expected a benchmark's folder at {folder}, found none")
    if kind == "auto":
        kind = recognised(folder)
    if kind not in LAYOUTS:
        raise SettingError(f"expected a benchmark among auto, {', '.join(LAYOUTS)}, got {kind!r}")
    if count is not None and count < 1:
        raise SettingError(f"expected at least 1 case, got {count}")
    if split not in ("train", "test", "all"):
        raise SettingError(f"expected split train, test or all, got {split!r}")
    cases = LAYOUTS[kind](folder.resolve(), split, seed)
    if prompts is not None:
        said = read_prompts(prompts)
        cases = [replace(c, prompt=_said(said, c) or c.prompt) for c in cases]
    if not cases:
        raise InputError(f"expected {kind} cases in {folder} (split {split}), found none")
    if len({c.name for c in cases}) < len(cases):
        cases = [replace(c, name=f"{c.name}-{i:04d}") for i, c in enumerate(cases)]
    if count is None or count >= len(cases):
        return cases
    picked = np.random.default_rng(seed).choice(len(cases), count, replace=False)
    return [cases[i] for i in sorted(picked)]


def recognised(folder: Path) -> str:
    """Which layout a folder has. Raises `InputError` where it is none of them."""
    if (folder / "cases.json").is_file():
        return "cases"
    if _msrvtt_list(folder) is not None:
        return "msrvtt"
    if _ucf_lists(folder) is not None or next(folder.rglob("v_*_g[0-9][0-9]_c[0-9][0-9].*"), None):
        return "ucf101"
    for kind, suffixes in (("clips", VIDEOS), ("paintings", PICTURES)):
        if next(_files(folder, suffixes), None) is not None:
            return kind
    raise InputError(f"expected videos, paintings, MSR-VTT or UCF-101 in {folder}, found none of them")


def msrvtt(folder: Path, split: str, seed: int) -> list[Case]:
    """MSR-VTT: `*videodatainfo.json` or `MSRVTT_data.json` (20 sentences a video, one drawn), or `MSRVTT_JSFUSION_test.csv`
    (the 1 000 pairs of the 1k-A split), and `videoN.mp4` anywhere below."""
    listed = _msrvtt_list(folder)
    if listed is None:
        names = "test_videodatainfo.json, MSRVTT_data.json or MSRVTT_JSFUSION_test.csv"
        raise InputError(f"expected MSR-VTT's {names} in {folder}, found none")
    found = {path.stem: path for path in _files(folder, VIDEOS)}
    if listed.suffix == ".csv":
        pairs = [(row["video_id"], row["sentence"]) for row in _rows(listed, ("video_id", "sentence"))]
    else:
        data = _json(listed)
        try:
            wanted = {
                v["video_id"]
                for v in data["videos"]
                if split == "all" or ("test" if v["split"] == "test" else "train") == split
            }
            said: dict[str, list[str]] = {}
            for sentence in data["sentences"]:
                said.setdefault(sentence["video_id"], []).append(sentence["caption"])
        except (KeyError, TypeError) as error:
            raise InputError(f"expected MSR-VTT's videos and sentences in {listed}, got no {error}") from error
        rng = np.random.default_rng(seed)
        order = sorted(wanted & said.keys(), key=lambda name: (len(name), name))
        pairs = [(name, said[name][int(rng.integers(len(said[name])))]) for name in order]
    cases = [
        Case(name, caption.strip(), found[name], reference=found[name]) for name, caption in pairs if name in found
    ]
    if not cases and pairs:
        raise InputError(
            f"expected the videos that {listed.name} lists ({pairs[0][0]}.mp4 …) below {folder}, found none"
        )
    return cases


def ucf101(folder: Path, split: str, seed: int) -> list[Case]:
    """UCF-101: `Class/v_Class_gNN_cNN.avi`, and `testlist01.txt` or `trainlist01.txt` where they are; the sentence is the class."""
    found = {path.name: path for path in _files(folder, VIDEOS)}
    lists = _ucf_lists(folder)
    if lists is None:
        names = sorted(name for name in found if re.match(r"v_.+_g\d+_c\d+\.", name))
    else:
        names = []
        for which in ("test", "train") if split == "all" else (split,):
            listed = lists / f"{which}list01.txt"
            if not listed.is_file():
                raise InputError(f"expected UCF-101's {listed.name} in {lists}, found none")
            names += [line.split()[0].split("/")[-1] for line in listed.read_text().splitlines() if line.strip()]
    cases = []
    for name in names:
        match = re.match(r"v_(.+)_g\d+_c\d+\.", name)
        if match is None:
            raise InputError(f"expected UCF-101 names such as v_Archery_g01_c01.avi, got {name!r}")
        if name in found:
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", match[1]).lower()
            cases.append(Case(Path(name).stem, words, found[name], reference=found[name], group=match[1]))
    if names and not cases:
        raise InputError(f"expected the videos that UCF-101's list names ({names[0]} …) below {folder}, found none")
    return cases


def clips(folder: Path, split: str, seed: int) -> list[Case]:
    """A folder of clips (CLIA's Pixabay layout). The sentence: NAME.txt beside it, prompts.json/.csv, or the name's own words."""
    return [
        Case(_name(folder, path), _sentence(folder, path), path, reference=path, group=_group(folder, path))
        for path in _files(folder, VIDEOS)
    ]


def paintings(folder: Path, split: str, seed: int) -> list[Case]:
    """WikiArt: `Style/artist_title-year.jpg`; `style_train.csv` / `style_val.csv` where they are; else any folder of pictures.

    WikiArt has no sentences: NAME.txt beside the picture or prompts.json/.csv in the folder, else `SENTENCE`.
    """
    chosen: set[str] | None = None
    which = {"test": "*style_val.csv", "train": "*style_train.csv"}.get(split)
    listed = next(iter(sorted(folder.rglob(which))), None) if which else None
    if listed is not None:
        with listed.open(newline="", encoding="utf-8", errors="replace") as file:
            chosen = {Path(row[0]).name for row in csv.reader(file) if row}
    return [
        Case(_name(folder, path), _sentence(folder, path, SENTENCE), path, group=_group(folder, path))
        for path in _files(folder, PICTURES)
        if chosen is None or path.name in chosen
    ]


def given(folder: Path, split: str, seed: int) -> list[Case]:
    """A folder with a cases.json: image, prompt, and where known mask, region, direction, strength,
    arrows, proxy, reference."""
    listed = folder / "cases.json"
    if not listed.is_file():
        raise InputError(f"expected a cases.json in {folder}, found none")
    cases = []
    for i, entry in enumerate(_json(listed)):
        try:
            if "last" in entry:
                continue  # an in-between has two paintings and is no animation of one
            files = {
                key: folder / entry[key]
                for key in ("image", "mask", "region", "proxy", "reference")
                if entry.get(key) is not None
            }
            way = entry.get("direction")
            case = Case(
                f"{i:02d}-{_safe(Path(entry['image']).stem)}", entry["prompt"], files["image"], files.get("reference"),
                files.get("mask"), files.get("region") or files.get("mask"), (way[0], way[1]) if way else None,
                entry.get("strength"), tuple((a[0], a[1], a[2], a[3]) for a in entry.get("arrows", [])), files.get("proxy"),
            )  # fmt: skip
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(f"expected image and prompt in entry {i} of {listed}, got {str(entry)[:80]}") from error
        missing = next((path for path in files.values() if not path.is_file()), None)
        if missing is not None:
            raise InputError(f"expected {missing} as entry {i} of cases.json names it, found no such file")
        cases.append(case)
    return cases


LAYOUTS: dict[str, Callable[[Path, str, int], list[Case]]] = {
    "msrvtt": msrvtt, "ucf101": ucf101, "clips": clips, "paintings": paintings, "cases": given,
}  # fmt: skip


def read_prompts(path: Path) -> dict[str, str]:
    """Sentences by file name: a .json object, or a .csv whose first two columns are name and sentence."""
    if not path.is_file():
        raise InputError(f"expected sentences at {path}, found no such file")
    if path.suffix.lower() == ".csv":
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return {row[0]: row[1] for row in csv.reader(file) if len(row) >= 2}
    data = _json(path)
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        raise InputError(f'expected {path} to hold {{"name": "sentence"}}, got something else')
    return data


def _said(prompts: dict[str, str], case: Case) -> str | None:
    return next((prompts[key] for key in (case.painting.name, case.painting.stem, case.name) if key in prompts), None)


def _sentence(folder: Path, path: Path, otherwise: str | None = None) -> str:
    beside = path.with_suffix(".txt")
    if beside.is_file():
        return beside.read_text(encoding="utf-8", errors="replace").strip().splitlines()[0]
    for name in ("prompts.json", "prompts.csv"):
        if (folder / name).is_file():
            said = read_prompts(folder / name)
            if path.name in said or path.stem in said:
                return said.get(path.name) or said[path.stem]
    if otherwise is not None:
        return otherwise
    words = re.split(r"[^a-z]+", path.stem.lower())
    return " ".join(w for w in words if len(w) > 1 and w not in _SIZES) or SENTENCE


_SIZES = {"tiny", "small", "medium", "large", "source", "uhd", "hd", "sd", "fps", "video", "clip", "pixabay", "mp"}
"""what stock sites add to a name, saying nothing of what is seen"""


def _msrvtt_list(folder: Path) -> Path | None:
    for pattern in ("MSRVTT_JSFUSION_test.csv", "MSRVTT_data.json", "test_videodatainfo*.json", "*videodatainfo*.json"):
        found = next(iter(sorted(folder.rglob(pattern))), None)
        if found is not None:
            return found
    return None


def _ucf_lists(folder: Path) -> Path | None:
    found = next((p for p in sorted(folder.rglob("*list01.txt")) if p.stem in ("testlist01", "trainlist01")), None)
    return found.parent if found else None


def _files(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    yield from (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in suffixes and p.is_file())


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "case"


def _name(folder: Path, path: Path) -> str:
    return _safe("-".join(path.relative_to(folder).with_suffix("").parts))[-120:]


def _group(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"expected JSON in {path}, it cannot be read: {str(error).splitlines()[0]}") from error


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        if not set(columns) <= set(reader.fieldnames or ()):
            raise InputError(
                f"expected columns {', '.join(columns)} in {path}, got {', '.join(reader.fieldnames or ())}"
            )
        return list(reader)
