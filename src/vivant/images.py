"""Pictures come in here, once: any file Pillow can read becomes (H, W, 3) uint8 sRGB, or one clear line."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from .errors import ImageError, SettingError

MAX_PIXELS = 100_000_000
MIN_SIDE = 16


def load_painting(source: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """A painting as (H, W, 3) uint8 sRGB: profile converted, EXIF rotation applied, alpha over white.

    Raises `ImageError` for a missing, empty, broken, tiny (< 16 px) or huge (> 100 megapixel) picture.
    """
    if isinstance(source, np.ndarray):
        image = _from_array(source)
    elif isinstance(source, Image.Image):
        image = source
    else:
        image = _open(Path(source))
    return np.ascontiguousarray(np.asarray(_to_srgb(image)))


def load_mask(source: str | Path | Image.Image | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask as (H, W) float32 in [0, 1], white moves, at `size` = (width, height).

    Another size is resized when its shape is the same within 2 %, and refused otherwise; so is an all-black mask.
    """
    if isinstance(source, np.ndarray) and source.ndim == 2:
        grey = source.astype(np.float32) / (255 if source.dtype == np.uint8 else max(float(source.max()), 1.0))
    else:
        grey = load_painting(source)[..., :3].astype(np.float32).mean(-1) / 255
    if (grey.shape[1], grey.shape[0]) != size:
        _same_shape((grey.shape[1], grey.shape[0]), size, "mask")
        picture = Image.fromarray((grey * 255).round().astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
        grey = np.asarray(picture).astype(np.float32) / 255
    if grey.max() < 1 / 255:
        raise ImageError("expected a mask with some white in it (white moves), got an all-black one")
    return np.ascontiguousarray(grey)


def load_proxy(source: str | Path | Image.Image | np.ndarray, painting: np.ndarray) -> np.ndarray:
    """A proxy image at the painting's size. Refused when its shape differs by more than 2 %."""
    proxy = load_painting(source)
    size = (painting.shape[1], painting.shape[0])
    if (proxy.shape[1], proxy.shape[0]) != size:
        _same_shape((proxy.shape[1], proxy.shape[0]), size, "proxy")
        proxy = np.asarray(Image.fromarray(proxy).resize(size, Image.Resampling.LANCZOS))
    return np.ascontiguousarray(proxy)


def _same_shape(got: tuple[int, int], want: tuple[int, int], what: str) -> None:
    if abs(got[0] / got[1] / (want[0] / want[1]) - 1) > 0.02:
        raise ImageError(
            f"expected a {what} of the painting's shape ({want[0]}×{want[1]}), got {got[0]}×{got[1]}; crop it to match"
        )


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype == np.uint16:
        array = (array / 257).round().astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"expected an (H, W, 3) uint8 array, got {array.shape} {array.dtype}")
    if array.size == 0:
        raise ImageError(f"expected a picture, got an empty array {array.shape}")
    return Image.fromarray(array)


def _open(path: Path) -> Image.Image:
    try:
        if not path.exists():
            raise ImageError(f"expected a picture at {path}, found no such file")
        if path.is_dir():
            raise ImageError(f"expected a picture at {path}, it is a folder")
        with warnings.catch_warnings():
            # Our own limit below is stricter than Pillow's warning and names the sizes.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if path.stat().st_size == 0:
                raise ImageError(f"expected a picture at {path}, the file is empty")
            image = Image.open(path)
            _bounds(image)
            image.load()
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"expected at most {MAX_PIXELS // 1_000_000} megapixels, {path} claims far more; scale it down"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"expected a picture (JPEG, PNG, TIFF, WebP …) at {path}, its format is not known") from error
    except PermissionError as error:
        raise ImageError(f"expected a readable picture at {path}, permission was denied") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"expected a whole picture at {path}, it is damaged: {str(error).splitlines()[0]}") from error
    return image


def _bounds(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"expected a picture of at least {MIN_SIDE}×{MIN_SIDE} pixels, got {width}×{height}")
    if width * height > MAX_PIXELS:
        raise ImageError(f"expected at most {MAX_PIXELS // 1_000_000} megapixels, got {width}×{height}; scale it down")


def _to_srgb(image: Image.Image) -> Image.Image:
    _bounds(image)
    profile: Any = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image) or image
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0)
        top = 65535.0 if values.max() > 255 or image.mode.startswith("I;16") else 255.0
        if image.mode == "F" and values.max() <= 1:
            top = 1.0
        image = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
        profile = None
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted if converted is not None else image.convert("RGB")
        except (ImageCms.PyCMSError, OSError):
            # A profile that cannot be read is no reason to refuse the picture: its numbers are taken as sRGB.
            return image.convert("RGB")
    return image.convert("RGB")


def resized(painting: UInt8[np.ndarray, "H W 3"], size: str) -> UInt8[np.ndarray, "H2 W2 3"]:
    """The painting at a size asked for: "native", "WIDTHxHEIGHT" of its own shape (within 2 %), or the longer side.

    Sides become even, as video asks for. Raises `SettingError`.
    """
    if size == "native":
        return painting
    height, width = painting.shape[:2]
    found = re.fullmatch(r"(\d{1,6})(?:[x×](\d{1,6}))?", size.strip().lower())
    if found is None:
        raise SettingError(f"expected a size such as native, 1920x1080 or 1920, got {size!r}")
    if found[2] is None:
        scale = int(found[1]) / max(height, width)
        wide, high = width * scale, height * scale
    else:
        wide, high = float(found[1]), float(found[2])
        if abs(wide * height / max(high * width, 1e-9) - 1) > 0.02:
            raise SettingError(
                f"expected a size of the painting's shape ({width}×{height}), got {size}; "
                f"try {found[1]}x{2 * round(wide * height / width / 2)}, or one number for the longer side"
            )
    wide, high = (2 * round(v / 2) for v in (wide, high))
    if min(wide, high) < MIN_SIDE or wide * high > MAX_PIXELS:
        raise SettingError(
            f"expected at least {MIN_SIDE} pixels a side and at most {MAX_PIXELS // 1_000_000} megapixels, got {size}"
        )
    way = Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(painting).resize((int(wide), int(high)), way))
