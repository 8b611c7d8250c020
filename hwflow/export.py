# SPDX-License-Identifier: Apache-2.0
"""From a quantised torch model to QONNX, test vectors and the proof of the integer contract."""

from __future__ import annotations

import ast
import copy
import logging
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx as brevitas_export
from brevitas.nn import QuantConv2d
from onnx import numpy_helper
from onnxscript import opset19
from torch import Tensor, nn

from hwflow.errors import ConfigError, DataError, GraphError
from hwflow.models.codenet import HM_BIAS, STRIDE, CoDeNet
from hwflow.models.layers import ANCHORS, ConvUnit, DeformDw, quantise_conv

log = logging.getLogger(__name__)

NodeName = Callable[[onnx.NodeProto, dict[str, str], dict[str, onnx.TensorProto]], str]
OPSET = 20
MAX_IR_VERSION = 13
INPUT = "image"
OUTPUTS = ("hm", "wh", "reg")
MIN_SHIFT = -7
ACC_LIMIT = 2**24
"""Up to here float32 holds every integer."""


@dataclass(frozen=True)
class UnitBounds:
    """What the integer contract asks of one convolution, worst case over its channels.

    shift is log2(output scale / accumulator scale); acc is max(|sum of products| + |bias|) in
    units of the accumulator for any legal input.
    """

    name: str
    min_shift: int
    max_shift: int
    acc: int


def unit_bounds(model: CoDeNet) -> list[UnitBounds]:
    """The bounds of every convolution of a quantised model, in order of execution."""
    records: list[UnitBounds] = []
    names = {module: name for name, module in model.named_modules()}

    def hook(unit: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        records.append(_bounds(names[unit], unit.conv, args[0], out))

    _visit_units(model, hook)
    return records


def _bounds(name: str, conv: QuantConv2d, x: Tensor, out: Tensor) -> UnitBounds:
    weight = conv.quant_weight()
    acc_scale = (x.scale * weight.scale).flatten().double()
    bits = int(x.bit_width)
    top = 2 ** (bits - 1) if bool(x.signed) else 2**bits - 1
    worst = weight.int().abs().sum((1, 2, 3)).double() * top
    if conv.bias is not None:
        worst = worst + torch.round(conv.bias.double() / acc_scale).abs()
    shift = torch.log2(out.scale.double().flatten() / acc_scale)
    if not torch.equal(shift, shift.round()):
        raise GraphError(f"{name}: a scale is not a power of two; use the quantisers of layers.py")
    return UnitBounds(name, int(shift.min()), int(shift.max()), int(worst.max()))


def check_bounds(model: CoDeNet) -> None:
    """Raise GraphError naming the first layer that breaks the shift or accumulator rule."""
    for unit in unit_bounds(model):
        if unit.min_shift < MIN_SHIFT:
            raise GraphError(
                f"{unit.name}: requantisation shift {unit.min_shift}, the rule is >= {MIN_SHIFT}; "
                "train on after enforce_bounds()"
            )
        if unit.acc >= ACC_LIMIT:
            raise GraphError(
                f"{unit.name}: |accumulator| + |bias| reaches {unit.acc}, the rule is < 2**24 so "
                "that float32 is exact; train on after enforce_bounds()"
            )


def enforce_bounds(model: CoDeNet) -> list[str]:
    """Shrink weights and biases that break the contract; returns the names of changed layers."""
    changed: list[str] = []
    names = {module: name for name, module in model.named_modules()}

    def hook(unit: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        conv, x = unit.conv, args[0]
        # The W4 threshold is 8 steps (W8: 128): a weight up to it keeps the scale in bounds.
        steps = 128 if isinstance(unit, ConvUnit) and unit.weight_bits == 8 else 8
        limit = float(2.0**-MIN_SHIFT * out.scale.max() / x.scale.max()) * steps
        before = conv.weight.detach().clone()
        conv.weight.clamp_(-limit, limit)
        moved = not torch.equal(before, conv.weight)
        if conv.bias is not None:
            acc_scale = (x.scale * conv.quant_weight().scale).flatten()
            # Half of the range to the products (2153 inputs reach 2**21.9), half to the bias.
            bound = acc_scale * (ACC_LIMIT // 2)
            bias = conv.bias.detach().clone()
            conv.bias.copy_(torch.minimum(torch.maximum(bias, -bound), bound))
            moved = moved or not torch.equal(bias, conv.bias)
        if moved:
            changed.append(names[unit])

    _visit_units(model, hook)
    return changed


def _visit_units(model: CoDeNet, hook: Callable[..., None]) -> None:
    """Call hook(unit, inputs, output) for each convolution of one pass over a black image."""
    _require_quantised(model)
    training = model.training
    model.eval()
    units = [m for m in model.modules() if isinstance(m, ConvUnit | DeformDw)]
    handles = [unit.register_forward_hook(hook) for unit in units]
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, STRIDE, STRIDE, device=model.layer0.conv.weight.device))
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)


def _require_quantised(model: CoDeNet) -> None:
    if not model.quantised:
        raise ConfigError("this CoDeNet is in its float phase: quantise() and calibrate() it first")


def _check_biases(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            raise GraphError(f"{name}: batch norm in a quantised model; fold it with quantise()")
        if isinstance(module, nn.Conv2d) and not isinstance(module, QuantConv2d):
            raise GraphError(f"{name}: convolution without weight quantiser; use quantise()")
        if (
            isinstance(module, QuantConv2d)
            and module.bias is not None
            and not module.bias_quant.is_quant_enabled
        ):
            raise GraphError(f"{name}: float bias; give the convolution bias_quant=Int32Bias")


def _deform_conv(x: object, weight: object, dilation: object) -> object:
    """The torch operator as standard ONNX: offsets = anchors * (dilation - 1), DeformConv."""
    one = numpy_helper.from_array(np.float32(1))
    anchors = numpy_helper.from_array(np.array(ANCHORS, np.float32).reshape(1, 18, 1, 1))
    step = opset19.Sub(dilation, opset19.Constant(value=one))
    offset = opset19.Mul(step, opset19.Constant(value=anchors))
    return opset19.DeformConv(
        x,
        weight,
        offset,
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        strides=[1, 1],
        dilations=[1, 1],
        group=int(weight.shape[0]),
        offset_group=1,
    )


def export_qonnx(model: CoDeNet, path: Path, input_size: int) -> None:
    """Write a quantised model as QONNX with input "image" (1, 3, S, S) and outputs hm, wh, reg.

    Deformable layers become the standard DeformConv. Raises ConfigError for a float-phase model or
    an illegal size, GraphError for an unquantised bias or a broken bound of the integer contract.
    """
    _require_quantised(model)
    if input_size < STRIDE or input_size % STRIDE:
        raise ConfigError(f"input size {input_size}: must be a positive multiple of {STRIDE}")
    _check_biases(model)
    model = copy.deepcopy(model).cpu().eval()
    check_bounds(model)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        brevitas_export(
            model,
            args=(torch.zeros(1, 3, input_size, input_size),),
            export_path=str(raw),
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            verbose=False,
            custom_translation_table={torch.ops.hwflow.deform_dw.default: _deform_conv},
        )
        proto = onnx.load(raw)
    proto = tidy(proto)
    _check_file(proto, input_size)
    onnx.save(proto, path)
    log.info("wrote %s: %d nodes", path, len(proto.graph.node))


def _check_file(proto: onnx.ModelProto, input_size: int) -> None:
    if proto.ir_version > MAX_IR_VERSION:
        raise GraphError(
            f"exported ONNX has IR version {proto.ir_version}, onnxruntime reads up to "
            f"{MAX_IR_VERSION}; install the onnx release of hwflow's dependencies"
        )
    inputs = {i.name: _shape(i) for i in proto.graph.input}
    if inputs != {INPUT: [1, 3, input_size, input_size]}:
        raise GraphError(f"exported ONNX has inputs {inputs}, expected one named {INPUT!r}")
    outputs = tuple(o.name for o in proto.graph.output)
    if outputs != OUTPUTS:
        raise GraphError(f"exported ONNX has outputs {outputs}, expected {OUTPUTS}")
    quantised = {n.output[0] for n in proto.graph.node if n.op_type == "Quant"}
    for node in proto.graph.node:
        # Conv: weight and bias; DeformConv: weight (its third input is the offsets).
        last = {"Conv": 3, "DeformConv": 2}.get(node.op_type, 0)
        for name in node.input[1:last]:
            if name not in quantised:
                raise GraphError(f"{node.name}: weight or bias {name} is not quantised")


def _shape(info: onnx.ValueInfoProto) -> list[int]:
    return [d.dim_value for d in info.type.tensor_type.shape.dim]


def tidy(
    proto: onnx.ModelProto,
    title: str = "codenet",
    node_name: NodeName | None = None,
) -> onnx.ModelProto:
    """Names that carry the module path, one initializer per use, no traces of the exporter.

    node_name(node, producers by tensor, constants by name) gives a node's name.
    """
    node_name = node_name or _node_name
    graph = proto.graph
    values = {t.name: t for t in graph.initializer}
    kept = [i for i in graph.input if i.name not in values]
    del graph.input[:]
    graph.input.extend(kept)
    shapes = {v.name: v for v in graph.value_info}
    outputs = {o.name for o in graph.output}
    renamed = {i.name: i.name for i in graph.input}
    producer: dict[str, str] = {}
    used: set[str] = set()
    initializers: list[onnx.TensorProto] = []
    for node in graph.node:
        node.name = _unique(node_name(node, producer, values), used)
        for i, name in enumerate(node.input):
            if name in values:
                tensor = onnx.TensorProto()
                tensor.CopyFrom(values[name])
                tensor.name = f"{node.name}.{_role(node.op_type, i)}"
                initializers.append(tensor)
                node.input[i] = tensor.name
            elif name:
                node.input[i] = renamed[name]
        for i, name in enumerate(node.output):
            producer_name = node.name if len(node.output) == 1 else f"{node.name}.{i}"
            renamed[name] = name if name in outputs else producer_name
            producer[name] = node.name
            if name in shapes:
                shapes[name].name = renamed[name]
        for i in range(len(node.output)):
            node.output[i] = renamed[node.output[i]]
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    live = set(renamed.values()) - outputs - {i.name for i in graph.input}
    infos = [v for v in graph.value_info if v.name in live]
    del graph.value_info[:]
    graph.value_info.extend(infos)
    for record in [*graph.input, *graph.output, *graph.value_info]:
        del record.metadata_props[:]
        record.doc_string = ""
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    del graph.metadata_props[:]
    del proto.metadata_props[:]
    graph.name, graph.doc_string = title, ""
    return proto


def _node_name(
    node: onnx.NodeProto, producer: dict[str, str], values: dict[str, onnx.TensorProto]
) -> str:
    path = scopes(node)
    module = path[-1] if path else ""
    source = producer.get(node.input[0], "")
    if node.op_type == "Quant" and node.input[0] in values:
        kind = "weight_quant" if "weight_quant" in module else "bias_quant"
        return f"{module.split('.conv.')[0]}.{kind}"
    if node.op_type in ("Quant", "Relu"):
        return f"{source.removesuffix('.relu') or INPUT}.{node.op_type.lower()}"
    if node.op_type == "Conv":
        return module.removesuffix(".conv")
    if node.op_type in ("DeformConv", "MaxPool"):
        return module
    if node.op_type == "Reshape" and source.endswith(".transpose"):
        return source.removesuffix("transpose") + "shuffle"
    return f"{module or source}.{node.op_type.lower()}"


def scopes(node: onnx.NodeProto) -> list[str]:
    """The modules a node lies in, outermost first (the exporter's last entry is the call)."""
    for prop in node.metadata_props:
        if prop.key == "pkg.torch.onnx.name_scopes":
            return [s for s in ast.literal_eval(prop.value)[:-1] if s]
    return []


def _role(op: str, index: int) -> str:
    roles = {
        "Quant": ("value", "scale", "zero_point", "bits"),
        "Reshape": ("", "shape"),
        "Resize": ("", "", "scales", "sizes"),
    }
    return roles[op][index] if op in roles else f"const{index}"


def _unique(name: str, used: set[str]) -> str:
    candidate, count = name, 0
    while candidate in used:
        count += 1
        candidate = f"{name}_{count}"
    used.add(candidate)
    return candidate


def to_input(images: np.ndarray) -> Tensor:
    """uint8 images (N, 3, H, W), RGB -> the network's input, pixel / 256."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise DataError(
            f"images of type {images.dtype} and shape {images.shape}: expected uint8 (N, 3, H, W)"
        )
    return torch.from_numpy(images.astype(np.float32)) / 256


def export_vectors(model: CoDeNet, images_uint8: np.ndarray, path: Path) -> None:
    """Write images (N, 3, H, W) uint8 and torch's outputs hm, wh, reg (float32) to an npz file.

    Always computed on the CPU, one image at a time: a GPU's TF32 or Winograd would not be exact.
    """
    _require_quantised(model)
    model = copy.deepcopy(model).cpu().eval()
    batch = to_input(images_uint8)
    with torch.no_grad():
        outputs = [model(batch[i : i + 1]) for i in range(len(batch))]
    arrays = {
        name: np.concatenate([out[k].numpy() for out in outputs]) for k, name in enumerate(OUTPUTS)
    }
    np.savez_compressed(path, images=images_uint8, **arrays)


def extend_classes(model: CoDeNet, classes: int, seed: int = 0) -> CoDeNet:
    """A copy whose heat map has another number of classes, its last convolution random (seeded).

    For measuring the speed of the many-class network with the weights of another.
    """
    if classes < 1:
        raise ConfigError(f"CoDeNet needs at least one class, not {classes}")
    model = copy.deepcopy(model)
    old = model.hm.pw2
    generator = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(old.conv.in_channels, classes, 1)
    spread = float(old.conv.weight.detach().std())
    spread = spread if math.isfinite(spread) and spread > 0 else 0.03
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator) * spread)
        conv.bias.fill_(HM_BIAS)
    device = old.conv.weight.device
    old.conv = (quantise_conv(conv, nn.Identity(), 4) if model.quantised else conv).to(device)
    model.cfg = replace(model.cfg, classes=classes)
    return model.train(model.training)
