"""Still picture files, by Pillow: PNG, JPEG, WebP, TIFF, BMP, PPM, JPEG 2000 and what else it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from layercast.bitstream.types import MAX_SIDE
from layercast.errors import MediaError
from layercast.media.base import Image

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".j2k", ".gif"}
)
"""File name endings that mean a still picture; a folder's other files are passed over."""

_GREY = frozenset({"1", "L"})
_GREY_16 = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def read_picture(path: str | Path) -> Image:
    """Read one picture, upright, without transparency: (H, W, 3), or (H, W) when the file is grey.

    Sixteen bits per sample become eight.

    Raises:
        MediaError: missing, damaged, no picture, or larger than MAX_SIDE.
    """
    try:
        with PillowImage.open(path) as picture:
            if max(picture.size) > MAX_SIDE:
                width, height = picture.size
                raise MediaError(
                    f"{path}: {width}x{height} pixels is too large", hint=f"no side may exceed {MAX_SIDE}"
                )
            if picture.mode in _GREY_16:
                return np.asarray(np.asarray(picture, np.uint16) >> 8, np.uint8)
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(upright.convert("L" if picture.mode in _GREY else "RGB"))
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file", hint="check the path") from None
    except UnidentifiedImageError:
        raise MediaError(
            f"{path}: not a picture that Pillow can read", hint="convert it to PNG or JPEG"
        ) from None
    except PermissionError:
        raise MediaError(f"{path}: permission denied", hint="check the file's access rights") from None
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning):
        raise MediaError(f"{path}: too many pixels", hint=f"no side may exceed {MAX_SIDE}") from None
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow's decoders raise for damaged data
        raise MediaError(
            f"{path}: damaged picture: {error}", hint="get the file again from its origin"
        ) from error


def write_picture(path: str | Path, image: Image) -> None:
    """Write one picture in the format that the name ends in; a file that fails half-way is removed.

    Raises:
        MediaError: unknown format, full disk, no permission, no such folder.
    """
    path = Path(path)
    try:
        PillowImage.fromarray(image).save(path)
    except ValueError as error:
        raise MediaError(f"{path}: {error}", hint="use a name that ends in .png, .jpg or .webp") from error
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> MediaError:
    """The error for an output that the system would not take."""
    reason = error.strerror or str(error)
    return MediaError(
        f"cannot write {path}: {reason}", hint="check the folder, its rights and the free space"
    )
