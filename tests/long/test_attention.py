"""FreeNoise's attention in windows: against diffusers' own block, against windows taken one by one, on every network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from tests.priors import released
from tests.priors.diffusers_i2v import families
from vivant.long import attention, freenoise
from vivant.long.attention import Windows, fused_over_time, leads, over_time
from vivant.long.base import Forgets, Settings, child, tiling
from vivant.long.film import evaluations
from vivant.long.layers import dream
from vivant.long.methods import method
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.animate_anything.adapter import AnimateAnything
from vivant.priors.cinemo.adapter import Cinemo
from vivant.priors.consisti2v.adapter import ConsistI2V
from vivant.priors.dynamicrafter.adapter import DynamiCrafter
from vivant.shot import Controls, Region, Shot
from vivant.stage import Stage

LEADS = {"animate_anything": (1, 1), "consisti2v": (1, 0), "cinemo": (1, 0), "dynamicrafter": (0, 0), "svd": (0, 0),
         "i2vgen_xl": (0, 0)}  # fmt: skip


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def shot(**changes: Any) -> Shot:
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    how: dict[str, Any] = {"steps": 3, "distil": 0.0, "guidance": 2.0} | changes
    return Shot(picture, "waves roll ashore", **how)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name in made:
            return made[name]
        root: Path = tmp_path_factory.mktemp("released") / name
        if name in families.CASES:
            made[name] = families.prior(name)
        elif name == "dynamicrafter":
            made[name] = DynamiCrafter.from_folder(released.dynamicrafter(root, "512"), variant="512")
            made[name].card = replace(made[name].card, size=(16, 16))
        else:
            kind = {"animate_anything": AnimateAnything, "consisti2v": ConsistI2V, "cinemo": Cinemo}[name]
            made[name] = kind.from_folder(getattr(released, name)(root))
            made[name].card = replace(made[name].card, size=(32, 32))
        return made[name]

    return of


def test_the_shares_of_a_frame_are_those_of_the_paper() -> None:
    """Window of 4 from 0 and from 2: weights 1 2 2 1 each; frames 2 and 3 lie in both."""
    (first, one), (second, two) = Windows(6, 4, 2).each
    assert first.tolist() == [0, 1, 2, 3] and second.tolist() == [2, 3, 4, 5]
    torch.testing.assert_close(one, torch.tensor([1, 1, 2 / 3, 1 / 3], dtype=torch.float64))
    torch.testing.assert_close(two, torch.tensor([1 / 3, 2 / 3, 1, 1], dtype=torch.float64))
    led = Windows(8, 4, 2, lead=1)
    assert [places.tolist() for places, _ in led.each] == [[0, 1, 2, 3], [0, 3, 4, 5], [0, 5, 6, 7]]
    assert [float(shares[0]) for _, shares in led.each] == [1, 0, 0], "the painting's own output is the first window's"


@pytest.mark.parametrize(
    ("count", "length", "stride", "lead"), [(20, 8, 4, 0), (19, 8, 3, 0), (17, 9, 4, 1), (9, 4, 3, 1)]
)
def test_shares_sum_to_one_and_cover_every_frame(count: int, length: int, stride: int, lead: int) -> None:
    total = torch.zeros(count, dtype=torch.float64)
    for places, shares in Windows(count, length, stride, lead).each:
        assert len(places) == length
        total[places] += shares
    torch.testing.assert_close(total, torch.ones(count, dtype=torch.float64))


def test_it_is_diffusers_block() -> None:
    from diffusers.models.attention import BasicTransformerBlock, FreeNoiseTransformerBlock

    torch.manual_seed(0)
    plain = BasicTransformerBlock(16, 2, 8)
    reference = FreeNoiseTransformerBlock(16, 2, 8, context_length=8, context_stride=4)
    reference.load_state_dict(plain.state_dict())
    reference.attn2 = None  # looked for without one, and not set
    x = random(3, 20, 16)
    windows = Windows(20, 8, 4)
    plain.attn1.forward = attention._along(windows, plain.attn1.forward, 1)
    torch.testing.assert_close(plain(x), reference(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", list(LEADS))
def test_one_window_is_the_network_itself_and_more_are_not(make: Callable[[str], Any], name: str) -> None:
    prior = make(name)
    assert over_time(prior) and leads(prior) == LEADS[name]

    def asked(prior: Any, frames: int) -> Tensor:
        one = shot(frames=frames)
        z = random(*prior.still([one], Generator().manual_seed(0)).shape)
        return prior.bind([one], Generator().manual_seed(0))(z, prior.levels(one, 3)[1]).x0

    alone, long = asked(prior, 4), asked(prior, 8)
    with fused_over_time(prior, 4, 4, 2):
        torch.testing.assert_close(asked(prior, 4), alone, atol=5e-5, rtol=5e-5)  # sums in another order
    with fused_over_time(prior, 8, 4, 2):
        torch.testing.assert_close(asked(prior, 4), alone, atol=5e-5, rtol=5e-5)  # a window's length is no film
        windowed = asked(prior, 8)
    assert float((windowed - long).abs().max()) > 1e-4
    assert torch.equal(asked(prior, 8), long), "nothing is left of it"


def test_networks_without_attention_over_time_alone() -> None:
    assert not over_time(families.prior("cogvideox")) and not over_time(AnalyticPrior())


@pytest.mark.parametrize("kind", ["svd", "consisti2v"])
def test_every_window_counts_its_places_from_0(make: Callable[[str], Any], kind: str) -> None:
    """Where nothing moves a frame is told from another by its place alone: in a film it comes out as the windows' places,
    in their shares, come out of a clip."""
    length, count, stride = 4, 8, 2
    lead = int(kind != "svd")
    windows = Windows(count, length, stride, lead)
    module: Any
    if kind == "svd":
        module = make("svd").pipe.unet.down_blocks[0].attentions[0]
        frame, text = random(1, module.in_channels, 2, 3), random(1, 1, 32, seed=1)

        def call(frames: int) -> Tensor:
            return module(
                frame.repeat(frames, 1, 1, 1), encoder_hidden_states=text.repeat(frames, 1, 1),
                image_only_indicator=torch.zeros(1, frames), return_dict=False,
            )[0]  # fmt: skip

    else:
        module = make("consisti2v").parts.unet.down_blocks[0].tempo_attns[0]
        frame, text = random(1, module.norm.num_channels, 2, 3), random(1, 5, 32, seed=1)

        def call(frames: int) -> Tensor:
            return module(frame.repeat(frames, 1, 1, 1), text, frames)

    with torch.no_grad():
        clip = call(length)
        want = torch.zeros(count, *clip.shape[1:])
        for places, shares in windows.each:
            want[places] += clip * shares.float().view(-1, *[1] * (clip.ndim - 1))
        changed = [
            (*site, vars(site[0]).get(site[1]))
            for inner in module.modules()
            for site in attention.sites(inner, windows)
        ]
        for owner, name, instead, _ in changed:
            setattr(owner, name, instead)
        film = call(count)
        for owner, name, _, before in changed:
            attention._put_back(owner, name, before)
        plain = call(count)
    if kind != "consisti2v":  # a feed-forward after a fused attention is not the fusion of feed-forwards
        torch.testing.assert_close(film, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(film[: lead + 1], clip[: lead + 1], atol=1e-5, rtol=1e-5)
    assert float((plain - film).abs().max()) > 1e-4, "counted through, places are others"


@pytest.mark.parametrize("kind", ["cinemo", "consisti2v"])
def test_the_painting_leads_every_window(make: Callable[[str], Any], kind: str) -> None:
    """Window by window by hand: frames 0 2 3 4 after 0 1 2 3, each taken for a clip."""
    windows = Windows(5, 4, 1, 1)
    with torch.no_grad():
        if kind == "cinemo":
            module = make("cinemo").parts.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn_temp
            x, call, axis = random(3, 5, module.to_q.in_features), module.forward, 1
        else:
            module = make("consisti2v").parts.unet.down_blocks[0].tempo_attns[0].transformer_blocks[0].attn1
            x, axis = random(2, 6, 5, module.to_q.in_features), 2

            def call(y: Tensor) -> Tensor:
                return module.over_time(y, (2, 3))

        one, two = (call(x.index_select(axis, torch.tensor(places))) for places in ([0, 1, 2, 3], [0, 2, 3, 4]))
        film = windows.fused(call, x, axis).movedim(axis, 0)
    one, two = one.movedim(axis, 0), two.movedim(axis, 0)
    # The moving frames weigh 1 2 1 in either: frame 2 is at place 2 of the first and 1 of the second.
    want = torch.stack([one[0], one[1], (2 * one[2] + two[1]) / 3, (one[3] + 2 * two[2]) / 3, two[3]])
    torch.testing.assert_close(film, want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["animate_anything", "svd"])
def test_a_film_is_one_clip_to_the_network(make: Callable[[str], Any], name: str) -> None:
    prior, settings = make(name), Settings(window=4)
    tiles = tiling(prior, shot(), 10, settings, joint=True)
    assert freenoise.inside(prior, tiles) and not freenoise.inside(prior, tiles, Settings(window=4, fuse="windows"))
    calls: list[Any] = []
    pieces = list(
        method("freenoise")(prior, shot(), None, 10, Generator().manual_seed(0), settings, None, calls.append)
    )
    assert len(pieces) == tiles.count == 4 and len(calls) == 3, (
        "a step is one evaluation, whatever the number of windows"
    )
    assert evaluations(tiles, "freenoise", settings, Stage(prior, shot(), None, {})) == 3


def test_regions_of_a_film_that_is_one_clip(make: Callable[[str], Any]) -> None:
    prior, mask = make("cinemo"), np.zeros((32, 48), np.float32)
    mask[:, :16] = 1
    one = shot(controls=Controls(mask=mask), regions=(Region("waves roll", Controls(mask=mask)),), distil=0.5)
    settings, calls = Settings(window=4), []
    for compose in ("together", "in turn"):
        pieces = list(dream("freenoise", prior, one, None, 10, child(0, 0), settings, Forgets(), calls.append, compose))
        still, far = pieces[0].x[:, :, :1].expand(-1, -1, 4, -1, -1), slice(-2, None)
        assert len(pieces) == 4
        for piece in pieces:
            torch.testing.assert_close(piece.x[..., far], still[..., far], atol=1e-4, rtol=1e-4)
        assert float((pieces[-1].x - still)[..., 0].abs().mean()) > 0.01
    assert len(calls) == 2 * (3 + 2)


def test_what_is_done_is_said(make: Callable[[str], Any]) -> None:
    prior = make("cinemo")
    tiles = tiling(prior, shot(), 10, Settings(window=4), joint=True)
    settings, said = freenoise.settled(prior, tiles, Settings(window=4), True)
    assert settings.fuse is None and "within the network's attention" in said[0]
    settings, said = freenoise.settled(prior, tiles, Settings(window=4), False)
    assert settings.fuse == "windows" and "too many for one clip here" in said[0]
    analytic = AnalyticPrior()
    tiles = tiling(analytic, shot(), 20, Settings(), joint=True)
    assert "no attention over time" in freenoise.settled(analytic, tiles, Settings(), True)[1][0]
