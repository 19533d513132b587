"""Read DynamiCrafter from the released checkpoint: one file for the UNet, the resampler, the VAE and both CLIP towers.

A folder holds `model.ckpt` as downloaded, or the `model.safetensors` that `convert` makes of it, and `tokenizer/` with
CLIP's. A `config.json` of ours may override the sizes of a part; the released checkpoints come without one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...errors import SettingError, WeightsError
from ..folder import REDOWNLOAD, differences, first_line, read_json, read_state, tokenizer
from .encoders import clip_shapes, clip_state, image_tower, image_vae, text_tower, vae_shapes, vae_state
from .net import DynamiCrafterUNet, UNetConfig
from .resampler import Resampler, ResamplerConfig

VARIANTS = ("256", "512", "1024", "512_interp")
UNET, RESAMPLER, VAE = "model.diffusion_model.", "image_proj_model.", "first_stage_model."
TEXT, IMAGE = "cond_stage_model.model.", "embedder.model.visual."
OLD_RATE, RATE = f"{UNET}framestride_embed.", f"{UNET}fps_embedding."

VAE_CONFIG: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "scaling_factor": 0.18215
}  # fmt: skip
TEXT_CONFIG: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "max_position_embeddings": 77, "hidden_act": "gelu",
}  # fmt: skip
IMAGE_CONFIG: dict[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 14, "hidden_act": "gelu",
}  # fmt: skip
RATES = {"256": 3, "512": 24, "1024": 10, "512_interp": 5}
"""The frame rate, or frame stride, each variant samples with."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The loaded checkpoint, in eval mode on one device."""

    variant: str
    unet: DynamiCrafterUNet
    resampler: Resampler
    vae: Any
    text: Any
    image: Any
    tokenizer: Any


def networks(variant: str, sizes: Mapping[str, Any] | None = None) -> dict[str, nn.Module]:
    """The five networks by their prefix in the checkpoint, without storage. `sizes`: what `config.json` overrides."""
    given = sizes or {}
    unet = asdict(UNetConfig(image_cross_attention_scale_learnable=variant == "256", default_fs=RATES[variant]))
    with torch.device("meta"):
        return {
            UNET: DynamiCrafterUNet(UNetConfig.from_json({**unet, **given.get("unet", {})})),
            RESAMPLER: Resampler(
                ResamplerConfig.from_json({**asdict(ResamplerConfig()), **given.get("resampler", {})})
            ),
            VAE: image_vae({**VAE_CONFIG, **given.get("vae", {})}),
            TEXT: text_tower({**TEXT_CONFIG, **given.get("text", {})}),
            IMAGE: image_tower({**IMAGE_CONFIG, **given.get("image", {})}),
        }


def shapes(nets: Mapping[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """What a checkpoint must hold: every official name and its shape."""
    out: dict[str, tuple[int, ...]] = {}
    for prefix, net in nets.items():
        if prefix in (TEXT, IMAGE):
            mine = clip_shapes(net)
        else:
            mine = vae_shapes(net) if prefix == VAE else {k: tuple(v.shape) for k, v in net.state_dict().items()}
        out |= {prefix + name: shape for name, shape in mine.items()}
    return out


def load(
    folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
    variant: str | None = None,
) -> Parts:  # fmt: skip
    """Load all parts; raises `WeightsError` on the first thing that is missing, damaged or of another shape.

    `variant`: 256, 512, 1024 or 512_interp; None: `config.json`'s, or what the checkpoint tells (512 and 512_interp
    look the same: 512).
    """
    root = Path(folder)
    if not root.is_dir():
        raise WeightsError(f"expected a folder of DynamiCrafter weights at {root}, found none; download it first")
    record = read_json(root / "config.json") if (root / "config.json").is_file() else {}
    words = tokenizer(root / "tokenizer")
    path = next((root / name for name in ("model.safetensors", "model.ckpt") if (root / name).is_file()), None)
    if path is None:
        raise WeightsError(f"expected model.safetensors or model.ckpt in {root}, found neither; {REDOWNLOAD}")
    state = read(path)
    variant = variant or record.get("variant") or infer(state, path)
    if variant not in VARIANTS:
        raise SettingError(f"expected a DynamiCrafter variant among {', '.join(VARIANTS)}, got {variant!r}")
    try:
        nets = networks(variant, record)
    except Exception as error:
        raise WeightsError(f"{root / 'config.json'} describes no DynamiCrafter: {first_line(error)}") from None
    want = shapes(nets)
    # The file also holds schedules, heads and blocks that sampling has no use for; its own parts must fit exactly.
    held = {key: v for key, v in state.items() if key in want or key.startswith((UNET, RESAMPLER, VAE))}
    wrong = differences(held, want)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise WeightsError(f"{path} is no DynamiCrafter {variant}: {wrong[0]}{more}; name its variant or {REDOWNLOAD}")
    ready: dict[str, Any] = {prefix: _filled(net, prefix, held, dtype).to(device) for prefix, net in nets.items()}
    return Parts(variant, ready[UNET], ready[RESAMPLER], ready[VAE], ready[TEXT], ready[IMAGE], words)


def read(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors under their official names, bare or inside `state_dict`. Runs no code."""
    if path.suffix == ".safetensors":
        state = read_state(path)
    else:
        try:
            # Mapped, so that ten gigabytes are read once and only as they are used.
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
        except OSError as error:
            raise WeightsError(f"expected a whole file at {path}, got {first_line(error)}; {REDOWNLOAD}") from None
        except Exception as error:  # torch.load raises pickle, zip, EOF and runtime errors, all for one reason
            # Its own words are left out: torch advises to load without the guard, which would run the file's code.
            raise WeightsError(
                f"expected a whole checkpoint of tensors and nothing that runs at {path}, refused it "
                f"({type(error).__name__}); {REDOWNLOAD}"
            ) from None
        state = found.get("state_dict", found) if isinstance(found, dict) else found
        if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
            raise WeightsError(f"expected tensors by name in {path}, got something else; {REDOWNLOAD}")
    return {RATE + key.removeprefix(OLD_RATE) if key.startswith(OLD_RATE) else key: v for key, v in state.items()}


def infer(state: Mapping[str, Tensor], path: Path) -> str:
    """The variant a checkpoint is of: 256 learns its attention's λ; 512 and 1024 differ in how far k falls."""
    if any(key.startswith(UNET) and key.endswith(".attn2.alpha") for key in state):
        return "256"
    falls = state.get("scale_arr")
    if falls is not None and falls.numel():
        return "1024" if float(falls.flatten()[-1]) < 0.5 else "512"
    raise WeightsError(f"expected scale_arr in {path} to tell 512 from 1024, found none; name its variant")


def convert(folder: Path | str) -> Path:
    """Write `model.safetensors` next to `model.ckpt`, with the same names; returns its path."""
    root = Path(folder)
    if not (root / "model.ckpt").is_file():
        raise WeightsError(f"expected model.ckpt in {root}, found none; {REDOWNLOAD}")
    state: dict[str, Tensor] = {}
    taken: set[int] = set()
    for key, value in read(root / "model.ckpt").items():  # the format wants every tensor to own its memory
        owner = value.untyped_storage().data_ptr()
        state[key] = value.clone().contiguous() if owner in taken else value.contiguous()
        taken.add(owner)
    target, unfinished = root / "model.safetensors", root / f".model.{os.getpid()}.safetensors"
    try:
        save_file(state, unfinished)
        os.replace(unfinished, target)
    except OSError as error:
        raise WeightsError(f"expected to write {target}, got {first_line(error)}; free space or rights") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _filled(net: nn.Module, prefix: str, state: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """The network with its tensors, whose names and shapes are known to fit."""
    mine = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if prefix in (TEXT, IMAGE):
        mine = clip_state(net, mine)
    elif prefix == VAE:
        mine = vae_state(net, mine)
    floats = {key: value.to(dtype) if value.is_floating_point() else value for key, value in mine.items()}
    net.load_state_dict(floats, strict=True, assign=True)
    for name, buffer in net.named_buffers():
        if buffer.is_meta:  # CLIP counts its positions in a buffer that no checkpoint holds
            owner, _, leaf = name.rpartition(".")
            net.get_submodule(owner).register_buffer(leaf, torch.arange(buffer.numel()).view(buffer.shape), False)
    return net.eval().requires_grad_(False)
