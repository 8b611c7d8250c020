# SPDX-License-Identifier: Apache-2.0
"""Photographs out of files, whoever made them."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, UnidentifiedImageError

from hwflow.errors import DataError

# No PostScript, for which another program would be started, and no format that names other files.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF")
# Four times the largest camera; decoding takes 3 bytes a pixel.
MOST_PIXELS = 200_000_000
_DAMAGED = (
    UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError,
    ArithmeticError, AttributeError, struct.error, zlib.error, Image.DecompressionBombError,
)


def decode(data: bytes, name: str) -> Image.Image:
    """A photograph as RGB; DataError, naming the file, if it is damaged, cut short or too large."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"{name}: has {width} x {height} pixels, at most {MOST_PIXELS:,} are read; "
                    "make it smaller"
                )
            return image.convert("RGB")
    except _DAMAGED as error:
        raise DataError(
            f"{name}: not a complete image ({error}); give a whole file of {', '.join(FORMATS)}"
        ) from error
