# SPDX-License-Identifier: Apache-2.0
"""Usual small networks as QONNX files with power-of-two scales and seeded weights."""

import numpy as np
import onnx

from tests.import_models import DOMAIN, Net


class Small(Net):
    """Layers as a trainer would write them."""

    bits = 4  # of weights and activations

    def begin(self, shape: tuple[int, ...]) -> None:
        """A picture of uint8."""
        self.shape = (1, *shape)
        self.x = self.quant(self.x, 2.0**-8, 8, False)

    def weights(self, shape: tuple[int, ...]) -> str:
        """int4 of a spread that keeps activations alive; a scale for each output channel."""
        top = (1 << (self.bits - 1)) - 1
        units = np.clip(np.rint(self.rng.normal(0.3, top / 2, shape)), -top, top)
        fan = np.sqrt(np.prod(shape[1:]))
        exponent = np.rint(np.log2(1.5 / (fan * top))) - self.rng.integers(0, 2, shape[0])
        scale = (2.0**exponent).reshape(-1, *[1] * (len(shape) - 1))
        inputs = [units * scale, scale, 0.0, self.bits]
        return self.node("Quant", [self.constant(v) for v in inputs], DOMAIN, signed=1, narrow=1,
                         rounding_mode="ROUND")  # fmt: skip

    def relu(self, bits: int = 4, top: float = 1.0) -> None:
        """ReLU and an unsigned quantiser up to `top`."""
        self.x = self.quant(self.node("Relu", [self.x]), top * 2.0**-bits, bits, False)

    def conv2d(self, out: int, kernel: int, stride: int = 1, pad: int = 0, groups: int = 1) -> None:
        """A convolution without a quantiser."""
        _, c, h, w = self.shape
        inputs = [self.x, self.weights((out, c // groups, kernel, kernel))]
        self.x = self.node("Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2,
                           pads=[pad] * 4, group=groups)  # fmt: skip
        sides = ((n + 2 * pad - kernel) // stride + 1 for n in (h, w))
        self.shape = (1, out, *sides)

    def max_pool(self, kernel: int = 2) -> None:
        """Windows side by side."""
        self.x = self.node("MaxPool", [self.x], kernel_shape=[kernel] * 2, strides=[kernel] * 2)
        self.shape = (*self.shape[:2], *(n // kernel for n in self.shape[2:]))

    def fully(self, out: int) -> None:
        """A dense layer without a quantiser."""
        self.x = self.node("Gemm", [self.x, self.weights((out, self.shape[1]))], transB=1)
        self.shape = (1, out)


def lenet(seed: int = 0, bits: int = 4, side: int = 28) -> onnx.ModelProto:
    """LeNet-5 on 28 x 28 pixels; the scores are sums without a quantiser."""
    net = Small(np.random.default_rng(seed))
    net.begin((1, side, side))
    net.conv2d(6, 5, pad=2)
    net.relu(bits)
    net.max_pool()
    net.conv2d(16, 5)
    net.relu(bits)
    net.max_pool()
    net.flatten()
    for width in (120, 84):
        net.fully(width)
        net.relu(bits)
    net.fully(10)
    return net.model((1, 1, side, side))


def resnet(
    seed: int = 0, widths: tuple[int, ...] = (8, 16), blocks: int = 1, side: int = 16
) -> onnx.ModelProto:
    """A residual network: signed sums before each addition, a stride between the widths, the mean
    of all pixels, scores and their argmax."""
    net = Small(np.random.default_rng(seed))
    net.begin((3, side, side))
    net.conv2d(widths[0], 3, pad=1)
    net.relu(8)
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            before, shape = net.x, net.shape
            net.conv2d(width, 3, stride, 1)
            net.relu(8)
            net.conv2d(width, 3, pad=1)
            net.x = net.quant(net.x, 2.0**-6, 8, True)
            behind, out = net.x, net.shape
            if shape != out:
                net.x, net.shape = before, shape
                net.conv2d(width, 1, stride)
                before = net.quant(net.x, 2.0**-6, 8, True)
            net.x, net.shape = net.node("Add", [before, behind]), out
            net.relu(8, 2.0)
    net.x = net.node("GlobalAveragePool", [net.x])
    net.shape = (*net.shape[:2], 1, 1)
    net.x = net.quant(net.x, 2.0**-8, 8, False)
    net.flatten()
    net.fully(10)
    net.x = net.node("ArgMax", [net.x], axis=1, keepdims=1)
    net.shape = (1, 1)
    return net.model((1, 3, side, side))


def mobile(seed: int = 0, side: int = 14) -> onnx.ModelProto:
    """Depthwise and grouped convolutions, an average pool with Trunc-like rounding, enlargement
    and depth to space: odd channels, odd sides."""
    net = Small(np.random.default_rng(seed))
    net.begin((3, side, side))
    net.conv2d(7, 3, 2, 1)
    net.relu(4)
    net.conv2d(7, 3, 1, 1, groups=7)
    net.relu(4)
    net.conv2d(12, 1)
    net.relu(4)
    net.conv2d(12, 3, 1, 1, groups=4)
    net.relu(8)
    _, c, h, w = net.shape
    net.x = net.node("DepthToSpace", [net.x], blocksize=2)
    net.shape = (1, c // 4, 2 * h, 2 * w)
    net.x = net.node("AveragePool", [net.x], kernel_shape=[2, 2], strides=[2, 2])
    net.shape = (1, c // 4, h, w)
    net.x = net.quant(net.x, 2.0**-7, 7, False)
    net.x = net.node("Resize", [net.x, "", net.constant([1.0, 1.0, 2.0, 2.0])], mode="nearest",
                     coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    net.shape = (1, c // 4, 2 * h, 2 * w)
    net.conv2d(5, 3, 2, 1)
    net.x = net.quant(net.x, 2.0**-5, 8, True)
    return net.model((1, 3, side, side))
