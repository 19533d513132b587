"""Films and in-betweens made again from the recipe inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..images import load_painting
from ..recipe import check_same, fits
from ..replay import differences, settings
from ..stage import Progress
from .between import animate_between
from .film import Film, animate_long

TOLD: dict[str, dict[str, Any]] = {
    "film": {
        "frames": int, "method": str, "gamma": float, "omega": float, "window": int | None, "overlap": int | None,
        "fuse": str | None,
    },
    "between": {"last": str, "last_sha256": str, "frames": int},
}  # fmt: skip
"""what a recipe says of a film and of an in-between, beside the settings of a clip"""


def rerun_long(recipe: dict[str, Any], out: str | Path, on_progress: Progress | None = None) -> Film:
    """Make a film again from the recipe inside it: the same frames on the same machine and versions.

    Raises `InputError` when the painting, mask, proxy or weights are not the ones the recipe names.
    """
    kind = "between" if "between" in recipe else "film"
    if kind not in recipe:
        raise InputError(f"expected {kind!r} in the recipe of a film, it is missing")
    said = recipe[kind]
    if isinstance(said, dict) and kind == "film":
        said = {"fuse": None, **said}
    if not isinstance(said, dict) or not all(
        name in said and fits(said[name], hint) for name, hint in TOLD[kind].items()
    ):
        raise InputError(f"expected a recipe of a film as vivant writes it, got {str(said)[:60]}; it was changed since")
    film = {name: said[name] for name in TOLD[kind]}
    how = settings(recipe)
    painting, prompt = how.pop("painting"), how.pop("prompt")
    if "between" in recipe:
        del how["compose"], how["regions"]
        last, last_of = film.pop("last"), film.pop("last_sha256")
        check_same("last picture", last, last_of, load_painting(last))
        made = animate_between(painting, last, prompt, out, on_progress=on_progress, **film, **how)
    else:
        made = animate_long(painting, prompt, out, on_progress=on_progress, **film, **how)
    made.warnings += differences(recipe, made.recipe)
    return made
