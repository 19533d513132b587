"""A user study as a page without a server, and its answers as preference rates with intervals (DynamiCrafter, sec. C, fig. 16).

The page holds opaque names only; which method made which clip is written to `PAGE.key.json` beside it, for `read`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import InputError, OutputError, SettingError
from .clips import clips_of, picture_and_prompt, retimed
from .intervals import Rate, rate_of
from .tables import Cell, Grid, Head

QUESTIONS = {"motion": "M.Q.", "coherence": "T.C.", "conformity": "I.C."}
"""motion quality and temporal coherence (one choice each), conformity to the input (all that do)"""
SECONDS_PER_CASE = 9.0
"""of the paper: three minutes for twenty comparisons; who is quicker has not looked"""
FORMAT = 1


def make(
    folders: Mapping[str, Path], out: Path, *, count: int | None = 20, seed: int = 0, title: str = "Which animation is best?",
    prompts: Mapping[str, str] | None = None, paintings: Path | None = None, fps: int = 8, seconds: float = 2.0,
    side: int = 320,
) -> Path:  # fmt: skip
    """Write the page for methods by name, each a folder of clips named alike; returns the key's path.

    Every clip is made alike (rate, length, longer side) and nameless. `count` cases are drawn with `seed` from those that
    all methods have. Sentences and paintings come from `prompts` / `paintings` (by the clip's name), else from the recipe
    inside a clip. Raises `InputError` for folders that have no clip in common, `OutputError` where `out` is taken.
    """
    if not 2 <= len(folders) <= 26:
        raise InputError(f"expected 2 to 26 methods to compare, got {len(folders)}")
    if fps < 1 or not 0 < seconds < 3600 or side < 16 or (count is not None and count < 1):
        raise SettingError(f"expected fps, seconds, side and cases above 0, got {fps}, {seconds}, {side}, {count}")
    key = out.with_name(out.name + ".key.json")
    for taken in (out, key):
        if taken.exists():
            raise OutputError(f"expected no study at {taken} yet; choose another name, or answers given there are lost")
    if not out.parent.is_dir():
        raise OutputError(f"expected a folder at {out.parent}, there is none; make it first")
    have = {name: clips_of(folder) for name, folder in folders.items()}
    shared = sorted(set.intersection(*(set(clips) for clips in have.values())))
    if not shared:
        raise InputError(f"expected clips of the same names in {', '.join(map(str, folders.values()))}, found none")
    rng = np.random.default_rng(seed)
    if count is not None and count < len(shared):
        shared = [shared[i] for i in sorted(rng.choice(len(shared), count, replace=False))]
    study = hashlib.sha256(f"{title} {seed} {shared} {list(folders)} {rng.integers(2**62)}".encode()).hexdigest()[:12]
    page: dict[str, Any] = {"id": study, "title": title, "cases": []}
    secret: dict[str, Any] = {"format": FORMAT, "study": study, "title": title, "methods": list(folders), "cases": {},
                              "clips": {}}  # fmt: skip
    temporary = Path(tempfile.mkdtemp(prefix=".vivant-", dir=out.parent))
    try:
        built = temporary / out.name
        (built / "media").mkdir(parents=True)
        for name in shared:
            case = _token(study, name)
            clips = {method: have[method][name] for method in folders}
            picture, words = picture_and_prompt(clips.values(), paintings, name)
            words = (prompts or {}).get(name, words)
            entry: dict[str, Any] = {"id": case, "prompt": words, "clips": []}
            if picture is not None:
                entry["picture"] = f"media/{case}.jpg"
                _picture(picture, built / entry["picture"], side)
            for method, path in clips.items():
                token = _token(study, name, method)
                _alike(path, built / "media" / f"{token}.mp4", fps, seconds, side)
                entry["clips"].append({"id": token, "src": f"media/{token}.mp4"})
                secret["clips"][token] = method
            entry["clips"].sort(key=lambda clip: clip["id"])  # the order of the methods must not show in the page
            page["cases"].append(entry)
            secret["cases"][case] = {"name": name, "prompt": words}
        template = (resources.files("vivant.metrics") / "study_page.html").read_text(encoding="utf-8")
        data = json.dumps(page).replace("<", "\\u003c")
        (built / "index.html").write_text(template.replace("__STUDY__", data), encoding="utf-8")
        (temporary / "key").write_text(json.dumps(secret, indent=1), encoding="utf-8")
        os.replace(temporary / "key", key)
        os.replace(built, out)
    except OSError as error:
        raise OutputError(f"could not write {out}: {error.strerror or error}; is there room on the disk?") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return key


@dataclass(frozen=True)
class Tally:
    """What the answers say. `rates[question][method]`; `dropped`: files left out and why."""

    title: str
    methods: list[str]
    participants: int
    rates: dict[str, dict[str, Rate]]
    dropped: list[tuple[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "title": self.title, "participants": self.participants,
            "rates": {q: {m: vars(r) for m, r in of.items()} for q, of in self.rates.items()},
            "dropped": [{"file": f, "why": w} for f, w in self.dropped],
        }  # fmt: skip

    def grid(self) -> Grid:
        """The layout of DynamiCrafter's Table 2: a row a question, a column a method, per cent."""
        rows = tuple(
            ((QUESTIONS[q] + " ↑",), tuple(_percent(self.rates[q][m]) for m in self.methods)) for q in QUESTIONS
        )
        notes = (f"{self.participants} participants; {len(self.dropped)} left out",)
        heads = tuple(Head(m, "", 2, "%") for m in self.methods)
        marked = tuple(Head(h.label, "up", h.digits, h.unit) for h in heads)
        return Grid(self.title, ("Property",), marked, rows, notes=notes, along="row", intervals=True)


def read(
    files: Sequence[Path], key: Path | None = None, seconds_per_case: float = SECONDS_PER_CASE,
    interval: Literal["wilson", "bootstrap"] = "bootstrap", seed: int = 0,
) -> Tally:  # fmt: skip
    """Count the answers. Left out, with the reason: unfinished ones, those quicker than `seconds_per_case` a case, a
    participant's earlier files, and files that are no answers.

    Intervals of 95 %: "wilson" takes every answer for independent; "bootstrap" draws participants, whose answers hang
    together (with one participant it falls back to Wilson's). Raises `InputError` where no answers are left or no key fits.
    """
    if interval not in ("wilson", "bootstrap"):
        raise SettingError(f"expected interval wilson or bootstrap, got {interval!r}")
    dropped: list[tuple[str, str]] = []
    records: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in files:
        try:
            record = _record(path)
        except InputError as error:
            dropped.append((str(path), str(error)))
            continue
        who = record["participant"]
        if who in records:
            older = min((records[who], (path, record)), key=lambda pair: str(pair[1].get("finished") or ""))
            dropped.append((str(older[0]), "the same participant answered again later"))
            if older[0] != records[who][0]:
                continue
        records[who] = (path, record)
    if not records:
        raise InputError(
            f"expected answers in {len(files)} files, found none" + (f"; {dropped[0][1]}" if dropped else "")
        )
    secret = _key(key, [path for path, _ in records.values()], next(iter(records.values()))[1]["study"])
    kept = []
    for path, record in records.values():
        reason = _judged(record, secret, seconds_per_case)
        if reason:
            dropped.append((str(path), reason))
        else:
            kept.append(record)
    if not kept:
        raise InputError(f"expected finished answers that took their time, got none of {len(files)}; {dropped[-1][1]}")
    rates: dict[str, dict[str, Rate]] = {}
    for question in QUESTIONS:
        chosen, shown = _counts(kept, secret, question)
        rates[question] = {
            method: rate_of(chosen[:, m], shown[:, m], interval, seed) for m, method in enumerate(secret["methods"])
        }
    return Tally(secret["title"], secret["methods"], len(kept), rates, dropped)


def _counts(kept: list[dict[str, Any]], secret: dict[str, Any], question: str) -> tuple[np.ndarray, np.ndarray]:
    """(participants, methods): how often chosen, how often shown."""
    column = {method: i for i, method in enumerate(secret["methods"])}
    chosen = np.zeros((len(kept), len(column)), int)
    shown = np.zeros_like(chosen)
    for p, record in enumerate(kept):
        for answer in record["answers"]:
            for token in answer["order"]:
                shown[p, column[secret["clips"][token]]] += 1
            said = answer[question]
            for token in said if isinstance(said, list) else [said]:
                chosen[p, column[secret["clips"][token]]] += 1
    return chosen, shown


def _record(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"expected answers in {path}, it cannot be read: {str(error).splitlines()[0]}") from error
    needed = ("study", "participant", "answers", "seconds")
    if not isinstance(data, dict) or data.get("format") != FORMAT or not all(name in data for name in needed):
        raise InputError(f"expected a study's answers (format {FORMAT}) in {path}, got something else")
    return data


def _judged(record: dict[str, Any], secret: dict[str, Any], seconds_per_case: float) -> str:
    """Why a record does not count; empty where it does."""
    if record["study"] != secret["study"]:
        return f"answers to another study ({record['study']}, not {secret['study']})"
    answers = record["answers"]
    try:
        known = all(
            answer["case"] in secret["cases"]
            and all(
                token in secret["clips"]
                for token in (*answer["order"], answer["motion"], answer["coherence"], *answer["conformity"])
            )
            for answer in answers
        )
        if not known or len({answer["case"] for answer in answers}) < len(secret["cases"]):
            return "answers that do not fit the page"
    except (KeyError, TypeError):
        return "not finished"
    if not record.get("finished"):
        return "not finished"
    least = seconds_per_case * len(answers)
    if float(record["seconds"]) < least:
        return f"too quick: {float(record['seconds']):.0f} s for {len(answers)} cases, at least {least:.0f} s"
    return ""


def _key(key: Path | None, answers: Sequence[Path], study: str) -> dict[str, Any]:
    """The key that was named, or one of this study beside the answers, above them, or here."""
    places = [key] if key else [
        found
        for folder in dict.fromkeys((answers[0].parent, answers[0].resolve().parent.parent, Path.cwd()))
        for found in sorted(folder.glob("*.key.json"))
    ]  # fmt: skip
    for place in places:
        try:
            data = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(data, dict) and "clips" in data and (key or data.get("study") == study):
            return data
    where = str(key) if key else "beside the answers"
    raise InputError(
        f"expected the study's key (PAGE.key.json, written by `vivant study make`) {where}, found none; name it with --key"
    )


def _token(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _alike(source: Path, target: Path, fps: int, seconds: float, side: int) -> None:
    from ..render.export import export

    export(retimed(source, fps, max(2, round(fps * seconds)), side), target, fps)


def _picture(picture: np.ndarray, target: Path, side: int) -> None:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((2 * side, 2 * side))
    image.save(target, quality=92)


def _percent(rate: Rate) -> Cell:
    return Cell(100 * rate.rate, 100 * rate.low, 100 * rate.high)
