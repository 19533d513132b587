"""Figures: the numbers against closed forms, the pictures looked into."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from vivant.data.scenes import sample
from vivant.errors import InputError
from vivant.metrics import figures
from vivant.metrics.figures import BAR, contour_agreement, lambdas, linear_trend, noise_profile, side_by_side, strip
from vivant.metrics.video import read_video
from vivant.priors.dynamicrafter.net import Attention, Context
from vivant.priors.registry import load
from vivant.shot import Shot


def test_linear_trend_of_known_walks() -> None:
    rng = np.random.default_rng(0)
    line = np.outer(np.arange(16), rng.normal(size=50)) + rng.normal(size=50)
    assert linear_trend(line).trend == pytest.approx(1, abs=1e-9)
    assert linear_trend(np.tile(rng.normal(size=50), (16, 1))).trend == 0
    # No order: the expectation is 1/(N-1).
    shuffled = np.mean([linear_trend(rng.normal(size=(16, 400))).trend for _ in range(30)])
    assert shuffled == pytest.approx(1 / 15, abs=0.01)
    # There and back again is no trend, and half line half noise lies between.
    assert linear_trend(np.concatenate([line[:8], line[:8][::-1]])).trend == pytest.approx(0, abs=1e-9)
    noise = rng.normal(size=line.shape)
    noise *= linear_trend(line).spread / linear_trend(noise).spread
    assert linear_trend(line + noise).trend == pytest.approx(0.5 + 0.5 / 15, abs=0.06)
    with pytest.raises(InputError, match="3 frames"):
        linear_trend(line[:2])


def test_spread_is_the_distance_from_the_mean() -> None:
    x = np.zeros((4, 3))
    x[:2, 0], x[2:, 0] = 2, -2
    assert linear_trend(x).spread == pytest.approx(2)


def test_tsne_keeps_the_groups_and_writes_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(1)
    walks = [np.outer(np.arange(8), rng.normal(size=20)) + 40 * rng.normal(size=20) for _ in range(3)]
    packed = [rng.normal(size=(8, 20)) + 40 * rng.normal(size=20) for _ in range(3)]
    numbers = figures.tsne({"real": walks, "baseline": packed}, tmp_path / "t.png")
    assert numbers["real"]["trend"] == pytest.approx(1) and numbers["baseline"]["trend"] < 0.4
    assert numbers["real"]["clips"] == 3 and 0 <= numbers["baseline"]["map_trend"] <= 1
    picture = np.asarray(Image.open(tmp_path / "t.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_lambda_of_each_layer_in_the_networks_order(tmp_path: Path) -> None:
    """The number is the one the attention multiplies with: tanh(α) + 1."""
    attention = Attention(8, 2, 4, 8, picture=True, learnable=True)
    with torch.no_grad():
        attention.alpha.fill_(0.3)
    x, context = torch.randn(1, 4, 8), torch.randn(1, 77 + 4, 8)
    words, picture = context[:, :77], context[:, 77:]
    whole, text = attention(x, Context(words, picture)), attention(x, Context(words, None))
    with torch.no_grad():
        attention.alpha.fill_(-30.0)  # λ = 0: only the text is left
    assert torch.allclose(attention(x, Context(words, picture)), text, atol=1e-6) and not torch.allclose(
        whole, text, atol=1e-4
    )
    name = "model.diffusion_model.{}.1.transformer_blocks.0.attn2.alpha"
    state = {name.format(place): torch.tensor(float(a)) for place, a in
             (("output_blocks.3", 0.5), ("input_blocks.10", 0), ("middle_block", -30), ("input_blocks.2", 0.3))}  # fmt: skip
    state["model.diffusion_model.out.weight"] = torch.zeros(3)
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    expected = [("input 2", 1 + np.tanh(0.3)), ("input 10", 1.0), ("middle 1", 0.0), ("output 3", 1 + np.tanh(0.5))]
    for path in (tmp_path / "a.safetensors", tmp_path / "a.ckpt"):
        found = lambdas(path)
        assert [n for n, _ in found] == [n for n, _ in expected]
        assert [v for _, v in found] == pytest.approx([v for _, v in expected], abs=1e-6)
    pytest.importorskip("matplotlib")
    figures.lambda_figure(found, tmp_path / "l.png")
    assert Image.open(tmp_path / "l.png").size[0] > 300


def test_lambda_where_none_is_learnt(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "b.ckpt")
    (tmp_path / "c.ckpt").write_bytes(b"no")
    for name, words in (
        ("a.safetensors", "256"),
        ("b.ckpt", "256"),
        ("c.ckpt", "cannot be read"),
        ("d.ckpt", "no such"),
    ):
        with pytest.raises(InputError, match=words):
            lambdas(tmp_path / name)


def test_contours_agree_with_themselves_and_not_with_others() -> None:
    square = np.full((64, 64, 3), 255, np.uint8)
    square[16:48, 16:48] = 0
    assert contour_agreement(square, square) == 1
    assert contour_agreement(square, np.roll(square, 1, 1)) > 0.95  # a pixel of play
    assert contour_agreement(square, np.roll(square, 8, (0, 1))) < 0.3
    assert contour_agreement(square, np.full_like(square, 9)) == 0 and contour_agreement(square * 0, square * 0) == 1


def test_noise_profile_of_the_embedded_prior(tmp_path: Path) -> None:
    """One entry a level, from noise to clip; the outlines become the result's."""
    scene = sample(np.random.default_rng(3), 64, still=False)
    prior = load("miniature")
    profile = noise_profile(
        prior, Shot(scene.picture, scene.caption, frames=4, steps=5), torch.Generator().manual_seed(0)
    )
    assert [n.step for n in profile] == list(range(len(profile))) and len(profile) >= 5
    assert all(a.sigma > b.sigma for a, b in pairwise(profile))
    assert profile[-1].contour > 0.9 and profile[0].contour <= profile[-1].contour + 1e-6
    assert all(np.isfinite([n.mean, n.spread]).all() for n in profile) and profile[0].spread == pytest.approx(
        1, abs=0.5
    )
    pytest.importorskip("matplotlib")
    figures.noise_figure(profile, tmp_path / "n.png")
    assert Image.open(tmp_path / "n.png").size[0] > 300


def test_strip_and_side_by_side(tmp_path: Path) -> None:
    red = [np.full((40, 60, 3), (40 * i, 0, 0), np.uint8) for i in range(6)]
    blue = [np.full((20, 20, 3), (0, 0, 60 * i), np.uint8) for i in range(4)]
    strip({"ours": red, "theirs": blue}, tmp_path / "s.png", 3, 40)
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape == (2 * (BAR + 40), 180, 3)
    assert [int(sheet[BAR + 20, x, 0]) for x in (30, 90, 150)] == [0, 80, 200]
    assert sheet[:BAR].max() > 200 and (sheet[BAR + 40 + BAR :, 125:] == 0).all()
    side_by_side({"ours": red, "theirs": blue}, tmp_path / "s.mp4", 8, 40)
    video = read_video(tmp_path / "s.mp4").frames
    assert video.shape == (6, 40 + BAR, 100, 3)
    assert video[5, BAR + 20, 80, 2] > 150 and video[5, BAR + 20, 30, 0] > 150  # the shorter one holds its last frame
    with pytest.raises(InputError, match="side by side"):
        side_by_side({}, tmp_path / "n.mp4")
