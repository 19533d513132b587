"""Captions described by a language model behind any OpenAI-compatible endpoint: in batches, each answer kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import ModelError, OutputError, SettingError
from .describe import CATEGORIES, Description, by_rules

MOST = 4_000_000
"""bytes of the longest answer that is read"""
LONGEST = 600
"""characters of a caption that are sent"""
VERSION = "1"
"""of the question: another one must not be answered from what was kept"""

ASKED = """You prepare captions of videos for training a model that animates pictures. You see the captions alone. For each one decide:
1. confidence, 0 to 100: how sure is it that the caption tells of something that moves or acts, rather than of a still scene?
2. wording: who does what, as short as possible, e.g. "man playing football"; "none" where nothing moves.
3. category of what moves: human, animal, nature (weather, water, plants, fire), machine (vehicles, devices), others, or none where the wording is none.
Each line of the question is `number%caption`. Answer every one, in order, one line each and nothing else: `number%confidence%wording%category`.
Example question:
1%Woman in gym working out
2%Rainy clouds sailing above a city
3%View of the great salt lake
Example answer:
1%80%woman working out%human
2%50%rainy clouds sailing%nature
3%5%none%none"""

_LINE = re.compile(
    rf"(\d+)\s*%+\s*(\d+(?:\.\d+)?)\s*%+\s*([^%\n\"“”]*?)\s*%+\s*({'|'.join(CATEGORIES)})\b", re.IGNORECASE
)


class Endpoint:
    """Describes captions by the language model `model` at `url` (…/v1), `batch` in one question.

    What came back is kept in the SQLite file `kept` as soon as it comes: a run that is stopped asks no caption twice. `key`:
    None takes VIVANT_API_KEY or OPENAI_API_KEY of the environment, where there is one. A caption that stays unanswered after
    being asked alone is described by rules, and counted in `unanswered`. Raises `SettingError`, `ModelError`.
    """

    def __init__(
        self, url: str, model: str, kept: Path, batch: int = 20, key: str | None = None, timeout: float = 120.0,
        tries: int = 4, wait: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        if not re.match(r"https?://", url):
            raise SettingError(f"expected an http(s) address such as http://localhost:8000/v1, got {url!r}")
        if not model.strip():
            raise SettingError("expected the name of the language model, got none; name it with --model")
        if batch < 1 or tries < 1:
            raise SettingError(f"expected a batch and tries of at least 1, got {batch} and {tries}")
        self.address, self.model, self.batch = url.rstrip("/") + "/chat/completions", model, batch
        self.key = key or os.environ.get("VIVANT_API_KEY") or os.environ.get("OPENAI_API_KEY")
        self.timeout, self.tries, self.wait, self.kept = timeout, tries, wait, kept
        self.asked = self.unanswered = 0

    def __call__(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[Description]:
        """One description for each caption, in order; an empty caption tells of nothing."""
        clean = [" ".join(text.split())[:LONGEST] for text in texts]
        wanted = list(dict.fromkeys(text for text in clean if text))
        with self._store() as store:
            known = self._known(store, wanted)
            missing = [text for text in wanted if text not in known]
            for start in range(0, len(missing), self.batch):
                chunk = missing[start : start + self.batch]
                found = self._answers(chunk)
                for text in chunk:  # asked again alone: a long question may be answered in part
                    if text not in found and len(chunk) > 1:
                        found |= self._answers([text])
                self._keep(store, found)
                known |= found
                if progress:
                    progress(min(start + self.batch, len(missing)), len(missing))
        left = [text for text in wanted if text not in known]
        self.unanswered += len(left)
        known |= dict(zip(left, by_rules(left), strict=True))
        known[""] = by_rules([""])[0]
        return [known[text] for text in clean]

    def _answers(self, texts: Sequence[str]) -> dict[str, Description]:
        question = "\n".join(f"{i}%{text.replace('%', ' percent')}" for i, text in enumerate(texts, 1))
        found: dict[str, Description] = {}
        for number, confidence, wording, category in _LINE.findall(self._ask(question)):
            if 1 <= int(number) <= len(texts):
                words = " ".join(wording.split()) or "none"
                kind = category.lower() if words.lower() != "none" else "none"
                found[texts[int(number) - 1]] = Description(
                    min(100.0, float(confidence)), words if kind != "none" else "none", kind, self.model
                )
        return found

    def _ask(self, question: str) -> str:
        body = {
            "model": self.model, "temperature": 0.2, "frequency_penalty": 0,
            "messages": [{"role": "system", "content": ASKED}, {"role": "user", "content": question}],
        }  # fmt: skip
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        for attempt in range(1, self.tries + 1):
            request = urllib.request.Request(self.address, json.dumps(body).encode(), headers, method="POST")
            self.asked += 1
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as reply:  # http(s) only: checked above
                    return self._content(reply.read(MOST + 1))
            except urllib.error.HTTPError as error:
                # Busy and broken servers come round; a refused question does not.
                if attempt == self.tries or (error.code != 429 and error.code < 500):
                    raise ModelError(
                        f"expected an answer from {self.address}, got status {error.code} {error.reason}; what was answered so far is kept"
                    ) from None
                told = error.headers.get("Retry-After", "")
                self.wait(min(60.0, float(told)) if told.isdecimal() else 2.0**attempt)
            except (urllib.error.URLError, TimeoutError, OSError) as error:
                if attempt == self.tries:
                    raise ModelError(
                        f"expected an answer from {self.address}, got none: {getattr(error, 'reason', error)}; what was answered so far is kept"
                    ) from None
                self.wait(2.0**attempt)
        raise AssertionError

    def _content(self, said: bytes) -> str:
        try:
            content = json.loads(said)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise ModelError(
                f"expected an OpenAI-compatible answer from {self.address}, got another; is it a …/v1 address?"
            ) from None
        return content if isinstance(content, str) else ""

    def _hash(self, text: str) -> str:
        return hashlib.sha256(f"{VERSION}\0{self.model}\0{text}".encode()).hexdigest()

    @contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        try:
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.kept, timeout=30)) as store:
                store.execute(
                    "CREATE TABLE IF NOT EXISTS described (hash TEXT PRIMARY KEY, confidence REAL, wording TEXT, category TEXT)"
                )
                yield store
        except (sqlite3.Error, OSError) as error:
            raise OutputError(
                f"expected to keep descriptions in {self.kept}: {error}; remove it, or name another"
            ) from None

    def _known(self, store: sqlite3.Connection, texts: Sequence[str]) -> dict[str, Description]:
        found = {}
        for text in texts:
            row = store.execute(
                "SELECT confidence, wording, category FROM described WHERE hash = ?", (self._hash(text),)
            ).fetchone()
            if row:
                confidence, wording, category = row
                found[text] = Description(confidence, wording, category, self.model)
        return found

    def _keep(self, store: sqlite3.Connection, found: dict[str, Description]) -> None:
        with store:
            store.executemany(
                "INSERT OR REPLACE INTO described VALUES (?, ?, ?, ?)",
                [(self._hash(t), d.confidence, d.wording, d.category) for t, d in found.items()],
            )
