"""How far what is told to move goes at least: a hesitant dream is carried to the pace the words ask for."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ...data.captions import KINDS, SUBJECTS

LEAST: dict[str, float] = {"drift": 0.055, "ripple": 0.016, "sway": 0.014, "swirl": 0.035}
"""Lower quartile of the scenes' motion at strength 0.5 and speed 1: root-mean-square displacement over a subject and the
clip, in fractions of the sides. Distant things drift less."""
FAR: dict[str, float] = {"figure": 0.019, "bird": 0.011, "sun": 0.048, "boat": 0.035}
SLOWEST = 0.5
"""what is told to move gently is still seen to move"""
MOST = 3.0
"""the largest factor: what hardly moves at all was meant to stand still, or is not in the picture"""


def carried(
    field: Float[Tensor, "L 3 h w"], where: Float[Tensor, "K h w"], told: Float[Tensor, "K 10"]
) -> Float[Tensor, "L 3 h w"]:
    """The field with every named subject moving at least at its usual pace.

    `field`: displacement in fractions of the sides, and light, at strength 0.5; `where`: chance of each subject (0..1), 0
    where nothing may move; `told`: what each is told. Only displacement is scaled, never down, at most `MOST` times.
    """
    factor = torch.ones_like(where[0])
    length = field[:, :2].square().sum(1).mean(0)
    for k in torch.nonzero(told[:, 0] > 0.5).flatten().tolist():
        kind = KINDS[int(told[k, 5:].argmax())]
        weight = where[k]
        total = float(weight.sum())
        if kind not in LEAST or total < 1:
            continue
        usual = FAR.get(SUBJECTS[k], LEAST[kind]) if kind == "drift" else LEAST[kind]
        here = float((weight * length).sum() / total) ** 0.5
        if here > 1e-6:
            factor = factor + weight * (min(max(usual * max(float(told[k, 4]), SLOWEST) / here, 1.0), MOST) - 1)
    return torch.cat([field[:, :2] * factor, field[:, 2:]], 1)
