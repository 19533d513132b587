"""The papers' figures, each with its numbers: frame latents by t-SNE, λ per layer, noise per timestep, strips, side by side.

Plots need the `figures` extra (matplotlib, scikit-learn); the numbers do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from ..errors import DependencyError, InputError, OutputError

if TYPE_CHECKING:
    from torch import Generator

    from ..priors.protocol import VideoPrior
    from ..shot import Shot

Frames = Sequence[UInt8[np.ndarray, "H W 3"]]
BAR = 22
"""height of the line of text over a clip, in pixels"""


class Trend(NamedTuple):
    """How orderly a clip's frames lie in a feature space."""

    trend: float
    """share of the frames' variance that a straight, steady walk in time explains, 0..1"""
    spread: float
    """root-mean-square distance of the frames from their mean, in the features' unit"""


def linear_trend(x: Float[np.ndarray, "N D"]) -> Trend:
    """The linear trend that "Every Painting Awakened" sees in fig. 2, as a number: R² of the frames on their index.

    1 for frames on a straight line at a steady pace, about 1/(N-1) for frames without order, 0 for a clip that stands
    still. Raises `InputError` for fewer than three frames.
    """
    if x.ndim != 2 or len(x) < 3:
        raise InputError(f"expected the features of at least 3 frames as (N, D), got {x.shape}")
    centred = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    total = float((centred**2).sum())
    spread = float(np.sqrt(total / len(x)))
    t = np.arange(len(x)) - (len(x) - 1) / 2
    slope = t @ centred / (t @ t)
    explained = float((slope**2).sum() * (t @ t))
    # A still clip's features differ by rounding alone.
    still = spread <= 1e-6 * float(np.sqrt((x.astype(np.float64) ** 2).sum() / len(x)))
    return Trend(0.0 if still or total == 0 else explained / total, spread)


def tsne(
    groups: Mapping[str, Sequence[Float[np.ndarray, "N D"]]], out: Path, seed: int = 42
) -> dict[str, dict[str, float]]:
    """Fig. 2: every frame a point, every clip a cluster, a colour a group. Writes `out`; returns the mean trend by group.

    `trend` and `spread` are measured in the features themselves, `map_trend` in the plane, which bends what it maps.
    """
    plt, manifold = _matplotlib(), _sklearn()
    rows = np.concatenate([np.asarray(clip, np.float32) for clips in groups.values() for clip in clips])
    if len(rows) < 6:
        raise InputError(f"expected at least 6 frames in all, got {len(rows)}")
    perplexity = min(30.0, (len(rows) - 1) / 3)
    plane = manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)
    figure = plt.Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    numbers: dict[str, dict[str, float]] = {}
    at = 0
    for k, (label, clips) in enumerate(groups.items()):
        trends, maps = [], []
        for clip in clips:
            piece = plane[at : at + len(clip)]
            at += len(clip)
            axes.plot(*piece.T, "-", color=f"C{k}", alpha=0.35, linewidth=0.8)
            axes.scatter(*piece.T, s=12, color=f"C{k}")
            trends.append(linear_trend(np.asarray(clip)))
            maps.append(linear_trend(piece).trend)
        numbers[label] = {
            "clips": len(clips), "trend": float(np.mean([t.trend for t in trends])),
            "spread": float(np.mean([t.spread for t in trends])), "map_trend": float(np.mean(maps)),
        }  # fmt: skip
    axes.set(xticks=[], yticks=[], title="frame latents (t-SNE)")
    for k, (label, n) in enumerate(numbers.items()):
        axes.scatter([], [], s=12, color=f"C{k}", label=f"{label}: linear trend {n['trend']:.2f}")
    axes.legend()
    _save(figure, out)
    return numbers


def lambdas(weights: Path) -> list[tuple[str, float]]:
    """λ = tanh(α) + 1 of every cross attention that learns it, from the first layer to the last (DynamiCrafter, eq. 2).

    `weights`: .safetensors or a checkpoint; only the α are read. Raises `InputError` where none is learnt (512, 1024).
    """
    pattern = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)\..*attn2\.alpha$")
    order = {"input_blocks": 0, "middle_block": 1, "output_blocks": 2}
    found = [(m, float(v)) for name, v in _scalars(weights) if (m := pattern.search(name))]
    if not found:
        raise InputError(f"expected learnt λ (attn2.alpha) in {weights}, found none; DynamiCrafter 256 has them")
    found.sort(key=lambda pair: (order[pair[0][1]], int(pair[0][2]), pair[0][0]))
    return [(f"{m[1].split('_')[0]} {m[2]}", float(np.tanh(a) + 1)) for m, a in found]


def lambda_figure(values: Sequence[tuple[str, float]], out: Path) -> None:
    """DynamiCrafter, fig. 2 (left): λ over the layers."""
    figure = _matplotlib().Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(values) + 1), [v for _, v in values], "o-")
    axes.axhline(1, color="0.7", linewidth=0.8)
    axes.set(xlabel="cross-attention layer", ylabel="λ", xticks=range(1, len(values) + 1))
    _save(figure, out)


class Noise(NamedTuple):
    """What a denoiser believes at one level. `sigma`: noise over signal; `contour`: agreement with the result, 0..1."""

    step: int
    t: float
    sigma: float
    mean: float
    spread: float
    contour: float


def noise_profile(prior: VideoPrior, shot: Shot, rng: Generator) -> list[Noise]:
    """CLIA, fig. 3: mean and spread of ε̂ at every level of the solve, and how far the outlines are already the result's.

    The paper compares segmentations (SAM); here the outlines of the predicted clean clip, rendered, are held against the
    final ones (`contour_agreement`). Nothing is distilled.
    """
    from ..awaken import diffuse, white
    from ..priors.protocol import SolvesItself, StartsItself
    from ..render.render import render
    from ..solvers import SOLVERS

    levels = prior.levels(shot, shot.steps)
    x = prior.still([shot], rng)
    z = prior.start(x, levels[0], rng) if isinstance(prior, StartsItself) else diffuse(x, white(x, rng), levels[0])
    bound, seen = prior.bind([shot], rng), []

    def watching(z: Any, level: Any) -> Any:
        said = bound(z, level)
        seen.append((level, float(said.eps.float().mean()), float(said.eps.float().std()), said.x0.detach().cpu()))
        return said

    solve = prior.solve if isinstance(prior, SolvesItself) else SOLVERS[prior.card.solver]
    result = solve(watching, z, levels, rng)
    final = list(render(prior, result, shot))
    profile = []
    for i, (level, mean, spread, clean) in enumerate(seen):
        frames = list(render(prior, clean.to(result.device), shot))
        agreement = float(np.mean([contour_agreement(a, b) for a, b in zip(frames, final, strict=True)]))
        sigma = level.s / level.a if level.a > 0 else float("inf")
        profile.append(Noise(i, float(level.t), sigma, mean, spread, agreement))
    return profile


def contour_agreement(a: UInt8[np.ndarray, "H W 3"], b: UInt8[np.ndarray, "H W 3"]) -> float:
    """F-measure of two frames' edges, a pixel of play allowed: 1 the same outlines, 0 none in common (1 where neither has any)."""
    first, second = _edges(a), _edges(b)
    if not first.any() and not second.any():
        return 1.0
    ring = np.ones((3, 3), np.uint8)
    hits = (first & cv2.dilate(second.astype(np.uint8), ring).astype(bool)).sum() / max(first.sum(), 1)
    found = (second & cv2.dilate(first.astype(np.uint8), ring).astype(bool)).sum() / max(second.sum(), 1)
    return float(2 * hits * found / (hits + found)) if hits + found else 0.0


def noise_figure(profile: Sequence[Noise], out: Path) -> None:
    """CLIA, fig. 3: ε̂ and contour agreement over the steps."""
    figure = _matplotlib().Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    steps = [n.step for n in profile]
    axes.plot(steps, [n.mean for n in profile], label="mean of ε̂")
    axes.plot(steps, [n.spread for n in profile], label="spread of ε̂")
    axes.plot(steps, [n.contour for n in profile], label="contours already there")
    axes.set(xlabel="step, from noise to clip")
    axes.legend()
    _save(figure, out)


def strip(clips: Mapping[str, Frames], out: Path, count: int = 5, height: int = 160) -> Path:
    """A contact strip: a row a clip, `count` frames from first to last, its name over it. PNG."""
    from ..render.export import save_picture

    rows = []
    for label, frames in clips.items():
        at = np.linspace(0, len(frames) - 1, count).round().astype(int)
        rows.append(_named(np.hstack([_high(frames[i], height) for i in at]), label))
    width = max(r.shape[1] for r in rows)
    return save_picture(np.vstack([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0))) for r in rows]), out)


def side_by_side(clips: Mapping[str, Frames], out: Path, fps: float = 8, height: int = 256) -> Path:
    """The clips beside each other as one video, each under its name; one that ends earlier holds its last frame."""
    from ..render.export import export

    def frames() -> Iterator[np.ndarray]:
        for i in range(max(len(c) for c in clips.values())):
            yield np.hstack([_named(_high(c[min(i, len(c) - 1)], height), label) for label, c in clips.items()])

    if not clips or not all(len(c) for c in clips.values()):
        raise InputError("expected clips with frames to put side by side, got none")
    return export(frames(), out, fps)


def _high(frame: np.ndarray, height: int) -> np.ndarray:
    width = max(2, 2 * round(frame.shape[1] * height / frame.shape[0] / 2))
    way = cv2.INTER_AREA if frame.shape[0] > height else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=way))


def _named(picture: np.ndarray, label: str) -> np.ndarray:
    bar = Image.new("RGB", (picture.shape[1], BAR), "black")
    ImageDraw.Draw(bar).text((4, 3), label, fill="white", font=ImageFont.load_default(14))
    return np.vstack([np.asarray(bar), picture])


def _edges(frame: np.ndarray) -> np.ndarray:
    grey = cv2.GaussianBlur(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    return np.asarray(cv2.Canny(grey, 40, 100)) > 0


def _scalars(path: Path) -> Iterator[tuple[str, Any]]:
    """The α of a file, no other tensor loaded."""
    if not path.is_file():
        raise InputError(f"expected weights at {path}, found no such file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                yield from ((name, file.get_tensor(name)) for name in file.keys() if name.endswith(".alpha"))
        except SafetensorError as error:
            raise InputError(f"expected safetensors in {path}: {error}") from error
        return
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"expected a checkpoint at {path}, it cannot be read: {str(error).splitlines()[0]}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    yield from ((name, value) for name, value in state.items() if name.endswith(".alpha"))


def _save(figure: Any, out: Path) -> None:
    if not out.parent.is_dir():
        raise OutputError(f"expected a folder at {out.parent}, there is none; make it first")
    try:
        figure.savefig(out, dpi=150)
    except (OSError, ValueError) as error:
        raise OutputError(f"could not write {out}: {str(error).splitlines()[0]}") from error


def _matplotlib() -> Any:
    try:
        import matplotlib.figure
    except ImportError as error:
        raise DependencyError(
            "expected matplotlib for figures, it is not here; pip install 'vivant[figures]'"
        ) from error
    return matplotlib.figure


def _sklearn() -> Any:
    try:
        import sklearn.manifold
    except ImportError as error:
        raise DependencyError(
            "expected scikit-learn for t-SNE, it is not here; pip install 'vivant[figures]'"
        ) from error
    return sklearn.manifold
