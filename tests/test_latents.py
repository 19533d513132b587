"""`awaken_latents`: pictures in any form, the pipeline's defaults, its plain noise when nothing is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.priors.diffusers_i2v.families import CASES, generator, painting, pipeline, prior, relative, shot
from vivant.errors import ImageError, SettingError
from vivant.latents import awaken_latents
from vivant.process import Level

ASKED: dict[str, Any] = {
    "steps": 3, "frames": 5, "width": 48, "height": 32, "guidance": 2.5, **CASES["wan"].options,
}  # fmt: skip


def made(proxy: Any = None, source: Any = None, **settings: Any) -> torch.Tensor:
    return awaken_latents(
        pipeline("wan"), painting() if source is None else source, proxy, "waves roll", **{**ASKED, **settings}
    )


def test_pictures_in_any_form(tmp_path: Path) -> None:
    Image.fromarray(painting()).save(tmp_path / "a.png")
    expected = made(proxy=painting(1))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(painting())):
        assert torch.equal(made(proxy=Image.fromarray(painting(1)), source=source), expected)


def test_without_proxy_and_distillation_it_is_plain_noise() -> None:
    z = made(distil=0, seed=5)
    assert relative(z, torch.randn(z.shape, generator=generator(5))) < 1e-6


def test_the_proxy_is_in_the_start_as_much_as_the_papers_models_are_given() -> None:
    near, far = (made(distil=0, proxy=proxy) for proxy in (painting(), painting(1)))
    own, told = prior("wan"), shot("wan")
    stills = [own.still([told.seen_as(picture)], generator()) for picture in (painting(), painting(1))]
    assert relative((near - far)[:, :, -1], 0.0682 * (stills[0] - stills[1])[:, :, -1]) < 1e-2
    assert relative(near[:, :, 0], far[:, :, 0]) == 0  # frame 0 is the painting's
    levels = own.levels(told, 3)
    assert levels[0].a < 1e-5  # at the pipeline's own first level nothing would be left of it


def test_seed_blend_and_distillation_decide() -> None:
    base = made(proxy=painting(1))
    assert torch.equal(made(proxy=painting(1)), base)
    for change in ({"seed": 1}, {"distil": 0.0}, {"gain": 0.3}, {"distil_evaluations": 1}, {"negative": "blurry"}):
        assert not torch.equal(made(proxy=painting(1), **change), base), change


def test_every_evaluation_is_told_and_none_is_wasted() -> None:
    told: list[Level] = []
    made(proxy=painting(1), on_call=told.append)
    assert len(told) == 2  # ⌊0.6·3⌋ + 1 levels of VSDS, and no sampling


def test_the_defaults_are_the_calls_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline("wan")

    class Small(type(pipe)):  # type: ignore[misc]
        def __call__(  # type: ignore[override]
            self, image: Any, prompt: Any = None, height: int = 32, width: int = 48, num_frames: int = 8,
            num_inference_steps: int = 3, guidance_scale: float = 2.5, **more: Any,
        ) -> Any:  # fmt: skip
            return super().__call__(
                image, prompt, height=height, width=width, num_frames=num_frames, guidance_scale=guidance_scale,
                num_inference_steps=num_inference_steps, **more,
            )  # fmt: skip

    small = object.__new__(Small)
    small.__dict__.update(pipe.__dict__)
    z = awaken_latents(small, painting(), painting(1), "waves roll", **CASES["wan"].options)
    assert z.shape == (1, 4, 3, 4, 6)  # 8 frames are 9 to this pipeline
    out = small(
        image=Image.fromarray(painting()), prompt="waves roll", latents=z, output_type="latent", max_sequence_length=32
    )
    assert out.frames.shape == z.shape and torch.isfinite(out.frames).all()


def test_bad_requests_are_one_line() -> None:
    with pytest.raises(SettingError, match="multiples of 16"):
        made(width=50)
    with pytest.raises(SettingError, match="WanImageToVideoPipeline"):
        awaken_latents(object(), painting(), None, "waves")
    with pytest.raises(ImageError):
        made(proxy=np.zeros((20, 200, 3), np.uint8))
