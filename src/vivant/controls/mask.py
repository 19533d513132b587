"""Masks as a director gives them: a painted picture, polygons, a box, or one label of a picture of several regions.

A mask is written as text, so that a command line, a shot file and a recipe say it alike:

    sky.png                     painted: white moves
    regions.svg                 shapes of a drawing over the picture; regions.svg#boat: the one of that id or label
    regions.json                polygons (LabelMe's layout too); regions.json#boat: those of that label
    labels.png#ff0000           the places of one colour; #red by name, #3 an index of a palette or grey picture
    0.1,0.2,0.5,0.9             a box x0,y0,x1,y1 in fractions of the picture, (0, 0) top left
    [[0.1,0.2],[0.5,0.2],…]     a polygon in fractions; [polygon, polygon, …] are several, together
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageColor, ImageOps

from ..errors import ImageError, SettingError
from ..images import _open, _same_shape, load_mask, load_painting
from ..render.freeze import feather as feathered
from .polygons import filled, polygons_of
from .svg import drawn

NEAR = 12
"""how far each 8-bit channel of a label may be from its colour: a saved JPEG is never exact"""
LARGEST = 4_000_000
"""bytes of a polygon file"""


def read(source: Any, size: tuple[int, int], feather: str | float | None = None) -> Float[np.ndarray, "H W"]:
    """The mask of `source` at `size` = (width, height): float32 in [0, 1], 1 moves.

    `source`: text or a path as in this module's notes, or a picture (PIL, array). `feather` softens the mask inwards
    (see `radius`); where it was 0 it stays 0. Raises `ImageError` for what is empty, outside the picture or no mask.
    """
    mask = _given(source, size)
    if float(mask.max(initial=0)) < 1 / 255:
        raise ImageError(f"expected a mask that covers at least one pixel, {_named(source)} covers none; enlarge it")
    reach = radius(feather, size)
    if reach:
        soft = feathered(mask, reach)
        if float(soft.max()) < 0.5:
            raise SettingError(f"expected a feather narrower than the mask, got {feather} for {_named(source)}")
        mask = soft
    return np.ascontiguousarray(mask, np.float32)


def spelled(source: Any) -> str:
    """The text that stands for a mask in a recipe: paths made absolute; a picture in memory has none."""
    if isinstance(source, list | tuple | dict):
        return json.dumps(source)
    if not isinstance(source, str | Path):
        return "<memory>"
    text = str(source)
    if _box(text) or text.lstrip().startswith(("[", "{")):
        return text
    path, label = _split(text)
    return str(path.resolve()) + (f"#{label}" if label else "")


def radius(feather: str | float | None, size: tuple[int, int]) -> float:
    """A feather in pixels: "12" or 12 pixels, "2%" or 0.02 of the longer side; None is 0. Raises `SettingError`."""
    if feather is None:
        return 0.0
    found = re.fullmatch(r"(\d*\.?\d+)\s*(px|%)?", str(feather).strip())
    if found is None:
        raise SettingError(f"expected a feather such as 12 (pixels) or 2% (of the longer side), got {feather!r}")
    value, unit = float(found[1]), found[2]
    if unit == "%":
        value /= 100
    reach = value * max(size) if unit == "%" or (unit is None and value < 1) else value
    if reach > max(size) / 2:
        raise SettingError(f"expected a feather of at most half the picture, got {feather!r}")
    return reach


def box(corners: Sequence[float], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """A box (x0, y0, x1, y1) in fractions of the picture. Raises `SettingError` where it is empty or leaves it."""
    if len(corners) != 4 or not all(math.isfinite(v) for v in corners):
        raise SettingError(f"expected a box x0,y0,x1,y1 in fractions of the picture, got {_list(corners)}")
    x0, y0, x1, y1 = corners
    if not (0 <= x0 and x1 <= 1 and 0 <= y0 and y1 <= 1):
        raise SettingError(f"expected a box inside the picture (0..1), got {_list(corners)}")
    if x1 <= x0 or y1 <= y0:
        raise SettingError(f"expected a box with x0 < x1 and y0 < y1, got {_list(corners)} of no size")
    return filled([[[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]]], size)


def labelled(path: Path, label: str, size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """The places of a label picture that have one colour (ff0000, #ff0000, red) or, given a number, one palette index.

    Raises `ImageError` naming what the picture has where the label is not in it.
    """
    if label.isdigit() and len(label) < 4:
        image = _open(path)
        if image.mode not in ("P", "L", "1", "I", "I;16"):
            raise ImageError(f"expected a palette or grey picture for the label {label}, {path} has colours; name one")
        image = ImageOps.exif_transpose(image) or image
        values = np.asarray(image)
        chosen, present = values == int(label), [str(v) for v in np.unique(values)[:8]]
    else:
        colour = _colour(label)
        pixels = load_painting(path)
        chosen = (np.abs(pixels.astype(np.int16) - colour) <= NEAR).all(-1)
        counted = Counter(
            map(tuple, pixels[:: max(1, len(pixels) // 64), :: max(1, pixels.shape[1] // 64)].reshape(-1, 3))
        )
        present = [f"{r:02x}{g:02x}{b:02x}" for (r, g, b), _ in counted.most_common(6)]
    if not chosen.any():
        raise ImageError(f"expected a region labelled {label} in {path}, found {', '.join(present)}")
    mask = chosen.astype(np.float32)
    if mask.shape[::-1] != size:
        _same_shape((mask.shape[1], mask.shape[0]), size, "mask")
        way = cv2.INTER_AREA if mask.shape[1] > size[0] else cv2.INTER_LINEAR
        mask = cv2.resize(mask, size, interpolation=way)
    return mask


def _given(source: Any, size: tuple[int, int]) -> np.ndarray:
    if isinstance(source, list | tuple | dict):
        source = json.dumps(source)
    if not isinstance(source, str | Path):
        return load_mask(source, size)
    text = str(source)
    if corners := _box(text):
        return box(corners, size)
    if (data := _inline(text)) is not None:
        return filled(polygons_of(data), size)
    path, label = _split(text)
    suffix = path.suffix.lower()
    if suffix in (".svg", ".json"):
        try:
            if path.stat().st_size > LARGEST:
                raise ImageError(f"expected at most {LARGEST // 1_000_000} MB of polygons, {path} is larger")
            written = path.read_text("utf-8-sig")
            return filled(drawn(written, label) if suffix == ".svg" else polygons_of(json.loads(written), label), size)
        except ImageError as error:
            raise ImageError(f"{error} ({path.name})") from error
        except (OSError, ValueError, RecursionError) as error:
            said = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise ImageError(f"expected polygons at {path}, they cannot be read: {said}") from error
    if label:
        return labelled(path, label, size)
    image = _open(path)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        # White strokes on a transparent layer are the mask; a painting's paper would make all of it white.
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)
    return load_mask(image.convert("RGB") if image.mode == "RGBA" else image, size)


def _box(text: str) -> list[float] | None:
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    try:
        return [float(p) for p in parts] if len(parts) == 4 else None
    except ValueError:
        return None


def _inline(text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"expected a polygon such as [[0.1,0.2],[0.5,0.2],[0.3,0.6]], got {text[:60]!r}") from error


def _split(text: str) -> tuple[Path, str]:
    """A path and the label after its last '#'; a file whose own name has a '#' is found first."""
    whole = Path(text)
    if "#" not in whole.name or whole.exists():
        return whole, ""
    path, _, label = text.rpartition("#")
    # sky.png##ff0000 is sky.png#ff0000, said twice.
    return Path(path.rstrip("#")), label


def _colour(label: str) -> np.ndarray:
    try:
        plain = re.fullmatch(r"[0-9a-fA-F]{6}|[0-9a-fA-F]{3}", label)
        return np.array(ImageColor.getrgb(f"#{label}" if plain else label)[:3], np.int16)
    except ValueError as error:
        raise ImageError(f"expected a label such as ff0000, red or 3, got {label!r}") from error


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{v:g}" for v in values)


def _named(source: Any) -> str:
    return str(source)[:80] if isinstance(source, str | Path) else "it"
