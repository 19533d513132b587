"""What encoders made of a picture or a sentence, remembered: a run asks for the same thing up to three times.

VSDS and the final sampling bind the same painting and the same sentence; so do the two paths, the negative one of every
region and the next seed. What is remembered draws nothing: of a sampled latent it is the distribution.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

T = TypeVar("T")

MOST = 256 * 1024**2
"""Bytes that are kept: the encodings of a run at the largest sizes, twice over."""


class Once:
    """The last few encodings. Kept values are shared: nobody writes into them."""

    def __init__(self, most: int = MOST) -> None:
        """`most`: bytes kept; what was asked for longest ago goes first, and what is larger is not kept."""
        self.most = most
        self._kept: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()

    def __call__(self, make: Callable[[], T], *told: object, by: nn.Module | Iterable[nn.Module]) -> T:
        """What `make` gives for `told`, made by the networks `by`; made anew once their weights have changed.

        `told` must say all that decides the result: names, numbers, sentences, and arrays and tensors by their content.
        """
        key = tuple(_content(one) for one in told)
        state = tuple(_state(net) for net in ((by,) if isinstance(by, nn.Module) else by))
        kept = self._kept.pop(key, None)
        made: T = kept[1] if kept is not None and kept[0] == state else make()
        self._kept[key] = (state, made)
        while self._kept and sum(_size(value) for _, value in self._kept.values()) > self.most:
            self._kept.popitem(last=False)
        return made

    def each(
        self, read: Callable[[list[str]], Tensor], sentences: Iterable[str], *told: object, by: nn.Module
    ) -> Tensor:
        """`read` of every sentence, one by one, so that a sentence's states do not depend on its company."""

        def one(said: str) -> Tensor:
            return self(lambda: read([said]), said, *told, by=by)

        return torch.cat([one(said) for said in sentences])


def _content(value: object) -> Hashable:
    if isinstance(value, Tensor):
        raw = value.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy()
        return tuple(value.shape), value.dtype, value.device, hashlib.sha256(raw.data).digest()
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, hashlib.sha256(np.ascontiguousarray(value).data).digest()
    return value  # type: ignore[return-value]


def _state(net: nn.Module) -> Hashable:
    """What tells a network's weights from others: a few numbers of each, and what adapters and tiles are told beside them.

    An edit of single numbers inside a tensor is not seen; loading, merging and training change them all.

    Not where they lie: a network that visits the GPU has other addresses after every visit.
    """
    samples: dict[torch.device, list[Tensor]] = {}
    shapes = []
    for weight in net.parameters():
        shapes.append((weight.dtype, weight.numel()))
        if not weight.is_meta and weight.numel():
            flat = weight.detach().reshape(-1)
            samples.setdefault(flat.device, []).append(
                flat[:: max(1, flat.numel() // 4)].contiguous().view(torch.uint8)
            )
    digest = hashlib.sha256()
    for few in samples.values():
        digest.update(torch.cat(few).cpu().numpy().data)
    adapters = [
        repr([getattr(m, name, None) for name in ("scaling", "active_adapters", "disable_adapters")])
        for m in net.modules()
        if isinstance(getattr(m, "scaling", None), dict)
    ]
    tiles = tuple((k, v) for k, v in sorted(vars(net).items()) if k.startswith(("tile_", "use_")))
    return tuple(shapes), digest.digest(), tuple(adapters), repr(tiles)


def _size(value: object) -> int:
    """Bytes of the tensors and arrays in a value."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(_size(one) for one in value.values())
    if isinstance(value, (tuple, list)):
        return sum(_size(one) for one in value)
    return 0
