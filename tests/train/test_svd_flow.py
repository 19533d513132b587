"""The recipe of SVD with motion fields: exact clips, a loss that falls, whole files, exact resuming, both stages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vivant.data.scenes import sample
from vivant.errors import DependencyError, InputError, OutputError, SettingError, WeightsError
from vivant.priors.svd_flow.net import MotionUNet
from vivant.priors.svd_flow.tiny import Mosaic, Residual, tiny_pipeline
from vivant.process import Level
from vivant.train import clips
from vivant.train.svd_flow import CARRIED, Settings, main
from vivant.train.svd_flow import clips as clips_of


def small(tmp_path: Path, **settings: object) -> Settings:
    chosen = {"out": tmp_path / "run", "tiny": True, "batch": 1, "size": 32, "frames": 3, "steps": 2, **settings}
    return Settings(**chosen)  # type: ignore[arg-type]


def test_a_scenes_motion_is_what_flow_sees() -> None:
    for seed in range(40):
        scene = sample(np.random.default_rng(seed), 96, still=False)
        if any(m.kind == "drift" for m in scene.plan.values()) and np.hypot(*scene.field[-1, :2]).max() > 0.08:
            clip = clips.of_scene(scene, 8, (24, 24), np.random.default_rng(0), plain=0.0)
            pictures = ((clip.frames.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
            seen = clips.estimated(pictures, (24, 24))
            exact = clip.motion[:-1].permute(0, 2, 3, 1).numpy()
            moving = np.hypot(exact[..., 0], exact[..., 1]) > 0.5 * np.hypot(exact[..., 0], exact[..., 1]).max()
            ours, theirs = exact[moving].mean(0), seen[moving].mean(0)
            assert ours @ theirs / np.hypot(*ours) / np.hypot(*theirs) > 0.97
            assert 0.6 < np.hypot(*theirs) / np.hypot(*ours) < 1.4
            return
    raise AssertionError("no scene drifts")


def test_arrows_stand_in_for_exact_motion() -> None:
    scene = next(
        s for s in (sample(np.random.default_rng(i), 48, still=False) for i in range(40))
        if np.hypot(*s.field[-1, :2]).max() > 0.08
    )  # fmt: skip
    exact, plain = (clips.of_scene(scene, 4, (12, 12), np.random.default_rng(0), plain=p) for p in (0.0, 1.0))
    torch.testing.assert_close(exact.frames, plain.frames)
    assert not torch.allclose(exact.motion, plain.motion)
    assert all(torch.equal(plain.motion[0], m) for m in plain.motion)


def test_a_carried_picture_moves_as_it_is_told() -> None:
    scene = sample(np.random.default_rng(2), 96, still=False)
    made = clips.carried(scene, np.random.default_rng(1))
    clip = clips.of_scene(made, 4, (24, 24), np.random.default_rng(0), plain=0.0)
    pictures = ((clip.frames.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    seen, exact = clips.estimated(pictures, (24, 24)), clip.motion[:-1].permute(0, 2, 3, 1).numpy()
    inner = (slice(None), slice(5, -5), slice(5, -5))
    dot = (seen * exact).sum(-1) / (np.linalg.norm(seen, axis=-1) * np.linalg.norm(exact, axis=-1)).clip(1e-6)
    assert np.linalg.norm(exact, axis=-1).min() > 0.1  # every cell moves
    assert np.median(np.degrees(np.arccos(dot[inner].clip(-1, 1)))) < 15
    assert not np.array_equal(clips.carried(scene, np.random.default_rng(2)).field, made.field)


def test_carried_pictures_come_first_and_scenes_after() -> None:
    def drawn(seen: int, count: int) -> list[bool]:
        stream = clips_of(Settings(tiny=True), (12, 12), np.random.default_rng(0), seen)
        # In a scene much stands still; where the whole picture is carried nothing does.
        return [bool(next(stream).motion.norm(dim=1).min() > 1e-3) for _ in range(count)]

    assert all(drawn(0, 6))
    later = drawn(CARRIED[0], 30)
    assert 2 <= sum(later) <= 18


def test_the_small_network_is_given_the_painting() -> None:
    pipe = tiny_pipeline(3)
    net = Residual(pipe.unet).eval()
    rng = torch.Generator().manual_seed(0)
    z, painting = torch.randn(1, 3, 4, 8, 8, generator=rng), torch.randn(1, 1, 4, 8, 8, generator=rng)
    told = {
        "image": torch.zeros(1, 1, 32), "numbers": torch.tensor([[6.0, 127.0, 0.02]]), "heard": torch.zeros(1, 2),
        "motion": torch.zeros(1, 3, 2, 8, 8), "strength": torch.zeros(1),
    }  # fmt: skip
    sigma = 1.7
    level = Level(1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5, float(np.log(sigma) / 4))
    held = Mosaic.scale * painting

    def predicted(z: torch.Tensor, net: torch.nn.Module, first: torch.Tensor, time: float) -> torch.Tensor:
        with torch.no_grad():
            out = net(torch.cat([z, first.expand_as(z)], 2), torch.tensor(time), **told)
        return level.a * z - level.s * out  # x0 of F = a·ε - s·x0

    plain = MotionUNet.forward
    # What it makes of a clip is the painting, and what it makes of the clip's difference from it.
    inner = lambda *args, **kw: plain(net, *args, **kw)  # noqa: E731
    torch.testing.assert_close(
        predicted(z, net, painting, level.t),
        held + predicted(z - level.a * held, inner, painting, level.t),  # type: ignore[arg-type]
    )
    nothing = torch.zeros_like(painting)
    torch.testing.assert_close(predicted(z, net, nothing, level.t), predicted(z, inner, nothing, level.t))  # type: ignore[arg-type]


def test_trains_and_resumes_exactly(tmp_path: Path) -> None:
    report = main(small(tmp_path, steps=1))
    assert report["steps"] == 1
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["step"] == 1
    main(small(tmp_path, steps=2, resume=tmp_path / "run" / "state.pt"))
    first = load_file(tmp_path / "run" / "motion.safetensors")
    main(small(tmp_path, steps=2, resume=_written(tmp_path, state), out=tmp_path / "again"))
    second = load_file(tmp_path / "again" / "motion.safetensors")
    assert set(first) == set(second) and all(torch.equal(first[k], second[k]) for k in first)
    assert set(first) >= {"encoder.stem.weight", "blend.weight"} and not list(tmp_path.rglob("*part"))


def _written(tmp_path: Path, state: dict[str, object]) -> Path:
    torch.save(state, tmp_path / "kept.pt")
    return tmp_path / "kept.pt"


@pytest.mark.skipif(find_spec("peft") is None, reason="peft, which makes the LoRA, is not installed")
def test_the_cameras_stage_changes_the_lora_alone(tmp_path: Path) -> None:
    main(small(tmp_path, steps=1))
    before = load_file(tmp_path / "run" / "motion.safetensors")
    main(small(tmp_path, steps=2, stage="camera", rate=1e-2))
    after = load_file(tmp_path / "run" / "motion.safetensors")
    lora = {k for k in after if ".lora_" in k}
    assert lora and any(after[k].any() for k in lora if ".lora_B." in k)
    under = {k.replace(".base_layer", ""): v for k, v in after.items() if k not in lora}
    assert set(under) == set(before) and all(torch.equal(under[k], before[k]) for k in before)


def test_videos(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "v.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        picture = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        for k in range(6):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:64, 2 * k : 2 * k + 96]), "rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    clip = next(clips.of_videos(tmp_path, 32, 4, (8, 8), "dis", np.random.default_rng(0)))
    assert clip.frames.shape == (4, 3, 32, 32) and clip.motion.shape == (4, 2, 8, 8)
    # Cut from 64 lines to 32, 2 pixels a frame to the left are a quarter of a cell.
    assert float(clip.motion[:, 0].median()) == pytest.approx(-0.25, abs=0.1)
    (tmp_path / "none").mkdir()
    with pytest.raises(SettingError, match="expected videos"):
        next(clips.of_videos(tmp_path / "none", 32, 4, (8, 8), "dis", np.random.default_rng(0)))


def test_raft_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", None)
    with pytest.raises(DependencyError, match="torchvision"):
        clips.raft(np.zeros((2, 16, 16, 3), np.uint8))


def test_the_mosaic_there_and_back() -> None:
    vae = tiny_pipeline().vae
    flat = torch.tensor([0.3, -0.2, 0.9]).view(1, 3, 1, 1).expand(1, 3, 16, 24)
    latent = vae.encode(flat).latent_dist.mode()
    assert latent.shape == (1, 4, 4, 6)
    torch.testing.assert_close(vae.decode(latent).sample, flat)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tiny": False}, "--tiny or --base"), ({"base": Path("x")}, "--tiny or --base"), ({"stage": "x"}, "stage"),
        ({"flow": "x"}, "dis or raft"), ({"steps": 0}, "above 0"), ({"minutes": -1.0}, "above 0"),
        ({"rate": -1.0}, "learning rate"), ({"threads": 0}, "1 thread"), ({"seed": -1}, "seed from 0"),
        ({"evaluate": -1}, "--evaluate"), ({"tiny": False, "base": Path("x"), "evaluate": 5}, "--tiny alone"),
    ],
)  # fmt: skip
def test_bad_settings(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=message):
        small(tmp_path, **settings)


def test_a_state_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"no")
    with pytest.raises(WeightsError, match="expected a training state"):
        main(small(tmp_path, resume=tmp_path / "bad.pt"))
    with pytest.raises(InputError, match=r"none.pt, found none"):
        main(small(tmp_path, resume=tmp_path / "none.pt"))


def test_places_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder of videos"):
        main(small(tmp_path, videos=tmp_path / "none"))
    with pytest.raises(OutputError, match="--out"):
        (tmp_path / "file").write_text("")
        main(small(tmp_path, out=tmp_path / "file"))
    with pytest.raises(SettingError, match="auto, cpu or cuda"):
        main(small(tmp_path, device="tpu"))


@pytest.mark.slow
def test_the_loss_falls(tmp_path: Path) -> None:
    import csv

    main(small(tmp_path, steps=300, batch=4))
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = [float(row["loss"]) for row in csv.DictReader(file)]
    assert rows[-1] < 0.75 * rows[0]
