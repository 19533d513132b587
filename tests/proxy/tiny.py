"""Tiny random pipelines in the hub's layout, written to a folder by diffusers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.hub import write_text, write_vae

XL = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "use_linear_projection": True}


def unet(seed: int = 0, **more: Any) -> Any:
    """Two levels of 32 and 64 channels, text of 32, with attention on both."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "block_out_channels": (32, 64), "layers_per_block": 1, "sample_size": 32, "in_channels": 4, "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 8,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 32, "attention_head_dim": 8,
    }  # fmt: skip
    return UNet2DConditionModel(**{**settings, **more}).eval()


def parts(root: Path, vae: tuple[int, ...] = (32, 32)) -> dict[str, Any]:
    """A VAE that halves `len(vae) - 1` times, CLIP's tokenizer and text encoder."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    torch.manual_seed(1)
    write_vae(root / "vae", vae)
    write_text(root)
    return {
        "vae": AutoencoderKL.from_pretrained(root / "vae"),
        "tokenizer": CLIPTokenizer.from_pretrained(root / "tokenizer"),
        "text_encoder": CLIPTextModel.from_pretrained(root / "text_encoder"),
    }


def stable_diffusion(folder: Path, vae: tuple[int, ...] = (32, 32), **unet_settings: Any) -> Path:
    """A StableDiffusionPipeline."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    schedule = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    pipe = StableDiffusionPipeline(
        **parts(folder.parent / "parts", vae), unet=unet(**unet_settings), scheduler=schedule, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def instruct_pix2pix(folder: Path) -> Path:
    """A StableDiffusionInstructPix2PixPipeline: its UNet also sees the picture."""
    from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline

    pipe = StableDiffusionInstructPix2PixPipeline(
        **parts(folder.parent / "parts"), unet=unet(in_channels=8), scheduler=DDIMScheduler(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def refiner(folder: Path) -> Path:
    """SDXL's refiner: one text encoder, the second, and an aesthetic score in its clock."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    made = parts(folder.parent / "parts")
    torch.manual_seed(2)
    config = CLIPTextConfig.from_pretrained(folder.parent / "parts" / "text_encoder")
    config.projection_dim = 32
    pipe = StableDiffusionXLImg2ImgPipeline(
        vae=made["vae"], text_encoder=None, tokenizer=None, tokenizer_2=made["tokenizer"],
        text_encoder_2=CLIPTextModelWithProjection(config).eval(), scheduler=EulerDiscreteScheduler(),
        unet=unet(**XL, projection_class_embeddings_input_dim=32 + 5 * 8), requires_aesthetics_score=True,
        add_watermarker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def sdxl(folder: Path) -> Path:
    """SDXL's base: two text encoders, six numbers in its clock."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    made = parts(folder.parent / "parts")
    torch.manual_seed(3)
    config = CLIPTextConfig.from_pretrained(folder.parent / "parts" / "text_encoder")
    config.projection_dim = 32
    pipe = StableDiffusionXLPipeline(
        vae=made["vae"], text_encoder=made["text_encoder"], tokenizer=made["tokenizer"], tokenizer_2=made["tokenizer"],
        text_encoder_2=CLIPTextModelWithProjection(config).eval(), scheduler=EulerDiscreteScheduler(),
        unet=unet(**XL, cross_attention_dim=64, projection_class_embeddings_input_dim=32 + 6 * 8), add_watermarker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder
