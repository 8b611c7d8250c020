# SPDX-License-Identifier: Apache-2.0
"""The ops: one record in one file each; a new op is its file plus one line here."""

from types import MappingProxyType

from hwflow.ops import (
    concat,
    conv,
    deform_dw,
    dw,
    maxpool,
    peaks,
    pw,
    shuffle,
    upsample,
)
from hwflow.ops import slice as slice_op
from hwflow.ops.types import Op

OPS: MappingProxyType[str, Op] = MappingProxyType(
    {
        op.name: op
        for op in (
            conv.OP,
            pw.OP,
            dw.OP,
            deform_dw.OP,
            maxpool.OP,
            slice_op.OP,
            concat.OP,
            shuffle.OP,
            upsample.OP,
            peaks.OP,
        )
    }
)

CONVOLUTIONS = ("conv", "pw", "dw", "deform_dw")
