"""Every base model's released folder, tiny and random: what its authors publish, in the layout they publish it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.hub import write, write_temporal_vae, write_text, write_vae
from vivant.priors.animate_anything import net as animate_anything_net
from vivant.priors.cinemo import net as cinemo_net
from vivant.priors.consisti2v import net as consisti2v_net
from vivant.priors.dynamicrafter.schedule import SCHEDULES, Schedule
from vivant.priors.dynamicrafter.weights import networks, shapes
from vivant.priors.layers import frequencies

ANIMATE_ANYTHING = {
    "_class_name": "UNet3DConditionModel", "sample_size": None, "in_channels": 4, "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"], "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    "block_out_channels": [32, 64], "layers_per_block": 1, "norm_num_groups": 16, "cross_attention_dim": 32,
    "attention_head_dim": 8,
}  # fmt: skip
ANIMATE_ANYTHING_SCHEDULER = {
    "_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "prediction_type": "epsilon", "clip_sample": False,
}  # fmt: skip
CONSISTI2V: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": 4, "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [32, 64], "layers_per_block": 1, "norm_num_groups": 16, "cross_attention_dim": 32,
    "attention_head_dim": [2, 4], "num_class_embeds": None, "n_frames": 4,
}  # fmt: skip
"""As released: what ConsistI2V adds to Stable Diffusion's configuration may be left unsaid."""
CINEMO: dict[str, Any] = {
    "_class_name": "UNet3DConditionModel", "sample_size": 64, "in_channels": 4, "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"], "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    "block_out_channels": [32, 64], "layers_per_block": 1, "norm_num_groups": 8, "cross_attention_dim": 32,
    "attention_head_dim": [1, 2], "addition_time_embed_dim": None, "addition_embed_type": "motion_ids",
}  # fmt: skip
CINEMO_SCHEDULER = {
    "_class_name": "PNDMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False,
}  # fmt: skip
CINEMO_FREQS = "down_blocks.0.attentions.0.transformer_blocks.0.attn_temp.rotary_emb.freqs"
DYNAMICRAFTER: dict[str, Any] = {
    "unet": {
        "model_channels": 32, "channel_mult": [1, 2], "attention_resolutions": [2], "num_res_blocks": 1,
        "num_head_channels": 16, "context_dim": 32,
    },
    "resampler": {"dim": 32, "depth": 1, "dim_head": 8, "heads": 2, "embedding_dim": 32, "output_dim": 32},
    "vae": {"block_out_channels": [32, 32], "layers_per_block": 1},
    "text": {
        "vocab_size": 190, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
    },
    "image": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    },
}  # fmt: skip


def animate_anything(root: Path) -> Path:
    """The folder inside the released archive."""
    torch.manual_seed(0)
    write(root / "scheduler" / "scheduler_config.json", ANIMATE_ANYTHING_SCHEDULER)
    write(root / "unet" / "config.json", ANIMATE_ANYTHING)
    net = animate_anything_net.AnimateAnythingUNet(animate_anything_net.UNetConfig.from_json(ANIMATE_ANYTHING))
    # Fresh temporal convolutions end in zeros, which would hide them.
    state = {name: torch.randn_like(v) * 0.02 if not v.any() else v for name, v in net.state_dict().items()}
    save_file(state, root / "unet" / "diffusion_pytorch_model.safetensors")
    write_vae(root / "vae")
    write_text(root, width=32)
    return root


def consisti2v(root: Path) -> Path:
    """The hub repository."""
    torch.manual_seed(0)
    write(root / "unet" / "config.json", CONSISTI2V)
    state = consisti2v_net.ConsistI2VUNet(consisti2v_net.UNetConfig.from_json(CONSISTI2V)).state_dict()
    # A fresh α of 1 would hide all that happens over time.
    state = {name: v * 0.4 if name.endswith("alpha") else v for name, v in state.items()}
    save_file(state, root / "unet" / "diffusion_pytorch_model.safetensors")
    write_vae(root / "vae")
    write_text(root, width=32)
    return root


def cinemo(root: Path) -> Path:
    """The hub repository: both VAEs, and a constant the network shares out."""
    torch.manual_seed(0)
    write(root / "scheduler" / "scheduler_config.json", CINEMO_SCHEDULER)
    write(root / "unet" / "config.json", CINEMO)
    net = cinemo_net.CinemoUNet(cinemo_net.UNetConfig.from_json(CINEMO))
    state = {**net.state_dict(), CINEMO_FREQS: frequencies(32)}
    save_file(state, root / "unet" / "diffusion_pytorch_model.safetensors")
    write_vae(root / "vae")
    write_temporal_vae(root / "vae_temporal_decoder")
    write_text(root, width=32)
    return root


def random_like(wanted: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors; scales of norms near 1."""
    rng = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(shape, generator=rng) * 0.08 + float(key.endswith("weight") and len(shape) == 1)
        for key, shape in wanted.items()
    }


def dynamicrafter_checkpoint(variant: str) -> dict[str, torch.Tensor]:
    """A tiny checkpoint as released: every part under its official name, and what sampling does not need besides."""
    state = random_like(shapes(networks(variant, DYNAMICRAFTER)))
    last = "cond_stage_model.model.transformer.resblocks.2."
    unused = {key: v for key, v in state.items() if key.startswith(last.replace(".2.", ".1."))}
    state |= {key.replace(".resblocks.1.", ".resblocks.2."): v.clone() for key, v in unused.items()}
    state |= {"embedder.model.token_embedding.weight": torch.zeros(9, 32), "embedder.model.logit_scale": torch.ones(())}
    state["cond_stage_model.model.text_projection"] = torch.zeros(32, 32)
    state |= {"betas": torch.full((1000,), 0.5), "alphas_cumprod": torch.full((1000,), 0.5)}
    base = SCHEDULES[variant].base
    return state if base is None else {**state, "scale_arr": Schedule(base=base).scale.float()}


def dynamicrafter(root: Path, variant: str) -> Path:
    """A folder as downloaded, tokenizer and tiny sizes added."""
    root.mkdir(parents=True)
    torch.save({"state_dict": dynamicrafter_checkpoint(variant), "global_step": 7}, root / "model.ckpt")
    write(root / "config.json", DYNAMICRAFTER)
    write_text(root, width=32)
    return root
