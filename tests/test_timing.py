# SPDX-License-Identifier: Apache-2.0
"""Pre-route timing: paths of small netlists against sums made by hand from docs/timing.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwflow.errors import ToolError
from hwflow.toolchain import timing


def cell(kind: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]],
         **parameters: str) -> dict[str, Any]:
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    return {"type": kind, "connections": inputs | outputs, "port_directions": directions,
            "parameters": parameters}


def ff(d: int, q: int) -> dict[str, Any]:
    return cell("FDRE", {"C": [1], "CE": ["1"], "R": ["0"], "D": [d]}, {"Q": [q]})


def module(cells: dict[str, Any], names: dict[str, list[int]]) -> dict[str, Any]:
    return {"cells": cells, "ports": {},
            "netnames": {name: {"bits": bits, "hide_name": 0} for name, bits in names.items()}}


def test_a_lut_between_registers() -> None:
    # 0.52 out, 0.50 + 0.10 of a wire to two places, 0.124, no wire to the flip-flop behind it,
    # 0.05 before the clock, 0.20
    lut = cell("LUT2", {"I0": [2], "I1": [2]}, {"O": [3]})
    found = timing.estimate(module({"a": ff(9, 2), "l": lut, "b": ff(3, 4)},
                                   {"u.a_q": [2], "u.b_q": [4]}))
    assert found.worst.ns == pytest.approx(0.52 + 0.60 + 0.124 + 0.05 + 0.20)
    assert (found.worst.start, found.worst.end, found.worst.levels) == ("u.a_q", "u.b_q.D", 1)
    assert found.fmax_mhz == pytest.approx(1000 / found.worst.ns)


def test_the_slower_of_two_and_fanout() -> None:
    # The register goes to the enables of 64 others: 0.50 + 0.60 is more than 1.00, the most
    others = {f"f{i}": cell("FDRE", {"C": [1], "CE": [2], "R": ["0"], "D": [9]}, {"Q": [100 + i]})
              for i in range(64)}
    found = timing.estimate(module({"a": ff(9, 2), **others}, {"en_q": [2], "data_q": [100]}))
    assert found.worst.ns == pytest.approx(0.52 + 1.00 + 0.21 + 0.20)
    assert found.worst.end.endswith(".CE")


def test_carry_runs_within_its_slices() -> None:
    # Into S of the first bit, out of CO[3], through the next slice's CI into O[3]
    first = cell("CARRY4", {"CI": ["0"], "CYINIT": ["0"], "S": [2, "0", "0", "0"],
                            "DI": ["0", "0", "0", "0"]},
                 {"CO": [10, 11, 12, 13], "O": [20, 21, 22, 23]})
    second = cell("CARRY4", {"CI": [13], "CYINIT": ["0"], "S": ["0"] * 4, "DI": ["0"] * 4},
                  {"CO": [14, 15, 16, 17], "O": [24, 25, 26, 27]})
    found = timing.estimate(module({"a": ff(9, 2), "c": first, "d": second, "b": ff(27, 4)},
                                   {"a_q": [2], "b_q": [4]}))
    assert found.worst.ns == pytest.approx(0.52 + 0.550 + 0.313 + 0.05 + 0.20)


@pytest.mark.parametrize(("register", "ns"), [("0", 2.45), ("1", 0.88)])
def test_block_ram_with_and_without_its_register(register: str, ns: float) -> None:
    ram = cell("RAMB36E1", {"CLKARDCLK": [1], "ADDRARDADDR": ["0"]}, {"DOADO": [6]},
               DOA_REG=register)
    found = timing.estimate(module({"r": ram, "b": ff(6, 4)}, {"b_q": [4]}))
    assert found.worst.ns == pytest.approx(ns + 0.05 + 0.20)


def test_what_cannot_be_timed() -> None:
    with pytest.raises(ToolError, match="no delays are known for the cell URAM288"):
        timing.estimate(module({"x": cell("URAM288", {"A": [2]}, {"O": [3]})}, {}))
    loop = {"l": cell("LUT1", {"I0": [3]}, {"O": [2]}), "m": cell("LUT1", {"I0": [2]}, {"O": [3]})}
    with pytest.raises(ToolError, match="loop without a register"):
        timing.estimate(module(loop, {}))
    with pytest.raises(ToolError, match="nothing can be timed"):
        timing.estimate(module({}, {}))


def test_the_command_leaves_the_result_and_not_the_netlist(tmp_path: Path) -> None:
    netlist, result = tmp_path / "netlist.json", tmp_path / "timing.json"
    netlist.write_text(json.dumps({"modules": {"t": module({"a": ff(2, 2)}, {"a_q": [2]})}}))
    with pytest.raises(ToolError, match="no module other"):
        timing.load(netlist, "other")
    assert timing.main([str(netlist), "t", str(result)]) == 0
    # Its own output, through no LUT, into its own data input
    assert json.loads(result.read_text())["fmax_mhz"] == round(1000 / (0.52 + 0.05 + 0.20), 1)
    assert not netlist.exists()


def test_a_memory_of_lookup_tables_is_read() -> None:
    # Bit 6 of the address selects at the mux behind two LUTs and passes the next one
    ram = cell("RAM128X1S", {"A6": [2], "D": [9], "WE": ["1"], "WCLK": [1]}, {"O": [3]})
    found = timing.estimate(module({"a": ff(9, 2), "m": ram, "b": ff(3, 4)},
                                   {"a_q": [2], "b_q": [4]}))
    assert found.worst.ns == pytest.approx(0.52 + 0.50 + 0.30 + 0.11 + 0.05 + 0.20)
    assert (found.worst.start, found.worst.end) == ("a_q", "b_q.D")
    # what is read from it is late: longer than a register's 0.52
    alone = timing.estimate(module({"m": ram, "b": ff(3, 4)}, {"b_q": [4]}))
    assert alone.worst.ns == pytest.approx(1.32 + 0.05 + 0.20)
