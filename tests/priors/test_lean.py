"""Blocks in pieces against diffusers' own, which run where gradients are wanted."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from vivant.priors import lean, room
from vivant.priors.consisti2v.net import AndFirstFrame
from vivant.priors.layers import OneTextAClip, fast


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pieces that do not come out even, and gradients left alone."""
    monkeypatch.setattr(lean, "PIECE", 45)
    monkeypatch.setattr(lean, "COLUMNS", 24)
    monkeypatch.setattr(room, "_scratch", room.Scratch())
    with torch.no_grad():
        yield


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(kind: Any, *args: Any, **kwargs: Any) -> Any:
    """A layer in which nothing is zero, in eval mode."""
    torch.manual_seed(0)
    layer = kind(*args, **kwargs).eval()
    for value in layer.parameters():
        nn.init.normal_(value, std=0.2)
    return layer


def spatial(linear: bool, own: Any = None) -> Any:
    model = made(Transformer2DModel, 2, 16, in_channels=32, cross_attention_dim=12, use_linear_projection=linear)
    for block in model.transformer_blocks:
        block.attn2.set_processor(OneTextAClip())
        if own is not None:
            block.attn1.set_processor(own)
    return model


def assert_same(layer: Any, *args: Tensor, **kwargs: Any) -> None:
    """The turned layer says what the layer says, and leaves what it was given alone."""
    quick = fast(nn.Sequential(copy.deepcopy(layer)))[0]
    assert type(quick) is not type(layer)
    before = [arg.clone() for arg in args]
    with torch.enable_grad():  # diffusers' own way
        expected = quick(*args, **kwargs)
    found = quick(*args, **kwargs)
    found, expected = (y[0] if isinstance(y, tuple) else y for y in (found, expected))
    torch.testing.assert_close(found, expected.detach(), atol=2e-5, rtol=2e-5)
    assert all(torch.equal(arg, old) for arg, old in zip(args, before, strict=True))
    assert list(quick.state_dict()) == list(layer.state_dict())


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("out", [32, 64])
def test_resnet(out: int, last: bool) -> None:
    x = drawn(3, 32, 5, 6)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    assert_same(
        made(ResnetBlock2D, in_channels=32, out_channels=out, temb_channels=7, output_scale_factor=2), x, drawn(3, 7)
    )


def test_convolutions_over_time() -> None:
    assert_same(made(TemporalConvLayer, 32, 32, dropout=0.1), drawn(10, 32, 3, 4), num_frames=5)


def test_dropout_stays_where_a_network_trains() -> None:
    layer = fast(nn.Sequential(made(TemporalConvLayer, 32, 32, dropout=0.5)))[0].train()
    x = drawn(4, 32, 3, 4)
    assert not torch.equal(layer(x, num_frames=4), layer(x, num_frames=4))


@pytest.mark.parametrize("size", [(3, 4), (7, 9)])
@pytest.mark.parametrize("linear", [True, False])
def test_transformer_within_frames(linear: bool, size: tuple[int, int]) -> None:
    assert_same(spatial(linear), drawn(10, 32, *size), encoder_hidden_states=drawn(2, 6, 12), return_dict=False)


@pytest.mark.parametrize("size", [(3, 4), (7, 9)])
def test_every_frame_also_sees_the_first_of_its_clip(size: tuple[int, int]) -> None:
    how = {"encoder_hidden_states": drawn(2, 6, 12), "return_dict": False, "cross_attention_kwargs": {"count": 5}}
    assert_same(spatial(True, AndFirstFrame()), drawn(10, 32, *size), **how)


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (7, 9)])
def test_transformer_over_time(size: tuple[int, int]) -> None:
    model = made(TransformerTemporalModel, 2, 16, in_channels=32)
    assert_same(model, drawn(10, 32, *size), num_frames=5, return_dict=False)


def test_an_attention_that_was_replaced_is_asked() -> None:
    model = fast(nn.Sequential(made(TransformerTemporalModel, 2, 16, in_channels=32)))[0]
    x, how = drawn(10, 32, 3, 4), {"num_frames": 5, "return_dict": False}
    before, attn = model(x, **how)[0], model.transformer_blocks[0].attn1
    attn.forward = lambda y, **more: torch.zeros_like(y)
    assert not torch.allclose(model(x, **how)[0], before)
    del attn.forward
    assert torch.equal(model(x, **how)[0], before)


def test_adapters_around_layers_are_heard() -> None:
    pytest.importorskip("peft")
    from vivant.train.lora import inject

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = made(TransformerTemporalModel, 2, 16, in_channels=32)

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x, num_frames=5, return_dict=False)[0]

    net, x = fast(Net()), drawn(10, 32, 3, 4)
    before = net(x)
    inject(net, r".*(to_q|to_out\.0|proj|net\.2)", rank=2)
    for name, value in net.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(value, std=0.3)
    with torch.enable_grad():
        expected = net(x).detach()
    assert not torch.allclose(expected, before, atol=1e-2)
    torch.testing.assert_close(net(x), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("tokens", [(3, 17), (46,), (1, 2, 90)])
def test_feed_forward_added(tokens: tuple[int, ...]) -> None:
    ff, norm, x = made(FeedForward, 16), made(nn.LayerNorm, 16), drawn(*tokens, 16)
    expected = x + ff(norm(x))
    torch.testing.assert_close(lean.fed(x.clone(), norm, fast(nn.Sequential(ff))[0]), expected, atol=2e-5, rtol=2e-5)


def test_asking_takes_the_same_memory_again() -> None:
    norm, layer, x = made(nn.LayerNorm, 16), made(nn.Linear, 16, 8), drawn(5, 16)
    first = lean.asked(x, norm, layer)[0]
    expected = layer(norm(x))
    torch.testing.assert_close(first, expected)
    assert lean.asked(-x, norm, layer)[0].data_ptr() == first.data_ptr()
    with torch.enable_grad():
        assert lean.asked(x, norm, layer)[0].requires_grad


def test_groups_share_their_keys() -> None:
    q, k, v = drawn(6, 4, 16), drawn(2, 7, 16, seed=1), drawn(2, 7, 16, seed=2)
    alone = lean.attended(q, k.repeat_interleave(3, 0), v.repeat_interleave(3, 0), 2)
    torch.testing.assert_close(lean.attended(q, k, v, 2), alone)


def test_layers_with_other_switches_stay() -> None:
    kept = [
        made(ResnetBlock2D, in_channels=32, temb_channels=7, non_linearity="gelu"),
        made(ResnetBlock2D, in_channels=32, temb_channels=7, time_embedding_norm="scale_shift"),
        made(ResnetBlock2D, in_channels=32, temb_channels=7, up=True),
        made(FeedForward, 16, activation_fn="gelu"),
    ]
    kinds = [type(layer) for layer in kept]
    assert [type(layer) for layer in fast(nn.Sequential(*kept))] == kinds
