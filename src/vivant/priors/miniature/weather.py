"""Rain and snow: what falls in front of a painting is in no part of it, so it is painted over, not dreamt.

Each drop or flake is a dab of the painting's own lightest tone that falls through the clip at its own depth. Frame 0 is
the painting; the weather gathers over the first moments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

WORDS = {
    "rain": r"rain|raindrops?|drizzle|downpour|rainfall|raining|rains|drizzles|drizzling",
    "snow": r"snow|snowflakes?|flakes|snowfall|snowstorm|blizzard|snowing|snows",
}
VERBS = r"(?:fall|pour|drift|come|drizzle|pelt|descend|float|whirl|swirl|blow|stream|beat|pass|sweep|begin|start|set)(?:s|es|ing|ling)?"
NAMED = re.compile("|".join(rf"\b(?:{words})\b" for words in WORDS.values()), re.IGNORECASE)
"""rain and snow in a sentence that does not say that they fall"""
SAID = {
    kind: re.compile(
        rf"\b(?:it(?:'s| is| starts to| begins to)? (?:(?:heavily|softly|gently|lightly) )?(?:{stem})(?:s|ing)?"
        rf"|(?:(?:the|a|some|soft|gentle|heavy|light|white|thick|fine) )*(?:falling|drifting|pouring|swirling|whirling) (?:{words})"
        rf"|(?:(?:the|a|some|soft|gentle|heavy|light|white|thick|fine) )*(?:{words})(?: (?:is|are|slowly|softly|gently|heavily|lightly|quickly))* {VERBS})\b"
        # the place it falls on is not what moves
        r"(?: (?:down|in|out))?(?: (?:slowly|softly|gently|heavily|lightly|quickly|hard|thickly|steadily))*"
        r"(?: (?:on|over|onto|upon|across|above|from|through|to|towards?|into|around|behind) (?:[a-z']+ ){0,2}?[a-z']+(?= and | while | as |[,.;!]|$))*",
        re.IGNORECASE,
    )
    for kind, stem, words in (("rain", "rain|drizzl", WORDS["rain"]), ("snow", "snow", WORDS["snow"]))
}  # fmt: skip
DENIED = re.compile(r"\b(?:no|not|never|without|stops?|stopped|melts?|melting)\b|n't\b", re.IGNORECASE)
SLOW = re.compile(r"\b(?:slow|soft|gent|light|quiet|calm)", re.IGNORECASE)
FAST = re.compile(r"\b(?:fast|quick|hard|heav|storm|wild|blizzard|downpour|pour)", re.IGNORECASE)


TURN = 1.1
"""the height (or width) of the picture and the rim in which what leaves it comes back"""


@dataclass(frozen=True)
class Weather:
    """`kind` "rain" or "snow"; `slant`: sideways per downward step; `pace`: 1 is usual."""

    kind: str
    slant: float = 0.0
    pace: float = 1.0


def said(prompt: str) -> tuple[Weather | None, str]:
    """The weather a sentence asks for, and the sentence without it. Denied weather is taken out and not made."""
    for kind, pattern in SAID.items():
        found = pattern.search(prompt)
        if found is None:
            continue
        words = prompt[: found.end()]
        clause = re.split(r"[,.;!]| and | while ", words)[-1] + " " + found.group(0)
        rest = (prompt[: found.start()] + " " + prompt[found.end() :]).strip(" ,.;!")
        rest = re.sub(r"^(?:and|while|as)\b|\b(?:and|while|as|no|never)$", "", rest, flags=re.IGNORECASE).strip(" ,.;!")
        if DENIED.search(clause):
            return None, re.sub(
                r"^(?:no|never)\b *(?:and|while)?|\b(?:no|never)$", "", rest, flags=re.IGNORECASE
            ).strip(" ,.;!")
        side = -1.0 if re.search(r"\bleft\b", clause) else 1.0 if re.search(r"\bright\b", clause) else 0.25
        pace = 0.6 if SLOW.search(clause) else 1.5 if FAST.search(clause) else 1.0
        return Weather(kind, side * (0.35 if kind == "rain" else 0.6), pace), rest
    return None, prompt


def over(
    frames: Iterator[UInt8[np.ndarray, "H W 3"]],
    weather: Weather,
    count: int,
    strength: float,
    seed: int,
    border: tuple[int, int, int, int] = (0, 0, 0, 0),
    loop: bool = False,
    begin: int = 0,
    like: UInt8[np.ndarray, "H W 3"] | None = None,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Lay the weather over a clip of `count` frames; `strength` 0..1 decides how much of it. Same seed, same drops.

    `border`: pixels at the top, bottom, left and right on which nothing falls (a mount or a frame). `loop`: after the last frame comes the first.
    `begin`: the number of the first frame given; beyond `count` it goes on falling. `like`: whose light it has, the first frame's when None.
    """
    rng = np.random.default_rng(seed)
    amount = round((500 if weather.kind == "rain" else 420) * strength * 2)
    depth = rng.uniform(0.35, 1.0, amount)
    x, y = rng.random(amount), rng.random(amount)
    falls = weather.pace * (2.2 if weather.kind == "rain" else 0.45) * depth
    aside_total = weather.slant * falls
    if loop:  # whole turns through the picture and out again; it has been falling all along
        falls = np.maximum(np.round(falls / TURN), 1) * TURN
        aside_total = np.round(aside_total / TURN) * TURN
    swing, phase = rng.uniform(0.004, 0.016, amount), rng.uniform(0, 2 * np.pi, amount)
    tone: np.ndarray | None = None
    for i, given in enumerate(frames, begin):
        frame = given.copy()
        if tone is None:
            bright = (frame if like is None else like)[::8, ::8].reshape(-1, 3).astype(np.float32)
            tone = bright[bright.sum(1) >= np.percentile(bright.sum(1), 98)].mean(0) * 0.75 + 255 * 0.25
        t = i / count if loop else i / max(count - 1, 1)
        if (i == 0 and not loop) or amount == 0:
            yield frame
            continue
        top, bottom, left, right = border
        window = frame[top : frame.shape[0] - bottom, left : frame.shape[1] - right]
        height, width = window.shape[:2]
        down = (y + falls * t) % TURN - 0.05
        aside = aside_total * t * (1 if loop else height / width)
        if weather.kind == "snow":
            aside = aside + swing * np.sin(phase + 2 * np.pi * 2 * t)
        across = (x + aside) % TURN - 0.05
        window[:] = _dabs(
            window, weather, across * width, down * height, depth, tone, 1.0 if loop else min(1.0, t / 0.15)
        )
        yield frame


def _dabs(
    frame: np.ndarray, weather: Weather, x: np.ndarray, y: np.ndarray, depth: np.ndarray, tone: np.ndarray, gathered: float
) -> np.ndarray:  # fmt: skip
    height, width = frame.shape[:2]
    unit = np.hypot(height, width) / 1000
    alpha = np.zeros((height, width), np.uint8)
    for px, py, near in zip(x, y, depth, strict=True):
        ink = float(255 * gathered * near)
        if weather.kind == "rain":
            length = 26 * unit * near * weather.pace**0.5
            end = (px - weather.slant * length, py - length)
            weight = max(1, round(1.3 * unit * near))
            cv2.line(alpha, _fixed(px, py), _fixed(*end), 0.45 * ink, weight, cv2.LINE_AA, 4)
        else:
            cv2.circle(alpha, _fixed(px, py), int(16 * 2.6 * unit * near), 0.85 * ink, -1, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(alpha, (0, 0), max(0.5, 0.5 * unit)).astype(np.float32)[..., None] / 255
    return np.clip(np.rint(frame + soft * (tone - frame)), 0, 255).astype(np.uint8)


def _fixed(x: float, y: float) -> tuple[int, int]:
    """A point in sixteenths of a pixel, as OpenCV draws between pixels."""
    return round(16 * float(x)), round(16 * float(y))
