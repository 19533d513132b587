"""What a training is asked for: frozen records, read from YAML and from `key=value` words, checked once, at the edge."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from ..errors import SettingError

T = TypeVar("T")
SHIPPED = Path(__file__).parent / "configs"


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if value is not None and not value > 0:
            raise SettingError(f"expected {name} above 0, got {value}")


def _within(owner: object, low: float, high: float, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not low <= value <= high:
            raise SettingError(f"expected {name} between {low:g} and {high:g}, got {value}")


@dataclass(frozen=True)
class Data:
    """The clips. `source`: what `vivant.data.videos` reads (a folder, a list, shards), or "scenes": procedural ones."""

    source: str = "scenes"
    frames: int = 16
    size: tuple[int, int] = (256, 256)
    """(width, height) in pixels"""
    buckets: tuple[tuple[int, int], ...] = ()
    """several sizes; each clip takes the one nearest in shape, and `size` is not used"""
    rates: tuple[float, ...] = ()
    """frames a second to choose among; or else `strides`"""
    strides: tuple[int, ...] = ()
    """every n-th frame, n to choose among: multi-rate sampling"""
    caption: str | None = None
    missing: Literal["error", "empty", "skip"] = "error"
    crop: Literal["centre", "random"] = "centre"
    scenes: int = 256
    """how many procedural scenes there are"""
    held_out: int = 0
    """clips kept from training, for evaluation and sheets"""
    workers: int = 0
    """processes that decode; 0: none beside the one that trains"""
    cache: Path | None = None
    """folder of encoded clips, made before the training and used in place of the videos"""
    variants: int = 1
    """how many draws of each clip the cache holds (start, rate, crop); epochs take turns"""

    def __post_init__(self) -> None:
        _positive(self, "scenes", "variants")
        _within(self, 2, 1024, "frames")
        _within(self, 0, 1 << 20, "held_out", "workers")
        if self.rates and self.strides:
            raise SettingError("expected data.rates or data.strides, got both; leave one out")
        if any(side % 8 or side < 16 for one in self.sizes for side in one):
            raise SettingError(f"expected sizes in multiples of 8 from 16 on, got {self.sizes}")

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """All sizes in use."""
        return self.buckets or (self.size,)


@dataclass(frozen=True)
class Loop:
    """How the training runs, whatever is trained."""

    steps: int = 1000
    minutes: float | None = None
    """an earlier end, after a whole step"""
    batch: int = 8
    """clips a step, all processes together"""
    micro: int | None = None
    """clips at a time through the network; None: the step's whole share. Halved where memory is short"""
    rate: float = 1e-5
    warmup: int = 0
    decay: Literal["constant", "cosine"] = "constant"
    optimiser: Literal["adamw", "adamw8bit"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip: float = 1.0
    """the gradient's largest norm"""
    average: float = 0.0
    """decay of the moving average of the weights (EMA), which is what is evaluated and kept; 0: none"""
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpointing: bool = False
    """activations are computed again on the way back: less memory, more time"""
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    threads: int | None = None
    save_every: int = 500
    keep: int = 2
    """how many states stay"""
    log_every: int = 10
    evaluate_every: int = 0
    """0: only at the end, where clips are held out"""
    best: str = "loss"
    best_is: Literal["lowest", "highest"] = "lowest"
    sheet_every: int = 0
    """0: no sample sheets"""
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _positive(
            self, "steps", "minutes", "batch", "micro", "rate", "clip", "save_every", "keep", "log_every", "threads"
        )
        _within(self, 0, 1 << 40, "warmup", "evaluate_every", "sheet_every", "seed", "weight_decay")
        if not 0 <= self.average < 1:
            raise SettingError(f"expected average (an EMA's decay) from 0 to below 1, got {self.average}")
        if self.micro is not None and self.micro > self.batch:
            raise SettingError(f"expected micro of at most batch, {self.batch}, got {self.micro}")


def read(kind: type[T], source: str | Path | None = None, changes: Sequence[str] = (), recipe: str = "") -> T:
    """A record of `kind` from a YAML file, or a shipped one by its name, with `key=value` changes on top.

    Keys go down by dots (`loop.steps=100`); the last part alone does where only one place has it. Raises `SettingError`
    that names the key: unknown ones, values of another type, numbers out of range.
    """
    record = _file(source, recipe) if source is not None else {}
    told = record.pop("recipe", recipe)
    if recipe and told != recipe:
        raise SettingError(f"expected a configuration of {recipe}, got one of {told} in {source}")
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise SettingError(f"expected key=value, got {change!r}; for example loop.steps=100")
        try:
            value = yaml.safe_load(text) if text else None
        except yaml.YAMLError:
            raise SettingError(f"expected a value like 100, 1e-4, [1, 2] or a word for {key}, got {text!r}") from None
        _put(record, _place(kind, key.strip()), value)
    return _build(kind, record, "")


def as_plain(record: Any) -> Any:
    """JSON types of a record, for what is kept beside the weights."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: as_plain(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, tuple):
        return [as_plain(v) for v in record]
    return str(record) if isinstance(record, Path) else record


def _file(source: str | Path, recipe: str) -> dict[str, Any]:
    path = Path(source)
    if not path.suffix and not path.exists():
        path = SHIPPED / f"{recipe.replace('-', '_')}_{source}.yaml"
        if not path.is_file():
            names = [p.stem.removeprefix(recipe.replace("-", "_") + "_") for p in SHIPPED.glob("*.yaml")
                     if p.stem.startswith(recipe.replace("-", "_"))]  # fmt: skip
            raise SettingError(f"expected a YAML file or one of {', '.join(sorted(names))}, got {str(source)!r}")
    try:
        record = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingError(f"expected a configuration at {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"expected YAML in {path}, got {' '.join(str(error).split())[:160]}") from None
    if record is None or record == {}:  # all defaults would be a long training that nobody asked for
        raise SettingError(
            f"expected keys and values in {path}, the file is empty; write what is to be trained, or --config tiny"
        )
    if not isinstance(record, dict):
        found = "a list" if isinstance(record, list) else repr(record)[:40]
        raise SettingError(f"expected keys and values in {path}, got {found}")
    return record


def _leaves(kind: type, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for name, hint in get_type_hints(kind).items():
        out += _leaves(hint, (*before, name)) if dataclasses.is_dataclass(hint) else [(*before, name)]  # type: ignore[arg-type]
    return out


def _place(kind: type, key: str) -> tuple[str, ...]:
    paths = _leaves(kind)
    wanted = tuple(key.split("."))
    found = [p for p in paths if p == wanted] or [p for p in paths if p[-len(wanted) :] == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingError(f"expected one key, {key} may be {' or '.join('.'.join(p) for p in found)}; say which")
    raise SettingError(f"expected a known key, got {key!r}{_near(key, ['.'.join(p) for p in paths])}")


def _near(key: str, names: Sequence[str]) -> str:
    last = {name.rpartition(".")[2]: name for name in names}
    close = difflib.get_close_matches(key.rpartition(".")[2], list(last), 1, 0.6)
    return f"; did you mean {last[close[0]]}?" if close else f"; there are {', '.join(names)}"


def _put(record: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        inner = record.setdefault(name, {})
        if not isinstance(inner, dict):
            raise SettingError(f"expected keys and values under {name}, got {inner!r}")
        record = inner
    record[path[-1]] = value


def _build(kind: type[T], record: Any, where: str) -> T:
    if not isinstance(record, dict):
        raise SettingError(f"expected keys and values under {where or 'the file'}, got {record!r}")
    hints = get_type_hints(kind)
    for name in record:
        if name not in hints:
            raise SettingError(f"expected a known key, got {where}{name}{_near(str(name), list(hints))}")
    picked = {name: _value(hints[name], value, f"{where}{name}") for name, value in record.items()}
    missing = [f.name for f in dataclasses.fields(kind)  # type: ignore[arg-type]
               if f.name not in picked and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]  # fmt: skip
    if missing:
        raise SettingError(f"expected {where}{missing[0]}, found none")
    try:
        return kind(**picked)
    except SettingError as error:
        raise SettingError(f"{where.rstrip('.') + ': ' if where else ''}{error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type asks, or `SettingError`."""
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{where}.")  # type: ignore[type-var,arg-type]
    kinds = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        return _value(next(k for k in kinds if k is not type(None)), value, where)
    if get_origin(hint) is Literal:
        value = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value  # YAML reads a bare no as false
        if value not in kinds:
            raise SettingError(f"expected {where} among {', '.join(map(str, kinds))}, got {value!r}")
        return value
    if get_origin(hint) is tuple:
        rows = list(value) if isinstance(value, (list, tuple)) else [value]
        if kinds[-1] is Ellipsis:
            return tuple(_value(kinds[0], v, where) for v in rows)
        if len(rows) != len(kinds):
            raise SettingError(f"expected {len(kinds)} values for {where}, got {value!r}")
        return tuple(_value(k, v, where) for k, v in zip(kinds, rows, strict=True))
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:  # YAML reads 1e-4, which has no point, as a word
            return float(value)
        except ValueError:
            pass  # a word that is no number: refused with the others at the end
    if hint is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    said = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", Path: "a path"}
    raise SettingError(f"expected {said.get(hint, str(hint))} for {where}, got {value!r}")
