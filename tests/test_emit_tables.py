# SPDX-License-Identifier: Apache-2.0
"""Emitted table networks: the same numbers as the graph, and as many cells as the estimate says.

The netlist is run by an evaluator written here, the text by Yosys and hwflow.toolchain.netlist
(mapped cells) and by Verilator.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hwflow.emit.tables import (
    Options,
    Width,
    compress,
    emit,
    estimate,
    luts_for,
    most_tables,
    write,
)
from hwflow.emit.tables.cost import table_luts
from hwflow.emit.tables.functions import Fabric, Forms, number, vector
from hwflow.emit.tables.lower import lower
from hwflow.emit.tables.netlist import (
    Builder,
    Carry,
    Cell,
    Dual,
    Join,
    Register,
    Table,
    alive,
    makes,
    paired,
    reads,
)
from hwflow.errors import ConfigError, GraphError, VerifyError
from hwflow.ir import Graph, GraphBuilder, IntType
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.conv import ConvAttrs
from hwflow.sim import tables as simulation
from hwflow.toolchain import netlist as mapped
from tests.table_graphs import Layer, images, network

U1, U2, I3 = IntType(1, False), IntType(2, False), IntType(3, True)


def evaluate(
    cells: Sequence[Cell], given: dict[int, np.ndarray], count: int
) -> dict[int, np.ndarray]:
    """Every net for many samples; registers are wires, since all samples are steady."""
    values = {0: np.zeros(count, bool), **given}
    waiting = list(cells)
    while waiting:
        left = [c for c in waiting if any(n not in values for n in reads(c))]
        assert len(left) < len(waiting), "a loop, or a net that nobody drives"
        for c in waiting:
            if c in left:
                continue
            if isinstance(c, Table | Dual):
                ins = [values[n] for n in c.inputs]
                if isinstance(c, Dual):
                    ins += [values[0]] * (5 - len(ins))
                    ins += [~values[0]] * (6 - len(ins))
                address = sum((x.astype(int) << j for j, x in enumerate(ins)), np.zeros(1, int))
                contents = np.array([c.init >> a & 1 for a in range(1 << len(ins))], bool)
                if isinstance(c, Table):
                    values[c.out] = np.broadcast_to(contents[address], (count,))
                else:
                    values[c.six], values[c.five] = contents[address], contents[address & 31]
            elif isinstance(c, Join):
                values[c.out] = np.where(values[c.pick], values[c.one], values[c.zero])
            elif isinstance(c, Carry):
                moving = values[c.carry_in]
                for i in range(4):
                    if c.total[i] >= 0:
                        values[c.total[i]] = values[c.select[i]] ^ moving
                    moving = np.where(values[c.select[i]], moving, values[c.data[i]])
                    if c.carry[i] >= 0:
                        values[c.carry[i]] = moving
            else:
                values[c.q] = values[c.d]
        waiting = left
    return values


def number_of(values: dict[int, np.ndarray], literals: Sequence[int]) -> np.ndarray:
    bits = [(values[x >> 1] ^ bool(x & 1)).astype(np.int64) for x in literals]
    return np.asarray(sum(bit << j for j, bit in enumerate(bits)))


def same_as_graph(graph: Graph, options: Options, count: int = 400) -> None:
    """Classes and scores of the netlist, and that every cell reads values of one stage."""
    pictures = images(count, graph)
    classes, scores = simulation.reference(graph, pictures)
    to = write.target(options.target)
    made = lower(graph, to, options.table_levels, options.head_levels, options.carry and to.carry,
                 fan_out=options.fan_out)
    given = {n: (pictures[:, b // 8] >> b % 8 & 1).astype(bool) for n, b in made.inputs.items()}
    values = evaluate(made.cells, given, count)
    assert np.array_equal(number_of(values, made.class_bits), classes)
    found = np.stack([number_of(values, s) for s in made.scores], axis=1) - made.score_offset
    assert np.array_equal(found, scores)


def yosys(files: dict[str, str], commands: str, folder: Path) -> None:
    """Run Yosys on sources in a folder; the commands may use names relative to it."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(files, key=lambda n: (not n.endswith("_pkg.sv"), n))
    for name, text in files.items():
        (folder / name).write_text(text)
    script = "".join(f"read_verilog -sv {n}\n" for n in names) + commands
    (folder / "run.ys").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "hwflow.toolchain.yosys_run", "run.ys"], cwd=folder,
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


FLAT = """synth_xilinx -family xc7 -flatten -noiopad -top tables_core
check -assert
tee -q -o stat.json stat -json
write_json mapped.json
"""


def luts(cells: dict[str, int]) -> int:
    """LUT1 to LUT6, LUT6_2, and memories or shift registers in tables."""
    return sum(n for k, n in cells.items() if k.startswith(("LUT", "SRL", "RAM", "INV")))


RANDOM = list(range(24))


@pytest.mark.parametrize("seed", RANDOM)
def test_random_networks_equal_the_graph(seed: int) -> None:
    rng = random.Random(seed)
    thresholds = sorted(rng.sample(range(256), rng.choice([1, 1, 3, 4])))
    code = len(thresholds).bit_length()
    hidden = IntType(rng.choice([1, 2]), False)
    layers = [Layer(rng.choice([40, 80]), rng.randint(1, 9 // code), hidden)]
    out = IntType(rng.randint(1, 4), rng.random() < 0.4)
    sums = rng.random() < 0.7
    count = 4 * rng.choice([1, 2, 5, 13, 27, 50]) if sums else rng.choice([1, 2, 3, 7, 10])
    layers.append(Layer(count, rng.randint(1, 8 // hidden.bits), out))
    graph = network(
        layers, seed=seed, shape=(5, 8), thresholds=thresholds, groups=4 if sums else 0,
        last=rng.random() < 0.5, trained=rng.random() < 0.5,
    )
    target = list(write.TARGETS)[seed % 5] if seed % 2 else "xilinx"
    same_as_graph(
        graph, Options(target=target, table_levels=rng.randint(0, 2), head_levels=rng.randint(0, 3),
                       carry=rng.random() < 0.8, fan_out=rng.choice([0, 0, 1, 3])),
    )  # fmt: skip


def test_registers_have_few_readers() -> None:
    """Tables read registers of the image; each has so many readers, and its twins hold the same."""
    graph = network([Layer(40, 3), Layer(60, 3, I3)], shape=(4, 7), thresholds=[31, 128, 140],
                    groups=3)  # fmt: skip
    to = write.target("ecp5")
    made = lower(graph, to, 1, 1, False, fan_out=2)
    plain = lower(graph, to, 1, 1, False)
    assert made.class_stage == plain.class_stage + 1
    driven = {c.q: c for c in made.cells if isinstance(c, Register)}
    joined = {c.out: c for c in made.cells if isinstance(c, Join)}
    owner = {n: c for c in joined.values() for n in (c.zero, c.one)}
    readers: dict[int, set[int]] = {}
    for c in made.cells:
        whole = c
        while (out := makes(whole)[0]) in owner:
            whole = owner[out]
        for n in reads(c):
            readers.setdefault(n, set()).add(makes(whole)[0])
    assert max(len(readers.get(q, ())) for q in driven) == 2
    assert not any(isinstance(c, Table) and made.inputs.keys() & set(c.inputs) for c in made.cells)
    twins = [c for c in driven.values() if c.twin]
    assert len(twins) > 40
    for kind in (Table, Join, Dual):
        assert sum(isinstance(c, kind) for c in made.cells) == sum(
            isinstance(c, kind) for c in plain.cells
        )
    same_as_graph(graph, Options("ecp5", 1, 1, fan_out=2))


def test_twins_stay_twins_in_synthesis(tmp_path: Path) -> None:
    """Yosys makes equal registers one; those of emitted cores are all there."""
    graph = network([Layer(40, 6)], shape=(4, 7), groups=4)
    design = emit(graph, Options("ecp5", 1, 1, fan_out=2))
    yosys(design.files, "synth_ecp5 -top tables_core\ntee -q -o stat.json stat -json\n", tmp_path)
    found = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    registers = sum(part.registers for part in design.parts.values())
    assert found["TRELLIS_FF"] == registers + design.latency  # and those that say it is valid
    assert design.parts["image"].registers > 28  # more than the bits that are read


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 15, 16, 29, 31, 44, 69])
@pytest.mark.parametrize("code", [1, 3])
def test_sums_take_about_half_a_table_a_bit(count: int, code: int) -> None:
    """Every plan leaves one bit a rank, and is near (bits - bits of the sum) / 2 tables."""
    width = (count * ((1 << code) - 1)).bit_length()
    heap = (count,) * code + (0,) * (width - code)
    plan = compress.plan(heap[:width])
    bits = sum(heap)
    assert compress.luts(heap) >= (bits - width + 1) // 2
    assert compress.luts(heap) <= 0.5 * bits + 3
    left = list(heap)
    for chain in plan:
        left[chain.rank] -= chain.carry_in
        rank = chain.rank
        for e in chain.elements:
            left[rank] -= e.taken
            rank += e.positions
        assert min(left) >= 0
        last = chain.elements[-1].kind
        for r in range(chain.rank, min(rank, width)):
            left[r] += 1
        if rank < width and last != "top":
            left[rank] += 1 + (last == "three")
    assert max(left) <= 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("nodes", "peer"),
    [
        (290, 673),
        pytest.param(690, 1544, marks=pytest.mark.slow),
        pytest.param(1850, 3877, marks=pytest.mark.slow),
    ],
)
def test_as_many_cells_as_estimated_and_the_same_numbers(
    nodes: int, peer: int, tmp_path: Path
) -> None:
    """Yosys counts what the estimate says, no table more, and the mapped netlist is exact.

    peer: tables of a published kind of network with as many nodes, by the same script.
    """
    graph = network([Layer(nodes, 6)])
    design = emit(graph, Options())
    yosys(dict(design.files), FLAT, tmp_path)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert luts(cells) == design.luts == sum(p.luts for p in estimate(graph).values())
    assert luts(cells) <= 0.75 * peer
    assert luts_for([Width(nodes, 6)])["total"] == pytest.approx(luts(cells), rel=0.02)
    assert not {"DSP48E1", "RAMB36E1", "RAMB18E1", "SRL16E", "SRLC32E"} & cells.keys()
    assert cells["CARRY4"] == design.parts["sums"].carries
    pictures = images(1000, graph)
    classes, scores = simulation.reference(graph, pictures)
    net = mapped.read(tmp_path / "mapped.json", "tables_core")
    bits = np.unpackbits(pictures, axis=1, bitorder="little").T
    found = mapped.evaluate(net, {"in_pixels": bits}, {"en": 1, "rst": 0, "in_valid": 1, "clk": 0})
    assert np.array_equal(found["out_class"].numbers, classes)
    assert found["out_class"].stage == design.latency
    assert found["out_scores"].stage == design.score_latency
    word = found["out_scores"].bits.reshape(10, design.score_bits, -1)
    assert np.array_equal((word * (1 << np.arange(design.score_bits))[:, None]).sum(1).T, scores)


@pytest.mark.parametrize("trained", [False, True])
def test_estimate_of_each_table_is_enough(trained: bool, tmp_path: Path) -> None:
    """One module a table, 2 to 9 address bits: Yosys needs no table more than estimated, and the
    estimate is at most that of the plain structure."""
    rng = np.random.default_rng(3)
    to = write.target("xilinx")
    modules, expected, instances = {}, {}, []
    for width in range(2, 10):
        for case in range(6 if width < 9 else 3):
            outs = 1 + case % 3
            builder = Builder(to.fabric, part="table")
            pins = [builder.input(b) for b in range(width)]
            found = []
            for bit in range(outs):
                values = rng.integers(0, 2, 1 << width).astype(bool)
                if trained:
                    address = np.arange(1 << width)[:, None] >> np.arange(width) & 1
                    total = address @ rng.normal(size=width)
                    values = total > np.quantile(total, (bit + 1) / (outs + 1))
                found.append(builder.function(pins, values))
            cells = paired(alive(builder.cells, [x >> 1 for x in found]), builder.stage)
            nets = [c for c in builder.inputs if any(c in reads(cell) for cell in cells)]
            made = [x >> 1 for x in found]
            if len(set(made)) < outs or any(n in builder.inputs for n in made):
                continue
            name = f"table_{width}_{case}"
            modules[f"{name}.sv"] = write.part_module(name, cells, nets, made, to)
            expected[name] = sum(isinstance(c, Table | Dual) for c in cells)
            assert expected[name] <= table_luts(width, outs)
            instances.append(f"{name} u_{name} (.x(x[{len(nets) - 1}:0]), .y());")
    top = "module top (input wire [8:0] x);\n" + "\n".join(instances) + "\nendmodule\n"
    yosys(
        {**modules, "top.sv": top},
        "hierarchy -top top\nsetattr -mod -set keep_hierarchy 1 *\n"
        + "".join(f"setattr -set keep 1 top/u_{name}\n" for name in expected)
        + "synth_xilinx -family xc7 -noiopad -top top\ntee -q -o stat.json stat -json\n",
        tmp_path,
    )
    stat = json.loads((tmp_path / "stat.json").read_text())["modules"]
    assert len(expected) > 30
    for name, estimated in expected.items():
        assert luts(stat[f"\\{name}"]["num_cells_by_type"]) <= estimated, name


def test_estimate_of_networks_within_ten_percent(tmp_path: Path) -> None:
    cases = [
        network([Layer(200, 6), Layer(100, 6)], trained=True),
        network([Layer(90, 3, U2), Layer(60, 3, U2), Layer(40, 4, U1)], thresholds=[40, 128, 222]),
        network([Layer(80, 7), Layer(40, 8), Layer(30, 9, U2)], trained=True),
        network([Layer(120, 2, I3), Layer(10, 2, I3)], thresholds=[99], groups=0),
    ]
    for i, graph in enumerate(cases):
        design = emit(graph, Options())
        yosys(dict(design.files), FLAT, tmp_path / str(i))
        text = (tmp_path / str(i) / "stat.json").read_text()
        counted = luts(json.loads(text)["design"]["num_cells_by_type"])
        assert 0.9 * design.luts <= counted <= design.luts


def test_forms_of_functions() -> None:
    """Every form computes its function and costs what it says, down to four-input fabrics."""
    rng = np.random.default_rng(5)
    for fabric in (Fabric(6, 2, True), Fabric(4, 2, False), Fabric(4, 0, False)):
        for width in range(1, 11):
            for case in range(4):
                values = rng.integers(0, 2, 1 << width).astype(bool)
                if case == 1:
                    values = np.arange(1 << width) >= rng.integers(1 << width)
                if case == 2:
                    ones = sum(np.arange(1 << width) >> j & 1 for j in range(width))
                    values = np.asarray(ones >= width // 2)
                builder = Builder(fabric)
                found = builder.function([builder.input(b) for b in range(width)], values)
                address = np.arange(1 << width)
                given = {n: (address >> b & 1).astype(bool) for n, b in builder.inputs.items()}
                cells = alive(builder.cells, [found >> 1])
                out = evaluate(cells, given, 1 << width)
                assert np.array_equal(number_of(out, [found]).astype(bool), values)
                assert sum(isinstance(c, Table) for c in cells) <= Forms(fabric).cost(values)


def test_numbers_of_functions() -> None:
    assert number(np.array([False, True, True, False])) == 0b0110
    assert vector(0b0110, 2).tolist() == [False, True, True, False]


@pytest.mark.timeout(600)
def test_text_in_verilator(tmp_path: Path) -> None:
    """The emitted text itself, with stalls: two layers, sums of signed codes, chains of carries."""
    graph = network(
        [Layer(40, 4), Layer(60, 3, I3)], shape=(4, 7), thresholds=[31, 128, 140], groups=3
    )
    design = emit(graph, Options(head_levels=3))
    pictures = images(500, graph)
    found = simulation.verify(graph, design, "xilinx", pictures, tmp_path / "a")
    assert found == {"images": 500, "clocks": 500 + design.latency, "mismatches": 0}
    found = simulation.verify(graph, design, "xilinx", pictures, tmp_path / "b", stall=90)
    assert found["clocks"] > 1000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pixels", [5, 17])
def test_stream_in_verilator(pixels: int, tmp_path: Path) -> None:
    """Beats that do not divide the image, gaps, back-pressure; a class that is wrong is found."""
    made, other = (
        network([Layer(30, 5)], shape=(1, pixels), groups=3, seed=seed) for seed in (1, 2)
    )
    design, pictures = emit(made, Options(head_levels=1)), images(300, made)
    for stall in (0, 120):
        found = simulation.verify(
            made, design, "xilinx", pictures, tmp_path / f"{stall}", stall=stall, stream=True
        )
        beats = -(-pixels // max(1, pixels // simulation.BEATS))
        assert 0 <= found["clocks"] - 300 * beats < 20 or stall
    with pytest.raises(VerifyError, match=r"images differ; image \d+: the core says class \d"):
        simulation.verify(other, design, "xilinx", pictures, tmp_path / "c", stream=True)


def test_merges_equal_complemented_and_constant_tables() -> None:
    rng = np.random.default_rng(1)
    builder = Builder(write.target("xilinx").fabric)
    pins = [builder.input(b) for b in range(6)]
    values = rng.integers(0, 2, 64).astype(bool)
    first = builder.function(pins, values)
    assert builder.function(pins, values) == first
    assert builder.function(pins, ~values) == first ^ 1
    order = rng.permutation(6)
    address = np.arange(64)
    shuffled = sum((address >> i & 1) << int(j) for i, j in enumerate(order))
    assert builder.function([pins[j] for j in order], values[np.asarray(shuffled)]) == first
    inverted = [pins[0] ^ 1, *pins[1:]]
    assert builder.function(inverted, values[address ^ 1]) == first
    assert builder.function(pins, np.ones(64, bool)) == 1
    assert builder.function(pins, (address >> 2 & 1).astype(bool)) == pins[2]
    assert len(builder.cells) == 1


def test_budgets() -> None:
    for budget in (200, 700, 1550):
        count = most_tables(budget)
        assert luts_for([Width(count, 6)])["total"] <= budget
        assert luts_for([Width(count + 20, 6)])["total"] > budget
    with pytest.raises(ConfigError, match="as many or more"):
        most_tables(20)
    with pytest.raises(ConfigError, match="multiple of 10"):
        luts_for([Width(33, 6)])


def test_refusals() -> None:
    builder = GraphBuilder("convolution")
    x = builder.input("image", (1, 4, 4), IntType(8, False))
    weights = {
        "weight": np.ones((1, 1, 3, 3), np.int8), "bias": np.zeros(1, np.int64),
        "mul": np.ones(1, np.int64), "shift": np.zeros(1, np.int8),
    }
    x = builder.add("conv1", "conv", [x], ConvAttrs(3, 1, 1, 4, 16, U2), weights)
    with pytest.raises(GraphError, match="'conv1' \\(conv\\) is not of a network of tables"):
        emit(builder.build([x]))
    with pytest.raises(ConfigError, match="xilinx, ecp5"):
        emit(network([Layer(10, 2)]), Options(target="vhdl"))
    with pytest.raises(ConfigError, match="below 0"):
        emit(network([Layer(10, 2)]), Options(table_levels=-1))
    with pytest.raises(ConfigError, match="readers of a register are below 0"):
        emit(network([Layer(10, 2)]), Options(fan_out=-1))


def test_nothing_follows_an_argmax() -> None:
    graph = network([Layer(10, 2)], groups=0)
    again = GraphBuilder("twice")
    x = again.input("image", (4, 1, 1), U2)
    x = again.add("class", "argmax", [x], ArgmaxAttrs())
    x = again.add("class2", "argmax", [x], ArgmaxAttrs())
    with pytest.raises(GraphError, match="nothing may follow"):
        emit(again.build([x]))
    assert emit(graph).classes == 10
