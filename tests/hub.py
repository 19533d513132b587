"""Tiny random networks in the hub's own layout, for tests of the real loading code."""

from __future__ import annotations

import json
from pathlib import Path


def write(path: Path, record: object) -> None:
    """A JSON file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), "utf-8")


def write_vae(folder: Path, widths: tuple[int, ...] = (32, 32, 32, 32)) -> None:
    """An image VAE that shrinks by 2 per width after the first. Draws from the global generator: seed it before."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths), up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths, layers_per_block=1,
    )  # fmt: skip
    vae.save_pretrained(folder)


def write_temporal_vae(folder: Path, widths: tuple[int, ...] = (32, 32, 32, 32)) -> None:
    """The same with a decoder that looks over time. Draws from the global generator."""
    from diffusers import AutoencoderKLTemporalDecoder

    vae = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * len(widths), block_out_channels=widths, layers_per_block=1
    )
    vae.save_pretrained(folder)


def write_text(root: Path, width: int = 32, encoder: str = "text_encoder", tokenizer: str = "tokenizer") -> None:
    """A CLIP tokenizer that spells letter by letter, and a CLIP text encoder of hidden size `width`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    letters = [chr(c) for c in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    write(root / tokenizer / "vocab.json", {word: i for i, word in enumerate(words)})
    (root / tokenizer / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    write(root / tokenizer / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(root / encoder)
