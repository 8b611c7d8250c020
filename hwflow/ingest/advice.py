# SPDX-License-Identifier: Apache-2.0
"""What to do instead: the calls that make a right file, and the nearest form of foreign nodes."""

EXPORT = "export with hwflow.export.export_qonnx or brevitas.export.export_qonnx"
INTEGER_OPS = (
    "QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger",
    "QLinearGlobalAveragePool", "DynamicQuantizeLinear",
)  # fmt: skip
# What a file consists of when quantisers were forgotten, or something else went in.
FLAVOURS = {
    "finn": (
        "this is a FINN dataflow file: its layers are FPGA kernels already; give the QONNX file "
        "it was made from (brevitas.export.export_qonnx(model, args=x, export_path=...))"
    ),
    "operators": (
        "this is the quantised-operator form; write it as QCDQ: "
        "brevitas.export.export_onnx_qcdq(model, args=x, export_path=...), or "
        "onnxruntime.quantization.quantize_static(..., quant_format=QuantFormat.QDQ)"
    ),
    "float": (
        "this is a float file without quantisers: train it with Brevitas layers (QuantConv2d, "
        "QuantReLU ...) and export it with brevitas.export.export_qonnx(model, args=x, "
        "export_path=...)"
    ),
}
FOREIGN = {
    **dict.fromkeys(INTEGER_OPS, f"this is the quantised-operator form; {EXPORT}"),
    "FloatQuant": "nearest: Quant (integers)",
    "ConvTranspose": "nearest: Resize (nearest, x2) and Conv",
    "LeakyRelu": "nearest: Relu",
    "PRelu": "nearest: Relu",
    "Elu": "nearest: Relu",
    "HardSigmoid": "nearest: Clip, with Mul and Add",
    "HardSwish": "nearest: Relu",
    "Sigmoid": "nearest: leave a last one out (the order stays); inside, Clip",
    "Tanh": "nearest: Clip from -1 to 1",
    "Softmax": "nearest: leave it out, ArgMax of its input is the same",
    "LogSoftmax": "nearest: leave it out, ArgMax of its input is the same",
    "TopK": "nearest: ArgMax",
    "Pad": "nearest: the pads of Conv, MaxPool or AveragePool",
    "LSTM": "nearest: Conv",
    "GRU": "nearest: Conv",
    "LayerNormalization": "nearest: BatchNormalization",
    "InstanceNormalization": "nearest: BatchNormalization",
    "Upsample": "nearest: Resize",
}

