"""Clips to learn motion from: procedural scenes, whose motion is known exactly, and videos, whose motion is estimated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..controls.arrows import motion_fields, strength
from ..controls.refine import field
from ..controls.steer import played
from ..data.scenes import Scene
from ..errors import DependencyError, SettingError
from ..flow import flow as dis
from ..priors.svd_flow.adapter import per_frame
from .refine import told

PLAIN = 0.25
"""how often scenes are told by arrows' refined field in place of their exact motion: what inference has"""
FARTHEST = 0.2
"""how far, as a share of the sides, `carried` carries a picture over a clip"""


class Clip(NamedTuple):
    """One clip: frames (L, 3, H, W) in [-1, 1], motion (L, 2, h, w) in cells a frame, M_s."""

    frames: Tensor
    motion: Tensor
    strength: float


def of_scene(scene: Scene, frames: int, cells: tuple[int, int], rng: np.random.Generator, plain: float = PLAIN) -> Clip:
    """A scene as it moves; its motion exact, or (with chance `plain`) as its arrows' field tells it."""
    pictures = played(scene.picture, scene.field, frames)
    arrows = told(scene, rng)
    if arrows and rng.random() < plain:
        fields = per_frame(motion_fields(field(arrows, cells, scene.picture), frames))
    else:
        path = np.concatenate([np.zeros_like(scene.field[:1, :2]), scene.field[:, :2]])
        at = np.linspace(0, len(path) - 1, frames)
        low = np.minimum(at.astype(int), len(path) - 2)
        now = path[low] + (at - low)[:, None, None, None] * (path[low + 1] - path[low])
        moved = -np.diff(now, axis=0)  # backward displacement grows against the way
        fields = per_frame(np.stack([_cells(f.transpose(1, 2, 0) * cells, cells) for f in moved]))
    return _clip(np.stack(pictures), fields)


def carried(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene's picture carried as a whole along a smooth field drawn at random.

    In a scene a third of the paint moves, most of it slowly. Where all of it does, every cell tells what a field means.
    """
    turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1) * FARTHEST
    bends = rng.normal((np.cos(turn), np.sin(turn)), 0.35, (3, 3, 2))
    way = far * cv2.resize(bends.astype(np.float32), scene.field.shape[:1:-1], interpolation=cv2.INTER_CUBIC)
    times = np.linspace(0, 1, len(scene.field) + 1, dtype=np.float32)[1:]
    fields = np.zeros_like(scene.field)
    fields[:, :2] = -times.reshape(-1, 1, 1, 1) * way.transpose(2, 0, 1)
    return replace(scene, field=fields)


def of_videos(
    folder: Path, size: int, frames: int, cells: tuple[int, int], by: str, rng: np.random.Generator
) -> Iterator[Clip]:
    """Endless clips of a folder's videos, cut square, with estimated motion. Raises `SettingError` where there are none."""
    import av

    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".mp4", ".mov", ".webm", ".mkv", ".avi"))
    if not paths:
        raise SettingError(f"expected videos (.mp4 .mov .webm .mkv .avi) in {folder}, found none")
    while True:
        found = False
        for index in rng.permutation(len(paths)):
            with av.open(str(paths[index])) as video:
                every = [
                    f.to_ndarray(format="rgb24") for f, _ in zip(video.decode(video=0), range(8 * frames), strict=False)
                ]
            if len(every) < frames:
                continue
            found = True
            first = int(rng.integers(len(every) - frames + 1))
            pictures = np.stack([_square(f, size) for f in every[first : first + frames]])
            yield _clip(pictures, per_frame(estimated(pictures, cells, by)))
        if not found:
            raise SettingError(f"expected videos of at least {frames} frames in {folder}, found none")


def estimated(
    pictures: UInt8[np.ndarray, "L H W 3"], cells: tuple[int, int], by: str = "dis"
) -> Float[np.ndarray, "N h w 2"]:
    """Optical flow from each frame to the next, in latent cells. `by`: dis, or raft (torchvision)."""
    height, width = pictures.shape[1:3]
    flows = raft(pictures) if by == "raft" else [dis(a, b) for a, b in pairwise(pictures)]
    scale = np.array([cells[0] / width, cells[1] / height], np.float32)
    return np.stack([_cells(one * scale, cells) for one in flows])


def raft(pictures: UInt8[np.ndarray, "L H W 3"]) -> list[Float[np.ndarray, "H W 2"]]:
    """RAFT (Teed & Deng 2020), torchvision's small network with its trained weights. Raises `DependencyError`."""
    try:
        from torchvision.models.optical_flow import Raft_Small_Weights, raft_small
    except ImportError:
        raise DependencyError(
            "expected the package torchvision, which RAFT is part of; pip install torchvision, or use --flow dis"
        ) from None
    trained = Raft_Small_Weights.DEFAULT
    net = raft_small(weights=trained).eval()
    frames = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    first, second = trained.transforms()(frames[:-1], frames[1:])
    with torch.no_grad():
        return [f.permute(1, 2, 0).numpy() for f in net(first, second)[-1]]


def _cells(flow: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    small = cells[0] * cells[1] < flow.shape[0] * flow.shape[1]
    return cv2.resize(
        np.ascontiguousarray(flow, np.float32), cells, interpolation=cv2.INTER_AREA if small else cv2.INTER_LINEAR
    )


def _square(frame: np.ndarray, size: int) -> np.ndarray:
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return cv2.resize(frame[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)


def _clip(pictures: np.ndarray, fields: np.ndarray) -> Clip:
    frames = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Clip(frames, torch.from_numpy(fields).permute(0, 3, 1, 2).float(), strength(fields[:-1]))
