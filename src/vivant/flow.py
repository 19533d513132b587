"""Dense optical flow, in one place: rendering carries paint along it, the metrics measure with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

SMALL = 320
"""longest side in pixels at which frames are measured while they go by"""


def flow(first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 2"]:
    """Where each pixel of `first` lies in `second`: displacement in pixels, x right, y down.

    DIS (Kroeger et al. 2016), medium preset, but down to the finest scale: the preset stops at half the size, and sees
    about half of a motion of a pixel or two, such as that of a small tree (`benchmarks/flow.py`).
    """
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in (first, second)]
    # OpenCV's type stubs do not know DIS; the function is in every build.
    dis = getattr(cv2, "DISOpticalFlow_create")(getattr(cv2, "DISOPTICAL_FLOW_PRESET_MEDIUM"))  # noqa: B009
    dis.setFinestScale(0)
    return dis.calc(grey[0], grey[1], None)


class Measured:
    """Frames that pass unchanged while their motion is measured: `percent`, the mean flow from frame to frame in % of the
    diagonal, of all that have passed; 0 before the second. Flow is taken at `SMALL` pixels, so that it costs little."""

    def __init__(self, frames: Iterable[UInt8[np.ndarray, "H W 3"]]) -> None:
        self.frames, self.lengths, self.percent = frames, 0.0, 0.0

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        before = None
        for i, frame in enumerate(self.frames):
            scale = min(1.0, SMALL / max(frame.shape[:2]))
            size = tuple(max(16, round(side * scale)) for side in frame.shape[1::-1])
            small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            if before is not None:
                self.lengths += float(np.hypot(*np.moveaxis(flow(before, small), -1, 0)).mean() / np.hypot(*size))
                self.percent = 100 * self.lengths / i
            before = small
            yield frame
