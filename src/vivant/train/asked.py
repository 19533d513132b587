"""What the small trainings (`refine`, `svd-flow`) are asked for, held to what they can do before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, OutputError, SettingError
from ..stage import chosen_device


def numbers(steps: int, batch: int, minutes: float | None, rate: float | None, seed: int, threads: int) -> None:
    """Raises `SettingError` for a number that is out of range."""
    if steps < 1 or batch < 1 or (minutes is not None and not minutes > 0):
        raise SettingError(f"expected steps, batch and minutes above 0, got {steps}, {batch}, {minutes}")
    if rate is not None and not 0 < rate <= 1:
        raise SettingError(f"expected a learning rate above 0 and up to 1, got {rate:g}")
    if threads < 1 or seed < 0:
        raise SettingError(f"expected at least 1 thread and a seed from 0 on, got {threads} and {seed}")


STATE = "state.pt"


def places(out: Path, device: str, resume: Path | None = None, videos: Path | None = None, state: str = STATE) -> str:
    """Make the folder of the run; the device by name. Raises `InputError`, `OutputError`, `SettingError`."""
    if resume is not None and not resume.is_file():
        raise InputError(f"expected a training state to go on from at {resume}, found none; name a run's state.pt")
    if videos is not None and not videos.is_dir():
        raise InputError(f"expected a folder of videos at {videos}, found none")
    free(out / state, resume)
    chosen = chosen_device(device)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"expected a folder for the run at {out}: {error.strerror}; use --out") from None
    return chosen


def free(state: Path, resume: Path | None) -> None:
    """Refuse to write over the state of an earlier training that is not gone on with. Raises `OutputError`."""
    if state.is_file() and (resume is None or resume.resolve() != state.resolve()):
        raise OutputError(f"expected another --out, {state.parent} holds a training; go on with it by --resume {state}")
