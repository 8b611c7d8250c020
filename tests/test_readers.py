# SPDX-License-Identifier: Apache-2.0
"""Reports of other tools: every number is the one in the text, or null with a reason.

tests/data: vivado_*, csynth_* and nextpnr_* are made by hand in the documented layouts, the
yosys_stat* files are of real runs of Yosys 0.70. The expected values are read off the texts.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hwflow import boards
from hwflow.errors import ConfigError, HwflowError, ToolError
from hwflow.report import readers, schema
from hwflow.report.readers import csynth, nextpnr, vivado, yosys
from hwflow.report.schema import Used

DATA = Path(__file__).parent / "data"
SAMPLES = (
    "vivado_utilisation.txt", "vivado_utilisation_2018.txt", "vivado_utilisation_2024.txt",
    "vivado_timing_clocks.txt", "vivado_power.txt", "csynth_2022.xml", "csynth_2019.xml",
    "nextpnr_ecp5.json", "nextpnr_ice40.json", "nextpnr_gowin.json", "yosys_stat.json",
    "yosys_stat_ecp5.json", "yosys_stat_ice40.json", "yosys_stat_gowin.json",
)


def text(name: str) -> str:
    return (DATA / name).read_text()


def used(n: float, of: float | None) -> Used:
    return Used(used=n, available=of)


@pytest.mark.parametrize(
    ("name", "kind", "tool", "lut", "ff", "bram36", "dsp"),
    [
        ("vivado_utilisation.txt", "post-route", "Vivado 2022.2", used(31_234, 53_200),
         used(41_000, 106_400), used(112.5, 140), used(208, 220)),
        ("vivado_utilisation_2018.txt", "pre-route estimate", "Vivado 2018.3",
         used(24_311, 70_560), used(31_877, 141_120), used(77.5, 216), used(143, 360)),
        ("vivado_utilisation_2024.txt", "post-synthesis estimate", "Vivado 2024.1",
         used(18_207, 117_120), used(22_943, 234_240), used(19, 144), used(212, 1248)),
        ("csynth_2022.xml", "HLS estimate", "Vitis HLS 2022.2", used(30_127, 53_200),
         used(12_034, 106_400), used(10.5, 140), used(57, 220)),
        ("csynth_2019.xml", "HLS estimate", "Vivado HLS 2018.3", used(4101, 53_200),
         used(2210, 106_400), used(3, 140), used(19, 220)),
        ("nextpnr_ecp5.json", "post-route", "nextpnr (ECP5)", used(9121, 83_640),
         used(7345, 83_640), used(16.5, 104), used(48, 156)),
        ("nextpnr_gowin.json", "post-route", "nextpnr (Gowin)", used(2045, 8640),
         used(1290, 6480), used(3.5, 13), None),
        ("nextpnr_ice40.json", "post-route", "nextpnr (iCE40)", None, None, None, used(5, 8)),
        # 1940 LUT4, 12 CCU2C of two, 256 TRELLIS_DPR16X4 of four
        ("yosys_stat_ecp5.json", "post-synthesis estimate", "Yosys 0.70 (ecp5)",
         used(1940 + 24 + 1024, None), used(40, None), used(0, None), used(1, None)),
        ("yosys_stat_ice40.json", "post-synthesis estimate", "Yosys 0.70 (ice40)",
         used(16_020, None), used(16_400, None), None, used(1, None)),
        # 2696 LUT1 to LUT4, 24 ALU, 256 RAM16SDP4 of four
        ("yosys_stat_gowin.json", "post-synthesis estimate", "Yosys 0.70 (gowin)",
         used(2696 + 24 + 1024, None), used(40, None), used(0, None), None),
    ],
)
def test_resources(
    name: str, kind: str, tool: str, lut: Used | None, ff: Used | None, bram36: Used | None,
    dsp: Used | None,
) -> None:
    found = readers.read_file(DATA / name).resources
    assert found is not None
    assert (found.kind, found.tool) == (kind, tool)
    assert (found.lut, found.ff, found.bram36, found.dsp) == (lut, ff, bram36, dsp)
    rows = (lut, ff, bram36, dsp)
    assert bool(found.reason) == any(one is None or one.available is None for one in rows)


def test_what_has_no_column_is_kept_by_its_name() -> None:
    ultra = vivado.utilisation(text("vivado_utilisation_2024.txt"))
    assert ultra.other == {"URAM": used(6, 64)}
    ice40 = nextpnr.read(text("nextpnr_ice40.json")).resources
    assert ice40 is not None
    assert ice40.other["ICESTORM_LC"] == used(3187, 5280)
    assert "ICESTORM_LC" in str(ice40.reason)


def test_columns_of_other_versions() -> None:
    whole = text("vivado_utilisation.txt")
    expected = vivado.utilisation(whole)
    older = re.sub(r"\| Prohibited |\|\s+0 (?=\|\s+\d+ \|\s+[\d.]+ \|$)", "", whole, flags=re.M)
    assert "Prohibited" not in older
    assert vivado.utilisation(older) == expected
    assert vivado.utilisation(whole.replace("| Slice LUTs ", "| Slice LUTs*")) == expected
    assert vivado.utilisation(whole.replace("| 31234 |", "| 31,234 |")) == expected
    swapped = "\n".join(
        "|".join([*cells[:2], cells[5], *cells[3:5], cells[2], *cells[6:]])
        if len(cells := line.split("|")) == 8 else line
        for line in whole.splitlines()
    )
    assert swapped != whole
    assert vivado.utilisation(swapped) == expected


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        ("Slice LUTs ", "Slice LATs ", "lut", "no row 'Slice LUTs' or 'CLB LUTs'"),
        ("| 31234 |", "| many |", "lut", "'Slice LUTs' has no number in its column Used"),
        ("| 31234 |", "|   -1 |", "lut", "'Slice LUTs' has no number in its column Used"),
        (": Routed", ": Melted", "kind", "the state of the design is 'Melted'"),
        ("| Design State", "| Design Stage", "kind", "no line 'Design State'"),
        ("Vivado v.", "Something ", "tool", "does not name the version"),
        ("DSPs           |  208 |     0 |          0 |", "DSPs | 208 |", "dsp", "no row 'DSPs'"),
    ],
)
def test_a_missing_number_is_null_with_a_reason(
    old: str, new: str, field: str, reason: str
) -> None:
    whole = text("vivado_utilisation.txt")
    assert old in whole
    found = vivado.utilisation(whole.replace(old, new))
    assert getattr(found, field) is None
    assert reason in str(found.reason)


def test_two_different_rows_are_no_number() -> None:
    twice = text("vivado_utilisation.txt") + text("vivado_utilisation.txt").replace("31234", "9")
    found = vivado.utilisation(twice)
    assert found.lut is None
    assert found.ff == used(41_000, 106_400)
    assert "several different rows 'Slice LUTs'" in str(found.reason)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("Synthesized", "post-synthesis estimate"), ("Optimized", "post-synthesis estimate"),
        ("Fully Placed", "pre-route estimate"), ("Physopt postPlace", "pre-route estimate"),
        ("Partially Routed", "pre-route estimate"), ("routed", "post-route"),
        ("Fully Routed", "post-route"), ("Physopt postRoute", "post-route"), ("Unplaced", None),
    ],
)
def test_state_of_the_design(state: str, kind: str | None) -> None:
    found = vivado.utilisation(text("vivado_utilisation.txt").replace(": Routed", f": {state}"))
    assert found.kind == kind


def test_clocks_of_a_timing_report() -> None:
    whole = text("vivado_timing_clocks.txt")
    assert vivado.clocks(whole) == (
        vivado.Clock("clk_pl_0", 10.0, 3.75), vivado.Clock("clk_out1", 5.0, -0.125),
    )  # clkfb has no path of its own
    several, _ = vivado.timing(whole)
    assert several.fmax_mhz is None
    assert "clk_pl_0 (100 MHz), clk_out1 (200 MHz); choose with --clock" in str(several.reason)
    assert vivado.timing(whole, "clk_pl_0")[0].fmax_mhz == 160.0  # 1000 / 6.25
    assert vivado.timing(whole, "clk_out1")[0].fmax_mhz == 195.122  # 1000 / 5.125
    assert "no clock 'clk'" in str(vivado.timing(whole, "clk")[0].reason)
    one = "\n".join(line for line in whole.splitlines() if "clk_out1" not in line)
    assert vivado.timing(one)[0].fmax_mhz == 160.0
    lost = whole.replace("  clk_out1           -0.125", "  #")
    assert "not all is there of the clock clk_out1" in str(vivado.timing(lost)[0].reason)
    assert vivado.timing(lost, "clk_pl_0")[0].fmax_mhz == 160.0
    cut = one[: one.index("| Inter Clock Table")]
    assert "the report ends before" in str(vivado.timing(cut)[0].reason)


def test_timing_of_our_own_build() -> None:
    whole = text("vivado_timing.txt")
    found, slack = vivado.timing(whole, None, 150.0)
    assert slack == 0.417
    assert found.fmax_mhz == pytest.approx(1000 / (1000 / 150 - 0.417), abs=1e-3)
    assert found.kind == "post-route"
    worse, slack = vivado.timing(whole.replace("  0.417 ", " -0.417 "), None, 150.0)
    assert slack == -0.417
    assert worse.fmax_mhz is not None
    assert worse.fmax_mhz < 150
    free, slack = vivado.timing(whole.replace("  0.417 ", "     NA "), None, 150.0)
    assert (free.fmax_mhz, slack) == (None, None)
    with pytest.raises(ToolError, match=r"no table with the column WNS"):
        vivado.timing(whole.replace("WNS(ns)", "slack"), None, 150.0)


def test_power() -> None:
    whole = text("vivado_power.txt")
    found = vivado.power(whole)
    assert found == schema.Power(
        kind="post-route", tool="Vivado 2022.2", total_w=1.934, dynamic_w=1.789, static_w=0.145,
        confidence="Medium",
    )
    hot = whole.replace("| 1.934        |", "| 41.934 (Junction temp exceeded!) |", 1)
    assert vivado.power(hot).total_w == 41.934
    cut = vivado.power(whole.replace("| Dynamic (W)", "| Something (W)"))
    assert cut.dynamic_w is None
    assert cut.total_w == 1.934
    assert "'Dynamic (W)'" in str(cut.reason)


def test_estimates_of_c_synthesis() -> None:
    found = csynth.read(text("csynth_2022.xml"))
    assert (found.design, found.device) == ("myproject", "xc7z020-clg400-1")
    assert found.timing is not None
    assert found.timing.fmax_mhz == 250.0  # 1 / 4 ns
    speed = found.performance
    assert speed is not None
    assert (speed.cycles_per_frame, speed.clock_mhz, speed.fps) == (1250, 200.0, 160_000.0)
    assert speed.macs_per_frame is None
    assert "counts no multiplications" in str(speed.reason)
    unknown = csynth.read(text("csynth_2019.xml")).performance
    assert unknown is not None
    assert (unknown.cycles_per_frame, unknown.fps) == (None, None)
    assert "Interval-max is not a number of cycles: undef" in str(unknown.reason)
    seconds = csynth.read(text("csynth_2022.xml").replace("<unit>ns</unit>", "<unit>ps</unit>"))
    assert seconds.timing is not None
    assert seconds.timing.fmax_mhz is None


def test_xml_tricks_are_refused() -> None:
    bomb = ('<!DOCTYPE profile [<!ENTITY a "1"><!ENTITY b "&a;&a;">]>'
            + text("csynth_2022.xml").split("-->")[1].replace("30127", "&b;"))
    outside = ('<!DOCTYPE profile [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
               + text("csynth_2022.xml").split("-->")[1].replace("30127", "&a;"))
    for trick in (bomb, outside):
        with pytest.raises(ToolError, match=r"is not the csynth\.xml .* never followed; give"):
            readers.read_text(trick)


def test_clocks_of_nextpnr() -> None:
    one = nextpnr.read(text("nextpnr_ecp5.json")).timing
    assert one is not None
    assert one.fmax_mhz == 134.25
    whole = text("nextpnr_ice40.json")
    several = nextpnr.read(whole).timing
    assert several is not None
    assert several.fmax_mhz is None
    assert "choose with --clock" in str(several.reason)
    chosen = nextpnr.read(whole, "clk2").timing
    assert chosen is not None
    assert chosen.fmax_mhz == 91.25
    none = nextpnr.read(whole, "clk3").timing
    assert none is not None
    assert "no clock 'clk3'" in str(none.reason)


def stat(**cells: object) -> str:
    return json.dumps({"creator": "Yosys 0.38", "modules": {"\\top": {}},
                       "design": {"num_cells_by_type": cells}})


def test_cells_of_an_unknown_size_are_no_number() -> None:
    found = yosys.read(stat(LUT6=5, FDRE=7, URAM288=1)).resources
    assert found is not None
    assert (found.lut, found.ff) == (None, None)
    assert "URAM288; nearest family xc7" in str(found.reason)
    assert found.other == {name: used(n, None) for name, n in
                           (("FDRE", 7), ("LUT6", 5), ("URAM288", 1))}
    generic = yosys.read(stat(**{"$_AND_": 9})).resources
    assert generic is not None
    assert generic.lut is None


def test_cells_of_two_families() -> None:
    # A LUT4 may be of three families and is one table in each; an ALU is Gowin's alone.
    found = yosys.read(stat(LUT4=5)).resources
    assert found is not None
    assert found.lut == used(5, None)
    assert found.dsp is None
    assert "may be of xc7 or ecp5 or gowin; give --board" in str(found.reason)
    with_board = yosys.read(stat(LUT4=5), "xc7").resources
    assert with_board is not None
    assert with_board.dsp == used(0, None)


def test_forms_of_the_cell_counts() -> None:
    liberty = stat(LUT4={"count": 5, "area": 2.0, "local_count": 5, "local_area": 2.0})
    assert yosys.cells(liberty) == {"LUT4": 5}
    old = json.dumps({"modules": {"\\top": {"num_cells_by_type": {"LUT4": 5}}}})
    assert yosys.cells(old) == {"LUT4": 5}
    several = json.dumps({"modules": {"\\a": {"num_cells_by_type": {"LUT4": 5}}, "\\b": {}}})
    with pytest.raises(ToolError, match="stat -json -top TOP"):
        yosys.cells(several)


def test_a_run_of_several_files(tmp_path: Path) -> None:
    files = [DATA / name for name in ("csynth_2022.xml", "vivado_utilisation.txt",
                                      "vivado_power.txt", "vivado_timing.txt")]
    run, notes = readers.read(files, boards.load("pynq-z2"))
    assert (run.model, run.board) == ("myproject", "pynq-z2")
    assert (run.resources.kind, run.performance.kind) == ("post-route", "HLS estimate")
    assert run.power.total_w == 1.934
    assert any("csynth_2022.xml: its resources (HLS estimate) are left out" in n for n in notes)
    assert run.verify.rtl.mismatches is None
    schema.write(run, tmp_path / "run.json")
    assert schema.read(tmp_path / "run.json") == run


def test_files_that_do_not_belong_together() -> None:
    with pytest.raises(ConfigError, match="about the chip xc7z020clg400-1"):
        readers.read([DATA / "vivado_utilisation.txt", DATA / "vivado_timing_clocks.txt"])
    with pytest.raises(ConfigError, match="board pynq-z2 about xc7z020clg400-1"):
        readers.read([DATA / "vivado_utilisation_2018.txt"], boards.load("pynq-z2"))
    with pytest.raises(ConfigError, match=r"both give resources \(post-synthesis estimate\)"):
        readers.read([DATA / "yosys_stat.json", DATA / "yosys_stat_ecp5.json"])


def test_the_board_says_what_the_chip_has() -> None:
    run, _ = readers.read([DATA / "yosys_stat.json"], boards.load("pynq-z2"))
    assert run.resources.lut == used(47, 53_200)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no report hwflow reads"), (b"hello", "is no report"),
        (b"\xff\xfe\x00", "is no report"), (b"{}", "is no report"), (b"{", "no JSON"),
        (b"[1]", "is no report"), (b"<profile/>", "no element AreaEstimates"),
        (b"<profile", r"not the csynth\.xml"), (b'{"utilization": {}}', "no object 'utilization'"),
        (b'{"modules": {}}', "cannot be read"), (b'{"a":' * 100_000, "no JSON"),
        (b'{"creator": "Yosys 0.9", "design": {"num_cells_by_type": {"LUT4": true}}}',
         "LUT4 has True"),
        (b'{"creator": "Yosys 0.9", "design": {"num_cells_by_type": {"LUT4": -1}}}',
         "LUT4 has -1"),
        (b'{"creator": "Yosys 0.9", "design": {"num_cells_by_type": {}}}', "no cell at all"),
        (b"| Tool Version : Vivado v.2022.2\n| Command : report_drc", "report_drc"),
    ],
)
def test_files_that_are_no_report(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file.rpt"
    path.write_bytes(data)
    with pytest.raises(ToolError, match=message) as caught:
        readers.read([path])
    assert str(path) in str(caught.value)


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="cannot be read"):
            readers.read([path])
    with pytest.raises(ConfigError, match="no report files"):
        readers.read([])


def leaves(value: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in leaves(one)]
    return [] if value is None or isinstance(value, str) else [value]


def numbers(part: readers.Part) -> dict[str, list[Any]]:
    """Every number a part holds, by section and name, without the null ones."""
    return {
        f"{name}.{key}": found
        for name in readers.SECTIONS
        if (section := getattr(part, name)) is not None
        for key, value in section.model_dump(exclude={"reason"}).items()
        if (found := leaves(value))
    }


@functools.cache
def truth_of(name: str) -> dict[str, list[Any]]:
    return numbers(readers.read_file(DATA / name))


def holds(name: str, changed: str, exact: bool) -> None:
    """Of a damaged report: a clear error, or each number the true one (if `exact`) or null."""
    truth = truth_of(name)
    try:
        part = readers.read_text(changed)
    except HwflowError as error:
        assert str(error)
        return
    found = numbers(part)
    for key, values in found.items():
        if exact and not key.endswith(".other"):
            assert [v for v in values if v not in truth.get(key, ())] == [], (key, values)
        if key in truth and 0 not in truth[key]:
            assert 0 not in values, key


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(SAMPLES), st.floats(0, 1))
@example("vivado_utilisation.txt", 0.5)
def test_a_cut_report_never_gives_a_wrong_number(name: str, where: float) -> None:
    whole = text(name)
    holds(name, whole[: int(where * len(whole))], exact=True)


@pytest.mark.parametrize("name", [n for n in SAMPLES if n.startswith("vivado")])
def test_cut_at_every_place(name: str) -> None:
    whole = text(name)
    for where in range(whole.index("Tool Version"), len(whole)):
        holds(name, whole[:where], exact=True)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from([n for n in SAMPLES if n.startswith("vivado")]), st.randoms())
def test_shuffled_lines_never_give_a_wrong_number(name: str, random: Any) -> None:  # noqa: ANN401
    lines = text(name).splitlines(keepends=True)
    body = lines[9:]
    random.shuffle(body)
    holds(name, "".join(lines[:9] + body), exact=True)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(SAMPLES), st.randoms(), st.integers(1, 8))
def test_lost_and_doubled_lines(name: str, random: Any, times: int) -> None:  # noqa: ANN401
    lines = text(name).splitlines(keepends=True)
    for _ in range(times):
        place = random.randrange(len(lines))
        lines[place : place + 1] = random.choice(([], [lines[place]] * 2))
    holds(name, "".join(lines), exact=not name.endswith("json"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(SAMPLES), st.data())
def test_changed_bytes_never_end_in_a_traceback(name: str, data: st.DataObject) -> None:
    whole = text(name)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(whole) - 1))
        piece = data.draw(st.sampled_from(["", "|", "-", "\n", "0x", "nan", "1e999", "\x00", "{",
                                           "<", "9" * 30, " ", "Used", "²", "٣"]))
        whole = whole[:place] + piece + whole[place + data.draw(st.integers(0, 3)):]
    try:
        readers.read_text(whole)
    except HwflowError as error:
        assert str(error)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text())
def test_any_text(anything: str) -> None:
    with pytest.raises(HwflowError):
        readers.read_text(anything)
