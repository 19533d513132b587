"""The reader of sentences: from a prompt to what each kind of subject is asked to do."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ...data import captions
from ...data.captions import KINDS, SUBJECTS, Motion, Plan

WEIGHTS = Path(__file__).with_name("text.safetensors")
LENGTH = 32
"""words of a sentence that are read"""
PAD, UNKNOWN = 0, 1
OUTPUTS = 5 + len(KINDS)

_ENDINGS = (
    ("ies", "y"), ("es", ""), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("ly", ""), ("ily", "y"),
    ("er", ""), ("er", "e"), ("est", ""), ("y", ""), ("ward", "wards"), ("ves", "f"), ("ier", "y"),
)  # fmt: skip
_BEGINNINGS = ("", "s", "es", "ing", "y", "ly")


@functools.cache
def _index(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {word: i + 2 for i, word in enumerate(vocabulary)}


def _lookup(word: str, index: dict[str, int]) -> int:
    """The id of a word, or of a form of it that is known."""
    if word in index:
        return index[word]
    if len(word) < 4:
        return UNKNOWN
    stems = [word] + [word[: -len(end)] + new for end, new in _ENDINGS if word.endswith(end)]
    stems += [stem[:-1] for stem in stems[1:] if len(stem) > 3 and stem[-1] == stem[-2]]
    for stem in stems:
        for ending in _BEGINNINGS:
            if len(stem) >= 3 and stem + ending in index:
                return index[stem + ending]
    return UNKNOWN


def tokenize(prompt: str, vocabulary: Sequence[str] | None = None) -> tuple[list[int], list[str]]:
    """The ids of the first words of a prompt (at least one id), and the words among them that are not known.

    Case and punctuation do not matter, and a word counts as known where another form of it is.
    """
    index = _index(tuple(vocabulary) if vocabulary is not None else captions.words())
    spoken = captions.split(prompt)[:LENGTH]
    ids = [_lookup(word, index) for word in spoken]
    unknown = [word for word, i in zip(spoken, ids, strict=True) if i == UNKNOWN and not word.isdigit()]
    return ids or [UNKNOWN], list(dict.fromkeys(unknown))


def target(plan: Plan) -> Float[Tensor, "17 10"]:
    """The state a plan asks for: [moves, dir x, dir y, has direction, speed, kind × 5], zero for what is still."""
    out = torch.zeros(len(SUBJECTS), OUTPUTS)
    for subject, motion in plan.items():
        row = out[SUBJECTS.index(subject)]
        row[0], row[4] = 1.0, motion.speed
        if motion.direction is not None:
            row[1], row[2], row[3] = motion.direction[0], motion.direction[1], 1.0
        row[5 + KINDS.index(motion.kind)] = 1.0
    return out


def state(raw: Float[Tensor, "*B 17 10"]) -> Float[Tensor, "*B 17 10"]:
    """Raw outputs as a state, laid out as in `target`; subjects less likely than not to move are all zero."""
    moves, has = raw[..., :1].sigmoid(), raw[..., 3:4].sigmoid()
    way = F.normalize(raw[..., 1:3], dim=-1) * has
    speed, kind = raw[..., 4:5].sigmoid(), raw[..., 5:].softmax(-1)
    return torch.cat([torch.ones_like(moves), way, has, speed, kind], -1) * moves * (moves > 0.5)


def plan_of(read: Float[Tensor, "17 10"]) -> Plan:
    """A state as a plan."""
    plan: Plan = {}
    for subject, row in zip(SUBJECTS, read.tolist(), strict=True):
        if row[0] > 0.5:
            x, y = row[1], row[2]
            norm = math.hypot(x, y)
            direction = (x / norm, y / norm) if row[3] > 0.5 * row[0] and norm > 0 else None
            plan[subject] = Motion(KINDS[row[5:].index(max(row[5:]))], direction, row[4] / row[0])
    return plan


class _Layer(nn.Module):
    """One pre-norm transformer layer whose words first look at their neighbours."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, 3, padding=1)
        self.norm0, self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, blank: Tensor) -> Tensor:
        h = self.norm0(x).masked_fill(blank[..., None], 0.0)
        x = x + F.gelu(self.near(h.transpose(1, 2)).transpose(1, 2))
        h = self.norm1(x)
        x = x + self.attention(h, h, h, key_padding_mask=blank, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TextReader(nn.Module):
    """Two transformer layers over the words, then one learned query per subject that asks twice what it should do."""

    def __init__(self, vocabulary: Sequence[str] | None = None, width: int = 96, heads: int = 4) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary) if vocabulary is not None else captions.words()
        self.embed = nn.Embedding(len(self.vocabulary) + 2, width, padding_idx=PAD)
        self.place = nn.Parameter(torch.randn(LENGTH, width) * 0.1)
        nn.init.normal_(self.embed.weight, std=0.3)
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(len(SUBJECTS), width) * 0.3)
        self.ask = nn.ModuleList(nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, OUTPUTS)
        )

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B 17 10"]:
        """Raw outputs per subject: logit of moving, direction, logit of having one, logit of speed, logits of kinds."""
        blank = ids == PAD
        x = self.embed(ids) + self.place[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, blank)
        x = self.norm(x)
        q = self.query.expand(len(ids), -1, -1)
        for ask, norm in zip(self.ask, self.norms, strict=True):
            q = q + ask(norm(q), x, x, key_padding_mask=blank, need_weights=False)[0]
        return self.head(q)

    @torch.no_grad()
    def read(self, prompt: str) -> Float[Tensor, "17 10"]:
        """The state a prompt asks for."""
        ids, _ = tokenize(prompt, self.vocabulary)
        device = self.place.device
        return state(self(torch.tensor([ids], device=device)))[0]

    def plan(self, prompt: str) -> Plan:
        """What a prompt asks for, as a plan."""
        return plan_of(self.read(prompt))

    def save(self, path: str | Path) -> None:
        """Write half-precision weights and the vocabulary to a safetensors file."""
        tensors = {k: v.detach().half().contiguous() for k, v in self.state_dict().items()}
        meta = {"vocabulary": json.dumps(self.vocabulary), "subjects": json.dumps(SUBJECTS), "kinds": json.dumps(KINDS)}
        save_file(tensors, str(path), metadata=meta)

    @classmethod
    def load(cls, path: str | Path = WEIGHTS) -> TextReader:
        """A trained reader, in evaluation mode, with the vocabulary it was trained on."""
        with safe_open(str(path), framework="pt") as file:
            reader = cls(json.loads(file.metadata()["vocabulary"]))
            reader.load_state_dict({k: file.get_tensor(k).float() for k in file.keys()})
        return reader.eval().requires_grad_(False)
