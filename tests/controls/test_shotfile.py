"""Shot files: all they may say, said in YAML and JSON; every mistake with its line; the page that describes them."""

import inspect
import json
import re
from pathlib import Path

import pytest
import yaml

from vivant import pipeline
from vivant.controls import shotfile
from vivant.controls.told import Told
from vivant.errors import InputError
from vivant.shot import Arrow

PAGE = Path(__file__).parents[2] / "docs" / "shotfile.md"
FULL = """
painting: boat.jpg
prompt: Clouds drift slowly   # what moves
negative: no people
out: boat.mp4
model: miniature
mask: sky.svg#clouds
feather: 2%
strength: 1e-1
arrows:
  - 0.2,0.3:0.5,0.3
  - [0.1, 0.1, 0.2, 0.2]
regions:
  - {mask: [0.1, 0.2, 0.5, 0.9], prompt: no, strength: .4, feather: 12}
  - mask: [[0, 0], [1, 0], [1, 1]]
    prompt: "The boat: it sails"
    arrows: ["0.2,0.3:0.5,0.3"]
compose: in turn
frames: 24
fps: 8
steps: 16
seed: 7
guidance: 3
proxy: other.png
distil: 0.5
distil_evaluations: 2
curve: linear-decreasing
gain: 1.5
blend: lerp
loop: yes
last: end.png
size: 1920x1080
model_size: 512x320
device: cpu
dtype: float32
allow-smaller: false
lora: [mine.safetensors, "theirs:0.8"]
"""


def parse(text, folder=Path("/shots"), name="shot.yaml"):
    return shotfile.parse(text, folder, name)


def test_everything_a_file_may_say():
    found = parse(FULL)
    assert set(found) == set(shotfile.KEYS)
    assert found["painting"] == "/shots/boat.jpg" and found["mask"] == "/shots/sky.svg#clouds"
    assert (
        found["strength"] == 0.1
        and found["seed"] == 7
        and found["model_size"] == (512, 320)
        and isinstance(found["frames"], int)
    )
    assert found["arrows"] == (Arrow(0.2, 0.3, 0.5, 0.3), Arrow(0.1, 0.1, 0.2, 0.2))
    first, second = found["regions"]
    assert first == Told("[0.1, 0.2, 0.5, 0.9]", "no", 0.4, (), "12")  # a sentence, whatever YAML takes it for
    assert second.prompt == "The boat: it sails" and json.loads(second.mask) == [[0, 0], [1, 0], [1, 1]]
    assert found["loop"] is True and found["allow_smaller"] is False and found["proxy"] == "/shots/other.png"


def test_json_says_the_same_and_knows_its_lines():
    plain = yaml.safe_load(FULL)
    plain["regions"][0]["prompt"], plain["strength"] = "no", 0.1
    assert parse(json.dumps(plain, indent="\t"), name="shot.json") == parse(FULL)
    with pytest.raises(InputError, match=r"^shot\.json:3: expected seed"):
        parse('{\n\t"painting": "a.jpg", "prompt": "sky",\n\t"seed": "now"}', name="shot.json")
    assert parse(json.dumps({"painting": "a.jpg", "prompt": "🌊 ripples"}))["prompt"] == "🌊 ripples"


def test_names_stay_names_and_paths_are_beside_the_file(tmp_path):
    found = parse(
        "painting: /abs/a.jpg\nprompt: sky\nproxy: none\nmodel: hub:owner/name\nmask: 0.1,0.2,0.5,0.9\nstrength:"
    )
    assert found["painting"] == "/abs/a.jpg" and found["proxy"] == "none" and found["model"] == "hub:owner/name"
    assert found["mask"] == "0.1,0.2,0.5,0.9" and "strength" not in found
    (tmp_path / "one.yaml").write_text("painting: a.jpg\nregions: [{mask: m.png, prompt: sky}]", "utf-8")
    found = shotfile.load(tmp_path / "one.yaml")
    assert found["painting"] == str(tmp_path / "a.jpg") and found["regions"][0].mask == str(tmp_path / "m.png")
    assert found["prompt"] == ""


MISTAKES = [
    ("painting: a\nprompt: b\nstrenght: .4", 3, "did you mean strength?"),
    ("painting: a\nprompt: b\nzzz: .4", 3, "known: painting"),
    ("painting: a\nprompt: b\nstrength: 1.5", 3, "expected strength as a number from 0 to 1, got '1.5'"),
    ("painting: a\nprompt: b\nstrength: much", 3, "expected strength"),
    ("painting: a\nprompt: b\nframes: 2.5", 3, "expected frames as a whole number"),
    ("painting: a\nprompt: b\nsteps: .nan", 3, "expected steps"),
    ("painting: a\nprompt: b\nloop: maybe", 3, "expected loop as yes or no"),
    ("painting: a\nprompt: b\nmodel_size: 512", 3, "WIDTHxHEIGHT"),
    ("painting: a\nprompt: b\nblend: mix", 3, "slerp or lerp"),
    ("painting: a\nprompt: [b]", 2, "got a list"),
    ("painting: a\nprompt: b\nprompt: c", 3, "in line 2 already"),
    ("painting: a\nprompt: b\nfeather: wide", 3, "expected feather"),
    ("painting: a\nprompt: b\narrows:\n- 0.1,0.1:0.2,0.2\n- up", 5, "expected an arrow"),
    ("painting: a\nprompt: b\narrows: [[0, 0, 2, 2]]", 3, "inside the picture"),
    ("painting: a\nprompt: b\narrows: 3", 3, "a list of arrows"),
    ("painting: a\nprompt: b\nregions:\n  - mask: c.png", 4, "expected prompt"),
    ("painting: a\nprompt: b\nregions:\n  - mask: c.png\n    prompt: d\n    mode: e", 6, "got 'mode'"),
    ("painting: a\nprompt: b\nregions:\n  - just text", 4, "expected names and values"),
    ("painting: a\nprompt: b\nmask: {}", 3, "expected mask"),
    ("painting: a", 1, "expected prompt"),
    ("\n\nprompt: b", 3, "expected painting"),
    ("", 1, "the file is empty"),
    ("- a", 1, "expected names and values"),
    ("painting: &x a\nprompt: *x", 2, "an alias"),
    ("painting: a\nprompt: 'b", 2, "expected YAML or JSON"),
    ("painting: a\n\tprompt: b", 2, "expected YAML or JSON"),
    ("painting: a\nprompt: \x00", 1, "expected YAML or JSON"),
]


@pytest.mark.parametrize(("text", "line", "said"), MISTAKES)
def test_mistakes_are_named_with_their_line(text, line, said):
    with pytest.raises(InputError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith(f"shot.yaml:{line}: ") and said in message and "\n" not in message


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        shotfile.load(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_bytes(b"prompt: \xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        shotfile.load(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("#" * (shotfile.LARGEST + 1))
    with pytest.raises(InputError, match="at most"):
        shotfile.load(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_text("[" * 5000)
    with pytest.raises(InputError, match=r"^c\.yaml:\d+: expected YAML or JSON"):
        shotfile.load(tmp_path / "c.yaml")


def test_what_is_given_besides_the_file_wins():
    merged = shotfile.merged(
        {"prompt": "a", "seed": 1, "loop": True}, {"prompt": "", "seed": 2, "mask": None, "arrows": ()}
    )
    assert merged == {"prompt": "a", "seed": 2, "loop": True}


def test_settings_are_those_of_animate():
    """What the pipeline takes and a file does not say, and the other way round, is known by name."""
    takes = set(inspect.signature(pipeline.animate).parameters)
    assert takes - set(shotfile.KEYS) <= {"on_progress", "loaded"}
    assert set(shotfile.KEYS) - takes <= {"out", "feather", "regions", "compose", "last"}


def test_the_page_describes_every_setting_and_its_example_holds():
    text = PAGE.read_text("utf-8")
    described = re.findall(r"^\| `(\w+)` \|", text.split("## Regions")[0], re.M)
    assert described == list(shotfile.KEYS)
    assert re.findall(r"^\| `(\w+)` \|", text.split("## Regions")[1], re.M) == list(shotfile.REGION)
    for name, key in shotfile.KEYS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert key.wanted in row, f"{name}: the page says {row!r}, errors say {key.wanted!r}"
    examples = re.findall(r"```(yaml|json)\n(.*?)```", text, re.S)
    assert {kind for kind, _ in examples} == {"yaml", "json"}
    for _, example in examples:
        parse(example)


def test_no_more_is_read_than_a_shot_file_may_have(tmp_path):
    for endless in (tmp_path / "large.yaml", Path("/dev/zero")):
        (tmp_path / "large.yaml").write_text("# " + "x" * 300_000)
        with pytest.raises(InputError, match="expected a shot file of at most"):
            shotfile.load(endless)
