"""Convolutions by points against torch's own in float64, when they apply, and when kept weights are made anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from tests import parity
from vivant.priors import room, winograd
from vivant.priors.blocks import InPieces
from vivant.priors.layers import OneTextAClip, TimeConv, fast

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "parity"
RECORDED = ("animate_anything", "cinemo", "consisti2v", "dynamicrafter")


@pytest.fixture(autouse=True)
def any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow layers go by points too, and no gradient is wanted."""
    monkeypatch.setattr(winograd, "NARROW", 1)
    monkeypatch.setattr(winograd, "FEWEST", 1)
    monkeypatch.setattr(winograd, "_kept", type(winograd._kept)())


@pytest.fixture(autouse=True)
def no_gradient() -> Any:
    with torch.no_grad():
        yield


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(kind: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return kind(*args, **kwargs).eval()


def spatial(ins: int = 5, outs: int = 7, **kwargs: Any) -> Any:
    return winograd.fast(layer(nn.Conv2d, ins, outs, 3, padding=1, **kwargs))


def exact(conv: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    kind = nn.Conv2d if isinstance(conv, nn.Conv2d) else nn.Conv3d
    return kind.forward(copy.deepcopy(conv).double(), x.double())  # type: ignore[arg-type]


# As exact as the plain convolution


@pytest.mark.parametrize("m", sorted(winograd.POINTS))
def test_its_matrices_filter_with_three_taps(m: int) -> None:
    matrices, x, taps = winograd.toom(m), drawn(m + 2).double(), drawn(3, seed=1).double()
    found = matrices.out @ ((matrices.weight @ taps) * (matrices.data @ x))
    assert torch.allclose(found, x.unfold(0, 3, 1) @ taps, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (5, 7), (1, 1), (3, 2), (13, 9)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("m", [2, 4])
def test_planes_of_any_size(size: tuple[int, int], count: int, m: int) -> None:
    conv, x = spatial(), drawn(count, 5, *size)
    found = winograd.conv2d(x, winograd.planar_weight(conv.weight, m), conv.bias, m)
    assert parity.relative(found, exact(conv, x)) < 3e-6


@pytest.mark.parametrize("room", [1, 2000, 20000])
def test_planes_in_pieces(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "WORKSPACE", room)
    conv, x = spatial(), drawn(5, 5, 14, 10)
    assert parity.relative(conv(x), exact(conv, x)) < 3e-6


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (3, 2), (13, 9)])
@pytest.mark.parametrize("bias", [True, False])
def test_few_places_in_one_product(size: tuple[int, int], bias: bool) -> None:
    conv, x = spatial(bias=bias), drawn(3, 5, *size)
    found = winograd.by_rows(x, conv.weight, conv.bias)
    assert found.is_contiguous()
    assert parity.relative(found, exact(conv, x)) < 3e-6


def test_channels_last_stays_so_and_no_bias_is_fine() -> None:
    conv, x = spatial(bias=False), drawn(2, 5, 9, 12).to(memory_format=torch.channels_last)
    found = conv(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert parity.relative(found, exact(conv, x)) < 3e-6
    view = drawn(2, 9, 5, 12).transpose(1, 2)
    assert parity.relative(conv(view), exact(conv, view)) < 3e-6


@pytest.mark.parametrize("frames", [1, 2, 5, 6, 7, 16, 17])
def test_time_of_any_length(frames: int) -> None:
    conv, x = layer(TimeConv, 6), drawn(2, 6, frames, 3, 5)
    assert parity.relative(conv(x), exact(conv, x)) < 1e-5
    over = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert parity.relative(conv(over), exact(conv, over)) < 1e-5


def test_fewest_multiplications() -> None:
    cost = {frames: -(-frames // winograd.fewest(frames)) * (winograd.fewest(frames) + 2) for frames in (5, 8, 16, 17)}
    assert cost == {5: 7, 8: 12, 16: 24, 17: 24}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded official runs (../shared/parity) are not here")
@pytest.mark.parametrize("name", RECORDED)
def test_networks_by_points_agree_with_the_recorded_official_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    both = winograd.transformed
    monkeypatch.setattr(winograd, "transformed", lambda *args: seen.append(args[0]) or both(*args))
    outcomes = list(parity.RUNS[name](parity.read(SHARED / name / "tiny_a.safetensors")))
    assert {type(one) for one in seen} >= {winograd.Conv2d}
    assert all(outcome.rel < 1e-4 for outcome in outcomes), [(o.output, o.rel) for o in outcomes]


# When


def test_only_where_it_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    products: list[int] = []
    by_points, by_rows = winograd.conv2d, winograd.by_rows
    monkeypatch.setattr(winograd, "conv2d", lambda *args: used.append(1) or by_points(*args))
    monkeypatch.setattr(winograd, "by_rows", lambda *args: products.append(1) or by_rows(*args))
    conv, x = spatial(), drawn(1, 5, 8, 8)
    conv(x)
    assert len(used) == 1
    with torch.enable_grad():
        loss = conv(x).square().sum()
    loss.backward()
    assert conv.weight.grad is not None
    conv.double()(x.double())
    conv.float()
    with torch.autocast("cpu", torch.bfloat16):
        conv(x)
    torch.jit.trace(conv, x, check_trace=False)
    monkeypatch.setattr(winograd, "FEWEST", 5)  # 8×8 are four tiles
    assert products == []
    conv(x)
    assert products == [1]
    monkeypatch.setattr(winograd, "NARROW", 6)
    conv(x)
    monkeypatch.setattr(winograd, "FEWEST", 1)
    conv(x)
    assert (used, products) == ([1], [1])


def test_other_convolutions_are_left_alone() -> None:
    others = [
        nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.Conv2d(4, 4, 3, padding=2, dilation=2),
    ]  # fmt: skip
    assert all(type(module) is nn.Conv2d for module in winograd.fast(nn.Sequential(*others)))


def test_state_and_copies_hold_the_parameters_alone() -> None:
    conv, x = spatial(), drawn(1, 5, 8, 8)
    first = conv(x)
    assert list(conv.state_dict()) == ["weight", "bias"]
    twin = copy.deepcopy(conv)
    assert torch.equal(twin(x), first)


def test_in_inference_mode_and_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "KEEP", 0)
    monkeypatch.setattr(room, "_scratch", room.Scratch())
    conv, x = spatial(), drawn(1, 5, 8, 8)
    with torch.inference_mode():
        first = conv(x)
    assert torch.equal(conv(x), first)


def test_threads_do_not_share_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "KEEP", 0)
    layers, x = [spatial() for _ in range(2)], drawn(1, 5, 8, 8)
    for layer in layers:
        nn.init.normal_(layer.weight)
    expected = [layer(x) for layer in layers]

    def go(i: int) -> bool:
        with torch.no_grad():
            return all(torch.equal(layers[i % 2](x), expected[i % 2]) for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(go, range(8)))


# Kept weights


def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    count: list[int] = []
    make = winograd.planar_weight
    monkeypatch.setattr(winograd, "planar_weight", lambda *args: count.append(1) or make(*args))
    return count


def test_weights_are_transformed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count, conv, x = made(monkeypatch), spatial(), drawn(1, 5, 8, 8)
    assert torch.equal(conv(x), conv(x))
    assert len(count) == 1
    monkeypatch.setattr(winograd, "KEEP", 0)
    other = spatial()
    assert torch.equal(other(x), conv(x))  # kept or not is the same to the bit
    other(x)
    assert len(count) == 3


def test_weights_are_not_kept_where_they_are_little_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "MANY", 4)
    small, large = spatial(), spatial()
    small(drawn(1, 5, 8, 4)), large(drawn(1, 5, 8, 8))
    assert list(winograd._kept) == [small]


@pytest.mark.parametrize("how", ["data", "in place", "load", "replaced"])
def test_changed_weights_are_seen(how: str) -> None:
    conv, x = spatial(), drawn(1, 5, 8, 8)
    conv(x)
    step = torch.full_like(conv.weight, 0.1)
    if how == "data":
        conv.weight.data += step  # as adapters are merged
    elif how == "in place":
        conv.weight.add_(step)
    elif how == "load":
        conv.load_state_dict({"weight": conv.weight + step, "bias": conv.bias})
    else:
        conv.weight = nn.Parameter(conv.weight + step)
    assert parity.relative(conv(x), exact(conv, x)) < 3e-6


def test_what_is_kept_goes_with_its_layer() -> None:
    conv = spatial()
    conv(drawn(1, 5, 8, 8))
    assert len(winograd._kept) == 1
    conv.double()
    assert len(winograd._kept) == 0
    conv.float()(drawn(1, 5, 8, 8))
    del conv
    assert len(winograd._kept) == 0


# Layers that repeat no work


def test_feed_forward_in_pieces() -> None:
    plain, x = layer(FeedForward, 8, activation_fn="geglu"), drawn(3, 700, 8)
    net = fast(nn.Sequential(copy.deepcopy(plain)))
    assert type(net[0]) is InPieces
    assert torch.allclose(net(x), plain(x), atol=1e-6)
    assert type(fast(nn.Sequential(layer(FeedForward, 8, activation_fn="gelu")))[0]) is FeedForward


def test_words_of_a_clip_are_projected_once() -> None:
    attn, x, text = layer(Attention, 16, cross_attention_dim=6, heads=2, dim_head=8), drawn(6, 10, 16), drawn(2, 4, 6)
    slow = attn(x, encoder_hidden_states=text.repeat_interleave(3, dim=0))
    attn.set_processor(OneTextAClip())
    assert torch.allclose(attn(x, encoder_hidden_states=text), slow, atol=1e-6)
