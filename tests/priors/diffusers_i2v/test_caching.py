"""diffusers' caches: they skip work, every branch and every run has its own memory, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FasterCacheConfig, FirstBlockCacheConfig
from torch import Tensor

from tests.priors.diffusers_i2v.families import CASES, generator, painting, pipeline, prior, relative, shot
from vivant.awaken import awaken
from vivant.errors import SettingError
from vivant.latents import awaken_latents
from vivant.noise import white
from vivant.priors.diffusers_i2v.caching import CACHES, Caching
from vivant.process import diffuse

CACHED = [name for name in CASES if hasattr(pipeline(name), "transformer")]


def blocks(name: str) -> list[Any]:
    """The parts a cache may skip: blocks and attention layers."""
    nets = [net for net in (pipeline(name).transformer, getattr(pipeline(name), "transformer_2", None)) if net]
    found = [m for net in nets for m in net.modules()]
    return [m for m in found if type(m).__name__.endswith(("Block", "Attention"))]


@contextmanager
def counted(name: str) -> Iterator[list[int]]:
    """How often any attention layer really computed: its first linear layer was asked."""
    count = [0]

    def hook(*_: object) -> None:
        count[0] += 1

    handles = [m.to_q.register_forward_hook(hook) for m in blocks(name) if hasattr(m, "to_q")]
    yield count
    for handle in handles:
        handle.remove()


def run(name: str, cache: str | None, own: Any = None, **settings: Any) -> Tensor:
    told = shot(name, **{"steps": 8, **settings})
    return awaken(own or prior(name, cache=cache), told, painting(1), generator())


def clean(name: str) -> bool:
    """No cache on, no hook left under the transformer."""
    nets = [net for net in (pipeline(name).transformer, getattr(pipeline(name), "transformer_2", None)) if net]
    return not any(net.is_cache_enabled for net in nets) and not any(
        registry.hooks for net in nets for m in net.modules() if (registry := getattr(m, "_diffusers_hook", None))
    )


@pytest.fixture(autouse=True)
def loose(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random network changes more from step to step than a trained one: let the first block skip nevertheless."""
    monkeypatch.setitem(CACHES, "first-block", lambda network, clock: FirstBlockCacheConfig(threshold=2.0))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", CACHED)
def test_a_cache_skips_work_and_leaves_nothing(name: str, cache: str) -> None:
    with counted(name) as plain:
        run(name, None)
    own = prior(name, cache=cache)
    with counted(name) as lean:
        first = run(name, cache, own)
    assert clean(name)
    assert lean[0] < plain[0], f"{lean[0]} attentions with the cache, {plain[0]} without"
    assert bool(first.isfinite().all())
    assert torch.equal(run(name, cache, own), first), "a second run remembers the first"
    assert torch.equal(run(name, cache), first)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", ["wan", "cogvideox", "hunyuan"])
def test_each_branch_of_the_guidance_remembers_its_own(name: str, cache: str) -> None:
    """Guided steps are the sum of the two branches asked alone, each over all steps."""
    told = shot(name, steps=6, guidance=3.0)
    own = prior(name, cache=cache)
    levels, still = own.levels(told, told.steps)[1:-1], own.still([told], generator())
    noise = white(still, generator())

    def asked(**settings: Any) -> list[Tensor]:
        denoise = own.bind([replace(told, **settings)], generator())
        found = [denoise(diffuse(still, noise, level), level).x0 for level in levels]
        own.caching.rest()
        return found

    both, positive, negative = asked(), asked(guidance=1.0), asked(guidance=1.0, prompt=told.negative)
    if name == "hunyuan":  # beside a black picture the sentence is read otherwise
        assert relative(both[-1], positive[-1]) > 1e-3
        return
    for mixed, p, n in zip(both, positive, negative, strict=True):
        assert relative(mixed, n + 3.0 * (p - n)) < 1e-4


@pytest.mark.parametrize("cache", CACHES)
def test_the_sampling_forgets_the_distillation(cache: str) -> None:
    """From the same start, sampled after VSDS or alone: the same clip."""
    own, told = prior("wan", cache=cache), shot("wan", steps=8)
    levels = own.levels(told, 8)
    z = torch.randn(own.still([told], generator()).shape, generator=generator())
    paths = own.bind([told, told.seen_as(painting(1))], generator())
    for level in levels[:5]:
        paths(torch.cat([z, z]), level)
    after = own.solve(own.bind([told], generator()), z, levels, generator())
    alone = own.solve(own.bind([told], generator()), z, levels, generator())
    assert torch.equal(after, alone)


def test_the_pipelines_own_call_finds_nothing_of_it() -> None:
    given = awaken_latents(
        pipeline("wan"), painting(), painting(1), "waves", steps=6, frames=5, width=48, height=32, cache="taylor-seer",
        **CASES["wan"].options,
    )  # fmt: skip
    assert clean("wan") and bool(given.isfinite().all())


def test_the_owners_cache_is_used_forgotten_and_left_on() -> None:
    net = pipeline("wan").transformer
    ours = run("wan", "first-block")
    net.enable_cache(FirstBlockCacheConfig(threshold=2.0))
    try:
        assert torch.equal(run("wan", None), ours)
        assert net.is_cache_enabled
        assert torch.equal(run("wan", None), ours)
        with pytest.raises(SettingError, match="without a cache of its own"):
            run("wan", "taylor-seer")
    finally:
        net.disable_cache()
    net.enable_cache(FasterCacheConfig(current_timestep_callback=lambda: 0, attention_weight_callback=lambda _: 0.5))
    try:
        with pytest.raises(SettingError, match="got FasterCacheConfig"):
            run("wan", None)
    finally:
        net.disable_cache()


def test_an_error_leaves_nothing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("stop")

    own = prior("wan", cache="first-block")
    monkeypatch.setattr(own, "stepper", lambda grid: broken)
    with pytest.raises(RuntimeError, match="stop"):
        run("wan", None, own)
    assert clean("wan")


def test_what_is_refused() -> None:
    with pytest.raises(SettingError, match="first-block, pyramid, taylor-seer, got 'magic'"):
        Caching(pipeline("wan"), "magic", "wan")
    with pytest.raises(SettingError, match="expected no cache for svd"):
        prior("svd", cache="pyramid")
    with pytest.raises(SettingError, match="loop"):
        run("wan", "pyramid", loop=True)
