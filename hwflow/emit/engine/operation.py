# SPDX-License-Identifier: Apache-2.0
"""One operation of the engine before it has its place in a queue, and what it touches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.program import SMAP_WORDS

# Places that operations read and write, numbered in one row: activation words, the words of the
# dilation map, the candidate list, and the words of the scratch region in DDR
ACT_PLACES = 1 << 16
SMAP_PLACE = ACT_PLACES
LIST_PLACE = SMAP_PLACE + SMAP_WORDS
DDR_PLACE = LIST_PLACE + 1

ARRAY_OPS = ("CONV",)


@dataclass(frozen=True)
class Operation:
    """A descriptor without its tag and its token, in the order in which the network needs it."""

    opcode: str
    node: str
    fields: Mapping[str, int]
    payload: bytes
    reads: np.ndarray  # places
    writes: np.ndarray
    tensor: str = ""  # whose planes it writes on chip
    channels: tuple[int, ...] = ()
    dst: tuple[int, ...] = ()  # word address of each channel's first word
    first_word: int = 0  # of the plane: what lands on `dst`
    words: int = 0  # written in each channel
    macs: int = 0
    ideal: int = 0
    cycles: int = 0  # of the model; what the schedule counts with
    moved_words: int = 0  # between DDR and the activation memory

    @property
    def queue(self) -> str:
        return "array" if self.opcode in ARRAY_OPS else "lanes"

    @property
    def stream_words(self) -> int:
        return 2 + len(self.payload) * 8 // isa.WORD_BITS


def runs(starts: Sequence[int] | np.ndarray, words: int) -> np.ndarray:
    """The places of several runs of `words` activation words."""
    first = np.asarray(starts, np.int64).reshape(-1, 1)
    return ((first + np.arange(words)) & 0xFFFF).ravel()


def places(*parts: Iterable[int] | np.ndarray) -> np.ndarray:
    """All the places of several parts in one array."""
    arrays = [np.asarray(part, np.int64).ravel() for part in parts]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
