# SPDX-License-Identifier: Apache-2.0
"""Board files are read strictly; every wrong one is answered with file and key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hwflow import boards, resources
from hwflow.emit import isa
from hwflow.errors import ConfigError
from hwflow.sim.ddr import Ddr
from hwflow.toolchain import yosys

TEXT = (resources.path("boards") / "pynq-z2.toml").read_text()


@pytest.mark.parametrize("name", boards.names())
def test_every_board_reads(name: str) -> None:
    board = boards.load(name)
    assert board.name == name
    assert board.clock.pll_mhz / board.clock.divider == board.clock.mhz


def test_pynq_z2_is_the_data_sheet() -> None:
    board = boards.load("pynq-z2")
    assert board.part == "xc7z020clg400-1"
    sizes = board.resources
    assert (sizes.lut, sizes.ff, sizes.bram36, sizes.dsp) == (53_200, 106_400, 140, 220)
    assert board.clock.mhz == 150.0
    assert board.bytes_per_cycle == 7.0
    assert board.ps7["PCW_UIPARAM_DDR_FREQ_MHZ"] == 525


@pytest.mark.parametrize("name", boards.names())
def test_a_board_can_be_built_for_or_says_why_not(name: str) -> None:
    """Who names a toolchain has the array of the RTL, and everything the toolchain needs."""
    board = boards.load(name)
    assert board.engine.columns * board.engine.pixels // 2 <= board.resources.dsp
    if board.toolchain == "none":
        assert board.why_not is not None
        assert f"board {name} is for estimates only" in board.why_not
        assert "hwflow estimate" in board.why_not
        return
    assert board.why_not is None
    assert (board.engine.columns, board.engine.pixels) == (isa.TILE_OC, isa.LANES)
    assert board.family in yosys.CELLS
    assert board.shell == "zynq7"
    assert board.ps7


def test_the_array_of_the_rtl_is_the_compiler_s() -> None:
    assert (boards.RTL_COLUMNS, boards.RTL_PIXELS) == (isa.TILE_OC, isa.LANES)


def test_ultra96_is_the_paper_s_board() -> None:
    board = boards.load("ultra96")
    sizes = board.resources
    assert (sizes.lut, sizes.ff, sizes.bram36, sizes.dsp) == (70_560, 141_120, 216, 360)
    assert board.part.startswith("xczu3eg-sbva484-1")
    (paper,) = board.others
    assert paper.mhz == board.clock.mhz == 250.0
    # The shares that the paper states: 48.4, 29.6, 100 and 100 percent
    shares = [100 * used / there for used, there in (
        (paper.lut, sizes.lut), (paper.ff, sizes.ff), (paper.bram36, sizes.bram36),
        (paper.dsp, sizes.dsp),
    )]
    assert [round(share, 1) for share in shares] == [48.4, 29.6, 100.0, 100.0]


@pytest.mark.parametrize("name", boards.names())
def test_the_simulated_memory_is_the_board_s(name: str) -> None:
    """Every figure reaches the simulator; by hand from the file's text."""
    table = tomllib.loads((resources.path("boards") / f"{name}.toml").read_text())
    memory, mhz = table["memory"], table["clock"]["mhz"]
    ddr = Ddr.of(boards.load(name))
    assert ddr.plusarg == "+ddr=" + ",".join(str(figure) for figure in (
        ddr.rate.numerator, ddr.rate.denominator, memory["latency_cycles"],
        memory["turnaround_cycles"], round(memory["refresh_interval_us"] * mhz),
        memory["refresh_cycles"], memory["outstanding"],
    ))  # fmt: skip
    assert float(ddr.rate) == pytest.approx(min(memory["sustained_mb_s"] / mhz, 8), rel=1e-3)


def test_rates_of_the_memory() -> None:
    """1.05 GB/s is 7 bytes a cycle at 150 MHz, 0.5 GB/s 10/3; 2.1 GB/s is more than the port."""
    board = boards.load("pynq-z2")
    assert Ddr.of(board).plusarg == "+ddr=7,1,40,10,1170,40,8"
    assert Ddr.of(board, 500).plusarg == "+ddr=10,3,40,10,1170,40,8"
    assert Ddr.of(board, 2100).plusarg == "+ddr=8,1,40,10,1170,40,8"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("outstanding = 8", "outstanding = 6", "outstanding is 6.*power of two from 2 to 16"),
        ("outstanding = 8", "outstanding = 32", "outstanding is 32"),
        ("burst_beats = 16", "burst_beats = 8", "bursts of 8 beats"),
        ("port_bits = 64", "port_bits = 32", "a port of 32 bits"),
        ("latency_cycles = 40", "latency_cycles = 2", "latency 2"),
        ("turnaround_cycles = 10", "turnaround_cycles = 256", "turnaround 256"),
        ("refresh_cycles = 40", "refresh_cycles = 1170", "refreshes of 1170 cycles every 1170"),
        ("sustained_mb_s = 1050.0", "sustained_mb_s = 0.01", "6.66667e-05 bytes a cycle"),
    ],
)
def test_memories_that_cannot_be_simulated(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert TEXT.count(old) == 1
    board = boards.read(write(tmp_path, TEXT.replace(old, new)))
    with pytest.raises(ConfigError, match=message):
        Ddr.of(board)


def write(tmp_path: Path, text: str, name: str = "pynq-z2") -> Path:
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lut = 53200\n", "", r"key resources\.lut is missing"),
        ("lut = 53200\n", "lut = 53200\nluts = 1\n", r"key resources\.luts is unknown"),
        ('title = "TUL PYNQ-Z2"', 'title = "x"\ncolour = "red"', "key colour is unknown"),
        ("lut = 53200", 'lut = "many"', r"key resources\.lut: .*integer.*got 'many'"),
        ("lut = 53200", "lut = 53200.0", r"key resources\.lut: .*integer.*got 53200\.0"),
        ("lut = 53200", "lut = -1", r"key resources\.lut: .*greater than 0.*got -1"),
        ("port_bits = 64", "port_bits = 48", r"key memory\.port_bits: .*32, 64 or 128.*got 48"),
        ("mhz = 150.0", "mhz = true", r"key clock\.mhz"),
        ("mhz = 150.0", "mhz = 166.0", "gives 150 MHz, but mhz says 166"),
        ("lut_percent = 85", "lut_percent = 101", r"key limits\.lut_percent.*got 101"),
        ('toolchain = "vivado"', 'toolchain = "magic"', "toolchain 'magic' has no module"),
        ("PCW_UIPARAM_DDR_CL = 7", "DDR_CL = 7", r"ps7\.DDR_CL is not a PS7 property"),
        ("PCW_UIPARAM_DDR_CL = 7", "PCW_UIPARAM_DDR_CL = [7]", "PCW_UIPARAM_DDR_CL"),
        ('name = "pynq-z2"', 'name = "other"', "name is 'other'; it must be that of the file"),
        ("lut = 53200", "lut = 53200\nlut = 1", "is not TOML"),
        ("[resources]", "[resources", "is not TOML"),
        ("columns = 24", "columns = 44", "array of 24 columns by 16 pixels, not 44 by 16"),
        ("columns = 24", "columns = 23", r"key engine\.columns: .*multiple of 2.*got 23"),
        ("pixels = 16", "pixels = 32", r"key engine\.pixels: .*16.*got 32"),
        ('toolchain = "vivado"', 'toolchain = "none"', "belong together"),
        ('shell = "zynq7"', 'shell = "none"', "belong together"),
        ('shell = "zynq7"', 'shell = "zynq7"\nestimate_only = "x"', "belong together"),
    ],
)
def test_wrong_files_name_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert TEXT.count(old) >= 1
    path = write(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        boards.read(path)
    assert str(path) in str(caught.value)


def test_all_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.replace("lut = 53200", "lots = 1").replace("dsp = 220", "dsp = 0"))
    with pytest.raises(ConfigError, match=r"resources\.lut .*resources\.dsp.*resources\.lots"):
        boards.read(path)


def test_unknown_board_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"board 'zedboard' is not known; boards: .*pynq-z2"):
        boards.load("zedboard")


def test_a_new_board_is_only_a_file(tmp_path: Path) -> None:
    write(tmp_path, TEXT.replace('name = "pynq-z2"', 'name = "mine"'), "mine")
    assert boards.names(tmp_path) == ("mine",)
    assert boards.load("mine", tmp_path).part == "xc7z020clg400-1"


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        boards.read(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        boards.read(tmp_path / "b.toml")


def test_resources_refuses_unknown_folders() -> None:
    with pytest.raises(ConfigError, match="'tests' is missing"):
        resources.path("tests")
