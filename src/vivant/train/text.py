"""Pretraining of the sentence reader on an endless supply of described plans."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.captions import SUBJECTS, Plan, describe, random_plan
from ..priors.miniature.text import OUTPUTS, PAD, UNKNOWN, WEIGHTS, TextReader, plan_of, state, target, tokenize


def batches(
    size: int, rng: np.random.Generator, vocabulary: tuple[str, ...], count: int = 16
) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` batches of described plans, each of sentences alike in length: ids (size, T), targets (size, 17, 10)."""
    drawn = []
    for _ in range(size * count):
        plan, still = random_plan(rng)
        drawn.append((tokenize(describe(plan, rng, still), vocabulary)[0], plan))
    drawn.sort(key=lambda pair: len(pair[0]))
    for first in rng.permutation(count) * size:
        part = drawn[first : first + size]
        ids = torch.full((size, len(part[-1][0])), PAD, dtype=torch.long)
        targets = torch.zeros(size, len(SUBJECTS), OUTPUTS)
        for i, (sentence, plan) in enumerate(part):
            ids[i, : len(sentence)] = torch.tensor(sentence)
            if plan:
                targets[i] = target(plan)
        yield ids, targets


def loss_of(raw: Tensor, targets: Tensor) -> Tensor:
    """What moves (all subjects); and of what moves: the kind, whether it has a direction, which, and the speed."""
    moves = targets[..., 0]
    loss = 4 * F.binary_cross_entropy_with_logits(raw[..., 0], moves)
    on = moves > 0.5
    if on.any():
        out, want = raw[on], targets[on]
        loss = loss + 0.5 * F.cross_entropy(out[:, 5:], want[:, 5:].argmax(-1))
        loss = loss + 0.5 * F.binary_cross_entropy_with_logits(out[:, 3], want[:, 3])
        loss = loss + 4 * F.mse_loss(out[:, 4].sigmoid(), want[:, 4])
        has = want[:, 3] > 0.5
        if has.any():
            loss = loss + (1 - F.cosine_similarity(out[has, 1:3], want[has, 1:3], dim=-1)).mean()
    return loss


def agree(got: Plan, plan: Plan) -> bool:
    """Whether two plans move the same subjects in the same kinds, and to within 45° of the same directions."""
    if got.keys() != plan.keys():
        return False
    for subject, motion in plan.items():
        other = got[subject]
        if other.kind != motion.kind or (other.direction is None) != (motion.direction is None):
            return False
        if motion.direction is not None and other.direction is not None:
            if sum(a * b for a, b in zip(motion.direction, other.direction, strict=True)) < 0.7071:
                return False
    return True


@torch.no_grad()
def accuracy(reader: TextReader, count: int, seed: int) -> float:
    """The share of `count` fresh descriptions that the reader reads exactly, as `agree` has it."""
    rng = np.random.default_rng(seed)
    right = 0
    for ids, targets in batches(100, rng, reader.vocabulary, -(-count // 100)):
        read = state(reader(ids))
        right += sum(agree(plan_of(a), plan_of(b)) for a, b in zip(read, targets, strict=True))
    return right / (100 * len(range(0, count, 100)))


def train(
    minutes: float,
    seed: int = 0,
    out: str | Path = WEIGHTS,
    size: int = 64,
    start: TextReader | None = None,
    peak: float = 2e-3,
) -> TextReader:
    """Train for a while, save to `out`, return the reader; words are dropped to the unknown one at 5 %."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    reader = (start or TextReader()).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=peak, weight_decay=0.01, betas=(0.9, 0.98))
    stream = batches(size, rng, reader.vocabulary)
    begin, step = time.monotonic(), 0
    while (spent := (time.monotonic() - begin) / (60 * minutes)) < 1:
        rate = peak * min(1.0, (step + 1) / 200) * min(1.0, 1.35 * (1 - spent) + 0.003)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if (drawn := next(stream, None)) is None:
            stream = batches(size, rng, reader.vocabulary)
            continue
        ids, targets = drawn
        dropped = (torch.rand(ids.shape) < 0.05) & (ids != PAD)
        if spent > 0.85:  # the last steps see mostly whole sentences
            dropped &= torch.rand(len(ids), 1) < 0.2
        ids = ids.masked_fill(dropped, UNKNOWN)
        loss = loss_of(reader(ids), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            print(f"step {step}: loss {loss.item():.3f} after {time.monotonic() - begin:.0f} s", flush=True)
        step += 1
    reader.eval().save(out)
    return TextReader.load(out)


def main() -> None:
    """Command line: `python -m vivant.train.text --minutes 8`."""
    parser = argparse.ArgumentParser(description="Train the sentence reader of the embedded prior.")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--resume", action="store_true", help="start from the weights at --out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.resume:
        reader = train(given.minutes, given.seed, given.out, start=TextReader.load(given.out), peak=1e-3)
    else:
        reader = train(given.minutes, given.seed, given.out)
    print(f"read exactly: {accuracy(reader, 2000, 10_000 + given.seed):.4f} of 2000 fresh descriptions")


if __name__ == "__main__":
    main()
