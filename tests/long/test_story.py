"""Scripts as they are written by hand, and what is said of those no film can be made of."""

from __future__ import annotations

import json
import threading
import wave
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vivant.errors import InputError, ModelError, SettingError
from vivant.long.cards import card, entering, fitted, leaving, shown
from vivant.long.draft import draft
from vivant.long.film import work_folder
from vivant.long.story import parse, read
from vivant.long.tell import retell, stretched, tell, timing
from vivant.render.export import read_recipe

YAML = """\
title: Evening by the river
fps: 8
audio: harp.wav
seed: 7
shots:
  - painting: boat.png
    prompt: Clouds drift to the right
    seconds: 2
  - painting: ship.png
    prompt: The water ripples
    seconds: 1.5
    transition: dissolve
    strength: 0.8
  - title: The end
    seconds: 1
    transition: fade
"""
PLAIN = """\
title: Evening by the river
fps: 8
audio: harp.wav
seed: 7

boat.png 2s
Clouds drift
to the right

ship.png 1.5s dissolve
The water ripples

# The end
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from vivant.data.scenes import sample

    for name, seed, width in (("boat.png", 11, 96), ("ship.png", 12, 64)):
        Image.fromarray(sample(np.random.default_rng(seed), 96, still=False).picture[:, :width]).save(tmp_path / name)
    sound = (np.sin(np.arange(3 * 22050) * 2 * np.pi * 440 / 22050) * 12000).astype(np.int16)
    with wave.open(str(tmp_path / "harp.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(sound.tobytes())
    return tmp_path


def test_both_ways_of_writing_say_the_same(folder: Path) -> None:
    one, two = parse(YAML, folder), parse(PLAIN, folder, plain=True)
    assert one.audio == two.audio == folder / "harp.wav" and one.fps == two.fps == 8
    assert [s.title for s in one.shots] == [s.title for s in two.shots] == ["Evening by the river", "", "", "The end"]
    for a, b in zip(one.shots[1:3], two.shots[1:3], strict=True):
        assert (a.painting, a.prompt, a.seconds, a.transition) == (b.painting, b.prompt, b.seconds, b.transition)
    assert one.shots[2].how == {"seed": 7, "strength": 0.8} and two.shots[2].how == {"seed": 7}
    assert [s.line for s in one.shots] == [1, 6, 9, 14]


@pytest.mark.parametrize(("change", "said"), [
    (("  - painting: boat.png", "  - painting: gone.png"), "line 6: expected a picture at .*gone.png"),
    (("    prompt: The water ripples", "    prompt: "), "line 10: expected a prompt"),
    (("transition: dissolve", "transition: wipe"), "line 12: expected a transition among cut"),
    (("seconds: 1.5", "seconds: 0"), "line 11: expected seconds between"),
    (("seconds: 1.5", "seconds: soon"), "line 11: expected seconds between"),
    (("audio: harp.wav", "audio: flute.wav"), "line 3: expected a sound at .*flute.wav, found no such file"),
    (("audio: harp.wav", "audio: boat.png"), "line 3: expected a sound at .*boat.png"),
    (("strength: 0.8", "strenght: 0.8"), "line 13: expected .* got 'strenght'"),
    (("strength: 0.8", "strength: much"), "line 13: expected strength as int or float, got 'much'"),
    (("seed: 7", "seed: [7"), "line [56]: expected YAML"),
    (("fps: 8", "fps: 0"), "line 2: expected fps between 1 and 120"),
    (("  - title: The end", "  - prompt: The end"), "line 14: expected a painting"),
])  # fmt: skip
def test_complaints_name_their_line(folder: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in YAML
    with pytest.raises(InputError, match=f"^script {said}") as found:
        parse(YAML.replace(*change), folder)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("text", "plain", "said"), [
    ("", False, "line 1: expected a mapping"), ("shots: []", False, "line 1: expected shots, got none"),
    ("fps: 8\nshots:\n  - title: a", False, "line 2: expected a shot with a painting"),
    ("shots:\n  - boat.png", False, "line 1: expected a shot"), ("", True, "line 1: expected shots"),
    ("boat.png 2s\n", True, "line 1: expected a prompt"), ("Once upon a time\nit moves", True, "line 1: expected 'PAINTING"),
    ("fps: 8\n\nboat.png 2s melting\nit moves", True, "line 3: expected a transition"),
])  # fmt: skip
def test_scripts_of_nothing(folder: Path, text: str, plain: bool, said: str) -> None:
    with pytest.raises(InputError, match=f"^script {said}"):
        parse(text, folder, plain=plain)


def test_a_missing_script(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a script at"):
        read(tmp_path / "gone.yaml")


def test_seconds_are_what_is_seen(folder: Path) -> None:
    story = parse(YAML, folder)
    assert [timing(story, k) for k in range(4)] == [(24, 0, 0, 0), (16, 0, 0, 8), (12, 0, 4, 0), (8, 4, 0, 0)]


def test_transitions() -> None:
    white, black = np.full((4, 4, 3), 200, np.uint8), np.zeros((4, 4, 3), np.uint8)
    rest: list[np.ndarray] = []
    out = list(leaving(iter([white] * 9), 6, 0, 3, rest))
    assert len(out) == 6 and len(rest) == 3
    levels = [int(f.mean()) for f in entering(iter([black] * 5), rest, 0)]
    assert levels == [150, 100, 50, 0, 0]
    levels = [int(f.mean()) for f in leaving(iter([white] * 5), 5, 3, 0, [])]
    assert levels == [200, 200, 150, 100, 50]
    assert [int(f.mean()) for f in entering(iter([white] * 3), [], 2)] == [67, 133, 200]
    assert [int(f.mean()) for f in shown(white, 5, 2)] == [100, 200, 200, 200, 100]
    assert [int(f.mean()) for f in stretched(iter([white, black]), 2, 5)] == [200, 200, 200, 0, 0]


def test_paintings_are_not_cropped_and_words_are_seen() -> None:
    frame = fitted(np.full((40, 20, 3), 255, np.uint8), (80, 40))
    assert frame.shape == (40, 80, 3) and (frame[:, 30:50] == 255).all() and not frame[:, :30].any()
    words = card("A rather long title that has to be wrapped", (320, 180))
    ys, xs = np.nonzero(words.max(2) > 100)
    assert words.shape == (180, 320, 3) and np.ptp(ys) > 30 and xs.min() > 20 and xs.max() < 300
    assert abs(xs.min() + xs.max() - 320) < 20 and abs(ys.min() + ys.max() - 180) < 30


def test_a_story_is_one_film_with_sound(folder: Path, monkeypatch) -> None:
    text = YAML.replace("seed: 7", "seed: 7\nsteps: 3\nproxy: none\ndistil: 0\nwindow: 16").replace(
        "  seconds: 2", "  seconds: 3"
    )
    (folder / "river.yaml").write_text(text)
    out = folder / "film.mp4"
    import vivant.long.tell as telling

    real, shots = telling.dreamt, []

    def stops(*given: Any) -> Any:
        shots.append(1)
        if len(shots) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(telling, "dreamt", stops)
    with pytest.raises(KeyboardInterrupt):
        tell(folder / "river.yaml", out)
    assert (
        (work_folder(out) / "part_00001.mp4").exists() and (folder / "film.partial.mp4").exists() and not out.exists()
    )
    film = tell(folder / "river.yaml", out)
    assert len(shots) == 3, "the first shot was not dreamt again"
    assert film.frames == 24 + 24 + 12 + 8
    with av.open(str(out)) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    with av.open(str(out)) as file:
        sound = [f.to_ndarray() for f in file.decode(audio=0)]
    assert len(frames) == film.frames and frames[0].shape == (96, 96, 3)
    seconds = sum(s.shape[1] for s in sound) / 48000
    assert seconds == pytest.approx(3, abs=0.1), "the sound ends with itself or the film, whichever is first"
    assert np.abs(np.concatenate(sound, 1)).mean() > 0.1
    assert frames[0].max() > 20 and frames[48 + 11][:, :10].max() < 40, "the narrower painting has black beside it"
    assert not work_folder(out).exists() and not (folder / "film.partial.mp4").exists()


# Drafts


class Answer(BaseHTTPRequestHandler):
    """Answers as an OpenAI-compatible endpoint."""

    says: Any = ""
    status = 200
    asked: dict[str, Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Answer.asked = {"path": self.path, "body": body, "key": self.headers.get("Authorization")}
        said = (
            self.says
            if isinstance(self.says, bytes)
            else json.dumps({"choices": [{"message": {"content": self.says}}]}).encode()
        )
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Answer.status = 200
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


GOOD = "Here it is:\n```yaml\ntitle: River\nshots:\n- painting: boat.png\n  prompt: Clouds drift\n  seconds: 3\n```\nEnjoy!"


def test_a_draft_is_a_script_that_can_be_told(folder: Path, endpoint: str) -> None:
    Answer.says = GOOD
    text = draft(endpoint, "some-model", "a calm evening", [folder / "boat.png"], folder, key="k")
    assert parse(text, folder).shots[1].prompt == "Clouds drift" and "Enjoy" not in text
    asked = Answer.asked
    assert asked["path"] == "/v1/chat/completions" and asked["key"] == "Bearer k"
    assert asked["body"]["model"] == "some-model" and "boat.png" in asked["body"]["messages"][0]["content"]
    assert asked["body"]["messages"][1] == {"role": "user", "content": "a calm evening"}


@pytest.mark.parametrize(("says", "status", "said"), [
    ("no script at all", 200, "cannot be used"), ("", 200, "empty answer"), (b"<html>", 200, "OpenAI-compatible"),
    (GOOD.replace("boat.png", "gone.png"), 200, "cannot be used"), (GOOD.replace("boat.png", "ship.png"), 200, "not given"),
    ("x", 503, "status 503"),
])  # fmt: skip
def test_answers_that_are_no_script(folder: Path, endpoint: str, says: Any, status: int, said: str) -> None:
    Answer.says, Answer.status = says, status
    with pytest.raises(ModelError, match=said):
        draft(endpoint, "some-model", "", [folder / "boat.png"], folder)


def test_what_cannot_be_asked(folder: Path) -> None:
    boat = [folder / "boat.png"]
    with pytest.raises(SettingError, match="http"):
        draft("file:///etc/passwd", "m", "", boat, folder)
    with pytest.raises(SettingError, match="--model"):
        draft("http://localhost:1", " ", "", boat, folder)
    with pytest.raises(InputError, match="at least one painting"):
        draft("http://localhost:1", "m", "", [], folder)
    with pytest.raises(ModelError, match="expected an answer"):
        draft("http://127.0.0.1:1/v1", "m", "", boat, folder, timeout=5)


def test_scripts_that_grow_when_they_are_read(folder: Path) -> None:
    twice = "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrstuvwxyz"))
    for text in ("a: &a [x, x]\n" + twice + "shots: [*z]\n", "shots: " + "[" * 5000 + "]" * 5000):
        with pytest.raises(InputError, match=r"^script line \d+: expected (every value|YAML)"):
            parse(text, folder)
    with pytest.raises(InputError, match="got nothing"):
        parse("", folder)
    (folder / "large.yaml").write_text("# " + "x" * 300_000)
    for endless in (folder / "large.yaml", Path("/dev/zero")):
        with pytest.raises(InputError, match="expected a script of at most"):
            read(endless)


def test_plain_titles_are_taken_as_they_are(folder: Path) -> None:
    story = parse("title: Evening: by the [river\nfps: 8\n\nboat.png 2s\nClouds drift\n", folder, plain=True)
    assert story.shots[0].title == "Evening: by the [river" and story.fps == 8
    with pytest.raises(InputError, match=r"line 1: expected fps between 1 and 120, got '\['"):
        parse("fps: [\n\nboat.png 2s\nClouds drift\n", folder, plain=True)


@pytest.mark.parametrize(("mask", "kept"), [
    ("0.1,0.1,0.5,0.5", "0.1,0.1,0.5,0.5"), ("[0.1, 0.1, 0.5, 0.5]", "[0.1, 0.1, 0.5, 0.5]"),
    ("[[0.1, 0.1], [0.5, 0.1], [0.3, 0.6]]", "[[0.1, 0.1], [0.5, 0.1], [0.3, 0.6]]"),
    ("lines.svg#boat", "DIR/lines.svg#boat"), ("ship.png", "DIR/ship.png"),
])  # fmt: skip
def test_masks_in_every_form(folder: Path, mask: str, kept: str) -> None:
    (folder / "lines.svg").write_text("<svg/>")
    text = f"shots:\n  - painting: boat.png\n    prompt: Clouds drift\n    mask: '{mask}'\n"
    for form in (text, text.replace("'", "") if mask.startswith("[") else text):
        assert parse(form, folder).shots[0].mask == kept.replace("DIR", str(folder.resolve()))
    with pytest.raises(InputError, match="line 4: expected a mask at"):
        parse(text.replace(mask, "gone.svg#boat"), folder)


REGIONS = """\
fps: 8
steps: 2
proxy: none
distil: 0
window: 4
shots:
  - painting: boat.png
    compose: in turn
    regions:
      - mask: 0,0,1,0.4
        prompt: Clouds drift to the right
        strength: 0.8
        arrows: [[0.2, 0.2, 0.5, 0.2]]
      - mask: sea.png
        prompt: The water ripples
        feather: 2%
    seconds: 1
"""


def test_a_shot_with_regions(folder: Path, monkeypatch) -> None:
    Image.fromarray((np.arange(96)[:, None] > 60).repeat(96, 1).astype(np.uint8) * 255).save(folder / "sea.png")
    monkeypatch.chdir(folder.parent)
    shot = parse(REGIONS.replace("[[0.2, 0.2, 0.5, 0.2]]", '"0.2,0.2:0.5,0.2*2"'), folder).shots[0]
    assert shot.hand["regions"][0]["arrows"] == [[0.2, 0.2, 0.5, 0.2, 2.0]]
    made = tell(parse(REGIONS, folder), folder / "a.mp4")
    with av.open(str(made.path)) as file:
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in file.decode(video=0)]
    moved = np.abs(frames[-1] - frames[0]).mean((1, 2))
    assert moved[:30].mean() > 4 * moved[44:56].mean(), "between the regions nothing moves"
    again = retell(read_recipe(made.path), folder / "b.mp4")
    assert again.path.read_bytes() == made.path.read_bytes()


@pytest.mark.parametrize(("change", "said"), [
    (("mask: sea.png", "mask: gone.png"), "line 14: expected a mask at"), (("strength: 0.8", "strength: 2"), "line 12: expected a strength"),
    (("prompt: The water ripples", "prompt:"), "line 14: expected a prompt in the region"), (("in turn", "zz"), "line 8: expected compose"),
    (("feather: 2%", "feather: much"), "line 16: expected a feather"), (("feather: 2%", "zz: 1"), "line 16: expected mask, prompt"),
    (("[[0.2, 0.2, 0.5, 0.2]]", "over there"), "line 13: expected an arrow"), (("seconds: 1", "last: boat.png"), "line 9: expected regions in a shot without"),
])  # fmt: skip
def test_regions_that_cannot_be(folder: Path, change: tuple[str, str], said: str) -> None:
    Image.new("L", (96, 96), 255).save(folder / "sea.png")
    with pytest.raises(InputError, match=said):
        parse(REGIONS.replace(*change), folder)


@pytest.mark.parametrize(
    "wrong", ["method: zz", "gamma: .nan", "model: zz", "strength: .nan", "seed: -1", "window: -1"]
)
def test_no_shot_is_begun_when_a_later_one_cannot_be_made(folder: Path, wrong: str, monkeypatch) -> None:
    monkeypatch.setattr("vivant.long.tell._frames", lambda *given: pytest.fail("a shot was begun"))
    story = parse(YAML.replace("strength: 0.8", wrong), folder)
    with pytest.raises(InputError, match=r"^the shot of line 9: expected"):
        tell(story, folder / "film.mp4")
    assert not work_folder(folder / "film.mp4").exists()


def test_what_nothing_can_be_gone_on_from_is_not_left(folder: Path) -> None:
    story = parse("steps: 1\nshots:\n  - painting: boat.png\n    prompt: Qwxz zzkr\n    seconds: 1\n", folder)
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match="knew none of"):
        tell(story, folder / "film.mp4")
    assert sorted(folder.iterdir()) == before


def test_a_story_is_told_again_from_its_film(folder: Path) -> None:
    text = "fps: 8\nshots:\n  - title: The end\n    seconds: 0.3\n  - painting: boat.png\n    prompt: Nothing moves\n    seconds: 0.5\n"
    made = tell(parse(text + "    steps: 1\n    distil: 0\n    proxy: none\n    window: 4\n", folder), folder / "a.mp4")
    recipe = read_recipe(made.path)
    again = retell(recipe, folder / "b.mp4")
    assert made.path.read_bytes() == again.path.read_bytes() and again.warnings == made.warnings
    for change in ({"shots": 5}, {"shots": []}, {"fps": "x"}, {"fps": 0}, {"audio": 5}, {"zzz": 1}):
        with pytest.raises(InputError, match="expected the recipe of a story"):
            retell({**recipe, "story": recipe["story"] | change}, folder / "c.mp4")
    for story in (None, 5, {}):
        with pytest.raises(InputError, match="expected the recipe of a story"):
            retell({**recipe, "story": story}, folder / "c.mp4")
    Image.new("RGB", (96, 96)).save(folder / "boat.png")
    with pytest.raises(InputError, match="pixels have changed since"):
        retell(recipe, folder / "c.mp4")
