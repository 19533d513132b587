"""Shot: everything one animation is made from, frozen, validated once, at the edge. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .errors import ImageError, PromptError, SettingError

MAX_PROMPT = 2000


@dataclass(frozen=True)
class Arrow:
    """What is at (x0, y0) moves towards (x1, y1); fractions of the picture, (0, 0) top left, (1, 1) bottom right."""

    x0: float
    y0: float
    x1: float
    y1: float
    speed: float = 1.0
    """factor on its way, above 0 and up to 10"""

    def __post_init__(self) -> None:
        if not 0 < self.speed <= 10:
            raise SettingError(f"expected an arrow's speed above 0 and up to 10, got {self.speed:g}")
        if not all(0 <= v <= 1 for v in (self.x0, self.y0, self.x1, self.y1)):
            raise SettingError(f"expected an arrow inside the picture (fractions 0..1), got {self}")


@dataclass(frozen=True, eq=False)
class Controls:
    """The director's hand. `mask`: (H, W) float32 in [0, 1] at the painting's size, 1 moves; `strength` in [0, 1]."""

    mask: np.ndarray | None = None
    strength: float | None = None
    arrows: tuple[Arrow, ...] = ()

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise SettingError(f"expected a strength between 0 and 1, got {self.strength}")


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the painting that moves by a sentence of its own; `controls.mask` says where and must be there."""

    prompt: str
    controls: Controls

    def __post_init__(self) -> None:
        if self.controls.mask is None:
            raise SettingError(f"expected a mask for the region that moves by {self.prompt!r}, got none")
        if not self.prompt.strip():
            raise PromptError("expected a sentence for every region, got an empty one")


@dataclass(frozen=True, eq=False)
class Shot:
    """One painting, one sentence, and how to animate it. `painting`: (H, W, 3) uint8 sRGB."""

    painting: np.ndarray
    prompt: str
    negative: str = ""
    controls: Controls = field(default_factory=Controls)
    frames: int = 16
    fps: int = 8
    steps: int = 25
    guidance: float | None = None
    seed: int = 42
    distil: float = 0.6
    distil_evaluations: int | None = None
    curve: str = "stepwise-decreasing"
    gain: float | None = None
    blend: str = "slerp"
    loop: bool = False
    regions: tuple[Region, ...] = ()
    """parts with sentences of their own, over the whole picture's; where two overlap the later one decides"""
    last: np.ndarray | None = None
    """(H, W, 3) uint8: the picture the clip ends on, of the painting's size"""
    fused: bool = False
    """whether a proxy's clip is fused in: sampling must begin where something of a clip is left"""

    def __post_init__(self) -> None:
        p = self.painting
        if p.dtype != np.uint8 or p.ndim != 3 or p.shape[2] != 3:
            raise ImageError(f"expected an (H, W, 3) uint8 painting, got {p.shape} {p.dtype}")
        if min(p.shape[:2]) < 16:
            raise ImageError(f"expected a painting of at least 16×16 pixels, got {p.shape[1]}×{p.shape[0]}")
        if not self.prompt.strip():
            raise PromptError("expected a sentence that says what moves, got an empty prompt (try 'clouds drift')")
        if len(self.prompt) > MAX_PROMPT:
            raise PromptError(
                f"expected a prompt of at most {MAX_PROMPT} characters, got {len(self.prompt)}; shorten it"
            )
        for name, value, low, high in (
            ("frames", self.frames, 2, 2000),
            ("fps", self.fps, 1, 120),
            ("steps", self.steps, 1, 1000),
            ("seed", self.seed, 0, 2**63 - 1),
            ("distil", self.distil, 0, 1),
        ):
            if not low <= value <= high:
                raise SettingError(f"expected {name} between {low} and {high}, got {value}")
        if self.guidance is not None and not 0 <= self.guidance <= 50:
            raise SettingError(f"expected guidance between 0 and 50, got {self.guidance}")
        for name, given, low, high in (
            ("distil_evaluations", self.distil_evaluations, 1, 1000),
            ("gain", self.gain, 0, 100),
        ):
            if given is not None and not low <= given <= high:
                raise SettingError(f"expected {name} between {low} and {high}, got {given}")
        if self.blend not in ("slerp", "lerp"):
            raise SettingError(f"expected blend 'slerp' or 'lerp', got {self.blend!r}")
        mask = self.controls.mask
        if mask is not None and mask.shape != p.shape[:2]:
            raise ImageError(
                f"expected a mask of the painting's {p.shape[1]}×{p.shape[0]}, got {mask.shape[1]}×{mask.shape[0]}"
            )

        for region in self.regions:
            given_mask = region.controls.mask
            if given_mask is not None and given_mask.shape != p.shape[:2]:
                raise ImageError(
                    f"expected region masks of the painting's {p.shape[1]}×{p.shape[0]}, "
                    f"got {given_mask.shape[1]}×{given_mask.shape[0]}"
                )
        if self.last is not None and self.last.shape != p.shape:
            raise ImageError(
                f"expected a last picture of the painting's {p.shape[1]}×{p.shape[0]}, "
                f"got {self.last.shape[1]}×{self.last.shape[0]}"
            )

    def seen_as(self, proxy: np.ndarray) -> Shot:
        """The same shot with its proxy image in the painting's place (the second path)."""
        return replace(self, painting=proxy)
