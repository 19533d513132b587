"""models, pull, convert, doctor and --plan as a user meets them."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import vivant
from vivant import memory
from vivant.cli import app, run
from vivant.machine import Machine
from vivant.priors import registry
from vivant.proxy.registry import PROXIES

from .weights.hub import Hub

DEMO = next(iter(vivant.__path__)) + "/data/demo.jpg"
GB = 10**9


def call(*words):
    return run(lambda: app([str(w) for w in words], standalone_mode=False))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path / "models"))
    with Hub({"owner/name": {"model_index.json": b"{}", "unet/a.safetensors": b"w" * 3000}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_models_in_words_and_in_json(capsys):
    assert call("models") == 0
    words = capsys.readouterr().out
    names = [*registry.REGISTRY, *PROXIES]
    assert all(f"{name}  " in words for name in names)
    assert all(words.count(f"\n    {fact}") == len(names) for fact in ("licence", "territory", "download"))
    assert call("models", "cinemo") == 0
    assert "unet 911 M" in capsys.readouterr().out
    assert call("models", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in listed["models"]] == list(registry.REGISTRY)
    assert [(row["name"], row["present"]) for row in listed["proxies"]] == [(n, PROXIES[n].present) for n in PROXIES]
    assert call("models", "invsr") == 0
    words = capsys.readouterr().out
    assert "non-commercial" in words and "5.3 GB" in words and "proxy/invsr" in words
    assert call("models", "cinemo", "--json") == 0
    assert json.loads(capsys.readouterr().out)["memory_bytes"]["float32"] > 4 * 911_092_740
    assert call("models", "nobody") == 2


def test_doctor_in_words_and_in_json(capsys):
    assert call("doctor") == 0
    words = capsys.readouterr().out
    for expected in ("torch", "diffusers", "transformers", "opencv", "RAM free", "disk", "h264", "hub cache", "fits:"):
        assert expected in words
    assert call("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["versions"]["torch"] == torch.__version__.split("+")[0] or found["versions"]["torch"] == torch.__version__
    )
    assert [row["name"] for row in found["models"]] == list(registry.REGISTRY) and found["models"][0]["fits"]
    assert all(place["free"] > 0 for place in found["disk"])


def test_the_three_verdicts(monkeypatch, capsys):
    monkeypatch.setattr("vivant.machine.machine", lambda *a: Machine("cuda", 64 * GB, 64 * GB, 0, 6 * GB, True))
    assert call("doctor", "--json") == 0
    verdicts = {row["name"]: row["verdict"] for row in json.loads(capsys.readouterr().out)["models"]}
    assert verdicts["consisti2v"].startswith("fits:")
    assert verdicts["dynamicrafter_1024"].startswith("too large")
    assert any(v.startswith("fits with offloading") for v in verdicts.values())


def test_a_plan_is_printed_and_nothing_is_loaded(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "load", lambda *a, **k: pytest.fail("it was loaded"))
    assert call("animate", DEMO, "Clouds drift", "--plan") == 0
    words = capsys.readouterr().out
    assert "evaluations" in words and "fits" in words and "nothing to download" in words
    assert call("animate", DEMO, "Clouds drift", "--plan", "--model", "dynamicrafter_1024", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peak"] > 4 * 10**9 and found["steps"] == 50 and found["evaluations"] == 81
    assert (
        call(
            "animate",
            DEMO,
            "Clouds drift",
            "--plan",
            "--model",
            "cinemo",
            "--steps",
            "10",
            "--proxy",
            "none",
            "--distil",
            "0",
            "--json",
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["evaluations"] == 10
    assert call("animate", DEMO, "Clouds drift", "--plan", "--dtype", "float9") == 2
    assert call("animate", "missing.png", "Clouds drift", "--plan") == 2
    assert os.listdir(tmp_path) == []


def test_too_large_is_one_line_before_anything_is_loaded(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(memory, "machine", lambda device, folder=None: Machine("cpu", 8 * GB, 4 * GB))
    assert call("animate", DEMO, "Clouds drift", "--model", "cinemo", "-o", tmp_path / "a.gif") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "4.0 GB are free" in lines[0] and not os.listdir(tmp_path)


def test_a_model_that_is_not_here_says_pull(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path))
    monkeypatch.setattr(memory, "machine", lambda device, folder=None: Machine("cpu", 99 * GB, 99 * GB))
    assert call("animate", DEMO, "Clouds drift", "--model", "cinemo", "-o", tmp_path / "a.gif") == 1
    assert "vivant pull cinemo" in capsys.readouterr().err


def test_pull_asks_first(hub, capsys, tmp_path):
    assert call("pull", "hub:owner/name") == 2
    err = capsys.readouterr().err
    assert "apache-2.0" in err and "--yes" in err and not (tmp_path / "models").exists()
    assert call("pull", "hub:owner/name", "--yes") == 0
    seen = capsys.readouterr()
    assert seen.out.strip() == str(tmp_path / "models" / "owner--name") and "licence" in seen.err
    assert (tmp_path / "models" / "owner--name" / "unet" / "a.safetensors").read_bytes() == b"w" * 3000
    assert call("pull", "hub:owner/name", "--yes", "--folder", tmp_path / "else") == 0
    assert (tmp_path / "else" / "model_index.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("hub:owner/other",), 1, "none of that name"), (("miniature",), 2, "in the package"), (("nobody",), 2, "vivant models"),
        (("hub:owner/name", "--folder", "/proc/nowhere"), 2, "/proc"),
    ],
)  # fmt: skip
def test_what_cannot_be_pulled_is_one_line(hub, capsys, words, code, said):
    assert call("pull", *words, "--yes") == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vivant:")]
    assert len(lines) == 1 and said in lines[0]


def test_an_interrupted_pull_says_how_to_go_on(hub, tmp_path):
    """A real interrupt in a real process, while the server has sent half."""
    code = (
        "import os, signal, vivant.weights.fetch as f; read = f._read\n"
        "def stopped(answer):\n    block = read(answer)\n    os.kill(os.getpid(), signal.SIGINT); return block[:1000]\n"
        "f._read = stopped\n"
        "import sys; sys.argv = ['vivant', 'pull', 'hub:owner/name', '--yes']\n"
        "from vivant.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130 and "goes on from here" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("a.safetensors"))
    hub.asked.clear()
    assert call("pull", "hub:owner/name", "--yes") == 0
    assert (tmp_path / "models/owner--name/unet/a.safetensors").read_bytes() == b"w" * 3000


def test_convert(tmp_path, capsys):
    torch.save({"state_dict": {"w": torch.ones(2), "epoch": 3}}, tmp_path / "a.ckpt")
    assert call("convert", tmp_path / "a.ckpt", tmp_path / "b.safetensors") == 0
    seen = capsys.readouterr()
    assert seen.out.strip() == str(tmp_path / "b.safetensors") and "1 tensors, 1 other" in seen.err
    assert torch.equal(load_file(tmp_path / "b.safetensors")["w"], torch.ones(2))
    assert call("convert", tmp_path / "a.ckpt", tmp_path / "b.safetensors") == 2
    assert call("convert", tmp_path / "a.ckpt", tmp_path / "c.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tensors"] == 1
    assert call("convert", tmp_path / "none.ckpt", tmp_path / "d.safetensors") == 1


def test_help_loads_no_torch():
    code = (
        "import sys, vivant.cli\ntry:\n    vivant.cli.app(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(bool({'torch', 'diffusers', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("models", "pull", "convert", "doctor"))
