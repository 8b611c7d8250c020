# SPDX-License-Identifier: Apache-2.0
"""The inputs that the fuzzers found and that are mended: each keeps its place here."""

from __future__ import annotations

import io
import json
import struct
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from safetensors import safe_open
from safetensors.torch import save_file

from hwflow import arrays, boards, build, ingest, inspect, passes, resources, verify
from hwflow.data import voc
from hwflow.driver import DriverError, Layout
from hwflow.driver.registers import read_map
from hwflow.errors import ConfigError, DataError, GraphError, ToolError, VerifyError
from hwflow.interactive import photograph
from hwflow.ir import Graph
from hwflow.report import schema
from tests import fuzz, qonnx_models
from tests.graphs import random_small_graph
from tests.test_fuzz_readers import LAYOUT, XML
from tests.test_report import content


def broken(change: Callable[[onnx.GraphProto], None], path: Path) -> Path:
    model = qonnx_models.small_detector(0)
    change(model.graph)
    path.write_bytes(model.SerializeToString())
    return path


def node(graph: onnx.GraphProto, op: str) -> onnx.NodeProto:
    return next(n for n in graph.node if n.op_type == op)


def attribute(op: str, name: str, value: object) -> Callable[[onnx.GraphProto], None]:
    def change(graph: onnx.GraphProto) -> None:
        found = node(graph, op)
        for old in [a for a in found.attribute if a.name == name]:
            found.attribute.remove(old)
        if value is not None:
            found.attribute.append(helper.make_attribute(name, value))

    return change


def huge_input(graph: onnx.GraphProto) -> None:
    for dim in graph.input[0].type.tensor_type.shape.dim[1:]:
        dim.dim_value = 2**31
    del graph.value_info[:]


def damaged_constant(graph: onnx.GraphProto) -> None:
    graph.initializer[1].raw_data = b"\0\0\x80\x3f" * 2


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (attribute("Transpose", "perm", 3), "layer1.0.transpose: Transpose: "),
        (attribute("Quant", "narrow", None), "attribute narrow must be 0 or 1"),
        (attribute("Conv", "kernel_shape", "x"), "layer0"),
        (attribute("Concat", "axis", [1]), "concat"),
        (huge_input, "image"),
        (damaged_constant, "is damaged"),
    ],
)
def test_networks(change: Callable[[onnx.GraphProto], None], part: str, tmp_path: Path) -> None:
    path = broken(change, tmp_path / "net.onnx")
    with fuzz.guarded(tmp_path), pytest.raises(GraphError, match=r"net\.onnx|pass ") as caught:
        passes.lower(ingest.read(path))
    assert part in str(caught.value)


def test_a_damaged_constant_is_named_by_inspect_too(tmp_path: Path) -> None:
    path = broken(damaged_constant, tmp_path / "net.onnx")
    with pytest.raises(GraphError, match=r"net\.onnx: constant .* is damaged"):
        inspect.inspect(path, boards.load("pynq-z2"))


def test_a_domain_that_is_no_text(tmp_path: Path) -> None:
    model = qonnx_models.plain_stack(0)
    model.graph.node[0].domain = "qonnx.custom_op.generaX"
    data = model.SerializeToString().replace(b"generaX", b"genera\xff")
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(GraphError, match=r"net\.onnx: .*(not UTF-8|not a readable ONNX)"):
        ingest.read(tmp_path / "net.onnx")


def test_what_only_the_executor_refuses(tmp_path: Path) -> None:
    """qonnx wants the attribute `signed`, and says so with a bare Exception."""
    model = qonnx_models.plain_stack(0)
    (tmp_path / "good.onnx").write_bytes(model.SerializeToString())
    graph = passes.lower(ingest.read(tmp_path / "good.onnx"))
    attribute("Quant", "signed", None)(model.graph)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    image = np.zeros((3, 6, 10), np.uint8)
    with pytest.raises(VerifyError, match=r"net\.onnx: the qonnx executor cannot run this file"):
        verify.against_qonnx(graph, tmp_path / "net.onnx", [image])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_shape", [3, float("inf"), 8]), ("input_shape", [-3, 8, 8]), ("stream_bytes", 2.5),
        ("stream_bytes", True), ("scales", {"hm": float("nan")}), ("scales", {"hm": 0}),
        ("steps", [{"tag": "x", "op": 1, "node": 2}]), ("stride", 10**12), ("scales", [1]),
    ],
)
def test_layouts(key: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(json.dumps({**LAYOUT, key: value}))
    with pytest.raises(DriverError, match=r"layout\.json is not one of a program"):
        Layout.load(tmp_path / "layout.json")


@pytest.mark.parametrize("text", ["[[register]]", "version = 1", "x = \xff", "a b", "a = [" * 5000])
def test_register_maps(text: str, tmp_path: Path) -> None:
    (tmp_path / "registers.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(DriverError, match=r"registers\.toml"):
        read_map(tmp_path / "registers.toml")


@pytest.mark.parametrize(
    ("old", "new"),
    [('name = "ID"', 'name = "I D"'), ("offset = 0x00", 'offset = "0"'),
     ("version = ", "version = -")],
)
def test_register_maps_that_would_print_nonsense(old: str, new: str, tmp_path: Path) -> None:
    text = (resources.path("hdl") / "shell" / "registers.toml").read_text()
    tomllib.loads(text)
    assert old in text
    (tmp_path / "registers.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(DriverError, match=r"registers\.toml"):
        read_map(tmp_path / "registers.toml")


@pytest.mark.parametrize("header", ["{" * 900, "(" * 3000, "__import__('os')", "{'descr': '<f4'}"])
def test_headers_of_arrays(header: str, tmp_path: Path) -> None:
    """numpy's parser ends in errors of the tokeniser, which nobody expects."""
    graph = random_small_graph(5)
    graph.save(tmp_path)
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
    with zipfile.ZipFile(tmp_path / "constants.npz", "w") as archive:
        for name in graph.constants:
            archive.writestr(f"{name}.npy", start + header.encode() + bytes(99))
    with pytest.raises(DataError, match="damaged header"):
        arrays.read(tmp_path / "constants.npz")
    with pytest.raises(GraphError, match=r"graph\.json: .*damaged header"):
        Graph.load(tmp_path)


def test_a_graph_with_an_infinite_shape(tmp_path: Path) -> None:
    random_small_graph(5).save(tmp_path)
    body = json.loads((tmp_path / "graph.json").read_text())
    body["tensors"][0]["shape"][0] = float("inf")
    (tmp_path / "graph.json").write_text(json.dumps(body))
    with pytest.raises(GraphError, match="not a graph of format"):
        Graph.load(tmp_path)


def test_a_photograph_of_sixty_gigapixels(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 0xF0000, 0x10000, 8, 2, 0, 0, 0)
    check = struct.pack(">I", zipfile.crc32(b"IHDR" + head))
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + check
    )
    with pytest.raises(DataError, match=r"x\.png"):
        photograph(tmp_path / "x.png", 32, 32)


@pytest.mark.parametrize("data", [b"\xe4\n", b"a\0\n"])
def test_lists_of_images(data: bytes, tmp_path: Path) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "Annotations/a.xml").write_text(XML)
    (tmp_path / "ImageSets/Main/test.txt").write_bytes(data)
    with pytest.raises(DataError, match=r"test\.txt"):
        voc.load(tmp_path, "test", 32)


@pytest.mark.parametrize(
    "changes", [{"input_size": 10**9}, {"width": 2}, {"classes": 10**6}, {"name": "z"}]
)
def test_checkpoints_of_impossible_networks(changes: dict[str, object], tmp_path: Path) -> None:
    from hwflow.models.codenet import load_checkpoint


    shipped = Path(resources.__file__).parent / "checkpoints"
    with safe_open(shipped / "codenet_b_trees.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["hwflow"])
        tensors = {name: file.get_tensor(name) for name in list(file.keys())[:3]}
    header["config"] |= changes
    save_file(tensors, tmp_path / "x.safetensors", {"hwflow": json.dumps(header)})
    with pytest.raises(DataError, match=r"x\.safetensors: expected a checkpoint"):
        load_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("key", "value"), [("seconds", "long"), ("status", 3), ("made", None), ("reason", [1])]
)
def test_stamps(key: str, value: object, tmp_path: Path) -> None:
    stamp = {"version": build.STAMP_VERSION, "parts": {}, "files": {}, "status": "done",
             "seconds": 1.0, "made": "x", "reason": None}
    (tmp_path / "s.json").write_text(json.dumps(stamp))
    assert build._why(tmp_path / "s.json", {}, tmp_path / "none")[0] == stamp
    (tmp_path / "s.json").write_text(json.dumps({**stamp, key: value}))
    assert build._why(tmp_path / "s.json", {}, tmp_path / "none")[0] is None


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_reports_of_infinite_speed(value: float, tmp_path: Path) -> None:
    """Read, one of them ended a comparison, which counts in fractions."""
    body = content()
    body["performance"]["fps"] = value
    (tmp_path / "report.json").write_text(json.dumps(body))
    with pytest.raises(ConfigError, match=r"report\.json: .*performance\.fps.*finite"):
        schema.read(tmp_path / "report.json")


def test_a_board_of_infinite_clock(tmp_path: Path) -> None:
    text = (resources.path("boards") / "pynq-z2.toml").read_text()
    text = text.replace("mhz = 150.0", "mhz = inf").replace("pll_mhz = 1050.0", "pll_mhz = inf")
    (tmp_path / "pynq-z2.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"clock\.mhz: .*finite"):
        boards.read(tmp_path / "pynq-z2.toml")


def test_a_board_nested_too_deep(tmp_path: Path) -> None:
    (tmp_path / "pynq-z2.toml").write_text("x = " + "[" * 20_000)
    with pytest.raises(ConfigError, match=r"pynq-z2\.toml: is not TOML"):
        boards.read(tmp_path / "pynq-z2.toml")


def test_a_layout_of_the_cpp_engine_that_points_outside(tmp_path: Path) -> None:
    from hwflow.emit import hls

    hls.write(random_small_graph(3), tmp_path)
    body = json.loads((tmp_path / "layout.json").read_text())
    next(iter(body["tensors"].values()))["planes"][0][0] = 10**6
    (tmp_path / "layout.json").write_text(json.dumps(body))
    with pytest.raises(ToolError, match=r"layout\.json cannot be read .*outside"):
        hls.read_layout(tmp_path)


def test_an_archive_of_arrays_that_is_none(tmp_path: Path) -> None:
    packed = io.BytesIO()
    np.save(packed, np.zeros(3))
    (tmp_path / "x.npz").write_bytes(packed.getvalue())  # one array is no archive
    with pytest.raises(DataError, match=r"not a whole \.npz file"):
        arrays.read(tmp_path / "x.npz")
