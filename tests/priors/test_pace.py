"""A hesitant dream is carried to the pace of the words; a lively one is left alone."""

import pytest
import torch

from vivant.data.captions import KINDS, SUBJECTS
from vivant.priors.miniature.pace import LEAST, MOST, SLOWEST, carried

SKY = SUBJECTS.index("sky")


def told(kind: str = "drift", speed: float = 1.0) -> torch.Tensor:
    out = torch.zeros(len(SUBJECTS), 10)
    out[SKY, 0], out[SKY, 4], out[SKY, 5 + KINDS.index(kind)] = 1, speed, 1
    return out


def place() -> torch.Tensor:
    where = torch.zeros(len(SUBJECTS), 32, 32)
    where[SKY, :16] = 1
    return where


def field(length: float) -> torch.Tensor:
    """Everything goes the same way (3, 4)/5 · length, and brightens by 0.1."""
    out = torch.full((8, 3, 32, 32), 0.1)
    out[:, 0], out[:, 1] = 0.6 * length, 0.8 * length
    return out


@pytest.mark.parametrize("speed", [0.33, 1.0])
@pytest.mark.parametrize("kind", ["drift", "sway"])
def test_slow_motion_reaches_the_pace_of_its_kind_where_it_was_named(kind: str, speed: float) -> None:
    wanted = LEAST[kind] * max(speed, SLOWEST)
    out = carried(field(wanted / 2), place(), told(kind, speed))
    length = out[:, :2].norm(dim=1)
    torch.testing.assert_close(length[:, :16], torch.full_like(length[:, :16], wanted))
    torch.testing.assert_close(length[:, 16:], torch.full_like(length[:, 16:], wanted / 2))
    assert (out[:, 0] / out[:, 1]).allclose(torch.tensor(0.75)), "the direction changed"
    assert (out[:, 2] == 0.1).all(), "light was scaled"


def test_quick_motion_and_unnamed_places_stay_as_they_are() -> None:
    assert torch.equal(carried(field(0.2), place(), told()), field(0.2))
    assert torch.equal(carried(field(0.001), place(), torch.zeros(len(SUBJECTS), 10)), field(0.001))


def test_the_factor_has_a_limit() -> None:
    out = carried(field(1e-4), place(), told())
    assert out[:, 0, :16].max().item() == pytest.approx(0.6e-4 * MOST)
    assert torch.equal(carried(field(0.0), place(), told())[:, :2], field(0.0)[:, :2])


def test_light_flickers_at_its_own_pace() -> None:
    assert torch.equal(carried(field(0.001), place(), told("flicker")), field(0.001))
