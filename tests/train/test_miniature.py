"""The recipe really learns, writes whole files, and resumes exactly."""

import csv

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vivant.errors import SettingError, WeightsError
from vivant.train.miniature import main


def test_trains_resumes_and_logs(tmp_path):
    out = main(steps=2, out=str(tmp_path / "run"), batch=2, threads=1, workers=0)
    assert out.is_file() and (tmp_path / "run" / "samples.png").is_file()
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["step"] == 2
    again = main(
        steps=3, out=str(tmp_path / "run"), resume=str(tmp_path / "run" / "state.pt"), batch=2, threads=1, workers=0
    )
    with safe_open(str(again), "pt") as file:
        assert file.metadata()["step"] == "3"
        assert any(k.startswith("motion.") for k in file.keys())
    warm = main(steps=1, out=str(tmp_path / "warm"), resume=str(again), batch=2, threads=1, workers=0)
    assert warm.is_file() and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("only", "other"), [("reader", "motion"), ("motion", "reader")])
def test_one_network_learns_alone(tmp_path, only, other):
    quick = {"batch": 2, "threads": 1, "workers": 0}
    before = load_file(main(steps=2, out=str(tmp_path / "run"), **quick))
    state = tmp_path / "run" / "state.pt"
    raw = torch.load(state, weights_only=True)["params"]
    after = load_file(main(steps=4, out=str(tmp_path / "run"), resume=str(state), only=only, **quick))
    assert all(torch.equal(after[k], v) for k, v in before.items() if k.startswith(f"{other}."))
    assert any(not torch.equal(after[k], v) for k, v in before.items() if k.startswith(f"{only}."))
    same = [torch.equal(a, b) for a, b in zip(raw, torch.load(state, weights_only=True)["params"], strict=True)]
    readers = sum(k.startswith("reader.") for k in before)
    assert all(same[readers:] if only == "reader" else same[:readers]) and not all(same)
    with pytest.raises(SettingError, match="reader or motion"):
        main(steps=1, out=str(tmp_path / "run"), only="text")


@pytest.mark.slow
def test_the_loss_falls(tmp_path):
    main(steps=300, out=str(tmp_path / "run"), batch=8, threads=2)
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["motion"]) < 0.7 * float(rows[0]["motion"])


def test_bad_settings(tmp_path):
    with pytest.raises(SettingError, match="at least one step"):
        main(steps=0, out=str(tmp_path))
    (tmp_path / "bad.pt").write_bytes(b"no")
    with pytest.raises(WeightsError):
        main(steps=1, out=str(tmp_path / "x"), resume=str(tmp_path / "bad.pt"), threads=1, workers=0)
