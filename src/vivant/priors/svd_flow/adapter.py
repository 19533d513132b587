"""SVD with motion fields as a `VideoPrior`: arrows become fields, fields go into the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ...controls.arrows import motion_fields, strength
from ...controls.refine import field
from ...errors import WeightsError
from ...process import Level, Video
from ...shot import Shot
from ..diffusers_i2v import from_pretrained
from ..diffusers_i2v.parts import Parts
from ..diffusers_i2v.svd import StableVideo
from ..frames2d import latent_mask
from . import weights
from .net import MotionUNet

STRONGEST = 400.0
"""M_s of `strength=1`: the largest the paper shows."""


class SvdFlow(StableVideo):
    """Stable Video Diffusion that follows arrows. Without arrows and strength it is Stable Video Diffusion.

    What the painting, the guidance and the levels do is SVD's; motion and its strength are told to both branches of the
    guidance.
    """

    family = "svd_flow"

    def __init__(self, pipe: Any, net: MotionUNet | None = None, **options: Any) -> None:
        """`net`: the network around `pipe.unet`; a fresh one, which hears nothing yet, when None."""
        self.net = MotionUNet(pipe.unet).to(pipe.unet.device, pipe.unet.dtype) if net is None else net
        self.net.eval().requires_grad_(False)
        super().__init__(pipe, **options)

    @classmethod
    def from_folder(
        cls, folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, **options: Any
    ) -> SvdFlow:
        """Load SVD's released folder with motion.safetensors in it; `options` go to the constructor."""
        root = Path(folder)
        if not (root / "model_index.json").is_file():
            raise WeightsError(f"expected the folder of Stable Video Diffusion at {root}, found no model_index.json")
        path = root / weights.NAME
        state = weights.read(path)  # before the large files are read
        pipe = from_pretrained(root, device, dtype).pipe
        net = weights.fitted(pipe.unet, state)
        weights.fill(net, state, path)
        return cls(pipe, net.to(device, dtype), **options)

    def conditions(self, shot: Shot, rng: Generator) -> Parts:
        """SVD's, and the shot's motion."""
        return super().conditions(shot, rng) | self.told(shot)

    def told(self, shot: Shot) -> Parts:
        """Motion fields (1, L, 2, h, w) in cells a frame, M_s (1,), and which of the two are given (1, 2).

        M_s is what `strength` asks for, or the mean of the arrows' field (eq. 8). Outside a mask nothing moves.
        """
        length, height, width = self.cells(shot)
        hand = shot.controls
        fields = np.zeros((length, height, width, 2), np.float32)
        if hand.arrows and length > 1:
            flow = field(hand.arrows, (width, height), shot.painting)
            flow = flow * latent_mask(shot, (height, width), torch.device("cpu"))[0, 0, 0, :, :, None].numpy()
            fields = per_frame(motion_fields(flow, length))
        amount = STRONGEST * hand.strength if hand.strength is not None else strength(fields)
        known = torch.tensor([[float(bool(hand.arrows)), float(bool(hand.arrows) or hand.strength is not None)]])
        motion = torch.from_numpy(fields).permute(0, 3, 1, 2)[None]
        parts = {"motion": motion, "strength": torch.tensor([amount]), "heard": known}
        return {name: value.to(self.device) for name, value in parts.items()}

    def emit(self, z: Video, level: Level, parts: Parts, positive: bool) -> Video:
        """The negative branch sees neither the painting nor its latent; both hear the motion."""
        image, latent = (v if positive else torch.zeros_like(v) for v in (parts["image"], parts["latent"]))
        frames = z.transpose(1, 2).to(image.dtype)
        fed = torch.cat([frames, latent.expand(-1, frames.shape[1], -1, -1, -1)], dim=2)
        time = torch.tensor(level.t, device=z.device)
        out: Tensor = self.net(
            fed, time, image, parts["numbers"], parts["motion"].to(image.dtype), parts["strength"], parts["heard"]
        )
        return out.transpose(1, 2)


def per_frame(fields: np.ndarray) -> np.ndarray:
    """From the N fields between frames to one for each of N + 1: from it to the next, the last as the one before."""
    return np.concatenate([fields, fields[-1:]])
