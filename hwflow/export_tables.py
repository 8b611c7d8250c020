# SPDX-License-Identifier: Apache-2.0
"""From a table network to QONNX: wiring as Gather, contents as Gather from a constant.

Everything between two quantisers is standard ONNX, elementwise or a move, so that any runtime gives
the same integers. hwflow.ingest reads each such stretch back as tables.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx as brevitas_export
from brevitas.nn import QuantIdentity
from torch import Tensor, nn

from hwflow.errors import ConfigError, GraphError
from hwflow.export import INPUT, MAX_IR_VERSION, OPSET, scopes, tidy
from hwflow.models.layers import InQ, plain
from hwflow.models.tables import TableNetwork, freeze

log = logging.getLogger(__name__)

SCORES, CLASS = "scores", "class"
FLOAT32_EXACT = 2**24


class _Exported(nn.Module):
    """A network between the quantiser of its pixels and the choice of a class."""

    def __init__(self, net: TableNetwork) -> None:
        super().__init__()
        self.pixels = QuantIdentity(act_quant=InQ, return_quant_tensor=False)
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (1, C, H, W) of pixel / 256 -> scores (1, classes), class (1, 1)."""
        scores = self.net(plain(self.pixels(x)))
        return scores, scores.argmax(1, keepdim=True)


def export_qonnx(model: TableNetwork, path: Path, shape: tuple[int, int, int]) -> None:
    """Write a network as QONNX with the input "image" (1, C, H, W), outputs "scores" and "class".

    GraphError where float32 would not be exact: a GroupSum of codes whose scale is no power of two.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ConfigError(f"input shape {shape}: give (channels, height, width)")
    model = copy.deepcopy(model).cpu().eval()
    freeze(model)
    model.requires_grad_(False)
    if model.head is not None:
        _check_sum(model)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        raw = Path(folder) / "raw.onnx"
        brevitas_export(
            _Exported(model).eval(),
            args=(torch.zeros(1, *shape),),
            export_path=str(raw),
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[SCORES, CLASS],
            verbose=False,
        )
        proto = onnx.load(raw)
    proto = tidy(_single_bits(_plain_lookups(proto)), "tables", _node_name)
    if proto.ir_version > MAX_IR_VERSION:
        raise GraphError(
            f"exported ONNX has IR version {proto.ir_version}, onnxruntime reads up to "
            f"{MAX_IR_VERSION}; install the onnx release of hwflow's dependencies"
        )
    onnx.save(proto, path)
    log.info("wrote %s: %d nodes", path, len(proto.graph.node))


def _check_sum(model: TableNetwork) -> None:
    """GraphError unless the sums of the head are exact in float32."""
    last = [m for m in (model.encoder, *model.layers) if hasattr(m, "scale")][-1]
    scale = float(last.scale())
    if np.frexp(scale)[0] != 0.5:
        raise GraphError(
            f"the head sums codes of scale {scale}, which is no power of two, so that float32 "
            "rounds; give the last layer scaling 'const' or 'power_of_two'"
        )
    if last.channels * (1 << last.code.bits) >= FLOAT32_EXACT:
        raise GraphError(f"the head may reach 2**24 ({last.channels} codes); use fewer")


def _plain_lookups(proto: onnx.ModelProto) -> onnx.ModelProto:
    """GatherND of single numbers (how the exporter writes table[index]) becomes Gather."""
    producers = {o: n for n in proto.graph.node for o in n.output}
    gone = []
    for node in proto.graph.node:
        before = producers.get(node.input[1]) if node.op_type == "GatherND" else None
        if before is not None and before.op_type == "Unsqueeze":
            node.op_type, node.input[1] = "Gather", before.input[0]
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("axis", 0))
            gone.append(before)
    used = {i for n in proto.graph.node for i in n.input}
    for node in gone:
        if node.output[0] not in used:
            proto.graph.node.remove(node)
    return proto


def _single_bits(proto: onnx.ModelProto) -> onnx.ModelProto:
    """BipolarQuant becomes Quant of one unsigned bit: Brevitas exports every single bit as -1 or 1,
    whatever its sign, while codes of one bit here are 0 or 1."""
    for node in proto.graph.node:
        if node.op_type == "BipolarQuant":
            node.op_type = "Quant"
            for role, value in (("zero_point", 0.0), ("bits", 1.0)):
                name = f"{node.output[0]}.{role}"
                tensor = onnx.numpy_helper.from_array(np.array(value, np.float32), name)
                proto.graph.initializer.append(tensor)
                node.input.append(name)
            del node.attribute[:]
            for key, choice in (("signed", 0), ("narrow", 0), ("rounding_mode", "ROUND")):
                node.attribute.append(onnx.helper.make_attribute(key, choice))
    return proto


def _node_name(
    node: onnx.NodeProto, producer: dict[str, str], values: dict[str, onnx.TensorProto]
) -> str:
    """The module and the op: layers.0.gather, layers.0.mul; layers.0.quant for the quantiser."""
    path = scopes(node)
    module = (path[-1] if path else "").removeprefix("net").removeprefix(".")
    if node.op_type == "Quant":
        module = module.split(".quant")[0]
    module = ".".join(part for part in module.split(".") if part != "node")
    if module.startswith("pixels"):
        module = INPUT
    return ".".join(part for part in (module, node.op_type.lower()) if part)


def export_vectors(model: TableNetwork, images: np.ndarray, path: Path) -> None:
    """Write images (N, C, H, W) uint8 and the network's scores and classes to an npz file."""
    model = copy.deepcopy(model).cpu().eval()
    with torch.no_grad():
        scores = model(torch.from_numpy(images.astype(np.float32)) / 256)
    classes = scores.argmax(1, keepdim=True)
    np.savez_compressed(path, images=images, scores=scores.numpy(), classes=classes.numpy())
