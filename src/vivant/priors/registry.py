"""The base models by name: what they are, and how each is loaded when it is asked for. Loads no torch by itself."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingError, WeightsError
from .entry import DTYPES, SEE_PAGE, Entry, Load, gigabytes, models_folder, numbers

if TYPE_CHECKING:
    from .protocol import VideoPrior

__all__ = ["DTYPES", "REGISTRY", "SEE_PAGE", "Entry", "entry", "gigabytes", "load", "models_folder", "weights_hash"]


def _folder(name: str, how: str = "run `vivant pull {name}`, or set VIVANT_MODELS to where its folder is") -> Path:
    place = models_folder() / name
    if not place.is_dir():
        raise WeightsError(f"expected the weights of {name} at {place}, found no such folder; {how.format(name=name)}")
    return place


def _miniature(device: str, dtype: Any) -> VideoPrior:
    from .miniature.adapter import Miniature

    return Miniature.load(device)


def _animate_anything(device: str, dtype: Any) -> VideoPrior:
    from .animate_anything.adapter import AnimateAnything

    return AnimateAnything.from_folder(_folder("animate_anything"), device, dtype)


def _consisti2v(device: str, dtype: Any) -> VideoPrior:
    from .consisti2v.adapter import ConsistI2V

    return ConsistI2V.from_folder(_folder("consisti2v"), device, dtype)


def _cinemo(device: str, dtype: Any) -> VideoPrior:
    from .cinemo.adapter import Cinemo

    return Cinemo.from_folder(_folder("cinemo"), device, dtype)


def _dynamicrafter(name: str, variant: str) -> Load:
    def load(device: str, dtype: Any) -> VideoPrior:
        from .dynamicrafter.adapter import DynamiCrafter

        return DynamiCrafter.from_folder(_folder(name), device, dtype, variant=variant)

    return load


def _svd_flow(device: str, dtype: Any) -> VideoPrior:
    from .svd_flow.adapter import SvdFlow

    return SvdFlow.from_folder(_folder("svd_flow"), device, dtype)


def _pipeline(source: str) -> Load:
    def load(device: str, dtype: Any) -> VideoPrior:
        from .diffusers_i2v import from_pretrained

        return from_pretrained(source, device, dtype)

    return load


def _saved(part: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{part}/{name}" for name in names)


SAVED = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
UNET, VAE = _saved("unet", *SAVED), _saved("vae", *SAVED)
TEXT = _saved("text_encoder", "model.safetensors", "pytorch_model.bin")
CLIP_H, CLIP_L, SD_VAE = 340_387_840, 123_060_480, 83_653_863

WORDS = (("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "tokenizer", ("vocab.json", "merges.txt")),)
"""The tokenizer that DynamiCrafter's text encoder was trained with; its own repositories hold none."""

CRAFTER_LICENCE = (
    "weights: the LICENSE file on the model page; code: Apache-2.0 with the clause 'research, not commercial'"
)
CRAFTER_PARAMS = {
    "unet": 1_438_854_980, "image_proj_model": 48_787_456, "text_encoder": 354_032_641, "image_encoder": 632_076_800,
    "vae": SD_VAE,
}  # fmt: skip


def _crafter(variant: str, repository: str, size: tuple[int, int], does: str) -> Entry:
    name = f"dynamicrafter_{'interp' if variant == '512_interp' else variant}"
    return Entry(
        name, does, "DynamiCrafter (Xing et al., ECCV 2024, arXiv 2310.12190)", f"huggingface.co/Doubiiu/{repository}",
        CRAFTER_LICENCE, "no stated limits, non-commercial", load=_dynamicrafter(name, variant), hub=f"Doubiiu/{repository}",
        fetch=("model.ckpt", "README.md", "LICENSE"), download_bytes=10_440_000_000,
        borrow=WORDS, weights=(("model.safetensors", "model.ckpt"), ("tokenizer/vocab.json", "tokenizer/tokenizer.json")),
        params=CRAFTER_PARAMS, cell=10_500, size=size,
    )  # fmt: skip


REGISTRY: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry(
            "miniature", "motion fields from words; the painting itself is carried along; offline, on a CPU",
            "this project", "in the package", "Apache-2.0", "no limits", load=_miniature,
            folder=Path(__file__).parent / "miniature", weights=(("miniature.safetensors",), ("text.safetensors",)),
            hashed=2, params={"networks": 3_000_000}, frames=72, steps=16, dtypes=("float32",),
            alone=(360_000_000, 100), distil_evaluations=2,
        ),
        Entry(
            "animate_anything", "open-domain image animation with motion mask and strength",
            "AnimateAnything (Dai et al., 2023, arXiv 2311.12886)",
            "github.com/alibaba/animate-anything: animate_anything_512_v1.02.tar",
            "MIT (code); weights built on ModelScope text-to-video, CC-BY-NC 4.0", "no stated limits, non-commercial",
            load=_animate_anything,
            url="https://cloudbook-public-production.oss-cn-shanghai.aliyuncs.com/animation/animate_anything_512_v1.02.tar",
            weights=(UNET, VAE, TEXT), params={"unet": 1_413_401_540, "text_encoder": CLIP_H, "vae": SD_VAE},
            cell=11_300, size=(512, 512), steps=25,
        ),
        Entry(
            "consisti2v", "image animation that keeps to the first frame; layout and brightness held by FrameInit",
            "ConsistI2V (Ren et al., TMLR 2024, arXiv 2402.04324)", "huggingface.co/TIGER-Lab/ConsistI2V",
            "MIT (code and weights)", "no stated limits", load=_consisti2v, hub="TIGER-Lab/ConsistI2V",
            fetch=("model_index.json", "README.md", "scheduler/*", "text_encoder/*", "tokenizer/*", "unet/*", "vae/*"),
            download_bytes=6_700_000_000, weights=(UNET, VAE, TEXT),
            params={"unet": 1_249_975_241, "text_encoder": CLIP_H, "vae": SD_VAE}, cell=8_600, size=(256, 256),
        ),
        Entry(
            "cinemo", "smooth motion learnt as residuals; motion intensity as a number",
            "Cinemo (Ma et al., CVPR 2025, arXiv 2407.15642)", "huggingface.co/maxin-cn/Cinemo",
            "Apache-2.0 (code and weights)", "no stated limits", load=_cinemo, hub="maxin-cn/Cinemo",
            fetch=("model_index.json", "README.md", "scheduler/*", "text_encoder/*", "tokenizer/*", "unet/*",
                   "vae_temporal_decoder/*"),
            download_bytes=4_530_000_000, weights=(UNET, _saved("vae_temporal_decoder", *SAVED) + VAE, TEXT),
            params={"unet": 911_092_740, "text_encoder": CLIP_L, "vae_temporal_decoder": 97_742_847},
            cell=8_400, size=(512, 320), decode_frames=14,
        ),
        _crafter("256", "DynamiCrafter", (256, 256), "animation from painting and words, small"),
        _crafter("512", "DynamiCrafter_512", (512, 320), "animation from painting and words"),
        _crafter("1024", "DynamiCrafter_1024", (1024, 576), "animation from painting and words, large"),
        _crafter("512_interp", "DynamiCrafter_512_Interp", (512, 320), "from a first to a last picture; loops"),
        Entry(
            "svd_flow", "follows arrows; knows pictures, no words; its motion layers are trained with `vivant train svd-flow`",
            "Controllable Longer Image Animation (Wang et al., 2024, arXiv 2405.17306) on Stable Video Diffusion",
            "huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt; motion.safetensors of your own training",
            SEE_PAGE, SEE_PAGE, load=_svd_flow, hub="stabilityai/stable-video-diffusion-img2vid-xt",
            fetch=("model_index.json", "README.md", "LICENSE.md", "scheduler/*", "feature_extractor/*", "*/config.json",
                   "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
                   "image_encoder/model.safetensors"),
            download_bytes=9_020_000_000,
            weights=(UNET[:1], VAE[:1], ("image_encoder/model.safetensors",), ("motion.safetensors",)), hashed=4,
            params={"unet": 1_590_940_842, "image_encoder": 632_076_800, "vae": 97_742_847},
            size=(1024, 576), frames=25, steps=25, decode_frames=8,
        ),
    )
}  # fmt: skip

TERRITORY = {
    "hunyuan": "not licensed in the European Union, the United Kingdom and South Korea (Tencent Hunyuan licences)",
}
"""Families known to exclude places, by a piece of their name; of others the model page is the judge."""


def entry(name: str) -> Entry:
    """The row of a model: a name of the list, `hub:owner/name`, or a diffusers folder. Raises `SettingError`."""
    if name in REGISTRY:
        return REGISTRY[name]
    if name.startswith("hub:"):
        return _hub(name)
    if os.sep in name or name.startswith(("~", ".")):
        return _local(name)
    raise SettingError(
        f"expected a model among {', '.join(REGISTRY)}, hub:owner/name or a folder, got {name!r}; see `vivant models`"
    )


def _hub(name: str) -> Entry:
    repository, _, revision = name.removeprefix("hub:").partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name.removeprefix("hub:")) or ".." in name:
        raise SettingError(f"expected hub:owner/name or hub:owner/name@revision, got {name!r}")
    pulled = models_folder() / name.removeprefix("hub:").replace("/", "--")
    place = next((p for p in (pulled, _cached(repository, revision)) if _is_pipeline(p)), None)
    base = Entry(
        name, "an image-to-video pipeline of diffusers", SEE_PAGE, f"huggingface.co/{repository}", SEE_PAGE,
        next((words for piece, words in TERRITORY.items() if piece in repository.lower()), SEE_PAGE),
        load=_pipeline(str(place) if place else name), folder=place or pulled, hub=repository, revision=revision or None,
    )  # fmt: skip
    return _described(base) if place else base


def _is_pipeline(folder: Path | None) -> bool:
    return folder is not None and (folder / "model_index.json").is_file()


def _cached(repository: str, revision: str) -> Path | None:
    """The folder of a repository that diffusers has downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "model_index.json", revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None


def _local(name: str) -> Entry:
    place = Path(name).expanduser().resolve()
    if not _is_pipeline(place):
        raise SettingError(f"expected a diffusers folder with a model_index.json at {place}, found none")
    return _described(
        Entry(
            name, "an image-to-video pipeline of diffusers", SEE_PAGE, str(place), SEE_PAGE, SEE_PAGE,
            load=_pipeline(str(place)), folder=place,
        )
    )  # fmt: skip


def _described(base: Entry) -> Entry:
    """The same row with what the folder's weights say of themselves: their files and how many numbers are in them."""
    files = [p for p in sorted(base.place.glob("*/*.safetensors")) if ".fp16." not in p.name]
    params: dict[str, int] = {}
    for path in files:
        try:
            params[path.parent.name] = params.get(path.parent.name, 0) + numbers(path)
        except WeightsError:
            continue  # a damaged file is the loader's to complain of: `pull`, which mends it, comes through here
    names = tuple((str(path.relative_to(base.place)),) for path in files)
    return replace(base, params=params, weights=names or (("model_index.json",),), hashed=max(1, len(names)))


def load(name: str, device: str = "cpu", dtype: str = "float32") -> VideoPrior:
    """Load a model. Raises `SettingError` for an unknown name or precision, `WeightsError` for its weights."""
    row = entry(name)
    if dtype not in row.dtypes:
        raise SettingError(f"expected {name} in {' or '.join(row.dtypes)}, got dtype {dtype!r}")
    import torch

    return row.load(device, getattr(torch, dtype))


@lru_cache
def weights_hash(name: str) -> str:
    """sha256 over the model's weight files: part of every recipe."""
    digest = hashlib.sha256()
    for path in entry(name).files():
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
