"""Every family: the base model is the pipeline itself, the seam's rules hold, proxy, mask and VSDS act."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.priors import conformance
from tests.priors.diffusers_i2v.families import (
    CASES,
    SEED,
    called,
    generator,
    latents,
    noise,
    painting,
    pipeline,
    prior,
    relative,
    shot,
)  # fmt: skip
from vivant.awaken import awaken
from vivant.latents import awaken_latents
from vivant.shot import Controls

TOLERANCE = 1e-4

every = pytest.mark.parametrize("name", CASES)


@every
def test_the_base_model_is_the_pipeline_itself(name: str) -> None:
    base = shot(name, distil=0)
    own = prior(name)
    ours = awaken(own, base, None, generator())
    expected = latents(name, called(name, base, noise(name, base)), base)
    kept = (
        ours[:, :, 1:] if name == "hunyuan" else ours
    )  # that pipeline drops the first latent frame when it gives latents
    assert relative(kept, expected) < TOLERANCE
    frames = called(name, base, noise(name, base), "pt", **({"decode_timestep": 0.0} if name == "ltx" else {}))
    assert relative((own.decode(ours, base) + 1) / 2, frames.transpose(1, 2)[:, :, : base.frames]) < TOLERANCE


@every
def test_guidance_and_words_matter(name: str) -> None:
    base = shot(name, distil=0)
    ours = awaken(prior(name), base, None, generator())
    assert relative(awaken(prior(name), replace(base, guidance=6.0), None, generator()), ours) > 10 * TOLERANCE
    if CASES[name].speaks:
        assert relative(awaken(prior(name), replace(base, prompt="clouds"), None, generator()), ours) > 10 * TOLERANCE


@every
def test_keeps_the_rules_of_every_prior(name: str) -> None:
    conformance.check(prior(name), shot(name), likeness=2.0)


@every
def test_the_pipelines_own_call_goes_on_from_our_latents(name: str) -> None:
    case, proxy = CASES[name], painting(1)
    whole = shot(name, seed=SEED)
    ours = awaken(prior(name), whole, proxy, generator())
    given = awaken_latents(
        pipeline(name), whole.painting, proxy, whole.prompt, seed=SEED, steps=whole.steps, negative=whole.negative,
        guidance=whole.guidance, frames=prior(name).asked(whole), fps=whole.fps, width=case.size[0], height=case.size[1],
        **case.options,
    )  # fmt: skip
    result = latents(name, called(name, whole, given), whole)
    assert relative(ours[:, :, 1:] if name == "hunyuan" else ours, result) < TOLERANCE
    plain = latents(name, called(name, whole, noise(name, whole)), whole)
    assert relative(plain, result) > 0.01


@every
def test_proxy_and_distillation_act(name: str) -> None:
    told, own = shot(name), prior(name)
    base = awaken(own, replace(told, distil=0), None, generator())
    assert relative(awaken(own, told, None, generator()), base) > 0.002
    fused = awaken(own, replace(told, distil=0), painting(1), generator())
    assert relative(fused, base) > 0.002
    if base.shape[2] > 2:  # the two fusions differ between the ends
        straight = awaken(own, replace(told, distil=0, blend="lerp"), painting(1), generator())
        assert relative(straight, fused) > 1e-5


@every
def test_what_the_mask_excludes_stays_still(name: str) -> None:
    mask = np.zeros((40, 72), np.float32)
    mask[:, 36:] = 1
    own, told = prior(name), shot(name, controls=Controls(mask=mask))
    x, still = awaken(own, told, painting(1), generator()), own.still([told], generator())
    edge = x.shape[-1] // 2 - 1
    assert relative(x[..., :edge], still[..., :edge]) < 1e-3
    assert relative(x[..., edge + 2 :], still[..., edge + 2 :]) > 0.02


@every
def test_paintings_of_any_shape_and_length(name: str) -> None:
    odd = replace(shot(name), frames=CASES[name].frames + 1, painting=np.zeros((30, 70, 3), np.uint8))
    own = prior(name, fit="area")
    x = awaken(own, replace(odd, steps=1), None, generator())
    assert own.decode(x, odd).shape[2] == odd.frames
    assert torch.isfinite(x).all()
