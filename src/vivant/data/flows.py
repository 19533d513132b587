"""Optical flow of whole clips, computed once: DIS from OpenCV, or RAFT from torchvision, kept in safetensors."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from ..errors import DependencyError, InputError, OutputError, SettingError, WeightsError
from ..flow import flow as dis

Estimate = Callable[[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]], Float[np.ndarray, "H W 2"]]
"""where each pixel of the first frame lies in the second: pixels, x right, y down"""


def estimator(name: str = "dis", device: str = "cpu") -> Estimate:
    """`dis`, or `raft` (torchvision's small one, whose weights torch fetches once). Raises `DependencyError`, `WeightsError`."""
    if name == "dis":
        return dis
    if name != "raft":
        raise SettingError(f"expected dis or raft, got {name!r}")
    try:
        from torchvision.models.optical_flow import Raft_Small_Weights, raft_small
    except (ImportError, RuntimeError):  # one built for another torch fails while it registers its operators
        raise DependencyError(
            'expected a torchvision for RAFT that fits this torch, found none; pip install "vivant[raft]", or take dis'
        ) from None
    try:
        network = raft_small(weights=Raft_Small_Weights.DEFAULT).to(device).eval()
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"expected RAFT's weights from torchvision: {error}; connect once, or take dis") from None
    return _Raft(network, device)


class _Raft:
    """RAFT takes frames in [-1, 1] whose sides are multiples of 8 and at least 128."""

    def __init__(self, network: Any, device: str) -> None:
        self.network, self.device = network, device

    @torch.no_grad()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width = first.shape[:2]
        down, right = max(128, -(-height // 8) * 8) - height, max(128, -(-width // 8) * 8) - width
        padded = [np.pad(f, ((0, down), (0, right), (0, 0)), mode="edge") for f in (first, second)]
        a, b = (torch.from_numpy(f).permute(2, 0, 1)[None].float().div(127.5).sub(1).to(self.device) for f in padded)
        return self.network(a, b)[-1][0].permute(1, 2, 0).cpu().numpy()[:height, :width]


def keep(path: Path, flows: Float[np.ndarray, "P 2 h w"], mask: Bool[np.ndarray, "h w"], rate: float, by: str) -> Path:
    """Write `flow` (float16, pixels between frames `rate` a second) and `mask` (eq. 4), whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    tensors = {
        "flow": torch.from_numpy(np.ascontiguousarray(flows, np.float16)),
        "mask": torch.from_numpy(mask.astype(np.uint8)),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(save(tensors, {"rate": repr(rate), "by": by}))
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"expected to write {path}: {error}") from None
    return path


def load(path: Path) -> tuple[Float[Tensor, "P 2 h w"], Float[Tensor, "h w"], float]:
    """(flows in pixels, motion mask 0 or 1, frames a second). Raises `InputError`."""
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("flow").float(), file.get_tensor("mask").float(), float(file.metadata()["rate"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise InputError(f"expected kept flow at {path}: {error}; make it again with vivant data --flow dis") from None


def along(
    flows: Float[Tensor, "P 2 h w"], rate: float, begin: float, fps: float, frames: int, grace: float = 0.0
) -> Float[Tensor, "F 2 h w"]:
    """The flows between `frames` frames of a clip, `fps` a second from `begin` seconds on (F = frames − 1).

    `rate` must be a multiple of `fps`, and `begin` lie on it, give or take `grace` seconds; steps between are joined: where a
    pixel goes in two is where it goes in the first, and on from there. Raises `InputError` for a clip that lies otherwise.
    """
    each, first = round(rate / fps), round(begin * rate)
    if each < 1 or abs(each * fps - rate) > 0.02 * rate or abs(first / rate - begin) > grace + 1e-3:
        raise InputError(
            f"expected a clip on the flow's own frames ({rate:g} a second), got {fps:g} a second from {begin:.3f} s; "
            "take rates that divide it, and begin on its frames (grid)"
        )
    if first + each * (frames - 1) > len(flows):
        raise InputError(f"expected flow for {frames} frames from {begin:.2f} s, it ends at {len(flows) / rate:.2f} s")
    out = []
    for k in range(frames - 1):
        steps = flows[first + k * each : first + (k + 1) * each]
        total = steps[0]
        for step in steps[1:]:
            total = total + _there(step, total)
        out.append(total)
    return torch.stack(out)


def _there(flow: Float[Tensor, "2 h w"], shift: Float[Tensor, "2 h w"]) -> Float[Tensor, "2 h w"]:
    """`flow` read at each pixel's place after `shift`; at the border beyond it."""
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at = torch.stack([2 * (x + shift[0]) / max(1, width - 1) - 1, 2 * (y + shift[1]) / max(1, height - 1) - 1], -1)
    return F.grid_sample(flow[None], at[None].to(flow), padding_mode="border", align_corners=True)[0]
