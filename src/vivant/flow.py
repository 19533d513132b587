"""Dense optical flow, in one place: rendering carries paint along it, the metrics measure with it."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8


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
