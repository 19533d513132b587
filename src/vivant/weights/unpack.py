"""Open an archive somebody else made, trusting nothing in it."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from ..errors import WeightsError

MOST_FILES = 10_000
MOST_BYTES = 200 * 10**9
MOST_RATIO = 50
"""How many times larger than the archive its contents may be; weights hardly compress."""

RESERVE = 500_000_000
"""Bytes of disk that are left alone."""


def unpack(archive: Path, folder: Path) -> list[Path]:
    """The regular files of a .tar, .tar.gz, .tgz … into `folder`; returns their paths.

    Refused whole with `WeightsError`, before the file in question is written: absolute names and names with "..", links,
    devices, sparse files, more files or bytes than a model has, contents far larger than the archive or than the disk.
    """
    room = min(MOST_BYTES, MOST_RATIO * archive.stat().st_size + 10_000_000, shutil.disk_usage(folder).free - RESERVE)
    written: list[Path] = []
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if member.isdir() and ".." not in name.parts and not name.is_absolute():
                    continue
                _judge(archive, member, name)
                room -= member.size
                if room < 0 or len(written) >= MOST_FILES:
                    raise WeightsError(f"expected a model in {archive.name}, its contents are too large; refused")
                target = folder.joinpath(*name.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None  # a regular file has contents
                with source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                if target.stat().st_size != member.size:
                    raise WeightsError(f"expected a whole archive at {archive}, it ends early; download it again")
                written.append(target)
    except FileExistsError:
        raise WeightsError(f"expected each file once in {archive.name}, one comes twice; refused") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"expected a whole tar archive at {archive}: {reason[:150]}; download it again") from None
    if not written:
        raise WeightsError(f"expected files in {archive}, found none")
    return written


def _judge(archive: Path, member: tarfile.TarInfo, name: PurePosixPath) -> None:
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name or not name.parts:
        raise WeightsError(f"expected names inside the folder in {archive.name}, got {member.name!r}; refused")
    if not member.isreg() or member.issparse():
        raise WeightsError(f"expected plain files in {archive.name}, {member.name!r} is a link or device; refused")
