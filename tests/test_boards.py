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
from hwflow.stages import hardware
from hwflow.toolchain import yosys

TEXT = (resources.path("boards") / "pynq-z2.toml").read_text()


@pytest.mark.parametrize("name", boards.names())
def test_every_board_reads(name: str) -> None:
    board = boards.load(name)
    assert board.name == name
    assert board.clock.pll_mhz / board.clock.divider == board.clock.mhz
    assert {"zynq7": "vivado", "uart": "nextpnr", "none": "none"}[board.shell] == board.toolchain


def test_pynq_z2_is_the_data_sheet() -> None:
    board = boards.load("pynq-z2")
    assert board.part == "xc7z020clg400-1"
    sizes = board.resources
    assert (sizes.lut, sizes.ff, sizes.bram36, sizes.dsp) == (53_200, 106_400, 140, 220)
    assert board.clock.mhz == 150.0
    assert board.bytes_per_cycle == 7.0
    assert board.ps7["PCW_UIPARAM_DDR_FREQ_MHZ"] == 525


ENGINE = [name for name in boards.names() if boards.load(name).shell != "uart"]
OPEN = boards.of_shell("uart")


@pytest.mark.parametrize("name", ENGINE)
def test_a_board_can_be_built_for_or_says_why_not(name: str) -> None:
    """Who names a toolchain has the array of the RTL, and everything the toolchain needs."""
    board = boards.load(name)
    assert board.engine_size.columns * board.engine_size.pixels // 2 <= board.resources.dsp
    if board.toolchain == "none":
        assert board.why_not is not None
        assert f"board {name} is for estimates only" in board.why_not
        assert "hwflow estimate" in board.why_not
        return
    assert board.why_not is None
    assert (board.engine_size.columns, board.engine_size.pixels) == (isa.TILE_OC, isa.LANES)
    assert board.family in yosys.CELLS
    assert board.shell == "zynq7"
    assert board.ps7
    with pytest.raises(ConfigError, match=f"board {name} is not built by open tools .*ulx3s-85f"):
        _ = board.open


@pytest.mark.parametrize("name", OPEN)
def test_a_board_without_an_engine_says_so(name: str) -> None:
    board = boards.load(name)
    assert board.why_not is None
    for ask in (lambda: board.engine_size, lambda: board.ddr, lambda: board.bytes_per_cycle,
                lambda: hardware.engine_params(board), lambda: yosys.parameters(board)):
        with pytest.raises(ConfigError, match=f"board {name} is for networks of tables.*pynq-z2"):
            ask()


# The pins by the makers' own files: ulx3s_v20.lpf, icebreaker.pcf, and the platform file of
# litex-boards for the Tang Nano 20K
PINS = {
    "ulx3s-85f": ("G2", "M1", "L4", "R1", "B2 C2 C1 D2 D1 E2 E1 H3", "high"),
    "icebreaker": ("35", "6", "9", "10", "11 37", "low"),
    "tang-nano-20k": ("4", "70", "69", "88", "15 16 17 18 19 20", "low"),
}


@pytest.mark.parametrize("name", OPEN)
def test_open_boards_are_their_makers_files(name: str) -> None:
    pins = boards.load(name).open.pins
    assert pins.reset is not None
    found = (pins.clock.pin, pins.uart_rx.pin, pins.uart_tx.pin, pins.reset.pin,
             " ".join(led.pin for led in pins.leds), pins.leds[0].active)
    assert found == PINS[name]


@pytest.mark.parametrize("name", OPEN)
def test_the_serial_line_s_rate_is_met(name: str) -> None:
    board = boards.load(name)
    cycles = board.open.uart.cycles_per_bit(board.clock.mhz)
    assert board.clock.mhz * 1e6 / cycles == pytest.approx(board.open.uart.baud, rel=5e-3)


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


@pytest.mark.parametrize("name", ENGINE)
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
        ("bram36 = 140", "", "key resources.bram36 is missing"),
        ("dsp = 220", "dsp = 0", r"key resources\.dsp: .*greater than 0.*got 0"),
        ('shell = "zynq7"', 'shell = "zynq7"\noscillator_mhz = 5.0',
         'key oscillator_mhz is not for a board with shell "zynq7"'),
        ('shell = "zynq7"', 'shell = "uart"', "key nextpnr, pins, uart, osc.* is missing"),
    ],
)
def test_wrong_files_name_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert TEXT.count(old) >= 1
    path = write(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        boards.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("ulx3s-85f", 'uart_tx = { pin = "L4" }', 'uart_tx = { pin = "M1" }',
         "key pins: pin M1 has two functions, uart_rx and uart_tx"),
        ("ulx3s-85f", '{ pin = "H3" }', '{ pin = "C2" }',
         r"pin C2 has two functions, leds\.1 and leds\.7"),
        ("ulx3s-85f", 'pin = "H3"', 'pin = "H 3"', r"key pins\.leds\.7\.pin: .*got 'H 3'"),
        ("ulx3s-85f", 'pin = "H3"', 'pin = "H3", active = "low"', "lit by high and some by low"),
        ("ulx3s-85f", 'clock = { pin = "G2" }\n', "", r"key pins\.clock is missing"),
        ("ulx3s-85f", 'device = "85k"', 'device = "90k"',
         r"nextpnr\.device '90k' is not known to nextpnr-ecp5; devices: 12k"),
        ("ulx3s-85f", 'speed = "6"\n', "", r"key nextpnr\.speed is missing"),
        ("ulx3s-85f", 'speed = "6"', 'speed = "6"\nchip = "x"', r"key nextpnr\.chip is unknown"),
        ("ulx3s-85f", 'family = "ecp5"', 'family = "xc7"', "family 'xc7' has no nextpnr here"),
        ("ulx3s-85f", 'pll = "EHXPLLL"', 'pll = "rPLL"', "clock.pll 'rPLL': family ecp5 has"),
        ("ulx3s-85f", 'pll = "EHXPLLL"', 'pll = "none"', "pll is \"none\" and divides nothing"),
        ("ulx3s-85f", 'toolchain = "nextpnr"', 'toolchain = "vivado"', "belong together"),
        ("ulx3s-85f", "head_levels = 1", "head_levels = -1",
         r"key tables\.head_levels: .*greater than or equal to 0, got -1"),
        ("ulx3s-85f", "fan_out = 4", "fanout = 4", r"key tables\.fanout is unknown"),
        ("ulx3s-85f", "timing_weight = 30", "timing_weight = 0", r"key nextpnr\.timing_weight: "),
        ("ulx3s-85f", "{bitstream}", "", r"key program: .*pattern"),
        ("ulx3s-85f", "baud = 115200", "baud = 40", r"key uart\.baud: .*got 40"),
        ("icebreaker", "oscillator_mhz = 12.0", "oscillator_mhz = 16.0",
         "clock.mhz is 12 without a PLL, but oscillator_mhz is 16"),
        ("icebreaker", "baud = 115200", "baud = 3500000", "leaves 3 cycles of 12 MHz to a bit"),
        ("icebreaker", "baud = 115200", "baud = 1600000", r"missed by -6\.2 %"),
        ("icebreaker", "[uart]", "[engine]\ncolumns = 24\npixels = 16\nact_words = 8\n"
         "stream_words = 8\n[uart]", 'key engine is not for a board with shell "uart"'),
        ("tang-nano-20k", 'chip = "GW2A-18C"\n', "", r"key nextpnr\.chip is missing"),
    ],
)
def test_wrong_open_boards_name_file_and_key(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    text = (resources.path("boards") / f"{name}.toml").read_text()
    assert old in text
    path = write(tmp_path, text.replace(old, new, 1), name)
    with pytest.raises(ConfigError, match=message) as caught:
        boards.read(path)
    assert str(path) in str(caught.value)
    assert "boards/" in str(caught.value)


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
