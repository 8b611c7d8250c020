# SPDX-License-Identifier: Apache-2.0
"""What float32 arithmetic makes of an integer accumulator: scale, bias, then elementwise ops.

A chain is the one definition of the real value behind an accumulator. The passes search the
integer quantiser that equals it; outputs that end without a quantiser keep it to be read as reals.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hwflow.errors import GraphError
from hwflow.ops import OPS
from hwflow.ops.types import Arrays

# Elementwise ops of level quant: each is monotone in every channel, also in float32.
ELEMENTWISE = ("add", "multiply", "divide", "relu", "clip", "batchnorm")


@dataclass(frozen=True)
class Step:
    """One elementwise op with its constants."""

    op: str
    attrs: Any
    consts: Mapping[str, np.ndarray]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values float32 (C, N, 1)."""
        arrays: Arrays = (values,)
        return np.asarray(OPS[self.op].golden(arrays, self.attrs, self.consts), dtype=np.float32)

    @property
    def per_tensor(self) -> bool:
        """Whether all channels are treated alike."""
        return all(a.size == 1 for a in self.consts.values())


@dataclass(frozen=True)
class Chain:
    """The real value of accumulators: ((acc * sign - offset) / count * unit + bias), then steps.

    sign, offset (int64), unit and bias (float32) have one entry a channel.
    """

    sign: np.ndarray
    offset: np.ndarray
    unit: np.ndarray
    bias: np.ndarray
    count: int = 1
    steps: tuple[Step, ...] = ()

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        """float32 (C, ...) of accumulators int64 (C, ...)."""
        flat = acc.reshape(acc.shape[0], -1)
        total = flat * self.sign[:, None] - self.offset[:, None]
        value: np.ndarray = total.astype(np.float32)
        if self.count != 1:
            value = value / np.float32(self.count)
        value = (value * self.unit[:, None] + self.bias[:, None])[:, :, None]
        for step in self.steps:
            value = step(value)
        return value.reshape(acc.shape)

    def channel(self, c: int) -> "Chain":
        """The chain of one channel."""
        cut = tuple(
            Step(s.op, s.attrs, {
                k: a[c : c + 1] if a.ndim and a.shape[0] == len(self.unit) > 1 else a
                for k, a in s.consts.items()
            })
            for s in self.steps
        )  # fmt: skip
        part = slice(c, c + 1)
        arrays = (self.sign[part], self.offset[part], self.unit[part], self.bias[part])
        return Chain(*arrays, self.count, cut)

    def alike(self) -> bool:
        """Whether all channels have the same chain."""
        same = all((a == a[0]).all() for a in (self.sign, self.offset, self.unit, self.bias))
        return bool(same and all(step.per_tensor for step in self.steps))

    def to_json(self) -> str:
        """Text that from_json reads back to the same numbers."""
        body = {
            "sign": self.sign.tolist(), "offset": self.offset.tolist(),
            "unit": self.unit.tolist(), "bias": self.bias.tolist(), "count": self.count,
            "steps": [
                {
                    "op": s.op, "attrs": asdict(s.attrs),
                    "consts": {k: [list(a.shape), a.ravel().tolist()] for k, a in s.consts.items()},
                }
                for s in self.steps
            ],
        }  # fmt: skip
        return json.dumps(body)

    @staticmethod
    def from_json(text: str) -> "Chain":
        """What to_json wrote; GraphError when it is not."""
        try:
            body = json.loads(text)
            steps = tuple(
                Step(
                    s["op"], OPS[s["op"]].attrs(**s["attrs"]),
                    {k: np.array(v, np.float32).reshape(n) for k, (n, v) in s["consts"].items()},
                )
                for s in body["steps"]
            )  # fmt: skip
            sign, offset = (np.array(body[k], np.int64) for k in ("sign", "offset"))
            unit, bias = (np.array(body[k], np.float32) for k in ("unit", "bias"))
            return Chain(sign, offset, unit, bias, int(body["count"]), steps)
        except (ValueError, KeyError, TypeError) as error:
            raise GraphError(f"no chain of float steps ({error}); lower the model again") from error
