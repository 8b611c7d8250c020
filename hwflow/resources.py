# SPDX-License-Identifier: Apache-2.0
"""Where the hardware sources, board files and simulation models lie, and the user's cache."""

from __future__ import annotations

from pathlib import Path

from hwflow.errors import ConfigError

FOLDERS = ("boards", "hdl", "hls", "sim")


def path(name: str) -> Path:
    """Folder `name` of FOLDERS: inside an installed package, else at the top of the checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_data" / name, package.parent / name):
        if name in FOLDERS and folder.is_dir():
            return folder
    raise ConfigError(
        f"the folder {name!r} is missing from this installation of hwflow "
        f"(known: {', '.join(FOLDERS)}); install hwflow again"
    )


def default_cache() -> Path:
    """The user's cache, where what any run may use again is kept unless told otherwise."""
    return Path.home() / ".cache" / "hwflow"
