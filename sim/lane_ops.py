# SPDX-License-Identifier: Apache-2.0
"""Operations for the benches of the lanes: maps in a memory, and the walk over them.

`entries` follows the rules of docs/engine.md, "Lanes": what the sequencer and the memory would do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from bench import pack, struct, struct_layout

META = struct_layout("seq_pkg", "meta_t")
MODE = struct_layout("seq_pkg", "mode_t")
PICK = struct_layout("seq_pkg", "pick_t")
U8, I8, U3 = 0, 1, 2


@dataclass(frozen=True)
class Walk:
    """Geometry of an operation. Sizes as stored; y0 and rows count output rows."""

    in_w: int
    in_h: int
    y0: int
    rows: int
    stride: int = 1
    up: bool = False
    reach: int = 1

    @property
    def seen_w(self) -> int:
        return self.in_w << self.up

    @property
    def seen_h(self) -> int:
        return self.in_h << self.up

    @property
    def out_w(self) -> int:
        return self.seen_w // self.stride

    @property
    def narrow(self) -> bool:
        return self.out_w == 8

    @property
    def row_words(self) -> int:
        return max(1, self.out_w // 16)


@dataclass(frozen=True)
class Entry:
    """What is presented in one cycle, and which output word's row it is the centre of, if any."""

    meta: int
    pick: int
    window: int
    center: tuple[int, int, int] | None  # channel, row, word


def memory(x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The planes of a map of bytes (C, H, W) with 32 bytes of something else before and after."""
    planes = []
    for plane in x.astype(np.uint8):
        size = -(-plane.size // 16) * 16
        bytes_ = rng.integers(0, 256, size + 64, np.uint8)
        bytes_[32 : 32 + plane.size] = plane.reshape(-1)
        planes.append(bytes_)
    return planes


def row_window(plane: np.ndarray, walk: Walk, v: int, xo: int) -> tuple[int, int]:
    """The three words around word xo of row v, and whether the row begins 8 pixels later."""
    pixel = (v >> walk.up) * walk.in_w + ((16 * xo * walk.stride) >> walk.up)
    first = 32 + (pixel >> 4) * 16 - 16
    slots = np.zeros(48, np.uint8)
    slots[: len(plane[first : first + 48])] = plane[first : first + 48]
    return int.from_bytes(slots.tobytes(), "little"), (pixel >> 3) & 1


def entries(
    walk: Walk,
    planes: list[np.ndarray],
    constants: list[dict[str, int]],
    dil: np.ndarray,
    rng: random.Random,
) -> Iterator[Entry]:
    """The entries of an operation, column after column, and the ones that flush the chain.

    constants: meta_t's weights, bias and shift of a channel, and `dst`; dil: (H, W) as seen.
    """
    step = walk.stride
    mode = 1 if walk.up else 2 if walk.stride == 2 else 0
    top = max(0, step * walk.y0 - walk.reach)
    bottom = min(walk.seen_h - 1, step * (walk.y0 + walk.rows - 1) + walk.reach)
    for channel, record in enumerate(constants):
        for xo in range(walk.row_words):
            edges = {"at_left": xo == 0, "at_right": xo == walk.row_words - 1}
            for v in range(top, bottom + 1):
                r, rest = divmod(v - step * walk.y0, step)
                emit = rest == 0 and 0 <= r < walk.rows
                row = r >> 1 if walk.narrow else r
                lanes = [
                    int(dil[v, 16 * xo + x]) if walk.reach == 7 and 16 * xo + x < walk.out_w
                    else rng.randrange(8) for x in range(16)
                ]
                window, pre = row_window(planes[channel], walk, v, xo)
                meta = struct(
                    META, emit=emit, half=walk.narrow and r & 1, v=v, **edges,
                    weights=record["weights"], bias=record["bias"], shift=record["shift"],
                    addr=record["dst"] + row * walk.row_words + xo, dil=pack(lanes, 3),
                )
                pick = struct(PICK, pre=pre, mode=mode, **edges)
                yield Entry(meta, pick, window, (channel, r, xo) if emit else None)
    for _ in range(walk.reach):
        yield Entry(
            rng.getrandbits(sum(META.values())) & ~struct(META, emit=1),
            rng.getrandbits(sum(PICK.values())), rng.getrandbits(384), None,
        )


def mode_word(walk: Walk, signed: bool, out_type: int, maximum: bool) -> int:
    """The constants of an operation, a mode_t."""
    return struct(
        MODE, reach7=walk.reach == 7, stride2=walk.stride == 2, narrow=walk.narrow,
        max_mode=maximum, fill_min=maximum, in_signed=signed, out_type=out_type,
        in_h=walk.seen_h,
    )
