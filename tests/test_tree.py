# SPDX-License-Identifier: Apache-2.0
"""What the trees of a network of tables are made of, as Yosys maps them for each chip."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from hwflow.emit.tables import Options, emit
from hwflow.errors import ConfigError, ToolError, VerifyError
from hwflow.ir import IntType
from hwflow.plan import execute
from hwflow.report import page, schema, terminal
from hwflow.report.schema import Tree, TreeCells
from hwflow.toolchain import tree
from tests.reports import run
from tests.table_graphs import Layer, network

# One module a kind of cell, that a chip would use for it.
ADDER = """module tables_layer1 (input wire logic [15:0] x, output logic [8:0] y);
  assign y = x[15:8] + x[7:0];
endmodule
"""
MULTIPLIER = """module tables_layer1 (input wire logic [23:0] x, output logic [23:0] y);
  assign y = x[23:12] * x[11:0];
endmodule
"""
MEMORY = """module tables_layer1 (
    input wire logic clk, input wire logic [11:0] x, output logic [7:0] y
);
  logic [7:0] weights[4096];
  initial for (int i = 0; i < 4096; i++) weights[i] = 8'((i * i * 37 + i * 11) >> 3);
  always_ff @(posedge clk) y <= weights[x];
endmodule
"""


def measured(modules: dict[str, str], family: str, folder: Path) -> Tree:
    execute(tree.plan(modules, family), folder)
    return tree.measure(folder, [Path(name).stem for name in modules])


@pytest.mark.parametrize(("target", "family"), [("xilinx", "xc7"), ("ecp5", "ecp5"),
                                                ("ice40", "ice40"), ("gowin", "gowin")])
@pytest.mark.parametrize("sums", [True, False])
def test_trees_are_tables_alone(target: str, family: str, sums: bool, tmp_path: Path) -> None:
    graph = network(
        [Layer(30, 3, IntType(2, False)), Layer(20 if sums else 10, 3, IntType(2, False))],
        thresholds=[60, 128, 200], groups=10 if sums else 0,
    )
    design = emit(graph, Options(target, table_levels=1))
    modules = {name: text for name, text in design.files.items()
               if name not in ("tables_pkg.sv", "tables_core.sv")}
    found = measured(modules, family, tmp_path)
    assert (found.dsp, found.carry, found.memory) == (0, 0, 0)
    assert {"tables_layer1", "tables_layer2", "tables_argmax"} <= set(found.modules or ())
    assert (found.sums is not None) == sums
    if found.sums is not None:
        assert found.sums.carry == design.parts["sums"].carries
        assert (found.sums.carry > 0) == (target == "xilinx")


@pytest.mark.parametrize("family", ["xc7", "ecp5", "ice40", "gowin"])
@pytest.mark.parametrize(("text", "kind"), [(ADDER, "carry"), (MULTIPLIER, "dsp"),
                                            (MEMORY, "memory")])
def test_a_tree_that_is_more_is_refused(
    family: str, text: str, kind: str, tmp_path: Path
) -> None:
    if (family, kind) == ("ice40", "dsp"):
        kind = "carry"  # without an option its multipliers are adders
    plain = "module tables_layer2 (input wire logic x, output logic y); assign y = ~x; endmodule\n"
    modules = {"tables_layer1.sv": text, "tables_layer2.sv": plain,
               "tables_sums.sv": text.replace("tables_layer1", "tables_sums")}
    execute(tree.plan(modules, family), tmp_path)
    with pytest.raises(VerifyError, match=rf"tables_layer1 has .*\d+ {kind}.*fault of the emitter"):
        tree.measure(tmp_path, ["tables_layer1", "tables_layer2", "tables_sums"])
    found = tree.measure(tmp_path, ["tables_layer2", "tables_sums"])
    assert (found.dsp, found.carry, found.memory) == (0, 0, 0)
    assert found.sums is not None and getattr(found.sums, kind) > 0
    assert found.modules == ["tables_layer2"]


def test_nothing_is_taken_for_clean_unseen(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="no module of tables among tables_sums"):
        tree.measure(tmp_path, ["tables_sums"])
    with pytest.raises(ToolError, match="2 cells ODDR, which"):
        tree.sort({"LUT6": 4, "ODDR": 2}, "tables_layer1")
    assert tree.sort({"LUT6": 4, "FDRE": 3, "ODDR": 0}, "m") == TreeCells(dsp=0, carry=0, memory=0)
    stat = {"creator": "Yosys 0.70", "design": {"num_cells_by_type": {"SRL16E": 2, "CARRY4": 1}}}
    (tmp_path / "tables_layer3.json").write_text(json.dumps(stat))
    with pytest.raises(VerifyError, match="tables_layer3 has 1 carry, 2 memory"):
        tree.measure(tmp_path, ["tables_layer3"])
    with pytest.raises(ConfigError, match="'xcup'; families: xc7, ecp5"):
        tree.plan({}, "xcup")


def shown(report: schema.Report) -> tuple[str, str]:
    """The table of a terminal, and the page."""
    console = Console(width=160, file=io.StringIO())
    console.print(terminal.numbers(report))
    return console.file.getvalue(), page.render(report, {})  # type: ignore[attr-defined]


def test_every_report_of_tables_says_it(tmp_path: Path) -> None:
    found = Tree(kind="post-synthesis estimate", tool="Yosys 9.9", modules=["tables_layer1"], dsp=0,
                 carry=0, memory=0, sums=TreeCells(dsp=0, carry=1234, memory=0))  # fmt: skip
    body = {**run(), "tree": found.model_dump(mode="json")}
    report = schema.Report.model_validate(body)
    schema.write(report, tmp_path / "report.json")
    assert schema.read(tmp_path / "report.json").tree == found
    table, html = shown(report)
    lines = table.splitlines()
    own = next(line for line in lines if line.startswith("DSP, carry, memory of trees"))
    assert "0, 0, 0" in own and "post-synthesis estimate" in own
    apart = next(line for line in lines if line.startswith("the same of sums, apart"))
    assert "0, 1,234, 0" in apart
    assert "sums apart: 0, 1,234, 0" in html and "carry of sums" in html and "Yosys" in html


def test_a_report_without_the_count_says_why() -> None:
    report = schema.Report.model_validate({**run(), "tree": {"reason": "the stage did not run"}})
    table, html = shown(report)
    line = next(line for line in table.splitlines() if line.startswith("DSP, carry, memory"))
    assert "not measured" in line and "the stage did not run" in line
    assert "the stage did not run" in html
    with pytest.raises(ValidationError, match="a null number needs a reason"):
        Tree(kind="post-synthesis estimate", tool="Yosys 9.9", modules=[], dsp=0, carry=None,
             memory=0)  # fmt: skip


def test_networks_for_the_engine_have_no_such_line() -> None:
    report = schema.Report.model_validate(run())
    assert "tree" not in report.model_dump(mode="json", by_alias=True)
    table, html = shown(report)
    assert "of trees" not in table and "of the trees" not in html
