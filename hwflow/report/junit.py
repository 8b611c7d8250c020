# SPDX-License-Identifier: Apache-2.0
"""JUnit XML of a build: a test case a stage, and one a layer that was held to the integer graph.

Verification stops at the first difference, so of a stage that failed there the layer it names is a
failure and of the other layers nothing is claimed: they are skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from hwflow.build import Record
from hwflow.plan import write_atomic

ENGINES: Mapping[str, str] = {
    "verify": "the QONNX file in its executor",
    "hls": "the C++ of the network",
    "sim": "the accelerator in Verilator",
}
# What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(path: Path, run: Path, records: Sequence[Record]) -> None:
    """Write the JUnit XML of the build in the folder `run`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render(records, layers(run, records)).encode())


def render(records: Sequence[Record], compared: Mapping[str, Sequence[str]]) -> str:
    """The XML; `compared` names the layers that a stage of ENGINES compares, if they are known."""
    root = Xml.Element("testsuites", name="hwflow")
    stages = Xml.SubElement(root, "testsuite", name="hwflow.stages")
    for record in records:
        case = _case(stages, "hwflow.stages", record.name, record.seconds)
        if record.status == "failed":
            _say(case, "failure", record.reason or "failed")
        elif record.status == "skipped":
            _say(case, "skipped", record.reason or "skipped")
        else:
            Xml.SubElement(case, "system-out").text = _clean(f"{record.status}: {record.made}")
    _sum(stages, sum(record.seconds for record in records))
    for record in records:
        names = compared.get(record.name, ())
        if not names:
            continue
        suite = Xml.SubElement(root, "testsuite", name=f"hwflow.{record.name}")
        what = Xml.SubElement(Xml.SubElement(suite, "properties"), "property")
        what.attrib.update(name="compared", value=f"{ENGINES[record.name]} with the integer graph")
        wrong = _named(record.reason or "", names) if record.status == "failed" else None
        for name in names:
            case = _case(suite, f"hwflow.{record.name}", name, 0.0)
            if name == wrong:
                _say(case, "failure", record.reason or "differs")
            elif record.status not in ("done", "cached"):
                _say(case, "skipped", f"the stage stopped before all layers were compared, in "
                     f"{wrong}" if wrong else f"stage {record.name} {record.status}")
        _sum(suite, record.seconds)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, "unicode") + "\n"


def layers(run: Path, records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """The layers that each stage of ENGINES compares, in the graph's order.

    A stage whose own count of layers is another one is left out: its names are not known here.
    """
    status = {record.name: record.status for record in records}
    if status.get("lower") not in ("done", "cached"):
        return {}
    from hwflow.emit.engine.planes import VIEW_OPS
    from hwflow.ir import Graph

    graph = Graph.load(run / "lower" / "graph")
    found = {
        "verify": tuple(name for name in graph.tensors
                        if f"onnx.{name}" in graph.meta and f"scale.{name}" in graph.meta),
        "hls": tuple(graph.tensors),
        "sim": (*graph.inputs, *(n.output for n in graph.nodes if n.op not in VIEW_OPS)),
    }
    places = {"verify": ("qonnx.json", "main"), "hls": ("result.json", None),
              "sim": ("result.json", None)}
    for stage, (file, key) in places.items():
        if status.get(stage) in ("done", "cached"):
            body = json.loads((run / stage / file).read_text())
            count = (body[key] if key else body)["tensors"]
            if count != len(found[stage]):
                del found[stage]
        elif status.get(stage) != "failed":
            del found[stage]
    return found


def _case(suite: Xml.Element, group: str, name: str, seconds: float) -> Xml.Element:
    return Xml.SubElement(
        suite, "testcase", classname=group, name=_clean(name), time=f"{seconds:.3f}"
    )


def _say(case: Xml.Element, tag: str, reason: str) -> None:
    text = _clean(reason)
    found = Xml.SubElement(case, tag, message=text.splitlines()[0] if text else tag)
    found.text = text


def _sum(suite: Xml.Element, seconds: float) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("time", f"{seconds:.3f}")


def _named(reason: str, names: Sequence[str]) -> str | None:
    """The layer that the message of a difference names, if it does."""
    known = set(names)
    return next((word for word in re.findall(r"'([^']+)'", reason) if word in known), None)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
