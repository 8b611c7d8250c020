# SPDX-License-Identifier: Apache-2.0
"""Board files are read strictly; every wrong one is answered with file and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwflow import boards, resources
from hwflow.errors import ConfigError

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
def test_the_simulated_memory_is_the_board_s(name: str) -> None:
    """Simulation takes rate and activation memory from the board; the rest is in the sources."""
    sources = {
        "ddr": resources.path("sim") / "models" / "ddr.sv",
        "top": resources.path("hdl") / "shell" / "engine_axi.sv",
    }

    def parameter(source: str, key: str) -> int:
        found = re.search(rf"parameter int unsigned {key} = (\d+)", sources[source].read_text())
        assert found, f"{source} has no parameter {key}"
        return int(found.group(1))

    board = boards.load(name)
    memory = board.memory
    assert board.bytes_per_cycle == int(board.bytes_per_cycle) <= memory.port_bits // 8 == 8
    assert memory.latency_cycles == parameter("ddr", "LATENCY")
    assert memory.turnaround_cycles == parameter("ddr", "TURN")
    assert memory.refresh_cycles == parameter("ddr", "REFRESH_FOR")
    assert memory.refresh_interval_us * board.clock.mhz == parameter("ddr", "REFRESH_EVERY")
    assert memory.outstanding == parameter("top", "OUTSTANDING") >= 4
    assert board.engine.stream_words == parameter("top", "RING_WORDS")
    assert memory.burst_beats == 16


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
