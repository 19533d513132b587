"""Download an extractor's weights: each file checked against its hash where its publisher gives one."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ...errors import OutputError, WeightsError
from ...weights.fetch import Remote
from ...weights.fetch import fetch as fetch_file
from ...weights.pull import _hub, _wanted
from .registry import Row


def fetch(row: Row, gained: Callable[[int], None] = lambda count: None) -> Path:
    """Fetch all files of one extractor into its folder. Raises `WeightsError`, `OutputError`."""
    folder = row.folder
    if row.hub is not None:
        info, headers = _hub(row.hub)
        names = {s.rfilename for s in info.siblings}
        # Safetensors where the repository has them, the pickle of plain tensors otherwise.
        patterns = [p for p in row.patterns if p in names]
        if "model.safetensors" in names:
            patterns = [p for p in patterns if p != "pytorch_model.bin"] + ["model.safetensors"]
        for remote in _wanted(row.hub, info, tuple(dict.fromkeys(patterns))):
            fetch_file(remote, folder / remote.path, headers, gained)
    for name, url, size, digest in row.files:
        fetch_file(Remote(url, name, size, digest), folder / name, {}, gained)
        if name.endswith(".zip"):
            unzip(folder / name, folder)
            (folder / name).unlink()
    if not row.present:
        raise WeightsError(
            f"expected {', '.join(row.needs)} among the files of {row.name}, they are not; see {row.source}"
        )
    return folder


def unzip(archive: Path, folder: Path) -> None:
    """Plain files of a zip into a folder, an outer folder that holds all of them left off. Raises `WeightsError`."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = [m for m in file.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
            paths = [PurePosixPath(m.filename) for m in members]
            if any(p.is_absolute() or ".." in p.parts or "\\" in str(p) for p in paths):
                raise WeightsError(f"expected names inside {archive.name}, it leads out of its folder; refused")
            shared = len({p.parts[0] for p in paths}) == 1 and all(len(p.parts) > 1 for p in paths)
            for member, path in zip(members, paths, strict=True):
                target = folder.joinpath(*path.parts[1 if shared else 0 :])
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.part")
                with file.open(member) as source, part.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                os.replace(part, target)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise WeightsError(f"expected a whole zip at {archive}: {error}; removed, pull again") from None
    except OSError as error:
        raise OutputError(f"expected to unpack into {folder}: {error.strerror or error}") from None
