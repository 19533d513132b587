"""The loop all recipes share: on one GPU, several, or several machines, as `accelerate launch` has it.

A step is a function of (seed, step): which clips, which start, which noise. So a run that was killed at any moment and
goes on from its last state has the losses it would have had, and a batch may be cut as small as the memory asks.
"""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..errors import ModelError, SettingError
from .config import Loop, as_plain
from .engine import Encoded, Recipe, Report, accelerator_of, only_trained, optimiser_of, ran_out, recompute, seeded
from .feed import Clips, Example, Feed, generator
from .keeper import Keeper
from .logs import Log, Silent
from .state import Average, belongs, fingerprint, prune, states, step_of

EVALUATION = 2_000_000_011


def train(
    recipe: Recipe, clips: Clips, held_out: Clips | None, settings: Loop, out: Path, resume: bool = False,
    record: Mapping[str, Any] | None = None, workers: int = 0, say: Callable[[str], None] = lambda line: None,
) -> Report:  # fmt: skip
    """Train `recipe` on `clips`; writes `out`/log.csv, states/, best/, last/ and sheets/.

    `resume`: go on from the newest state of `out`. `record`: the whole configuration, kept in each state.
    Raises `ModelError` where a loss is not finite (the states stay), `WeightsError` for a state of another recipe.
    """
    run = _Run(recipe, settings, out, record or {}, say)
    run.begin(resume)
    try:
        return run.go(clips, held_out, workers)
    finally:
        run.log.close()


class _Run:
    """One training while it lasts."""

    def __init__(
        self, recipe: Recipe, settings: Loop, out: Path, record: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        self.recipe, self.settings, self.out, self.say = recipe, settings, out, say
        # By way of JSON, so that it compares equal to what a state holds.
        plain: dict[str, Any] = json.loads(json.dumps({**record, "loop": as_plain(settings)}))
        if settings.threads and settings.device == "cpu":
            torch.set_num_threads(settings.threads)
        self.accelerator = accelerator_of(settings)
        world = self.accelerator.num_processes
        if settings.batch % world:
            raise SettingError(f"expected a batch that {world} processes share evenly, got {settings.batch}")
        self.share = settings.batch // world
        self.micro = min(settings.micro or self.share, self.share)
        trained = {n: p for n, p in recipe.net.named_parameters() if p.requires_grad_(recipe.trains(n)).requires_grad}
        if not trained:
            raise SettingError("expected weights to train, the pattern chooses none; look at model.trained")
        if settings.checkpointing:
            recompute(recipe.net, recipe.units)
        sharded = "MULTI" not in self.accelerator.distributed_type and self.accelerator.distributed_type != "NO"
        if settings.average and sharded:
            raise SettingError(
                "expected no average (EMA) where processes share out the weights, which none holds whole; set loop.average=0"
            )
        net, optimiser = self.accelerator.prepare(recipe.net, optimiser_of(list(trained.values()), settings))
        self.net: nn.Module = net
        self.optimiser: Any = optimiser
        self.average = Average(self.accelerator.unwrap_model(net), settings.average)
        self.accelerator.register_save_state_pre_hook(only_trained)
        self.keeper = Keeper(recipe, self.accelerator, self.net, self.average, out, plain, fingerprint(trained))
        self.step, self.best, self.notes, self.unproven = 0, dict[str, float](), list[str](), False
        self.log: Log = Silent()

    @property
    def main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def begin(self, resume: bool) -> None:
        """The newest state, or a folder of one's own."""
        found = belongs(self.out, self.recipe.name, resume)
        if resume and not found:
            self.say(f"no whole state in {self.out} yet: it begins at the first step")
        if self.main:
            self.out.mkdir(parents=True, exist_ok=True)
        self.accelerator.wait_for_everyone()
        if found:
            run, differing = self.keeper.load(found[-1])
            self.step, self.best, self.notes = int(run["step"]), dict(run.get("best") or {}), differing
            self.unproven = True
            for line in differing:
                self.say(f"not the run it was, so its losses will differ: {line}")
        if self.main:
            prune(self.out, self.settings.keep)
            self.log = Log(self.out, self.settings.tensorboard, self.step)

    def go(self, clips: Clips, held_out: Clips | None, workers: int) -> Report:
        """Steps to the end."""
        s, accelerator = self.settings, self.accelerator
        feed = Feed(clips, s.batch, s.seed, self.step, workers, accelerator.process_index, accelerator.num_processes)
        stream, begun, waited, sums = iter(feed), time.perf_counter(), 0.0, dict[str, float]()
        first, since, ticked, wait_ticked = self.step, self.step, begun, 0.0
        self.net.train()
        while self.step < s.steps and not self._late(begun):
            start = time.perf_counter()
            examples = next(stream)
            waited += time.perf_counter() - start
            for name, value in self._step(examples).items():
                sums[name] = sums.get(name, 0.0) + value
            self.step += 1
            self._prune()  # with the last state's weights the losses were finite: older ones may go
            if self.step % s.log_every == 0 or self.step == s.steps:
                now, count = time.perf_counter(), self.step - since
                row = {name: value / count for name, value in sums.items()}
                row |= {
                    "rate": self._rate(self.step - 1), "clips_per_second": count * s.batch / max(now - ticked, 1e-9),
                    "waiting": (waited - wait_ticked) / max(now - ticked, 1e-9), "micro": float(self.micro),
                }  # fmt: skip
                self.log(self.step, row)
                self.say(f"step {self.step}/{s.steps} loss {row['loss']:.5f}, {row['clips_per_second']:.2f} clips/s")
                since, ticked, wait_ticked, sums = self.step, now, waited, {}
            if s.sheet_every and held_out is not None and self.step % s.sheet_every == 0:
                self._sheet(held_out)
            if s.evaluate_every and held_out is not None and self.step % s.evaluate_every == 0:
                self._judge(held_out)
            if self.step % s.save_every == 0:
                self._save()
        if not (self.out / "states" / f"step-{self.step:07d}").is_dir():
            self._save()
        self._prune()
        seconds = time.perf_counter() - begun
        metrics = self._judge(held_out) if held_out is not None else {}
        self.keeper.export("last", self._said())
        done = self.step - first
        return Report(
            self.step, seconds, done * s.batch / max(seconds, 1e-9), waited / max(seconds, 1e-9), self.micro, metrics,
            self.best, str(self.out / "last"), [*self.notes, *clips.broken],
        )  # fmt: skip

    # One step

    def _step(self, examples: list[Example]) -> dict[str, float]:
        """Losses of one step, whose weights have then moved. A batch that memory has no room for is cut smaller."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.step)
        while True:
            try:
                parts = self._backward(examples)
                break
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
                if self.micro == 1 or self.accelerator.num_processes > 1:
                    raise ModelError(
                        f"expected {self.micro} clips at a time to fit in memory, they do not; set loop.micro smaller, "
                        "loop.checkpointing=true, or data.size or data.frames smaller"
                    ) from None
            # Out here the error, and with it what it held in memory, is gone.
            self.micro = (self.micro + 1) // 2
            self.optimiser.zero_grad(set_to_none=True)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            note = f"step {self.step + 1}: memory is short, {self.micro} clips at a time from here on; the batch stays {self.settings.batch}"
            self.notes.append(note)
            self.say(note)
        each = {name: self.accelerator.gather(value) for name, value in parts.items()}
        if not all(bool(torch.isfinite(value).all()) for value in each.values()):
            self._refuse(examples, parts)
        norm = self.accelerator.clip_grad_norm_(self._weights(), self.settings.clip)
        # With fp16 the scaler meets infinite gradients by design, and leaves the step out.
        if norm is not None and self.settings.precision != "fp16" and not bool(torch.isfinite(torch.as_tensor(norm))):
            self._refuse(examples, parts, "gradients")
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update()
        return {name: float(value.double().mean()) for name, value in each.items()}

    def _backward(self, examples: list[Example]) -> dict[str, Tensor]:
        """(share,) numbers of the step's clips by name; their gradients are in the weights."""
        rank, found = self.accelerator.process_index, dict[str, list[Tensor]]()
        before = rank * self.share  # a clip draws by its place in the whole batch, whichever process has it
        places = list(range(0, len(examples), self.micro))
        for first in places:
            piece = examples[first : first + self.micro]
            rngs = [generator(self.settings.seed, self.step, 0, before + first + i) for i in range(len(piece))]
            batch = self._encoded(piece, rngs)
            with nullcontext() if first == places[-1] else self.accelerator.no_sync(self.net):
                with self.accelerator.autocast(), seeded(self.settings.seed, self.step, rank, first):
                    parts = self.recipe.loss(self.net, batch, rngs)
                self.accelerator.backward(parts["loss"].sum() / len(examples))
            for name, value in parts.items():
                found.setdefault(name, []).append(value.detach().float())
        return {name: torch.cat(values) for name, values in found.items()}

    def _encoded(self, examples: list[Example], rngs: Sequence[Generator]) -> Encoded:
        with torch.no_grad():
            rows = [
                e["encoded"] if "encoded" in e else self.recipe.encode(e, rng)
                for e, rng in zip(examples, rngs, strict=True)
            ]
        device = self.accelerator.device
        return {name: torch.stack([row[name].to(device, non_blocking=True) for row in rows]) for name in rows[0]}

    def _refuse(self, examples: list[Example], parts: Mapping[str, Tensor], what: str = "losses") -> None:
        bad = torch.zeros(len(examples), dtype=torch.bool)
        for value in parts.values():
            bad |= ~torch.isfinite(value.cpu())
        keys = [e["key"] for e, wrong in zip(examples, bad.tolist(), strict=True) if wrong or not bool(bad.any())]
        found = states(self.out)
        if self.unproven and bool(bad.all()) and len(found) > 1 and step_of(found[-1]) == self.step:
            shutil.rmtree(found.pop(), ignore_errors=True)  # it was written after the step that broke the weights
        raise ModelError(
            f"expected finite {what}, got others at step {self.step + 1}, in the batch of {', '.join(map(str, keys))}; "
            f"the last good state is {found[-1] if found else 'not written yet'}; lower loop.rate or leave these clips out"
        )

    def _weights(self) -> list[nn.Parameter]:
        return [p for p in self.net.parameters() if p.requires_grad]

    def _rate(self, step: int) -> float:
        s = self.settings
        rise = min(1.0, (step + 1) / s.warmup) if s.warmup else 1.0
        if s.decay == "cosine":
            rise *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / s.steps)))
        return s.rate * rise

    def _late(self, begun: float) -> bool:
        late = time.perf_counter() - begun > 60 * (self.settings.minutes or math.inf)
        if self.accelerator.num_processes == 1:
            return late
        # Clocks differ: the first process decides for all.
        from accelerate.utils import broadcast

        return bool(broadcast(torch.tensor([late], device=self.accelerator.device, dtype=torch.int32))[0])

    # Judging and keeping

    def _judge(self, held_out: Clips) -> dict[str, float]:
        """The recipe's losses on the held-out clips, with the same noise every time; the best weights are kept."""
        sums, count = dict[str, float](), 0
        self.net.eval()
        with torch.no_grad(), self.average.applied():
            for number in range(len(held_out)):
                rngs = [generator(EVALUATION, self.settings.seed, number)]
                batch = self._encoded([held_out[0, number]], rngs)
                with self.accelerator.autocast():
                    parts = self.recipe.loss(self.net, batch, rngs)
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                count += 1
        self.net.train()
        metrics = {f"held_out_{name}": value / count for name, value in sums.items()}
        key = f"held_out_{self.settings.best}"
        if key not in metrics:
            raise SettingError(f"expected loop.best among {', '.join(sums)}, got {self.settings.best!r}")
        self.log(self.step, metrics)
        sign = 1 if self.settings.best_is == "lowest" else -1
        if not self.best or sign * metrics[key] < sign * self.best[key]:
            self.best = {"step": float(self.step), key: metrics[key]}
            self.keeper.export("best", self._said())
        return metrics

    def _sheet(self, held_out: Clips) -> None:
        from ..render.export import contact_sheet

        rng = generator(EVALUATION, self.settings.seed, 0)
        self.net.eval()
        with torch.no_grad(), self.average.applied():
            frames = self.recipe.sheet(self.net, self._encoded([held_out[0, 0]], [rng]), rng)
        self.net.train()
        if self.main:
            (self.out / "sheets").mkdir(exist_ok=True)
            chosen = frames[:: max(1, len(frames) // 5)][:5]
            contact_sheet(chosen, self.out / "sheets" / f"step-{self.step:07d}.png", width=240)

    def _said(self) -> dict[str, Any]:
        return {"step": self.step, "best": self.best, "micro": self.micro}

    def _save(self) -> None:
        self.keeper.save(self.step, self._said())
        self.accelerator.wait_for_everyone()  # until it has its name
        self.unproven = True

    def _prune(self) -> None:
        """Leave as many states as are asked for, now that the newest is known to be good."""
        if self.unproven and self.main:
            prune(self.out, self.settings.keep)
        self.unproven = False
