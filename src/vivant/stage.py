"""What every animation needs before it is dreamt: painting, controls, model, shot, proxy; judged, loaded, written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .errors import ImageError, SettingError
from .images import load_painting, load_proxy, resized
from .proxy.drift import STRANGER, drift
from .recipe import absolute, picture_hash, versions
from .shot import Arrow, Controls, Region, Shot

Progress = Callable[[str, int, int], None]
"""(stage, done, total), total 0 while it is not known"""


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass
class Stage:
    """A shot ready to be dreamt. `recipe`: JSON types, everything but what belongs to the clip or the film."""

    prior: Any
    shot: Shot
    proxy: np.ndarray | None
    recipe: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def prepare(
    painting: Any,
    prompt: str,
    *,
    model: str = "miniature",
    seed: int = 42,
    frames: int | None = None,
    steps: int | None = None,
    fps: int | None = None,
    guidance: float | None = None,
    negative: str = "",
    mask: Any = None,
    feather: str | float | None = None,
    strength: float | None = None,
    arrows: Sequence[Arrow | Sequence[float]] = (),
    regions: Sequence[Any] = (),
    compose: str = "together",
    proxy: Any = "auto",
    distil: float = 0.6,
    distil_evaluations: int | None = None,
    curve: str = "stepwise-decreasing",
    gain: float | None = None,
    blend: str = "slerp",
    loop: bool = False,
    size: str = "native",
    device: str = "auto",
    dtype: str = "auto",
    allow_smaller: bool = False,
    model_size: tuple[int, int] | None = None,
    lora: Sequence[Any] = (),
    last: np.ndarray | None = None,
    loaded: dict[Any, Any] | None = None,
    progress: Progress = silent,
) -> Stage:
    """Settings as `vivant.animate` takes them; memory is planned for `frames`. What is None takes the model's default.

    `lora`: as `priors.lora.chosen` takes them; `last`: (H, W, 3) uint8, the picture it ends on; `loaded`: models already loaded; it is filled. Raises `InputError`
    for input that cannot be used and `ModelError` for a model that cannot, memory being short before it is loaded.
    """
    from . import ladder, memory
    from .controls import mask as masks
    from .controls import regions as parts
    from .controls import strength as strengths
    from .controls import told
    from .controls.arrows import check
    from .priors.lora import chosen, load_into
    from .priors.negatives import for_paintings
    from .priors.registry import load, weights_hash

    original = load_painting(painting)
    picture = resized(original, size)
    extent = (picture.shape[1], picture.shape[0])
    areas = told.regions(regions, extent)
    sentence, outline = told.whole(prompt, mask, areas)
    if feather is not None and outline is None:
        raise SettingError("expected a mask that the feather softens, got a feather alone; give --mask as well")
    if compose not in parts.HOW:
        raise SettingError(f"expected regions moved together or in turn, got {compose!r}")
    pointed = tuple(_arrow(a) for a in arrows)
    for each in (pointed, *(area.controls.arrows for area in areas)):
        check(each)
    hand = Controls(
        mask=masks.read(outline, extent, feather) if outline is not None else None, strength=strength, arrows=pointed
    )
    # Whatever was given is judged before the model is loaded; what was not given stands in at a value that passes.
    Shot(
        picture, sentence, negative, hand, 2 if frames is None else frames, 1 if fps is None else fps,
        1 if steps is None else steps, guidance, seed, distil, distil_evaluations, curve, gain, blend, loop, areas, last,
    )  # fmt: skip
    named = named_proxy(proxy)
    learnt = tuple(chosen(one) for one in lora)
    progress("loading the model", 0, 0)
    where = chosen_device(device)
    paths = 1 if named == "none" else 2
    planned = memory.plan(
        model, where, dtype, extent, frames, steps, distil, distil_evaluations, paths, allow_smaller, model_size
    )
    memory.check(planned)
    models = {} if loaded is None else loaded
    # A LoRA is merged into weights of its own: what another shot uses stays what it is.
    merged = tuple((one.sha256, one.scale) for one in learnt)
    key = (model, planned.load_device, planned.dtype, model_size, tuple(planned.choices), merged)
    if key not in models:
        fresh = load(model, planned.load_device, planned.dtype)
        for one in learnt:
            load_into(fresh, one.path, one.scale)
        ladder.apply(fresh, planned)
        models[key] = fresh
    prior = models[key]
    card = prior.card
    softened = for_paintings(negative)
    shot = Shot(
        picture, sentence, softened.negative, hand,
        frames=card.frames if frames is None else frames, fps=card.fps if fps is None else fps,
        steps=card.steps if steps is None else steps, guidance=card.guidance if guidance is None else guidance,
        seed=seed, distil=distil, curve=curve,
        distil_evaluations=card.distil_evaluations if distil_evaluations is None else distil_evaluations,
        gain=card.gain if gain is None else gain, blend=blend, loop=loop, regions=areas, last=last,
    )  # fmt: skip
    shot, notes = strengths.calibrated(shot, card, model)
    spoken = " ".join([prompt, *(area.prompt for area in areas)])
    unknown: list[str] = getattr(prior, "unknown_words", lambda text: [])(spoken)
    notes += parts.overlaps(areas)
    notes += [f"words this model does not know, ignored: {', '.join(unknown)}"] if unknown else []
    if softened.removed:
        notes.append(f"left out of the negative sentence, they argue against paintings: {', '.join(softened.removed)}")
    notes += [f"to fit in memory: {rung}" for rung in planned.choices]
    second, said = _proxy(named, proxy, picture, shot, model, where)
    shot = replace(shot, fused=second is not None)
    scale = (
        strengths.digest(model) if strength is not None or any(a.controls.strength is not None for a in areas) else None
    )
    recipe = {
        "painting": absolute(painting), "painting_sha256": picture_hash(original), "prompt": prompt, "model": model,
        "weights_sha256": weights_hash(model), "seed": seed, "fps": shot.fps, "steps": shot.steps,
        "guidance": float(shot.guidance or 0), "negative": negative, "distil": distil,
        "distil_evaluations": shot.distil_evaluations, "curve": curve, "gain": float(shot.gain or 0), "blend": blend,
        "proxy": named or absolute(proxy), "proxy_sha256": picture_hash(second),
        "mask": None if mask is None else masks.spelled(mask), "mask_sha256": picture_hash(hand.mask),
        "feather": feather, "strength": strength, "arrows": _numbers(hand.arrows),
        "regions": [_written(one, area) for one, area in zip(regions, areas, strict=True)], "compose": compose,
        "size": size, "device": where, "model_size": list(model_size) if model_size else None, "lora": [one.written() for one in learnt],
        "versions": versions() | planned.decides() | ({"calibration": scale} if scale else {}),
    }  # fmt: skip
    return Stage(prior, shot, second, recipe, notes + said)


def chosen_device(name: str) -> str:
    """ "auto" as what is here. Raises `SettingError` for a device that is not."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SettingError(f"expected a device of this machine, got {name!r} and found no CUDA; use --device cpu")
    if not (name == "cpu" or name.startswith("cuda")):
        raise SettingError(f"expected device auto, cpu or cuda, got {name!r}")
    return name


def named_proxy(proxy: Any) -> str | None:
    """The name that stands for a proxy; None for a picture. An array is never compared with a name."""
    from .proxy.registry import PROXIES

    if proxy is None:
        return "none"
    return proxy if isinstance(proxy, str) and proxy in ("auto", "none", *PROXIES) else None


def _proxy(
    named: str | None, proxy: Any, picture: np.ndarray, shot: Shot, model: str, device: str
) -> tuple[np.ndarray | None, list[str]]:
    """The proxy image and what is to be said of it: a name's is made, a picture is fitted and refused when it is another."""
    from .proxy.registry import make

    if named == "none":
        return None, []
    if named is None:
        made = load_proxy(proxy, picture)
        far = drift(picture, made)
        if far.structure > STRANGER:
            raise ImageError(
                f"expected a proxy that shows the painting's own scene, got another (structure distance {far.structure:.2f}, "
                f"at most {STRANGER}); give a rendering of this painting, or --proxy auto"
            )
    else:
        made = make(named, picture, shot.prompt, shot.seed, device, model)
        far = drift(picture, made)
    return made, [far.warning] if far.warning else []


def _numbers(arrows: Sequence[Arrow]) -> list[list[float]]:
    return [[a.x0, a.y0, a.x1, a.y1, *([a.speed] if a.speed != 1 else [])] for a in arrows]


def _written(one: Any, area: Region) -> dict[str, Any]:
    """A region as a recipe keeps it."""
    from .controls import mask as masks
    from .controls import told

    given = told.region(one) if isinstance(one, str) else one
    return {
        "mask": masks.spelled(given.mask) if isinstance(given, told.Told) else "<memory>",
        "mask_sha256": picture_hash(area.controls.mask), "prompt": area.prompt, "strength": area.controls.strength,
        "arrows": _numbers(area.controls.arrows), "feather": getattr(given, "feather", None),
    }  # fmt: skip


def _arrow(value: Arrow | Sequence[float]) -> Arrow:
    if isinstance(value, Arrow):
        return value
    if len(value) not in (4, 5):
        raise SettingError(f"expected an arrow as (x0, y0, x1, y1) or with a speed after it, got {value!r}")
    return Arrow(*value)
