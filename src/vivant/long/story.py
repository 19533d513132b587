"""A story's script: shots with paintings, sentences, seconds and transitions, and title cards, read and checked.

YAML (.yaml, .yml, .json), or plain paragraphs. Every complaint names its line.

    title: Evening by the river          # river.txt        the same in plain paragraphs
    fps: 12                              title: Evening by the river
    audio: harp.wav                      fps: 12
    shots:                               audio: harp.wav
      - painting: boat.jpg
        prompt: Clouds drift             boat.jpg 4s
        seconds: 4                       Clouds drift
      - painting: ship.jpg
        prompt: The waves roll           ship.jpg 3s dissolve
        seconds: 3                       The waves roll
        transition: dissolve
      - title: The end                   # The end
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..controls import mask as masks
from ..controls.shotfile import _Wrong, plain, written
from ..errors import InputError
from . import hand

TRANSITIONS = ("cut", "dissolve", "fade")
FILM = ("title", "fps", "size", "audio", "font", "shots", "dissolve")
"""what is said of the whole film alone"""
HOW: dict[str, type | tuple[type, ...]] = {
    "model": str, "seed": int, "steps": int, "guidance": (int, float), "negative": str, "strength": (int, float),
    "proxy": str, "method": str, "gamma": (int, float), "omega": (int, float), "window": int, "device": str,
    "distil": (int, float),
}  # fmt: skip
"""settings of the film that a shot may have for itself"""
SHOT = ("painting", "prompt", "seconds", "transition", "title", "last", "mask", *hand.NAMES, *HOW)
LONGEST = 3600.0


@dataclass(frozen=True)
class StoryShot:
    """One shot, or a title card where `painting` is None. `line`: where it stands in the script."""

    line: int
    seconds: float
    transition: str = "cut"
    """how it follows on what is before it"""
    painting: Path | None = None
    prompt: str = ""
    title: str = ""
    last: Path | None = None
    mask: str | None = None
    """as `controls.mask` has it, paths absolute"""
    how: dict[str, Any] = field(default_factory=dict)
    hand: dict[str, Any] = field(default_factory=dict)
    """feather, arrows and regions, as `hand.read` gives them"""


@dataclass(frozen=True)
class Story:
    """A checked script. Paths are absolute."""

    shots: tuple[StoryShot, ...]
    fps: int
    size: str = "native"
    audio: Path | None = None
    font: Path | None = None
    dissolve: float = 1.0
    """seconds a dissolve or a fade takes"""


class _Lines(yaml.SafeLoader):
    """Mappings remember the line of each key."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        out = super().construct_mapping(node, deep=True)
        out[None] = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
        out[None][""] = node.start_mark.line + 1
        return out


_Lines.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))


def read(path: str | Path) -> Story:
    """Read a script. Raises `InputError` with the line, for anything that no film can be made of."""
    path = Path(path)
    try:
        text = written(path, "a script")
    except FileNotFoundError:
        raise InputError(f"expected a script at {path}, found no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is in another encoding"
        raise InputError(f"expected a readable UTF-8 script at {path}: {said}") from None
    plain = path.suffix.lower() not in (".yaml", ".yml", ".json")
    return parse(text, path.parent, path.name, plain)


def parse(text: str, folder: Path, name: str = "script", plain: bool = False) -> Story:
    """A script from its text; paths in it are relative to `folder`."""
    data = _paragraphs(text, name) if plain else _yaml(text, name)
    return _Reader(name, folder).story(data)


def _yaml(text: str, name: str) -> dict[Any, Any]:
    try:
        plain(text)
        data = yaml.load(text, Loader=_Lines)  # a SafeLoader: it makes nothing but plain values
    except _Wrong as error:
        raise InputError(f"{name} line {error.line}: {error.said}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{name} line {line}: expected YAML, {error.problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{name} line 1: expected YAML, {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise InputError(f"{name} line 1: expected a mapping with shots, got {_shown(data)}")
    return data


def _shown(value: Any) -> str:
    """A value of a script as a complaint names it."""
    return "nothing" if value is None else "a list" if isinstance(value, list) else repr(value)[:60]


def _scalar(text: str) -> Any:
    """What stands after a name in plain paragraphs: a number or a word as YAML has it, else the text as it is."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text.strip()
    return text.strip() if isinstance(value, list | dict) else value


def _paragraphs(text: str, name: str) -> dict[Any, Any]:
    out: dict[Any, Any] = {"shots": [], None: {"": 1, "shots": 1}}
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip():
            block.append((number, line.strip()))
            continue
        if block:
            _paragraph(block, out, name)
        block = []
    return out


def _paragraph(block: list[tuple[int, str]], out: dict[Any, Any], name: str) -> None:
    first, head = block[0]
    if head.startswith("#"):
        words = " ".join(text for _, text in block).lstrip("# ")
        out["shots"].append({"title": words, None: {"": first, "title": first}})
        return
    if all(re.match(rf"({'|'.join([*FILM, *HOW])})\s*:", text) for _, text in block):
        for number, text in block:
            key, _, value = text.partition(":")
            out[key.strip()] = _scalar(value) if value.strip() else None
            out[None][key.strip()] = number
        return
    found = re.fullmatch(r"(?P<painting>.+?\.\w+)(?:\s+(?P<seconds>[\d.]+)\s*s)?(?:\s+(?P<how>[a-z]+))?", head)
    if found is None:
        raise InputError(f"{name} line {first}: expected 'PAINTING 4s dissolve' before its sentence, got {head[:60]!r}")
    shot: dict[Any, Any] = {"painting": found["painting"], "prompt": " ".join(text for _, text in block[1:])}
    if found["seconds"]:
        try:
            shot["seconds"] = float(found["seconds"])
        except ValueError:
            raise InputError(f"{name} line {first}: expected seconds such as 4s, got {found['seconds']!r}") from None
    if found["how"]:
        shot["transition"] = found["how"]
    shot[None] = dict.fromkeys(["", *shot], first) | {"prompt": block[1][0] if len(block) > 1 else first}
    out["shots"].append(shot)


class _Reader:
    """Checks what a script says, and complains of the first thing that cannot be."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def wrong(self, line: int, what: str) -> InputError:
        """The complaint."""
        return InputError(f"{self.name} line {line}: {what}")

    def story(self, data: dict[Any, Any]) -> Story:
        """The whole script."""
        lines = data.get(None, {})
        self.keys(data, (*FILM, *HOW))
        shared = {k: self.typed(data, k, kind) for k, kind in HOW.items() if k in data}
        given = data.get("shots")
        if not isinstance(given, list) or not given:
            raise self.wrong(lines.get("shots", 1), "expected shots, got none; add one with a painting and a prompt")
        shots = [self.shot(s, shared, lines.get("shots", 1)) for s in given]
        if "title" in data:
            shots.insert(0, StoryShot(lines["title"], 3.0, "cut", title=str(data["title"])))
        if all(s.painting is None for s in shots):
            raise self.wrong(lines.get("shots", 1), "expected a shot with a painting, got title cards alone")
        fps = self.number(data, "fps", 24, 1, 120)
        dissolve = self.number(data, "dissolve", 1.0, 0, 10)
        audio, font = (self.file(data, key, what) for key, what in (("audio", "a sound"), ("font", "a font")))
        if audio is not None:
            self.sound(audio, lines.get("audio", 1))
        return Story(tuple(shots), int(fps), str(data.get("size", "native")), audio, font, dissolve)

    def shot(self, data: Any, shared: dict[str, Any], above: int) -> StoryShot:
        """One shot or card."""
        if not isinstance(data, dict):
            raise self.wrong(above, f"expected a shot with a painting and a prompt, got {_shown(data)}")
        lines = data[None]
        at = lines[""]
        self.keys(data, SHOT)
        seconds = self.number(data, "seconds", 3.0 if "painting" not in data else 4.0, 0.1, LONGEST)
        transition = str(data.get("transition", "cut"))
        if transition not in TRANSITIONS:
            raise self.wrong(
                lines["transition"], f"expected a transition among {', '.join(TRANSITIONS)}, got {transition!r}"
            )
        title = str(data.get("title") or "").strip()
        if not data.get("painting"):
            if not title or data.get("prompt"):
                raise self.wrong(at, "expected a painting (or a title alone, for a card), got none; add painting: FILE")
            return StoryShot(at, seconds, transition, title=title)
        prompt = str(data.get("prompt") or "").strip()
        if not prompt and not data.get("regions"):
            raise self.wrong(lines.get("prompt", at), "expected a prompt that says what moves, got none")
        painting, last = (self.file(data, k, "a picture") for k in ("painting", "last"))
        mask = self.mask(data)
        own = {k: self.typed(data, k, kind) for k, kind in HOW.items() if k in data}
        told = hand.read(data, self)
        return StoryShot(at, seconds, transition, painting, prompt, title, last, mask, shared | own, told)

    def keys(self, data: dict[Any, Any], known: tuple[str, ...]) -> None:
        """Refuse words that mean nothing here."""
        for key in data:
            if key is not None and key not in known:
                raise self.wrong(data[None].get(str(key), 1), f"expected {', '.join(known)}, got {key!r}")

    def typed(self, data: dict[Any, Any], key: str, kind: type | tuple[type, ...]) -> Any:
        """A setting of the right type."""
        value = data[key]
        if isinstance(value, bool) or not isinstance(value, kind):
            names = [k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,))]
            raise self.wrong(data[None].get(key, 1), f"expected {key} as {' or '.join(names)}, got {value!r}")
        return value

    def number(self, data: dict[Any, Any], key: str, usual: float, low: float, high: float) -> float:
        """A number within its range."""
        value = data.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.wrong(data[None].get(key, 1), f"expected {key} between {low:g} and {high:g}, got {value!r}")
        return float(value)

    def file(self, data: dict[Any, Any], key: str, what: str) -> Path | None:
        """A file that is there."""
        if data.get(key) is None:
            return None
        path = (self.folder / str(data[key])).resolve()
        if not path.is_file():
            raise self.wrong(data[None].get(key, 1), f"expected {what} at {path}, found no such file")
        return path

    def mask(self, data: dict[Any, Any]) -> str | None:
        """A mask in any of its forms; its file is there."""
        given = data.get("mask")
        if given is None:
            return None
        text = json.dumps(given) if isinstance(given, list) else str(given)
        if masks.spelled(text) == text and not Path(text).is_absolute():
            return text  # a box or a polygon
        path = (self.folder / text).resolve()
        place = path if path.is_file() else Path(str(path).rpartition("#")[0].rstrip("#") or path)
        if not place.is_file():
            raise self.wrong(data[None].get("mask", 1), f"expected a mask at {place}, found no such file")
        return str(path)

    def sound(self, path: Path, line: int) -> None:
        """Refuse a file without sound before anything is dreamt."""
        import av

        try:
            with av.open(str(path)) as file:
                found = bool(file.streams.audio)
        except (OSError, av.error.FFmpegError) as error:
            raise self.wrong(
                line, f"expected a sound at {path}, it cannot be read: {error.strerror or error}"
            ) from None
        if not found:
            raise self.wrong(line, f"expected a sound at {path}, it holds none")
