"""The painting metrics on clips made bad by a known amount: what each says, against what it should say.

    python -m benchmarks.validation [OUT]

Writes docs/img/validation.png and prints the numbers. Each panel degrades a clip in one way, from not at all on the
left; a dashed line is the exact answer where there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.metrics import made

from vivant.metrics import functional as f

OUT = Path("docs/img/validation.png")


@dataclass(frozen=True)
class Panel:
    """One metric over one way of spoiling a clip."""

    title: str
    along: str
    amounts: Sequence[float]
    lines: dict[str, Callable[[float], float]]
    exact: Callable[[float], float] | None = None


def panels() -> list[Panel]:
    """All of them; every clip is made here and nowhere else."""
    picture = made.painting()
    moving = made.carried(picture, 6, 2.0)
    still = np.stack([picture] * 6)
    region = made.left_half()
    half = made.carried(picture, 6, 1.5, region=region)
    brush = f.brush_preservation

    def bled(share: float) -> np.ndarray:
        """The moving region reaches `share` of the picture; half of it was asked for."""
        return made.carried(picture, 5, 1.5, region=made.left_half(share))

    return [
        Panel("brush preservation", "strokes blurred (σ, pixels) or repainted (share)", [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3], {
            "blurred": lambda a: brush(made.blurred(moving, a)[1:], picture),
            "repainted": lambda a: brush(made.repainted(moving, a)[1:], picture) if a <= 1 else float("nan"),
        }),
        Panel("freeze error (8-bit steps)", "noise put into the frozen half (steps)", [0, 1, 2, 4, 8], {
            "worst": lambda a: f.freeze_error(made.noisy(half, round(a)), picture, region).max,
            "mean": lambda a: f.freeze_error(made.noisy(half, round(a)), picture, region).mean,
        }, lambda a: a),
        Panel("loop seam (× a step)", "share of the way back that is missing", [0, 0.25, 0.5, 0.75, 1], {
            "measured": lambda a: f.loop_seam(_returning(picture, a)),
        }),
        Panel("colour drift (ΔE)", "tint laid over the clip (ΔE)", [0, 1, 2, 4, 6, 8], {
            "tinted": lambda a: f.colour_drift(made.tinted(still, 0.6 * a, 0.8 * a), picture),
            "moved only": lambda a: f.colour_drift(np.stack([np.roll(picture, round(6 * a), 1)]), picture),
        }, lambda a: a),
        Panel("flicker (8-bit steps)", "light swinging by ± (steps)", [0, 1, 2, 4, 8, 12], {
            "standing": lambda a: f.flicker(made.swinging(still, round(a))),
            "moving": lambda a: f.flicker(made.swinging(moving, round(a))),
        }, lambda a: a),
        Panel("static score", "share of the picture that moves", [0, 0.2, 0.4, 0.6, 0.8, 1], {
            "measured": lambda a: f.static_score(bled(a)),
        }, lambda a: 1 - a),
        Panel("motion inside, mask precision", "share of the picture that moves (half was asked for)", [0.3, 0.5, 0.7, 0.85, 1], {
            "motion inside": lambda a: f.motion_inside(bled(a), region),
            "mask precision": lambda a: f.mask_precision(bled(a), region, 10),
        }, lambda a: min(1.0, 0.5 / a)),
        Panel("direction error (°)", "angle between motion and sentence (°)", [0, 30, 60, 90, 135, 180], {
            "measured": lambda a: f.direction_error(made.carried(picture, 4, 1.5, a, region), (1.0, 0.0), region),
        }, lambda a: a),
    ]  # fmt: skip


def _returning(picture: np.ndarray, missing: float) -> np.ndarray:
    """There and back again, the way back cut short."""
    loop = made.carried(picture, 12, 1.0, loop=True)
    return loop[: 12 - round(5 * missing)]


def main(out: Path) -> None:
    """Measure, print, draw."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = panels()
    figure, axes = plt.subplots(2, 4, figsize=(13.5, 6), layout="constrained")
    for panel, axis in zip(found, axes.flat, strict=True):
        print(f"{panel.title}: {panel.along}")
        print("    " + " ".join(f"{a:>8g}" for a in panel.amounts))
        for mark, (name, measure) in zip("os", panel.lines.items(), strict=False):
            values = [measure(a) for a in panel.amounts]
            print("    " + " ".join(f"{v:>8.3f}" for v in values) + f"  {name}")
            axis.plot(panel.amounts, values, marker=mark, markersize=4, linewidth=1.5, label=name)
        if panel.exact is not None:
            fine = np.linspace(min(panel.amounts), max(panel.amounts), 100)
            axis.plot(
                fine, [panel.exact(float(a)) for a in fine], "--", color="grey", linewidth=1, label="exact", zorder=0
            )
        axis.set_title(panel.title, fontsize=10)
        axis.set_xlabel(panel.along, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
        if len(panel.lines) > 1 or panel.exact is not None:
            axis.legend(fontsize=8, frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
