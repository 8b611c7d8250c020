# SPDX-License-Identifier: Apache-2.0
"""Small QONNX files written node by node, with every pattern of an exported CoDeNet."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"
ANCHORS = [n for i in (-1, 0, 1) for j in (-1, 0, 1) for n in (i, j)]


@dataclass
class Writer:
    """Adds nodes; tensors are named as the node that makes them. Shapes have the batch axis."""

    rng: np.random.Generator
    free: bool = False
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)

    def constant(self, name: str, value: object, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(
        self, name: str, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: object
    ) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.shapes[name] = shape
        return name

    def quant(
        self, name: str, x: str, scale: object, bits: int, signed: int, narrow: int = 0
    ) -> str:
        inputs = [
            x,
            self.constant(f"{name}.scale", scale),
            self.constant(f"{name}.zero_point", 0),
            self.constant(f"{name}.bits", bits),
        ]
        fields = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
        self.node(name, "Quant", inputs, self.shapes[x], domain=DOMAIN, **fields)
        if np.ndim(scale) == 0:
            self.scales[name] = float(scale)
        return name

    def weights(
        self, name: str, shape: tuple[int, ...], bits: int, x: str, shift: int, out_scale: float
    ) -> tuple[str, np.ndarray]:
        """A quantised weight off its grid by up to 0.4 steps; its scales give shifts about
        `shift`. Returns its tensor and the accumulator's scale per channel."""
        limit = (1 << (bits - 1)) - 1
        integers = np.clip(np.rint(self.rng.normal(0, limit / 3, shape)), -limit, limit)
        spread = shift + self.rng.integers(-1, 2, shape[0])
        scale = out_scale / (self.scales[x] * np.exp2(spread))
        if self.free:
            scale = scale * self.rng.uniform(0.7, 1.4, shape[0])
        column = scale.reshape(-1, *[1] * (len(shape) - 1)).astype(np.float32)
        noise = self.rng.uniform(-0.4, 0.4, shape)
        value = self.constant(f"{name}.weight", (integers + noise) * column)
        self.shapes[value] = shape
        quant = self.quant(f"{name}.weight_quant", value, column, bits, 1, 1)
        return quant, column.ravel() * np.float32(self.scales[x])

    def bias(self, name: str, units: np.ndarray, scale: np.ndarray) -> str:
        value = self.constant(f"{name}.bias", units * scale)
        self.shapes[value] = units.shape
        return self.quant(f"{name}.bias_quant", value, scale, 32, 1)

    def conv(
        self,
        name: str,
        x: str,
        oc: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        bits: int = 4,
        out: str = "u8",
        out_scale: float = 2.0**-5,
    ) -> str:
        """Convolution with bias, ReLU if `out` is u8, and quantiser ("u8", "i8" or "u3")."""
        _, ic, h, w = self.shapes[x]
        shape = (oc, ic // groups, kernel, kernel)
        limit = (1 << (bits - 1)) - 1
        spread = limit / 3 * 30 * np.sqrt(np.prod(shape[1:]))
        out_scale = 1.0 if out == "u3" else out_scale
        shift = round(np.log2(spread / (2 if out == "u3" else 48)))
        weight, acc_scale = self.weights(name, shape, bits, x, shift, out_scale)
        centre = {"u8": 20, "i8": 0, "u3": 3.5}[out] * 2.0**shift
        units = np.rint(centre + self.rng.normal(0, 5 * 2.0**shift if out != "u3" else 1, oc))
        bias = self.bias(name, units, acc_scale)
        pad = kernel // 2
        side = [(n + 2 * pad - kernel) // stride + 1 for n in (h, w)]
        y = self.node(
            name,
            "Conv",
            [x, weight, bias],
            (1, oc, *side),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
            dilations=[1, 1],
        )
        if out == "u8":
            y = self.relu(y)
        kinds = {"u8": (8, 0), "i8": (8, 1), "u3": (3, 0)}
        return self.quant(f"{name}.quant", y, out_scale, *kinds[out])

    def dw(self, name: str, x: str, stride: int = 1, out: str = "i8") -> str:
        c = self.shapes[x][1]
        return self.conv(name, x, c, 3, stride, c, out=out)

    def relu(self, x: str) -> str:
        return self.node(f"{x}.relu", "Relu", [x], self.shapes[x])

    def again(self, x: str, scale: float = 2.0**-5) -> str:
        """A shared quantiser once more."""
        return self.quant(f"{x}.quant", self.relu(x), scale, 8, 0)

    def concat_shuffle(self, name: str, left: str, right: str) -> str:
        _, a, h, w = self.shapes[left]
        c = a + self.shapes[right][1]
        y = self.node(f"{name}.concat", "Concat", [left, right], (1, c, h, w), axis=1)
        inner = (1, 2, c // 2, h, w)
        y = self.reshape(f"{name}.reshape", y, inner)
        inner = (1, c // 2, 2, h, w)
        y = self.node(f"{name}.transpose", "Transpose", [y], inner, perm=[0, 2, 1, 3, 4])
        y = self.reshape(f"{name}.shuffle", y, (1, c, h, w))
        self.scales[y] = self.scales[left]
        return y

    def reshape(self, name: str, x: str, shape: tuple[int, ...]) -> str:
        wanted = self.constant(f"{name}.shape", shape, np.int64)
        return self.node(name, "Reshape", [x, wanted], shape, allowzero=1)

    def split(self, x: str) -> tuple[str, str]:
        _, c, h, w = self.shapes[x]
        names = [f"{x}.split.0", f"{x}.split.1"]
        fields = {"name": f"{x}.split", "axis": 1, "num_outputs": 2}
        self.nodes.append(helper.make_node("Split", [x], names, **fields))
        for name in names:
            self.shapes[name] = (1, c // 2, h, w)
            self.scales[name] = self.scales[x]
        return names[0], names[1]

    def resize(self, name: str, x: str) -> str:
        _, c, h, w = self.shapes[x]
        y = self.node(
            name,
            "Resize",
            [x, "", self.constant(f"{name}.scales", [1, 1, 2, 2])],
            (1, c, 2 * h, 2 * w),
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
        self.scales[y] = self.scales[x]
        return y

    def deform(self, name: str, x: str, s: str) -> str:
        _, c, h, w = self.shapes[x]
        weight, _ = self.weights(name, (c, 1, 3, 3), 4, x, 5, 2.0**-4)
        y = self.node(f"{name}.sub", "Sub", [s, self.constant(f"{name}.one", 1)], self.shapes[s])
        anchors = self.constant(f"{name}.anchors", np.reshape(ANCHORS, (1, 18, 1, 1)))
        y = self.node(f"{name}.mul", "Mul", [y, anchors], (1, 18, h, w))
        y = self.node(
            name,
            "DeformConv",
            [x, weight, y],
            (1, c, h, w),
            kernel_shape=[3, 3],
            pads=[1] * 4,
            strides=[1, 1],
            dilations=[1, 1],
            group=c,
            offset_group=1,
        )
        return self.quant(f"{name}.quant", y, 2.0**-4, 8, 1)

    def model(self, shape: tuple[int, ...], outputs: dict[str, str]) -> onnx.ModelProto:
        """The file; `outputs` maps names of outputs to the tensors that are renamed so."""
        renamed = {tensor: name for name, tensor in outputs.items()}
        for node in self.nodes:
            node.input[:] = [renamed.get(i, i) for i in node.input]
            node.output[:] = [renamed.get(o, o) for o in node.output]
        held = {t.name for t in self.constants} | set(outputs) | {"image"}
        infos = [
            helper.make_tensor_value_info(renamed.get(n, n), TensorProto.FLOAT, s)
            for n, s in self.shapes.items()
        ]
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [i for i in infos if i.name in outputs],
            self.constants,
            value_info=[i for i in infos if i.name not in held],
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 2)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def start(seed: int, shape: tuple[int, ...]) -> tuple[Writer, str]:
    """A writer with its quantised image."""
    writer = Writer(np.random.default_rng(seed))
    writer.shapes["image"] = shape
    return writer, writer.quant("image.quant", "image", 2.0**-8, 8, 0)


def small_detector(seed: int, side: int = 32, classes: int = 3) -> onnx.ModelProto:
    """A narrow CoDeNet: stem, one stage of two units, two decoder stages, three heads."""
    shape = (1, 3, side, side)
    b, x = start(seed, shape)
    x = b.conv("layer0", x, 6, 3, 2, bits=8)
    _, c, h, w = b.shapes[x]
    size = (1, c, (h + 1) // 2, (w + 1) // 2)
    fields = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    y = b.node("pool", "MaxPool", [x], size, **fields)
    b.scales[y] = b.scales[x]
    left = b.conv("layer1.0.b1.pw", b.dw("layer1.0.b1.dw", y, 2), 7)
    right = b.dw("layer1.0.b2.dw", b.conv("layer1.0.b2.pw1", y, 7), 2)
    right = b.conv("layer1.0.b2.pw2", right, 7)
    x = b.concat_shuffle("layer1.0", left, right)
    left, right = b.split(x)
    right = b.dw("layer1.1.b2.dw", b.conv("layer1.1.b2.pw1", b.again(right), 7))
    right = b.conv("layer1.1.b2.pw2", right, 7)
    x = b.again(b.concat_shuffle("layer1.1", left, right))
    x = b.conv("layer4", x, 11)
    for i, oc in enumerate((8, 5)):
        s = b.conv(f"up{i}.scale", x, 1, out="u3")
        x = b.conv(f"up{i}.pw", b.deform(f"up{i}.ddw", x, s), oc)
        x = b.resize(f"up{i}.resize", x)
    outputs = {}
    for head, oc in (("hm", classes), ("wh", 2), ("reg", 2)):
        y = b.dw(f"{head}.dw", b.conv(f"{head}.pw1", x, 6), out="u8")
        outputs[head] = b.conv(f"{head}.pw2", y, oc, out="i8")
    return b.model(shape, outputs)


def free_scales(seed: int) -> onnx.ModelProto:
    """Three convolutions whose scales are no powers of two."""
    shape = (1, 3, 8, 8)
    b, x = start(seed, shape)
    b.free = True
    for name, oc, kernel in (("one", 5, 3), ("two", 6, 1), ("three", 4, 1)):
        x = b.conv(name, x, oc, kernel, out_scale=float(b.rng.uniform(0.01, 0.2)))
    return b.model(shape, {"out": x})


def plain_stack(seed: int) -> onnx.ModelProto:
    """Convolutions behind an upsampling, one of them an output: 1x1, 1x1, then depthwise."""
    shape = (1, 3, 6, 10)
    b, x = start(seed, shape)
    x = b.resize("first.resize", b.conv("first", x, 4, 3, bits=8))
    y = b.conv("second", x, 5)
    z = b.conv("third", y, 3, out="i8")
    w = b.dw("fourth", y)
    return b.model(shape, {"narrow": z, "wide": w})


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path
