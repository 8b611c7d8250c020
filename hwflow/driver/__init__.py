# SPDX-License-Identifier: Apache-2.0
"""Host driver of the accelerator. Needs Python 3.10 and numpy, and pynq when it runs on a board.

The package imports nothing else of hwflow, so that it can be copied to a board by itself.
"""

from .accelerator import Accelerator, Buffer, DriverError, Frame, Layout, Memory, Registers
from .batch import Batch
from .classifier import Classifier
from .decode import COLUMNS, HeadScales, boxes, candidates

__all__ = [
    "COLUMNS",
    "Accelerator",
    "Batch",
    "Buffer",
    "Classifier",
    "DriverError",
    "Frame",
    "HeadScales",
    "Layout",
    "Memory",
    "Registers",
    "boxes",
    "candidates",
]
