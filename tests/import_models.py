# SPDX-License-Identifier: Apache-2.0
"""Random small networks of every op a file may hold, written node by node."""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"
ROUNDINGS = ("ROUND", "FLOOR", "CEIL", "HALF_EVEN", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


@dataclass
class Net:
    """Adds nodes behind `x`, whose shape is `shape` (batch axis included).

    `free`: scales that are no powers of two. `style`: "qonnx" or "qcdq".
    """

    rng: np.random.Generator
    free: bool = False
    style: str = "qonnx"
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    count: int = 0
    x: str = "image"
    shape: tuple[int, ...] = (1, 3, 9, 7)
    ops: list[str] = field(default_factory=list)

    def pick(self, *choices: object) -> object:
        return choices[int(self.rng.integers(len(choices)))]

    def constant(self, value: object, dtype: type = np.float32) -> str:
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes: object) -> str:
        self.count += 1
        name = f"{op.lower()}{self.count}"
        self.nodes.append(
            helper.make_node(op, inputs, [name], name=name, domain=domain, **attributes)
        )
        self.ops.append(op)
        return name

    def scale(self, low: float, high: float) -> float:
        """A random scale; of the free ones float32 holds the value."""
        drawn = float(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        return float(np.float32(drawn)) if self.free else float(2.0 ** np.rint(np.log2(drawn)))

    def quant(self, x: str, scale: float, bits: int, signed: bool, **how: object) -> str:
        """A quantiser of activations in the net's style; limits narrow and zero point as asked."""
        zero, narrow = int(how.get("zero", 0)), bool(how.get("narrow", False))
        if self.style == "qonnx":
            inputs = [x, self.constant(scale), self.constant(zero), self.constant(bits)]
            mode = how.get("mode", "ROUND")
            return self.node("Quant", inputs, DOMAIN, signed=int(signed), narrow=int(narrow),
                             rounding_mode=mode)  # fmt: skip
        kind = np.int8 if signed else np.uint8
        pair = [self.constant(scale), self.constant(zero, kind)]
        code = self.node("QuantizeLinear", [x, *pair])
        low = -(1 << (bits - 1)) + narrow if signed else 0
        high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1 - narrow
        if bits < 8 or narrow:
            code = self.node("Clip", [code, self.constant(low, kind), self.constant(high, kind)])
        return self.node("DequantizeLinear", [code, *pair])

    def activation(self, relu: bool | None = None) -> None:
        """Behind a sum: perhaps arithmetic, ReLU or Clip, then any quantiser."""
        x = self.x
        if self.rng.random() < 0.4:
            x = self.norm(x)
        if self.rng.random() < 0.3:
            x = self.node(str(self.pick("Mul", "Div")), [x, self.constant(self.scale(0.3, 3))])
        if self.rng.random() < 0.2:
            x = self.node("Add", [x, self.constant(self.per_channel(0.5))])
        rectified = self.rng.random() < 0.6 if relu is None else relu
        if rectified:
            limit = self.constant(3.0)
            clip = [x, self.constant(0.0), limit]
            x = self.node("Relu", [x]) if self.rng.random() < 0.7 else self.node("Clip", clip)
        self.x = self.quantiser(x, rectified)

    def quantiser(self, x: str, rectified: bool) -> str:
        kind = str(self.pick("quant", "quant", "quant", "zero", "bipolar", "thresholds"))
        bits = int(self.pick(2, 3, 4, 8, 8))
        if self.style == "qcdq" or kind in ("quant", "zero"):
            signed = not rectified
            scale = self.scale(2.0 / (1 << bits), 6.0 / (1 << bits))
            how: dict[str, object] = {"narrow": self.rng.random() < 0.3}
            if kind == "zero":
                low = -(1 << (bits - 1)) + 1 if signed else 0
                how["zero"] = int(self.rng.integers(low, low + (1 << bits) - 2))
            if self.rng.random() < 0.2:
                how["mode"] = str(self.pick(*ROUNDINGS))
            return self.quant(x, scale, bits, signed, **how)
        if kind == "bipolar":
            return self.node("BipolarQuant", [x, self.constant(self.scale(0.2, 2))], DOMAIN)
        levels = int(self.pick(1, 3, 7))
        rows = int(self.pick(1, self.shape[1]))
        table = np.sort(self.rng.normal(0.2, 1, (rows, levels)), axis=1)
        out = self.scale(0.1, 1)
        bias = float(self.pick(0.0, -1.0, -0.5)) * out
        return self.node("MultiThreshold", [x, self.constant(table)], DOMAIN, out_dtype="INT8",
                         out_scale=out, out_bias=bias, data_layout="")  # fmt: skip

    def per_channel(self, spread: float) -> np.ndarray:
        column = (1, self.shape[1], *[1] * (len(self.shape) - 2))
        return self.rng.normal(0, spread, column)

    def norm(self, x: str) -> str:
        c = self.shape[1]
        values = (
            self.rng.normal(1, 0.8, c), self.rng.normal(0, 0.3, c), self.rng.normal(0, 0.5, c),
            self.rng.uniform(0.2, 3, c),
        )  # fmt: skip
        return self.node("BatchNormalization", [x, *(self.constant(v) for v in values)],
                         epsilon=1e-5)  # fmt: skip

    def weight(self, shape: tuple[int, ...], axis: int) -> str:
        """Integers times a scale, one for all or one an output channel."""
        bits = int(self.pick(2, 3, 4, 8))
        limit = (1 << (bits - 1)) - 1
        units = np.clip(np.rint(self.rng.normal(0, limit / 2 + 0.3, shape)), -limit, limit)
        sides = [1] * len(shape)
        if self.rng.random() < 0.5:
            sides[axis] = shape[axis]
        fan = float(np.prod(shape)) / shape[axis]
        top = 1.5 / (limit * np.sqrt(fan))
        scale = np.array(
            [self.scale(top / 2, top) for _ in range(int(np.prod(sides)))], np.float32
        ).reshape(sides)
        if self.style == "qcdq":
            code, flat = self.constant(units, np.int8), scale.ravel()
            zero = self.constant(np.zeros_like(flat if flat.size > 1 else flat[0]), np.int8)
            column = self.constant(flat if flat.size > 1 else flat[0])
            return self.node("DequantizeLinear", [code, column, zero], axis=axis)
        if self.rng.random() < 0.2:
            value = self.constant(np.where(units >= 0, 1.0, -1.0))
            return self.node("BipolarQuant", [value, self.constant(float(scale.max()))], DOMAIN)
        inputs = [self.constant(units * scale), self.constant(scale), self.constant(0.0)]
        return self.node("Quant", [*inputs, self.constant(bits)], DOMAIN, signed=1, narrow=1,
                         rounding_mode="ROUND")  # fmt: skip

    def conv(self) -> None:
        """Any window, groups and padding; sometimes a float bias on the accumulator's grid."""
        _, c, h, w = self.shape
        groups = int(self.pick(1, 1, *(g for g in range(1, c + 1) if c % g == 0)))
        out = groups * int(self.pick(1, 2, 3))
        kernel = [int(self.pick(1, 2, 3)), int(self.pick(1, 3))]
        dilations = [int(self.pick(1, 1, 2)), int(self.pick(1, 1, 3))]
        strides = [int(self.pick(1, 1, 2)), int(self.pick(1, 2, 3))]
        pads = [int(n) for n in self.rng.integers(0, 3, 4)]
        fields: dict[str, object] = {"pads": pads}
        if self.rng.random() < 0.2:
            fields, dilations = {"auto_pad": self.pick("SAME_UPPER", "SAME_LOWER")}, [1, 1]
            sides = [-(-n // s) for n, s in zip((h, w), strides, strict=True)]
        else:
            reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
            room = [h + pads[0] + pads[2], w + pads[1] + pads[3]]
            if any(n < r for n, r in zip(room, reach, strict=True)):
                return
            sides = [(n - r) // s + 1 for n, r, s in zip(room, reach, strides, strict=True)]
        inputs = [self.x, self.weight((out, c // groups, *kernel), 0)]
        if self.rng.random() < 0.3:
            inputs.append(self.constant(np.rint(self.rng.normal(0, 64, out)) / 256))
        self.x = self.node("Conv", inputs, kernel_shape=kernel, strides=strides,
                           dilations=dilations, group=groups, **fields)  # fmt: skip
        self.shape = (1, out, *sides)
        self.activation()

    def plain(self) -> None:
        """3x3 with padding 1, dense or depthwise, ReLU and a quantiser."""
        c = self.shape[1]
        groups = int(self.pick(1, c))
        out = c if groups == c else 4
        inputs = [self.x, self.weight((out, c // groups, 3, 3), 0)]
        self.x = self.node("Conv", inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=groups)
        self.shape = (1, out, *self.shape[2:])
        self.x = self.quant(self.node("Relu", [self.x]), self.scale(0.01, 0.05), 8, False)

    def pool(self) -> None:
        """MaxPool of any window, before or behind its quantiser."""
        _, c, h, w = self.shape
        kernel = [int(self.pick(1, 2, 3)), int(self.pick(1, 2, 3))]
        if h < kernel[0] or w < kernel[1]:
            return
        strides = [int(self.pick(1, 2)), int(self.pick(1, 2, 3))]
        ceil = int(self.pick(0, 1))
        pads = [0, 0, 0, 0] if ceil else [int(self.rng.integers(0, k)) for k in kernel * 2]
        if self.rng.random() < 0.3 and min(h, w) >= 3:
            kernel, strides, ceil, pads = [3, 3], [2, 2], 0, [1, 1, 1, 1]
        room = [h + pads[0] + pads[2], w + pads[1] + pads[3]]
        sides = []
        for n, k, s in zip(room, kernel, strides, strict=True):
            count = -(-(n - k) // s) if ceil else (n - k) // s
            if count * s >= n:  # a last window behind the map: runtimes do not agree on it
                return
            sides.append(count + 1)
        self.x = self.node("MaxPool", [self.x], kernel_shape=kernel, strides=strides, pads=pads,
                           ceil_mode=ceil)  # fmt: skip
        self.shape = (1, c, *sides)

    def late_quantiser(self) -> None:
        """Convolution, pool, then ReLU and the quantiser."""
        c, out = self.shape[1], 4
        self.x = self.node("Conv", [self.x, self.weight((out, c, 1, 1), 0)], kernel_shape=[1, 1])
        self.shape = (1, out, *self.shape[2:])
        self.pool()
        self.x = self.quantiser(self.node("Relu", [self.x]), True)

    def average(self) -> None:
        _, c, h, w = self.shape
        kind = str(self.pick("window", "global", "reduce"))
        if kind == "window" and h > 1 and w > 1:
            pads = [int(n) for n in self.rng.integers(0, 2, 4)]
            self.x = self.node("AveragePool", [self.x], kernel_shape=[2, 2], strides=[1, 2],
                               pads=pads, count_include_pad=1)  # fmt: skip
            sides = (h + pads[0] + pads[2] - 1, (w + pads[1] + pads[3] - 2) // 2 + 1)
        elif kind == "reduce":
            self.x = self.node("ReduceMean", [self.x, self.constant([2, 3], np.int64)], keepdims=1)
            sides = (1, 1)
        else:
            self.x, sides = self.node("GlobalAveragePool", [self.x]), (1, 1)
        self.shape = (1, c, *sides)
        self.activation()

    def residual(self) -> None:
        """x + conv(x), through one quantiser shared or two."""
        c, before = self.shape[1], self.x
        self.x = self.node("Conv", [self.x, self.weight((c, c, 1, 1), 0)], kernel_shape=[1, 1])
        scale = self.scale(0.01, 0.05)
        self.x = self.quant(self.x, scale, 6, True)
        if self.rng.random() < 0.5:
            before = self.quant(before, scale, 6, True)
        else:
            before = self.quant(before, self.scale(0.01, 0.05), 5, True)
        self.x = self.node("Add", [before, self.x])
        if self.rng.random() < 0.5:
            self.x = self.node("Relu", [self.x])
            self.x = self.quant(self.x, self.scale(0.01, 0.05), 8, False)
        else:
            self.x = self.quant(self.x, self.scale(0.02, 0.1), 7, True)

    def join(self) -> None:
        """Two branches of one quantiser, concatenated."""
        c = self.shape[1]
        scale = self.scale(0.02, 0.1)
        parts = []
        for out in (2, 3):
            inputs = [self.x, self.weight((out, c, 1, 1), 0)]
            y = self.node("Conv", inputs, kernel_shape=[1, 1])
            parts.append(self.quant(y, scale, 6, True))
        self.x = self.node("Concat", parts, axis=1)
        self.shape = (1, 5, *self.shape[2:])

    def resize(self) -> None:
        _, c, h, w = self.shape
        if max(h, w) > 14:
            return
        factors = [float(self.pick(1.0, 2.0, 3.0, 1.5)), float(self.pick(1.0, 2.0))]
        mode = str(self.pick("asymmetric", "half_pixel", "align_corners"))
        nearest = str(self.pick("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
        scales = self.constant([1.0, 1.0, *factors])
        self.x = self.node("Resize", [self.x, "", scales], mode="nearest",
                           coordinate_transformation_mode=mode, nearest_mode=nearest)  # fmt: skip
        self.shape = (1, c, int(h * factors[0]), int(w * factors[1]))

    def layout(self) -> None:
        """DepthToSpace, SpaceToDepth, Slice, Split, or a transposition of the axes."""
        _, c, h, w = self.shape
        kind = str(self.pick("depth", "slice", "transpose", "space"))
        if kind == "depth":
            inputs = [self.x, self.weight((4, c, 1, 1), 0)]
            c, self.x = 4, self.node("Conv", inputs, kernel_shape=[1, 1])
            self.x = self.quant(self.x, self.scale(0.02, 0.1), 5, True)
            mode = str(self.pick("DCR", "CRD"))
            self.x = self.node("DepthToSpace", [self.x], blocksize=2, mode=mode)
            self.shape = (1, c // 4, 2 * h, 2 * w)
        elif kind == "space" and c < 5:
            if h < 2 or w < 2:
                return
            if h % 2 or w % 2:
                kernel = [1 + h % 2, 1 + w % 2]
                self.x = self.node("MaxPool", [self.x], kernel_shape=kernel, strides=[1, 1])
                h, w = h - h % 2, w - w % 2
            self.x = self.node("SpaceToDepth", [self.x], blocksize=2)
            self.shape = (1, 4 * c, h // 2, w // 2)
        elif kind == "slice" and c > 1 and h > 1:
            cut = [self.constant(v, np.int64) for v in ([1, 0], [c, h], [1, 2], [1, 2])]
            self.x = self.node("Slice", [self.x, *cut])
            self.shape = (1, c - 1, -(-h // 2), w)
        elif kind == "transpose":
            self.x = self.node("Transpose", [self.x], perm=[0, 2, 3, 1])
            self.shape = (1, h, w, c)

    def trunc(self) -> None:
        """Six bits on a grid, of which some are dropped."""
        scale = self.scale(0.02, 0.1)
        self.x = self.quant(self.x, scale, 6, True)
        bits = int(self.pick(3, 4, 5))
        mode = str(self.pick("FLOOR", "ROUND", "CEIL"))
        out = scale * 2.0 ** (6 - bits)
        inputs = [self.constant(v) for v in (scale, 0.0, 6.0, out, float(bits))]
        self.x = self.node("Trunc", [self.x, *inputs], DOMAIN, rounding_mode=mode, signed=1,
                           narrow=0)  # fmt: skip

    def requantise(self) -> None:
        """A quantiser of another scale behind a quantiser."""
        self.x = self.quant(self.x, self.scale(0.02, 0.2), int(self.pick(3, 5, 8)), True)

    def flatten(self) -> None:
        size = int(np.prod(self.shape))
        kind = str(self.pick("Flatten", "Reshape", "Shape"))
        if kind == "Flatten":
            self.x = self.node("Flatten", [self.x], axis=1)
        elif kind == "Reshape":
            self.x = self.node("Reshape", [self.x, self.constant([1, -1], np.int64)])
        else:
            shape = self.node("Shape", [self.x])
            first = self.node("Gather", [shape, self.constant(0, np.int64)], axis=0)
            one = self.node("Unsqueeze", [first, self.constant([0], np.int64)])
            wanted = self.node("Concat", [one, self.constant([-1], np.int64)], axis=0)
            self.x = self.node("Reshape", [self.x, wanted])
        self.shape = (1, size)

    def dense(self, out: int, last: bool = False) -> None:
        size = self.shape[1]
        if self.rng.random() < 0.5:
            inputs = [self.x, self.weight((out, size), 0)]
            if self.rng.random() < 0.5:
                inputs.append(self.constant(np.rint(self.rng.normal(0, 64, out)) / 256))
            self.x = self.node("Gemm", inputs, transB=1)
        else:
            self.x = self.node("MatMul", [self.x, self.weight((size, out), 1)])
        self.shape = (1, out)
        if not last:
            self.activation()

    def model(self, shape: tuple[int, ...]) -> onnx.ModelProto:
        info = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
        kind = TensorProto.INT64 if self.ops[-1] == "ArgMax" else TensorProto.FLOAT
        out = helper.make_tensor_value_info(self.x, kind, self.shape)
        graph = helper.make_graph(self.nodes, "net", [info], [out], self.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 2)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def random_net(seed: int, free: bool = False, style: str = "qonnx") -> tuple[onnx.ModelProto, Net]:
    """A file of random layers, ending in a quantiser, in scores or in their argmax."""
    rng = np.random.default_rng(seed)
    net = Net(rng, free, style)
    shape = (1, int(rng.integers(1, 5)), int(rng.integers(3, 10)), int(rng.integers(3, 10)))
    net.shape = shape
    if rng.random() < 0.3:
        net.x = net.node("Mul", [net.x, net.constant(2.0)])
        net.x = net.node("Sub", [net.x, net.constant([1.0])])
        net.x = net.quantiser(net.x, False)
    else:
        signed = bool(rng.random() < 0.3)
        net.x = net.quant(net.x, 2.0**-7 if signed else 2.0**-8, 8, signed)
    steps = [net.conv, net.plain, net.pool, net.late_quantiser, net.average, net.residual, net.join,
             net.resize, net.layout, net.requantise]  # fmt: skip
    if style == "qonnx":
        steps.append(net.trunc)
    for _ in range(int(rng.integers(2, 7))):
        steps[int(rng.integers(len(steps)))]()
    if rng.random() < 0.6:
        net.flatten()
        if rng.random() < 0.5:
            net.dense(int(net.pick(3, 7)))
        net.dense(5, last=True)
        if rng.random() < 0.4:
            net.x = net.node("ArgMax", [net.x], axis=1, keepdims=1)
            net.shape = (1, 1)
    return net.model(shape), net
