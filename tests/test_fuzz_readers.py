# SPDX-License-Identifier: Apache-2.0
"""Malformed files for every reader: a clear error or a correct result, never anything else.

A few hundred inputs in the ordinary run, ten thousand in `make test-slow`; the seeds are fixed.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from hwflow import arrays, boards, build, ingest, inspect, passes, resources, verify
from hwflow.data import trees, voc
from hwflow.driver import Layout
from hwflow.driver.registers import read_map
from hwflow.emit import hls
from hwflow.errors import GraphError, HwflowError, VerifyError
from hwflow.interactive import photograph
from hwflow.ir import Graph, IntType
from hwflow.report import compare, gate, readers, schema
from hwflow.stages import vectors
from tests import fuzz, import_models, qonnx_models
from tests.fuzz import Rng
from tests.graphs import random_small_graph
from tests.test_report import content

Case = tuple[Callable[[], object], tuple[str, ...]]
Make = Callable[[Rng, Path, dict[str, Any]], Case]


@dataclass(frozen=True)
class Target:
    """A reader: how many inputs each run gives it, and how one is made in an empty folder."""

    make: Make
    quick: int
    slow: int


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# ONNX


def seeds() -> list[onnx.ModelProto]:
    """Our own exports, and networks of every kind that comes from elsewhere."""
    foreign = [
        import_models.random_net(seed, bool(seed % 3 == 0), style)[0]
        for seed in range(12) for style in ("qonnx", "qcdq")
    ]
    own = (qonnx_models.plain_stack, qonnx_models.free_scales, qonnx_models.small_detector)
    return [*(make(seed) for make in own for seed in range(3)), *foreign]


def odd_attribute(rng: Rng, name: str) -> onnx.AttributeProto:
    values: tuple[Any, ...] = (
        0, 1, -1, 3, 2**31, -(2**63), 2**63 - 1, 0.5, float("nan"), "x", b"\xff", [1], [0, 0],
        [-1, -1], [2**40] * 2, [3, 3], [1, 2, 3, 4], [1.5], "ROUND", "same_upper", [1] * 9,
        helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]),
    )
    return helper.make_attribute(name, values[int(rng.integers(len(values)))])


def mangle_model(rng: Rng, model: onnx.ModelProto) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(1 + int(rng.random() < 0.3) + int(rng.random() < 0.2)):
        INJURIES[int(rng.integers(len(INJURIES)))](rng, changed.graph)
    if rng.random() < 0.05:
        del changed.opset_import[:]
    return changed


def any_of(rng: Rng, items: Any) -> Any:  # noqa: ANN401
    return items[int(rng.integers(len(items)))]


def tensor_names(graph: onnx.GraphProto) -> list[str]:
    names = [o for n in graph.node for o in n.output] + [t.name for t in graph.initializer]
    return [*names, *(i.name for i in graph.input), "nowhere", ""]


def injure_node(rng: Rng, graph: onnx.GraphProto) -> None:
    if not graph.node:
        return
    node = any_of(rng, graph.node)
    kind = int(rng.integers(0, 9))
    if kind == 0 and node.attribute:
        node.attribute.remove(any_of(rng, node.attribute))
    elif kind == 1 and node.attribute:
        old = any_of(rng, node.attribute)
        old.CopyFrom(odd_attribute(rng, old.name))
    elif kind == 2:
        node.attribute.append(odd_attribute(rng, any_of(rng, ["axis", "x", "pads", "strides"])))
    elif kind == 3 and node.input:
        node.input[int(rng.integers(len(node.input)))] = any_of(rng, tensor_names(graph))
    elif kind == 4 and node.input:
        del node.input[int(rng.integers(len(node.input)))]
    elif kind == 5:
        node.input.append(any_of(rng, tensor_names(graph)))
    elif kind == 6 and node.output:
        node.output[0] = any_of(rng, tensor_names(graph))
    elif kind == 7:
        ops = ["Conv", "Quant", "Relu", "Gather", "Slice", "Split", "Reshape", "Transpose", "Add",
               "Mul", "Sub", "Resize", "MaxPool", "Concat", "Constant", "DeformConv", "Identity",
               "If", "Gemm", "MatMul", "BatchNormalization", "Trunc", "BipolarQuant", "Flatten",
               "MultiThreshold", "AveragePool", "GlobalAveragePool", "ArgMax", "Clip", "Div",
               "DepthToSpace", "\0", "QuantizeLinear", "DequantizeLinear", "Unsqueeze", "Pad"]
        node.op_type = any_of(rng, ops)
    else:
        node.name = any_of(rng, ["", "../../x", "\0", "a" * 3000, graph.node[0].name])


def injure_graph(rng: Rng, graph: onnx.GraphProto) -> None:
    if not graph.node:
        return
    at = int(rng.integers(len(graph.node)))
    kind = int(rng.integers(0, 5))
    if kind == 0:
        del graph.node[at]
    elif kind == 1:
        graph.node.append(graph.node[at])
    elif kind == 2:
        nodes = [graph.node[int(i)] for i in rng.permutation(len(graph.node))]
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    elif kind == 3:
        graph.output.append(
            helper.make_tensor_value_info(any_of(rng, tensor_names(graph)), TensorProto.FLOAT, [1])
        )
    else:
        del graph.output[:]


def injure_port(rng: Rng, graph: onnx.GraphProto) -> None:
    if not graph.input:
        return
    port = any_of(rng, graph.input)
    kind = int(rng.integers(0, 4))
    dims = port.type.tensor_type.shape.dim
    if kind == 0 and dims:
        any_of(rng, dims).dim_value = any_of(rng, [0, -1, 1, 7, 2**31, 2**62, 100_000])
    elif kind == 1 and dims:
        any_of(rng, dims).dim_param = "N"
    elif kind == 2:
        port.name = any_of(rng, tensor_names(graph))
    elif dims:
        del dims[int(rng.integers(len(dims)))]


def injure_constant(rng: Rng, graph: onnx.GraphProto) -> None:
    if not graph.initializer:
        return
    tensor = any_of(rng, graph.initializer)
    kind = int(rng.integers(0, 7))
    if kind == 0:
        tensor.dims[:] = any_of(rng, [[], [0], [2**40], [-1], [1, 1, 1, 1], [2, 2], [2**33, 2**33]])
    elif kind == 1:
        tensor.data_type = int(rng.integers(0, 25))
    elif kind == 2:
        tensor.raw_data = fuzz.mangle(rng, tensor.raw_data)
    elif kind == 3:
        values = np.array(rng.choice([0, -1, np.nan, np.inf, 1e-40, 1e38, 0.5, 33, 3], 1), "<f4")
        count = max(1, len(tensor.raw_data) // 4)
        tensor.raw_data = np.repeat(values, count).tobytes()
    elif kind == 4:
        tensor.name = any_of(rng, tensor_names(graph))
    elif kind == 5:
        tensor.data_location = TensorProto.EXTERNAL
        places = ["../../../../etc/passwd", "/etc/passwd", "none.bin", "", ".", "a\0b", "net.onnx"]
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", any_of(rng, places)
        entry = tensor.external_data.add()
        entry.key, entry.value = any_of(rng, ["offset", "length"]), any_of(
            rng, ["-1", "9999999999999", "x", "0", "1e9"])
    else:
        graph.initializer.remove(tensor)


INJURIES = (injure_node, injure_node, injure_node, injure_graph, injure_port, injure_constant,
            injure_constant)


def lowered(path: Path) -> Graph:
    graph = passes.lower(ingest.read(path))
    inspect.of_graph(graph, str(path), boards.load("pynq-z2"))
    return graph


def onnx_structure(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    models = kept.setdefault("models", seeds())
    model = mangle_model(rng, any_of(rng, models))
    path = put(folder, "net.onnx", model.SerializeToString())
    return lambda: lowered(path), ("net.onnx", "pass ")


def onnx_bytes(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    models = kept.setdefault("models", seeds())
    path = put(folder, "net.onnx", fuzz.mangle(rng, any_of(rng, models).SerializeToString()))
    return lambda: lowered(path), ("net.onnx", "pass ")


def onnx_inspect(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    models = kept.setdefault("models", seeds())
    model = mangle_model(rng, any_of(rng, models))
    path = put(folder, "net.onnx", model.SerializeToString())

    def call() -> object:
        found = inspect.inspect(path, boards.load("pynq-z2"))
        inspect.render(found)
        return json.loads(found.to_json())

    return call, ("net.onnx",)


# Boards, registers, reports, layouts, graphs


def toml_text(tree: dict[str, Any]) -> str:
    """A tree as TOML, as far as TOML has it."""
    lines, sections = [], []
    for key, value in tree.items():
        if isinstance(value, dict):
            sections.append(f"[{json.dumps(key)}]\n{toml_text(value)}")
        elif value is not None:
            lines.append(f"{json.dumps(key)} = {toml_value(value)}")
    return "\n".join([*lines, *sections])


def toml_value(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, list):
        return f"[{', '.join(toml_value(v) for v in value)}]"
    if isinstance(value, dict):
        return "{}"
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan").replace("null", "0")


def board_toml(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    text = (resources.path("boards") / "pynq-z2.toml").read_text()
    if rng.random() < 0.5:
        data = fuzz.mangle_text(rng, text)
    else:
        tree = fuzz.mangle_tree(rng, tomllib.loads(text))
        data = toml_text(tree if isinstance(tree, dict) else {}).encode("utf-8", "replace")
    path = put(folder, "pynq-z2.toml", data)

    def call() -> object:
        board = boards.read(path)
        assert board.name == "pynq-z2"
        assert board.memory.port_bits in (32, 64, 128)
        assert board.bytes_per_cycle > 0
        return board

    return call, ("pynq-z2.toml",)


def registers_toml(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    text = (resources.path("hdl") / "shell" / "registers.toml").read_text()
    path = put(folder, "registers.toml", fuzz.mangle_text(rng, text))
    return lambda: read_map(path), ("registers.toml",)


def report_json(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    path = put(folder, "report.json", fuzz.json_bytes(rng, content()))

    def call() -> object:
        from hwflow.report import terminal

        report = schema.read(path)
        terminal.numbers(report)
        return report

    return call, ("report.json",)


LAYOUT: dict[str, Any] = {
    "isa_version": 1, "hash": "ab" * 32, "input_shape": [3, 256, 256], "classes": 1,
    "scales": {"hm": 0.25, "wh": 0.5, "reg": 0.125}, "stream_bytes": 4096,
    "lane_bytes": 32, "scratch_bytes": 0, "peak_act_words": 9,
    "steps": [{"tag": 0, "op": "CONV", "node": "layer0", "macs": 1, "ideal_cycles": 2,
               "model_cycles": None}],
}


def layout_json(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    path = put(folder, "layout.json", fuzz.json_bytes(rng, LAYOUT))
    return lambda: Layout.load(path), ("layout.json",)


def hls_layout(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    if "hls" not in kept:
        made = folder / "made"
        graph = random_small_graph(3)
        hls.write(graph, made)
        kept["hls"] = json.loads((made / "layout.json").read_text())
        shutil.rmtree(made)
    path = put(folder, "layout.json", fuzz.json_bytes(rng, kept["hls"]))
    return lambda: hls.read_layout(path.parent), ("layout.json",)


def graph_files(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    if "graph" not in kept:
        random_small_graph(5).save(folder)
        kept["graph"] = [(folder / n).read_bytes() for n in ("graph.json", "constants.npz")]
        kept["digest"] = random_small_graph(5).digest()
    text, packed = kept["graph"]
    if rng.random() < 0.6:
        text = fuzz.json_bytes(rng, json.loads(text))
    else:
        packed = mangle_npz(rng, packed)
    put(folder, "graph.json", text)
    put(folder, "constants.npz", packed)
    return lambda: Graph.load(folder), (str(folder),)


# Archives of arrays


def mangle_npz(rng: Rng, data: bytes) -> bytes:
    kind = int(rng.integers(0, 8))
    if kind < 3:
        return fuzz.mangle(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    name = any_of(rng, names)
    if kind == 3:
        members[any_of(rng, ["../../out.npy", "/tmp/out.npy", "", "x", "a\0b.npy"])] = members[name]
    elif kind == 4:
        members[name] = fuzz.mangle(rng, members[name])
    elif kind == 5:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.array([{"a": 1}, None], object), allow_pickle=True)
        members[name] = buffer.getvalue()
    elif kind == 6:
        header = any_of(rng, [
            "{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "{" * 900,
            "__import__('os')", "(" * 3000,
            "{'descr': '<f4', 'fortran_order': True, 'shape': (-1,), }",
            "{'descr': [('a', '<i4', (9999999999,))], 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<U2000000000', 'fortran_order': False, 'shape': (2,), }",
        ]).encode()
        members[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 99
    else:
        del members[name]
    out = io.BytesIO()
    method = any_of(rng, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(out, "w", method) as archive:
        for member, body in members.items():
            archive.writestr(zipfile.ZipInfo(member or "x"), body)
    return out.getvalue()


def npz(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    packed = io.BytesIO()
    np.savez(packed, images=np.zeros((2, 3, 8, 8), np.uint8), counts=np.arange(2))
    path = put(folder, "tiles.npz", mangle_npz(rng, packed.getvalue()))

    def call() -> object:
        found = arrays.read(path, ("images", "counts"))
        assert all(isinstance(array, np.ndarray) for array in found.values())
        assert not any(array.dtype.hasobject for array in found.values())
        return found

    return call, ("tiles.npz",)


def safetensors(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    from hwflow.models.codenet import load_checkpoint

    if "weights" not in kept:
        data = (Path(resources.__file__).parent / "checkpoints/codenet_b_trees.safetensors")
        raw = data.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        kept["weights"] = (json.loads(raw[8 : 8 + size]), raw[8 + size :])
    header, body = kept["weights"]
    if rng.random() < 0.8:
        if rng.random() < 0.7:
            inner = json.loads(header["__metadata__"]["hwflow"])
            text = fuzz.json_bytes(rng, inner).decode("utf-8", "replace")
            header = {**header, "__metadata__": {"hwflow": text}}
        else:
            header = fuzz.mangle_tree(rng, header)
        packed = json.dumps(header).encode("utf-8", "replace")
        if rng.random() < 0.1:
            packed = fuzz.mangle(rng, packed)
        data = struct.pack("<Q", len(packed)) + packed + body
    else:
        packed = json.dumps(header).encode()
        data = fuzz.mangle(rng, struct.pack("<Q", len(packed)) + packed + body[:100_000])
    path = put(folder, "weights.safetensors", data)
    return lambda: load_checkpoint(path), ("weights.safetensors",)


# Photographs and annotations


def pictures() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (24, 40, 3), np.uint8))
    found = {}
    for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("BMP", "bmp"), ("GIF", "gif"),
                         ("TIFF", "tif"), ("WEBP", "webp"), ("PPM", "ppm"), ("ICO", "ico")):
        out = io.BytesIO()
        picture.save(out, kind)
        found[suffix] = out.getvalue()
    found["eps"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    return found


def images(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    shelf = kept.setdefault("pictures", pictures())
    suffix = any_of(rng, ["png", "png", "jpg", "jpg", *shelf])
    data = shelf[suffix]
    if suffix == "png" and rng.random() < 0.3:  # other sizes, with the right checksum
        head = bytearray(data[16:29])
        place = int(rng.integers(0, 4)) * 4
        head[place % 12 : place % 12 + 1] = rng.bytes(1)
        check = zipfile.crc32(b"IHDR" + bytes(head)).to_bytes(4, "big")
        data = data[:16] + bytes(head) + check + data[33:]
    else:
        data = fuzz.mangle(rng, data)
    path = put(folder, f"photo.{suffix}", data)

    def call() -> object:
        found = photograph(path, 32, 32)
        assert found.shape == (3, 32, 32)
        assert found.dtype == np.uint8
        again = voc.decode_image(data, path.name)
        assert again.mode == "RGB"
        return found

    return call, (path.name,)


XML = (
    "<annotation>\n <filename>a.jpg</filename>\n <object>\n  <name>dog</name>\n"
    "  <difficult>0</difficult>\n  <bndbox>\n   <xmin>1</xmin>\n   <ymin>2</ymin>\n"
    "   <xmax>30</xmax>\n   <ymax>20</ymax>\n  </bndbox>\n </object>\n</annotation>\n"
)


def xml(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    data = fuzz.mangle_text(rng, XML)
    if rng.random() < 0.1:
        entity = any_of(rng, ["SYSTEM 'file:///etc/passwd'", "'b'"])
        data = f"<!DOCTYPE x [<!ENTITY a {entity}>]>\n{XML.replace('dog', '&a;')}".encode()
    if rng.random() < 0.05:
        data = b"<a>" * 50_000 + b"</a>" * int(rng.choice([0, 50_000]))

    def call() -> object:
        found = voc.parse_annotation(data, "a.xml")
        assert np.isfinite(found.boxes).all()
        assert len(found.boxes) == len(found.names) == len(found.difficult)
        return found

    return call, ("a.xml",)


def voc_folder(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    shelf = kept.setdefault("pictures", pictures())
    files = {
        "Annotations/a.xml": XML.encode(), "JPEGImages/a.jpg": shelf["jpg"],
        "ImageSets/Main/test.txt": b"a\n", "ImageSets/Main/trainval.txt": b"a\n",
    }
    name = any_of(rng, list(files))
    kind = int(rng.integers(0, 3))
    if kind == 0:
        del files[name]
    elif kind == 1:
        files[name] = fuzz.mangle_text(rng, files[name].decode("latin-1"))
    elif name.endswith("txt"):
        files[name] = any_of(rng, [b"../../a\n", b"/etc/passwd\n", b"..\n", b"\xff\n", b"\0\n",
                                   b"a\n" * 50, b"a 1\nb -1\n", b"JPEGImages/../a\n", b" \n"])
    else:
        files[name] = b""
    for place, data in files.items():
        put(folder / "voc", place, data)
    split = any_of(rng, ["train", "test"])
    return lambda: voc.load(folder / "voc", split, 32), ("voc",)


def archive(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    shelf = kept.setdefault("pictures", pictures())
    stem = trees.PICTURES["train"]
    tree_xml = XML.replace("dog", "Tree").encode()
    members = {f"{stem}.png": shelf["png"], f"{stem}.xml": tree_xml}
    kind = int(rng.integers(0, 5))
    if kind == 0:
        members[f"{stem}.png"] = fuzz.mangle(rng, members[f"{stem}.png"])
    elif kind == 1:
        members[f"{stem}.xml"] = fuzz.mangle_text(rng, tree_xml.decode())
    elif kind == 2:
        members = {"../../../../tmp/out.png": b"x", "/tmp/out.png": b"x", **members}
    out = io.BytesIO()
    method = any_of(rng, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2,
                          zipfile.ZIP_LZMA])
    with zipfile.ZipFile(out, "w", method) as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name), data)
    data = out.getvalue()
    path = put(folder, trees.ARCHIVE.file, fuzz.mangle(rng, data) if kind > 2 else data)
    return lambda: trees.read_picture(path, "train"), (trees.ARCHIVE.file,)


# Reports of tools, and the stamps of our own


def report_seeds() -> dict[str, str]:
    folder = Path(__file__).parent / "data"
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".txt", ".rpt", ".json", ".xml", ".log")
    }


def report_texts(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    shelf = kept.setdefault("reports", report_seeds())
    name = any_of(rng, list(shelf))
    text = shelf[name]
    if name.endswith(".json") and rng.random() < 0.7:
        data = fuzz.json_bytes(rng, json.loads(text))
    else:
        data = fuzz.mangle_text(rng, text)
    path = put(folder, Path(name).name, data)

    def call() -> object:
        readers.read_file(path)
        report, _ = readers.read([path])
        schema.write(report, folder / "report.json")
        assert schema.read(folder / "report.json") == report
        return report

    return call, (path.name,)


def stamps(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    stamp = {
        "version": build.STAMP_VERSION, "parts": {"option x": "1"}, "files": {"a": "b"},
        "status": "done", "seconds": 1.5, "made": "things", "reason": None,
    }
    path = put(folder, "stamp.json", fuzz.json_bytes(rng, stamp))

    def call() -> object:
        found, why = build._why(path, {"option x": "1"}, folder)
        assert found is None  # no file of the stage is there
        assert why
        return why

    return call, ("stamp.json",)


def runs(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    """A report or a baseline beside a good one, and a limit on their numbers."""
    good = content()
    put(folder, "good.json", json.dumps(good).encode())
    tree = {"baseline": 1, "report": good} if rng.random() < 0.5 else good
    path = put(folder, "other.json", fuzz.json_bytes(rng, tree))
    text = any_of(rng, ["lut>+2%", "fps<-1%", "mismatches>0", "fps>=10"])
    if rng.random() < 0.3:
        text = fuzz.mangle_text(rng, text).decode("utf-8", "replace")

    def call() -> object:
        try:
            limit = gate.parse(text)
        except HwflowError as error:
            assert "--fail-if" in str(error)
            limit = gate.parse("fps<-1%")
        table = compare.comparison(compare.load_all([folder / "good.json", path]))
        try:
            gate.check([limit], table)
        except HwflowError as error:
            assert limit.name in str(error)
        return json.loads(compare.as_json(table))

    return call, ("other.json",)


def vectors_npz(rng: Rng, folder: Path, kept: dict[str, Any]) -> Case:
    packed = io.BytesIO()
    values = rng.integers(0, 256, (2, 3, 8, 8))
    labels = any_of(rng, [np.arange(2), np.arange(3), np.zeros((2, 1), int), np.array([0.5, 1]),
                          np.array(["a", "b"]), np.array([-1, 1 << 62])])
    odd = any_of(rng, [values, values / 256, values[0], values.ravel(), values > 9, values * 1j,
                       np.array(["a"]), np.full((1, 3, 8, 8), np.nan), np.zeros((0, 3, 8, 8)),
                       values.reshape(2, -1), values.astype("M8[s]"), np.float64(3),
                       values * 1e300, values.transpose(0, 2, 3, 1), values.reshape(4, 96)])
    names = any_of(rng, [["x"], ["x", "y"], ["image"], ["image", "z"]])
    more = {"labels": labels} if rng.random() < 0.5 else {}
    np.savez(packed, **dict.fromkeys(names, odd), **more)
    data = packed.getvalue() if rng.random() < 0.6 else mangle_npz(rng, packed.getvalue())
    path = put(folder, "vectors.npz", data)

    def call() -> object:
        found = vectors.read(path, "image", (3, 8, 8))
        assert found.array.shape[1:] == (3, 8, 8)
        assert np.isfinite(found.array).all()
        assert found.labels is None or found.labels.shape == (len(found.array),)
        return found

    return call, ("vectors.npz",)


TARGETS: dict[str, Target] = {
    "onnx-structure": Target(onnx_structure, 60, 2400),
    "onnx-bytes": Target(onnx_bytes, 15, 900),
    "onnx-inspect": Target(onnx_inspect, 15, 500),
    "board": Target(board_toml, 25, 800),
    "registers": Target(registers_toml, 15, 300),
    "report-json": Target(report_json, 25, 800),
    "layout": Target(layout_json, 20, 500),
    "hls-layout": Target(hls_layout, 10, 200),
    "graph": Target(graph_files, 25, 700),
    "npz": Target(npz, 20, 500),
    "safetensors": Target(safetensors, 5, 100),
    "images": Target(images, 30, 900),
    "xml": Target(xml, 20, 500),
    "voc": Target(voc_folder, 15, 300),
    "archive": Target(archive, 15, 300),
    "report-texts": Target(report_texts, 40, 1300),
    "stamps": Target(stamps, 15, 300),
    "runs": Target(runs, 20, 400),
    "vectors": Target(vectors_npz, 20, 300),
}


@pytest.fixture
def quiet() -> Iterator[None]:
    """Warnings of damaged files are of no interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(name: str, count: int, seed: int, tmp_path: Path) -> fuzz.Tally:
    """`count` inputs for one reader; which one failed is said."""
    target, tally, kept = TARGETS[name], fuzz.Tally(), {}
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        folder = tmp_path / "run"
        folder.mkdir()
        call, names = target.make(rng, folder, kept)
        try:
            found = fuzz.attempt(call, folder, names, tally)
            if isinstance(found, Graph) and name == "onnx-structure":
                check_exact(found, folder / "net.onnx", rng)
        except BaseException as error:
            error.add_note(f"reader {name}, seed {seed}, input {number}")
            raise
        shutil.rmtree(folder)
    return tally


def check_exact(graph: Graph, path: Path, rng: Rng) -> None:
    """What was read computes what the file says; where onnxruntime refuses the file, nobody knows.
    """
    tensor = graph.tensors[graph.inputs[0]]
    if not isinstance(tensor.dtype, IntType) or np.prod(tensor.shape) > 10_000:
        return
    image = rng.integers(tensor.dtype.lo, tensor.dtype.hi, tensor.shape, endpoint=True)
    try:
        verify.against_qonnx(graph, path, [image])
    except GraphError as error:
        fuzz.check_clear(error, ("net.onnx",))
    except VerifyError as error:
        if "the qonnx executor cannot run this file" not in str(error):
            raise


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", TARGETS)
def test_malformed_inputs(name: str, tmp_path: Path) -> None:
    tally = run(name, TARGETS[name].quick, 1, tmp_path)
    assert tally.read + tally.refused == TARGETS[name].quick
    assert tally.refused > 0 or name == "stamps"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", TARGETS)
def test_many_malformed_inputs(name: str, tmp_path: Path) -> None:
    tally = run(name, TARGETS[name].slow, 2, tmp_path)
    assert tally.read + tally.refused == TARGETS[name].slow
    assert tally.read > 0  # some injuries do no harm; without any, the seeds are wrong
    assert tally.refused > 0 or name == "stamps"
    assert tally.seconds < fuzz.LIMIT_S


def test_ten_thousand_inputs_are_tried() -> None:
    assert sum(target.slow for target in TARGETS.values()) >= 10_000
