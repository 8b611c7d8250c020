# SPDX-License-Identifier: Apache-2.0
"""The Vivado project is complete Tcl, and a mock Vivado is driven."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from hwflow import boards, resources
from hwflow.boards import Board
from hwflow.errors import ConfigError, ToolError
from hwflow.plan import execute
from hwflow.report.readers import vivado as reports
from hwflow.toolchain import vivado, yosys

DATA = Path(__file__).parent / "data"
needs_tclsh = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed")

MOCK = """#!{python}
import os, shutil, subprocess, sys
if "-version" in sys.argv:
    print("vivado v2022.2 (64-bit)")
    raise SystemExit
assert sys.argv[1:5] == ["-mode", "batch", "-nojournal", "-notrace"], sys.argv
extra = sys.argv[sys.argv.index("-tclargs") + 1:] if "-tclargs" in sys.argv else []
words = ["tclsh", "{check}", "build.tcl", "150.0", "{slack}", "calls.txt", *extra]
code = subprocess.run(words).returncode
if code == 0:
    shutil.copy("{data}/vivado_utilisation.txt", "utilisation.rpt")
    shutil.copy("{data}/vivado_timing.txt", "timing.rpt")
raise SystemExit(code)
"""


@pytest.fixture
def board() -> Board:
    return boards.load("pynq-z2")


@pytest.fixture
def project(board: Board) -> dict[str, str | bytes]:
    folder = resources.path("hdl")
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*.sv"))}
    return vivado.project(files, board, yosys.parameters(board), "codenet_b")


def test_the_project_holds_the_board_and_every_source(
    board: Board, project: dict[str, str | bytes]
) -> None:
    script = str(project["build.tcl"])
    assert "-part xc7z020clg400-1 " in script
    for key, value in board.ps7.items():
        assert f"CONFIG.{key} {{{value}}}" in script
    assert "CONFIG.PCW_FCLK0_PERIPHERAL_CLKSRC {DDR PLL}" in script
    assert "CONFIG.PCW_S_AXI_HP0_DATA_WIDTH {64}" in script
    named = set(re.findall(r"lappend sources \[file join \$here (\S+)\]", script))
    assert named == {n for n in project if n.endswith((".sv", ".v"))}
    assert "never run in Vivado" in script
    assert not re.search(r"[{]%|%[}]|[{][{]", script)
    assert str(resources.path("hdl").parent) not in script


@needs_tclsh
@pytest.mark.parametrize("name", ["run", "a run, {two} words"])
def test_the_script_runs_with_stub_commands(
    board: Board, project: dict[str, str | bytes], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    execute(vivado.check_plan(project, board), folder)
    calls = (folder / "calls.txt").read_text()
    for call in (
        "connect_bd_intf_net engine/m_axi memory/S00_AXI",
        "connect_bd_intf_net memory/M00_AXI ps7/S_AXI_HP0",
        "connect_bd_intf_net control/M00_AXI engine/s_axil",
        "connect_bd_net engine/irq ps7/IRQ_F2P",
        "launch_runs impl_1 -to_step write_bitstream",
    ):
        assert call in calls
    assert (folder / "codenet_b.bit").is_file()
    assert (folder / "codenet_b.hwh").is_file()


@needs_tclsh
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("validate_bd_design", "validate_design", "invalid command name"),
        ("engine/irq", "engine/interrupt", "no pin interrupt"),
        ("ps7/S_AXI_HP0]\n\nassign", "ps7/S_AXI_HP1]\n\nassign", "no pin S_AXI_HP1"),
        ("get_bd_pins reset/ext_reset_in", "get_bd_pins rst/ext_reset_in", "no cell rst"),
        ("connect_bd_intf_net [get_bd_intf_pins engine/m_axi]", "#", "is not connected"),
        ("hdl/shell/engine_axi.sv]", "hdl/shell/engine_axis.sv]", "does not exist"),
        ("set name ", "set nome ", "can't read \"name\""),
        ("abs($generated - 150.0)", "abs($generated - 142.857)", "FCLK_CLK0 is 150.0 MHz"),
    ],
)
def test_the_check_finds_mistakes(
    board: Board, project: dict[str, str | bytes], tmp_path: Path,
    old: str, new: str, message: str,
) -> None:
    script = str(project["build.tcl"])
    assert old in script
    with pytest.raises(ToolError, match=re.escape(message)):
        execute(
            vivado.check_plan({**project, "build.tcl": script.replace(old, new, 1)}, board),
            tmp_path,
        )


@needs_tclsh
def test_negative_slack_is_a_failure_unless_allowed(
    board: Board, project: dict[str, str | bytes], tmp_path: Path
) -> None:
    with pytest.raises(ToolError, match=r"timing is not met at 150\.0 MHz"):
        execute(vivado.check_plan(project, board, slack_ns=-0.2), tmp_path)


def install_mock(folder: Path, monkeypatch: pytest.MonkeyPatch, slack: float = 0.1) -> None:
    folder.mkdir()
    check = resources.path("hdl").parent / "hwflow/toolchain/templates/vivado_check.tcl"
    tool = folder / "vivado"
    tool.write_text(MOCK.format(python=sys.executable, check=check, slack=slack, data=DATA))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@needs_tclsh
def test_vivado_is_run_and_its_reports_are_read(
    board: Board, project: dict[str, str | bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_mock(tmp_path / "bin", monkeypatch)
    done = execute(vivado.plan(project, "codenet_b"), tmp_path / "run")
    assert done.versions == {"vivado": "vivado v2022.2 (64-bit)"}
    used = reports.utilisation((tmp_path / "run/utilisation.rpt").read_text())
    assert used.kind == "post-route"
    assert execute(vivado.plan(project, "codenet_b"), tmp_path / "run").skipped


@needs_tclsh
@pytest.mark.parametrize("allow", [False, True])
def test_vivado_run_that_misses_timing(
    project: dict[str, str | bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow: bool
) -> None:
    install_mock(tmp_path / "bin", monkeypatch, slack=-0.3)
    plan = vivado.plan(project, "codenet_b", allow)
    if allow:
        execute(plan, tmp_path / "run")
        assert "timing is not met" in (tmp_path / "run/vivado_run.log").read_text()
    else:
        with pytest.raises(ToolError, match="timing is not met"):
            execute(plan, tmp_path / "run")
        assert not (tmp_path / "run/codenet_b.bit").exists()


def test_missing_vivado(
    project: dict[str, str | bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="'vivado' was not found on PATH"):
        execute(vivado.plan(project, "codenet_b"), tmp_path / "run")


def test_the_wrapper_fits_the_core(board: Board, tmp_path: Path) -> None:
    files = yosys.sources()
    core = files.get("shell/engine_axi.sv", resources.path("hdl") / "shell/engine_axi.sv")
    text = vivado.wrapper(core.read_text(), board, {"ACT_WORDS": 64})
    ports = re.findall(r"^\s*\.(\w+)\(\1\)", text, re.MULTILINE)
    declared = re.findall(r"logic\s+(?:\[\d+:0\]\s*)?(\w+),?\s*$",
                          core.read_text().split(");")[0], re.MULTILINE)
    assert ports[:3] == ["aclk", "aresetn", "irq"]
    assert sorted(ports) == sorted(declared)
    assert text.count("X_INTERFACE_PARAMETER") == 5
    assert "ACT_WORDS(64)" in text


def test_wrapper_refuses_what_it_does_not_know(board: Board) -> None:
    with pytest.raises(ToolError, match="the port led belongs to no interface"):
        vivado.wrapper("    output logic led\n", board, {})
    with pytest.raises(ToolError, match="no port aresetn"):
        vivado.wrapper("  input wire logic aclk,\n  output logic irq,\n", board, {})


def test_a_board_setting_may_not_contradict(board: Board) -> None:
    other = board.model_copy(update={"ps7": {**board.ps7, "PCW_USE_S_AXI_HP0": 0}})
    with pytest.raises(ConfigError, match=r"ps7\.PCW_USE_S_AXI_HP0 is set by hwflow"):
        vivado.ps7_settings(other)


@needs_tclsh
def test_a_core_without_a_master_reaches_no_memory(tmp_path: Path) -> None:
    """The shell of table networks: registers only; the Tcl names no port of the memory."""
    board = boards.load("pynq-z2")
    package = tmp_path / "tables_pkg.sv"
    package.write_text("package tables_pkg;\n  localparam int unsigned PIXELS = 9;\nendpackage\n")
    hdl = resources.path("hdl")
    files = {
        "tables_pkg.sv": package, "lib/fifo.sv": hdl / "lib/fifo.sv",
        "tables/tables_axis.sv": hdl / "tables/tables_axis.sv",
        "shell/tables_axil.sv": hdl / "shell/tables_axil.sv",
    }
    made = vivado.project(files, board, {}, "dtnn_small", vivado.TABLES_CORE)
    top, script = str(made["engine_top.v"]), str(made["build.tcl"])
    assert "ASSOCIATED_BUSIF s_axil," in top
    assert "tables_axil u_core (" in top
    assert "m_axi" not in top + script and "HP0" not in script
    execute(vivado.check_plan(made, board), tmp_path / "check")
    calls = (tmp_path / "check" / "calls.txt").read_text()
    assert "M_AXI_GP0" in calls and "S_AXI_HP0" not in calls
