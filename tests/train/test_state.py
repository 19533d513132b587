"""States on disk: whole or not there; the moving average in closed form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vivant.errors import OutputError, WeightsError
from vivant.train.logs import Log
from vivant.train.state import Average, differing, fingerprint, prune, read_run, states, whole


def test_a_folder_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with whole(target) as folder:
        (folder / "a").write_text("one")
        assert not target.exists()
    with pytest.raises(RuntimeError), whole(target) as folder:
        (folder / "a").write_text("two")
        raise RuntimeError
    assert (target / "a").read_text() == "one"
    with whole(target) as folder:
        (folder / "b").write_text("three")
    assert sorted(p.name for p in target.iterdir()) == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected to write"), whole(tmp_path / "file" / "inner"):
        pass


def test_the_newest_states_stay(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        folder = tmp_path / "states" / f"step-{step:07d}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    (tmp_path / "states" / "step-0000200").mkdir()  # without its record it is no state
    assert [p.name for p in states(tmp_path)] == ["step-0000005", "step-0000010", "step-0000100"]
    prune(tmp_path, 2)
    assert [p.name for p in states(tmp_path)] == ["step-0000010", "step-0000100"]
    assert states(tmp_path / "nowhere") == []


def test_a_record_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    def written(text: str) -> Path:
        (tmp_path / "run.json").write_text(text)
        return tmp_path

    good = {"recipe": "toy", "trained": "abc", "step": 4}
    assert read_run(written(json.dumps(good)), "toy", "abc") == good
    with pytest.raises(WeightsError, match=r"state of other at .* one of toy"):
        read_run(written(json.dumps(good)), "other", "abc")
    with pytest.raises(WeightsError, match="same trained weights"):
        read_run(written(json.dumps(good)), "toy", "abd")
    for text in ("{", "[]", '{"recipe": "toy"}'):
        with pytest.raises(WeightsError, match="expected a training's state"):
            read_run(written(text), "toy", "abc")


def test_the_fingerprint_knows_names_and_shapes() -> None:
    a = {"x": torch.zeros(2, 3), "y": torch.zeros(4)}
    assert fingerprint(a) == fingerprint({"y": torch.ones(4), "x": torch.ones(2, 3)})
    assert (
        len({fingerprint(a), fingerprint({"x": torch.zeros(3, 2), "y": torch.zeros(4)}), fingerprint({"x": a["x"]})})
        == 3
    )


def test_differences_are_named() -> None:
    assert differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        "a.c: 2 before, 3 now", "d: None before, 4 now"
    ]  # fmt: skip


def test_the_average_is_the_closed_form(tmp_path: Path) -> None:
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    average, expected = Average(net, 0.5), 1.0
    for n, value in enumerate([2.0, 4.0, 8.0], 1):
        with torch.no_grad():
            net.weight.fill_(value)
        average.update()
        d = min(0.5, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * value
    assert float(average.kept["weight"]) == pytest.approx(expected, rel=1e-6)
    with average.applied():
        assert net.weight.item() == pytest.approx(expected, rel=1e-6)
    assert net.weight.item() == 8.0
    average.save(tmp_path)
    other = Average(net, 0.5)
    other.load(tmp_path)
    assert other.updates == 3
    assert torch.equal(other.kept["weight"], average.kept["weight"])
    with pytest.raises(WeightsError, match=r"loop\.average=0"):
        Average(nn.Linear(2, 2), 0.5).load(tmp_path)


def test_the_log_drops_what_a_kill_left_behind(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for step in (1, 2, 3):
        log(step, {"loss": step / 10})
    log(3, {"held_out_loss": 7.0})
    log = Log(tmp_path, since=2)
    log(3, {"loss": 0.9})
    rows = (tmp_path / "log.csv").read_text().split()
    assert rows[0] == "step,loss,held_out_loss"
    assert [r.split(",")[:2] for r in rows[1:]] == [["1", "0.1"], ["2", "0.2"], ["3", "0.9"]]
