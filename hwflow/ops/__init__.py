# SPDX-License-Identifier: Apache-2.0
"""The ops: one record in one file each; a new op is its file plus one line here."""

from types import MappingProxyType

from hwflow.ops import (
    add,
    concat,
    conv,
    deform_dw,
    dw,
    maxpool,
    multiply,
    peaks,
    pw,
    quant,
    real_conv,
    real_deform,
    real_deform_dw,
    relu,
    reshape,
    shuffle,
    transpose,
    upsample,
)
from hwflow.ops import slice as slice_op
from hwflow.ops.types import Op

_ALL = (
    # level integer
    conv.OP,
    pw.OP,
    dw.OP,
    deform_dw.OP,
    peaks.OP,
    # both levels
    maxpool.OP,
    slice_op.OP,
    concat.OP,
    shuffle.OP,
    upsample.OP,
    # level quant
    quant.OP,
    relu.OP,
    real_conv.OP,
    real_deform.OP,
    real_deform_dw.OP,
    add.OP,
    multiply.OP,
    reshape.OP,
    transpose.OP,
)

OPS: MappingProxyType[str, Op] = MappingProxyType({op.name: op for op in _ALL})

CONVOLUTIONS = ("conv", "pw", "dw", "deform_dw")
