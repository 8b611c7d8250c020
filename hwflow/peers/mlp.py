# SPDX-License-Identifier: Apache-2.0
"""A quantised MLP by this flow, all in parallel: Brevitas, QONNX, integer graph, constant adders.

The network is trained and exported as any other of hwflow; its integer graph (dense layers with
power-of-two scales) becomes one adder for each neuron: a weight is a few shifted copies of its
input, in canonical signed digits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hwflow import ingest, interp, passes
from hwflow.errors import GraphError
from hwflow.ir import Graph, Node
from hwflow.ops.types import int_type
from hwflow.peers.design import Data, Design, Place, argmax, flat

DEFAULTS: Mapping[str, Any] = {
    "hidden": (16,), "input_bits": 4, "weight_bits": 4, "data_bits": 4, "epochs": 40, "batch": 64,
    "rate": 3e-3, "evened": False,
}  # fmt: skip
FILE, FIT = "mlp.onnx", "fit.json"
OPSET = 17


def recipe(data: Data, settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """All that decides `build`."""
    return {**DEFAULTS, **settings, **{name: version(name) for name in ("torch", "brevitas")}}


def build(data: Data, settings: Mapping[str, Any], place: Place) -> Design:
    """Train, export, lower and emit. settings: those of DEFAULTS that differ, and `seed`.

    A training of the same recipe on the same samples below `place` is not repeated.
    """
    chosen = {**DEFAULTS, **settings}
    file, fit = place.folder / FILE, place.folder / FIT
    key = json.loads(json.dumps({**recipe(data, settings, place), "data": data.train.sha256}))
    if not _trained(fit, key):
        place.folder.mkdir(parents=True, exist_ok=True)
        minutes = train(data, chosen, file)
        fit.write_text(json.dumps({"minutes": minutes, "recipe": key}))
    graph = passes.lower(ingest.read(file))
    text, stages = verilog(graph, chosen["input_bits"], data.classes)
    shown = "-".join(str(n) for n in (data.features, *chosen["hidden"], data.classes))
    return Design(
        {"mlp.sv": text}, "mlp", "pixels", {"clk": 0}, "out_class", stages,
        predict(graph, flat(data.test.images), chosen["input_bits"]),
        json.loads(fit.read_text())["minutes"], "hwflow (Brevitas, QONNX, integer graph)",
        f"{shown}, inputs of {chosen['input_bits']}, weights of {chosen['weight_bits']}, "
        f"activations of {chosen['data_bits']} bits, {chosen['epochs']} epochs",
    )


def _trained(fit: Path, key: Mapping[str, Any]) -> bool:
    """Whether what was trained there had this recipe."""
    try:
        return bool(json.loads(fit.read_text()).get("recipe") == key)
    except (OSError, ValueError):
        return False


def train(data: Data, chosen: Mapping[str, Any], file: Path) -> float:
    """Write the QONNX file of a trained network; minutes it took."""
    import torch
    from brevitas.export import export_qonnx
    from brevitas.nn import QuantIdentity, QuantLinear, QuantReLU
    from brevitas.quant import (
        Int8WeightPerTensorFixedPoint,
        Int16Bias,
        Uint8ActPerTensorFixedPoint,
    )
    from torch import nn

    from hwflow.models.layers import InQ, plain

    torch.manual_seed(chosen["seed"])
    bits = {"bit_width": chosen["input_bits"], "float_to_int_impl_type": "FLOOR"}
    pixels = type("PixelQ", (InQ,), bits)  # the upper bits of a byte
    weights = type("WeightQ", (Int8WeightPerTensorFixedPoint,), {"bit_width":
                                                                 chosen["weight_bits"]})
    values = type("ValueQ", (Uint8ActPerTensorFixedPoint,), {"bit_width": chosen["data_bits"]})
    layers: list[nn.Module] = [QuantIdentity(act_quant=pixels, return_quant_tensor=True),
                               nn.Flatten()]  # fmt: skip
    sizes = (data.features, *chosen["hidden"], data.classes)
    for n, (width, size) in enumerate(pairwise(sizes)):
        if n:
            layers.append(QuantReLU(act_quant=values, return_quant_tensor=True))
        layers.append(QuantLinear(width, size, bias=True, weight_quant=weights,
                                  bias_quant=Int16Bias))
    model = nn.Sequential(*layers)
    x = torch.from_numpy(flat(data.train.images)).float()[:, :, None, None] / 256
    y = torch.from_numpy(data.train.labels)
    if chosen["evened"]:  # as if each feature had mean 0 and deviation 1
        first = model.get_submodule("2")
        assert isinstance(first, nn.Linear) and first.bias is not None
        with torch.no_grad():
            rows = x.flatten(1)
            first.weight.div_(rows.std(0) + 1e-3)
            first.bias.sub_(first.weight @ rows.mean(0))
    count, batch = len(x), chosen["batch"]
    steps = chosen["epochs"] * (count // batch)
    optimiser = torch.optim.Adam(model.parameters(), chosen["rate"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    draw = torch.Generator().manual_seed(chosen["seed"])
    start = time.monotonic()
    for _ in range(chosen["epochs"]):
        order = torch.randperm(count, generator=draw)
        for at in range(0, count // batch * batch, batch):
            pick = order[at : at + batch]
            loss = nn.functional.cross_entropy(plain(model(x[pick])), y[pick])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    minutes = (time.monotonic() - start) / 60
    model.eval()
    with torch.no_grad():
        export_qonnx(model, args=(torch.zeros(1, data.features, 1, 1),), export_path=str(file),
                     opset_version=OPSET, verbose=False)
    return minutes


def predict(graph: Graph, x: np.ndarray, input_bits: int) -> np.ndarray:
    """Classes int64 (N,) of bytes (N, F) by the integer graph."""
    codes = (x >> (8 - input_bits)).astype(np.int64)
    shape = graph.tensors[graph.inputs[0]].shape
    found = interp.run_many(graph, {graph.inputs[0]: codes.reshape(len(x), *shape)})
    scores = found[graph.outputs[0]].reshape(len(x), -1)
    return np.asarray(scores.argmax(axis=1), np.int64)


def verilog(graph: Graph, input_bits: int, classes: int) -> tuple[str, int]:
    """The module `mlp` and its stages: a register behind each layer, and one behind argmax."""
    source = graph.tensors[graph.inputs[0]]
    kind = int_type(source)
    features = int(np.prod(source.shape))
    if (kind.bits, kind.signed) != (input_bits, False):
        raise GraphError(f"input {source.name} is {kind}, not of {input_bits} bits without sign")
    lines = [f"  wire [{input_bits - 1}:0] x0_{n} = pixels[{8 * n + 8 - input_bits} +: "
             f"{input_bits}];" for n in range(features)]  # fmt: skip
    tensor, bits, signed = graph.inputs[0], input_bits, False
    for layer, node in enumerate(graph.nodes):
        if node.op != "pw" or node.inputs != (tensor,) or signed:
            raise GraphError(f"{node.name}: an MLP here is a chain of dense layers with unsigned "
                             f"values between them, not {node.op}")
        lines += _layer(graph, node, layer, bits)
        tensor = node.output
        made = int_type(graph.tensors[tensor])
        bits, signed = made.bits, made.signed
    last = len(graph.nodes)
    best = max(1, (classes - 1).bit_length())
    if not signed:
        raise GraphError(f"{graph.nodes[-1].name}: its scores have no sign")
    scores = ", ".join(f"x{last}_{n}" for n in reversed(range(classes)))
    head = ["module mlp (", "  input  logic clk,",
            f"  input  logic [{8 * features - 1}:0] pixels,",
            f"  output logic [{best - 1}:0] out_class", ");"]
    tail = [f"  wire [{best - 1}:0] best;",
            f"  largest u_largest (.scores({{{scores}}}), .best(best));",
            "  always_ff @(posedge clk) out_class <= best;", "endmodule", ""]
    return argmax("largest", classes, bits, True) + "\n".join([*head, *lines, *tail]), last + 1


def _layer(graph: Graph, node: Node, layer: int, bits: int) -> list[str]:
    """Lines of a dense layer that reads x{layer}_* and drives registers x{layer + 1}_*."""
    weight, bias, mul, shift = (graph.const(node, role).astype(int)
                                for role in ("weight", "bias", "mul", "shift"))
    if (mul != 1).any() or (shift < 0).any():
        raise GraphError(f"{node.name}: its requantiser multiplies; train with power-of-two scales")
    out = int_type(graph.tensors[node.output])
    most = (1 << bits) - 1
    lines = []
    for n, row in enumerate(weight):
        down = int(shift[n])
        constant = int(bias[n]) + (1 << down - 1 if down else 0)
        low = constant + most * int(row[row < 0].sum())
        high = constant + most * int(row[row > 0].sum())
        # A shift of `down` places must leave the sign and, of a tie, the odd bit.
        width = max(low.bit_length(), high.bit_length(), (-low).bit_length(), down + 1) + 1
        terms, offset = [], constant
        for i, value in enumerate(row):
            for place, digit in signed_digits(int(value)):
                name = f"x{layer}_{i}"
                if digit < 0:  # -x = (most - x) - most, and most - x is ~x
                    name, offset = f"(~{name})", offset - (most << place)
                terms.append(f"({{{width - bits - place}'d0, {name}}} << {place})"
                             if width > bits + place else f"{name} << {place}")
        terms.append(f"{width}'d{offset % (1 << width)}")
        lines.append(f"  wire signed [{width - 1}:0] a{layer}_{n} = {' + '.join(terms)};")
        lines += _rounded(f"a{layer}_{n}", f"x{layer + 1}_{n}", width, down, out.lo, out.hi,
                          out.bits, out.signed)
    return lines


def _rounded(
    source: str, name: str, width: int, down: int, low: int, high: int, bits: int, signed: bool
) -> list[str]:
    """round_half_even(value / 2**down), clamped and registered; `source` has the half added."""
    rounded = source
    lines = []
    if down:
        # Of a tie, which has only zeros below, the half added made an odd number even or too large.
        rounded = f"r_{name}"
        lines = [f"  wire signed [{width - 1 - down}:0] {rounded} = {{{source}[{width - 1}:{down}]"
                 f" & ~{{{{{width - 1 - down}{{1'b0}}}}, ~|{source}[{down - 1}:0]}}}};"]
    kind = "signed " if signed else ""
    lines += [
        f"  logic {kind}[{bits - 1}:0] {name};",
        f"  always_ff @(posedge clk) {name} <= {rounded} < {low} ? {bits}'d{low % (1 << bits)} : "
        f"{rounded} > {high} ? {bits}'d{high % (1 << bits)} : {bits}'({rounded});",
    ]
    return lines


def signed_digits(value: int) -> list[tuple[int, int]]:
    """The places and signs of the fewest powers of two that make a number (canonical form)."""
    found, place = [], 0
    while value:
        if value & 1:
            digit = 2 - (value & 3)  # 1 or -1, so that the next bit becomes 0
            found.append((place, digit))
            value -= digit
        value >>= 1
        place += 1
    return found
