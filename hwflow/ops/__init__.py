# SPDX-License-Identifier: Apache-2.0
"""The ops: one record in one file each; a new op is its file plus one line here."""

from types import MappingProxyType

from hwflow.ops import (
    add,
    argmax,
    batchnorm,
    bipolar,
    clip,
    concat,
    conv,
    conv2d,
    deform_dw,
    divide,
    dw,
    gather_pw,
    group_sum,
    maxpool,
    maxpool2d,
    multiply,
    multithreshold,
    patches,
    peaks,
    pw,
    quant,
    real_add,
    real_avgpool,
    real_conv,
    real_conv2d,
    real_deform,
    real_deform_dw,
    real_group_sum,
    real_tables,
    rearrange,
    relu,
    reshape,
    residual,
    resize,
    shuffle,
    tables,
    threshold,
    transpose,
    trunc,
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
    conv2d.OP,
    residual.OP,
    threshold.OP,
    gather_pw.OP,
    tables.OP,
    group_sum.OP,
    peaks.OP,
    # both levels
    maxpool.OP,
    maxpool2d.OP,
    patches.OP,
    argmax.OP,
    rearrange.OP,
    resize.OP,
    slice_op.OP,
    concat.OP,
    shuffle.OP,
    upsample.OP,
    # level quant
    quant.OP,
    relu.OP,
    bipolar.OP,
    multithreshold.OP,
    trunc.OP,
    clip.OP,
    batchnorm.OP,
    real_conv.OP,
    real_conv2d.OP,
    real_avgpool.OP,
    real_add.OP,
    real_deform.OP,
    real_deform_dw.OP,
    real_tables.OP,
    real_group_sum.OP,
    add.OP,
    multiply.OP,
    divide.OP,
    reshape.OP,
    transpose.OP,
)

OPS: MappingProxyType[str, Op] = MappingProxyType({op.name: op for op in _ALL})

CONVOLUTIONS = ("conv", "pw", "dw", "deform_dw")
# Ops that end in the requantiser: they have mul, bias and shift.
REQUANTISED = (*CONVOLUTIONS, "conv2d", "residual")
