"""Clips for a table: every row's arguments on every case and model, each clip written whole, none made twice.

A run folder holds `clips/MODEL/ROW/CASE.mp4` with its recipe inside, and `CASE.json` beside it: what was asked, what it took.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError, OutputError, SettingError, VivantError
from .plans import Job, takes


@dataclass(frozen=True)
class Made:
    """What became of a job. `error`: why there is no clip, in one line."""

    seconds: float = 0.0
    evaluations: int = 0
    memory: int = 0
    """bytes at the peak: of the device's memory on a GPU, of the process on a CPU"""
    device: str = ""
    error: str = ""
    fresh: bool = True
    warnings: tuple[str, ...] = ()


Maker = Callable[[Job, str], Made]
"""makes a job's clip on a device and writes it to the job's target, whole or not at all"""
Progress = Callable[[int, int, Job, Made], None]


def make(
    jobs: Sequence[Job],
    devices: Sequence[str] = ("auto",),
    progress: Progress | None = None,
    maker: Maker | None = None,
) -> dict[tuple[str, str, str], Made]:
    """Make what is not there yet; by (model, row, case). A clip whose note asks for just this is kept.

    One device works in this process; several work side by side, a process each, taking job after job. A clip that fails
    is noted and the rest goes on. Raises `SettingError` for no device, `OutputError` where the folder cannot be written.
    """
    if not devices:
        raise SettingError("expected at least one device, got none")
    report = progress or (lambda done, total, job, made: None)
    made: dict[tuple[str, str, str], Made] = {}
    todo: list[Job] = []
    for job in jobs:
        there = done_before(job)
        if there is None:
            todo.append(job)
        else:
            made[job.model, job.row, job.case] = there
    count = len(made)
    for job in jobs:
        try:
            job.target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"expected to make the folder {job.target.parent}: {error.strerror or error}") from error
    for job, result in _work(todo, list(devices), maker or animated):
        made[job.model, job.row, job.case] = result
        count += 1
        report(count, len(jobs), job, result)
    return made


def done_before(job: Job) -> Made | None:
    """What a job took, if its clip is there and was asked for in the same words; None where it must be made."""
    if not job.target.exists() or not job.note.is_file():
        return None
    try:
        note = json.loads(job.note.read_text())
        if note["asked"] != asked(job):
            return None
        return Made(**note["took"] | {"warnings": tuple(note["took"]["warnings"])}, fresh=False)
    except (OSError, ValueError, KeyError, TypeError, VivantError):
        return None


def asked(job: Job) -> dict[str, Any]:
    """Everything a clip depends on, in plain JSON types: arguments, pictures by their bytes, weights."""
    from ..priors.registry import weights_hash

    files = {k: _sha(str(v)) for k, v in job.arguments.items() if k in ("mask", "proxy") and os.sep in str(v)}
    return json.loads(json.dumps({
        "arguments": dict(job.arguments), "painting": _sha(str(job.painting)), "files": files,
        "weights": weights_hash(job.model),
    }))  # fmt: skip


_LOADED: dict[Any, Any] = {}
"""what this process has loaded, for the ways that take it"""


def animated(job: Job, device: str) -> Made:
    """The way every clip goes: `vivant.animate`, or `animate_long` where the row names a method; the recipe inside."""
    from .. import pipeline
    from ..long.film import animate_long

    options = {k: v for k, v in job.arguments.items() if k != "prompt"} | {"device": device}
    long = "method" in options
    if os.sep in str(options["proxy"]):
        options["proxy"] = Path(options["proxy"])
    if "loaded" in takes(long):
        options["loaded"] = _LOADED
    start = time.perf_counter()
    _reset(device)
    if long:
        film = animate_long(job.painting, job.arguments["prompt"], job.target, **options)
        calls, said = film.evaluations, film.warnings
    else:
        result = pipeline.animate(job.painting, job.arguments["prompt"], **options)
        result.save(job.target)
        calls, said = result.evaluations, result.warnings
    return Made(round(time.perf_counter() - start, 3), calls, _peak(device), device, warnings=tuple(said))


def run(job: Job, device: str, maker: Maker) -> Made:
    """One job, its note written after its clip; what fails is a `Made` with the reason."""
    try:
        done = maker(job, device)
        part = job.note.with_name(f".{job.note.name}.part")
        took = {k: v for k, v in vars(done).items() if k != "fresh"}
        part.write_text(json.dumps({"asked": asked(job), "took": took}, indent=1))
        os.replace(part, job.note)
        return done
    except (InputError, ModelError) as error:
        return Made(error=" ".join(str(error).split()), device=device)
    except OutputError:
        raise  # a full disk fails every clip that follows
    except Exception as error:  # a clip in a thousand may fail in a way nobody thought of; the others are still wanted
        if os.environ.get("VIVANT_DEBUG"):
            raise
        return Made(error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", device=device)


def _work(jobs: Sequence[Job], devices: list[str], maker: Maker) -> Iterator[tuple[Job, Made]]:
    if len(devices) == 1:
        for job in jobs:
            yield job, run(job, devices[0], maker)
        return
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[Job, Made] | BaseException | None] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    stop = threading.Event()
    threads = max(1, (os.cpu_count() or 1) // len(devices))
    # Spawned, not forked: CUDA does not survive a fork. One process a device, so that each keeps what it has loaded.
    pools = [ProcessPoolExecutor(1, get_context("spawn"), _settle, (threads,)) for _ in devices]

    def serve(pool: ProcessPoolExecutor, device: str) -> None:
        try:
            while not stop.is_set():
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    break
                results.put((job, pool.submit(run, job, device, maker).result()))
        except BaseException as error:
            results.put(error)
        finally:
            results.put(None)

    servers = [threading.Thread(target=serve, args=pair, daemon=True) for pair in zip(pools, devices, strict=True)]
    try:
        for server in servers:
            server.start()
        running = len(servers)
        while running:
            item = results.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                if isinstance(item, VivantError):
                    raise item
                raise ModelError(
                    f"a worker ended ({type(item).__name__}); run the same command again to resume"
                ) from item
            else:
                yield item
    finally:
        stop.set()
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)


def _settle(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


@lru_cache(4096)
def _sha(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"expected a readable picture at {path}: {error.strerror or error}") from error


def _reset(device: str) -> None:
    import torch

    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats(None if device == "auto" else device)


def _peak(device: str) -> int:
    import resource

    import torch

    if device != "cpu" and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated(None if device == "auto" else device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
