"""DreamSim as an extractor: three vision transformers with their low-rank corrections, features side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from ...errors import InputError, WeightsError
from .networks import IMAGENET, OPENAI
from .weights import existing, fill, place, sha256, tensors

RANK_SCALE = 0.5 / 16
"""alpha / r of the released corrections"""

BRANCHES = {"dino_vitb16": IMAGENET, "clip_vitb16": OPENAI, "open_clip_vitb16": OPENAI}
FILES = {
    "dino_vitb16": "dino_vitbase16_pretrain.pth", "clip_vitb16": "clip_vitb16_pretrain.pth.tar",
    "open_clip_vitb16": "open_clip_vitb16_pretrain.pth.tar",
}  # fmt: skip


class DreamSim:
    """The ensemble of Fu et al. 2023: DINO's class token, CLIP's and OpenCLIP's embeddings, length 1 and mean 0; (B, 1792).

    1 − cosine of two rows is the DreamSim distance. Frames are squeezed to 224 × 224 (bicubic), as released.
    """

    name = "dreamsim"
    takes: Literal["videos", "frames"] = "frames"

    def __init__(self, branches: dict[str, tuple[nn.Module, Tensor | None]], version: str, device: str = "cpu") -> None:
        self.version, self.device = version, device
        self.branches = {k: (n.to(device), p.to(device) if p is not None else None) for k, (n, p) in branches.items()}

    @classmethod
    def load(cls, folder: Path | None = None, device: str = "cpu", size: int = 224) -> DreamSim:
        """From the folder of the released archive and DINO's own weights. Raises `WeightsError`."""
        folder = folder or place("dreamsim")
        branches, hashes = {}, []
        for name, file in FILES.items():
            state: Any = tensors(folder / file, "dreamsim")
            state = dict(state.get("state_dict", state))
            projection = state.pop("proj", None)
            correction = next((p for e in ("safetensors", "bin") if (p := folder / f"{name}_lora" / f"adapter_model.{e}").is_file()),
                              folder / f"{name}_lora" / "adapter_model.bin")  # fmt: skip
            state = corrected(state, tensors(existing(correction, "dreamsim"), "dreamsim"))
            branches[name] = (_network(name, state, size), projection)
            hashes += [sha256(folder / file)[:16], sha256(correction)[:16]]
        return cls(branches, "+".join(hashes), device)

    @torch.no_grad()
    def __call__(self, batch: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        """Features of frames. Raises `InputError` for another shape."""
        if batch.ndim != 4 or batch.shape[-1] != 3:
            raise InputError(f"expected frames as (B, H, W, 3), got {tuple(batch.shape)}")
        found = []
        for name, (network, projection) in self.branches.items():
            side = int(network.patch.kernel_size[0] * (network.positions.shape[1] - 1) ** 0.5)  # type: ignore[union-attr, index, operator]
            pixels = interpolate(
                batch.to(self.device).permute(0, 3, 1, 2).float() / 255, (side, side), mode="bicubic", antialias=True
            )
            mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in BRANCHES[name])
            features = network((pixels.clamp(0, 1) - mean) / std)
            found.append(features if projection is None else features @ projection)
        joined = torch.cat(found, 1)
        joined = joined / joined.norm(dim=1, keepdim=True)
        return joined - joined.mean(1, keepdim=True)


class VisionTransformer(nn.Module):
    """A ViT (Dosovitskiy et al. 2021) whose class token comes out; CLIP's has a norm before its blocks and another GELU.

    `raw`: the token before the last norm, which is what DreamSim takes of DINO.
    """

    def __init__(self, width: int, depth: int, patch: int, tokens: int, clip: bool, quick: bool) -> None:
        super().__init__()
        self.raw, epsilon = not clip, 1e-5 if clip else 1e-6
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.first = nn.LayerNorm(width, epsilon) if clip else nn.Identity()
        self.blocks = nn.ModuleList(_Block(width, epsilon, quick) for _ in range(depth))
        self.norm = nn.LayerNorm(width, epsilon)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """The class token."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.first(torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions)
        for block in self.blocks:
            x = block(x)
        return x[:, 0] if self.raw else self.norm(x[:, 0])


class _Block(nn.Module):
    def __init__(self, width: int, epsilon: float, quick: bool) -> None:
        super().__init__()
        self.heads, self.quick = max(1, width // 64), quick
        self.norm1, self.norm2 = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        h = self.fc1(self.norm2(x))
        return x + self.fc2(h * torch.sigmoid(1.702 * h) if self.quick else nn.functional.gelu(h))


def corrected(state: dict[str, Tensor], pairs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights with W + (alpha / r) B A in every attention (Hu et al. 2021, eq. 3). Raises `WeightsError`."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in pairs.items():
        match = re.search(r"blocks\.(\d+)\.attn\.qkv\.lora_([AB])\.", key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = value
    depth = sum(k.endswith("attn.qkv.weight") for k in state)
    if sorted(found) != list(range(depth)) or any(set(p) != {"A", "B"} for p in found.values()):
        raise WeightsError(f"expected DreamSim's corrections of {depth} blocks, got {len(found)}; pull again")
    state = dict(state)
    for i, pair in found.items():
        key = f"blocks.{i}.attn.qkv.weight"
        state[key] = state[key] + RANK_SCALE * pair["B"].to(state[key]) @ pair["A"].to(state[key])
    return state


def _network(name: str, state: dict[str, Tensor], size: int) -> nn.Module:
    clip = name != "dino_vitb16"
    try:
        width, _, patch, _ = state["patch_embed.proj.weight"].shape
    except (KeyError, ValueError):
        raise WeightsError(f"expected the weights of DreamSim's {name}, got others; pull again") from None
    depth = sum(k.endswith("attn.qkv.weight") for k in state)
    network = VisionTransformer(width, depth, patch, (size // patch) ** 2 + 1, clip, name == "clip_vitb16")
    names = {"patch_embed.proj": "patch", "cls_token": "token", "pos_embed": "positions", "pos_drop": "first"}
    out = {}
    for key, value in state.items():
        for old, new in names.items():
            key = re.sub(rf"^{re.escape(old)}", new, key)
        out[re.sub(r"\.(attn|mlp)\.", ".", key)] = value
    return fill(network, out, "dreamsim", spare=("head",))
