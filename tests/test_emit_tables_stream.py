# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks of tables, one position a clock: the numbers of the graph, in Verilator
and as Yosys maps them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwflow import build as runner
from hwflow import ingest, passes, stages
from hwflow.emit.tables import Options, emit, estimate, stream
from hwflow.emit.tables.write import TARGETS
from hwflow.errors import GraphError
from hwflow.export_tables import export_qonnx
from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.models.tables import Code, TableConv, TableLayer, TableNetwork, Thresholds
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.maxpool2d import Maxpool2dAttrs
from hwflow.ops.patches import PatchesAttrs
from hwflow.plan import PYTHON, Command, Plan, execute
from hwflow.report import schema
from hwflow.report.readers import yosys as reader
from hwflow.sim import tables as simulation
from hwflow.sim.runner import hdl_dir
from hwflow.stages.options import options
from tests.table_convs import Conv, Pool, blobs, conv_network, lenet
from tests.table_graphs import Layer, images
from tests.table_models import make_node
from tests.test_emit_tables import yosys
from tests.test_stages import hide_vivado

SYNTH = """synth_xilinx -family xc7 -flatten -noiopad -top tables_stream_core
check -assert
tee -q -o stat.json stat -json
write_verilog -noattr -noexpr mapped.v
"""


def random_network(seed: int) -> Graph:
    """Maps of odd sides, windows with strides, pads on some sides and distances, pools that
    overlap, codes of one to three bits, signed ones too."""
    rng = random.Random(seed)
    sides = (rng.randint(5, 11), rng.randint(5, 11))
    shape = (rng.choice([1, 1, 2, 3]), *sides)
    thresholds = sorted(rng.sample(range(30, 226), rng.choice([1, 1, 3])))
    code = IntType(len(thresholds).bit_length(), False)
    stages: list[Conv | Pool | Layer] = []
    if rng.random() < 0.3:  # tables in front of the first window
        stages.append(Layer(rng.randint(2, 5), 3, code))
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.4 and min(sides) > 4:
            k, s = rng.choice([2, 3]), rng.choice([1, 2])
            p = rng.randint(0, k - 1) // 2
            pads = (p, p, p, p) if rng.random() < 0.5 else (p, 0, 0, p)
            pool = Pool((k, rng.choice([k, 2])), (s, s), pads)
            stages.append(pool)
            reach, steps = pool.kernel, pool.stride
        else:
            kernel = (rng.randint(1, 3), rng.randint(1, 3))
            spacing = (rng.choice([1, 1, 2]), rng.choice([1, 1, 2]))
            reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, spacing, strict=True))
            pads = [0, 0, 0, 0]
            for axis in (0, 1):
                total = rng.randint(0, reach[axis] - 1)
                pads[axis] = rng.randint(0, total)
                pads[axis + 2] = total - pads[axis]
            steps = (rng.choice([1, 1, 2]), rng.choice([1, 1, 3]))
            if rng.random() < 0.5:
                code = IntType(rng.randint(1, 3), False)
            if rng.random() < 0.3:
                code = IntType(2, True)
            stages.append(
                Conv(rng.randint(3, 8), rng.randint(1, 3), kernel, steps, tuple(pads), spacing,
                     code)
            )
            if rng.random() < 0.3:
                stages.append(Layer(rng.randint(4, 8), 2, code))
        pads = stages[-1].pads if not isinstance(stages[-1], Layer) else stages[-2].pads
        new = tuple(
            (n + pads[i] + pads[i + 2] - reach[i]) // steps[i] + 1 for i, n in enumerate(sides)
        )
        if min(new) < 2:
            break
        sides = new
    if not any(isinstance(s, Conv | Pool) for s in stages):
        stages.append(Conv(5, 3, (2, 2)))
    return conv_network(
        stages, seed=seed, shape=shape, thresholds=thresholds, last=rng.random() < 0.5,
        dense=(Layer(8, 3, IntType(2, rng.random() < 0.5)),), groups=4,
    )


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_equal_the_graph(seed: int, tmp_path: Path) -> None:
    """Full speed, images without a gap, in as many clocks as the latency says; then with gaps and
    stops. Every other one in the cells of a chip."""
    graph = random_network(seed)
    target = list(TARGETS)[seed % len(TARGETS)]
    options = Options(target, table_levels=seed % 3)
    design = emit(graph, options)
    shown = blobs(60, graph, seed)
    found = simulation.verify(graph, design, target, shown, tmp_path)
    positions = design.pixels // design.channels
    assert found == {"images": 60, "clocks": 60 * positions + design.latency, "mismatches": 0}
    assert simulation.verify(graph, design, target, shown, tmp_path, stall=90)["images"] == 60
    assert estimate(graph, options) == design.parts


def synthesised(graph: Graph, folder: Path) -> tuple[dict[str, int], str]:
    """Cells of the core by kind, as Yosys maps it, and its Verilog."""
    texts = {Path(name).name: (hdl_dir() / name).read_text() for name in stream.MODULES}
    yosys({**texts, **emit(graph).files}, SYNTH, folder)
    stat = json.loads((folder / "stat.json").read_text())
    return stat["design"]["num_cells_by_type"], (folder / "mapped.v").read_text()


def test_lenet(tmp_path: Path) -> None:
    """LeNet-5-style for MNIST, 784 clocks an image: exact as emitted and as mapped by Yosys; line
    buffers in LUT RAM, no DSP."""
    graph = lenet()
    design = emit(graph)
    assert design.streaming and design.pixels == 784
    shown = blobs(200, graph)
    classes, _ = simulation.reference(graph, shown)
    assert len(set(classes.tolist())) >= 8
    found = simulation.verify(graph, design, "xilinx", shown, tmp_path)
    assert found["clocks"] == 200 * 784 + design.latency
    cells, netlist = synthesised(graph, tmp_path / "yosys")
    counts = {
        "LUT": lambda k: k.startswith(("LUT", "SRL", "INV")),
        "RAM32M": lambda k: k == "RAM32M", "FF": lambda k: k.startswith("FD"),
        "block RAM": lambda k: k.startswith("RAMB"), "DSP": lambda k: k.startswith("DSP"),
        "CARRY4": lambda k: k == "CARRY4",
    }
    used = {name: sum(n for k, n in cells.items() if of(k)) for name, of in counts.items()}
    print(f"\nLeNet-5-style, xc7, Yosys: {used}, of the tables {design.luts}")
    assert used["DSP"] == used["block RAM"] == 0
    assert 1 <= used["RAM32M"] <= 10
    assert used["LUT"] + 4 * used["RAM32M"] <= design.luts
    assert design.luts <= 1.1 * (used["LUT"] + 4 * used["RAM32M"])
    registers = sum(part.registers for part in design.parts.values())
    assert used["FF"] == pytest.approx(registers, rel=0.05)
    mapped = simulation.verify(graph, design, "xilinx", shown, tmp_path / "m", netlist=netlist)
    assert mapped["mismatches"] == 0


# Windows of a map: bits of an element, height, width, kernel, stride, pads, share of taps read.
WINDOWS = (
    (1, 28, 28, (5, 5), (1, 1), (2, 2, 2, 2), 1.0), (8, 14, 14, (5, 5), (1, 1), (0,) * 4, 0.3),
    (21, 32, 32, (3, 3), (1, 1), (0,) * 4, 0.5), (2, 6, 5, (3, 2), (2, 3), (1, 0, 0, 1), 1.0),
    (1, 100, 120, (7, 7), (2, 2), (3,) * 4, 0.2), (4, 64, 64, (3, 9), (1, 1), (1, 4, 1, 4), 0.1),
    (2, 11, 13, (2, 3), (3, 2), (0, 1, 1, 0), 0.7), (40, 99, 99, (3, 3), (1, 1), (0,) * 4, 0.4),
)  # fmt: skip


def test_every_part_takes_at_most_what_is_said(tmp_path: Path) -> None:
    """Windows, pools and gathered maps on their own, of which some bits are read, by Yosys."""
    rng = random.Random(4)
    script, texts, said = [], {}, []
    for bits, height, width, kernel, stride, pads, share in WINDOWS:
        window = stream.Window(
            "w", False, (bits, height, width), 1, False, kernel, stride, pads,
            tuple((i, j) for i in range(kernel[0]) for j in range(kernel[1])), (1, 1),
        )
        count = kernel[0] * kernel[1] * bits
        # bit numbers of the graph: channel, tap; of the module: tap, channel
        read = {n for n in range(count) if rng.random() < share} or {0}
        taps = len(window.taps)
        shown = [f"window[{n % taps * bits + n // taps}]" for n in read]
        sizes = (bits, height, width, *kernel, *stride, pads[0], pads[1], pads[2], pads[3])
        said.append(stream.window_part(window, "xilinx", read))
        texts |= _alone(len(said), "line_window", PARAMETERS, sizes, bits, ("window", count), shown)
    for bits, signed in ((1, 0), (3, 1)):
        window = stream.Window("p", True, (5, 12, 12), bits, bool(signed), (2, 2), (2, 2),
                               (0, 0, 0, 0), (), (6, 6))  # fmt: skip
        said.append(stream.window_part(window, "xilinx", range(5 * bits)))
        texts |= _alone(
            len(said), "code_pool", ("CHANNELS", "CODE_W", "SIGNED", *PARAMETERS[1:]),
            (5, bits, signed, 12, 12, 2, 2, 2, 2, 0, 0, 0, 0), 5 * bits,
            ("out_data", 5 * bits), ["out_data"],
        )
    tensor = Tensor("map", (6, 3, 5), IntType(2, False))
    read = {n for n in range(180) if rng.random() < 0.3}
    said.append(stream.map_part(tensor, "xilinx", read))
    # of the graph: channel, place, bit; of the module: place, channel, bit
    shown = [f"map[{n // 2 % 15 * 12 + n // 30 * 2 + n % 2}]" for n in read]
    texts |= _alone(len(said), "map_shift", ("BITS", "COUNT"), (12, 15), 12, ("map", 180), shown)
    for n in range(1, len(said) + 1):
        script += [*(f"read_verilog -sv {Path(name).name}" for name in stream.MODULES),
                   f"read_verilog -sv alone{n}.sv",
                   f"synth_xilinx -family xc7 -flatten -noiopad -top alone{n}",
                   f"tee -q -o stat{n}.json stat -json", "design -reset"]  # fmt: skip
    texts |= {Path(name).name: (hdl_dir() / name).read_text() for name in stream.MODULES}
    command = Command((PYTHON, "-m", "hwflow.toolchain.yosys_run", "run.ys"), "yosys.log")
    execute(Plan({**texts, "run.ys": "\n".join(script)}, (command,), (), "alone"), tmp_path)
    for n, part in enumerate(said, 1):
        cells = reader.cells((tmp_path / f"stat{n}.json").read_text())
        taken = reader.sites(cells, reader.XC7)
        assert taken["lut"] <= part.luts, (n, cells, part)
        assert cells.get("CARRY4", 0) <= part.carries, (n, cells, part)
        assert taken["ff"] <= part.registers <= 1.1 * taken["ff"] + 24, (n, cells, part)
        assert part.luts <= 1.1 * taken["lut"] + 36, (n, cells, part)


PARAMETERS = ("BITS", "MAP_H", "MAP_W", "KH", "KW", "STRIDE_H", "STRIDE_W", "TOP", "LEFT", "BOTTOM",
              "RIGHT")  # fmt: skip


def _alone(
    number: int, module: str, names: Sequence[str], values: Sequence[int], bits: int,
    result: tuple[str, int], shown: Sequence[str],
) -> dict[str, str]:
    """A module that shows some bits of another's result."""
    port, width = result
    given = ", ".join(f".{name}({value})" for name, value in zip(names, values, strict=True))
    return {f"alone{number}.sv": f"""module alone{number} (
    input wire logic clk, input wire logic rst, input wire logic en, input wire logic in_valid,
    input wire logic [{bits - 1}:0] in_data, output logic out_valid,
    output logic [{(width if shown == [port] else len(shown)) - 1}:0] shown
);
  logic [{width - 1}:0] {port};
  assign shown = {{{", ".join(shown)}}};
  {module} #({given}) u_it (
      .clk(clk), .rst(rst), .en(en), .in_valid(in_valid), .in_data(in_data),
      .out_valid(out_valid), .{port}({port})
  );
endmodule
"""}


def torch_network() -> TableNetwork:
    """Two channels of 9 x 8 pixels, two convolutions with a pool between them, four classes."""
    torch.manual_seed(1)
    code, count = Code(1), 8
    encoder = Thresholds(torch.tensor([[90.0], [140.0]]))
    layers = [
        TableConv(torch.randint(0, 18, (6, 6)), make_node("affine", 6, 6, encoder.code, code), 2,
                  (3, 3), pad=(1, 1)),
        nn.MaxPool2d(2),
        TableConv(torch.randint(0, 24, (count, 6)), make_node("affine", count, 6, code, code), 6,
                  (2, 2)),
        nn.Flatten(),
        TableLayer(torch.randint(0, 9 * count, (4, 6)), make_node("affine", 4, 6, code, Code(3))),
    ]  # fmt: skip
    return TableNetwork(encoder, layers, None, flat=False).eval()


def test_from_torch(tmp_path: Path) -> None:
    """A network of TableConv modules, by its QONNX file."""
    net = torch_network()
    export_qonnx(net, tmp_path / "net.onnx", (2, 9, 8))
    graph = passes.lower(ingest.read(tmp_path / "net.onnx"))
    assert any(node.op == "patches" for node in graph.nodes)
    shown = blobs(100, graph)
    _, scores = simulation.reference(graph, shown)
    with torch.no_grad():
        wanted = net(torch.from_numpy(shown.reshape(-1, 2, 9, 8).astype(np.float32)) / 256)
    assert len(np.unique(scores)) >= 3 and len(np.unique(scores.argmax(axis=1))) >= 2
    assert np.array_equal(scores, wanted.numpy())
    design = emit(graph)
    assert simulation.verify(graph, design, "xilinx", shown, tmp_path)["mismatches"] == 0


def test_how_many_images_are_simulated() -> None:
    """All of MNIST's ten thousand for LeNet-5, fewer for larger networks, at least one."""
    design = emit(lenet())
    assert simulation.affordable(design) == simulation.MOST_IMAGES
    large = replace(design, parts={"all": replace(design.parts["map"], luts=8000)})
    assert simulation.affordable(large) == int(26e9 / (8000 * 784))
    huge = replace(design, parts={"all": replace(design.parts["map"], luts=10**9)})
    assert simulation.affordable(huge) == 1


def test_build_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages for a Zynq: simulation, cells with the AXI shell, Vivado project."""
    hide_vivado(monkeypatch)
    export_qonnx(torch_network(), tmp_path / "net.onnx", (2, 9, 8))
    chosen = options(str(tmp_path / "net.onnx"), "pynq-z2", backend="tables")
    records = runner.build(stages.of(chosen), chosen, tmp_path / "run")
    assert {r.name: r.reason for r in records if r.status == "failed"} == {}
    found = schema.read(tmp_path / "run" / "report.json")
    assert found.performance.cycles_per_frame == 72
    assert found.resources.dsp.used == 0 and found.resources.lut.used > 300
    project = tmp_path / "run" / "bitstream" / "vivado"
    assert any(path.name == "line_window.sv" for path in project.rglob("*.sv"))


def test_what_does_not_stream() -> None:
    """Errors name the node and the rule."""
    b = GraphBuilder("skip")
    x = b.input("image", (1, 6, 6), IntType(8, False))
    window = PatchesAttrs((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    y = b.add("windows", "patches", [x], window)
    both = b.add("both", "concat", [x, y], ConcatAttrs())
    pool = Maxpool2dAttrs((6, 6), (1, 1), (0, 0, 0, 0))
    z = b.add("pool", "maxpool2d", [both], pool)
    with pytest.raises(GraphError, match=r"'both'.*reads 'image' across a window"):
        emit(b.build([b.add("class", "argmax", [z], ArgmaxAttrs())]))
    b = GraphBuilder("pads")
    x = b.input("image", (3, 6, 6), IntType(8, False))
    y = b.add("windows", "patches", [x], PatchesAttrs((3, 3), (9, 9), (2, 0, 2, 0), (1, 1)))
    with pytest.raises(GraphError, match=r"'windows'.*opposite pads must be less than the window"):
        emit(b.build([b.add("class", "argmax", [y], ArgmaxAttrs())]))


def test_networks_without_windows_stay_as_they_are() -> None:
    graph = conv_network([Layer(4, 1)], shape=(3, 2, 2), dense=(Layer(8, 3),), groups=4)
    design = emit(graph)
    assert not design.streaming and design.top == "tables_core"
    classes, _ = simulation.reference(graph, images(20, graph))
    assert len(classes) == 20


@pytest.mark.parametrize(
    ("stages_of", "shape"),
    [
        ([Conv(5, 3, (3, 1), pads=(1, 0, 1, 0))], (1, 9, 1)),  # one column
        ([Conv(6, 4, (5, 5), (2, 3), pads=(0, 0, 4, 4))], (1, 6, 5)),  # all pads at the end
        ([Conv(6, 4, (2, 2)), Conv(8, 4, (5, 4))], (1, 6, 5)),  # down to one position
    ],
)
def test_edges_of_windows(
    stages_of: list[Conv], shape: tuple[int, int, int], tmp_path: Path
) -> None:
    graph = conv_network(
        stages_of, shape=shape, thresholds=(80, 128, 170), groups=4,
        dense=(Layer(8, 3, IntType(2, False)),),
    )
    design = emit(graph, Options("portable"))
    shown = blobs(60, graph)
    found = simulation.verify(graph, design, "portable", shown, tmp_path, stall=90)
    assert found["mismatches"] == 0
