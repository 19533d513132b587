"""SVD with motion fields: SVD itself while it is told nothing, eq. 4 and 8 in closed form, its files, the conformance."""

from __future__ import annotations

import copy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.priors import conformance
from tests.priors.diffusers_i2v import tiny as pipelines
from vivant.awaken import awaken
from vivant.controls.arrows import motion_fields, strength
from vivant.controls.refine import field
from vivant.controls.steer import steered
from vivant.errors import WeightsError
from vivant.priors.diffusers_i2v.svd import StableVideo
from vivant.priors.svd_flow import weights
from vivant.priors.svd_flow.adapter import STRONGEST, SvdFlow
from vivant.priors.svd_flow.net import RANK, MotionAttention, MotionUNet, is_ours, is_temporal, with_static_camera
from vivant.priors.svd_flow.tiny import tiny_pipeline, tiny_prior
from vivant.process import Level
from vivant.shot import Arrow, Controls, Shot

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft, which makes the LoRA, is not installed")
ARROWS = (Arrow(0.3, 0.5, 0.6, 0.5),)


def stirred(net: MotionUNet) -> MotionUNet:
    """What begins as nothing would hide what it does."""
    with torch.no_grad():
        for name, value in net.named_parameters():
            if is_ours(name) and not value.any():
                value.normal_(0, 0.05)
        net.blend.weight.add_(0.05 * torch.randn_like(net.blend.weight))
    return net.eval()


def shot(arrows: tuple[Arrow, ...] = ARROWS, power: float | None = None, **settings: Any) -> Shot:
    painting = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    chosen = {"frames": 4, "steps": 3, "fps": 7, "guidance": 1.0, **settings}
    return Shot(painting, "clouds drift", controls=Controls(arrows=arrows, strength=power), **chosen)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given(batch: int = 2, frames: int = 3, height: int = 12, width: int = 10) -> dict[str, torch.Tensor]:
    rng = generator()
    return {
        "sample": torch.randn(batch, frames, 8, height, width, generator=rng), "timestep": torch.tensor(0.3),
        "image": torch.randn(batch, 1, 32, generator=rng), "numbers": torch.tensor([[6.0, 127.0, 0.02]] * batch),
        "motion": torch.randn(batch, frames, 2, height, width, generator=rng),
        "strength": torch.linspace(100, 300, batch), "heard": torch.ones(batch, 2),
    }  # fmt: skip


@pytest.fixture(scope="module")
def svd() -> Any:
    """The tiny pipeline with the released build."""
    torch.manual_seed(0)
    return pipelines.svd()


@pytest.fixture(scope="module")
def unet(svd: Any) -> MotionUNet:
    """A network around a copy of its UNet, its own layers awake."""
    return stirred(MotionUNet(copy.deepcopy(svd.unet)))


@pytest.fixture(scope="module")
def prior() -> SvdFlow:
    """The small network with its layers awake."""
    torch.manual_seed(0)
    made = tiny_prior()
    stirred(made.net)
    return made


# The network


@needs_peft
@torch.no_grad()
def test_fresh_layers_compute_what_svd_computes(svd: Any) -> None:
    plain = copy.deepcopy(svd.unet)
    told = given()
    expected = plain(told["sample"], told["timestep"], told["image"], told["numbers"], return_dict=False)[0]
    net = with_static_camera(MotionUNet(plain)).eval()
    torch.testing.assert_close(net(**told), expected, rtol=1e-5, atol=1e-6)
    assert [m.r["default"] for m in net.modules() if hasattr(m, "lora_A")] == [RANK] * 32
    # The pipeline's own call goes through the same blocks.
    again = net.unet(told["sample"], told["timestep"], told["image"], told["numbers"], return_dict=False)[0]
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_what_is_not_heard_does_not_matter_and_what_is_does(prior: SvdFlow) -> None:
    told, unet = given(height=8), prior.net
    deaf = unet(**{**told, "heard": torch.zeros(2, 2)})
    other = {**told, "motion": -told["motion"], "strength": told["strength"] + 200}
    torch.testing.assert_close(unet(**{**other, "heard": torch.zeros(2, 2)}), deaf)
    only = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 1.0]] * 2)
    for name, heard in zip(("motion", "strength"), only, strict=True):
        change = {**told, "heard": heard}
        assert (unet(**{**change, name: other[name]}) - unet(**change)).abs().max() > 1e-4, name
    # One clip's silence is not the other's.
    half = unet(**{**told, "heard": torch.tensor([[0.0, 0.0], [1.0, 1.0]])})
    torch.testing.assert_close(half[0], deaf[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(half[1], unet(**told)[1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_attention_is_equation_4() -> None:
    torch.manual_seed(0)
    layer = MotionAttention(8, 5, heads=2)
    for linear in (layer.space, layer.time):
        torch.nn.init.normal_(linear.weight)
    frames, height, width = 3, 2, 4
    z, motion = torch.randn(frames, 8, height, width), torch.randn(frames, 5, height, width)
    tokens = layer.norm(z.flatten(2).transpose(1, 2))
    q, k = layer.to_q(tokens), layer.to_k(tokens)
    v = layer.to_v(motion.flatten(2).transpose(1, 2))

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        heads = [
            torch.softmax(a @ b.T / 4**0.5, -1) @ c
            for a, b, c in zip(*(x.split(4, -1) for x in (q, k, v)), strict=True)
        ]
        return torch.cat(heads, -1)

    out = torch.zeros_like(tokens)
    for f in range(frames):
        out[f] += layer.space(attend(q[f], k[f], v[f]))
    for p in range(height * width):
        out[:, p] += layer.time(attend(q[:, p], k[:, p], v[:, p]))
    expected = z + out.transpose(1, 2).unflatten(2, (height, width))
    torch.testing.assert_close(layer(z, motion, torch.ones(frames, 1, 1), frames), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(z, motion, torch.zeros(frames, 1, 1), frames), z)


def test_the_released_sizes_fit_on_no_storage() -> None:
    from diffusers import UNetSpatioTemporalConditionModel

    with torch.device("meta"):
        net = MotionUNet(UNetSpatioTemporalConditionModel())
    counts = {ours: sum(v.numel() for n, v in net.named_parameters() if is_ours(n) == ours) for ours in (True, False)}
    assert counts[False] == 1_524_623_082  # stable-video-diffusion-img2vid(-xt)
    assert counts[True] < 0.06 * counts[False]
    temporal = [n for n, _ in net.named_parameters() if is_temporal(n) and not is_ours(n)]
    assert any("temporal_res_block" in n for n in temporal) and any(
        "temporal_transformer_blocks" in n for n in temporal
    )
    assert not any("spatial_res_block" in n or n.endswith("proj_in.weight") for n in temporal)


# The adapter


def test_it_is_a_prior(prior: SvdFlow) -> None:
    conformance.check(prior, shot(), rel=1e-3, likeness=0.1)


def test_arrows_become_the_fields_it_hears(prior: SvdFlow) -> None:
    told = prior.told(shot())
    _, height, width = prior.cells(shot())
    expected = motion_fields(field(ARROWS, (width, height), shot().painting), 4)
    assert told["motion"].shape == (1, 4, 2, height, width)
    np.testing.assert_allclose(told["motion"][0, :3].permute(0, 2, 3, 1), expected, atol=1e-6)
    torch.testing.assert_close(told["motion"][:, 3], told["motion"][:, 2])
    assert float(told["strength"]) == pytest.approx(strength(expected), rel=1e-5)
    assert told["heard"].tolist() == [[1, 1]]


def test_strength_and_silence(prior: SvdFlow) -> None:
    assert prior.told(shot(()))["heard"].tolist() == [[0, 0]]
    calm = prior.told(shot((), 0.25))
    assert calm["heard"].tolist() == [[0, 1]] and float(calm["strength"]) == STRONGEST / 4


def test_a_mask_stills_the_field(prior: SvdFlow) -> None:
    mask = np.zeros((48, 64), np.float32)
    mask[:, :32] = 1
    told = shot()
    motion = prior.told(replace(told, controls=replace(told.controls, mask=mask)))["motion"]
    half = motion.shape[-1] // 2
    assert not motion[..., half + 1 :].any() and motion[..., :half].any()


def test_without_arrows_it_is_stable_video_diffusion() -> None:
    torch.manual_seed(0)
    pipe = tiny_pipeline()
    plain, prior = (kind(pipe, size=(48, 48)) for kind in (StableVideo, SvdFlow))
    stirred(prior.net)  # type: ignore[union-attr]
    for one in (plain, prior):
        one.card = replace(one.card, guidance=1.0)
    told = shot((), distil=0.0)
    expected = awaken(plain, told, None, generator())
    torch.testing.assert_close(awaken(prior, told, None, generator()), expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(awaken(prior, shot(distil=0.0), None, generator()), expected, atol=1e-2)


def test_it_needs_no_steering(prior: SvdFlow) -> None:
    assert steered(prior, shot()) is prior


# Its files


@needs_peft
def test_there_and_back(svd: Any, unet: MotionUNet, tmp_path: Path) -> None:
    svd.save_pretrained(tmp_path)
    path = tmp_path / weights.NAME
    net = with_static_camera(MotionUNet(copy.deepcopy(svd.unet)))
    stirred(net)
    weights.save({k: v for k, v in net.state_dict().items() if is_ours(k)}, path)
    loaded = SvdFlow.from_folder(tmp_path, size=(32, 24), fit="exact")
    assert loaded.card.name == "svd_flow"
    told = given()
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(**told), net(**told), rtol=1e-4, atol=1e-5)
    level = Level(0.8, 0.6, -0.1)
    short = shot(frames=3)
    z = torch.randn(loaded.still([short], generator()).shape, generator=generator())
    assert loaded.bind([short], generator())(z, level).x0.isfinite().all()


def test_refusals(svd: Any, unet: MotionUNet, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="found no model_index"):
        SvdFlow.from_folder(tmp_path)
    svd.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="expected the motion layers at"):
        SvdFlow.from_folder(tmp_path)
    path = tmp_path / weights.NAME
    path.write_bytes(b"no")
    with pytest.raises(WeightsError, match="whole file"):
        SvdFlow.from_folder(tmp_path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"no encoder\.stem"):
        SvdFlow.from_folder(tmp_path)
    state = {k: v for k, v in unet.state_dict().items() if is_ours(k)}
    weights.save({k: v for k, v in state.items() if k != "blend.weight"}, path)
    with pytest.raises(WeightsError, match=r"missing key blend\.weight"):
        SvdFlow.from_folder(tmp_path)
    weights.save(state | {"blend.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"blend\.weight has shape"):
        SvdFlow.from_folder(tmp_path)
    assert not list(tmp_path.glob(".*part")) and "blend.weight" in load_file(path)
