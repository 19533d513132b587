"""The shot file: one YAML or JSON file that holds a whole animation. Every mistake is named with its line.

What a file may say is the table `KEYS`; docs/shotfile.md describes it for people. Loads no torch.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, VivantError
from ..shot import Arrow
from . import mask as masks
from .arrows import parse as parse_arrow
from .told import Told

LARGEST = 250_000
"""bytes of a shot file"""
DEEPEST = 12
"""lists in lists, of which regions with polygons need six"""


def load(path: str | Path) -> dict[str, Any]:
    """What a shot file says, as arguments of `vivant.animate` (`regions` as `Told`), files in it beside the file.

    Also "out" and "compose" where it has them. Raises `InputError` that begins with the file's name and line.
    """
    path = Path(path)
    try:
        text = written(path, "a shot file")
    except OSError as error:
        raise InputError(f"expected a shot file at {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"expected a shot file in UTF-8 at {path}, it is in another encoding") from error
    return parse(text, path.resolve().parent, path.name)


def written(path: Path, what: str) -> str:
    """The text of a file of UTF-8, of which no more is read than it may have. Raises `InputError`, `OSError`, `ValueError`."""
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InputError(f"expected {what} of at most {LARGEST // 1000} kB at {path}, it is larger")
    return data.decode("utf-8-sig").replace("\r\n", "\n")


def parse(text: str, folder: Path, name: str = "shot.yaml") -> dict[str, Any]:
    """The same from text; `folder`: where its files are looked for; `name`: what errors begin with."""
    try:
        # YAML knows no tabs between its words, JSON does, and has none inside them.
        text = text.expandtabs() if text.lstrip().startswith("{") else text
        plain(text)
        root = yaml.compose(text, yaml.SafeLoader)
        if root is None:
            raise InputError(f"{name}:1: expected a shot (painting: …, prompt: …), the file is empty")
        found = _mapping(root, KEYS, folder)
        if "painting" not in found:
            raise _Wrong(root, "expected painting: …, there is none")
        if not found.get("prompt", "").strip() and not found.get("regions"):
            raise _Wrong(root, "expected prompt: … that says what moves (or regions: with prompts of their own)")
    except _Wrong as error:
        raise InputError(f"{name}:{error.line}: {error.said}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{name}:{mark.line + 1 if mark else 1}: expected YAML or JSON, {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{name}:1: expected YAML or JSON, {str(error).splitlines()[0]}") from error
    return {"prompt": "", **found}


def merged(file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A file's settings with what was given on the command line in their place; what is None, () or "" was not given."""
    return {**file, **{key: value for key, value in given.items() if value not in (None, (), [], "")}}


def plain(text: str) -> None:
    """Refuse YAML that is larger once it is read: aliases, and lists in lists without end. Raises `_Wrong`, `YAMLError`."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise _Wrong(event, "expected every value written out, got an alias (*)")
        if depth > DEEPEST:
            raise _Wrong(event, f"expected YAML or JSON of at most {DEEPEST} lists in lists, got more")


class _Wrong(Exception):
    def __init__(self, node: Any, said: str) -> None:
        super().__init__(said)
        self.line, self.said = node.start_mark.line + 1 if node.start_mark else 1, said


Read = Callable[[Any, Path], Any]


@dataclass(frozen=True)
class Key:
    """One thing a file may say: how it is read and what is asked for, in words."""

    read: Read
    wanted: str


def _mapping(node: Any, keys: Mapping[str, Key], folder: Path) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise _Wrong(node, f"expected names and values such as {next(iter(keys))}: …, got {_shown(node)}")
    found: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = str(key.value).replace("-", "_")
        if name not in keys:
            near = difflib.get_close_matches(name, keys, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(keys)}"
            raise _Wrong(key, f"expected a known setting, got {str(key.value)[:40]!r}; {hint}")
        if name in lines:
            raise _Wrong(key, f"expected {name} once, it is in line {lines[name]} already")
        lines[name] = key.start_mark.line + 1
        try:
            if isinstance(value, yaml.ScalarNode) and value.style is None and value.value in ("", "~", "null"):
                continue  # a name without a value leaves its default
            found[name] = keys[name].read(value, folder)
        except (VivantError, ValueError) as error:
            why = f" ({error})" if isinstance(error, VivantError) else ""
            raise _Wrong(value, f"expected {name} as {keys[name].wanted}, got {_shown(value)}{why}") from error
    return found


def _shown(node: Any) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value[:60])
    return "a list" if isinstance(node, yaml.SequenceNode) else "names and values"


def _text(node: Any, folder: Path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError
    # JSON writes what lies beyond 16 bits as two halves.
    return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")


def _path(node: Any, folder: Path) -> str:
    text = _text(node, folder).strip()
    if not text:
        raise ValueError
    return str(folder / Path(text).expanduser())


def _number(low: float, high: float, whole: bool = False) -> Read:
    def read(node: Any, folder: Path) -> float | int:
        value = float(_text(node, folder))
        if not (math.isfinite(value) and low <= value <= high) or (whole and value != int(value)):
            raise ValueError
        return int(_text(node, folder)) if whole and float(value).is_integer() and value < 2**53 else value

    return read


def _extent(node: Any, folder: Path) -> tuple[int, int]:
    width, height = (int(v) for v in _text(node, folder).lower().split("x"))
    if min(width, height) < 1:
        raise ValueError
    return width, height


def _choice(*names: str) -> Read:
    def read(node: Any, folder: Path) -> str:
        if (text := _text(node, folder)) not in names:
            raise ValueError
        return text

    return read


def _switch(node: Any, folder: Path) -> bool:
    return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}[_word(node, folder)]


def _word(node: Any, folder: Path) -> str:
    text = _text(node, folder).lower()
    if text not in ("true", "yes", "on", "false", "no", "off"):
        raise ValueError
    return text


def _numbers(node: Any, folder: Path) -> Any:
    """Numbers in lists in lists, as they are."""
    if isinstance(node, yaml.SequenceNode):
        return [_numbers(item, folder) for item in node.value]
    return float(_text(node, folder))


def _mask(node: Any, folder: Path) -> str:
    if isinstance(node, yaml.SequenceNode):
        return json.dumps(_numbers(node, folder))
    text = _text(node, folder).strip()
    if not text:
        raise ValueError
    if masks.spelled(text) == text and not Path(text).is_absolute():
        return text  # a box or a polygon
    whole_name = folder / Path(text).expanduser()
    return str(whole_name)


def _feather(node: Any, folder: Path) -> str:
    text = _text(node, folder)
    masks.radius(text, (10**6, 10**6))
    return text


def _proxy(node: Any, folder: Path) -> str:
    from ..proxy.registry import PROXIES

    text = _text(node, folder).strip()
    return text if text in ("auto", "none", *PROXIES) else _path(node, folder)


def _model(node: Any, folder: Path) -> str:
    text = _text(node, folder).strip()
    if not text:
        raise ValueError
    return str(folder / text) if text.startswith(".") else text


def _arrow(node: Any, folder: Path) -> Arrow:
    if isinstance(node, yaml.ScalarNode):
        return parse_arrow(_text(node, folder))
    numbers = _numbers(node, folder) if isinstance(node, yaml.SequenceNode) else []
    if len(numbers) != 4 or not all(isinstance(v, float) for v in numbers):
        raise ValueError
    return Arrow(*numbers)


def _each(read: Read, one: str) -> Read:
    def read_all(node: Any, folder: Path) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise ValueError
        out = []
        for item in node.value:
            try:
                out.append(read(item, folder))
            except (VivantError, ValueError) as error:
                why = f" ({error})" if isinstance(error, VivantError) else ""
                raise _Wrong(item, f"expected {one}, got {_shown(item)}{why}") from error
        return tuple(out)

    return read_all


def _region(node: Any, folder: Path) -> Told:
    found = _mapping(node, REGION, folder)
    for name in ("mask", "prompt"):
        if name not in found:
            raise _Wrong(node, f"expected {name}: … in the region, there is none")
    return Told(**found)


ARROWS = Key(_each(_arrow, "an arrow such as 0.2,0.3:0.5,0.3"), "a list of arrows such as 0.2,0.3:0.5,0.3")
MASK = Key(_mask, "a picture, a drawing, polygons or a box x0,y0,x1,y1")
STRENGTH = Key(_number(0, 1), "a number from 0 to 1")
FEATHER = Key(_feather, "pixels (12) or a share of the longer side (2%)")
PROMPT = Key(_text, "a sentence that says what moves")
FILE = Key(_path, "a picture's path")

REGION: dict[str, Key] = {"mask": MASK, "prompt": PROMPT, "strength": STRENGTH, "arrows": ARROWS, "feather": FEATHER}

KEYS: dict[str, Key] = {
    "painting": FILE,
    "prompt": PROMPT,
    "negative": Key(_text, "a sentence"),
    "out": Key(_path, "the path of the result"),
    "model": Key(_model, "the name of a base model"),
    "mask": MASK,
    "feather": FEATHER,
    "strength": STRENGTH,
    "arrows": ARROWS,
    "regions": Key(_each(_region, "a region with mask and prompt"), "a list of regions"),
    "compose": Key(_choice("together", "in turn"), "together or in turn"),
    "frames": Key(_number(2, 2000, True), "a whole number from 2 to 2000"),
    "fps": Key(_number(1, 120, True), "a whole number from 1 to 120"),
    "steps": Key(_number(1, 1000, True), "a whole number from 1 to 1000"),
    "seed": Key(_number(0, 2**63 - 1, True), "a whole number from 0 on"),
    "guidance": Key(_number(0, 50), "a number from 0 to 50"),
    "proxy": Key(_proxy, "auto, none, a maker's name or a picture's path"),
    "distil": Key(_number(0, 1), "a number from 0 to 1"),
    "distil_evaluations": Key(_number(1, 1000, True), "a whole number from 1 to 1000"),
    "curve": Key(
        _choice("stepwise-decreasing", "linear-decreasing", "stepwise-increasing", "linear-increasing"),
        "stepwise-decreasing, linear-decreasing, stepwise-increasing or linear-increasing",
    ),
    "gain": Key(_number(0, 100), "a number from 0 to 100"),
    "blend": Key(_choice("slerp", "lerp"), "slerp or lerp"),
    "loop": Key(_switch, "yes or no"),
    "last": FILE,
    "size": Key(_text, "native, WIDTHxHEIGHT or the longer side in pixels"),
    "model_size": Key(_extent, "WIDTHxHEIGHT in pixels"),
    "device": Key(_text, "auto, cpu or cuda"),
    "dtype": Key(_choice("auto", "float32", "bfloat16", "float16"), "auto, float32, bfloat16 or float16"),
    "allow_smaller": Key(_switch, "yes or no"),
    "lora": Key(_each(_path, "a LoRA's path such as mine:0.8"), "a list of LoRA files or folders, path or path:scale"),
}
