"""The refinement T: what it is given, that it learns, that its file is held to what it should be, what shipping brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vivant.controls import refine
from vivant.controls.arrows import dense, sparse
from vivant.controls.arrows import field as unrefined
from vivant.errors import InputError, OutputError, SettingError, WeightsError
from vivant.shot import Arrow
from vivant.train.refine import errors, main

MOVE, PIN = Arrow(0.25, 0.5, 0.75, 0.5), Arrow(0.9, 0.1, 0.9, 0.1)
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_what_it_is_given() -> None:
    given, unit = refine.conditions(PICTURE, [MOVE, PIN])
    assert given.shape == (1, refine.GIVEN, 32, 32) and unit == pytest.approx(0.5)
    flow, points = given[0, refine.SEEN : refine.SEEN + 2], given[0, refine.SEEN + 4 : refine.SEEN + 8]
    np.testing.assert_allclose(flow.permute(1, 2, 0), dense(*sparse([MOVE, PIN], (32, 32)), (32, 32)) / 16, atol=1e-6)
    assert points[:, 16, 8].tolist() == [1, 0, 1, 0] and points[:, 3, 28].tolist() == [0, 0, 0, 1]
    assert int(points[2].sum()) == int(points[3].sum()) == 9
    flat = np.full((50, 70, 3), 255, np.uint8)
    assert (refine.conditions(flat, [MOVE])[0][0, :27] == 1).all()


def test_likeness_keeps_an_arrow_to_its_thing() -> None:
    where = np.zeros((2, 8, 8))
    where[0, :, :4] = where[1, :, 4:] = 1
    both = np.array([[1.5, 4.5], [6.5, 4.5]]), np.array([[2.0, 0.0], [0.0, -3.0]])
    flow = refine.likened(where, *both, reach=1e6)
    np.testing.assert_allclose(flow[:, :4], np.broadcast_to([2.0, 0.0], (8, 4, 2)), atol=1e-6)
    np.testing.assert_allclose(flow[:, 4:], np.broadcast_to([0.0, -3.0], (8, 4, 2)), atol=1e-6)
    alone = refine.likened(where, both[0][:1], both[1][:1], reach=0.5)
    x, y = np.meshgrid(np.arange(4) + 0.5, np.arange(8) + 0.5)
    weight = np.exp(-np.maximum((x - 1.5) ** 2 + (y - 4.5) ** 2, 0.01) / 16)
    np.testing.assert_allclose(alone[:, :4, 0], 2 * weight, rtol=1e-5)
    assert not alone[:, 4:].any()


def test_the_field_has_the_asked_size_in_its_own_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "TRUST", 1.0)

    class Same(refine.Refiner):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return given[:, refine.SEEN : refine.SEEN + 2]

    made = refine.refine([MOVE], (128, 128), PICTURE, Same())
    assert made.shape == (128, 128, 2)
    off = np.abs(made - unrefined([MOVE], (128, 128))).max(-1)
    assert np.median(off) < 0.2 and np.quantile(off, 0.95) < 2  # of a way of 64; interpolated from 32 cells


def test_arrows_are_kept_whatever_the_network_makes_of_them() -> None:
    class Deaf(refine.Refiner):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(given[:, :2])

    told = [Arrow(8.5 / 32, 0.5, 24.5 / 32, 0.5), Arrow(20.5 / 32, 3.5 / 32, 20.5 / 32, 3.5 / 32)]
    flow = refine.refine(told, (32, 32), PICTURE, Deaf())
    assert flow[16, 8] == pytest.approx([16, 0], abs=0.2)
    assert np.hypot(*flow[3, 20]) < 0.2


def test_plain_where_there_is_nothing_to_refine_by() -> None:
    np.testing.assert_array_equal(refine.field([MOVE], (40, 30)), unrefined([MOVE], (40, 30)))
    assert not refine.field([PIN], (40, 30), PICTURE).any()
    with pytest.raises(SettingError, match="opposite ways"):
        refine.field([MOVE, Arrow(0.25, 0.5, 0.0, 0.5)], (40, 30), PICTURE)


def test_trains_resumes_and_refuses(tmp_path: Path) -> None:
    report = main(tmp_path / "run", steps=1, batch=1, scenes=2)
    assert report["steps"] == 1 and {"dense", "refined", "rest", "refined_moving", "refined_still"} <= set(report)
    state = tmp_path / "run" / "state.pt"
    assert main(tmp_path / "run", steps=2, batch=1, resume=state, scenes=1)["steps"] == 2
    made = load_file(tmp_path / "run" / "refine.safetensors")
    assert (tmp_path / "run" / "refine.safetensors").stat().st_size < 1_000_000
    assert set(made) == set(refine.Refiner().state_dict()) and not list(tmp_path.rglob("*.part"))
    assert isinstance(refine.load(tmp_path / "run" / "refine.safetensors"), refine.Refiner)
    state.write_bytes(b"no")
    with pytest.raises(WeightsError, match="expected a training state"):
        main(tmp_path / "run", resume=state)
    with pytest.raises(WeightsError, match="found none"):
        refine.load(tmp_path / "none.safetensors")
    for wrong, message in (
        ({"steps": 0}, "above 0"), ({"rate": 0.0}, "learning rate"), ({"threads": 0}, "1 thread"), ({"seed": -1}, "seed"),
        ({"device": "tpu"}, "auto, cpu or cuda"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=message):
            main(tmp_path, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="found none; name a run's"):
        main(tmp_path, resume=tmp_path / "none.pt")
    with pytest.raises(OutputError, match="--out"):
        main(state)


@pytest.mark.skipif(not refine.FILE.is_file(), reason="no weights of the refinement are packaged")
def test_the_packaged_weights_are_nearer_to_true_motion() -> None:
    found = errors(refine.refiner(), 40, seed=3)
    assert found["refined"] < 0.85 * found["dense"]
    assert found["refined"] < 0.85 * found["rest"]
