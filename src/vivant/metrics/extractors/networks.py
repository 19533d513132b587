"""I3D, VideoMAE and CLIP as extractors: the published weights, checked, and the preprocessing they were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ...errors import InputError
from .registry import I3D_SHA256
from .weights import complain, existing, model_file, place, script, sha256, tensors

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class I3D:
    """Kinetics-400 I3D, the TorchScript archive that reproduces the original FVD's network: (B, 400) features.

    It takes at least 10 frames of any size and scales them itself.
    """

    name = "i3d"
    takes: Literal["videos", "frames"] = "videos"

    def __init__(self, network: Any, version: str, device: str = "cpu") -> None:
        self.network, self.version, self.device = network, version, device

    @classmethod
    def load(cls, path: Path | None = None, device: str = "cpu", expected: str = I3D_SHA256) -> I3D:
        """Its bytes are hashed before they are run. Raises `WeightsError`."""
        return cls(script(path or place("i3d") / "i3d_torchscript.pt", "i3d", expected, device), expected, device)

    @torch.no_grad()
    def __call__(self, batch: UInt8[Tensor, "B F H W 3"]) -> Float[Tensor, "B 400"]:
        """Features before the softmax, as FVD takes them. Raises `InputError` for clips under 10 frames."""
        _clips(batch, 10, "I3D")
        pixels = batch.to(self.device).permute(0, 4, 1, 2, 3).contiguous().float()
        return self.network(pixels, rescale=True, resize=True, return_features=True)


class VideoMae:
    """VideoMAE ViT-B, fine-tuned on Kinetics: the mean of its tokens, normalised as before its classifier, (B, 768).

    16 frames spread evenly over the clip, the shorter side 224, the middle square.
    """

    name = "videomae"
    takes: Literal["videos", "frames"] = "videos"

    def __init__(self, network: Any, version: str, device: str = "cpu") -> None:
        self.network, self.version, self.device = network, version, device

    @classmethod
    def load(cls, folder: Path | None = None, device: str = "cpu") -> VideoMae:
        """From a folder of transformers' layout. Raises `WeightsError`."""
        from transformers import VideoMAEConfig, VideoMAEForVideoClassification

        network, version = _transformers(
            folder or place("videomae"), "videomae", VideoMAEConfig, VideoMAEForVideoClassification
        )
        return cls(network.to(device), version, device)

    @torch.no_grad()
    def __call__(self, batch: UInt8[Tensor, "B F H W 3"]) -> Float[Tensor, "B D"]:
        """Features of clips. Raises `InputError` for clips shorter than the network's 16 frames."""
        config = self.network.config
        _clips(batch, config.num_frames, "VideoMAE")
        chosen = torch.linspace(0, batch.shape[1] - 1, config.num_frames).round().long()
        clips = batch[:, chosen].to(self.device)
        frames = square(clips.flatten(0, 1), config.image_size, IMAGENET, "bilinear")
        tokens = self.network.videomae(frames.unflatten(0, clips.shape[:2]))[0]
        return self.network.fc_norm(tokens.mean(1)) if self.network.fc_norm is not None else tokens[:, 0]


class Clip:
    """CLIP ViT-B/32: projected features of frames and of sentences, (B, 512), not normalised."""

    name = "clip"
    takes: Literal["videos", "frames"] = "frames"

    def __init__(self, network: Any, tokenizer: Any, version: str, device: str = "cpu") -> None:
        self.network, self.tokenizer, self.version, self.device = network, tokenizer, version, device

    @classmethod
    def load(cls, folder: Path | None = None, device: str = "cpu") -> Clip:
        """From a folder of transformers' layout. Raises `WeightsError`."""
        from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

        folder = folder or place("clip")
        network, version = _transformers(folder, "clip", CLIPConfig, CLIPModel)
        return cls(network.to(device), CLIPTokenizer.from_pretrained(folder, local_files_only=True), version, device)

    @torch.no_grad()
    def __call__(self, batch: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Features of frames: the shorter side 224 (bicubic), the middle square."""
        if batch.ndim != 4 or batch.shape[-1] != 3:
            raise InputError(f"expected frames as (B, H, W, 3), got {tuple(batch.shape)}")
        pixels = square(batch.to(self.device), self.network.config.vision_config.image_size, OPENAI, "bicubic")
        return self.network.visual_projection(self.network.vision_model(pixel_values=pixels).pooler_output)

    @torch.no_grad()
    def text(self, sentences: Sequence[str]) -> Float[Tensor, "N D"]:
        """Features of sentences; what goes beyond 77 tokens is left out."""
        words = self.tokenizer(list(sentences), padding=True, truncation=True, return_tensors="pt").to(self.device)
        pooled = self.network.text_model(**words).pooler_output
        return self.network.text_projection(pooled)


def square(
    frames: UInt8[Tensor, "N H W 3"], side: int, scale: tuple[tuple[float, ...], tuple[float, ...]], mode: str
) -> Float[Tensor, "N 3 side side"]:
    """The shorter side scaled to `side`, the middle cut out, RGB in 0..1 normalised by (mean, standard deviation)."""
    height, width = frames.shape[1:3]
    # Rounded down in size and to 8 bits in depth, as the image libraries do that the networks were trained with.
    size = (side * height // min(height, width), side * width // min(height, width))
    pixels = (
        interpolate(frames.permute(0, 3, 1, 2).float(), size, mode=mode, antialias=True).round().clamp(0, 255) / 255
    )
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    mean, std = (torch.tensor(v, device=frames.device).view(1, 3, 1, 1) for v in scale)
    return (pixels[..., top : top + side, left : left + side] - mean) / std


def _clips(batch: Tensor, least: int, name: str) -> None:
    if batch.ndim != 5 or batch.shape[-1] != 3:
        raise InputError(f"expected clips as (B, F, H, W, 3), got {tuple(batch.shape)}")
    if batch.shape[1] < least:
        raise InputError(f"expected clips of at least {least} frames for {name}, got {batch.shape[1]}")


def _transformers(folder: Path, name: str, config: Any, kind: Any) -> tuple[nn.Module, str]:
    """A transformers network from a folder, its weights read without running code: (network, sha256 of the weights)."""
    path = model_file(folder, name)
    state = tensors(path, name)
    existing(folder / "config.json", name)
    # Given tensors, transformers only renames what older releases called otherwise.
    network, found = kind.from_pretrained(
        None, config=config.from_pretrained(folder, local_files_only=True), state_dict=state, output_loading_info=True
    )
    complain(name, list(found["missing_keys"]), list(found["unexpected_keys"]))
    return network.eval().requires_grad_(False), sha256(path)
