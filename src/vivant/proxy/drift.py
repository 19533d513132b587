"""How far a proxy has left its painting: structure and colour, so that another scene never passes for this one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

SIDE = 192
STRUCTURE, COLOUR, STRANGER = 0.35, 18.0, 0.6
"""Above the first two a proxy is said to have left its painting, above the last it is another picture. Measured on ten
paintings: proxies 0.003 to 0.14 in structure and 2 to 5 in colour, mirrored paintings from 0.41, other paintings from 0.66."""


@dataclass(frozen=True)
class Drift:
    """`structure`: 1 - correlation of the outlines (0 the same, about 1 unrelated); `colour`: mean CIELAB distance of
    the blurred pictures (ΔE 1976; 2 is just visible)."""

    structure: float
    colour: float

    @property
    def warning(self) -> str | None:
        """One line where the proxy shows another scene or other colours; None where it kept to the painting."""
        if self.structure > STRUCTURE:
            return f"the proxy's structure left the painting (distance {self.structure:.2f}, usual up to {STRUCTURE})"
        if self.colour > COLOUR:
            return f"the proxy's colours left the painting (ΔE {self.colour:.0f}, usual up to {COLOUR:.0f})"
        return None


def drift(painting: UInt8[np.ndarray, "H W 3"], proxy: UInt8[np.ndarray, "H W 3"]) -> Drift:
    """Compare a proxy with its painting, both at the same size."""
    height, width = painting.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    a, b = (_lab(cv2.resize(p, size, interpolation=cv2.INTER_AREA)) for p in (painting, proxy))
    edges = [_outlines(lab[..., 0]).ravel() for lab in (a, b)]
    spread = [float(e.std()) for e in edges]
    if min(spread) < 1e-6:
        alike = 1.0 if max(spread) < 1e-6 else 0.0
    else:
        alike = float(np.corrcoef(edges[0], edges[1])[0, 1])
    soft = [cv2.GaussianBlur(lab, (0, 0), SIDE / 32) for lab in (a, b)]
    return Drift(1 - alike, float(np.linalg.norm(soft[0] - soft[1], axis=-1).mean()))


def _lab(picture: np.ndarray) -> Float[np.ndarray, "h w 3"]:
    return cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _outlines(light: np.ndarray) -> Float[np.ndarray, "h w"]:
    """Strength of the edges, spread by some pixels: a stroke repainted a little aside is still the same edge."""
    soft = cv2.GaussianBlur(light, (0, 0), 2.0)
    edges = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
    return cv2.GaussianBlur(np.sqrt(edges), (0, 0), 3.0)
