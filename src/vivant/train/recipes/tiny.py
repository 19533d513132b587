"""Small random base models in the released layouts: what the tiny configurations train, through the real loaders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..state import whole
from .base import write_json, write_state

SIDE = 32
"""the width of the small text encoder"""
ANIMATE_ANYTHING: dict[str, Any] = {
    "_class_name": "UNet3DConditionModel", "in_channels": 4, "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"], "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    "block_out_channels": [32, 64], "layers_per_block": 1, "norm_num_groups": 16, "cross_attention_dim": SIDE,
    "attention_head_dim": 8,
}  # fmt: skip
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "prediction_type": "epsilon", "clip_sample": False,
}  # fmt: skip
CRAFTER: dict[str, Any] = {
    "unet": {
        "model_channels": 32, "channel_mult": [1, 2], "attention_resolutions": [2], "num_res_blocks": 1,
        "num_head_channels": 16, "context_dim": SIDE,
    },
    "resampler": {"dim": 32, "depth": 1, "dim_head": 8, "heads": 2, "embedding_dim": 32, "output_dim": SIDE},
    "vae": {"block_out_channels": [32, 32, 32], "layers_per_block": 1},
    "text": {
        "vocab_size": 190, "hidden_size": SIDE, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 2,
    },
    "image": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    },
}  # fmt: skip


def animate_anything(
    target: Path, seed: int = 0, unet: Mapping[str, Any] | None = None, form: str = "epsilon"
) -> Path:  # fmt: skip
    """A folder of AnimateAnything's layout at `target`, made where there is none. `unet`: changes to its config.

    `form`: what it predicts; the released model predicts epsilon.
    """
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel
    from transformers.utils import logging

    from ...priors.animate_anything.net import AnimateAnythingUNet, UNetConfig

    if target.is_dir():
        return target
    config = ANIMATE_ANYTHING | dict(unet or {})
    logging.disable_progress_bar()  # of files that are written in no time
    with torch.random.fork_rng(devices=[]), whole(target) as folder:
        torch.manual_seed(seed)  # these libraries draw their first weights from the global generator, which is put back
        write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER | {"prediction_type": form})
        write_json(folder / "unet" / "config.json", config)
        net = AnimateAnythingUNet(UNetConfig.from_json(config))
        with torch.no_grad():
            net.conv_in2.weight[:, :1] = 0  # §3.3: the mask's channel begins at zero
            net.conv_in2.weight[:, 1:] = net.conv_in.weight
        write_state(folder / "unet" / "diffusion_pytorch_model.safetensors", net.state_dict())
        vae: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(32, 32, 32), layers_per_block=1,
        )  # fmt: skip
        vae.save_pretrained(folder / "vae")
        words = spelling(folder / "tokenizer")
        CLIPTextModel(
            CLIPTextConfig(
                vocab_size=words, hidden_size=config["cross_attention_dim"], intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        ).save_pretrained(folder / "text_encoder")  # fmt: skip
    return target


def dynamicrafter(target: Path, variant: str = "256", seed: int = 0) -> Path:
    """A folder as DynamiCrafter's loader reads it, made where there is none."""
    from ...priors.dynamicrafter.weights import networks, shapes

    if target.is_dir():
        return target
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(networks(variant, CRAFTER)).items():
        if len(shape) < 2:  # scales of norms begin at 1, biases and λ at 0
            state[name] = torch.full(shape, float(name.endswith("weight") and len(shape) == 1))
        else:
            fan = int(torch.tensor(shape[1:]).prod())
            state[name] = torch.randn(shape, generator=rng) * fan**-0.5
    with whole(target) as folder:
        write_state(folder / "model.safetensors", state)
        write_json(folder / "config.json", {"variant": variant, **CRAFTER})
        spelling(folder / "tokenizer")
    return target


def spelling(folder: Path) -> int:
    """A CLIP tokenizer that spells letter by letter; returns how many tokens it knows."""
    letters = [chr(c) for c in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    write_json(folder / "vocab.json", {word: i for i, word in enumerate(words)})
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    return len(words)
