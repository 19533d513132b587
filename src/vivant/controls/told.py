"""Regions as they are written, before the painting and its size are known. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, SettingError
from ..shot import Arrow, Controls, Region
from . import mask as masks
from .arrows import parse as parse_arrow

NAMES = ("mask", "prompt", "strength", "arrows", "feather")


@dataclass(frozen=True)
class Told:
    """A region as it is written: `mask` is text of `controls.mask`, or a picture; it is read at the painting's size."""

    mask: Any
    prompt: str
    strength: float | None = None
    arrows: tuple[Arrow, ...] = ()
    feather: str | float | None = None

    def read(self, size: tuple[int, int]) -> Region:
        """The region at (width, height). Raises `InputError`."""
        return Region(self.prompt, Controls(masks.read(self.mask, size, self.feather), self.strength, self.arrows))


def region(text: str) -> Told:
    """A region as the command line writes it: "mask=a.png; prompt=Clouds drift; strength=.4; arrow=0.2,0.3:0.5,0.3".

    `arrow` may be repeated; a value with a semicolon stands in quotes. Raises `SettingError`.
    """
    found: dict[str, Any] = {"arrows": []}
    for piece in _pieces(text):
        name, sign, value = (part.strip() for part in piece.partition("="))
        value = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
        key = "arrows" if name == "arrow" else name
        if not sign or not value or key not in NAMES:
            raise SettingError(
                'expected a region like "mask=a.png; prompt=Clouds drift; strength=.4; arrow=0.2,0.3:0.5,0.3; feather=2%", '
                f"got {piece!r}"
            )
        if key == "arrows":
            found["arrows"].append(parse_arrow(value))
        elif key in found:
            raise SettingError(f"expected {name} once in a region, got it twice in {text!r}")
        else:
            found[key] = _strength(value) if key == "strength" else value
    for name in ("mask", "prompt"):
        if name not in found:
            raise SettingError(f"expected {name}=… in a region, got {text!r}")
    return Told(**{**found, "arrows": tuple(found["arrows"])})


def _pieces(text: str) -> list[str]:
    parts = re.findall(r"""(?:[^;"']|"[^"]*"|'[^']*'|["'])+""", text)
    return [part.strip() for part in parts if part.strip()]


def _strength(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise SettingError(f"expected a strength between 0 and 1, got {text!r}") from error


def regions(told: Iterable[Told | Region | str], size: tuple[int, int]) -> tuple[Region, ...]:
    """Regions of a painting of (width, height), from whichever form they have. Raises `InputError` naming the one."""
    out = []
    for i, one in enumerate(told):
        try:
            one = region(one) if isinstance(one, str) else one
            out.append(one.read(size) if isinstance(one, Told) else one)
        except InputError as error:
            raise type(error)(f"region {i + 1}: {error}") from error
    return tuple(out)


def whole(prompt: str, mask: Any, given: Sequence[Region]) -> tuple[str, Any]:
    """The sentence and the mask of the whole picture. Without a sentence, nothing moves but the regions."""
    if prompt.strip() or not given:
        return prompt, mask
    inner = [r.controls.mask for r in given if r.controls.mask is not None]
    return "; ".join(r.prompt.strip(" .;") for r in given), np.maximum.reduce(inner)
