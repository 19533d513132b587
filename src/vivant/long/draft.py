"""A first draft of a script by any OpenAI-compatible endpoint, when the user names one; by hand otherwise."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, ModelError, SettingError
from .story import parse

MOST = 1_000_000
"""bytes of the longest answer that is read"""

ASKED = """You write scripts for films made of paintings that come alive. Answer with YAML alone, of this form:

title: A few words
shots:
  - painting: FILE
    prompt: What moves, in one short English sentence, such as 'Clouds drift to the right and the water ripples'
    seconds: 4
    transition: cut, dissolve or fade
  - title: Words of a title card
    seconds: 2

Use only these files, each at least once: {files}. In the prompts only what is painted may move: clouds, water, waves,
boats, birds, trees, grass, smoke, fire, lamps, snow, rain."""


def draft(
    url: str, model: str, about: str, paintings: Sequence[Path], folder: Path, key: str | None = None,
    timeout: float = 120.0,
) -> str:  # fmt: skip
    """Ask `url` (…/v1) for a script about `about` with these paintings; returns YAML that has been read and checked.

    `folder`: where the script will lie; it names the paintings relative to it. `key`: None takes VIVANT_API_KEY or
    OPENAI_API_KEY of the environment, where there is one. Raises `SettingError` for what was given, `ModelError` for
    what came back.
    """
    if not re.match(r"https?://", url):
        raise SettingError(f"expected an http(s) address such as http://localhost:8000/v1, got {url!r}")
    if not model.strip():
        raise SettingError("expected the name of the language model with --model, got none")
    if not paintings:
        raise InputError("expected at least one painting to write about, got none; name them with --painting")
    for path in paintings:
        if not path.is_file():
            raise InputError(f"expected a picture at {path}, found no such file")
    files = [os.path.relpath(path, folder) for path in paintings]
    answer = _ask(url, model, ASKED.format(files=", ".join(files)), about or "Tell what you see.", key, timeout)
    fenced = re.search(r"```(?:ya?ml)?\s*\n(.*?)```", answer, re.DOTALL)
    text = (fenced[1] if fenced else answer).strip() + "\n"
    try:
        story = parse(text, folder, "the draft")
    except InputError as error:
        raise ModelError(f"{model} wrote a script that cannot be used: {error}; ask again, or write by hand") from None
    given = {path.resolve() for path in paintings}
    for shot in story.shots:
        for used in (shot.painting, shot.last, shot.mask):
            if used is not None and Path(used) not in given:
                raise ModelError(
                    f"{model} wrote of {Path(used).name}, which was not given; ask again, or write by hand"
                )
    return text


def _ask(url: str, model: str, system: str, user: str, key: str | None, timeout: float) -> str:
    body = {"model": model, "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}]}
    secret = key or os.environ.get("VIVANT_API_KEY") or os.environ.get("OPENAI_API_KEY")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    address = url.rstrip("/") + "/chat/completions"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:  # http(s) only: checked by the caller
            said = reply.read(MOST + 1)
    except urllib.error.HTTPError as error:
        raise ModelError(f"expected an answer from {address}, got status {error.code} {error.reason}") from None
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise ModelError(f"expected an answer from {address}, got none: {getattr(error, 'reason', error)}") from None
    if len(said) > MOST:
        raise ModelError(f"expected a script from {address}, got more than {MOST} bytes")
    try:
        content = json.loads(said)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise ModelError(
            f"expected an OpenAI-compatible answer from {address}, got another; is it a …/v1 address?"
        ) from None
    if not isinstance(content, str) or not content.strip():
        raise ModelError(f"expected a script from {model}, got an empty answer")
    return content
