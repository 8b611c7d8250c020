# SPDX-License-Identifier: Apache-2.0
"""What a network of tables has besides tables once it is synthesised: multipliers, carries, memory.

Each generated module is synthesised on its own, by the pass of Yosys for the board's chip, so that
no cell can be taken for one of another part. Sums are the one part that may carry; they are counted
apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwflow.errors import ConfigError, ToolError, VerifyError
from hwflow.plan import PYTHON, Command, Plan
from hwflow.report.readers import yosys as reader
from hwflow.report.schema import Tree, TreeCells
from hwflow.toolchain import yosys

SUMS = "tables_sums"
PASSES: Mapping[str, str] = {
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf", "ecp5": "synth_ecp5",
    "ice40": "synth_ice40", "gowin": "synth_gowin -noiopads",
}
# Tables, wide multiplexers, flip-flops, constants: what a tree is made of.
PLAIN = re.compile(
    r"LUT[1-6]|LUT6_2|SB_LUT4|INV|MUXF[78]|PFUMX|L6MUX21|MUX2_LUT[5-8]"
    r"|FD[RSCP]E(_1)?|TRELLIS_FF|SB_DFFN?(E?(SR|R|SS|S)?)|DFFN?[A-Z]*|GND|VCC|GSR|\$scopeinfo"
)
KINDS: Mapping[str, re.Pattern[str]] = {
    "dsp": re.compile(r"DSP\w*|MULT\w*|PADD\w*|ALU(24|54)\w*|SB_MAC16"),
    "carry": re.compile(r"CARRY[48]|CCU2C|SB_CARRY|ALU|MUXCY|XORCY"),
    "memory": re.compile(
        r"RAM\w*|SRL\w*|URAM\w*|DP16KD|PDPW16KD|TRELLIS_(DPR|RAM)\w*|SB_(SP)?RAM\w*"
        r"|SPX?9?|SDPX?9?B?|DPX?9?B|p?r?ROMX?9?"
    ),
}


def plan(modules: Mapping[str, str], family: str) -> Plan:
    """Cells of each module: NAME.json (Yosys' `stat -json`) for every NAME.sv.

    modules: SystemVerilog by file name, of modules that instantiate only cells of the chip.
    """
    if family not in PASSES:
        raise ConfigError(f"no synthesis of tables for family {family!r}; families: "
                          f"{', '.join(PASSES)}")
    lines = []
    for file in modules:
        name = Path(file).stem
        lines += [f"read_verilog -sv {file}", f"{PASSES[family]} -top {name}",
                  f"tee -q -o {name}.json stat -json", "design -reset"]
    command = Command((PYTHON, "-m", "hwflow.toolchain.yosys_run", "parts.ys"), "parts.log",
                      timeout_s=1800.0, version=yosys.version())
    return Plan({**modules, "parts.ys": "\n".join(lines) + "\n"}, (command,),
                tuple(f"{Path(file).stem}.json" for file in modules), "tree")


def sort(cells: Mapping[str, int], module: str) -> TreeCells:
    """Cells by kind; one that is neither part of a tree nor of a kind is an error, never free."""
    found = dict.fromkeys(KINDS, 0)
    for name, count in cells.items():
        kind = next((kind for kind, names in KINDS.items() if names.fullmatch(name)), None)
        if kind is not None:
            found[kind] += count
        elif count and not PLAIN.fullmatch(name):
            raise ToolError(f"{module}: {count} cells {name}, which hwflow/toolchain/tree.py does "
                            "not know; say there whether they carry, multiply or hold memory")
    return TreeCells(**found)


def measure(folder: Path, modules: Sequence[str]) -> Tree:
    """The counts that `plan` left in a folder.

    modules: names of the generated ones, the sums among them or not. VerifyError names what a tree
    must not have.
    """
    trees = [name for name in modules if name != SUMS]
    if not any(re.fullmatch(r"tables_layer\d+", name) for name in trees):
        raise VerifyError(f"no module of tables among {', '.join(modules) or 'none'}: nothing "
                          "shows what the network is made of; build again")
    counted = {name: sort(reader.cells((folder / f"{name}.json").read_text()), name)
               for name in modules}
    wrong = [
        f"{name} has {', '.join(f'{n} {kind}' for kind, n in had.items() if n)}"
        for name in trees if any((had := counted[name].model_dump()).values())
    ]
    if wrong:
        raise VerifyError(
            f"outside of its sums a network of tables has no multiplier, carry or memory, but "
            f"{'; '.join(wrong)} (cells by {yosys.version()}); this is a fault of the emitter: "
            "please report it"
        )
    total = {kind: sum(getattr(counted[name], kind) for name in trees) for kind in KINDS}
    return Tree(kind=reader.KIND, tool=yosys.version(), modules=trees, **total,
                sums=counted.get(SUMS))
