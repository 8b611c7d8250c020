# SPDX-License-Identifier: Apache-2.0
"""JUnit XML: each stage and each compared layer once, failures with their message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hwflow import cli
from hwflow.build import Record
from hwflow.errors import ToolError
from hwflow.report import junit
from tests.graphs import random_small_graph

LAYERS = ("image", "conv0", "conv1")
WRONG = "image 0, m.onnx: 'conv0' channel 3, pixel (y 1, x 2): 4, expected 5 (1 of 9 values differ)"


def records(verify: str, reason: str | None = None) -> list[Record]:
    return [
        Record("lower", "cached", 1.5, "3 nodes"),
        Record("verify", verify, 2.0, "" if reason else "2 images", reason),
        Record("sim", "skipped", 0.0, "", "the stage verify failed"),
    ]


def cases(text: str, suite: str) -> dict[str, list[str]]:
    """Test cases of a suite with the tags inside of each."""
    root = Xml.fromstring(text)
    (found,) = [one for one in root if one.get("name") == suite]
    return {str(case.get("name")): [child.tag for child in case]
            for case in found.iter("testcase")}


def counts(text: str) -> tuple[str, ...]:
    root = Xml.fromstring(text)
    return tuple(root.get(key, "") for key in ("tests", "failures", "errors", "skipped"))


def test_all_layers_of_a_stage_that_is_done() -> None:
    text = junit.render(records("done"), {"verify": LAYERS})
    assert cases(text, "hwflow.stages") == {
        "lower": ["system-out"], "verify": ["system-out"], "sim": ["skipped"],
    }
    assert cases(text, "hwflow.verify") == {name: [] for name in LAYERS}
    assert counts(text) == ("6", "0", "0", "1")


def test_the_layer_a_difference_names_fails() -> None:
    text = junit.render(records("failed", WRONG), {"verify": LAYERS})
    assert cases(text, "hwflow.stages")["verify"] == ["failure"]
    assert cases(text, "hwflow.verify") == {
        "image": ["skipped"], "conv0": ["failure"], "conv1": ["skipped"],
    }
    assert counts(text) == ("6", "2", "0", "3")
    messages = [one.get("message") for one in Xml.fromstring(text).iter("failure")]
    assert messages == [WRONG, WRONG]


def test_a_stage_that_failed_otherwise_claims_nothing_of_layers() -> None:
    text = junit.render(records("failed", "g++ ended with exit code 1\nlog: <x> & y\x1b[0m"),
                        {"verify": LAYERS})
    assert set(map(tuple, cases(text, "hwflow.verify").values())) == {("skipped",)}
    failure = next(Xml.fromstring(text).iter("failure"))
    assert failure.get("message") == "g++ ended with exit code 1"
    assert failure.text == "g++ ended with exit code 1\nlog: <x> & y\N{REPLACEMENT CHARACTER}[0m"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(), st.lists(st.text(), max_size=3, unique=True))
def test_any_message_is_well_formed(reason: str, names: Sequence[str]) -> None:
    text = junit.render(records("failed", reason), {"verify": names})
    assert len(list(Xml.fromstring(text).iter("testcase"))) == 3 + len(names)


def run_folder(tmp_path: Path, qonnx: int, sim: int) -> tuple[Path, list[Record]]:
    graph = random_small_graph(3)
    graph.save(tmp_path / "lower" / "graph")
    bodies = {"verify/qonnx.json": {"main": {"tensors": qonnx}}, "sim/result.json":
              {"tensors": sim}, "hls/result.json": {"tensors": len(graph.tensors)}}
    for name, body in bodies.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(body))
    return tmp_path, [Record(name, "done", 1.0, "made") for name in
                      ("lower", "verify", "hls", "sim")]


def test_layers_of_a_run(tmp_path: Path) -> None:
    graph = random_small_graph(3)
    views = sum(node.op in ("slice", "concat", "shuffle", "upsample") for node in graph.nodes)
    run, done = run_folder(tmp_path, 1, len(graph.tensors) - views)
    found = junit.layers(run, done)
    assert found["hls"] == tuple(graph.tensors)
    assert len(found["sim"]) == len(graph.tensors) - views
    assert "verify" not in found  # it compared another number of layers than have counterparts
    junit.write(tmp_path / "new/out.xml", run, done)
    assert cases((tmp_path / "new/out.xml").read_text(), "hwflow.hls") == {
        name: [] for name in graph.tensors
    }


def test_no_layers_before_there_is_a_graph(tmp_path: Path) -> None:
    assert junit.layers(tmp_path, [Record("lower", "failed", 0.1, "", "no")]) == {}


def test_a_failed_build_still_leaves_its_xml(tmp_path: Path) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "junit.xml"
    model.write_bytes(b"\x08\x07\x12 not a model")
    done = CliRunner().invoke(cli.app, ["build", str(model), "--until", "lower", "--out",
                                        str(tmp_path / "run"), "--junit", str(out)])
    assert isinstance(done.exception, ToolError)
    assert cases(out.read_text(), "hwflow.stages")["lower"] == ["failure"]


@pytest.mark.parametrize("status", ["done", "cached"])
def test_what_was_found_before_counts(status: str) -> None:
    assert counts(junit.render(records(status), {"verify": LAYERS})) == ("6", "0", "0", "1")
