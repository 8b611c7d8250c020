# SPDX-License-Identifier: Apache-2.0
"""Stands in for the package `pynq`: a board with the network of tables of the folder beside it.

It looks a whole picture up among samples.npz and answers with the class that answers.npy has for
it, so that a host that sends wrong words, or in a wrong order, gets nothing.
"""

from collections import deque
from pathlib import Path

import numpy as np
from driver import classifier

HERE = Path.cwd()


def allocate(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    raise AssertionError("a network of tables needs no memory")


class Overlay:
    def __init__(self, path: str) -> None:
        self.ip_dict = {"engine": {"phys_addr": 0x43C0_0000}}


class MMIO:
    def __init__(self, base: int, size: int) -> None:
        assert (base, size) == (0x43C0_0000, 256)
        images = np.load(HERE / "samples.npz")["images"]
        self.pixels = images[0].size
        answers = np.load(HERE / "answers.npy").tolist()
        self.classes = dict(zip((i.tobytes() for i in images), answers, strict=True))
        self.words: list[int] = []
        self.waiting: deque[int] = deque()

    def read(self, offset: int) -> int:
        if offset == classifier.RESULT:
            return classifier.VALID | self.waiting.popleft() if self.waiting else 0
        return {classifier.ID: classifier.MAGIC, classifier.PIXELS: self.pixels,
                classifier.STATUS: int(bool(self.waiting))}[offset]  # fmt: skip

    def write(self, offset: int, value: int) -> None:
        if offset == classifier.CONTROL:
            self.words.clear()
            return
        assert 0x80 <= offset < 0x100 and offset % 4 == 0
        self.words.append(value)
        if 4 * len(self.words) >= self.pixels:
            picture = np.array(self.words, "<u4").tobytes()[: self.pixels]
            assert len(self.waiting) < classifier.WAITING
            self.waiting.append(self.classes[picture])
            self.words.clear()
