# SPDX-License-Identifier: Apache-2.0
"""Names in files that point elsewhere, archives with strange members, pickles, and bombs."""

from __future__ import annotations

import ast
import io
import os
import pickle
import struct
import subprocess
import sys
import tomllib
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import hwflow
from hwflow import arrays, boards, ingest, pictures, plan
from hwflow.data import trees, voc
from hwflow.driver import DriverError, Layout
from hwflow.driver.registers import read_map
from hwflow.errors import ConfigError, DataError, GraphError, HwflowError, ToolError
from hwflow.ir import Graph
from hwflow.report import schema
from tests import fuzz, qonnx_models
from tests.graphs import random_small_graph
from tests.test_fuzz_readers import LAYOUT, XML, toml_text
from tests.test_fuzz_readers import pictures as photographs
from tests.test_report import content

SOURCES = Path(hwflow.__file__).parent


class Bomb:
    """Unpickling one writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


# Pickles


def test_nothing_in_the_sources_can_load_a_pickle() -> None:
    """No pickle module, no torch.load, and no np.load that may meet one."""
    wrong = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            place = f"{path.relative_to(SOURCES)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or ""
                names = {module.split(".")[0], *(a.name.split(".")[0] for a in node.names)}
                wrong += [f"{place} imports {name}" for name in names & {
                    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}]
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if (owner, node.func.attr) in {("torch", "load"), ("pd", "read_pickle")}:
                wrong.append(f"{place} calls torch.load")
            if node.func.attr in ("load", "read_array") and owner in ("np", "numpy", "format"):
                allowed = [k.value for k in node.keywords if k.arg == "allow_pickle"]
                if not all(isinstance(a, ast.Constant) and a.value is False for a in allowed):
                    wrong.append(f"{place} allows pickles")
    assert wrong == []


@pytest.mark.parametrize("name", ["constants", "images"])
def test_a_pickle_is_never_loaded(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Bomb(mark)], object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr(f"{name}.npy", buffer.getvalue())
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match="Python objects, which are never"):
        arrays.read(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(pickle.dumps(Bomb(mark)))
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match=r"not a whole \.npz file"):
        arrays.read(tmp_path / "x.npz")
    assert not mark.exists()


def test_a_graph_with_a_pickle_is_refused(tmp_path: Path) -> None:
    graph = random_small_graph(1)
    graph.save(tmp_path / "g")
    mark = tmp_path / "g" / "unpickled"
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Bomb(mark)], object), allow_pickle=True)
    name = next(iter(graph.constants))
    with zipfile.ZipFile(tmp_path / "g/constants.npz", "w") as archive:
        archive.writestr(f"{name}.npy", buffer.getvalue())
    with fuzz.guarded(tmp_path / "g"), pytest.raises(GraphError, match="never loaded"):
        Graph.load(tmp_path / "g")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["x.safetensors", "resume.safetensors"])
def test_a_pickle_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    from hwflow.models.codenet import load_checkpoint

    mark = tmp_path / "unpickled"
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(mark)))
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match=name):
        load_checkpoint(tmp_path / name)
    assert not mark.exists()


# External data of ONNX


def with_external(path: Path, location: str) -> Path:
    model = qonnx_models.plain_stack(0)
    tensor = next(t for t in model.graph.initializer if len(t.raw_data) > 100)
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    (path.parent.parent / "secret.bin").write_bytes(data)
    return path


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "SECRET", "./../secret.bin", "sub/../../secret.bin", "none.bin", "", ".",
     "link.bin", "linked/secret.bin", "/dev/zero", "a\0b"],
)
def test_external_data_cannot_leave_the_folder(location: str, tmp_path: Path) -> None:
    location = str(tmp_path / "secret.bin") if location == "SECRET" else location
    path = with_external(tmp_path / "model/net.onnx", location)
    (path.parent / "link.bin").symlink_to("../secret.bin")
    (path.parent / "linked").symlink_to("..")
    with fuzz.guarded(tmp_path), pytest.raises(GraphError, match=r"net\.onnx"):
        ingest.read(path)


def test_external_data_beside_the_file_is_read(tmp_path: Path) -> None:
    model = qonnx_models.plain_stack(0)
    onnx.save(model, tmp_path / "whole.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, size_threshold=0,
              location="net.data")
    assert (tmp_path / "net.data").is_file()
    found = ingest.read(tmp_path / "net.onnx")
    assert found.digest() == ingest.read(tmp_path / "whole.onnx").digest()


# Names that become files


@pytest.mark.parametrize("name", ["../../x", "/x", "..", "a\0b", "a/b", "con\n", "{{7*7}}"])
def test_names_of_layers_stay_names(name: str, tmp_path: Path) -> None:
    """Nodes and graphs may be called anything; what is written stays in the folder."""
    from hwflow.passes import lower

    model = qonnx_models.plain_stack(0)
    model.graph.name = name
    for node in model.graph.node:
        if node.name == "second":
            node.name = name
    (tmp_path / "run").mkdir()
    path = tmp_path / "run/net.onnx"
    path.write_bytes(model.SerializeToString())
    with fuzz.guarded(tmp_path / "run"):
        try:
            graph = lower(ingest.read(path), tmp_path / "run/passes")
            graph.save(tmp_path / "run/graph")
            assert Graph.load(tmp_path / "run/graph").digest() == graph.digest()
        except HwflowError as error:
            fuzz.check_clear(error, (str(path), "pass ", str(tmp_path / "run/graph")))
    assert {p.name for p in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "..", "a\\b", ""])
def test_a_plan_writes_inside_its_folder_only(name: str, tmp_path: Path) -> None:
    for made in (plan.Plan({name: "x"}, (), ()), plan.Plan({}, (), (name,))):
        with fuzz.guarded(tmp_path), pytest.raises(ToolError, match="not allowed in a plan"):
            plan.execute(made, tmp_path / "run")


@pytest.mark.parametrize("image_id", ["../../a", "/etc/passwd", "..", "JPEGImages/a", "a\\b", "\0"])
def test_image_ids_are_names(image_id: str, tmp_path: Path) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "Annotations/a.xml").write_text(XML)
    (tmp_path / "ImageSets/Main/test.txt").write_text(f"{image_id}\n")
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match=r"test\.txt: .*is not an image id"):
        voc.load(tmp_path, "test", 32)


def test_an_archive_is_read_and_never_unpacked(tmp_path: Path) -> None:
    """Zip slip, absolute names and links: members are taken by name, the rest is left alone."""
    stem = trees.PICTURES["train"]
    archive = tmp_path / "run" / trees.ARCHIVE.file
    archive.parent.mkdir()
    link = zipfile.ZipInfo("deepforest/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("../../slip", "/tmp/absolute", f"{stem}/../../../slip"):
            made.writestr(zipfile.ZipInfo(name), b"x")
        made.writestr(link, "/etc/passwd")
        made.writestr(f"{stem}.png", photographs()["png"])
        made.writestr(f"{stem}.xml", XML.replace("dog", "Tree"))
    with fuzz.guarded(archive.parent):
        scene = trees.read_picture(archive, "train")
    assert scene.boxes.tolist() == [[1, 2, 30, 20]]
    assert {p.name for p in tmp_path.rglob("*")} == {"run", trees.ARCHIVE.file}


# Bombs


def test_bombs_are_refused(tmp_path: Path) -> None:
    chunk = zlib.compress(bytes(10))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), (b"IDAT", chunk),
             (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match=r"bomb\.png"):
        pictures.decode(png, "bomb.png")
    laughs = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    xml = f'<!DOCTYPE x [<!ENTITY l0 "lol">{laughs}]><annotation>&l9;</annotation>'
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match=r"a\.xml"):
        voc.parse_annotation(xml.encode(), "a.xml")
    outside = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match=r"a\.xml"):
        voc.parse_annotation(outside.encode(), "a.xml")
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (200000000,), }"
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        archive.writestr("a.npy", start + bytes(200_000_000))
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match="at most 1,000,000 are read"):
        arrays.read(tmp_path / "x.npz", most_bytes=1_000_000)


def test_postscript_starts_no_program(tmp_path: Path) -> None:
    with fuzz.guarded(tmp_path), pytest.raises(DataError, match=r"photo\.eps"):
        pictures.decode(photographs()["eps"], "photo.eps")


@pytest.mark.parametrize("text", ["[" * 20_000, '{"a":' * 20_000])
def test_deep_nesting_is_refused(text: str, tmp_path: Path) -> None:
    for name in ("report.json", "layout.json", "graph.json", "pynq-z2.toml", "registers.toml"):
        (tmp_path / name).write_text(f"x = {text}" if name.endswith("toml") else text)
    with fuzz.guarded(tmp_path):
        for error, call in (
            (ConfigError, lambda: schema.read(tmp_path / "report.json")),
            (DriverError, lambda: Layout.load(tmp_path / "layout.json")),
            (GraphError, lambda: Graph.load(tmp_path)),
            (ConfigError, lambda: boards.read(tmp_path / "pynq-z2.toml")),
            (DriverError, lambda: read_map(tmp_path / "registers.toml")),
        ):
            with pytest.raises(error):
                call()


# Hypothesis: any tree, any text

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(max_size=8), inner, max_size=4), max_leaves=12,
)
EASY = settings(
    derandomize=True, database=None, deadline=None, max_examples=60,
    suppress_health_check=list(HealthCheck),
)


def replaced(data: st.DataObject, tree: object, value: object) -> object:
    """The tree with one of its values, chosen by hypothesis, replaced."""
    import copy

    tree = copy.deepcopy(tree)
    *path, key = data.draw(st.sampled_from(list(fuzz._places(tree))))
    holder = tree
    for step in path:
        holder = holder[step]  # type: ignore[index]
    holder[key] = value  # type: ignore[index]
    return tree


@EASY
@given(data=st.data(), value=TREES)
def test_any_tree_in_a_report(data: st.DataObject, value: object, tmp_path: Path) -> None:
    import json

    path = tmp_path / "report.json"
    path.write_text(json.dumps(replaced(data, content(), value)), errors="surrogatepass")
    tally = fuzz.Tally()
    fuzz.attempt(lambda: schema.read(path), tmp_path, ("report.json",), tally)


@EASY
@given(data=st.data(), value=TREES)
def test_any_tree_in_a_layout(data: st.DataObject, value: object) -> None:
    try:
        layout = Layout.of(replaced(data, LAYOUT, value))  # type: ignore[arg-type]
    except DriverError as error:
        assert "layout.json" in str(error)
    else:
        assert min(layout.input_shape) > 0
        assert all(0 < scale < float("inf") for scale in layout.scales.values())


@EASY
@given(data=st.data(), value=TREES)
def test_any_tree_in_a_board(data: st.DataObject, value: object, tmp_path: Path) -> None:
    from hwflow import resources

    tree = tomllib.loads((resources.path("boards") / "pynq-z2.toml").read_text())
    text = toml_text(replaced(data, tree, value))  # type: ignore[arg-type]
    path = tmp_path / "pynq-z2.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    fuzz.attempt(lambda: boards.read(path), tmp_path, ("pynq-z2.toml",), fuzz.Tally())


@EASY
@given(data=st.binary(max_size=300))
def test_any_bytes_in_any_file(data: bytes, tmp_path: Path) -> None:
    from hwflow.report import readers

    path = tmp_path / "file"
    path.write_bytes(data)
    for call in (
        lambda: ingest.read(path), lambda: boards.read(path), lambda: schema.read(path),
        lambda: read_map(path), lambda: Layout.load(path), lambda: arrays.read(path),
        lambda: pictures.decode(data, "file"), lambda: voc.parse_annotation(data, "file"),
        lambda: trees.read_picture(path, "train"), lambda: readers.read_file(path),
    ):
        fuzz.attempt(call, tmp_path, ("file", "layout.json"), fuzz.Tally())


def test_the_command_line_ends_in_a_sentence(tmp_path: Path) -> None:
    """A few of the same, through the front door."""
    (tmp_path / "net.onnx").write_bytes(b"\x08\x0a\x3a\xff\xff\xff\xff\x7f")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for words in (["inspect", "net.onnx"], ["build", "./net.onnx", "--out", "run"],
                  ["report", "net.onnx"]):
        done = subprocess.run(
            [sys.executable, "-m", "hwflow", *words], cwd=tmp_path, text=True, timeout=60,
            capture_output=True, check=False,
        )
        assert done.returncode == 1, done.stdout
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr
