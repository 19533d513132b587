"""The extractors: tiny networks through the real loading code, each against the library or the formula it stands for."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

from tests.hub import write_text
from tests.metrics import made
from vivant.errors import InputError, SettingError, WeightsError
from vivant.metrics.extractors import EXTRACTORS, Extractor, TextExtractor, label, load, row
from vivant.metrics.extractors import lpips as perceptual
from vivant.metrics.extractors.dreamsim import DreamSim, VisionTransformer
from vivant.metrics.extractors.gradients import GradientClips, GradientFrames
from vivant.metrics.extractors.lpips import Lpips, alexnet, heads
from vivant.metrics.extractors.networks import I3D, IMAGENET, Clip, VideoMae, square
from vivant.metrics.extractors.weights import sha256, tensors
from vivant.metrics.functional import frame_consistency, lpips

NETWORKS = ["i3d", "videomae", "clip", "dreamsim", "lpips"]


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    picture = made.painting()
    moving = [made.carried(picture, 8, 2.0, angle) for angle in (0, 180, 90)]
    return torch.from_numpy(np.stack([*moving, np.stack([picture] * 8)]))


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.from_numpy(np.stack([made.painting(i) for i in range(3)]))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran.txt"),))  # type: ignore[return-value]


class Script(torch.nn.Module):
    """An archive with I3D's own call."""

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        if not (rescale and resize and return_features):
            raise ValueError("the published features are asked for with all three")
        return x.mean([3, 4]).flatten(1)


# --- the shipped ones


def test_shipped_extractors_are_the_protocol(clips: torch.Tensor, frames: torch.Tensor) -> None:
    for name, batch, width in [("gradients-3d", clips, 88), ("gradients-2d", frames, 240)]:
        extractor = load(name)
        assert isinstance(extractor, Extractor) and extractor.name == name and row(name).present
        found = extractor(batch)
        assert found.shape == (len(batch), width) and bool(torch.isfinite(found).all())
        assert torch.equal(found, load(name)(batch))
        # One at a time or together: the same to rounding.
        assert torch.allclose(found[1:2], extractor(batch[1:2]), atol=1e-5)
        with pytest.raises(InputError):
            extractor(batch[0])


def test_gradient_clips_see_motion_and_its_direction(clips: torch.Tensor) -> None:
    right, left, down, still = GradientClips()(clips)
    apart = (right - left).norm()
    assert apart > 0.5 and (right - down).norm() > 0.5
    assert (right - still).norm() > apart
    # Time turned round is motion turned round.
    reverse = GradientClips()(clips[:1].flip(1))[0]
    assert (reverse - left).norm() < 0.5 * apart


def test_gradient_clips_take_any_length_and_size(clips: torch.Tensor) -> None:
    large = torch.from_numpy(np.stack([made.carried(made.painting(), 16, 1.0)]))
    assert GradientClips()(large[:, :, ::2, ::2]).shape == (1, 88)
    assert (GradientClips()(clips[:1, :1])).isfinite().all()


def test_gradient_frames_tell_pictures_apart(frames: torch.Tensor) -> None:
    found = GradientFrames()(frames)
    blurred = GradientFrames()(torch.from_numpy(made.blurred(np.stack([frames[0].numpy()] * 2), 1.0))[1:])
    assert (found[0] - blurred[0]).norm() > 0.05
    assert frame_consistency(found) < frame_consistency(found[:1].repeat(3, 1)) == pytest.approx(1)


# --- names


def test_only_the_papers_network_gives_the_papers_name() -> None:
    assert label("frechet", "i3d") == "FVD" and label("kernel", "i3d") == "KVD"
    assert label("text", "clip") == "CLIPSIM" and label("conformity", "dreamsim") == "PIC"
    assert label("perceptual", "lpips") == "LPIPS" and label("consistency", "clip") == "Tem-Cons"
    assert label("frechet", GradientClips()) == "Fréchet distance (gradients-3d)"
    assert label("frechet", "videomae") == "Fréchet distance (videomae)"
    for extractor in EXTRACTORS:
        for metric in ("frechet", "kernel"):
            assert ("VD" in label(metric, extractor).split()[0]) == (extractor == "i3d")


# --- what is not there, and what must not be run


@pytest.mark.parametrize("name", NETWORKS)
def test_missing_weights_say_what_to_pull(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path))
    assert not row(name).present
    with pytest.raises(WeightsError, match=rf"vivant extractors --pull {name}") as caught:
        load(name)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(SettingError, match="extractor among"):
        load("inception")


def test_a_pickle_that_would_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.bin", "b.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        torch.save(Evil(), tmp_path / f"zip-{name}")
        for file in (name, f"zip-{name}"):
            with pytest.raises(WeightsError):
                tensors(tmp_path / file, "clip")
    (tmp_path / "c.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(WeightsError, match="whole weights"):
        tensors(tmp_path / "c.safetensors", "clip")
    assert not (tmp_path / "ran.txt").exists()


def test_torchscript_is_run_only_under_its_hash(tmp_path: Path, clips: torch.Tensor) -> None:
    path = tmp_path / "i3d.pt"
    torch.jit.script(Script()).save(str(path))
    with pytest.raises(WeightsError, match="was not run"):
        I3D.load(path)
    long = clips.repeat(1, 2, 1, 1, 1)
    extractor = I3D.load(path, expected=sha256(path))
    expected = long.permute(0, 4, 1, 2, 3).float().mean((3, 4)).flatten(1)
    assert torch.allclose(extractor(long), expected) and extractor.version == sha256(path)
    with pytest.raises(InputError, match="at least 10 frames"):
        extractor(clips)
    (tmp_path / "text.pt").write_text("words")
    with pytest.raises(WeightsError, match="TorchScript"):
        I3D.load(tmp_path / "text.pt", expected=sha256(tmp_path / "text.pt"))


# --- the networks, tiny


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_videomae_is_transformers(form: str, tmp_path: Path, clips: torch.Tensor) -> None:
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=4, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=5,
    )  # fmt: skip
    network = VideoMAEForVideoClassification(config).eval()
    network.save_pretrained(tmp_path)
    if form.endswith("bin"):
        (tmp_path / "model.safetensors").unlink()
        torch.save(network.state_dict(), tmp_path / form)
    extractor = VideoMae.load(tmp_path)
    found = extractor(clips)
    with torch.no_grad():
        pixels = square(clips[:, [0, 2, 5, 7]].flatten(0, 1), 32, IMAGENET, "bilinear").unflatten(0, (4, 4))
        logits = network(pixels).logits
        assert torch.allclose(network.classifier(found), logits, atol=1e-5)
    assert found.shape == (4, 16) and extractor.version == sha256(tmp_path / form)
    with pytest.raises(InputError, match="at least 4"):
        extractor(clips[:, :3])


def test_clip_is_transformers(tmp_path: Path, frames: torch.Tensor) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    write_text(tmp_path, tokenizer=".")
    words = json.loads((tmp_path / "vocab.json").read_text())
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**shared, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**shared, "image_size": 32, "patch_size": 16}, projection_dim=8,
    )  # fmt: skip
    network = CLIPModel(config).eval()
    network.save_pretrained(tmp_path)
    extractor = Clip.load(tmp_path)
    assert isinstance(extractor, TextExtractor)
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)(list(frames.numpy()), return_tensors="pt")
    tokens = CLIPTokenizer.from_pretrained(tmp_path)(["clouds drift", "a boat"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = network(**tokens, **pixels)
    # Pillow rounds to 8 bits in between, we do not.
    found = torch.nn.functional.normalize(extractor(frames), dim=1)
    assert torch.allclose(found, expected.image_embeds, atol=0.02)
    assert torch.allclose(
        torch.nn.functional.normalize(extractor.text(["clouds drift", "a boat"]), dim=1),
        expected.text_embeds,
        atol=1e-5,
    )
    with pytest.raises(InputError, match="frames as"):
        extractor(frames[0])


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    config = VideoMAEConfig(
        image_size=32, num_frames=2, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    VideoMAEForVideoClassification(config).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"other": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="tensors are missing and 1 unknown"):
        VideoMae.load(tmp_path)


def test_lpips_is_its_formula(tmp_path: Path, frames: torch.Tensor) -> None:
    """Layer by layer with bare convolutions, the heads as 1 × 1 convolutions, as the equation is written."""
    torch.manual_seed(0)
    network = alexnet()
    path = tmp_path / "alexnet.pth"
    torch.save(
        {f"features.{k}": v for k, v in network.state_dict().items()} | {"classifier.1.weight": torch.zeros(2)}, path
    )
    extractor = Lpips.load(path, expected=sha256(path))

    def activations(x: torch.Tensor) -> list[torch.Tensor]:
        shift, scale = (torch.tensor(v)[None, :, None, None] for v in (perceptual.SHIFT, perceptual.SCALE))
        x, out = (x.permute(0, 3, 1, 2).float() / 255 * 2 - 1 - shift) / scale, []
        for i, (stride, pad) in zip((0, 3, 6, 8, 10), ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1)), strict=True):
            x = max_pool2d(x, 3, 2) if i in (3, 6) else x
            x = conv2d(x, network[i].weight, network[i].bias, stride, pad).relu()
            out.append(x / (x.norm(dim=1, keepdim=True) + 1e-8))
        return out

    with torch.no_grad():
        pairs = zip(activations(frames[:1]), activations(frames[1:2]), heads(), strict=True)
        expected = sum(float(conv2d((a - b) ** 2, h).mean()) for a, b, h in pairs)
    found = lpips(frames[:1].numpy(), frames[1:2].numpy(), extractor)
    assert found == pytest.approx(expected, rel=1e-4) and found > 0
    assert lpips(frames.numpy(), frames.numpy(), extractor) == 0
    with pytest.raises(InputError, match="64×64"):
        extractor(frames[:, :32])
    with pytest.raises(WeightsError, match="sha256"):
        Lpips.load(path)


@pytest.mark.parametrize("quick", [True, False])
def test_the_vision_transformer_is_transformers_clip(quick: bool) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16,
        hidden_act="quick_gelu" if quick else "gelu",
    )  # fmt: skip
    theirs = CLIPVisionModel(config).eval()
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.1)
    ours = VisionTransformer(128, 2, 16, 5, True, quick).eval()
    s = {k.removeprefix("vision_model."): v for k, v in theirs.state_dict().items()}
    state = {
        "patch.weight": s["embeddings.patch_embedding.weight"], "token": s["embeddings.class_embedding"].view(1, 1, -1),
        "positions": s["embeddings.position_embedding.weight"][None],
        "first.weight": s["pre_layrnorm.weight"], "first.bias": s["pre_layrnorm.bias"],
        "norm.weight": s["post_layernorm.weight"], "norm.bias": s["post_layernorm.bias"], "patch.bias": torch.zeros(128),
    }  # fmt: skip
    for i in range(2):
        for kind in ("weight", "bias"):
            at = f"encoder.layers.{i}."
            state[f"blocks.{i}.qkv.{kind}"] = torch.cat([s[f"{at}self_attn.{n}_proj.{kind}"] for n in "qkv"])
            state[f"blocks.{i}.proj.{kind}"] = s[f"{at}self_attn.out_proj.{kind}"]
            for a, b in [("norm1", "layer_norm1"), ("norm2", "layer_norm2"), ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2")]:
                state[f"blocks.{i}.{a}.{kind}"] = s[f"{at}{b}.{kind}"]
    ours.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x).pooler_output, atol=1e-4)


def timm_names(width: int, depth: int, seed: int, clip: bool) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width), "pos_embed": (1, 5, width), "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,), "norm.weight": (width,), "norm.bias": (width,),
    }  # fmt: skip
    if clip:
        shapes |= {"pos_drop.weight": (width,), "pos_drop.bias": (width,), "proj": (width, 4)}
    for i in range(depth):
        for name, out, into in [
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ]:
            shapes |= {f"blocks.{i}.{name}.weight": (out, into), f"blocks.{i}.{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.weight": (width,), f"blocks.{i}.{name}.bias": (width,)}
    return {k: 0.2 * torch.randn(*v, generator=rng) for k, v in shapes.items()}


def test_dreamsim_from_the_released_layout(tmp_path: Path, frames: torch.Tensor) -> None:
    rng = torch.Generator().manual_seed(9)
    for i, (name, file) in enumerate([("dino_vitb16", "dino_vitbase16_pretrain.pth"), ("clip_vitb16", "clip_vitb16_pretrain.pth.tar"),
                                      ("open_clip_vitb16", "open_clip_vitb16_pretrain.pth.tar")]):  # fmt: skip
        state = timm_names(64, 2, i, i > 0)
        torch.save(state if i == 0 else {"state_dict": state}, tmp_path / file)
        pairs = {}
        for b in range(2):
            key = f"base_model.model.model.blocks.{b}.attn.qkv.lora_"
            pairs |= {
                key + "A.weight": torch.randn(16, 64, generator=rng),
                key + "B.weight": torch.randn(192, 16, generator=rng),
            }
        (tmp_path / f"{name}_lora").mkdir()
        torch.save(pairs, tmp_path / f"{name}_lora" / "adapter_model.bin")
    extractor = DreamSim.load(tmp_path, size=32)
    found = extractor(frames)
    assert found.shape == (3, 64 + 4 + 4)
    assert torch.allclose(found.mean(1), torch.zeros(3), atol=1e-6)
    assert frame_consistency(found[:1].repeat(2, 1)) == pytest.approx(1)
    # The corrections count: without them other features come out.
    torch.save({k: 0 * v for k, v in pairs.items()}, tmp_path / "open_clip_vitb16_lora" / "adapter_model.bin")
    plain = DreamSim.load(tmp_path, size=32)
    assert not torch.allclose(plain(frames), found, atol=1e-4) and plain.version != extractor.version
    torch.save({}, tmp_path / "clip_vitb16_lora" / "adapter_model.bin")
    with pytest.raises(WeightsError, match="corrections of 2 blocks"):
        DreamSim.load(tmp_path, size=32)


def test_the_list_loads_no_torch() -> None:
    code = "import sys, vivant.metrics.extractors as e; e.EXTRACTORS['i3d'].as_dict(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
