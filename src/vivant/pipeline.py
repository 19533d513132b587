"""The one way in: a painting and a sentence become a Shot, a clip, and a file that remembers its recipe."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ImageError, OutputError, SettingError
from .images import load_mask, load_painting, load_proxy, resized
from .proxy.drift import STRANGER, Drift, drift
from .recipe import Recipe, absolute, check_same, picture_hash, versions
from .shot import Arrow, Controls, Shot

Progress = Callable[[str, int, int], None]
"""(stage, done, total), total 0 while it is not known"""


@dataclass
class Result:
    """A clip, painted frame by frame when it is asked for."""

    shot: Shot
    recipe: dict[str, Any]
    seconds: dict[str, float]
    evaluations: int
    warnings: list[str]
    _render: Callable[[], Iterator[np.ndarray]] = field(repr=False)
    _progress: Progress = field(repr=False, default=lambda stage, done, total: None)

    def frames(self) -> Iterator[np.ndarray]:
        """The frames, (H, W, 3) uint8 sRGB at the painting's size."""
        for i, frame in enumerate(self._render()):
            self._progress("painting", i + 1, self.shot.frames)
            yield frame

    def save(self, path: str | Path) -> Path:
        """Write .mp4, .gif, .webp, .apng, or a folder of PNGs; whole or not at all, the recipe inside."""
        from .render.export import export

        start = time.perf_counter()
        written = export(self.frames(), path, self.shot.fps, json.dumps(self.recipe, sort_keys=True))
        self.seconds["render"] = round(time.perf_counter() - start, 3)
        return written


def animate(
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
    strength: float | None = None,
    arrows: Sequence[Arrow | tuple[float, float, float, float]] = (),
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
    on_progress: Progress | None = None,
) -> Result:
    """Animate a painting as a sentence says ("Every Painting Awakened", on any base model).

    `painting`: path, PIL image or array. `mask`: white moves. `strength`: 0..1. `arrows`: (x0, y0, x1, y1) in fractions
    of the picture. `proxy`: "auto", "none", a maker's name, or a picture. `loop`: the frame after the last is the first. `size`: "native",
    "WIDTHxHEIGHT" or the longer side. What is None takes the model's own default. `dtype`: "auto", float32,
    bfloat16 or float16. `allow_smaller`: consent to a smaller working size where memory is short; `model_size`: a
    (width, height) whose area the model works at, in the painting's aspect, in place of its own. Raises `InputError` for
    input that cannot be used and `ModelError` for a model that cannot, memory being short before it is loaded.
    """
    import torch

    from . import ladder, memory
    from .awaken import awaken
    from .priors.negatives import for_paintings
    from .priors.registry import load, weights_hash

    report = on_progress or (lambda stage, done, total: None)
    start = time.perf_counter()
    original = load_painting(painting)
    picture = resized(original, size)
    extent = (picture.shape[1], picture.shape[0])
    hand = Controls(
        mask=load_mask(mask, extent) if mask is not None else None,
        strength=strength,
        arrows=tuple(_arrow(a) for a in arrows),
    )
    # Whatever was given is judged before the model is loaded; what was not given stands in at a value that passes.
    Shot(
        picture, prompt, negative, hand, 2 if frames is None else frames, 1 if fps is None else fps,
        1 if steps is None else steps, guidance, seed, distil, distil_evaluations, curve, gain, blend, loop,
    )  # fmt: skip
    named = _named(proxy)
    report("loading the model", 0, 0)
    where = _device(device)
    paths = 1 if named == "none" else 2
    planned = memory.plan(
        model, where, dtype, extent, frames, steps, distil, distil_evaluations, paths, allow_smaller, model_size
    )
    memory.check(planned)
    prior = load(model, planned.load_device, planned.dtype)
    rungs = ladder.apply(prior, planned)
    card = prior.card
    softened = for_paintings(negative)
    shot = Shot(
        picture, prompt, softened.negative, hand,
        frames=card.frames if frames is None else frames, fps=card.fps if fps is None else fps,
        steps=card.steps if steps is None else steps, guidance=card.guidance if guidance is None else guidance,
        seed=seed, distil=distil, curve=curve,
        distil_evaluations=card.distil_evaluations if distil_evaluations is None else distil_evaluations,
        gain=card.gain if gain is None else gain, blend=blend, loop=loop,
    )  # fmt: skip
    unknown: list[str] = getattr(prior, "unknown_words", lambda text: [])(prompt)
    notes = [f"words this model does not know, ignored: {', '.join(unknown)}"] if unknown else []
    if softened.removed:
        notes.append(f"left out of the negative sentence, they argue against paintings: {', '.join(softened.removed)}")
    notes += [f"to fit in memory: {rung}" for rung in rungs]
    second, said = _proxy(named or proxy, picture, shot, model, where)
    notes += said
    seconds = {"prepare": round(time.perf_counter() - start, 3)}
    start = time.perf_counter()
    calls = 0

    def count(level: object) -> None:
        nonlocal calls
        calls += 1
        report("dreaming", calls, _expected(shot))

    x = awaken(prior, shot, second, torch.Generator().manual_seed(shot.seed), count)
    seconds["generate"] = round(time.perf_counter() - start, 3)
    record = Recipe(
        painting=absolute(painting), painting_sha256=str(picture_hash(original)), prompt=prompt, model=model,
        weights_sha256=weights_hash(model), seed=seed, frames=shot.frames, fps=shot.fps, steps=shot.steps,
        guidance=float(shot.guidance or 0), negative=negative, distil=distil, distil_evaluations=shot.distil_evaluations,
        curve=curve, gain=float(shot.gain or 0), blend=blend,
        proxy=named or absolute(proxy), proxy_sha256=picture_hash(second),
        mask=None if mask is None else absolute(mask), mask_sha256=picture_hash(hand.mask), strength=strength,
        arrows=[[a.x0, a.y0, a.x1, a.y1] for a in hand.arrows], loop=loop, size=size, device=where,
        model_size=list(model_size) if model_size else None,
        versions=versions() | planned.decides(),
    )  # fmt: skip

    def frames_of() -> Iterator[np.ndarray]:
        from .render.render import render

        return render(prior, x, shot)

    return Result(shot, record.as_dict(), seconds, calls, notes, frames_of, report)


def rerun(data: dict[str, Any], on_progress: Progress | None = None) -> Result:
    """Animate again from a recipe: the same frames on the same machine and versions.

    Raises `InputError` when the painting, mask, proxy or weights are not the ones the recipe names.
    """
    from .priors.registry import weights_hash

    r = Recipe.parse(data)
    if r.painting == "<memory>" or r.proxy == "<memory>" or r.mask == "<memory>":
        raise SettingError(
            "expected a result made from files, this one was made from pictures in memory; animate it again"
        )
    picture = load_painting(r.painting)
    check_same("painting", r.painting, r.painting_sha256, picture)
    if r.mask is not None:
        check_same("mask", r.mask, r.mask_sha256, load_mask(r.mask, resized(picture, r.size).shape[1::-1]))
    if weights_hash(r.model) != r.weights_sha256:
        raise SettingError(
            f"expected {r.model} with the weights the result was made with, this installation has others"
        )
    if _named(r.proxy) is None:
        check_same("proxy", r.proxy, r.proxy_sha256, load_proxy(r.proxy, resized(picture, r.size)))
    result = animate(
        r.painting, r.prompt, model=r.model, seed=r.seed, frames=r.frames, steps=r.steps, fps=r.fps, guidance=r.guidance,
        negative=r.negative, mask=r.mask, strength=r.strength, arrows=[(a[0], a[1], a[2], a[3]) for a in r.arrows],
        proxy=r.proxy, distil=r.distil, distil_evaluations=r.distil_evaluations, curve=r.curve, gain=r.gain, blend=r.blend,
        loop=r.loop, size=r.size, device=r.device, dtype=r.versions.get("dtype", "auto"),
        model_size=(r.model_size[0], r.model_size[1]) if r.model_size else None,
        allow_smaller="smaller" in r.versions.get("memory", ""), on_progress=on_progress,
    )  # fmt: skip
    if result.recipe["proxy_sha256"] != r.proxy_sha256:
        result.warnings.append(f"the proxy {r.proxy!r} came out otherwise than when the result was made")
    changed = [n for n, v in result.recipe["versions"].items() if r.versions.get(n) != v]
    if changed:
        result.warnings.append(f"other versions than the result was made with ({', '.join(changed)}): bytes may differ")
    return result


def make_proxy(
    painting: Any, prompt: str, out: Path, maker: str = "auto", model: str = "miniature", seed: int = 42,
    device: str = "auto",
) -> tuple[Path, Drift, str]:  # fmt: skip
    """Make a painting's proxy image and write it (PNG); returns where, how far it drifted, and who made it."""
    from .proxy.registry import chosen, make
    from .render.export import save_picture

    picture = load_painting(painting)
    Shot(picture, prompt, seed=seed)  # the same judgement as an animation's
    if out.suffix.lower() != ".png":
        raise OutputError(f"expected a proxy that ends in .png, got {out.name!r}")
    made = make(maker, picture, prompt, seed, _device(device), model)
    return save_picture(made, out), drift(picture, made), chosen(maker, model)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SettingError(f"expected a device of this machine, got {name!r} and found no CUDA; use --device cpu")
    if not (name == "cpu" or name.startswith("cuda")):
        raise SettingError(f"expected device auto, cpu or cuda, got {name!r}")
    return name


def _proxy(proxy: Any, picture: np.ndarray, shot: Shot, model: str, device: str) -> tuple[np.ndarray | None, list[str]]:
    """The proxy image and what is to be said of it: a name's is made, a picture is fitted and refused when it is another."""
    from .proxy.registry import make

    named = _named(proxy)
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


def _named(proxy: Any) -> str | None:
    """The name that stands for a proxy; None for a picture. An array is never compared with a name."""
    from .proxy.registry import PROXIES

    if proxy is None:
        return "none"
    return proxy if isinstance(proxy, str) and proxy in ("auto", "none", *PROXIES) else None


def _arrow(value: Arrow | Sequence[float]) -> Arrow:
    if isinstance(value, Arrow):
        return value
    if len(value) != 4:
        raise SettingError(f"expected an arrow as (x0, y0, x1, y1), got {value!r}")
    return Arrow(*value)


def _expected(shot: Shot) -> int:
    head = min(int(shot.steps * shot.distil) + 1, shot.steps) if shot.distil > 0 else 0
    return shot.steps + min(head, shot.distil_evaluations or head)
