"""How each tiny pipeline is asked, through its own call and through its adapter, and what must come out alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from tests.priors.diffusers_i2v import tiny
from vivant.priors.diffusers_i2v import adapt
from vivant.priors.diffusers_i2v.base import PipelinePrior
from vivant.shot import Controls, Shot

SEED = 3
GUIDANCE = 2.5

Change = Callable[[Tensor], Tensor]


def swap(x: Tensor) -> Tensor:
    """Frames and channels the other way round."""
    return x.transpose(1, 2)


def same(x: Tensor) -> Tensor:
    """As it is."""
    return x


@dataclass(frozen=True)
class Case:
    """One family: sizes that are small and not square, the names its call has for things."""

    size: tuple[int, int] = (48, 32)
    frames: int = 5
    options: dict[str, Any] = field(default_factory=dict)
    """of the adapter"""
    call: dict[str, Any] = field(default_factory=dict)
    """of the pipeline's call"""
    guidance: str = "guidance_scale"
    speaks: bool = True
    axes: Change = same
    """(B, C, L, h, w) to the pipeline's latents and back"""
    rate: str = ""
    """the call's name for frames a second"""


SHORT: dict[str, Any] = {"max_sequence_length": 32}
LLAVA: dict[str, Any] = {"prompt_template": tiny.TEMPLATE, "max_sequence_length": 40}

CASES: dict[str, Case] = {
    "svd": Case(
        size=(32, 24), frames=3, guidance="max_guidance_scale", speaks=False, axes=swap, rate="fps",
    ),
    "i2vgen_xl": Case(frames=4, rate="target_fps"),
    "cogvideox": Case(size=(32, 32), frames=9, options=SHORT, call=SHORT, axes=swap),
    "cogvideox-1.5": Case(frames=9, options=SHORT, call=SHORT, axes=swap),
    "wan": Case(options=SHORT, call=SHORT),
    "wan-2.2": Case(
        options={**SHORT, "low_noise_guidance": 3.5}, call={**SHORT, "guidance_scale_2": 3.5}
    ),
    "wan-2.2-small": Case(options=SHORT, call=SHORT),
    "ltx": Case(size=(64, 32), frames=9, options=SHORT, call=SHORT, rate="frame_rate"),
    "hunyuan": Case(options=LLAVA, call=LLAVA, guidance="true_cfg_scale"),
    "hunyuan-replace": Case(options=LLAVA, call=LLAVA),
}  # fmt: skip


@cache
def pipeline(name: str) -> Any:
    """The tiny pipeline, built once."""
    return tiny.build(name)


def prior(name: str, **options: Any) -> PipelinePrior:
    """Its adapter, at the case's exact size."""
    case = CASES[name]
    return adapt(pipeline(name), **{"size": case.size, "fit": "exact", **case.options, **options})


def painting(seed: int = 0) -> np.ndarray:
    """Soft colours that differ from seed to seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((72, 40), Image.Resampling.BICUBIC))


def shot(name: str, controls: Controls | None = None, **settings: Any) -> Shot:
    """A short shot at the case's length."""
    chosen = {"frames": CASES[name].frames, "steps": 3, "guidance": GUIDANCE, "fps": 9, **settings}
    return Shot(painting(), "waves roll ashore", negative="still", controls=controls or Controls(), **chosen)


def generator(seed: int = SEED) -> Generator:
    """A fresh generator."""
    return Generator().manual_seed(seed)


def called(name: str, shot: Shot, latents: Tensor | None, output: str = "latent", **more: Any) -> Tensor:
    """The pipeline's own call for a shot."""
    case, pipe, own = CASES[name], pipeline(name), prior(name)
    words = {"prompt": shot.prompt, "negative_prompt": shot.negative} if case.speaks else {}
    rate = {case.rate: shot.fps} if case.rate else {}
    with torch.random.fork_rng():
        torch.manual_seed(SEED)  # I2VGen-XL samples the painting's latent from the global generator
        frames = pipe(
            image=Image.fromarray(shot.painting), width=case.size[0], height=case.size[1],
            num_frames=own.asked(shot), num_inference_steps=shot.steps, generator=generator(), latents=latents,
            output_type=output, **{case.guidance: shot.guidance, **words, **rate, **case.call, **more},
        ).frames  # fmt: skip
    return frames if isinstance(frames, Tensor) else torch.stack([torch.as_tensor(clip) for clip in frames])


def latents(name: str, out: Tensor, shot: Shot) -> Tensor:
    """What a call gave as latents, as (B, C, L, h, w)."""
    own = prior(name)
    return own.unpack(out, own.cells(shot)) if name == "ltx" else CASES[name].axes(out)  # type: ignore[attr-defined]


def noise(name: str, shot: Shot) -> Tensor:
    """The white noise that the method draws first with this seed, in the pipeline's form."""
    own = prior(name)
    drawn = torch.randn((1, own.channels, *own.cells(shot)), generator=generator())
    if name != "ltx":
        return CASES[name].axes(drawn)
    first = own.still([shot], generator())[:, :, :1]  # given latents, this pipeline takes its first frame from them
    return own.pack(torch.cat([first, drawn[:, :, 1:]], dim=2))  # type: ignore[attr-defined]


def relative(ours: Tensor, expected: Tensor) -> float:
    """Largest error relative to the largest value."""
    assert ours.shape == expected.shape, (ours.shape, expected.shape)
    return float((ours.detach() - expected.detach()).abs().max() / expected.detach().abs().max())
