"""The one way in: a painting and a sentence become a Shot, a clip, and a file that remembers its recipe."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import OutputError
from .images import load_painting
from .proxy.drift import Drift, drift
from .recipe import Recipe
from .shot import Arrow, Shot
from .stage import Progress, chosen_device, prepare, silent


@dataclass
class Result:
    """A clip, painted frame by frame when it is asked for."""

    shot: Shot
    recipe: dict[str, Any]
    seconds: dict[str, float]
    evaluations: int
    warnings: list[str]
    _render: Callable[[], Iterator[np.ndarray]] = field(repr=False)
    _progress: Progress = field(repr=False, default=silent)
    motion: float | None = None
    """mean flow from frame to frame, % of the diagonal, once `save` has measured it"""

    def frames(self) -> Iterator[np.ndarray]:
        """The frames, (H, W, 3) uint8 sRGB at the painting's size."""
        for i, frame in enumerate(self._render()):
            self._progress("painting", i + 1, self.shot.frames)
            yield frame

    def save(self, path: str | Path, measure: bool = False) -> Path:
        """Write .mp4, .mov, .mkv, .gif, .webp, .apng, or a folder of PNGs; whole or not at all, the recipe inside.

        `measure`: tell `motion` meanwhile.
        """
        from .flow import Measured
        from .render.export import export, spare

        spare(Path(path), *(self.recipe.get(name) for name in ("painting", "mask", "proxy")))
        spare(Path(path), *(region["mask"] for region in self.recipe.get("regions", ())))
        spare(Path(path), *(one["path"] for one in self.recipe.get("lora", ())))
        start = time.perf_counter()
        seen = Measured(self.frames())
        written = export(
            iter(seen if measure else seen.frames), path, self.shot.fps, json.dumps(self.recipe, sort_keys=True)
        )
        self.motion = seen.percent if measure else None
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
    feather: str | float | None = None,
    strength: float | None = None,
    arrows: Sequence[Arrow | tuple[float, float, float, float]] = (),
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
    loaded: dict[Any, Any] | None = None,
    on_progress: Progress | None = None,
) -> Result:
    """Animate a painting as a sentence says ("Every Painting Awakened", on any base model).

    `painting`: path, PIL image or array. `mask`: white moves; a picture, or text as
    `controls.mask` has it, softened by `feather`. `regions`: parts with sentences of their own (`controls.told.Told`, or
    text), moved `compose` "together" or "in turn". `strength`: 0..1. `arrows`: (x0, y0, x1, y1) in fractions
    of the picture. `proxy`: "auto", "none", a maker's name, or a picture. `loop`: the frame after the last is the first. `size`: "native",
    "WIDTHxHEIGHT" or the longer side. What is None takes the model's own default. `dtype`: "auto", float32,
    bfloat16 or float16. `allow_smaller`: consent to a smaller working size where memory is short; `model_size`: a
    (width, height) whose area the model works at, in the painting's aspect, in place of its own; `lora`: files or
    folders of LoRA, "PATH:SCALE" or (path, scale), merged into the model one after the other; `loaded`: the caller's
    dictionary of models, filled and used again. Raises `InputError` for input that cannot be used and `ModelError` for a model that cannot, memory being short before it is loaded.
    """
    import torch

    from .awaken import awaken
    from .controls.regions import awakened, regional

    report = on_progress or silent
    start = time.perf_counter()
    stage = prepare(
        painting, prompt, model=model, seed=seed, frames=frames, steps=steps, fps=fps, guidance=guidance,
        negative=negative, mask=mask, feather=feather, strength=strength, arrows=arrows, regions=regions, compose=compose, proxy=proxy, distil=distil,
        distil_evaluations=distil_evaluations, curve=curve, gain=gain, blend=blend, loop=loop, size=size, device=device,
        dtype=dtype, allow_smaller=allow_smaller, model_size=model_size, lora=lora, loaded=loaded, progress=report,
    )  # fmt: skip
    prior, shot = stage.prior, stage.shot
    seconds = {"prepare": round(time.perf_counter() - start, 3)}
    start = time.perf_counter()
    calls = 0

    def count(level: object) -> None:
        nonlocal calls
        calls += 1
        report("dreaming", calls, _expected(shot))

    rng = torch.Generator().manual_seed(shot.seed)
    x = awakened(awaken, prior, shot, stage.proxy, rng, count, compose)
    seconds["generate"] = round(time.perf_counter() - start, 3)
    record = Recipe(**stage.recipe, frames=shot.frames, loop=loop)

    def frames_of() -> Iterator[np.ndarray]:
        from .render.render import render

        return render(regional(prior, shot), x, shot)

    return Result(shot, record.as_dict(), seconds, calls, stage.notes, frames_of, report)


def rerun(data: dict[str, Any], on_progress: Progress | None = None) -> Result:
    """Animate again from a recipe: the same frames on the same machine and versions.

    Raises `InputError` when the painting, mask, proxy or weights are not the ones the recipe names.
    """
    from . import replay

    recipe = Recipe.parse(data)
    how = replay.settings(data)
    painting, prompt = how.pop("painting"), how.pop("prompt")
    result = animate(painting, prompt, frames=recipe.frames, loop=recipe.loop, on_progress=on_progress, **how)
    result.warnings += replay.differences(data, result.recipe)
    return result


def make_proxy(
    painting: Any, prompt: str, out: Path, maker: str = "auto", model: str = "miniature", seed: int = 42,
    device: str = "auto",
) -> tuple[Path, Drift, str]:  # fmt: skip
    """Make a painting's proxy image and write it (PNG); returns where, how far it drifted, and who made it."""
    from .priors.registry import entry
    from .proxy.registry import chosen, make
    from .render.export import save_picture, spare

    entry(model)
    spare(out, painting)

    picture = load_painting(painting)
    Shot(picture, prompt, seed=seed)  # the same judgement as an animation's
    if out.suffix.lower() != ".png":
        raise OutputError(f"expected a proxy that ends in .png, got {out.name!r}")
    made = make(maker, picture, prompt, seed, chosen_device(device), model)
    return save_picture(made, out), drift(picture, made), chosen(maker, model)


def _expected(shot: Shot) -> int:
    head = min(int(shot.steps * shot.distil) + 1, shot.steps) if shot.distil > 0 else 0
    return shot.steps + min(head, shot.distil_evaluations or head)
