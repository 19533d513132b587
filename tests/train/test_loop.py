"""The loop: the same numbers as a loop by hand, after a kill, in small pieces, from a cache; and its refusals."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.train.toy import Toy, Vectors, loop
from vivant.errors import DependencyError, InputError, ModelError, SettingError, WeightsError
from vivant.train.engine import recompute
from vivant.train.feed import Cached, Feed, generator
from vivant.train.loop import train
from vivant.train.state import states

LAUNCH = (
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
)


def column(out: Path, name: str = "loss") -> list[str]:
    with (out / "log.csv").open() as file:
        return [row[name] for row in csv.DictReader(file) if row[name]]


def weights(out: Path, name: str = "last") -> dict[str, Tensor]:
    return load_file(out / name / "toy.safetensors")


class Killed(Toy):
    """Interrupted in the middle of its n-th loss."""

    def __init__(self, after: int) -> None:
        super().__init__(dropout=0.2)
        self.after = after

    def loss(
        self, net: nn.Module, batch: dict[str, Tensor], rngs: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:  # fmt: skip
        if len(self.seen) == self.after:
            raise KeyboardInterrupt
        return super().loss(net, batch, rngs)


def test_is_a_plain_loop_of_adamw(tmp_path: Path) -> None:
    train(Toy(), Vectors(), None, loop(steps=5, warmup=2, decay="cosine", weight_decay=0.1, clip=0.05), tmp_path)
    toy = Toy()
    learns = [p for name, p in toy.net.named_parameters() if toy.trains(name)]
    optimiser = torch.optim.AdamW(learns, lr=1.0, betas=(0.9, 0.999), weight_decay=0.1)
    feed, expected = iter(Feed(Vectors(), 4, 0)), []
    for step in range(5):
        x = torch.stack([e["frames"] for e in next(feed)])
        value = toy.loss(toy.net, {"x": x}, [generator(0, step, 0, i) for i in range(4)])["loss"].mean()
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(learns, 0.05)
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * min(1, (step + 1) / 2) * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / 5)))
        optimiser.step()
        expected.append(value.item())
    assert [float(v) for v in column(tmp_path)] == pytest.approx(expected, rel=1e-5)
    after = weights(tmp_path)
    for name, value in toy.net.state_dict().items():
        assert torch.allclose(after[name], value, atol=1e-6)
    assert torch.equal(after["0.weight"], Toy().net.state_dict()["0.weight"])
    assert not torch.equal(after["3.weight"], Toy().net.state_dict()["3.weight"])


@pytest.mark.parametrize("killed", [3, 9, 13, 21])  # before the first state, in the steps after it, and near the end
def test_goes_on_bit_for_bit_after_a_kill(tmp_path: Path, killed: int) -> None:
    settings = loop(average=0.9, micro=2, evaluate_every=2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(Toy(dropout=0.2), Vectors(), Vectors(2), settings, whole)
    with pytest.raises(KeyboardInterrupt):
        train(Killed(after=killed), Vectors(), Vectors(2), settings, cut)
    torch.manual_seed(99)  # what else happened in the process does not matter
    train(Toy(dropout=0.2), Vectors(), Vectors(2), settings, cut, resume=True)
    assert len(column(whole)) == 8
    for name in ("loss", "far", "held_out_loss"):
        assert column(cut, name) == column(whole, name)
    for folder in ("last", "best"):
        assert all(torch.equal(v, weights(whole, folder)[k]) for k, v in weights(cut, folder).items())


def test_a_process_that_is_killed_outright_goes_on(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib, tests.train.toy as t\nfrom vivant.train.loop import train\n"
        "train(t.Toy(0.2), t.Vectors(), None, t.loop(steps=4000), pathlib.Path(sys.argv[1]), say=lambda l: print(l, flush=True))"
    )
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "cut")], stdout=subprocess.PIPE, text=True, cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("step 7/"):
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    torch.manual_seed(1)
    done = len(column(tmp_path / "cut"))
    report = train(Toy(0.2), Vectors(), None, loop(steps=done + 3), tmp_path / "cut", resume=True)
    assert report.steps == done + 3
    train(Toy(0.2), Vectors(), None, loop(steps=done + 3), tmp_path / "whole")
    assert column(tmp_path / "cut") == column(tmp_path / "whole")


def test_half_written_states_are_passed_over(tmp_path: Path) -> None:
    train(Toy(), Vectors(), None, loop(steps=3), tmp_path)
    (tmp_path / "states" / ".step-0000006.part").mkdir()
    (tmp_path / "states" / "step-0000009").mkdir()
    train(Toy(), Vectors(), None, loop(steps=5), tmp_path, resume=True)
    assert len(column(tmp_path)) == 5
    assert not (tmp_path / "states" / ".step-0000006.part").exists()


@pytest.mark.parametrize("micro", [1, 2, 3])
def test_the_batch_is_the_same_in_any_pieces(tmp_path: Path, micro: int) -> None:
    train(Toy(), Vectors(), None, loop(), tmp_path / "whole")
    train(Toy(), Vectors(), None, loop(micro=micro), tmp_path / "pieces")
    whole, pieces = ([float(v) for v in column(tmp_path / n)] for n in ("whole", "pieces"))
    assert pieces == pytest.approx(whole, rel=1e-5)


def test_short_of_memory_it_takes_fewer_clips_at_a_time(tmp_path: Path) -> None:
    toy = Toy(room=2)
    report = train(toy, Vectors(), None, loop(batch=8), tmp_path / "short")
    train(Toy(), Vectors(), None, loop(batch=8), tmp_path / "ample")
    assert toy.seen[:6] == [8, 4, 2, 2, 2, 2]
    assert max(toy.seen[2:]) == 2
    assert report.micro == 2
    assert "the batch stays 8" in report.notes[0]
    short, ample = ([float(v) for v in column(tmp_path / n)] for n in ("short", "ample"))
    assert short == pytest.approx(ample, rel=1e-5)


def test_memory_that_holds_no_single_clip_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1 clips at a time"):
        train(Toy(room=0), Vectors(), None, loop(), tmp_path)


def test_a_loss_that_is_not_finite_stops_it_and_names_the_clip(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"step 1, in the batch of clip-4;.* not written yet"):
        train(Toy(), Vectors(4 + 1, bad=4), None, loop(batch=5), tmp_path / "a")
    train(Toy(), Vectors(8), None, loop(steps=3), tmp_path / "b")
    before = (tmp_path / "b" / "states" / "step-0000003" / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match=r"clip-5;.*step-0000003"):
        train(Toy(), Vectors(8, bad=5), None, loop(), tmp_path / "b", resume=True)
    assert (tmp_path / "b" / "states" / "step-0000003" / "model.safetensors").read_bytes() == before


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    # A rate at which it first learns and then is shaken apart.
    settings = loop(steps=12, rate=0.6, evaluate_every=1, best="far", save_every=100)
    report = train(Toy(), Vectors(), Vectors(3), settings, tmp_path)
    found = [float(v) for v in column(tmp_path, "held_out_far")]
    assert report.best["held_out_far"] == pytest.approx(min(found), rel=1e-6)
    assert int(report.best["step"]) == found.index(min(found)) + 1
    assert min(found) < found[-1]
    assert not torch.equal(weights(tmp_path, "best")["3.weight"], weights(tmp_path)["3.weight"])
    with pytest.raises(SettingError, match=r"loop\.best among loss, far"):
        train(Toy(), Vectors(), Vectors(3), loop(steps=1, best="near"), tmp_path / "other")


def test_states_of_other_runs_are_refused(tmp_path: Path) -> None:
    train(Toy(), Vectors(), None, loop(steps=2), tmp_path)
    with pytest.raises(SettingError, match="--resume"):
        train(Toy(), Vectors(), None, loop(), tmp_path)
    other = Toy()
    other.name = "another"
    with pytest.raises(WeightsError, match=r"state of another .* one of toy"):
        train(other, Vectors(), None, loop(), tmp_path, resume=True)
    less = Toy()
    less.trains = lambda name: name.startswith("3.")  # type: ignore[method-assign]
    with pytest.raises(WeightsError, match="same trained weights"):
        train(less, Vectors(), None, loop(), tmp_path, resume=True)
    with pytest.raises(WeightsError, match=r"average\.safetensors"):
        train(Toy(), Vectors(), None, loop(average=0.9), tmp_path, resume=True)


def test_other_settings_than_it_began_with_are_told(tmp_path: Path) -> None:
    train(Toy(), Vectors(), None, loop(steps=2), tmp_path, record={"data": {"workers": 0, "frames": 4}})
    record = {"data": {"workers": 2, "frames": 6}}
    report = train(Toy(), Vectors(), None, loop(steps=3, rate=1e-3), tmp_path, resume=True, record=record)
    assert report.notes == ["data.frames: 4 before, 6 now", "loop.rate: 0.01 before, 0.001 now"]


def test_nothing_to_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        train(Toy(), Vectors(0), None, loop(), tmp_path / "a")
    frozen = Toy()
    frozen.trains = lambda name: False  # type: ignore[method-assign]
    with pytest.raises(SettingError, match="weights to train"):
        train(frozen, Vectors(), None, loop(), tmp_path / "b")


def test_sheets_and_states_are_as_many_as_asked_for(tmp_path: Path) -> None:
    train(Toy(), Vectors(), Vectors(1), loop(save_every=2, keep=2, sheet_every=4), tmp_path)
    assert sorted(p.name for p in (tmp_path / "states").iterdir()) == ["step-0000006", "step-0000008"]
    assert sorted(p.name for p in (tmp_path / "sheets").iterdir()) == ["step-0000004.png", "step-0000008.png"]


def test_time_ends_it_after_a_whole_step(tmp_path: Path) -> None:
    report = train(Toy(), Vectors(), None, loop(steps=10**6, minutes=0.002, log_every=50), tmp_path)
    assert 0 < report.steps < 10**6
    assert (tmp_path / "states" / f"step-{report.steps:07d}").is_dir()
    assert 0 <= report.waiting <= 1


def test_recomputed_activations_change_no_gradient_and_keep_less() -> None:
    def run(again: bool) -> tuple[list[Tensor], int]:
        toy = Toy()
        toy.net.train()
        kept: list[int] = []
        if again:
            assert recompute(toy.net, toy.units) == 1
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):  # type: ignore[func-returns-value]
            value = toy.net(torch.ones(64, 6)).square().mean()
        value.backward()
        return [p.grad for p in toy.net.parameters() if p.grad is not None], sum(kept)

    plain, much = run(False)
    again, little = run(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert little < 0.8 * much


def test_a_cache_stands_in_for_the_clips(tmp_path: Path) -> None:
    clips = Vectors()
    store = Cached(clips, tmp_path / "cache", "toy", Toy().encode)
    assert store.make() == 9
    path = store.path(0, 4)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="whole; run again"):
        store[0, 4]
    assert store.make() == 1
    clips.__class__ = Stale  # nothing asks the clips from here on
    train(Toy(), store, None, loop(), tmp_path / "cached")
    same = Same()
    train(Toy(), same, None, loop(), tmp_path / "direct")
    assert column(tmp_path / "cached") == column(tmp_path / "direct")


class Stale(Vectors):
    def __getitem__(self, index: tuple[int, int]) -> dict[str, object]:
        raise AssertionError("the cache was passed by")


class Same(Vectors):
    """Every epoch like the first, as one draw in a cache is."""

    def __getitem__(self, index: tuple[int, int]) -> dict[str, object]:
        return super().__getitem__((0, index[1]))


def test_each_clip_comes_once_an_epoch_and_from_any_step_on() -> None:
    feed = iter(Feed(Vectors(8), 4, 0))
    steps = [[e["key"] for e in next(feed)] for _ in range(4)]
    assert sorted(steps[0] + steps[1]) == sorted(steps[2] + steps[3]) == [f"clip-{i}" for i in range(8)]
    assert steps[:2] != steps[2:]
    later = iter(Feed(Vectors(8), 4, 0, start=3))
    assert [e["key"] for e in next(later)] == steps[3]
    halves = [iter(Feed(Vectors(8), 4, 0, rank=r, world=2)) for r in (0, 1)]
    both = [e["key"] for _ in range(2) for half in halves for e in next(half)]
    assert sorted(both) == [f"clip-{i}" for i in range(8)]
    for step, keys in enumerate(steps):  # whatever the number of processes, a step is the same clips in the same places
        parts = [iter(Feed(Vectors(8), 4, 0, start=step, rank=r, world=2)) for r in (0, 1)]
        assert [e["key"] for part in parts for e in next(part)] == keys
    with pytest.raises(SettingError, match="3 processes share evenly"):
        Feed(Vectors(8), 4, 0, world=3)


def test_tensorboard_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is not here")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Toy(), Vectors(), None, loop(steps=3, tensorboard=True), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([float(v) for v in column(tmp_path)])


def test_half_precision_goes_on_too(tmp_path: Path) -> None:
    settings = loop(precision="bf16", checkpointing=True, average=0.9, save_every=4)
    train(Toy(), Vectors(), None, settings, tmp_path / "whole")
    train(Toy(), Vectors(), None, loop(precision="bf16", checkpointing=True, average=0.9, steps=4), tmp_path / "cut")
    train(Toy(), Vectors(), None, settings, tmp_path / "cut", resume=True)
    assert column(tmp_path / "cut") == column(tmp_path / "whole")
    train(Toy(), Vectors(), None, loop(), tmp_path / "full")
    assert column(tmp_path / "full") != column(tmp_path / "whole")


def test_eight_bits_need_their_package(tmp_path: Path) -> None:
    try:
        import bitsandbytes  # noqa: F401
    except Exception:
        with pytest.raises(DependencyError, match="bitsandbytes"):
            train(Toy(), Vectors(), None, loop(optimiser="adamw8bit"), tmp_path)
        return
    pytest.skip("bitsandbytes is here")


def test_a_state_that_breaks_at_once_is_no_good_state(tmp_path: Path) -> None:
    """Written after the step that broke the weights: the one before it is what a run goes on from."""
    settings = {"save_every": 1, "keep": 1, "clip": 1e30, "weight_decay": 0.0}
    train(Toy(), Vectors(), None, loop(steps=2, **settings), tmp_path)
    with pytest.raises(ModelError, match=r"step 4, .* last good state is .*step-0000002"):
        train(Toy(), Vectors(), None, loop(rate=1e30, **settings), tmp_path, resume=True)
    assert [p.name for p in states(tmp_path)] == ["step-0000002"]
    train(Toy(), Vectors(), None, loop(steps=3, **settings), tmp_path, resume=True)
    assert len(column(tmp_path)) == 3


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """--multi_gpu is accelerate's word for several processes; with --cpu it would start one. Gloo joins these."""
    script = tmp_path / "two.py"
    script.write_text(
        "import pathlib, tests.train.toy as t\nfrom vivant.train.loop import train\n"
        f"train(t.Toy(), t.Vectors(9), t.Vectors(2), t.loop(average=0.9), pathlib.Path({str(tmp_path / 'two')!r}))\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, str(script)],
        check=True, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}, timeout=600,
    )  # fmt: skip
    assert json.loads((tmp_path / "two" / "states" / "step-0000008" / "run.json").read_text())["processes"] == 2
    train(Toy(), Vectors(9), Vectors(2), loop(average=0.9), tmp_path / "one")
    for name in ("loss", "held_out_loss"):
        one, two = ([float(v) for v in column(tmp_path / n, name)] for n in ("one", "two"))
        assert two == pytest.approx(one, rel=1e-5)
