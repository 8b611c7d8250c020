# SPDX-License-Identifier: Apache-2.0
"""`hwflow bench tables`: the mapped netlist is evaluated as the hardware works, rows add up."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from hwflow import bench_tables, cli_tables
from hwflow.cli import app
from hwflow.data import samples as sources
from hwflow.data.samples import Samples
from hwflow.errors import ConfigError, HwflowError, ToolError, VerifyError
from hwflow.models import dtnn
from hwflow.peers import mlp, ours, rows, trees
from hwflow.peers.design import Data, Design, Place, flat
from hwflow.peers.rows import Row
from hwflow.plan import execute
from hwflow.toolchain import netlist

COUNT = 203  # samples, no multiple of 8
MIXED = """
module mixed (
  input logic clk, input logic en, input logic [23:0] x,
  output logic [8:0] sum, output logic less, output logic [7:0] masked, output logic [3:0] late,
  output logic [7:0] wide
);
  logic [8:0] sum_1;
  logic less_1;
  logic [7:0] masked_1;
  logic [3:0] pipe [0:18];
  logic [255:0] rom;
  always_ff @(posedge clk) if (en) begin
    sum_1 <= {1'b0, x[7:0]} + {1'b0, x[15:8]};
    sum <= sum_1;
    less_1 <= $signed(x[7:0]) < $signed(x[23:16]);
    less <= less_1;
    masked_1 <= x[16] ? 8'hff : x[17] ? 8'h00 : x[7:0] ^ x[15:8];
    masked <= masked_1;
    pipe[0] <= x[3:0] ^ x[7:4];
    for (int n = 1; n < 19; n++) pipe[n] <= pipe[n - 1];
    late <= pipe[18];
    wide <= x[7:0] * x[15:8];
  end
endmodule
"""


def design(text: str, top: str, **changes: object) -> Design:
    found = Design({"design.sv": text}, top, "x", {"clk": 0, "en": 1}, "sum", 2,
                   np.zeros(COUNT, np.int64), None, "by hand")
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The netlist of MIXED."""
    where = tmp_path_factory.mktemp("mixed")
    execute(bench_tables.plan(design(MIXED, "mixed")), where)
    return where / "netlist.json"


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """Bytes uint8 (COUNT, 3)."""
    return np.random.default_rng(3).integers(0, 256, (COUNT, 3)).astype(np.uint8)


def bits(x: np.ndarray) -> np.ndarray:
    """Bytes (N, F) -> bits (8 * F, N) by division, not by unpackbits."""
    return np.array([x[:, place // 8] // 2 ** (place % 8) % 2 for place in range(8 * x.shape[1])],
                    np.uint8)  # fmt: skip


def test_a_netlist_computes_what_its_source_says(mixed: Path, samples: np.ndarray) -> None:
    made = netlist.read(mixed, "mixed")
    kinds = {cell.kind for cell in made.cells}
    assert {"CARRY4", "FDRE"} <= kinds and kinds & {"SRL16E", "SRLC32E"}
    found = netlist.evaluate(made, {"x": bits(samples)}, {"clk": 0, "en": 1})
    a, b, c = samples.astype(np.int64).T
    signed = np.where(samples > 127, samples.astype(np.int64) - 256, samples)
    expected = {
        "sum": a + b, "less": signed[:, 0] < signed[:, 2], "late": (a % 16) ^ (a // 16),
        "masked": np.where(c % 2 == 1, 255, np.where(c // 2 % 2 == 1, 0, a ^ b)),
    }
    for port, numbers in expected.items():
        np.testing.assert_array_equal(found[port].numbers, numbers, err_msg=port)
    stages = {port: found[port].stage for port in expected}
    assert stages == {"sum": 2, "less": 2, "masked": 2, "late": 20}


def test_a_register_that_is_not_enabled_is_refused(mixed: Path, samples: np.ndarray) -> None:
    made = netlist.read(mixed, "mixed")
    with pytest.raises(VerifyError, match=r"mixed: .* is not enabled in every cycle"):
        netlist.evaluate(made, {"x": bits(samples)}, {"clk": 0, "en": 0})


def test_ports_must_all_be_given(mixed: Path, samples: np.ndarray) -> None:
    made = netlist.read(mixed, "mixed")
    with pytest.raises(VerifyError, match="input ports are clk, en, x"):
        netlist.evaluate(made, {"x": bits(samples)}, {"clk": 0})
    with pytest.raises(VerifyError, match="port x has 24 bits"):
        netlist.evaluate(made, {"x": bits(samples)[:5]}, {"clk": 0, "en": 1})


def cell(kind: str, pins: dict[str, list[int | str]], **parameters: str) -> dict[str, object]:
    return {"type": kind, "parameters": parameters, "connections": pins}


def by_hand(tmp_path: Path, cells: dict[str, object], out: int) -> netlist.Netlist:
    """A netlist of inputs 2 and 3, and net `out` as its output."""
    path = tmp_path / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": {
        "ports": {"x": {"direction": "input", "bits": [2, 3]},
                  "y": {"direction": "output", "bits": [out]}},
        "cells": cells,
    }}}))  # fmt: skip
    return netlist.read(path, "top")


def flop(d: int | str, q: int) -> dict[str, object]:
    return cell("FDRE", {"C": ["0"], "CE": ["1"], "R": ["0"], "D": [d], "Q": [q]})


REFUSED = {
    "mixes values from behind 0 and 1 registers": {
        "r": flop(2, 4),
        "l": cell("LUT2", {"I0": [4], "I1": [3], "O": [9]}, INIT="1000"),
    },
    "is in a loop": {
        "a": cell("LUT2", {"I0": [2], "I1": [9], "O": [5]}, INIT="1000"),
        "b": cell("LUT2", {"I0": [5], "I1": [3], "O": [9]}, INIT="0110"),
    },
    "cannot be evaluated": {"m": cell("RAMB36E1", {"DOADO": [9]})},
    "nothing drives net 7": {"l": cell("LUT1", {"I0": [7], "O": [9]}, INIT="01")},
    "has two drivers": {
        "a": cell("LUT1", {"I0": [2], "O": [9]}, INIT="01"),
        "b": cell("LUT1", {"I0": [3], "O": [9]}, INIT="10"),
    },
    "is reset by a sample": {
        "r": cell("FDCE", {"C": ["0"], "CE": ["1"], "CLR": [3], "D": [2], "Q": [9]}),
    },
    "no parameter INIT": {"l": cell("LUT1", {"I0": [2], "O": [9]})},
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, why: str) -> None:
    with pytest.raises(VerifyError, match=why):
        netlist.evaluate(by_hand(tmp_path, REFUSED[why], 9), {"x": np.eye(2, dtype=np.uint8)}, {})


def test_cells_by_their_data_sheet(tmp_path: Path) -> None:
    """A LUT6_2 with five inputs for both outputs, a MUXF7, an inverter, and a set by data."""
    init = "".join(str(int(n in (0, 7, 33, 63))) for n in reversed(range(64)))
    x = np.array([[0, 1, 0, 1], [0, 0, 1, 1]], np.uint8)
    six = {"I0": [2], "I1": [3], "I2": ["0"], "I3": ["0"], "I4": ["0"], "I5": ["1"]}
    cells = {
        "l": cell("LUT6_2", {**six, "O6": [5], "O5": [6]}, INIT=init),
        "m": cell("MUXF7", {"I0": [5], "I1": [6], "S": [3], "O": [7]}),
        "i": cell("INV", {"I": [7], "O": [8]}),
        "s": cell("FDSE", {"C": ["0"], "CE": ["1"], "S": [2], "D": [8], "Q": [9]}),
    }
    # O6 at address 32 + x: only 33 holds a one; O5 at address x: only 0 does.
    six_out, five_out = [0, 1, 0, 0], [1, 0, 0, 0]
    muxed = [six_out[0], six_out[1], five_out[2], five_out[3]]
    expected = [int(not m or a) for m, a in zip(muxed, x[0], strict=True)]
    found = netlist.evaluate(by_hand(tmp_path, cells, 9), {"x": x}, {})["y"]
    assert (found.numbers.tolist(), found.stage) == (expected, 1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"modules": {"top": {"cells": []}}}'])
def test_a_file_that_is_no_netlist(tmp_path: Path, text: str) -> None:
    path = tmp_path / "netlist.json"
    path.write_text(text)
    with pytest.raises(ToolError, match="is no netlist of top"):
        netlist.read(path, "top")


# ---- rows


@pytest.fixture(scope="module")
def data() -> Data:
    """Three features, two classes: which of the first two bytes is larger."""
    rng = np.random.default_rng(5)

    def split(name: str, count: int) -> Samples:
        images = rng.integers(0, 256, (count, 3, 1, 1)).astype(np.uint8)
        labels = (images[:, 0, 0, 0] < images[:, 1, 0, 0]).astype(np.int64)
        return Samples("made", name, ("a", "b"), "by hand", None, 0, images, labels)

    return Data("made", split("train", 40), split("test", COUNT))


LARGER = """module larger (input logic clk, input logic [23:0] pixels, output logic out_class);
  always_ff @(posedge clk) out_class <= pixels[7:0] < pixels[15:8];
endmodule
"""


@pytest.fixture(scope="module")
def larger(data: Data) -> Design:
    return Design({"larger.sv": LARGER}, "larger", "pixels", {"clk": 0}, "out_class", 1,
                  data.test.labels.copy(), 0.25, "by hand", "a note")


def as_set(data: Data, settings: Mapping[str, object], place: Place) -> dict[str, object]:
    """A recipe of nothing but the settings."""
    return dict(settings)


ROW = Row("larger", "comparison", "peer", "made", lambda data, settings, place: None,  # type: ignore[arg-type,return-value]
          as_set, {})


def test_a_record_holds_what_was_synthesised(
    data: Data, larger: Design, tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = tmp_path_factory.mktemp("larger")
    one = bench_tables.count(ROW, 0, data, larger, where)
    assert (one.accuracy, one.samples, one.mismatches, one.stages) == (100.0, COUNT, 0, 1)
    body = json.loads((where / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert one.lut == sum(n for kind, n in body.items() if kind.startswith(("LUT", "INV", "SRL")))
    assert (one.ff, one.dsp, one.bram) == (body["FDRE"], 0, 0)
    assert 0 < one.lut < 20 and one.carry4 == body.get("CARRY4", 0)
    # One sample of which the model thinks otherwise is found, and counts for the accuracy.
    wrong = larger.predicted.copy()
    wrong[17] ^= 1
    other = bench_tables.count(ROW, 0, data, replace(larger, predicted=wrong), where)
    assert (other.mismatches, other.accuracy) == (1, round(100 * (COUNT - 1) / COUNT, 2))
    with pytest.raises(VerifyError, match="1 registers lie between"):
        bench_tables.count(ROW, 0, data, replace(larger, stages=2), where)
    with pytest.raises(VerifyError, match="3 classes for 203 samples"):
        bench_tables.count(ROW, 0, data, replace(larger, predicted=wrong[:3]), where)


def test_a_network_of_tables_goes_through_the_same_bench(tmp_path: Path) -> None:
    """Random tables; the class expected of the netlist is that of the arrays, in numpy."""
    rng = np.random.default_rng(11)

    def layer(reads: int, tables: int) -> dtnn.Layer:
        return dtnn.Layer(rng.integers(0, reads, (tables, 6)).astype(np.int32),
                          rng.integers(0, 2, (tables, 64)).astype(np.int16))

    made = dtnn.Tables((5, 1, 1), np.tile(np.array([[96, 128]], np.int64), (5, 1)),
                       (layer(10, 14), layer(14, 12)), 3)
    images = rng.integers(0, 256, (COUNT, 5, 1, 1)).astype(np.uint8)
    labels = rng.integers(0, 3, COUNT)
    split = Samples("made", "test", ("a", "b", "c"), "by hand", None, 0, images, labels)
    one = bench_tables.count(ROW, 0, Data("made", split, split),
                             ours.design(made, split, None, "hwflow"), tmp_path)
    assert (one.mismatches, one.train_minutes, one.dsp) == (0, None, 0)
    assert one.parts is not None and sum(one.parts.values()) >= one.lut > 20


def some(name: str, data: str, seed: int, accuracy: float, who: str = "peer") -> object:
    return bench_tables.TablesRecord(
        name, f"method {name}", who, data, seed, accuracy, 100, 1234 + seed, 5, 6, 7, 0, 0.0, 3, 0,
        1.5, "somewhere", "a note", {"LUT6": 1234}, {"encoder": 30, "encoder2": 4, "tables": 1300},
        "Yosys",
    )  # fmt: skip


def test_results_of_other_rows_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep/bench.json"
    first = bench_tables.Results((some("a", "mnist", 0, 90.0), some("b", "mnist", 0, 91.0)), ())
    bench_tables.write(path, first)
    gone = bench_tables.Missing("b", "method b", "peer", "mnist", 0, "x is not installed", False)
    never = replace(gone, name="c")
    later = (some("a", "mnist", 1, 95.0),)
    bench_tables.write(path, bench_tables.Results(later, (gone, never)))
    found = bench_tables.read(path)
    assert [(one.name, one.seed) for one in found.records] == [("a", 0), ("a", 1), ("b", 0)]
    assert found.missing == (never,)
    # what broke takes the place of what was measured before
    broken = replace(gone, reason="it crashed", failed=True)
    bench_tables.write(path, bench_tables.Results((), (broken,)))
    found = bench_tables.read(path)
    assert [one.name for one in found.records] == ["a", "a"]
    assert found.missing == (broken, never)
    # and is gone when it works again
    bench_tables.write(path, first)
    assert bench_tables.read(path).missing == (never,)


def test_a_record_is_measured_again_when_its_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, larger: Design
) -> None:
    """And not otherwise; what was measured says by which tool."""
    built: list[object] = []

    def build(data: Data, settings: Mapping[str, object], place: Place) -> Design:
        built.append(settings["threshold"])
        text = LARGER.replace("[23:0]", f"[{8 * data.features - 1}:0]")
        x = flat(data.test.images)
        return replace(larger, files={"larger.sv": text},
                       predicted=(x[:, 0] < x[:, 1]).astype(np.int64))

    def rounds(threshold: int, before: bench_tables.Results | None) -> bench_tables.Results:
        row = Row("larger", "comparison", "peer", "digits", build, as_set,
                  {"threshold": threshold}, seeds=(0, 1))
        return bench_tables.measure((row,), tmp_path, tmp_path, Path(sys.executable),
                                    before=before)

    loads: list[str] = []

    def load(self: Place, spec: str) -> Data:
        loads.append(spec)
        return Data(spec, *(sources.load(spec, name, tmp_path) for name in ("train", "test")))

    monkeypatch.setattr(Place, "data", load)
    first = rounds(3, None)
    assert built == [3, 3] and not first.missing
    assert loads == ["digits"]  # once for both seeds
    assert [one.recipe for one in first.records] == [{"seed": n, "threshold": 3} for n in (0, 1)]
    assert len({one.digest for one in first.records}) == 2
    file = tmp_path / "bench.json"
    bench_tables.write(file, first)
    assert rounds(3, bench_tables.read(file)) == first and built == [3, 3]
    other = rounds(4, first)
    assert built == [3, 3, 4, 4]
    assert {one.digest for one in other.records}.isdisjoint(one.digest for one in first.records)
    monkeypatch.setattr(bench_tables.yosys, "version", lambda: "Yosys 9.99 (by hand)")
    assert "Yosys 9.99" not in bench_tables.markdown(first)
    assert first.records[0].tool in bench_tables.markdown(first)
    assert [one.tool for one in rounds(4, other).records] == ["Yosys 9.99 (by hand)"] * 2
    mixed = bench_tables.Results((*first.records, replace(first.records[0], tool="B 2")), ())
    assert f"B 2, {first.records[0].tool}" in bench_tables.origin(mixed)


def test_a_record_without_a_recipe_is_measured_again(tmp_path: Path) -> None:
    """Files of before have none."""
    path = tmp_path / "bench.json"
    bench_tables.write(path, bench_tables.Results((some("a", "mnist", 0, 90.0),), ()))
    body = json.loads(path.read_text())
    for name in ("recipe", "digest"):
        del body["records"][0][name]
    path.write_text(json.dumps(body))
    assert bench_tables.read(path).records[0].digest == ""


def test_an_mlp_is_trained_again_when_its_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Data
) -> None:
    trained: list[int] = []

    def train(data: Data, chosen: Mapping[str, int], file: Path) -> float:
        trained.append(chosen["epochs"])
        raise ToolError("far enough")

    place = Place(tmp_path, tmp_path, Path(sys.executable))
    monkeypatch.setattr(mlp, "train", train)
    with pytest.raises(ToolError, match="far enough"):
        mlp.build(data, {"seed": 0}, place)
    had = mlp.recipe(data, {"seed": 0}, place)
    assert had["epochs"] == mlp.DEFAULTS["epochs"] and had["torch"]
    kept = {"minutes": 1.0, "recipe": {**had, "hidden": [16], "data": data.train.sha256}}
    (tmp_path / mlp.FIT).write_text(json.dumps(kept))
    with pytest.raises(HwflowError) as found:  # no file of a network, but it is not trained
        mlp.build(data, {"seed": 0}, place)
    assert "far enough" not in str(found.value) and len(trained) == 1
    monkeypatch.setattr(mlp, "DEFAULTS", {**mlp.DEFAULTS, "epochs": 7})
    with pytest.raises(ToolError, match="far enough"):
        mlp.build(data, {"seed": 0}, place)
    assert trained[-1] == 7


def test_examples_of_the_help_name_rows() -> None:
    for example in re.findall(r"`hwflow bench tables(.*?)`", cli_tables.EPILOG):
        words = example.split()
        given = dict(pairwise(words))
        assert bench_tables.choose(given.get("--only"), given.get("--data"))


@pytest.mark.parametrize("text", ["", "[]", '{"records": [{"name": 3}], "missing": []}'])
def test_a_file_of_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is no file of this version"):
        bench_tables.read(path)
    with pytest.raises(ConfigError, match="is not there"):
        bench_tables.read(tmp_path / "none.json")


def test_of_several_seeds_the_median_is_shown() -> None:
    ones = tuple(some("a", "mnist", seed, value) for seed, value in
                 enumerate((96.1, 97.3, 96.8)))  # fmt: skip
    ((first, *rest),) = bench_tables.medians(ones)
    assert (first.seed, len(rest)) == (2, 2)
    text = bench_tables.markdown(bench_tables.Results(ones, ()))
    row = next(line for line in text.splitlines() if line.startswith("| method a | peer"))
    assert "96.80 (median of 3 seeds, 96.10 to 97.30)" in row
    assert "1,236" in row and "0 of 300" in row
    assert "| method a | mnist | 34 | 1,300 | 1,334 | 1,236 |" in text


def test_published_numbers_have_a_table_of_their_own() -> None:
    own = bench_tables.markdown(bench_tables.Results((some("a", "mnist", 0, 90.0),), ()))
    cited = bench_tables.published()
    assert "Vivado" in cited and "Vivado" not in own and "Yosys" not in cited
    widths = {line.count(" | ") for line in cited.splitlines()}
    assert len(widths) == 1


def test_the_figure_has_every_design_once(tmp_path: Path) -> None:
    ones = tuple(replace(some(f"r{n}", "mnist", 0, 95 + n, "ours" if n else "peer"),
                         lut=700 * 3**n, method=f"<method {n}> of three")
                 for n in range(3))  # fmt: skip
    assert bench_tables.figure(bench_tables.Results(ones[:1], ()), "mnist") is None
    text = bench_tables.figure(bench_tables.Results(ones, ()), "mnist")
    assert text is not None
    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(text)
    marks = list(root.iter(f"{space}g"))
    assert [mark.find(f"{space}title").text for mark in reversed(marks)] == [
        f"<method {n}> of three ({'ours' if n else 'peer'}): {95 + n:.2f} % at {700 * 3**n:,} LUT"
        for n in range(3)
    ]
    # Equal steps of the logarithm are equal steps on the axis.
    circles = {m.find(f"{space}title").text[8]: m for m in marks}
    at = [float(circles[str(n)].find(f"{space}circle").get("cx")) for n in (1, 2)]
    # Only the label of the one at the right end lies to its left.
    assert [circles[str(n)].find(f"{space}text").get("class") for n in range(3)] == [
        "start", "start", "end"]
    path = circles["0"].find(f"{space}path").get("d")
    x0 = float(path.split()[0].removeprefix("M"))
    assert at[1] - at[0] == pytest.approx(at[0] - x0, abs=0.2)


def test_labels_do_not_lie_on_each_other() -> None:
    ones = tuple(replace(some(f"r{n}", "mnist", 0, 95.0), lut=1000 + n) for n in range(4))
    places = [(300.0 + n, 200.0, one) for n, one in enumerate(ones)]
    marks = bench_tables._labelled(places)
    rows = sorted(mark.label_y for mark in marks)
    assert all(after - before >= bench_tables.LINE
               for before, after in pairwise(rows))


# ---- the command


def test_rows_are_chosen_by_name_and_data() -> None:
    assert bench_tables.choose(None, None) == rows.ROWS
    chosen = bench_tables.choose("trees-small", "keel:magic, keel:optdigits")
    assert {(row.name, row.data) for row in chosen} == {
        ("trees-small", "keel:magic"), ("trees-small", "keel:optdigits")}
    for only, spec, why in (("nobody", None, "--only 'nobody': give some of"), ("", None, "--only"),
                            (None, "mars", "--data 'mars'"),
                            ("trees-small", "mnist", "has no row with")):  # fmt: skip
        with pytest.raises(ConfigError, match=why):
            bench_tables.choose(only, spec)


def test_names_are_unique_and_settings_decide_the_folder() -> None:
    keys = [(row.name, row.data) for row in rows.ROWS]
    assert len(set(keys)) == len(keys)
    folders = {bench_tables.folder(row, seed) for row in rows.ROWS for seed in (0, 1)}
    assert len(folders) == 2 * len(rows.ROWS)
    row = rows.ROWS[0]
    other = replace(row, settings={**row.settings, "eta": 0.31})
    assert bench_tables.folder(row, 0) != bench_tables.folder(other, 0)


def test_a_peer_that_is_not_installed_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "PACKAGES", ("no-such-package-of-hwflow",))
    row = Row("trees", "boosted trees", "peer", "digits", trees.build, trees.recipe,
              {"rounds": 1})
    monkeypatch.setattr(rows, "ROWS", (row,))
    file = tmp_path / "bench.json"
    done = CliRunner().invoke(app, [
        "bench", "tables", "--json", str(file), "--out", str(tmp_path / "made"),
        "--peers-python", sys.executable, "--markdown",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "pip install 'hwflow[peers]'" in done.output
    assert json.loads(file.read_text())["missing"][0]["failed"] is False
    again = CliRunner().invoke(app, ["bench", "tables", "--json", str(file), "--show"])
    assert again.exit_code == 0 and "not installed" in again.output


def test_a_row_that_fails_is_named_and_the_command_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, larger: Design
) -> None:
    def build(data: Data, settings: object, place: Place) -> Design:
        raise ToolError("the trainer fell over")

    def wrong(data: Data, settings: object, place: Place) -> Design:
        text = LARGER.replace("[23:0]", f"[{8 * data.features - 1}:0]")
        return replace(larger, files={"larger.sv": text},
                       predicted=np.ones(len(data.test.labels), np.int64))

    monkeypatch.setattr(rows, "ROWS", (
        Row("broken", "broken", "peer", "digits", build, as_set, {}),
        Row("wrong", "wrong", "peer", "digits", wrong, as_set, {}),
    ))  # fmt: skip
    done = CliRunner().invoke(app, [
        "bench", "tables", "--json", str(tmp_path / "bench.json"), "--out", str(tmp_path / "made"),
    ])  # fmt: skip
    assert done.exit_code == 1 and "the trainer fell over" in done.output
    assert isinstance(done.exception, VerifyError)
    assert "samples differ between netlist and model; 1 rows failed" in str(done.exception)
