# SPDX-License-Identifier: Apache-2.0
"""Synthesis plans, the meaning of cell counts, and what happens to designs that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwflow import boards
from hwflow.boards import Board
from hwflow.errors import ConfigError, ResourceError, ToolError
from hwflow.plan import execute
from hwflow.toolchain import yosys
from hwflow.toolchain.render import render

DATA = Path(__file__).parent / "data"
ADDER = """// SPDX-License-Identifier: Apache-2.0
`default_nettype none
module delay #(parameter int unsigned WIDTH = 4) (
    input wire logic clk, input wire logic [WIDTH-1:0] a, output logic [WIDTH-1:0] y
);
  always_ff @(posedge clk) y <= ~a;
endmodule
`default_nettype wire
"""


@pytest.fixture
def board() -> Board:
    return boards.load("pynq-z2")


def stat(**cells: int) -> str:
    return json.dumps({"design": {"num_cells_by_type": cells}})


def test_counts_of_a_real_run(board: Board) -> None:
    # tests/data/yosys_stat.json: Yosys 0.70 on a 32 x 36 bit LUT RAM fifo.
    text = (DATA / "yosys_stat.json").read_text()
    cells = json.loads(text)["design"]["num_cells_by_type"]
    found = yosys.count(text, board)
    luts = sum(n for name, n in cells.items() if name.startswith("LUT"))
    assert found.lut is not None
    assert found.lut.used == luts + cells["INV"] + 4 * cells["RAM32M"] == 47
    assert found.ff is not None
    assert found.ff.used == cells["FDRE"] == 21
    assert found.kind == "post-synthesis estimate"
    assert found.tool is not None
    assert "0.70" in found.tool


def test_sites_of_each_kind(board: Board) -> None:
    found = yosys.count(
        stat(LUT6=10, LUT1=1, SRL16E=2, SRLC32E=3, RAM64M=2, RAM32X1D=5, RAM64X1D=1, FDRE=7,
             FDSE=1, RAMB36E1=3, RAMB18E1=3, DSP48E1=9, CARRY4=99, MUXF7=5), board
    )
    assert found.lut is not None
    assert found.lut.used == 10 + 1 + 2 + 3 + 8 + 10 + 2
    assert found.ff is not None
    assert found.ff.used == 8
    assert found.bram36 is not None
    assert found.bram36.used == 4.5
    assert found.dsp is not None
    assert found.dsp.used == 9


def test_unknown_cell_is_an_error(board: Board) -> None:
    with pytest.raises(ToolError, match=r"size is not known: \$_DLATCH_P_, URAM288"):
        yosys.count(json.dumps({"design": {"num_cells_by_type": {"URAM288": 1, "$_DLATCH_P_": 2,
                                                                 "LUT2": 1}}}), board)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"design": {"num_cells_by_type": [1]}}'])
def test_unreadable_counts(board: Board, text: str) -> None:
    with pytest.raises(ToolError, match="cannot be read"):
        yosys.count(text, board)


@pytest.mark.parametrize(
    ("cells", "resource"),
    [
        ({"LUT6": 45_221}, "LUT: 45221 used, allowed 85 % of 53200 = 45220"),
        ({"RAMB36E1": 133, "RAMB18E1": 1}, "BRAM36: 133.5 used, allowed 95 % of 140 = 133"),
        ({"DSP48E1": 221}, "DSP: 221 used, allowed 100 % of 220 = 220"),
        ({"FDRE": 90_441}, "FF: 90441 used"),
    ],
)
def test_too_much_names_the_resource(board: Board, cells: dict[str, int], resource: str) -> None:
    with pytest.raises(ResourceError, match=resource) as caught:
        yosys.check_fits(yosys.count(stat(**cells), board), board)
    assert str(caught.value).count("used") == 1


def test_the_limit_itself_fits(board: Board) -> None:
    cells = stat(LUT6=45_220, RAMB36E1=133, DSP48E1=220, FDRE=90_440)
    yosys.check_fits(yosys.count(cells, board), board)


def test_real_synthesis_and_its_errors(board: Board, tmp_path: Path) -> None:
    source = tmp_path / "delay.sv"
    source.write_text(ADDER)
    plan = yosys.plan({"delay.sv": source}, "delay", board, {"WIDTH": 8})
    execute(plan, tmp_path / "run")
    found = yosys.count((tmp_path / "run/stat.json").read_text(), board)
    assert (found.lut, found.ff) == (
        yosys.Used(used=8, available=53_200), yosys.Used(used=8, available=106_400)
    )
    assert execute(plan, tmp_path / "run").skipped
    wrong = yosys.plan({"delay.sv": source}, "delai", board, {})
    with pytest.raises(ToolError, match="Module `delai' not found"):
        execute(wrong, tmp_path / "run")
    source.write_text(ADDER.replace("always_ff @(posedge clk) y <= ~a",
                                    "always_latch if (clk) y = ~a"))
    with pytest.raises(ToolError, match="exit code"):
        execute(yosys.plan({"delay.sv": source}, "delay", board, {}), tmp_path / "run")


def test_plan_is_complete(board: Board, tmp_path: Path) -> None:
    for name in ("b.sv", "a.sv", "rom.hex"):
        (tmp_path / name).write_text("")
    files = {name: tmp_path / name for name in ("b.sv", "a.sv", "rom.hex")}
    plan = yosys.plan(files, "top", board, {"ACT_WORDS": 1024})
    script = str(plan.files["synth.ys"])
    assert script.index("hdl/b.sv") < script.index("hdl/a.sv")  # the order of the list is kept
    assert "rom.hex" not in script
    assert "chparam -set ACT_WORDS 1024 top" in script
    assert set(plan.files) == {"hdl/b.sv", "hdl/a.sv", "hdl/rom.hex", "synth.ys"}
    assert plan.digest() != yosys.plan(files, "top", board, {"ACT_WORDS": 2048}).digest()


def test_unsupported_family(board: Board) -> None:
    other = board.model_copy(update={"family": "magic"})
    with pytest.raises(ConfigError, match="no synthesis for family 'magic'"):
        yosys.plan({}, "top", other, {})


def test_sources_must_exist(tmp_path: Path) -> None:
    listing = tmp_path / "engine.f"
    with pytest.raises(ConfigError, match="is missing"):
        yosys.sources(listing)
    listing.write_text("// comment\n\nnot/there.sv\n")
    with pytest.raises(ConfigError, match=r"lists not/there\.sv"):
        yosys.sources(listing)


def test_open_hole_is_an_error() -> None:
    with pytest.raises(ToolError, match="'family' is undefined"):
        render("synth_xilinx.ys.j2", top="t", part="p", sources=[], parameters={}, cells=False,
               hwflow_version="0")
