"""Download a model: what it is and under which licence first, then its files, each checked, resumed where it stopped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ..errors import OutputError, SettingError, WeightsError
from ..priors.entry import SEE_PAGE, Source, gigabytes, models_folder
from ..priors.registry import entry
from ..proxy.registry import PROXIES
from .convert import top
from .fetch import Remote, fetch, head, reason
from .unpack import RESERVE, unpack

PIPELINE_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "README.md", "LICENSE*", "*.jinja")
"""What a diffusers folder is made of; repositories hold the same weights in other forms besides."""

OTHER_FORMS = ("*.fp16.safetensors", "*.non_ema.safetensors", "*.onnx", "flax_model*", "tf_model*")

PAPERS = ("LICENSE", "README.md", "model_index.json")
"""Files that are fetched where there are such; how their names begin."""

Report = Callable[[str, int, int], None]
"""(file, bytes done of all, bytes of all)"""


@dataclass(frozen=True)
class Offer:
    """What would be downloaded, asked of the server: the licence as it is stated there, the files, the bytes to come."""

    row: Source
    licence: str
    files: list[Remote]
    headers: dict[str, str]
    folder: Path

    @property
    def total(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(f.size or 0 for f in self.files)

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return sum((f.size or 0) - _had(self.folder / f.path, f) for f in self.files)

    def lines(self) -> list[str]:
        """What the user says yes to."""
        rows = {
            "name": self.row.name, "paper": self.row.paper, "from": self.row.source, "licence": self.licence,
            "territory": self.row.territory, "download": f"{gigabytes(self.missing)} of {gigabytes(self.total)}",
            "into": str(self.folder),
        }  # fmt: skip
        if not all(f.checked for f in self.files):
            rows["checked"] = "by size only, its publisher gives no hash"
        return [f"{key:<10}{value}" for key, value in rows.items()]


def offer(name: str, folder: Path | None = None) -> Offer:
    """Ask the server what a model consists of. Raises `SettingError` for what is not to be downloaded, `WeightsError`."""
    row: Source = PROXIES[name] if name in PROXIES else entry(name)
    # Not `row.place` of a pipeline: what lies in the hub's own cache is not to be written there.
    own = models_folder() / row.under / row.name.removeprefix("hub:").replace("/", "--")
    place = (folder or own).expanduser().resolve()
    if row.hub is not None:
        info, headers = _hub(row.hub, row.revision)
        files = _wanted(row.hub, info, row.fetch)
        for repository, into, names in row.borrow:
            files += [
                replace(f, path=str(PurePosixPath(into) / f.path))
                for f in _wanted(repository, _hub(repository)[0], names)
            ]
        stated = (info.card_data or {}).get("license") if row.licence == SEE_PAGE else None
        return Offer(row, f"{stated}; {SEE_PAGE}" if stated else row.licence, _best(files, row), headers, place)
    if row.url is not None:
        name_there = row.url.rsplit("/", 1)[-1]
        return Offer(row, row.licence, [Remote(row.url, name_there, head(row.url, {}))], {}, place)
    raise SettingError(f"expected a model or a proxy maker that is downloaded, {name} is {row.source}")


def _wanted(repository: str, info: Any, patterns: tuple[str, ...]) -> list[Remote]:
    """The files of a repository that match, at the commit that was looked at."""
    chosen = [
        s
        for s in info.siblings
        if any(fnmatch(s.rfilename, pattern) for pattern in patterns or PIPELINE_FILES)
        and (patterns or not any(fnmatch(s.rfilename, pattern) for pattern in OTHER_FORMS))
    ]
    absent = [p for p in patterns if not p.startswith(PAPERS) and not any(fnmatch(s.rfilename, p) for s in chosen)]
    if not chosen or absent:
        raise WeightsError(f"expected {', '.join(absent) or 'weights'} in {repository}, the repository has none")
    return [
        Remote(
            f"{endpoint()}/{repository}/resolve/{info.sha}/{quote(s.rfilename)}", _inside(s.rfilename), s.size,
            sha256=s.lfs["sha256"] if s.lfs else None, git=None if s.lfs else s.blob_id,
        )
        # The index comes last: a folder that has it is a whole one.
        for s in sorted(chosen, key=lambda s: (s.rfilename == "model_index.json", s.rfilename))
    ]  # fmt: skip


def endpoint() -> str:
    """The hub's address: $HF_ENDPOINT, or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def pull(offered: Offer, report: Report = lambda file, done, total: None) -> Path:
    """Fetch what was offered; returns the model's folder. Raises `OutputError` where there is no room, `WeightsError`."""
    folder = offered.folder
    archive = offered.row.hub is None
    needed = offered.missing + (offered.total if archive else 0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free - RESERVE
    except OSError as error:
        raise OutputError(f"expected to write in {folder.parent}: {error.strerror or error}") from None
    if needed > free:
        raise OutputError(
            f"expected {gigabytes(needed)} of disk at {folder.parent}, {gigabytes(max(0, free))} are free; "
            "free some, or set VIVANT_MODELS to another disk"
        )
    done = 0
    for file in offered.files:

        def gained(count: int, file: Remote = file) -> None:
            nonlocal done
            done += count
            report(file.path, done, offered.total)

        where = folder.with_name(f".{folder.name}.{file.path}") if archive else folder / file.path
        fetch(file, where, offered.headers, gained)
        if archive:
            _open_up(where, folder)
    return folder


def _open_up(archive: Path, folder: Path) -> None:
    """An archive's contents in the model's folder, at once or not at all."""
    work = folder.with_name(f".{folder.name}.unpacked")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir()
        unpack(archive, work)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(top(work), folder)
    except OSError as error:
        raise OutputError(f"expected to unpack into {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    archive.unlink()


def _hub(repository: str, revision: str | None = None) -> tuple[Any, dict[str, str]]:
    """(what the hub says of a repository, the headers of a request)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import build_hf_headers

    hub = endpoint()
    try:
        info = HfApi(endpoint=hub).model_info(repository, revision=revision, files_metadata=True, timeout=30)
    except GatedRepoError:
        raise WeightsError(
            f"expected access to {repository}, it is gated: accept its licence on the model page, then huggingface-cli login"
        ) from None
    except RepositoryNotFoundError:
        raise WeightsError(
            f"expected the repository {repository} on {hub}, it has none of that name, or a private one"
        ) from None
    except RevisionNotFoundError:
        raise WeightsError(f"expected the revision {revision} of {repository}, it has none of that name") from None
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", "an error")
        raise WeightsError(f"expected an answer about {repository} from {hub}, it answered {code}") from None
    except Exception as error:  # what the client's own HTTP library raises, which changes with its version
        raise WeightsError(
            f"expected an answer about {repository} from {hub}, found no network ({reason(error)})"
        ) from None
    return info, build_hf_headers()


def _best(files: list[Remote], row: Source) -> list[Remote]:
    """Without the second form of weights that are there in two: the preferred name of each is kept."""
    names = {f.path for f in files}
    second = {n for options in row.weights for n in options[1:] if options[0] in names}
    return [f for f in files if f.path not in second]


def _inside(name: str) -> str:
    """A file's name in its repository, which must stay inside the folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise WeightsError(f"expected names inside the repository, got {name!r}; refused")
    return name


def _had(target: Path, file: Remote) -> int:
    """Bytes of a file that are here already, whole or begun."""
    for path in (target, target.with_name(target.name + ".part")):
        if path.is_file():
            return min(path.stat().st_size, file.size or 0)
    return 0
