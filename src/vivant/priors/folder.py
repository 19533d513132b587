"""Read a released diffusers-style folder: one folder a part (unet, vae, text_encoder …), a config.json in each.

Weights are read from safetensors first; a `.bin` or `.ckpt` is unpickled with `weights_only=True`, which runs no code.
Whatever is wrong with a file is one line of `WeightsError`: which file, which key, what was expected, what to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import WeightsError
from .winograd import fast

REDOWNLOAD = "download the folder again"
DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
FILES = {
    "unet": DIFFUSERS,
    "vae": DIFFUSERS,
    "vae_temporal_decoder": DIFFUSERS,
    "text_encoder": ("model.safetensors", "pytorch_model.bin"),
}
"""The weight files of each network, the preferred one first."""

Net = TypeVar("Net", bound=nn.Module)

OLD_VAE_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""How VAEs saved before diffusers 0.15 call the projections of their one attention layer."""


@dataclass(frozen=True, eq=False)
class Parts(Generic[Net]):
    """A loaded folder, in eval mode on one device; `scheduler` is a saved noise schedule's configuration or {}.

    `over_time`: whether the VAE decodes several frames of a clip with an eye on each other.
    """

    unet: Net
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Mapping[str, Any]
    over_time: bool = False


def whole(
    folder: Path | str, title: str, make: Callable[[dict[str, Any]], Net], device: torch.device | str,
    dtype: torch.dtype, optional: Callable[[str], bool] = lambda key: False, scheduler: bool = True,
) -> Parts[Net]:  # fmt: skip
    """The parts of the folder that `title` was released as; the temporal decoder where there is one.

    `make`: the network of its config.json; `scheduler`: whether one must be there. Raises `WeightsError` on the first
    thing that is missing, damaged or of another shape.
    """
    root = Path(folder)
    if not root.is_dir():
        raise WeightsError(f"expected a folder of {title} weights at {root}, found none; download it first")
    saved = root / "scheduler" / "scheduler_config.json"
    over_time = (root / "vae_temporal_decoder").is_dir()
    vae, decoder = ("vae_temporal_decoder", temporal_autoencoder) if over_time else ("vae", autoencoder)
    return Parts(
        unet=network(root / "unet", make, dtype, optional).to(device),
        vae=network(root / vae, decoder, dtype).to(device),
        text_encoder=network(root / "text_encoder", clip_text, dtype).to(device),
        tokenizer=tokenizer(root / "tokenizer"),
        scheduler=read_json(saved) if scheduler or saved.is_file() else {},
        over_time=over_time,
    )


def network(
    folder: Path, make: Callable[[dict[str, Any]], nn.Module], dtype: torch.dtype,
    optional: Callable[[str], bool] = lambda key: False,
) -> Any:  # fmt: skip
    """A network from its folder, in eval mode, every key and shape matching; `optional` keys of the file may be unknown."""
    config = read_json(folder / "config.json")
    path = next((folder / name for name in FILES[folder.name] if (folder / name).is_file()), None)
    if path is None:
        raise WeightsError(f"expected {' or '.join(FILES[folder.name])} in {folder}, found neither; {REDOWNLOAD}")
    try:
        with torch.device("meta"):  # no memory is taken until the shapes are known to match
            net = make(config)
    except Exception as error:
        raise WeightsError(f"{folder / 'config.json'} describes no {folder.name}: {first_line(error)}") from None
    state = _renamed(read_state(path), net)
    known = net.state_dict().keys()
    fill(net, {key: value for key, value in state.items() if key in known or not optional(key)}, path, dtype)
    for name, buffer in net.named_buffers():
        if buffer.is_meta:  # CLIP counts its positions in a buffer that no checkpoint holds
            owner, _, leaf = name.rpartition(".")
            net.get_submodule(owner).register_buffer(leaf, torch.arange(buffer.numel()).view(buffer.shape), False)
    return fast(net.eval().requires_grad_(False))


def autoencoder(config: dict[str, Any]) -> nn.Module:
    """Stable Diffusion's image VAE."""
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_config(config)


def temporal_autoencoder(config: dict[str, Any]) -> nn.Module:
    """The image VAE with the temporal decoder of Stable Video Diffusion."""
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder.from_config(config)


def clip_text(config: dict[str, Any]) -> nn.Module:
    """A CLIP text encoder."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig.from_dict(config))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the folder."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"expected {path}, found no such file; {REDOWNLOAD}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"expected JSON in {path}, got {first_line(error)}; {REDOWNLOAD}") from None
    if not isinstance(record, dict):
        raise WeightsError(f"expected a JSON object in {path}, got a {type(record).__name__}; {REDOWNLOAD}")
    return record


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, from a `.safetensors` file or from a `.bin` that holds nothing but tensors."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"expected a whole file at {path}, got {first_line(error)}; {REDOWNLOAD}") from None
    except Exception as error:  # torch.load raises pickle, zip, EOF and runtime errors, all for one reason
        # Its own words are left out: torch advises to load without the guard, which would run the file's code.
        raise WeightsError(
            f"expected a whole file of tensors and nothing else at {path}, refused it ({type(error).__name__}); "
            f"use a safetensors file or {REDOWNLOAD}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"expected tensors by name in {path}, got something else; {REDOWNLOAD}")
    return state


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """One line for every key that is missing, superfluous or of another shape; values are shapes or tensors."""
    mine = {key: tuple(getattr(value, "shape", value)) for key, value in found.items()}
    want = {key: tuple(getattr(value, "shape", value)) for key, value in expected.items()}
    lines = [f"missing key {key} of shape {want[key]}" for key in want if key not in mine]
    lines += [f"unknown key {key} of shape {mine[key]}" for key in mine if key not in want]
    both = [key for key in want if key in mine and mine[key] != want[key]]
    return lines + [f"key {key} has shape {mine[key]}, expected {want[key]}" for key in both]


def fill(net: nn.Module, state: Mapping[str, Tensor], path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Give a network (often one without storage, on the meta device) its weights, every key and shape matching."""
    wrong = differences(state, net.state_dict())
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise WeightsError(f"{path} does not fit its config.json: {wrong[0]}{more}; use the pair that belongs together")
    floats = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    net.load_state_dict(floats, strict=True, assign=True)


def _renamed(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Older files' names in today's: a text_model prefix, a position_ids buffer, the VAE's attention projections."""
    wanted = net.state_dict()
    out = {}
    for key, value in state.items():
        if key.endswith("position_ids") and key not in wanted:
            continue
        for name in (key, key.removeprefix("text_model."), f"text_model.{key}", _modern(key)):
            if name in wanted:
                key = name
                break
        out[key] = value
    return out


def _modern(key: str) -> str:
    parts = key.split(".")
    if "attentions" in parts and len(parts) > 1:
        parts[-2] = OLD_VAE_NAMES.get(parts[-2], parts[-2])
    return ".".join(parts)


def tokenizer(folder: Path) -> Any:
    """The CLIP tokenizer of a folder."""
    from transformers import CLIPTokenizer

    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file() and not (folder / "tokenizer.json").is_file():
            raise WeightsError(f"expected {name} in {folder}, found no such file; {REDOWNLOAD}")
    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise WeightsError(f"expected a CLIP tokenizer in {folder}, got {first_line(error)}; {REDOWNLOAD}") from None


def first_line(error: BaseException) -> str:
    """An error's first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip().rstrip(".")[:200]
