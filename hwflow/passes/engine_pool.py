# SPDX-License-Identifier: Apache-2.0
"""The greatest value of each window, by words of the engine.

Two words differ by clamp(b - a), 0 where a is the greater one, and a + that is the greater. A tap
outside of the map is no word at all: it reads 0, which is the least word there is.
"""

import numpy as np

from hwflow.passes.engine_layers import BYTE, Words
from hwflow.passes.engine_values import LEAST, NONE, Sums, Values, Window


def greatest(words: Words, name: str, x: Values, window: Window, phases: int) -> Values:
    """The greatest value of each window."""
    taps = window.over(x.at[0], NONE) if len(x.at) == 1 else np.zeros(0, np.int64)
    if len(x.at) != 1 or not _alike(x, window):
        x = words.byte(x, f"{name}.in", phases * window.stride[1])
        taps = window.over(x.at[0], NONE)
    channels, count, *sides = taps.shape
    flat = taps.reshape(channels, count, -1)
    places = flat.shape[2]
    shape = (sides[0], sides[1])
    # each candidate is a sum of words; words that are not there are 0, the least word there is
    held = [[flat[:, n]] for n in range(count)]
    turn = 0
    while len(held) > 1 or len(held[0]) > 1:
        pairs = [(held[n], held[n + 1]) for n in range(0, len(held) - 1, 2)]
        spare = [] if len(held) % 2 == 0 else held[-1:]
        last = not pairs
        blocks = [(held[0], [])] if last else [(b, a) for a, b in pairs]
        label = name if last else f"{name}.over{turn}"
        made = _differences(words, label, blocks, channels, places, shape, phases)
        if last:
            held = [[made]]
        else:
            over = made.reshape(len(pairs), channels, places)
            held = [[*a, over[n]] for n, (a, _) in enumerate(pairs)] + spare
        turn += 1
    low = window.over(x.low, LEAST).max(axis=1)
    high = window.over(x.high, LEAST).max(axis=1)
    found = held[0][0].reshape(1, channels, *sides)
    offset = window.over(x.offset, LEAST).max(axis=1)
    return Values(found, window.over(x.factor[0], 0).max(axis=1)[None], offset, low, high)


def _differences(
    words: Words, name: str, blocks: list[tuple[list[np.ndarray], list[np.ndarray]]], channels: int,
    places: int, sides: tuple[int, int], phases: int,
) -> np.ndarray:  # fmt: skip
    """clamp(sum of the first words - sum of the second) of each block and channel."""
    ats, weights = [], []
    outputs = len(blocks) * channels
    for number, (plus, minus) in enumerate(blocks):
        for sign, some in ((1, plus), (-1, minus)):
            for one in some:
                rows = np.zeros((outputs, channels), np.int64)
                rows[number * channels : (number + 1) * channels] = sign * np.eye(channels)
                ats.append(one)
                weights.append(rows)
    at, zero = np.concatenate(ats), np.zeros(outputs, np.int64)
    sums = Sums(at, np.ones_like(at), np.hstack(weights), np.zeros((outputs, places), np.int64),
                zero, zero + BYTE, sides)  # fmt: skip
    return words.add(name, sums, np.arange(outputs), zero + 1, zero, zero, phases)


def _alike(x: Values, window: Window) -> bool:
    """Whether the words of a window rise alike with their values."""
    for array, least in ((x.factor[0], 1), (x.offset, LEAST)):
        ends = [window.over(array, fill) for fill in (-LEAST, LEAST)]
        if (ends[0].min(axis=1) != ends[1].max(axis=1)).any() or array.min() < least:
            return False
    return bool((x.at[0] != NONE).all())
