"""The director's hand in a story: what a shot says of feather, arrows and regions, read and checked with its lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..controls import mask as masks
from ..controls.arrows import parse as parse_arrow
from ..controls.regions import HOW as COMPOSED
from ..controls.told import NAMES as REGION
from ..controls.told import Told
from ..errors import InputError
from ..shot import Arrow, Controls

NAMES = ("feather", "arrows", "regions", "compose")


class Reader(Protocol):
    """What reads a script: it complains by line, and finds files beside the script."""

    def wrong(self, line: int, what: str) -> InputError: ...

    def keys(self, data: dict[Any, Any], known: tuple[str, ...]) -> None: ...

    def mask(self, data: dict[Any, Any]) -> str | None: ...


def read(data: dict[Any, Any], reader: Reader) -> dict[str, Any]:
    """What a shot says with its hand, as plain JSON types; nothing of what it does not say. Raises `InputError`."""
    out = _softness_and_arrows(data, reader)
    compose = data.get("compose")
    if compose is not None:
        if compose not in COMPOSED:
            raise reader.wrong(data[None]["compose"], f"expected compose together or in turn, got {compose!r}")
        out["compose"] = compose
    given = data.get("regions")
    if given is None:
        return out
    line = data[None]["regions"]
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise reader.wrong(line, "expected regions, each with a mask and a prompt, got something else")
    if data.get("last") is not None:
        raise reader.wrong(line, "expected regions in a shot without last, got both")
    out["regions"] = [_region(one, reader) for one in given]
    return out


def _region(data: dict[Any, Any], reader: Reader) -> dict[str, Any]:
    at = data[None][""]
    reader.keys(data, REGION)
    mask, prompt, strength = reader.mask(data), str(data.get("prompt") or "").strip(), data.get("strength")
    if mask is None or not prompt:
        raise reader.wrong(at, f"expected a {'prompt' if mask else 'mask'} in the region, got none")
    if strength is not None and (isinstance(strength, bool) or not isinstance(strength, int | float)):
        raise reader.wrong(data[None]["strength"], f"expected a strength between 0 and 1, got {strength!r}")
    try:
        Controls(strength=strength)
    except InputError as error:
        raise reader.wrong(data[None]["strength"], str(error)) from None
    return {"mask": mask, "prompt": prompt, "strength": strength, **_softness_and_arrows(data, reader)}


def _softness_and_arrows(data: dict[Any, Any], reader: Reader) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in ("feather", "arrows"):
        given = data.get(name)
        if given is None:
            continue
        try:
            if name == "feather":
                masks.radius(str(given), (10**6, 10**6))
                out[name] = str(given)
            else:
                each = given if isinstance(given, list) else [given]
                out[name] = [_numbers(_arrow(one)) for one in each]
        except InputError as error:
            raise reader.wrong(data[None][name], str(error)) from None
    return out


def _arrow(one: Any) -> Arrow:
    """An arrow as text, or as four numbers."""
    if isinstance(one, list) and len(one) == 4 and all(type(v) in (int, float) for v in one):
        return parse_arrow("{},{}:{},{}".format(*one))
    return parse_arrow(str(one))


def _numbers(arrow: Arrow) -> list[float]:
    return [arrow.x0, arrow.y0, arrow.x1, arrow.y1, *([arrow.speed] if arrow.speed != 1 else [])]


def given(said: Mapping[str, Any]) -> dict[str, Any]:
    """What `read` gave, as `vivant.animate` takes it."""
    out = dict(said)
    out["arrows"] = [Arrow(*one) for one in said.get("arrows", ())]
    out["regions"] = [
        Told(**{**one, "arrows": tuple(Arrow(*arrow) for arrow in one.get("arrows", ()))})
        for one in said.get("regions", ())
    ]
    return out


def files(said: Mapping[str, Any]) -> list[Path]:
    """The masks of its regions, where these are files."""
    return [Path(one["mask"]) for one in said.get("regions", ())]
