# SPDX-License-Identifier: Apache-2.0
"""Runs beside each other: every difference, every mixture of kinds said; limits that hold or break.

Expected values are worked out by hand from the two reports below.
"""

from __future__ import annotations

import copy
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from hwflow import cli
from hwflow.errors import ConfigError, HwflowError
from hwflow.report import baseline, compare, formats, gate, schema, terminal
from tests.test_report import Tags, content, shown, write

DATA = Path(__file__).parent / "data"


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The report of tests/test_report.py with other values at dotted places."""
    report = copy.deepcopy(content())
    for place, value in changes:
        *path, last = place.split(".")
        target = report
        for key in path:
            target = target[int(key)] if isinstance(target, list) else target[key]
        target[last] = value
    return report


FASTER = (
    ("performance.cycles_per_frame", 900), ("performance.fps", 166_666.667),
    ("resources.lut.used", 16_624), ("resources.bram36.used", 107),
    ("layers.0.cycles", 800), ("layers.1.name", "layer1.other"), ("stages.0.seconds", 3.0),
)


def run(tmp_path: Path, name: str, *changes: tuple[str, Any]) -> compare.Run:
    folder = tmp_path / name
    folder.mkdir()
    write(folder, changed(*changes))
    return compare.load(folder)


def two(tmp_path: Path, *changes: tuple[str, Any]) -> compare.Comparison:
    return compare.comparison([run(tmp_path, "a"), run(tmp_path, "b", *changes)])


def row(table: compare.Comparison, name: str) -> compare.Row:
    found = table.row(name)
    assert found is not None, name
    return found


@pytest.mark.parametrize(
    ("name", "values", "absolute", "relative", "better"),
    [
        ("cycles", (1000, 900), -100, -0.1, True),
        ("fps", (150_000.0, 166_666.667), 16_666.667, 0.11111111, True),
        ("lut", (16_298, 16_624), 326, 326 / 16_298, False),
        ("bram36", (106.5, 107), 0.5, 0.5 / 106.5, False),
        ("dsp", (193, 193), 0, 0, None),
        ("mismatches", (0, 0), 0, None, None),
        ("layer.layer0.conv.cycles", (900, 800), -100, -100 / 900, True),
        ("seconds.sim", (1.5, 3.0), 1.5, 1.0, False),
        ("clock_mhz", (150.0, 150.0), 0, 0, None),
    ],
)
def test_changes(
    tmp_path: Path, name: str, values: tuple, absolute: float, relative: float | None,
    better: bool | None,
) -> None:
    found = row(two(tmp_path, *FASTER), name)
    assert tuple(one.value for one in found.numbers) == values
    (change,) = found.changes
    assert change is not None
    assert change.absolute == pytest.approx(absolute)
    assert change.relative == (None if relative is None else pytest.approx(relative))
    assert (change.better, change.mixed) == (better, None)


def test_what_one_run_has_not(tmp_path: Path) -> None:
    table = two(tmp_path, *FASTER)
    for name, place in (("layer.layer1.dw.cycles", 1), ("layer.layer1.other.cycles", 0)):
        found = row(table, name)
        assert found.numbers[place].value is None
        assert found.numbers[place].reason == "it has no such layer"
        assert found.changes == (None,)
    fmax = row(table, "fmax")
    assert [one.value for one in fmax.numbers] == [None, None]
    assert fmax.numbers[0].reason == "vivado not found"
    assert any("in no run: Fmax (MHz)" in line for line in table.remarks())


@pytest.mark.parametrize(
    ("changes", "names", "words"),
    [
        ([("resources.kind", "post-route")], ("lut", "ff", "bram36", "dsp"),
         "A: post-synthesis estimate (Yosys 0.70), B: post-route (Yosys 0.70); not the same kind"),
        ([("resources.tool", "Vivado 2022.2")], ("lut", "dsp"), "B: post-synthesis estimate (Viv"),
        ([("performance.kind", "HLS estimate")], ("cycles", "fps", "layer.layer0.conv.cycles"),
         "A: measured in simulation (Verilator 5.48.0), B: HLS estimate"),
        ([("accuracy.images", 55)], ("accuracy", "accuracy_float"),
         "A: AP50 of 56 images of trees (hwflow), B: AP50 of 55 images of trees (hwflow)"),
        ([("accuracy.metric", "top-1")], ("accuracy",), "B: top-1 of 56 images"),
        ([("resources.kind", None), ("resources.reason", "?")], ("lut",), "of unknown kind"),
    ],
)
def test_different_kinds_are_said_everywhere(
    tmp_path: Path, changes: list, names: tuple[str, ...], words: str
) -> None:
    table = two(tmp_path, *FASTER, *changes)
    marks, lines = table.marked()
    for name in names:
        (change,) = row(table, name).changes
        assert change is not None
        assert words in str(change.mixed)
        assert change.better is None
        assert words in lines[marks[name, 1] - 1]
    mark = marks[names[0], 1]
    assert f"[{mark}]" in shown(terminal.comparison(table))
    assert f"\\[{mark}\\]" in formats.markdown(table, (), 0)
    assert words in html.unescape(formats.html(table, (), 0))
    assert words in json.dumps(json.loads(compare.as_json(table)))


def test_another_version_of_one_tool_is_said_but_compared(tmp_path: Path) -> None:
    table = two(tmp_path, ("resources.tool", "Yosys 0.71+12"))
    (change,) = row(table, "lut").changes
    assert change is not None
    assert change.mixed is None
    assert "A is of Yosys 0.70, B of Yosys 0.71+12" in table.remarks()


def test_cells_may_be_called_anything(tmp_path: Path) -> None:
    cells = {"URAM": {"used": 6, "available": 64}, "fps": {"used": 1, "available": 2},
             "layer.x": {"used": 3, "available": 4}}
    table = two(tmp_path, ("resources.other", cells))
    assert row(table, "fps").numbers[1].value == 150_000.0
    found = {name: row(table, name).numbers for name in ("URAM", "cell.fps", "cell.layer.x")}
    assert {name: one[1].value for name, one in found.items()} == {
        "URAM": 6, "cell.fps": 1, "cell.layer.x": 3,
    }
    assert found["URAM"][0].reason == "its tool counts no such cells"


def test_three_runs_are_held_to_the_first(tmp_path: Path) -> None:
    table = compare.comparison([
        run(tmp_path, "a"), run(tmp_path, "b", ("resources.lut.used", 16_000)),
        run(tmp_path, "c", ("resources.lut.used", 17_000)),
    ])
    changes = [one.absolute for one in row(table, "lut").changes if one is not None]
    assert changes == [16_000 - 16_298, 17_000 - 16_298]
    verdict = gate.check([gate.parse("lut>+2%")], table)
    assert verdict.breaches == ("lut>+2%: LUT in C went from 16,298 to 17,000 (+4.307 %)",)
    assert "| number | A | B | B - A | C | C - A |" in formats.markdown(table, (), 0)


@pytest.mark.parametrize(
    ("text", "name", "operator", "bound", "how"),
    [
        ("lut>+2%", "lut", ">", 2, "relative"), ("fps<-1%", "fps", "<", -1, "relative"),
        (" fps <= -0.5 % ", "fps", "<=", -0.5, "relative"), ("ff>+100", "ff", ">", 100, "change"),
        ("accuracy<-0.01", "accuracy", "<", -0.01, "change"),
        ("mismatches>0", "mismatches", ">", 0, "value"),
        ("layer.layer0.conv.cycles>=+1", "layer.layer0.conv.cycles", ">=", 1, "change"),
    ],
)
def test_limits_are_read(text: str, name: str, operator: str, bound: float, how: str) -> None:
    limit = gate.parse(text)
    assert (limit.name, limit.operator, float(limit.bound), limit.how) == (
        name, operator, bound, how
    )


@pytest.mark.parametrize(
    "text", ["", "lut", "lut>", ">2", "lut=2", "lut==2", "lut>two", "lut>+2%%", "lut>+-2", "lut>2%",
             "lut>+2,5%", "lut>nan", "lut><2", "lut>1e3", "lut>٣"],
)
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ConfigError, match="--fail-if"):
        gate.parse(text)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        # lut 16,298 to 16,624: +326, +2.00025 %
        ("lut>+2%", "lut>+2%: LUT went from 16,298 to 16,624 (+2.000 %)"),
        ("lut>+2.1%", None), ("lut>+325", "lut>+325: LUT went from 16,298 to 16,624 (+326)"),
        ("lut>+326", None), ("lut>=+326", "lut>=+326: LUT went from 16,298 to 16,624 (+326)"),
        ("lut>16623", "lut>16623: LUT is 16,624"), ("lut>16624", None), ("lut<-1%", None),
        ("cycles<-9.9%", "cycles<-9.9%: cycles a frame went from 1,000 to 900 (-10.000 %)"),
        ("cycles<-10%", None), ("mismatches>0", None),
        # the sum of the three engines stays what it was, and the reference is 0
        ("mismatches>+0%", None), ("dsp>+0%", None), ("dsp>=+0%", "dsp>=+0%: DSP went from 193 to "
                                                      "193 (+0.000 %)"),
        ("bram36>+0.4%", "bram36>+0.4%: BRAM36 went from 106.5 to 107 (+0.469 %)"),
        ("fmax<100", "fmax<100: Fmax (MHz) is null: vivado not found; a limit on a missing number "
         "is broken"),
        ("layer.layer1.dw.cycles>+0%", "layer.layer1.dw.cycles>+0%: layer1.dw is null: it has no "
         "such layer; a limit on a missing number is broken"),
        ("layer.layer1.other.cycles>+0", "layer.layer1.other.cycles>+0: layer1.other is null in A: "
         "it has no such layer; there is nothing to compare with"),
        ("layer.layer1.other.cycles>99", "layer.layer1.other.cycles>99: layer1.other is 100"),
    ],
)
def test_limits_hold_or_break(tmp_path: Path, text: str, broken: str | None) -> None:
    verdict = gate.check([gate.parse(text)], two(tmp_path, *FASTER))
    assert verdict.breaches == (() if broken is None else (broken,))
    assert verdict.refused == ()


def test_from_zero_every_step_is_too_much(tmp_path: Path) -> None:
    table = two(tmp_path, ("verify.rtl.mismatches", 3))
    for text, broken in (("mismatches>+500%", True), ("mismatches.rtl>+1%", True),
                         ("mismatches<-1%", False), ("mismatches>0", True), ("mismatches>2", True),
                         ("mismatches>3", False)):
        assert bool(gate.check([gate.parse(text)], table).breaches) == broken, text


def test_a_missing_engine_fails_closed(tmp_path: Path) -> None:
    table = two(tmp_path, ("verify.hls.mismatches", None), ("verify.hls.reason", "no g++"))
    (line,) = gate.check([gate.parse("mismatches>0")], table).breaches
    assert "is null: hls: no g++" in line


def test_an_unknown_number_names_the_known(tmp_path: Path) -> None:
    table = two(tmp_path)
    for text in ("luts>+2%", "LUT>+2%", "layer.none.*>+1"):
        with pytest.raises(ConfigError, match=r"known: mismatches, .*lut, ff, bram36, dsp, fmax"):
            gate.check([gate.parse(text)], table)


def test_a_star_stands_for_many(tmp_path: Path) -> None:
    table = two(tmp_path, ("layers.0.cycles", 1000), ("layers.1.cycles", 90))
    verdict = gate.check([gate.parse("layer.*.cycles>+5%")], table)
    assert verdict.breaches == (
        "layer.*.cycles>+5%: layer0.conv went from 900 to 1,000 (+11.111 %)",
    )


def test_limits_on_mixed_kinds(tmp_path: Path) -> None:
    table = two(tmp_path, *FASTER, ("resources.kind", "post-route"))
    for text in ("lut>+50%", "lut>+99999"):
        (line,) = gate.check([gate.parse(text)], table).refused
        assert "not the same kind of number" in line
        assert gate.check([gate.parse(text)], table, allow_mixed=True).refused == ()
    assert gate.check([gate.parse("lut>99999")], table).refused == ()  # a value is a value


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(-99, 99))
def test_percentages_are_exact(one: int, other: int, percent: int) -> None:
    numbers = tuple(compare.Number(n, "k", "t") for n in (one, other))
    found = compare.Row("lut", "LUT", "numbers", numbers,
                        (compare.change("lut", *numbers),))
    table = compare.Comparison((), (found,))
    limit = gate.parse(f"lut>{percent:+d}%")
    assert gate._breach(limit, table.rows[0], 1) is not None or \
        (other - one) * 100 <= percent * one
    assert gate._breach(limit, table.rows[0], 1) is None or (other - one) * 100 > percent * one


def test_a_baseline_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = tmp_path / "baselines/one.json", tmp_path / "two.json"
    secret = "/home/somebody/hidden"
    baseline.write(run(tmp_path, "a", ("git", "1" * 40)).report, first)
    baseline.write(run(
        tmp_path, "b", ("stages.0.seconds", 99.0), ("git", "2" * 40),
        ("model", f"{secret}/codenet"), ("data.spec", f"trees:{secret}"), ("data.source", secret),
        ("bitstream.reason", f"{secret} not found"), ("timing.reason", f"{secret}/vivado missing"),
        ("accuracy.dataset", f"trees:{secret} test split"),
    ).report, second)
    text = second.read_text()
    assert secret not in text
    assert "99.0" not in text
    assert text.replace("trees test split", "trees") == first.read_text()
    baseline.write(run(tmp_path, "c").report, first)  # again, over itself
    table = compare.comparison([compare.load(first), compare.load(tmp_path / "a")])
    assert all(one.changes[0] is None or one.changes[0].absolute == 0 for one in table.rows)
    assert row(table, "seconds").numbers[0].reason == "it holds no times"


def test_no_baseline_of_a_broken_build(tmp_path: Path) -> None:
    failed = run(tmp_path, "a", ("stages.0.status", "failed"), ("stages.0.reason", "boom"))
    with pytest.raises(ConfigError, match="stage sim failed; repair it"):
        baseline.write(failed.report, tmp_path / "x.json")
    wrong = run(tmp_path, "b", ("verify.rtl.mismatches", 1))
    with pytest.raises(ConfigError, match="rtl has mismatches"):
        baseline.write(wrong.report, tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_a_run_is_not_overwritten_by_a_baseline(tmp_path: Path) -> None:
    one = run(tmp_path, "a")
    before = (tmp_path / "a/report.json").read_bytes()
    with pytest.raises(ConfigError, match="is no baseline and is not overwritten"):
        baseline.write(one.report, tmp_path / "a/report.json")
    assert (tmp_path / "a/report.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"baseline": 2, "report": {}}',
                                  '{"baseline": 1}', '{"baseline": 1, "report": {}}',
                                  '{"baseline": 1, "report": []}', "\xff", "[" * 100_000])
def test_damaged_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(HwflowError, match=r"x\.json"):
        compare.load(path)


def test_pages_are_whole_and_escaped(tmp_path: Path) -> None:
    table = two(tmp_path, *FASTER, ("model", "<b>|evil*`@all"), ("resources.kind", "post-route"))
    page = formats.html(table, ["lut>+2%: <script>"], 1)
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert all(link.startswith("#") for link in tags.links)
    assert "<b>|evil" not in page
    assert tags.seen["script"] == 1
    assert "1 of 1 limits broken" in page
    text = formats.markdown(table, ["lut>+2%: <script>"], 1)
    assert "<b>" not in text
    assert "\\<b\\>\\|evil\\*\\`@&#8203;all" in text
    assert "**1 of the limits broken**" in text
    grids = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in grids)
    assert text.count("<details>") == text.count("</details>") == 2
    assert "All limits hold (2)." in formats.markdown(table, (), 2)


def in_a_terminal(runs: Sequence[compare.Run], width: int) -> list[str]:
    """The lines of a comparison in a terminal of so many columns."""
    console = Console(width=width, file=io.StringIO(), force_terminal=True, no_color=True,
                      color_system=None, legacy_windows=False)
    console.print(terminal.comparison(compare.comparison(runs), console))
    return console.file.getvalue().splitlines()


def blocks(lines: list[str]) -> list[dict[str, list[str]]]:
    """The tables of a text: by the name of the row, its cells; names broken over lines joined."""
    found: list[dict[str, list[str]]] = []
    for line in lines:
        cells = [cell.strip() for cell in line.replace("┃", "│").split("│")]
        if cells[0] == "number":
            found.append({"number": cells[1:]})
            last = "number"
        elif len(cells) > 1 and any(cells[1:]):
            last = cells[0]
            found[-1][last] = cells[1:]
        elif len(cells) > 1:
            found[-1][f"{last} {cells[0]}"] = found[-1].pop(last)
    return found


def test_five_runs_in_eighty_columns(tmp_path: Path) -> None:
    """Blocks of the runs that fit beside the reference; every number whole and on one line."""
    values = (736_984, 761_224, 3_085_644, 10_243_533, 10_389_468)
    runs = [run(tmp_path, f"codenet-{letter}-pynq-z2", ("performance.cycles_per_frame", value),
                ("performance.fps", 150e6 / value), ("resources.lut.used", 29_285 + n))
            for n, (letter, value) in enumerate(zip("abcde", values, strict=True))]
    lines = in_a_terminal(runs, 80)
    assert max(map(len, lines)) <= 80
    tables = blocks(lines)
    assert [table["number"] for table in tables] == [
        ["A", letter, f"{letter} - A"] for letter in "BCDE"
    ]
    for table, value in zip(tables, values[1:], strict=True):
        change = value - values[0]
        assert table["cycles a frame"] == [
            "736,984", f"{value:,}", f"+{change:,} (+{100 * change / values[0]:,.2f} %)",
        ]
        assert table["LUT"][:2] == ["29,285", f"{29_285 + values.index(value):,}"]
    rows = [set(table) for table in tables]
    assert rows[0] == rows[1] == rows[2] == rows[3]
    # All that the wide table says, and once only.
    wide = blocks(in_a_terminal(runs, 400))
    assert len(wide) == 1
    for name, cells in wide[0].items():
        assert [table[name][0] for table in tables] == [cells[0]] * 4
        assert [cell for table in tables for cell in table[name][1:]] == cells[1:]


def test_as_many_runs_in_a_block_as_fit(tmp_path: Path) -> None:
    runs = [run(tmp_path, name) for name in "abcde"]
    assert [len(table["number"]) for table in blocks(in_a_terminal(runs, 130))] == [9]
    some = [len(table["number"]) for table in blocks(in_a_terminal(runs, 80))]
    assert sum((count - 1) // 2 for count in some) == 4 and len(some) < 4


def test_long_names_are_broken_and_numbers_are_not(tmp_path: Path) -> None:
    runs = [run(tmp_path, name, ("performance.cycles_per_frame", value),
                ("resources.other", {"a_cell_whose_name_is_as_long_as_this_one_is":
                                     {"used": 7, "available": 8}}))
            for name, value in (("a", 1_234_567_890), ("b", 987_654_321), ("c", 3))]
    for table in blocks(in_a_terminal(runs, 80)):
        assert "a_cell_whose_name_is_as_long_as_this_one_is" in {
            name.replace(" ", "") for name in table
        }
        assert table["cycles a frame"][0] == "1,234,567,890"


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80])
def test_no_number_is_cut_off(tmp_path: Path, width: int) -> None:
    table = two(tmp_path, *FASTER, ("accuracy.value", 0.18162545774718347))
    assert "…" not in shown(terminal.comparison(table), width)


def test_a_pipe_breaks_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    values = (987_654_321, 4_321, 55_555_555, 876_543_210, 1_234_567_890)
    runs = [run(tmp_path, str(n), ("performance.cycles_per_frame", value),
                ("resources.lut.used", value)) for n, value in enumerate(values)]
    done = CliRunner().invoke(cli.app, ["compare", *(one.source for one in runs)])
    assert done.exit_code == 0
    for text in (done.stdout, terminal.plain(terminal.comparison(compare.comparison(runs)))):
        lines = [line for line in text.splitlines() if line.startswith("cycles a frame")]
        assert [cell.split()[0] for cell in lines[0].split("│")[1:]] == [
            "987,654,321", "4,321", "-987,650,000", "55,555,555", "-932,098,766", "876,543,210",
            "-111,111,111", "1,234,567,890", "+246,913,569",
        ]


def test_numbers_for_people() -> None:
    assert [compare.shown(v) for v in (16_765, 130.087, 106.5, 160_000.0, 0.0, 1e-7, None)] == [
        "16,765", "130.087", "106.5", "160,000", "0", "1e-07", "null"
    ]


runner = CliRunner()


def hwflow(*words: object) -> tuple[int, str, str]:
    done = runner.invoke(cli.app, [str(word) for word in words])
    if isinstance(done.exception, HwflowError):
        return 1, done.stdout, done.stderr + str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_command(tmp_path: Path) -> None:
    run(tmp_path, "a")
    run(tmp_path, "b", *FASTER)
    a, b = tmp_path / "a", tmp_path / "b"
    code, out, _ = hwflow("compare", a, b)
    assert code == 0
    assert "16,624" in out
    code, out, error = hwflow("compare", a, b, "--fail-if", "lut>+2%", "--fail-if", "fps<-1%",
                              "--fail-if", "dsp>192", "--format", "json")
    assert code == 1
    assert error.splitlines() == [
        "broken: lut>+2%: LUT went from 16,298 to 16,624 (+2.000 %)", "broken: dsp>192: DSP is 193",
    ]
    assert len(json.loads(out)["breaches"]) == 2
    for form in ("table", "md", "html", "json"):
        target = tmp_path / f"out.{form}"
        assert hwflow("compare", a, b, "--format", form, "--out", target)[0] == 0
        assert "16,624" in target.read_text() or "16624" in target.read_text()


def test_the_command_on_mixed_kinds(tmp_path: Path) -> None:
    run(tmp_path, "a")
    run(tmp_path, "b", ("resources.kind", "post-route"))
    words = ("compare", tmp_path / "a", tmp_path / "b", "--fail-if", "lut>+2%")
    code, out, error = hwflow(*words)
    assert code == 1
    assert "post-synthesis estimate" in out
    assert "add --allow-mixed-kinds" in error
    assert hwflow(*words, "--allow-mixed-kinds")[0] == 0


def test_the_command_makes_and_updates_a_baseline(tmp_path: Path) -> None:
    run(tmp_path, "a")
    run(tmp_path, "b", *FASTER)
    file = tmp_path / "baselines/mine.json"
    words = ("compare", file, tmp_path / "a", "--update-baseline")
    assert "is not there yet" in hwflow(*words, "--fail-if", "lut>+2%")[2]
    assert hwflow(*words)[0] == 0
    first = file.read_bytes()
    assert hwflow("compare", file, tmp_path / "b", "--fail-if", "lut>+2%")[0] == 1
    code, out, _ = hwflow("compare", file, tmp_path / "b", "--update-baseline")
    assert code == 0
    assert "16,624" in out
    assert file.read_bytes() != first
    assert hwflow("compare", file, tmp_path / "b", "--fail-if", "lut>+0%")[0] == 0
    code, _, error = hwflow("compare", tmp_path / "a", tmp_path / "b", "--update-baseline")
    assert code == 1
    assert "is no baseline" in error


def test_names_of_strangers_do_nothing_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "stat.json"
    path.write_text(json.dumps({
        "creator": "Yosys 0.9", "modules": {"[/evil]\x1b[31m": {}},
        "design": {"num_cells_by_type": {"[/b]\x1b[2J": 3, "LUT4": 2}},
    }))
    run(tmp_path, "ours")
    other = tmp_path / "other.json"
    code, out, _ = hwflow("report", "read", path, "--out", other)
    assert code == 0
    assert "[/b]?[2J" in out
    assert "\x1b[2J" not in out
    code, out, _ = hwflow("compare", tmp_path / "ours", other)
    assert code == 0
    assert "[/evil]?[31m" in out


def test_a_run_of_another_tool_beside_ours(tmp_path: Path) -> None:
    run(tmp_path, "ours")
    other = tmp_path / "finn.json"
    code, out, _ = hwflow("report", "read", DATA / "vivado_utilisation.txt",
                          DATA / "csynth_2022.xml", "--out", other, "--board", "pynq-z2")
    assert code == 0
    assert "31,234 of 53,200" in out
    code, out, _ = hwflow("compare", tmp_path / "ours", other, "--format", "json")
    assert code == 0
    rows = {one["name"]: one for one in json.loads(out)["rows"]}
    assert [one["value"] for one in rows["lut"]["numbers"]] == [16_298, 31_234]
    assert "not the same kind" in rows["lut"]["changes"][0]["mixed"]
    assert rows["mismatches"]["numbers"][1]["value"] is None
    why = rows["mismatches"]["numbers"][1]["reason"]
    assert why == "qonnx, hls, rtl: no such number in vivado_utilisation.txt, csynth_2022.xml"
    code, out, _ = hwflow("compare", tmp_path / "ours", other)
    assert "cycles of each layer: only in A" in out
    assert "layer0.conv" not in out
    assert hwflow("report", other)[0] == 0
    assert schema.read(other).resources.kind == "post-route"
