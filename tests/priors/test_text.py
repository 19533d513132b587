"""The trained reader of sentences, and the layout of what it reads."""

import math

import numpy as np
import pytest
import torch

from vivant.data.captions import SUBJECTS, Motion, random_plan, words
from vivant.priors.miniature.text import LENGTH, UNKNOWN, TextReader, plan_of, state, target, tokenize
from vivant.train.text import accuracy, agree, train


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader.load()


LEFT, RIGHT = (-1.0, 0.0), (1.0, 0.0)
PROMPTS = {
    "Clouds drift across the sky.": {"sky": ("drift", None)},
    "The boats slowly sail towards the distance.": {"boat": ("drift", None)},
    "The water ripples gently.": {"water": ("ripple", None)},
    "Clouds drift to the right.": {"sky": ("drift", RIGHT)},
    "Waves roll on the sea.": {"water": ("ripple", None)},
    "The sky swirls slowly.": {"sky": ("swirl", None)},
    "The waves roll and the foam trembles.": {"water": ("ripple", None)},
    "The river flows and the boats move.": {"water": ("drift", None), "boat": ("drift", None)},
    "The red sky flows to the left.": {"sky": ("drift", LEFT)},
}


def _plan(short):
    return {s: Motion(kind, direction, 0.6) for s, (kind, direction) in short.items()}


def test_fresh_descriptions_are_read_exactly(reader):
    assert accuracy(reader, 300, seed=424242) >= 0.97


@pytest.mark.parametrize("prompt", PROMPTS)
def test_plain_prompts(reader, prompt):
    assert agree(reader.plan(prompt), _plan(PROMPTS[prompt])), reader.plan(prompt)


@pytest.mark.parametrize(
    ("prompt", "subject", "speed"),
    [
        ("The boats slowly sail.", "boat", 0.33),
        ("The boats sail.", "boat", 0.6),
        ("The boats sail quickly.", "boat", 1.0),
    ],
)
def test_speed_is_read(reader, prompt, subject, speed):
    assert reader.plan(prompt)[subject].speed == pytest.approx(speed, abs=0.12)


@pytest.mark.parametrize(
    "prompt",
    [
        "Slowly the clouds drift to the left.",
        "The clouds slowly drift to the left.",
        "The clouds drift to the left slowly.",
        "to the left, the clouds drift slowly",
        "CLOUDS DRIFT SLOWLY LEFTWARDS!!",
        "make the clouds drift slowly to the left",
    ],
)
def test_words_come_in_any_order(reader, prompt):
    assert agree(reader.plan(prompt), {"sky": Motion("drift", LEFT, 0.33)}), reader.plan(prompt)


def test_clauses_come_in_any_order(reader):
    want = {"sky": Motion("drift", RIGHT, 0.6), "tree": Motion("sway", None, 0.6)}
    assert agree(reader.plan("The clouds drift to the right and the trees sway."), want)
    assert agree(reader.plan("The trees sway and the clouds drift to the right."), want)


@pytest.mark.parametrize("prompt", ["Nothing moves.", "a still painting", "The sky stays still.", "no motion"])
def test_still_scenes(reader, prompt):
    assert reader.plan(prompt) == {}
    assert not reader.read(prompt).any()


def test_what_is_said_to_be_still_is_still(reader):
    assert set(reader.plan("Clouds drift to the right while the boat stays still.")) == {"sky"}


def test_a_place_does_not_move(reader):
    assert set(reader.plan("Clouds drift over the hills.")) == {"sky"}
    assert set(reader.plan("The boats sail on the sea.")) == {"boat"}


def test_unknown_words_are_named_once_and_read_past(reader):
    ids, unknown = tokenize("The xylograph clouds drift, xylograph zeppelin!")
    assert unknown == ["xylograph", "zeppelin"]
    assert ids.count(UNKNOWN) == 3
    assert "sky" in reader.plan("The xylograph clouds drift.")


def test_other_forms_of_a_word_are_known():
    for known, other in (("drift", "drifted"), ("cloud", "cloudy"), ("cypress", "cypresses"), ("sail", "sailed")):
        assert not tokenize(f"{known} {other}")[1]


@pytest.mark.parametrize("prompt", ["", "...", "?!", "漂う雲", "é" * 500, "boats " * 500, "\x00\n"])
def test_any_text_is_read(reader, prompt):
    ids, _ = tokenize(prompt)
    assert 1 <= len(ids) <= LENGTH
    assert reader.read(prompt).shape == (len(SUBJECTS), 10)
    assert torch.isfinite(reader.read(prompt)).all()


def test_target_and_plan_are_inverse():
    rng = np.random.default_rng(0)
    for _ in range(100):
        plan, _ = random_plan(rng)
        back = plan_of(target(plan))
        assert agree(back, plan)
        assert all(math.isclose(back[s].speed, plan[s].speed, rel_tol=1e-5) for s in plan)


def test_state_is_zero_where_nothing_moves_and_bounded_elsewhere():
    raw = torch.randn(8, len(SUBJECTS), 10, generator=torch.Generator().manual_seed(0)) * 4
    read = state(raw)
    still = raw[..., 0] <= 0
    assert not read[still].any() and (read[~still][:, 0] > 0.5).all()
    assert read.abs().max() <= 1 and read[..., 1:3].norm(dim=-1).max() <= 1 + 1e-6


def test_padding_does_not_change_the_reading(reader):
    ids = tokenize("The clouds drift to the right.")[0]
    bare, padded = torch.tensor([ids]), torch.tensor([ids + [0] * 9])
    torch.testing.assert_close(reader(bare), reader(padded), atol=1e-4, rtol=1e-4)


def test_size_and_vocabulary(reader):
    assert sum(p.numel() for p in reader.parameters()) < 600_000
    assert reader.vocabulary == words()


def test_a_moment_of_training_writes_a_file_that_loads(tmp_path):
    made = train(0.01, seed=1, out=tmp_path / "text.safetensors", size=8)
    again = TextReader.load(tmp_path / "text.safetensors")
    torch.testing.assert_close(made.read("The boat sails."), again.read("The boat sails."))
