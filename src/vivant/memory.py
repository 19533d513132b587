"""What a clip will need of this machine, said before anything is loaded, and the ladder of ways to need less.

    peak = weights + (max(denoising, decoding) + clip) * MARGIN + process + points
    weights   = numbers in the networks * bytes of the precision
    denoising = clips * branches * frames * w/8 * h/8 * cell * bytes     (SDPA: linear in the positions)
    decoding  = frames decoded at once * w * h * DECODER * bytes         (at most TILE² pixels when tiled)
    clip      = 3 colours * frames * w * h * 4 bytes * COPIES
    points    = KEEP + SCRATCH                                           (transformed convolutions, float32 on a CPU)

`cell` (per model, in the registry) and `DECODER` are peaks of live storage at full size, counted on tensors without
storage; tests/test_memory.py counts them again. With offloading only one network is on the GPU at a time.

The ladder, each rung tried only when the one above does not fit: frames decoded one by one, the two paths one after the
other, the VAE in tiles, networks visiting the GPU in turn (accelerate), a smaller working size (only with the user's
consent). `ladder.apply` does to a loaded model what a plan says.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from .errors import DependencyError, ModelError, SettingError
from .machine import Machine, machine
from .priors.registry import DTYPES, REGISTRY, Entry, entry, gigabytes

DECODER = 768
"""Numbers alive at once in Stable Diffusion's image decoder for each pixel of a frame (the encoder: 640)."""

TILE = 512
"""Pixels a side that a tiled VAE works on at once."""

COPIES = 3
MARGIN = 1.15
"""For what counting storage does not see: the workspaces of convolutions, the allocator's holes. With it the plan for
DynamiCrafter in float32, one branch at a time, is within 5 % of the 11.9, 12.8 and 18.3 GB that its authors measured."""

PROCESS = {"cpu": 400_000_000, "cuda": 900_000_000}
"""The process before any model: torch itself, and the CUDA context with its libraries."""

BY_POINTS = ("animate_anything", "cinemo", "consisti2v", "dynamicrafter")
"""Models, by the beginnings of their names, whose convolutions multiply less in float32 on a CPU (`priors.winograd`)."""

KEEP = 1 << 30
"""Bytes of transformed weights that are kept at the least."""

SCRATCH = 36 * 2560 * 1280 * 4
"""The buffer in which weights that are not kept are transformed: that of the largest layer."""

SPARE = 2 / 3
"""Share of the RAM that would stay free which may go to more of them; all of a network's take 4 to 11 GB."""

ROUGH = 0.5
"""Activations of a network nobody has measured, as a share of the largest network's weights."""

SHRINK = (0.85, 0.7, 0.6, 0.5, 0.4)
"""The sides tried for a smaller clip."""

ALIASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}


@dataclass(frozen=True)
class Plan:
    """How a clip would be made, and what it takes; sizes in bytes."""

    model: str
    device: str
    dtype: str
    width: int
    height: int
    frames: int
    steps: int
    evaluations: int
    weights: int
    peak: int
    ram: int
    free: int
    ram_free: int
    decode_frames: int | None = None
    """frames that the VAE decodes at once; None: as many as the model takes of itself"""
    singly: bool = False
    tiling: bool = False
    offload: bool = False
    smaller: bool = False
    asked: bool = False
    """whether the working size was asked for, in place of the model's own"""
    rough: bool = False
    present: bool = True
    download: int | None = 0
    kept: int = 0
    """bytes for transformed weights, those in `peak` included: more of them save time and change no result"""

    @property
    def fits(self) -> bool:
        """Whether this machine has it."""
        return self.peak <= self.free and self.ram <= self.ram_free

    @property
    def load_device(self) -> str:
        """Where the weights are read to: an offloaded network stays in RAM between its visits."""
        return "cpu" if self.offload else self.device

    @property
    def choices(self) -> list[str]:
        """The rungs of the ladder that were taken, in words."""
        taken = {
            "the VAE decodes one frame at a time": self.decode_frames is not None,
            "the two paths go one after the other": self.singly,
            "the VAE works in tiles": self.tiling,
            "networks visit the GPU in turn": self.offload,
            f"a smaller working size, {self.width}x{self.height}": self.smaller,
        }
        return [words for words, on in taken.items() if on]

    def decides(self) -> dict[str, str]:
        """What of the plan changes the bytes of the result, for its recipe; nothing for a model that has one way."""
        if entry(self.model).alone:
            return {}
        return {"dtype": self.dtype, "memory": ", ".join(self.choices) or "as is"}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "fits": self.fits, "choices": self.choices}

    def lines(self) -> list[str]:
        """For people."""
        where = "GPU memory" if self.device.startswith("cuda") else "RAM"
        row = entry(self.model)
        size = f"{self.width}x{self.height}, {self.frames} frames, {self.steps} steps, {self.evaluations} evaluations"
        need = (
            f"{gigabytes(self.peak)} of {where}, {gigabytes(self.free)} free{' (a rough guess)' if self.rough else ''}"
        )
        here = "nothing to download" if self.present else f"{row.download} to download: vivant pull {self.model}"
        lines = [f"model     {self.model}, {self.dtype} on {self.device}", f"clip      {size}", f"peak      {need}"]
        if self.device.startswith("cuda"):
            lines.append(f"RAM       {gigabytes(self.ram)} while loading, {gigabytes(self.ram_free)} free")
        lines += [f"weights   {gigabytes(self.weights)}; {here}", f"ladder    {'; '.join(self.choices) or 'as is'}"]
        return [*lines, f"verdict   {'fits' if self.fits else 'does not fit: ' + missing(self)}"]


def activations(
    row: Entry,
    dtype: str,
    width: int,
    height: int,
    frames: int,
    paths: int = 2,
    decode_frames: int | None = None,
    tiling: bool = False,
) -> tuple[int, int, int]:
    """(denoising, decoding, clip) bytes beside the weights. `paths`: 2 with a proxy, both go through as one batch."""
    size = DTYPES[dtype]
    if row.cell is None:
        rough = int(max(row.params.values(), default=0) * size * ROUGH)
        return rough * paths // 2, rough // 2, 0
    denoising = paths * row.branches * frames * (width // 8) * (height // 8) * row.cell * size
    pixels = min(width * height, TILE * TILE) if tiling else width * height
    decoding = min(decode_frames or row.decode_frames, frames) * pixels * DECODER * size
    return int(denoising), int(decoding), 3 * frames * width * height * 4 * COPIES


def need(
    row: Entry, dtype: str, width: int = 0, height: int = 0, frames: int = 0, kind: str = "cuda", **ladder: Any
) -> int:
    """Peak bytes where the networks are; sizes that are 0 are the model's own. `offload`: one network at a time."""
    offload = ladder.pop("offload", False)
    width, height = width or (row.size or (1920, 1080))[0], height or (row.size or (1920, 1080))[1]
    if row.alone:
        return row.alone[0] + row.alone[1] * width * height
    denoising, decoding, clip = activations(row, dtype, width, height, frames or row.frames, **ladder)
    held = {part: count * DTYPES[dtype] for part, count in row.params.items()}
    if offload:
        vae = max((v for part, v in held.items() if part.startswith("vae")), default=0)
        body = max(max(held.values()) + denoising * MARGIN, vae + decoding * MARGIN)
    else:
        body = sum(held.values()) + max(denoising, decoding) * MARGIN
    points = KEEP + SCRATCH if by_points(row, dtype, kind) else 0
    return int(body + clip * MARGIN) + PROCESS[kind] + points


def by_points(row: Entry, dtype: str, kind: str) -> bool:
    """Whether the model's convolutions are made of fewer multiplications there."""
    return kind == "cpu" and dtype == "float32" and row.name.startswith(BY_POINTS)


def loading(row: Entry, dtype: str, offload: bool) -> int:
    """Peak RAM while weights are read for a GPU: the largest file's part as it was saved, and as it is wanted."""
    if row.alone or not row.params:
        return PROCESS["cpu"]
    single = any(name.endswith(".ckpt") for names in row.weights for name in names)
    most = sum(row.params.values()) if single else max(row.params.values())
    stay = sum(row.params.values()) * DTYPES[dtype] if offload else most * (0 if dtype == "float32" else DTYPES[dtype])
    return most * 4 + stay + PROCESS["cpu"]


def plan(
    name: str, device: str | Machine = "auto", dtype: str = "auto", painting: tuple[int, int] | None = None,
    frames: int | None = None, steps: int | None = None, distil: float = 0.6, distil_evaluations: int | None = None,
    paths: int = 2, allow_smaller: bool = False, model_size: tuple[int, int] | None = None,
) -> Plan:  # fmt: skip
    """The highest rung that fits, or the lowest one when none does (`Plan.fits`).

    `painting`: (width, height) in pixels, whose aspect the clip takes; `model_size`: (width, height) whose area it takes
    in place of the model's own. Raises `SettingError` for settings out of range.
    """
    row = entry(name)
    if model_size is not None:
        if row.alone:
            raise SettingError(
                f"expected no model size for {name}: it works on the painting itself; --size sets the result's"
            )
        row = replace(row, size=model_size)
    here = device if isinstance(device, Machine) else machine(device, row.place)
    dtype = precision(row, here, dtype)
    count, many = frames or row.frames, steps or row.steps
    width, height = working(row, painting)
    seen = distil_evaluations or row.distil_evaluations
    head = min(int(many * distil) + 1, many) if distil > 0 else 0
    start = Plan(
        name, here.device, dtype, width, height, count, many, many + min(head, seen or head),
        weights=sum(row.params.values()) * DTYPES[dtype], peak=0, ram=0, free=here.free, ram_free=here.ram_free,
        rough=row.cell is None and not row.alone, present=row.present, download=0 if row.present else row.download_bytes,
        asked=model_size is not None,
    )  # fmt: skip
    if here.kind == "cpu":  # what convolutions keep beside their weights is theirs to use again
        from .priors.winograd import held

        here = replace(here, ram_free=here.ram_free + held())
    last = start
    for last in _rungs(start, row, here, paths, allow_smaller):
        together = 1 if last.singly else paths
        ladder = {} if row.alone else {"paths": together, "decode_frames": last.decode_frames, "tiling": last.tiling}
        peak = need(row, dtype, last.width, last.height, count, here.kind, offload=last.offload, **ladder)
        ram = loading(row, dtype, last.offload) if here.kind == "cuda" else peak
        kept = KEEP + int(max(0, here.free - peak) * SPARE) if by_points(row, dtype, here.kind) else 0
        last = replace(last, peak=peak, ram=ram, kept=kept)
        if last.fits:
            return last
    return last


def _rungs(start: Plan, row: Entry, here: Machine, paths: int, allow_smaller: bool) -> Iterator[Plan]:
    """From what is nicest to what takes least."""
    yield start
    if row.alone:
        return
    low = start
    if row.cell is not None:
        low = replace(low, decode_frames=1)
        yield low
    if paths > 1:
        low = replace(low, singly=True)
        yield low
    if row.cell is not None:
        low = replace(low, tiling=True)
        yield low
    if here.kind == "cuda":
        low = replace(low, offload=True)
        yield low
    if allow_smaller and row.cell is not None:
        for share in SHRINK:
            width, height = (max(64, round(side * share / 64) * 64) for side in (start.width, start.height))
            yield replace(low, width=width, height=height, smaller=True, offload=False)
            yield replace(low, width=width, height=height, smaller=True)


def precision(row: Entry, here: Machine, dtype: str) -> str:
    """The precision asked for, or for "auto": float32 on a CPU, bfloat16 on a GPU that has it, else float16."""
    dtype = ALIASES.get(dtype, dtype)
    if dtype == "auto":
        wanted = "float32" if here.kind == "cpu" else "bfloat16" if here.bf16 else "float16"
        return wanted if wanted in row.dtypes else row.dtypes[0]
    if dtype not in row.dtypes:
        raise SettingError(f"expected dtype auto, {', '.join(row.dtypes)} for {row.name}, got {dtype!r}")
    return dtype


def working(row: Entry, painting: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) the model works at: its own area in the painting's aspect, in eights."""
    if row.size is None or painting is None:
        return painting or row.size or (1920, 1080)
    scale = math.sqrt(row.size[0] * row.size[1] / (painting[0] * painting[1]))
    width, height = (max(8, round(side * scale / 8) * 8) for side in painting)
    return width, height


def check(found: Plan) -> None:
    """Raises `ModelError` for a plan that does not fit and `DependencyError` for one that lacks accelerate."""
    if not found.fits:
        clip = f"{found.model} at {found.width}x{found.height}, {found.frames} frames in {found.dtype}"
        raise ModelError(f"expected enough memory for {clip}, {missing(found)}; {helps(found)}")
    if found.offload and importlib.util.find_spec("accelerate") is None:
        raise DependencyError(
            f"{found.model} fits {found.device} only with its networks visiting in turn, which needs accelerate: "
            "pip install 'vivant[offload]'"
        )


def missing(found: Plan) -> str:
    """How much is short of what."""
    if found.peak > found.free:
        where = "GPU memory" if found.device.startswith("cuda") else "RAM"
        return f"it needs {gigabytes(found.peak)} of {where} and {gigabytes(found.free)} are free"
    return f"loading needs {gigabytes(found.ram)} of RAM and {gigabytes(found.ram_free)} are free"


def helps(found: Plan) -> str:
    """What the user could do."""
    row = entry(found.model)
    hints = []
    if found.frames > 8 and row.cell is not None:
        hints.append("--frames 8")
    if found.dtype == "float32" and "bfloat16" in row.dtypes:
        hints.append("--dtype bfloat16" + ("" if found.device.startswith("cuda") else " (slower on most CPUs)"))
    if not found.smaller and row.cell is not None:
        hints.append("--allow-smaller")
    here = Machine(found.device, found.ram_free, found.ram_free, found.free, found.free, found.dtype == "bfloat16")
    others = [name for name in REGISTRY if name != found.model and plan(name, here).fits]
    hints.append(f"--model {others[-1]}" if others else "a machine with more of it")
    return "try " + " or ".join(hints)
