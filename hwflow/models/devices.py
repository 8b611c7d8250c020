# SPDX-License-Identifier: Apache-2.0
"""Where torch computes."""

from __future__ import annotations

import torch

from hwflow.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


def device_of(name: str) -> torch.device:
    """The device of a name of DEVICES; auto: cuda where torch finds it. ConfigError otherwise."""
    if name not in DEVICES:
        raise ConfigError(f"device {name!r}: must be auto, cpu or cuda")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("device 'cuda': torch finds no such device; use cpu or auto")
    return torch.device("cuda" if there and name != "cpu" else "cpu")
