"""What a recipe asks for, once all that it names is found to be what it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .controls import mask as masks
from .controls.told import Told
from .errors import InputError, SettingError
from .images import load_painting, load_proxy, resized
from .recipe import check_same, check_types, versions
from .shot import Arrow
from .stage import named_proxy

KEPT = (
    "model", "seed", "fps", "steps", "guidance", "negative", "distil", "distil_evaluations", "curve", "gain", "blend",
    "proxy", "mask", "feather", "strength", "compose", "size", "device",
)  # fmt: skip
"""settings that a recipe gives back as they are"""
LATER: dict[str, Any] = {
    "size": "native", "compose": "together", "feather": None, "regions": [], "lora": [], "model_size": None,
}  # fmt: skip
"""entries that older recipes lack, as it was then"""


def settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as `stage.prepare` takes them, `painting` and `prompt` among them. Reads every picture the recipe names.

    Raises `InputError` when the painting, a mask, the proxy, the weights or a LoRA are not the ones the result was made
    with, or the recipe was changed.
    """
    from .priors import lora
    from .priors.registry import weights_hash

    recipe = {**LATER, **recipe}
    check_types(recipe)
    try:
        how = {name: recipe[name] for name in (*KEPT, "painting", "prompt")}
        hashes = {name: recipe[f"{name}_sha256"] for name in ("painting", "mask", "proxy", "weights")}
        how["arrows"] = [Arrow(*arrow) for arrow in recipe["arrows"]]
    except KeyError as error:
        raise InputError(f"expected {error} in the recipe, it is missing") from None
    areas = recipe["regions"]
    if "<memory>" in (how["painting"], how["proxy"], how["mask"], *(area["mask"] for area in areas)):
        raise SettingError(
            "expected a result made from files, this one was made from pictures in memory; animate it again"
        )
    picture = load_painting(how["painting"])
    check_same("painting", how["painting"], hashes["painting"], picture)
    seen = resized(picture, how["size"])
    size = (seen.shape[1], seen.shape[0])
    if how["mask"] is not None:
        check_same("mask", how["mask"], hashes["mask"], masks.read(how["mask"], size, how["feather"]))
    how["regions"] = [
        Told(a["mask"], a["prompt"], a["strength"], tuple(Arrow(*v) for v in a["arrows"]), a["feather"]) for a in areas
    ]
    for region, area in zip(how["regions"], areas, strict=True):
        check_same("region's mask", region.mask, area["mask_sha256"], masks.read(region.mask, size, region.feather))
    if weights_hash(how["model"]) != hashes["weights"]:
        raise SettingError(
            f"expected {how['model']} with the weights the result was made with, this installation has others"
        )
    if named_proxy(how["proxy"]) is None:
        check_same("proxy", how["proxy"], hashes["proxy"], load_proxy(how["proxy"], seen))
    made_with = recipe.get("versions", {})
    return how | {
        "lora": lora.again(recipe["lora"]), "model_size": tuple(recipe["model_size"] or ()) or None,
        "allow_smaller": "smaller" in made_with.get("memory", ""), "dtype": made_with.get("dtype", "auto"),
    }  # fmt: skip


def differences(recipe: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What to say of a result made again with the recipe `now`: a proxy that came out otherwise, other versions."""
    out = []
    if now["proxy_sha256"] != recipe["proxy_sha256"]:
        out.append(f"the proxy {recipe['proxy']!r} came out otherwise than when the result was made")
    before = recipe.get("versions", {})
    changed = [name for name, value in (versions() | now["versions"]).items() if before.get(name) != value]
    if changed:
        out.append(f"other versions than the result was made with ({', '.join(changed)}): bytes may differ")
    return out
