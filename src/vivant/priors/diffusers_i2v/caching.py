"""diffusers' caches: parts of the network skipped at some steps, on only while a denoiser of ours asks.

A cache remembers what it saw at the last step of the same clip. Here clips, guidance branches and stages alternate
(VSDS of two paths, then the sampling), so every bound denoiser has a memory of its own for each branch, and nothing is
left on the pipeline afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import SettingError
from ...process import Level

ATTENTION = r"(single_)?(transformer_)?blocks\.\d+\.attn\d?"
"""The attention layers of every family; diffusers' own pattern for TaylorSeer misses Wan's, LTX's and CogVideoX's."""


def _first_block(network: Any, clock: Callable[[], float]) -> Any:
    from diffusers import FirstBlockCacheConfig

    return FirstBlockCacheConfig()


def _pyramid(network: Any, clock: Callable[[], float]) -> Any:
    from diffusers import PyramidAttentionBroadcastConfig

    return PyramidAttentionBroadcastConfig(spatial_attention_block_skip_range=2, current_timestep_callback=clock)


def _taylor_seer(network: Any, clock: Callable[[], float]) -> Any:
    from diffusers import TaylorSeerCacheConfig

    return TaylorSeerCacheConfig(taylor_factors_dtype=network.dtype, cache_identifiers=[ATTENTION])


CACHES: dict[str, Callable[[Any, Callable[[], float]], Any]] = {
    "first-block": _first_block, "pyramid": _pyramid, "taylor-seer": _taylor_seer,
}  # fmt: skip
"""The caches by name, at diffusers' defaults: all blocks but the first skipped where it changed little; every second
self-attention of the middle steps taken from the step before; attention extrapolated four steps of five. Not FasterCache
(it wants both guidance branches in one call), not MagCache (it wants numbers measured on each model), not SeaCache (it
wants neighbouring steps of one sampling)."""

BRANCHWISE = ("FirstBlockCacheConfig", "PyramidAttentionBroadcastConfig", "TaylorSeerCacheConfig")
"""The caches that may be on, switched on here or by the pipeline's owner."""


class Caching:
    """The cache of a pipeline's transformers: none, the one asked for, or what their owner switched on."""

    def __init__(self, pipe: Any, cache: str | None, family: str) -> None:
        """Raises `SettingError` for an unknown cache, and for any where the network takes none."""
        found = (getattr(pipe, "transformer", None), getattr(pipe, "transformer_2", None))
        self.networks: list[Any] = [network for network in found if hasattr(network, "enable_cache")]
        if cache is not None and cache not in CACHES:
            raise SettingError(f"expected a cache among {', '.join(CACHES)}, got {cache!r}")
        if cache is not None and not self.networks:
            raise SettingError(f"expected no cache for {family}, whose network takes none, got {cache!r}")
        self.cache = cache
        self.ours: list[Any] = []
        """networks whose cache was switched on here"""
        self.count = 0
        self.begun: set[int] = set()
        self.now, self.clock = 0, 0.0
        self.states: dict[tuple[str, int], Any] = {}

    def join(self, loops: bool) -> int:
        """A number for a denoiser; `loops`: whether its clip is turned between the steps. Raises `SettingError`."""
        on = {type(network._cache_config).__name__ for network in self.networks if network.is_cache_enabled}
        for name in on - set(BRANCHWISE):
            raise SettingError(
                f"expected one of {', '.join(BRANCHWISE)} on the transformer, got {name}; pipe.transformer.disable_cache()"
            )
        if self.cache and len(self.ours) < sum(network.is_cache_enabled for network in self.networks):
            raise SettingError(
                f"expected a transformer without a cache of its own to switch on {self.cache}, got {', '.join(sorted(on))}"
            )
        if loops and (self.cache or on):
            raise SettingError("expected no cache for a loop, whose clip is turned between the steps")
        self.count += 1
        return self.count

    def ask(self, number: int, level: Level) -> None:
        """Before each evaluation of denoiser `number`: at its first one everything remembered is forgotten."""
        self.now, self.clock = number, level.t
        if number in self.begun:
            return
        self.begun.add(number)
        self.states.clear()
        for network in self.networks:
            if self.cache and not network.is_cache_enabled:
                network.enable_cache(CACHES[self.cache](network, lambda: self.clock))
                self.ours.append(network)
            if network.is_cache_enabled:
                network._reset_stateful_cache()

    @contextmanager
    def branch(self, network: Any, positive: bool) -> Iterator[None]:
        """While one branch of the guidance is asked."""
        if not getattr(network, "is_cache_enabled", False):
            yield
            return
        name = f"{'positive' if positive else 'negative'} {self.now}"
        for hook in _plain(network):  # pyramid attention knows no contexts
            hook.state = self.states.setdefault((name, id(hook)), type(hook.state)())
        with network.cache_context(name):
            yield

    def rest(self) -> None:
        """Switch off what was switched on here, and leave nothing remembered in what was not."""
        for network in self.networks:
            if network.is_cache_enabled:
                network._reset_stateful_cache()
        for network in self.ours:
            network.disable_cache()
        self.ours, self.begun = [], set()
        self.states.clear()


def _plain(network: Any) -> list[Any]:
    """The hooks under a network that keep one memory for all contexts."""
    from diffusers.hooks.pyramid_attention_broadcast import PyramidAttentionBroadcastHook

    registries = (getattr(module, "_diffusers_hook", None) for module in network.modules())
    hooks = (hook for registry in registries if registry is not None for hook in registry.hooks.values())
    return [hook for hook in hooks if isinstance(hook, PyramidAttentionBroadcastHook)]
