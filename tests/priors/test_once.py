"""Encodings made once: no encoder is asked the same thing twice in a run, and no clip changes by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.priors import released
from tests.priors.diffusers_i2v import families
from vivant.awaken import awaken
from vivant.priors.animate_anything import adapter as animate_anything
from vivant.priors.cinemo import adapter as cinemo
from vivant.priors.consisti2v import adapter as consisti2v
from vivant.priors.dynamicrafter import adapter as dynamicrafter
from vivant.priors.miniature.adapter import Miniature
from vivant.priors.once import Once
from vivant.shot import Controls, Shot

SMALL = (64, 64)


def folders(root: Path, name: str) -> Any:
    """A tiny model as released."""
    if name == "animate_anything":
        card = replace(animate_anything.CARD, size=SMALL)
        return animate_anything.AnimateAnything.from_folder(released.animate_anything(root), card=card)
    if name == "consisti2v":
        card = replace(consisti2v.CARD, size=SMALL)
        return consisti2v.ConsistI2V.from_folder(released.consisti2v(root), card=card, image_guidance=2.0)
    if name == "cinemo":
        return cinemo.Cinemo.from_folder(released.cinemo(root), card=replace(cinemo.CARD, size=SMALL))
    variant = name.removeprefix("dynamicrafter_")
    card = replace(dynamicrafter.CARDS[variant], size=SMALL)
    return dynamicrafter.DynamiCrafter.from_folder(
        released.dynamicrafter(root / "f", variant), variant=variant, card=card
    )


def encoders(prior: Any) -> dict[str, Any]:
    """What encodes, by name, in a pipeline or in a folder's parts."""
    holder = getattr(prior, "pipe", None) or getattr(prior, "parts", None) or prior
    names = ("vae", "text_encoder", "text_encoder_2", "image_encoder", "text", "image", "reader")
    return {name: net for name in names if isinstance(net := getattr(holder, name, None), nn.Module)}


@contextmanager
def asked(prior: Any) -> Iterator[list[tuple[str, int]]]:
    """Every question to an encoder in this block: (which, hash of all tensors it was given)."""
    seen: list[tuple[str, int]] = []

    def noted(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            given = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
            seen.append((name, hash(tuple(v.detach().float().numpy().tobytes() for v in given))))
            return own(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, net in encoders(prior).items():
            method = "encode" if name == "vae" else "read" if hasattr(net, "read") else "forward"
            patch.setitem(net.__dict__, method, noted(name, getattr(net, method)))
        yield seen


def run(prior: Any, shot: Shot) -> tuple[Tensor, list[tuple[str, int]]]:
    with asked(prior) as seen, torch.no_grad():
        return awaken(prior, shot, families.painting(1), families.generator()), seen


def check(prior: Any, shot: Shot) -> dict[str, int]:
    """One run with proxy, distillation and mask, remembered and not; returns how often each encoder was asked."""
    x, seen = run(prior, shot)
    assert len(set(seen)) == len(seen), "an encoder was asked the same thing twice"
    prior.once = Once(0)
    y, unremembered = run(prior, shot)
    assert torch.equal(x, y)
    assert set(unremembered) == set(seen) and len(unremembered) > len(seen)
    return {name: sum(one == name for one, _ in seen) for name in encoders(prior)}


EXPECTED: dict[str, dict[str, int]] = {
    # A painting and its proxy, each still and as the network is shown it where that is another thing; two sentences.
    "svd": {"vae": 4, "image_encoder": 2},
    "i2vgen_xl": {"vae": 2, "text_encoder": 2, "image_encoder": 2},
    "cogvideox": {"vae": 4, "text_encoder": 2},
    "cogvideox-1.5": {"vae": 4, "text_encoder": 2},
    "wan": {"vae": 4, "text_encoder": 2, "image_encoder": 2},
    "wan-2.2": {"vae": 4, "text_encoder": 2},
    "wan-2.2-small": {"vae": 4, "text_encoder": 2},
    "ltx": {"vae": 4, "text_encoder": 2},
    # Its text encoder reads the pictures too: the painting, the proxy, and black beside the negative sentence.
    "hunyuan": {"vae": 4, "text_encoder": 3, "text_encoder_2": 2},
    "hunyuan-replace": {"vae": 4, "text_encoder": 3, "text_encoder_2": 2},
    "animate_anything": {"vae": 2, "text_encoder": 2},
    "consisti2v": {"vae": 2, "text_encoder": 2},
    "cinemo": {"vae": 2, "text_encoder": 2},
    # The last image is the empty one of the branch without a picture.
    "dynamicrafter_512_interp": {"vae": 2, "text": 2, "image": 3},
}


def half() -> Controls:
    mask = np.zeros((40, 72), np.float32)
    mask[:, 36:] = 1
    return Controls(mask=mask)


@pytest.mark.parametrize("name", families.CASES)
def test_no_encoder_of_a_pipeline_is_asked_twice(name: str) -> None:
    assert check(families.prior(name), families.shot(name, half(), steps=2)) == EXPECTED[name]


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in families.CASES])
def test_no_encoder_of_a_released_folder_is_asked_twice(name: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        prior = folders(tmp_path, name)
    shot = Shot(families.painting(), "waves roll ashore", "still", half(), frames=3, steps=2)
    assert check(prior, shot) == EXPECTED[name]


def test_the_embedded_model_reads_painting_and_sentence_once() -> None:
    shot = Shot(families.painting(), "waves roll ashore", steps=3)
    counts = check(Miniature.load(), shot)
    assert counts == {"text": 1, "reader": 8}  # two pictures, each near and far, both ways round


def linear() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, 3).requires_grad_(False)


class Counted:
    """Makes a tensor, and knows how often."""

    def __init__(self, size: int = 4) -> None:
        self.size, self.count = size, 0

    def __call__(self) -> Tensor:
        self.count += 1
        return torch.zeros(self.size)


def test_what_is_told_decides_by_content() -> None:
    once, net, make = Once(), linear(), Counted()
    picture = np.zeros((4, 4), np.uint8)
    for again in (picture, picture.copy(), np.asfortranarray(picture)):
        once(make, "a", again, by=net)
    assert make.count == 1
    picture[0, 0] = 1  # the same array, other paint
    for told in (("a", picture), ("b", picture), ("a", picture.astype(np.int8)), ("a", torch.from_numpy(picture))):
        once(make, *told, by=net)
    assert make.count == 5


def test_other_weights_make_it_anew() -> None:
    once, net, make = Once(), linear(), Counted()
    changes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: net.load_state_dict({"weight": torch.ones(3, 3), "bias": torch.ones(3)}),
        lambda: net.weight.data.add_(0.1),
        lambda: net.half(),
        lambda: net.add_module("lora", nn.Linear(2, 2)),
    ]
    for n, change in enumerate(changes):
        change()
        once(make, by=net)
        once(make, by=net)
        assert make.count == n + 1


def test_an_adapter_makes_it_anew() -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    once, make = Once(), Counted()
    net = peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["0"]), nn.Sequential(linear()))
    once(make, by=net)
    net[0].set_scale("default", 0.5)
    once(make, by=net)
    net[0].enable_adapters(False)
    once(make, by=net)
    once(make, by=net)
    assert make.count == 3


def test_where_the_weights_lie_does_not_matter() -> None:
    """A network that visits the GPU has other addresses after every visit."""
    once, net, make = Once(), linear(), Counted()
    for _ in range(3):
        net.weight.data = net.weight.data.clone()
        once(make, by=net)
    assert make.count == 1


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    once, net = Once(most=2 * 16), linear()
    makes = {name: Counted() for name in "abc"}
    for name in "abacab":  # c takes b's place, then b takes c's
        once(makes[name], name, by=net)
    assert {name: make.count for name, make in makes.items()} == {"a": 1, "b": 2, "c": 1}
    large = Counted(100)
    once(large, "large", by=net)
    once(large, "large", by=net)
    assert large.count == 2
