# SPDX-License-Identifier: Apache-2.0
"""What a network of tables is said to take before it is trained: never less than the emitter's
count, never more than the budget it was sized for."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

from hwflow.emit.tables import Encoder, Options, Width, emit, estimate, luts_for, most_tables
from hwflow.emit.tables import cost as formula
from hwflow.emit.tables.compress import luts as searched
from hwflow.emit.tables.functions import Forms
from hwflow.emit.tables.write import target
from hwflow.errors import ConfigError
from hwflow.models import dtnn
from hwflow.models.dtnn import DtnnConfig, Layer, Tables
from hwflow.peers import ours
from hwflow.plan import PYTHON, Command, Plan, execute

FLAT = "synth_xilinx -family xc7 -flatten -noiopad -top tables_core\ntee -q -o stat.json stat -json"


def drawn(cfg: DtnnConfig, seed: int, thresholds: np.ndarray | None = None) -> Tables:
    """Random wires and contents, nothing of it repeated or left out but by chance."""
    rng = np.random.default_rng(seed)
    if thresholds is None and cfg.levels == 1:
        thresholds = np.full((cfg.features, 1), dtnn.TOP_BIT, np.int64)
    elif thresholds is None:
        step = 1 << (8 - cfg.precision)
        thresholds = step * rng.integers(1, 256 // step, (cfg.features, cfg.levels))
    thresholds = np.sort(thresholds, axis=1)
    layers, channels, read = [], thresholds.size, 1
    for count, bits in zip(cfg.widths, cfg.bits, strict=True):
        children = rng.permuted(np.tile(np.arange(channels), (count, 1)), axis=1)[:, :cfg.inputs]
        wires = (children[:, :, None] * read + np.arange(read)).reshape(count, -1)
        values = rng.integers(0, 1 << bits, (count, 1 << wires.shape[1]))
        layers.append(Layer(wires.astype(np.int32), values.astype(np.int16), bits))
        channels, read = count, bits
    return Tables(cfg.shape, thresholds, tuple(layers), cfg.classes if cfg.head == "sum" else 0)


def counted(net: Tables) -> int:
    return sum(part.luts for part in estimate(ours.graph(net)).values())


@pytest.mark.parametrize("seed", range(16))
def test_a_network_never_exceeds_the_budget_it_was_sized_for(seed: int) -> None:
    rng = random.Random(seed)
    shape = rng.choice([(1, 12, 12), (30, 1, 1), (12, 1, 1)])
    classes, levels = rng.choice([2, 3, 10]), rng.choice([1, 2, 7, 24])
    precision, luts = rng.choice([4, 5, 6, 8]), rng.choice([150, 400, 700])
    cfg = dtnn.sized(luts, shape, classes, levels, precision)
    net = drawn(cfg, seed)
    assert counted(net) <= dtnn.cost(cfg) <= luts
    # with the thresholds themselves the size is known better, and is used up
    known = dtnn.sized(luts, shape, classes, levels, precision, net.thresholds)
    assert known.widths >= cfg.widths
    assert counted(drawn(known, seed, net.thresholds)) <= dtnn.cost(known, net.thresholds) <= luts
    more = dataclasses.replace(known, widths=(known.widths[0] + classes,))
    assert dtnn.cost(more, net.thresholds) > luts


@pytest.mark.parametrize("seed", range(12))
def test_the_cost_of_any_network_is_enough(seed: int) -> None:
    """Several layers, codes of several bits, root codes, wide addresses, several thresholds."""
    rng = random.Random(seed)
    classes = rng.choice([2, 5, 10])
    bits = tuple(rng.choice([1, 2, 3]) for _ in range(rng.choice([1, 2, 3])))
    head = rng.choice(["sum", "codes"])
    roots = classes * (rng.randint(1, 9) if head == "sum" else 1)
    cfg = DtnnConfig(
        "drawn", (*(rng.choice([20, 40]) for _ in bits[1:]), roots), (15, 1, 1), classes,
        rng.choice([1, 3, 9]), inputs=rng.choice([2, 3, 4] if max(bits) > 1 else [4, 6, 9]),
        bits=bits, head=head, precision=rng.choice([3, 6, 7, 8]),
    )  # fmt: skip
    net = drawn(cfg, seed)
    assert counted(net) <= dtnn.cost(cfg, net.thresholds) <= dtnn.cost(cfg)


@pytest.mark.parametrize("luts", [150, 700, 1550])
def test_the_cost_of_a_preset_is_near(luts: int) -> None:
    cfg = dtnn.sized(luts)
    assert 0.92 * dtnn.cost(cfg) <= counted(drawn(cfg, 0)) <= dtnn.cost(cfg)


def test_yosys_keeps_the_budget_with_several_thresholds(tmp_path: Path) -> None:
    thresholds = np.arange(20, 240, 20) + np.arange(10)[:, None]
    cfg = dtnn.sized(300, (10, 1, 1), 2, thresholds.shape[1], thresholds=thresholds)
    design = emit(ours.graph(drawn(cfg, 1, thresholds)), Options())
    reads = "\n".join(f"read_verilog -sv {name}" for name in design.files)
    command = Command((PYTHON, "-m", "hwflow.toolchain.yosys_run", "synth.ys"), "yosys.log")
    execute(Plan({**design.files, "synth.ys": f"{reads}\n{FLAT}\n"}, (command,), ("stat.json",),
                 "synth"), tmp_path)  # fmt: skip
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    found = sum(n for kind, n in cells.items() if kind.startswith(("LUT", "SRL", "INV")))
    assert 0.9 * dtnn.cost(cfg, thresholds) <= found <= design.luts <= 300


@pytest.mark.parametrize(("count", "bits"), [
    (1, 1), (2, 1), (16, 1), (31, 1), (33, 1), (64, 1), (97, 1), (126, 1),
    (1, 2), (7, 2), (16, 2), (17, 2), (48, 2), (1, 3), (10, 3), (11, 3), (34, 3),
])  # fmt: skip
def test_sums_take_at_most_what_is_said(count: int, bits: int) -> None:
    width = (count * ((1 << bits) - 1)).bit_length()
    needed = searched((count,) * bits + (0,) * (width - bits)) if count > 1 else 0
    assert needed <= formula.sum_luts(count, bits) <= 1.1 * needed + 4
    for to in ("xilinx", "ice40"):
        exact = _by_adders(count, bits, to)
        assert exact <= formula.sum_luts(count, bits, to, carry=False)


def _by_adders(count: int, bits: int, to: str) -> int:
    from hwflow.emit.tables import heads
    from hwflow.emit.tables.netlist import Builder, Dual, Table, alive, paired

    builder = Builder(target(to).fabric)
    heap = [[builder.input(r * count + c) for c in range(count)] for r in range(bits)]
    made = heads.sum_by_adders(builder, heap, (count * ((1 << bits) - 1)).bit_length())
    cells = alive(builder.cells, [x >> 1 for x in made])
    if builder.fabric.dual:
        cells = paired(cells, builder.stage)
    return sum(isinstance(c, Table | Dual) for c in cells)


@pytest.mark.parametrize("to", ["xilinx", "ecp5", "ice40", "gowin", "portable"])
def test_a_table_takes_at_most_what_is_said(to: str) -> None:
    rng = np.random.default_rng(5)
    forms = Forms(target(to).fabric)
    for width in range(2, 11):
        for _ in range(4):
            values = rng.integers(0, 2, 1 << width).astype(bool)
            assert forms.cost(values) <= formula.table_luts(width, 1, to)


def test_comparators() -> None:
    """Equal thresholds of a feature are one; those of the top bits are wires or cheap."""
    thresholds = np.array([[64, 64, 65], [128, 128, 128], [0, 8, 4]])
    dear = formula.threshold_luts(65)
    assert dear == 2
    assert formula.encoder(thresholds).luts == (dear, 1, 1, 1, 0, 0)
    assert formula.encoder_of(3, 4, 6).luts == (1,) * 12
    assert formula.encoder_of(3, 4).luts == (2,) * 12
    assert formula.encoder_of(3, 1, 1).luts == (0,) * 3
    assert Encoder((2, 2, 1, 0)).read(3) == 5 and Encoder((2, 2, 1, 0)).read(9) == 5
    parts = luts_for([Width(2, 6)], 2, comparators=Encoder((2,) * 100))
    assert parts["encoder"] == 24  # two tables have twelve pins


@pytest.mark.parametrize(("luts", "classes", "levels"), [(20, 10, 1), (25, 10, 7), (3, 2, 2)])
def test_a_budget_that_nobody_can_meet(luts: int, classes: int, levels: int) -> None:
    with pytest.raises(ConfigError, match=f"{luts} LUTs hold no network of {classes} "
                       r"classes: .* take up to (\d+); give as many or more") as found:  # fmt: skip
        dtnn.sized(luts, (12, 1, 1), classes, levels)
    least = int(str(found.value).split("up to ")[1].split(";")[0])
    assert dtnn.sized(least, (12, 1, 1), classes, levels).widths == (classes,)
    with pytest.raises(ConfigError):
        dtnn.sized(least - 1, (12, 1, 1), classes, levels)


def test_large_budgets_are_sized_at_once() -> None:
    for luts in (20_000, dtnn.MOST_LUTS):
        assert 0.99 * luts <= dtnn.cost(dtnn.sized(luts)) <= luts
    with pytest.raises(ConfigError, match="1 to 1,000,000"):
        dtnn.sized(10**7)
    assert most_tables(10**6) == dtnn.sized(10**6).widths[0]
