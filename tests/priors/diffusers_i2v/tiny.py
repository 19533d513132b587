"""Tiny random pipelines of every family, written in the hub's own layout; no download."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from tests.hub import write_text

LETTERS = [chr(c) for c in range(33, 127)]


def t5_tokenizer(length: int = 32) -> Any:
    """A T5 tokenizer that spells letter by letter: unigrams of one character, and the sentence end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5TokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "▁", *LETTERS]
    core = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return T5TokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", extra_ids=0,
        model_max_length=length,
    )  # fmt: skip


def t5_encoder(width: int = 32, kind: str = "T5") -> Any:
    """A T5 or UMT5 text encoder of hidden size `width`."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(LETTERS) + 4, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=4,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return getattr(transformers, f"{kind}EncoderModel")(config)


def vision(width: int = 32, side: int = 32, projection: int | None = None) -> Any:
    """A CLIP image encoder."""
    from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=width, projection_dim=projection or width, num_hidden_layers=3, num_attention_heads=4,
        image_size=side, intermediate_size=2 * width, patch_size=side // 4,
    )  # fmt: skip
    return (CLIPVisionModelWithProjection if projection else CLIPVisionModel)(config)


def image_processor(side: int = 32) -> Any:
    """CLIP's picture processor."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(crop_size=side, size=side)


def stirred(net: nn.Module) -> nn.Module:
    """Weights that start at zero would hide what they should show."""
    with torch.no_grad():
        for value in net.parameters():
            if not value.any():
                value.normal_(0, 0.05)
    return net.eval()


def svd() -> Any:
    """StableVideoDiffusionPipeline with the released scheduler's settings."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )  # fmt: skip

    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 32), layers_per_block=1, sample_size=32, in_channels=8, out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), cross_attention_dim=32,
        num_attention_heads=4, projection_class_embeddings_input_dim=96, addition_time_embed_dim=32,
        transformer_layers_per_block=1, num_frames=3,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", interpolation_type="linear",
        prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002, steps_offset=1, timestep_spacing="leading",
        timestep_type="continuous", use_karras_sigmas=True,
    )  # fmt: skip
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3, latent_channels=4
    )
    return StableVideoDiffusionPipeline(
        vae=stirred(vae), image_encoder=vision(projection=32, side=224), unet=stirred(unet), scheduler=scheduler,
        feature_extractor=image_processor(224),
    )  # fmt: skip


def i2vgen_xl() -> Any:
    """I2VGenXLPipeline with the released noise (zero terminal SNR, v)."""
    from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLPipeline
    from diffusers.models.unets import I2VGenXLUNet

    unet = I2VGenXLUNet(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32, attention_head_dim=8, num_attention_heads=None, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", clip_sample=False, prediction_type="v_prediction",
        rescale_betas_zero_snr=True, set_alpha_to_one=True, steps_offset=1, timestep_spacing="leading",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder), width=32)
        tokenizer = CLIPTokenizer.from_pretrained(f"{folder}/tokenizer")
        text = CLIPTextModel.from_pretrained(f"{folder}/text_encoder")
    return I2VGenXLPipeline(
        vae=stirred(vae), text_encoder=text, tokenizer=tokenizer, image_encoder=vision(projection=32),
        feature_extractor=image_processor(), unet=stirred(unet), scheduler=scheduler,
    )  # fmt: skip


def cogvideox(patch_size_t: int | None = None, solver: str = "DDIM") -> Any:
    """CogVideoXImageToVideoPipeline: 1.0, or 1.5 where `patch_size_t` is given."""
    import diffusers

    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4, time_embed_dim=2,
        text_embed_dim=32, num_layers=2, sample_width=16 if patch_size_t else 4, sample_height=16 if patch_size_t else 4, sample_frames=9, patch_size=2,
        max_text_seq_length=32, use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=patch_size_t is None, patch_size_t=patch_size_t,
        ofs_embed_dim=2 if patch_size_t else None, patch_bias=patch_size_t is None,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4, invert_scale_latents=patch_size_t is not None,
    )  # fmt: skip
    scheduler = getattr(diffusers, f"CogVideoX{solver}Scheduler")(
        beta_schedule="scaled_linear", clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True,
        set_alpha_to_one=True, snr_shift_scale=1.0, timestep_spacing="trailing",
    )  # fmt: skip
    return diffusers.CogVideoXImageToVideoPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5_encoder().eval(), vae=stirred(vae), transformer=stirred(transformer),
        scheduler=scheduler,
    )  # fmt: skip


def wan(kind: str = "2.1") -> Any:
    """WanImageToVideoPipeline: "2.1", "2.2" (two experts) or "2.2-small" (a clean first frame)."""
    from diffusers import (
        AutoencoderKLWan,
        UniPCMultistepScheduler,
        WanImageToVideoPipeline,
        WanTransformer3DModel,
    )  # fmt: skip

    small = kind == "2.2-small"

    def transformer() -> Any:
        return stirred(
            WanTransformer3DModel(
                patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4 if small else 12,
                out_channels=4, text_dim=32, freq_dim=32, ffn_dim=32, num_layers=2, cross_attn_norm=True,
                rope_max_seq_len=32, image_dim=32 if kind == "2.1" else None,
            )
        )  # fmt: skip

    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.8, 1.1, 2.0],
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return WanImageToVideoPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5_encoder(kind="UMT5").eval(), vae=stirred(vae), scheduler=scheduler,
        image_processor=image_processor() if kind == "2.1" else None, image_encoder=vision() if kind == "2.1" else None,
        transformer=transformer(), transformer_2=transformer() if kind == "2.2" else None,
        boundary_ratio=0.9 if kind == "2.2" else None, expand_timesteps=small,
    )  # fmt: skip


def ltx(timestep_conditioning: bool = False) -> Any:
    """LTXImageToVideoPipeline with the released dynamic shift."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXImageToVideoPipeline,
        LTXVideoTransformer3DModel,
    )  # fmt: skip

    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=4, attention_head_dim=8, cross_attention_dim=32,
        num_layers=2, caption_channels=32,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=timestep_conditioning, patch_size=1, patch_size_t=1,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    return LTXImageToVideoPipeline(
        scheduler=scheduler, vae=stirred(vae), text_encoder=t5_encoder().eval(), tokenizer=t5_tokenizer(),
        transformer=stirred(transformer),
    )  # fmt: skip


TEMPLATE = {
    "template": "<|start_header_id|>s<|end_header_id|><image>d<|eot_id|><|start_header_id|>u<|end_header_id|>{}<|eot_id|>"
    "<|start_header_id|>a<|end_header_id|>nn",
    "crop_start": 10, "image_emb_start": 4, "image_emb_end": 20, "image_emb_len": 16,
}  # fmt: skip
"""What the tiny HunyuanVideo is told around the sentence; its pictures are 16 tokens."""


def llama_tokenizer() -> Any:
    """A tokenizer of single letters with LLaMA's start, end and padding."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>", "<image>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    words = [*special, "<unk>", *LETTERS, " "]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        additional_special_tokens=special[3:],
    )  # fmt: skip


def hunyuan(kind: str = "latent_concat") -> Any:
    """HunyuanVideoImageToVideoPipeline: "latent_concat", or "token_replace" with embedded guidance."""
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoImageToVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )  # fmt: skip
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    replaces = kind == "token_replace"
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4 if replaces else 9, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1,
        num_single_layers=1, num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=replaces,
        text_embed_dim=16, pooled_projection_dim=32, rope_axes_dim=(2, 4, 4), image_condition_type=kind,
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8), layers_per_block=1,
        norm_num_groups=4,
    )  # fmt: skip
    llava = LlavaConfig(
        text_config=LlamaConfig(
            hidden_size=16, intermediate_size=32, num_attention_heads=4, num_hidden_layers=3, vocab_size=len(LETTERS) + 9,
            bos_token_id=0, eos_token_id=1, pad_token_id=2,
        ),
        vision_config=CLIPVisionConfig(
            hidden_size=8, intermediate_size=16, projection_dim=8, num_attention_heads=2, num_hidden_layers=2,
            image_size=32, patch_size=8,
        ),
        pad_token_id=2, image_token_index=3,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder), width=32)
        tokenizer = CLIPTokenizer.from_pretrained(f"{folder}/tokenizer")
        text = CLIPTextModel.from_pretrained(f"{folder}/text_encoder")
    return HunyuanVideoImageToVideoPipeline(
        text_encoder=LlavaForConditionalGeneration(llava).eval(), tokenizer=llama_tokenizer(),
        transformer=stirred(transformer), vae=stirred(vae), scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=text, tokenizer_2=tokenizer, image_processor=image_processor(),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], Any]] = {
    "svd": svd, "i2vgen_xl": i2vgen_xl, "cogvideox": cogvideox, "cogvideox-1.5": lambda: cogvideox(2),
    "cogvideox-dpm": lambda: cogvideox(None, "DPM"), "wan": wan, "wan-2.2": lambda: wan("2.2"),
    "wan-2.2-small": lambda: wan("2.2-small"), "ltx": ltx, "ltx-0.9.1": lambda: ltx(True), "hunyuan": hunyuan,
    "hunyuan-replace": lambda: hunyuan("token_replace"),
}  # fmt: skip


def build(name: str) -> Any:
    """A tiny pipeline, the same one each time; the global generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = BUILDERS[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe
