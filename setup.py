# SPDX-License-Identifier: Apache-2.0
"""Puts hdl/, hls/, boards/ and sim/ into the wheel as hwflow/_data; the rest is pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Packages, then the folders of `hwflow.resources` that live at the top of the repository."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in ("boards", "hdl", "hls", "sim"):
            if Path(name).is_dir():
                shutil.copytree(
                    name,
                    Path(self.build_lib) / "hwflow" / "_data" / name,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__", "sim_build", "*.pyc"),
                )


setup(cmdclass={"build_py": BuildPy})
