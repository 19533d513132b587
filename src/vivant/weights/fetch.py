"""One file over HTTP: resumed where it stopped, checked against its hash, in place only when it is whole."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import OutputError, WeightsError

BLOCK = 1 << 20
TRIES = 4
"""Connections in a row that may break without a byte gained."""

TIMEOUT = 30.0
PAUSE = 0.5
"""Seconds before the next connection, doubled every time."""

Gained = Callable[[int], None]


@dataclass(frozen=True)
class Remote:
    """A file to fetch. `sha256`: of its bytes; `git`: git's sha1 of it, which the hub gives for small files."""

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None
    git: str | None = None

    @property
    def checked(self) -> bool:
        """Whether its publisher gives a hash."""
        return bool(self.sha256 or self.git)


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows to other hosts without taking the token along."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


def head(url: str, headers: Mapping[str, str]) -> int | None:
    """A file's size in bytes, where its server says. Raises `WeightsError`."""
    try:
        with _open(urllib.request.Request(url, headers=dict(headers), method="HEAD")) as answer:
            length = answer.headers.get("Content-Length")
            return int(length) if length else None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise WeightsError(f"expected an answer from {urlsplit(url).netloc}, {reason(error)}") from None


def fetch(remote: Remote, target: Path, headers: Mapping[str, str], gained: Gained = lambda count: None) -> bool:
    """Fetch into `target`; what has come lies in `target.part` until it is whole. Returns False when it was there.

    `gained` is told every byte, those of earlier tries first. Raises `WeightsError` for a server that refuses or keeps
    failing and for bytes that are not the published ones (they are removed), `OutputError` for a disk that is full.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and (remote.size is None or target.stat().st_size == remote.size) and _same(target, remote):
            gained(target.stat().st_size)
            return False
        _fill(remote, part, dict(headers), gained)
        if not _same(part, remote):
            part.unlink()
            raise WeightsError(f"expected {remote.path} with its published hash, got other bytes; removed, pull again")
        os.replace(part, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(
                f"expected room for {remote.path} at {target.parent}, the disk is full; free some and pull again"
            ) from None
        raise OutputError(f"expected to write {target}: {error.strerror or error}") from None
    return True


def _fill(remote: Remote, part: Path, headers: dict[str, str], gained: Gained) -> None:
    had = part.stat().st_size if part.is_file() else 0
    if remote.size is not None and had > remote.size:
        part.unlink()
        had = 0
    gained(had)
    failed = 0
    while remote.size is None or had < remote.size or not part.exists():
        before = had
        trouble: Exception | None = None
        request = urllib.request.Request(remote.url, headers=headers | ({"Range": f"bytes={had}-"} if had else {}))
        request.add_header("Accept-Encoding", "identity")  # a compressed answer has other bytes and another length
        try:
            with _open(request) as answer:
                if had and answer.status != 206:  # the server knows no ranges: from the start again
                    gained(-had)
                    had = before = 0
                with part.open("ab" if had else "wb") as file:
                    while block := _read(answer):
                        file.write(block)
                        had += len(block)
                        gained(len(block))
                length = answer.headers.get("Content-Length")
                if remote.size is None and (length is None or had - before >= int(length)):
                    return
                if remote.size is not None and had > remote.size:
                    part.unlink()
                    raise WeightsError(f"expected {remote.size} bytes of {remote.path}, got more; removed, pull again")
                trouble = _Broken("it broke off") if remote.size is None or had < remote.size else None
        except urllib.error.HTTPError as error:
            if error.code == 416 and remote.size is None:
                return  # all of it was there
            if error.code < 500 and error.code not in (408, 429):
                raise WeightsError(
                    f"expected {remote.path} from {urlsplit(remote.url).netloc}, {reason(error)}"
                ) from None
            trouble = error
        except (urllib.error.URLError, http.client.HTTPException, _Broken) as error:
            trouble = error
        if trouble is not None:
            failed = 1 if had > before else failed + 1
            if failed >= TRIES:
                where = urlsplit(remote.url).netloc
                raise WeightsError(
                    f"expected {remote.path} from {where}, {reason(trouble)}; pull again to go on"
                ) from None
            time.sleep(PAUSE * 2 ** (failed - 1))


class _Broken(Exception):
    """The connection went while bytes were coming."""


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(BLOCK)
    except http.client.IncompleteRead as error:
        if error.partial:
            return error.partial
        raise _Broken("it broke off") from None
    except (OSError, http.client.HTTPException) as error:  # told apart from a disk that cannot be written
        raise _Broken(str(error) or "it broke off") from None


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener(_Redirect)
    try:
        return opener.open(request, timeout=TIMEOUT)
    except urllib.error.URLError:
        raise
    except OSError as error:
        raise urllib.error.URLError(error) from None


def _same(path: Path, remote: Remote) -> bool:
    """Whether a file has the published hash; a file without one can only be told by its size."""
    if not remote.checked:
        return remote.size is None or path.stat().st_size == remote.size
    digest = (
        hashlib.sha256() if remote.sha256 else hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    )
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == (remote.sha256 or remote.git)


def reason(error: BaseException) -> str:
    """Why a server gave nothing, in words."""
    if isinstance(error, urllib.error.HTTPError):
        known = {
            401: "it asks for a login (huggingface-cli login)", 403: "it refuses: accept the licence on the model page",
            404: "it has no such file", 429: "it is asked too often; wait a while",
        }  # fmt: skip
        return known.get(error.code, f"it answered {error.code}")
    cause = getattr(error, "reason", error)
    if isinstance(cause, socket.gaierror):
        return "found no network (its name is not known here)"
    if isinstance(cause, TimeoutError):
        return "it does not answer"
    if isinstance(cause, ConnectionRefusedError):
        return "found no network (the connection was refused)"
    return " ".join(str(cause).split())[:150] or type(cause).__name__
