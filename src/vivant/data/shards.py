"""WebDataset shards: plain tar files in which the files of one sample follow each other under one key."""

from __future__ import annotations

import functools
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError


@dataclass(frozen=True)
class Member:
    """A file inside a shard: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


def samples(path: Path) -> dict[str, dict[str, Member]]:
    """{key: {suffix: member}} in the shard's order; key and suffix part at the name's first dot after its folders.

    Only headers are read. Raises `InputError` for what is no tar, a compressed or a truncated one.
    """
    found: dict[str, dict[str, Member]] = {}
    for member in _index(path, path.stat().st_size, path.stat().st_mtime_ns):
        folder, _, name = member.name.rpartition("/")
        stem, dot, suffix = name.partition(".")
        if dot and stem:
            found.setdefault(f"{folder}/{stem}" if folder else stem, {})[suffix.lower()] = member
    return found


def find(path: Path, name: str) -> Member:
    """One member by its name. Raises `InputError`."""
    try:
        known = _names(path, path.stat().st_size, path.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"expected a shard at {path}: {error.strerror or error}") from None
    if name not in known:
        raise InputError(f"expected {name} in the shard {path}, found no such file in it")
    return known[name]


def read(path: Path, member: Member) -> bytes:
    """A member's bytes. Raises `InputError`."""
    try:
        with path.open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    except OSError as error:
        raise InputError(f"expected a readable shard at {path}: {error.strerror or error}") from None
    if len(data) < member.size:
        raise InputError(f"expected a whole shard at {path}, it breaks off inside {member.name}; fetch it again")
    return data


@functools.lru_cache(maxsize=256)
def _names(path: Path, size: int, changed: int) -> dict[str, Member]:
    return {member.name: member for member in _index(path, size, changed)}


@functools.lru_cache(maxsize=256)
def _index(path: Path, size: int, changed: int) -> tuple[Member, ...]:
    try:
        # Without "r:" a compressed file would be read through; its members could not be jumped to.
        with tarfile.open(path, "r:") as file:
            return tuple(
                Member(info.name.removeprefix("./"), info.offset_data, info.size) for info in file if info.isfile()
            )
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"expected a plain tar at {path} ({error}); unpack compressed ones first") from None
    except OSError as error:
        raise InputError(f"expected a readable shard at {path}: {error.strerror or error}") from None
