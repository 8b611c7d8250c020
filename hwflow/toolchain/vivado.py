# SPDX-License-Identifier: Apache-2.0
"""Vivado: a complete project as Tcl, and its check without Vivado."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import hwflow
from hwflow.boards import Board
from hwflow.errors import ConfigError, ToolError
from hwflow.plan import Command, Plan
from hwflow.toolchain.render import render

PROGRAM = "vivado"
CORE = "engine_axi"
TABLES_CORE = "tables_axil"
TOP = "engine_top"  # its plain Verilog wrapper: a block design takes no SystemVerilog as its cell
REGISTER_BASE = 0x43C00000  # of the engine's registers on the processor's GP0 port
_PORT = re.compile(
    r"^\s*(input|output)\s+(?:wire\s+)?logic\s+(?:\[(\d+):0\]\s*)?(\w+)\s*,?\s*(?://.*)?$",
    re.MULTILINE,
)
NEVER_RUN = "checked with stub commands under tclsh; never run in Vivado"


def ps7_settings(board: Board, master: bool = True) -> dict[str, str]:
    """All settings of the processing system: the board's own and those the core needs.

    master: the core reaches the memory.
    """
    port = {"PCW_USE_S_AXI_HP0": 1, "PCW_S_AXI_HP0_DATA_WIDTH": board.ddr.port_bits}
    engine = {
        "PCW_USE_M_AXI_GP0": 1,
        **(port if master else {}),
        "PCW_USE_FABRIC_INTERRUPT": 1,
        "PCW_IRQ_F2P_INTR": 1,
        "PCW_EN_CLK0_PORT": 1,
        "PCW_EN_RST0_PORT": 1,
        "PCW_FCLK0_PERIPHERAL_CLKSRC": board.clock.pll,
        "PCW_FPGA0_PERIPHERAL_FREQMHZ": board.clock.mhz,
        "PCW_FCLK_CLK0_BUF": "TRUE",
    }
    twice = sorted(engine.keys() & board.ps7.keys())
    if twice:
        raise ConfigError(
            f"boards/{board.name}.toml: ps7.{twice[0]} is set by hwflow; remove it from [ps7]"
        )
    return {key: str(value) for key, value in {**board.ps7, **engine}.items()}


def project(
    files: Mapping[str, Path], board: Board, values: Mapping[str, int], name: str,
    core: str = CORE,
) -> dict[str, str | bytes]:
    """Files of the project: build.tcl, constraints, the wrapper and the sources below hdl/.

    core: the module with `s_axil` and `irq`, and with or without `m_axi`, that is made the system.
    """
    if board.shell != "zynq7":
        raise ConfigError(
            f"board {board.name}: shell {board.shell!r} has no Vivado project; shells: zynq7"
        )
    packed: dict[str, str | bytes] = {f"hdl/{n}": path.read_bytes() for n, path in files.items()}
    text = _core(files, core)
    master = "m_axi_" in text
    packed[f"{TOP}.v"] = wrapper(text, board, values, core)
    packed["hwflow.xdc"] = render("vivado.xdc.j2", board=board, name=name)
    packed["build.tcl"] = render(
        "vivado_build.tcl.j2", board=board, name=name, top=TOP,
        ps7=ps7_settings(board, master), master=master,
        sources=[n for n in packed if n.endswith((".v", ".sv"))],
        register_base=f"0x{REGISTER_BASE:08X}", hwflow_version=hwflow.__version__,
    )
    return packed


def wrapper(text: str, board: Board, values: Mapping[str, int], core: str = CORE) -> str:
    """Plain Verilog around the core whose SystemVerilog text is given."""
    ports: list[dict[str, str]] = []
    seen = set()
    for direction, msb, name in _PORT.findall(text):
        seen.add(name)
        if name in ("aclk", "aresetn", "irq"):
            continue
        bus, _, signal = name.rpartition("_")
        if bus not in ("s_axil", "m_axi"):
            raise ToolError(f"{core}: the port {name} belongs to no interface the shell knows")
        first = f"{bus}_" not in " ".join(port["name"] for port in ports)
        protocol = "AXI4LITE" if bus == "s_axil" else (
            f"AXI4, MAX_BURST_LENGTH {board.ddr.burst_beats}, SUPPORTS_NARROW_BURST 0, "
            f"NUM_READ_OUTSTANDING {board.ddr.outstanding}, "
            f"NUM_WRITE_OUTSTANDING {board.ddr.outstanding}"
        )
        ports.append({
            "name": name,
            "direction": direction,
            "range": f"[{msb}:0] " if msb else "",
            "interface": f"xilinx.com:interface:aximm_rtl:1.0 {bus} {signal.upper()}",
            "parameter": f"PROTOCOL {protocol}" if first else "",
        })
    missing = {"aclk", "aresetn", "irq"} - seen
    if missing or not ports:
        raise ToolError(f"{core}: no port {', '.join(sorted(missing)) or 's_axil_*, m_axi_*'}")
    return render(
        "engine_top.v.j2", top=TOP, core=core, parameters=dict(values), ports=ports,
        buses=":".join(dict.fromkeys(port["name"].rpartition("_")[0] for port in ports)),
    )


def _core(files: Mapping[str, Path], core: str) -> str:
    for name, path in files.items():
        if Path(name).name == f"{core}.sv":
            return path.read_text()
    raise ConfigError(f"the list of sources has no {core}.sv, the module a system is made of")


def check_plan(files: Mapping[str, str | bytes], board: Board, slack_ns: float = 0.1) -> Plan:
    """Run build.tcl under tclsh with stub commands; product calls.txt, the calls it made."""
    stubs = Path(__file__).parent / "templates" / "vivado_check.tcl"
    command = Command(
        ("tclsh", "check.tcl", "build.tcl", str(board.clock.mhz), str(slack_ns), "calls.txt"),
        "check.log", timeout_s=60.0,
    )
    return Plan(
        {**files, "check.tcl": stubs.read_text()}, (command,), ("calls.txt",), "vivado-check"
    )


def plan(files: Mapping[str, str | bytes], name: str, allow_negative_slack: bool = False) -> Plan:
    """Build the bitstream. Products: NAME.bit, NAME.hwh, utilisation.rpt, timing.rpt."""
    words = [PROGRAM, "-mode", "batch", "-nojournal", "-notrace", "-source", "build.tcl"]
    if allow_negative_slack:
        words += ["-tclargs", "allow_negative_slack"]
    command = Command(
        tuple(words), "vivado_run.log", timeout_s=6 * 3600.0, version=(PROGRAM, "-version")
    )
    products = (f"{name}.bit", f"{name}.hwh", "utilisation.rpt", "timing.rpt")
    return Plan(files, (command,), products, "vivado")
