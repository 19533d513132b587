"""What this machine has: RAM, GPU memory, disk."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingError


@dataclass(frozen=True)
class Machine:
    """What there is, in bytes; `vram` is 0 without CUDA. `free` counts what this process could still take."""

    device: str
    ram: int
    ram_free: int
    vram: int = 0
    vram_free: int = 0
    bf16: bool = False
    disk_free: int = 0

    @property
    def kind(self) -> str:
        """cpu or cuda."""
        return "cuda" if self.device.startswith("cuda") else "cpu"

    @property
    def free(self) -> int:
        """The memory that the networks would be in."""
        return self.vram_free if self.kind == "cuda" else self.ram_free


def machine(device: str = "auto", folder: Path | None = None) -> Machine:
    """This machine's RAM, GPU and disk (at `folder`). Raises `SettingError` for a device it does not have."""
    ram, free = _ram()
    place = next(
        p for p in [(folder or Path.home()).resolve(), *(folder or Path.home()).resolve().parents] if p.exists()
    )
    disk = shutil.disk_usage(place).free
    if device == "cpu":
        return Machine("cpu", ram, free, disk_free=disk)
    import torch

    if not torch.cuda.is_available():
        if device != "auto":
            raise SettingError(f"expected a device of this machine, got {device!r} and found no CUDA; use --device cpu")
        return Machine("cpu", ram, free, disk_free=disk)
    device = "cuda" if device == "auto" else device
    vram_free, vram = torch.cuda.mem_get_info(device)
    bf16 = torch.cuda.get_device_capability(device) >= (8, 0)  # before Ampere bfloat16 is emulated
    return Machine(device, ram, free, vram, vram_free, bf16, disk)


def _ram() -> tuple[int, int]:
    """(total, available) bytes, a container's limit respected."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = total
    if importlib.util.find_spec("psutil"):
        import psutil

        free = psutil.virtual_memory().available
    elif Path("/proc/meminfo").exists():
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text("utf-8").splitlines() if ":" in line)
        free = int(rows["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text("utf-8"))
        free = min(free, limit - int((group / "memory.current").read_text("utf-8")))
        total = min(total, limit)
    except (OSError, ValueError):
        pass  # no limit is written as "max", or there is no such file
    return total, max(0, free)
