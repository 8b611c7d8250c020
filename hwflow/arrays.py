# SPDX-License-Identifier: Apache-2.0
"""Arrays from .npz files, whoever wrote them: no pickles, no surprises in size."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwflow.errors import DataError

MOST_BYTES = 1 << 32
CHUNK = 1 << 20
# All that zipfile raises for a damaged archive
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, NotImplementedError,
    OSError, RuntimeError, ValueError,
)
_HEADER_ERRORS = (ValueError, TypeError, KeyError, SyntaxError, tokenize.TokenError, EOFError,
                  OverflowError, RecursionError, MemoryError)


def read(
    path: Path, names: Sequence[str] | None = None, most_bytes: int = MOST_BYTES
) -> dict[str, np.ndarray]:
    """The arrays of an .npz file: all of them, or those named.

    An array is read only if its header agrees with the bytes that are there, so that no header can
    ask for more memory than the file has (and `most_bytes` in all). Raises DataError, naming file
    and array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist() if info.filename.endswith(".npy")
            }
            wanted = list(held) if names is None else list(names)
            missing = [name for name in wanted if name not in held]
            if missing:
                raise DataError(
                    f"{path}: has no array {missing[0]!r} (it has: {', '.join(held) or 'none'}); "
                    "write it with numpy.savez"
                )
            total = sum(held[name].file_size for name in wanted)
            if total > most_bytes:
                raise DataError(
                    f"{path}: its arrays are {total:,} bytes, at most {most_bytes:,} are read; "
                    "split the file"
                )
            return {name: _array(archive, held[name], path, name) for name in wanted}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give an .npz file") from error
    except ZIP_ERRORS as error:
        raise DataError(
            f"{path}: is not a whole .npz file ({error}); write it again with numpy.savez"
        ) from error


def _array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, name: str
) -> np.ndarray:
    with archive.open(info) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        except _HEADER_ERRORS as error:
            raise DataError(
                f"{path}: the array {name!r} has a damaged header ({str(error)[:200]}); write it "
                "again with numpy.savez"
            ) from error
        if dtype.hasobject:
            raise DataError(
                f"{path}: the array {name!r} holds Python objects, which are never loaded; save an "
                "array of numbers"
            )
        wanted, there = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
        if min(shape, default=0) < 0 or wanted != there:
            raise DataError(
                f"{path}: the array {name!r} is said to be {dtype} of shape {shape}, but has "
                f"{there:,} bytes; write it again with numpy.savez"
            )
        array = np.empty(shape, dtype, order="F" if fortran else "C")
        if wanted:
            view, done = memoryview(array.reshape(-1, order="A").view(np.uint8).data), 0
            while done < wanted:
                part = stream.read(min(CHUNK, wanted - done))
                if not part:
                    raise EOFError("it ends too early")
                view[done : done + len(part)] = part
                done += len(part)
        stream.read(1)  # the end: here the checksum is compared
        return array
