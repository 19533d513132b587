"""LoRA: what peft computes, what diffusers reads and writes, merged into priors; files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import nn

from vivant.errors import SettingError, WeightsError
from vivant.priors import lora
from vivant.train import lora as learning

PATTERN = r".*attn[12]\.(to_q|to_k|to_v|to_out\.0)"


def unet() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, attention_head_dim=4, norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).eval()  # fmt: skip


@torch.no_grad()
def said(net: Any) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    x, text = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 3, 8, generator=rng)
    return net(x, 10, text).sample


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Any, Path]:
    """A network with a LoRA that has learnt something, and its file."""
    net = unet()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        names = learning.inject(net, PATTERN, rank=3, alpha=6)
        assert len(names) == 8 * sum("transformer_blocks.0.attn1.to_q" in n for n in names)
        for name, parameter in net.named_parameters():
            if ".lora_B." in name:
                nn.init.normal_(parameter, std=0.2)
    return net, learning.save(net.state_dict(), tmp_path, alpha=6)


def test_a_fresh_one_changes_nothing() -> None:
    net = unet()
    before = said(net)
    learning.inject(net, PATTERN, rank=2)
    assert torch.equal(said(net), before)
    with pytest.raises(SettingError, match="none matches"):
        learning.inject(unet(), "nothing")


def test_merged_it_computes_what_peft_does(trained: tuple[Any, Path]) -> None:
    net, path = trained
    plain = unet()
    before = said(plain)
    count = lora.load_into(SimpleNamespace(parts=SimpleNamespace(unet=plain)), path)
    assert count == len(lora.read(path))
    assert torch.allclose(said(plain), said(net), atol=1e-5)
    assert (said(plain) - before).abs().max() > 0.01
    lora.load_into(SimpleNamespace(pipe=SimpleNamespace(unet=plain)), path.parent, scale=-1)
    assert torch.allclose(said(plain), before, atol=1e-5)


def test_a_rank_stabilised_one_and_alphas_of_single_layers(tmp_path: Path) -> None:
    net = unet()
    names = [name for name, module in net.named_modules() if name.endswith(("attn1.to_q", "attn1.to_k"))]
    own = {"attn1.to_q": 12}
    told = {"r": 3, "lora_alpha": 6, "use_rslora": True, "alpha_pattern": own, "target_modules": names}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        inject_adapter_in_model(LoraConfig(**told, init_lora_weights=False), net)
    state = {f"unet.{k.replace('.default.', '.')}": v for k, v in net.state_dict().items() if ".lora_" in k}
    save_file(state, tmp_path / lora.NAME, {lora.METADATA: json.dumps({f"unet.{k}": v for k, v in told.items()})})
    plain = unet()
    lora.load_into(SimpleNamespace(parts=SimpleNamespace(unet=plain)), tmp_path)
    assert torch.allclose(said(plain), said(net), atol=1e-5)


def test_diffusers_reads_the_file(trained: tuple[Any, Path]) -> None:
    net, path = trained
    theirs = unet()
    theirs.load_lora_adapter(str(path.parent), prefix="unet", weight_name=lora.NAME)
    assert torch.allclose(said(theirs), said(net), atol=1e-5)


def test_a_file_of_diffusers_is_read(trained: tuple[Any, Path], tmp_path: Path) -> None:
    net, path = trained
    theirs = unet()
    theirs.load_lora_adapter(str(path.parent), prefix="unet", weight_name=lora.NAME)
    theirs.save_lora_adapter(tmp_path / "theirs", adapter_name="default_0")
    found = next((tmp_path / "theirs").glob("*.safetensors"))
    plain = unet()
    lora.load_into(SimpleNamespace(parts=SimpleNamespace(unet=plain)), found)
    assert torch.allclose(said(plain), said(net), atol=1e-5)


def test_older_spellings_are_read(trained: tuple[Any, Path], tmp_path: Path) -> None:
    net, path = trained
    old: dict[str, torch.Tensor] = {}
    for key, value in load_file(path).items():
        old[key.replace("lora_A", "lora.down").replace("lora_B", "lora.up")] = value
        old[key.partition(".lora_")[0] + ".alpha"] = torch.tensor(6.0)
    save_file(old, tmp_path / "old.safetensors")
    plain = unet()
    lora.load_into(SimpleNamespace(parts=SimpleNamespace(unet=plain)), tmp_path / "old.safetensors")
    assert torch.allclose(said(plain), said(net), atol=1e-5)


def test_convolutions_are_merged_too(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    net = nn.ModuleDict({"c": nn.Conv2d(3, 5, 3, padding=1, bias=False)})
    down, up = torch.randn(2, 3, 3, 3, generator=rng), torch.randn(5, 2, 1, 1, generator=rng)
    save_file({"unet.c.lora_A.weight": down, "unet.c.lora_B.weight": up}, tmp_path / "c.safetensors")
    x = torch.randn(1, 3, 6, 6, generator=rng)
    expected = net["c"](x) + nn.functional.conv2d(nn.functional.conv2d(x, down, padding=1), up)
    lora.load_into(SimpleNamespace(parts=SimpleNamespace(unet=net)), tmp_path / "c.safetensors")
    assert torch.allclose(net["c"](x), expected, atol=1e-4)


def test_what_does_not_fit_is_refused_and_changes_nothing(trained: tuple[Any, Path], tmp_path: Path) -> None:
    state = load_file(trained[1])
    plain = unet()
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    prior = SimpleNamespace(parts=SimpleNamespace(unet=plain), card=SimpleNamespace(name="toy"))

    def refused(changed: dict[str, torch.Tensor], words: str) -> None:
        save_file(changed, tmp_path / "bad.safetensors")
        with pytest.raises(WeightsError, match=words) as caught:
            lora.load_into(prior, tmp_path / "bad.safetensors")
        assert "\n" not in str(caught.value)
        assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())

    last = sorted(state)[-1].partition(".lora_")[0]
    pair = {
        f"{last}.lora_A.weight": state[f"{last}.lora_A.weight"],
        f"{last}.lora_B.weight": state[f"{last}.lora_B.weight"],
    }
    rest = {k: v for k, v in state.items() if not k.startswith(last)}
    refused(rest | {k.replace("unet.", "unet.not_there."): v for k, v in pair.items()}, "no such layer")
    refused(
        rest | {f"{last}.lora_A.weight": torch.ones(3, 5), f"{last}.lora_B.weight": torch.ones(4, 3)},
        "expected a LoRA of",
    )
    refused(rest | {f"{last}.lora_A.weight": pair[f"{last}.lora_A.weight"]}, "both halves")
    refused({"conv_in.weight": torch.ones(3)}, "got conv_in.weight")
    refused({"text_encoder.a.lora_A.weight": torch.ones(1, 1)}, "of a video network")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match="expected a LoRA"):
        lora.read(tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match="expected a LoRA"):
        lora.read(tmp_path / "none.safetensors")
    with pytest.raises(SettingError, match="toy has none; choose another --model"):
        lora.load_into(SimpleNamespace(card=SimpleNamespace(name="toy")), trained[1])
