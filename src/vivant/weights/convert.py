"""Pickled weights to safetensors, once: what is read afterwards can run no code and is mapped, not copied."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from ..errors import OutputError, WeightsError
from .unpack import unpack

PICKLES = (".ckpt", ".bin", ".pt", ".pth")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
NESTED = ("state_dict", "model_state_dict", "model", "module", "ema")
"""Where training frameworks put the weights inside their own record, the commonest first."""

PARTS = ("unet", "transformer", "vae", "text_encoder", "image_encoder", "tokenizer", "scheduler")
"""What the folders inside a model's folder are called."""

NAMES = {"pytorch_model": "model"}
"""File stems that safetensors files are called otherwise."""


@dataclass(frozen=True)
class Report:
    """What a conversion wrote. `skipped`: entries that were no tensors (step counts, settings …)."""

    files: list[Path]
    tensors: int
    skipped: int


def convert(source: Path, target: Path) -> Report:
    """A pickled file to a `.safetensors` file, or a folder or archive to a folder with its pickles converted.

    Nothing is left half-written: all is made beside the target and renamed. Raises `WeightsError` for what cannot be
    read or would run code, `OutputError` for a target that exists or cannot be written.
    """
    if not source.exists():
        raise WeightsError(f"expected weights at {source}, found no such file or folder")
    if source.is_dir() or is_archive(source):
        return _folder(source, target)
    if source.suffix not in PICKLES:
        raise WeightsError(f"expected {', '.join((*PICKLES, *ARCHIVES))} or a folder, got {source.name}")
    if target.is_dir() or target.suffix != ".safetensors":
        target = target / f"{NAMES.get(source.stem, source.stem)}.safetensors"
    if target.exists():
        raise OutputError(f"expected a new name for the converted weights, {target} exists; remove it first")
    with _beside(target) as work:
        report = _file(source, work / target.name)
        os.replace(work / target.name, target)
    return Report([target], report.tensors, report.skipped)


def is_archive(path: Path) -> bool:
    """Whether a file is one to unpack: by its name, and a `.tar` that torch saved long ago is none."""
    return path.name.endswith(ARCHIVES)


def read(path: Path) -> tuple[dict[str, Any], int]:
    """(tensors by name, how many entries were none). The pickle is read by `weights_only`, which runs none of its code."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks about foreign pickles; they are judged here
            # Only a zip file, torch's format since 1.6, can be mapped.
            record = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:
        # torch's own words advise to load without the guard, which would run the file's code: they are left out.
        raise WeightsError(f"expected weights and nothing else in {path}, {_culprit(path, error)}; refused") from None
    for _ in range(3):
        inner = next((record[k] for k in NESTED if isinstance(record, dict) and isinstance(record.get(k), dict)), None)
        if inner is None:
            break
        record = inner
    if not isinstance(record, dict):
        raise WeightsError(f"expected tensors by name in {path}, got a {type(record).__name__}")
    tensors = {str(k): v for k, v in record.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"expected tensors by name in {path}, found none among {len(record)} entries")
    return tensors, len(record) - len(tensors)


def _culprit(path: Path, error: Exception) -> str:
    """What in a file was refused: the names of what it wanted to call, or that it is no such file at all."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:
        names = []
    if names:
        return f"it wants to run {', '.join(sorted(names)[:3])}"
    if "weights_only" in str(error) or "Unsupported" in str(error):
        return "it wants to run code"
    return f"it cannot be read ({type(error).__name__}: damaged, or no such file)"


def _file(source: Path, target: Path) -> Report:
    import torch
    from safetensors.torch import save_file

    tensors, skipped = read(source)
    seen: set[int] = set()
    plain: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        value = value.detach()
        if value.layout != torch.strided or value.is_quantized:
            raise WeightsError(f"expected dense tensors in {source}, {name} is {value.layout}; it cannot be converted")
        place = value.untyped_storage().data_ptr()
        # Tied weights share their memory; a safetensors file holds every tensor by itself.
        plain[name] = value.clone().contiguous() if place in seen else value.contiguous()
        seen.add(place)
    try:
        save_file(plain, target, metadata={"format": "pt"})
    except OSError as error:
        raise OutputError(f"expected to write {target}: {error.strerror or error}") from error
    except Exception as error:  # safetensors raises its own error for a full disk
        raise OutputError(f"expected to write {target}: {' '.join(str(error).split())[:150]}") from error
    return Report([target], len(plain), skipped)


def _folder(source: Path, target: Path) -> Report:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"expected a new or empty folder for the converted weights, {target} is neither")
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise OutputError(f"expected a folder outside {source}, got {target}")
    with _beside(target) as work:
        root = source
        if not source.is_dir():
            (work / "unpacked").mkdir()
            unpack(source, work / "unpacked")
            root = top(work / "unpacked")
        made = work / "made"
        made.mkdir()
        report = _tree(root, made)
        if target.is_dir():
            target.rmdir()
        os.replace(made, target)
    return Report([target / path.relative_to(made) for path in report.files], report.tensors, report.skipped)


def _tree(root: Path, made: Path) -> Report:
    files, tensors, skipped = [], 0, 0
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and ".cache" not in p.parts):
        place = made / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in PICKLES:
            place = place.with_name(f"{renamed(path.stem)}.safetensors")
            if (path.parent / place.name).exists():
                continue  # the folder has it in both forms
            one = _file(path, place)
            tensors, skipped = tensors + one.tensors, skipped + one.skipped
            files.append(place)
        elif path.name.endswith(".bin.index.json"):
            place = place.with_name(f"{renamed(path.name.removesuffix('.bin.index.json'))}.safetensors.index.json")
            place.write_text(_index(path), "utf-8")
        else:
            shutil.copyfile(path, place)
    if not files:
        raise WeightsError(f"expected pickled weights ({', '.join(PICKLES)}) in {root}, found none to convert")
    return Report(files, tensors, skipped)


def renamed(stem: str) -> str:
    """The stem a safetensors file goes by: pytorch_model becomes model, parts of a set too."""
    for old, new in NAMES.items():
        if stem == old or stem.startswith(f"{old}-"):
            return new + stem[len(old) :]
    return stem


def _index(path: Path) -> str:
    """The list of a set's parts, with their new names."""
    try:
        index = json.loads(path.read_text("utf-8"))
        index["weight_map"] = {
            key: f"{renamed(name.removesuffix('.bin'))}.safetensors" for key, name in index["weight_map"].items()
        }
    except (ValueError, KeyError, AttributeError):
        raise WeightsError(f"expected the list of a set of weights at {path}, got something else") from None
    return json.dumps(index, indent=2)


def top(folder: Path) -> Path:
    """Past the single folders that archives wrap around everything, down to a model's own."""
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir() and inside[0].name not in PARTS:
        folder = inside[0]
    return folder


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder on the target's own disk, gone afterwards whatever happens."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"expected to write beside {target}: {error.strerror}") from error
    try:
        yield work
    except OSError as error:
        raise OutputError(f"expected to write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
