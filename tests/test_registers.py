# SPDX-License-Identifier: Apache-2.0
"""The register map: the printed files are up to date, and a wrong map is refused."""

from pathlib import Path

import pytest

from hwflow.driver.registers import printed, read_map

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "hdl" / "shell" / "registers.toml"


def test_printed_files_are_up_to_date() -> None:
    for path, text in printed(ROOT).items():
        assert path.read_text() == text, f"{path}: run `python -m hwflow.driver.registers`"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("offset = 0x04", "offset = 0x00", "share an offset"),
        ("offset = 0x04", "offset = 0x05", "multiple of 4"),
        ('access = "w1c"', 'access = "clear"', "access must be"),
        ("DONE = [1, 1,", "DONE = [0, 1,", "overlaps"),
        ("TAG = [16, 12,", "TAG = [24, 12,", "leaves 32 bits"),
        ("BUS_WRITE = [0x11", "BUS_WRITE = [0x10", "share a code"),
        ('name = "TAG"', 'name = "TAG"\nreset = 1', "unknown keys"),
    ],
)
def test_wrong_map_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = SOURCE.read_text()
    assert old in text
    path = tmp_path / "registers.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_map(path)
