"""What captions say of motion: by rules, against the paper's own examples; by an endpoint, against a server of ours."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vivant.data.describe import Description, by_rules
from vivant.data.endpoint import Endpoint
from vivant.errors import ModelError, OutputError, SettingError

PAPER = (
    ("Woman in gym working out", 80, "human", "woman working out"),
    ("4k corporate shot of a business woman working on computer eating funny banana", 80, "human", None),
    ("Rainy clouds sailing above a city", 50, "nature", "rainy clouds sailing"),
    ("View of the great salt lake", 5, "none", "none"),
    ("Old house with a ghost in the forest at night or abandoned haunted horror house in fog.", 10, "none", "none"),
    ("Young man in bathrobe brushing his teeth in front of the window.", 70, "human", None),
    ("Summer green maple tree swinging in the wind.", 50, "nature", None),
    ("Ripe rambutan fruits on a street market. sri lanka.", 5, "none", "none"),
)
"""DynamiCrafter, section D.1: caption, GPT-4's confidence, category and wording"""


@pytest.mark.parametrize(("caption", "confidence", "category", "wording"), PAPER)
def test_rules_agree_with_the_paper(caption: str, confidence: int, category: str, wording: str | None) -> None:
    (found,) = by_rules([caption])
    assert found.category == category and abs(found.confidence - confidence) <= 10
    assert wording is None or found.wording == wording


@pytest.mark.parametrize(
    ("caption", "wording", "category"),
    [
        ("Waves crashing on the rocky shore at sunset", "waves crashing", "nature"),
        ("A dog runs across the beach", "dog runs", "animal"),
        ("Aerial view of cars driving at night", "cars driving", "machine"),
        ("Waving American flag", "flag waving", "others"),
        ("Time lapse of clouds over mountains", "clouds moving", "nature"),
        ("Beautiful wedding morning in a building", "none", "none"),
        ("The painting of a woman sitting in a chair", "none", "none"),
        ("", "none", "none"),
    ],
)
def test_rules(caption: str, wording: str, category: str) -> None:
    assert by_rules([caption])[0].wording == wording and by_rules([caption])[0].category == category


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint: what it was asked, and what it does to each question in turn."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.questions: list[dict] = []
        self.headers: list[str | None] = []
        self.faults: list[object] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append(body)
        self.server.headers.append(self.headers["Authorization"])
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        asked = re.findall(r"(\d+)%(.*)", body["messages"][1]["content"])
        lines = [f"{n}%%{10 * int(n)}%%{text.split()[0]} going%%human" for n, text in asked]
        said = fault(lines) if callable(fault) else "\n".join(lines)
        data = json.dumps({"choices": [{"message": {"content": said}}]}).encode() if said is not None else b"<html>"
        self.send_response(200 if self.path == "/v1/chat/completions" else 404)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield serving
        serving.shutdown()


def test_batches_and_kept_answers(server: Server, tmp_path: Path) -> None:
    ask = Endpoint(server.url, "some-model", tmp_path / "d.sqlite", batch=2, key="secret")
    found = ask(["Ann runs", "Bob  runs", "", "Cy 50% runs", "Ann runs"])
    assert found[0] == found[4] == Description(10, "Ann going", "human", "some-model")
    assert [d.wording for d in found[1:4]] == ["Bob going", "none", "Cy going"]
    assert len(server.questions) == ask.asked == 2 and set(server.headers) == {"Bearer secret"}
    assert server.questions[0]["messages"][1]["content"] == "1%Ann runs\n2%Bob runs"
    assert (server.questions[0]["temperature"], server.questions[0]["model"]) == (0.2, "some-model")
    # Another run asks for nothing it has; another model asks anew.
    again = Endpoint(server.url, "some-model", tmp_path / "d.sqlite", batch=2)
    assert again(["Bob runs", "Dee sits"])[0] == found[1] and len(server.questions) == 3
    Endpoint(server.url, "other", tmp_path / "d.sqlite")(["Bob runs"])
    assert len(server.questions) == 4


def test_stopped_and_gone_on(server: Server, tmp_path: Path) -> None:
    """The second question fails for good: the first one's answers are kept."""
    server.faults = [None, 400]
    with pytest.raises(ModelError, match=r"status 400.*so far is kept"):
        Endpoint(server.url, "m", tmp_path / "d.sqlite", batch=1)(["Ann", "Bob"])
    found = Endpoint(server.url, "m", tmp_path / "d.sqlite", batch=1)(["Ann", "Bob"])
    assert [d.wording for d in found] == ["Ann going", "Bob going"] and len(server.questions) == 3


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    waits: list[float] = []
    server.faults = [429, 503]
    ask = Endpoint(server.url, "m", tmp_path / "d.sqlite", wait=waits.append)
    assert ask(["Ann"])[0].wording == "Ann going" and waits == [7.0, 7.0]
    server.faults = [500] * 4
    with pytest.raises(ModelError, match="status 500"):
        Endpoint(server.url, "m", tmp_path / "e.sqlite", wait=waits.append)(["Ann"])


def test_half_answers(server: Server, tmp_path: Path) -> None:
    """A caption left out is asked again alone; one that stays unanswered goes by the rules, and is counted."""
    server.faults = [lambda lines: lines[0]]
    ask = Endpoint(server.url, "m", tmp_path / "d.sqlite")
    assert [d.wording for d in ask(["Ann", "Bob"])] == ["Ann going", "Bob going"] and ask.unanswered == 0
    server.faults = [lambda lines: "I cannot say.", lambda lines: ""]
    late = Endpoint(server.url, "m", tmp_path / "d.sqlite")
    assert late(["A dog runs"])[0] == by_rules(["A dog runs"])[0] and late.unanswered == 1


def test_lines_as_models_write_them(server: Server, tmp_path: Path) -> None:
    server.faults = [lambda _: 'Output: ["1%%140%%man  running%%Human", "2 % 5 % none % nature", "9%50%x%human"]']
    found = Endpoint(server.url, "m", tmp_path / "d.sqlite")(["a", "b"])
    assert [(d.confidence, d.wording, d.category) for d in found] == [
        (100, "man running", "human"),
        (5, "none", "none"),
    ]


def test_bad_endpoints(server: Server, tmp_path: Path) -> None:
    kept = tmp_path / "d.sqlite"
    with pytest.raises(SettingError, match="http"):
        Endpoint("localhost", "m", kept)
    with pytest.raises(SettingError, match="--model"):
        Endpoint(server.url, " ", kept)
    with pytest.raises(ModelError, match="status 404"):
        Endpoint(server.url + "wrong", "m", kept)(["a"])
    server.faults = [lambda lines: None]
    with pytest.raises(ModelError, match="OpenAI-compatible"):
        Endpoint(server.url, "m", kept)(["a"])
    with pytest.raises(ModelError, match="got none"):
        Endpoint("http://127.0.0.1:9/v1", "m", kept, tries=1)(["a"])
    kept.write_bytes(b"no database, but long enough to be taken for a damaged one" * 20)
    with pytest.raises(OutputError, match="descriptions"):
        Endpoint(server.url, "m", kept)(["a"])
