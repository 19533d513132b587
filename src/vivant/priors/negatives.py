"""Negative sentences that argue against paintings: the usual ones of video models name style, artworks and stillness.

Wan's authors, and many after them, push away from "style, works, paintings, images, static": right for photographs, but
guidance then pulls a painting towards a photograph, and away from the still it begins with.
"""

from __future__ import annotations

import re
from typing import NamedTuple

AGAINST_PAINTINGS = (
    # Wan's own, in its language: style, works, paintings, pictures, still, the whole still, a still picture, subtitles stay
    "风格", "作品", "画作", "画面", "绘画", "油画", "插画", "静止", "静态", "整体发灰静止", "静止不动的画面", "静止画面", "艺术", "艺术品", "笔触",
    "卡通", "素描", "水彩",
    # the same in English, and what is said in its place
    "style", "styles", "stylized", "stylised", "work", "works", "works of art", "artwork", "artworks", "art", "artistic",
    "painting", "paintings", "paint", "painted", "painterly", "oil painting", "watercolor", "watercolour", "drawing",
    "drawings", "sketch", "sketches", "illustration", "illustrations", "brush strokes", "brushstrokes", "canvas",
    "picture", "pictures", "image", "images", "static", "still", "still picture", "still image", "still frame",
    "static image", "static picture", "static frame", "motionless", "motionless picture", "motionless image",
    "motionless frame", "no motion", "cartoon", "anime", "comic", "2d", "unrealistic", "not realistic", "cgi", "render",
)  # fmt: skip
"""Items, lower case, that are left out of a negative sentence for a painting."""

SEPARATORS = re.compile(r"[,，、;；\n]+|[.。](?:\s+|$)")
"""What stands between the items of a negative sentence, in English and in Chinese."""

_ITEMS = frozenset(AGAINST_PAINTINGS)


class Softened(NamedTuple):
    """A negative sentence fit for paintings, and the items that were left out of it, in order."""

    negative: str
    removed: tuple[str, ...]


def for_paintings(negative: str) -> Softened:
    """Leave out of a negative sentence the items that argue against paintings.

    Items stand between commas, semicolons, full stops or lines, European or Chinese. What stays is joined by the kind of
    comma that was there; a sentence with nothing to leave out comes back untouched.
    """
    items = [item.strip() for item in SEPARATORS.split(negative)]
    removed = tuple(item for item in items if _plain(item) in _ITEMS)
    if not removed:
        return Softened(negative, ())
    comma = "，" if "，" in negative else ", "
    return Softened(comma.join(item for item in items if item and _plain(item) not in _ITEMS), removed)


def _plain(item: str) -> str:
    """An item without weights such as (style:1.2), articles and capitals."""
    bare = re.sub(r"[()\[\]{}]|:\s*[\d.]+", "", item).strip(" .。\"'").lower()
    return re.sub(r"^(?:an?|the)\s+", "", bare)
