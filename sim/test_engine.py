# SPDX-License-Identifier: Apache-2.0
"""The core engine on small programs, against numpy: every written plane, every candidate.

The stream, LOAD and STORE stall at random; each program runs at full speed too, where its cycles
are held to the table of docs/engine.md.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cocotb
import engine_model as model
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout

from hwflow.emit import isa
from hwflow.sim.runner import Build, build, hdl_dir, run

ENGINE = [
    *(f"engine/{name}.sv" for name in ("isa_pkg", "engine_pkg", "seq_pkg")),
    *(f"lib/{name}.sv" for name in ("fifo", "delay", "ram_sdp", "mac_pair", "requant")),
    *(f"engine/{name}.sv" for name in (
        "act_mem", "fetch", "mac_array", "dw_lanes", "writeback", "window", "walker", "smap",
        "seq_conv", "conv_header", "seq_dw", "seq_mem", "peak_rank", "peak_emit", "peak",
        "sequencer", "engine", "stream_ring",
    )),
]
BENCH = Path(__file__).parent / "models" / "core_bench.sv"
REGION_WORDS = 65536
Ints = model.Ints


# ---- what runs in the simulator


@cocotb.test()
async def frames(dut) -> None:  # noqa: ANN001
    """Run the program FRAMES times (the second one shows that nothing is left behind)."""
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.start.value, dut.mem_error.value, dut.rst.value = 0, 0, 1
    for _ in range(4):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    await FallingEdge(dut.clk)
    for frame in range(int(os.environ["FRAMES"])):
        dut.start.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        if frame == 0 and "MEM_ERROR_AT" in os.environ:
            for _ in range(int(os.environ["MEM_ERROR_AT"])):
                await FallingEdge(dut.clk)
            dut.mem_error.value = 1
            await FallingEdge(dut.clk)
            dut.mem_error.value = 0
        if not int(dut.finished.value):
            await with_timeout(RisingEdge(dut.finished), 20, "ms")
        await FallingEdge(dut.clk)
        names = ("done", "error", "error_code", "tag", "prog_hash", "cand_count", "cycles", "busy")
        line = " ".join(f"{name}={int(getattr(dut, name).value)}" for name in names)
        with Path(os.environ["STATUS"]).open("a") as status:
            status.write(line + "\n")


# ---- programs


@dataclass
class Program:
    """A stream under construction, the image region, and what the activation memory must hold."""

    seed: int
    rng: np.random.Generator = field(init=False)
    stream: bytearray = field(default_factory=bytearray)
    image: list[bytes] = field(default_factory=list)
    next_word: int = 0
    tags: int = 0
    cycles: dict[int, tuple[str, int]] = field(default_factory=dict)  # tag -> name, most cycles
    expected: list[tuple[str, int, bytes]] = field(default_factory=list)
    candidates: list[tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.op("HEAD", isa_version=isa.ISA_VERSION, magic=isa.MAGIC, hash=0x0123456789ABCDEF)

    def op(self, opcode: str, limit: int = 0, name: str = "", **values: int) -> None:
        self.stream += isa.descriptor(opcode, self.tags, "bench", **values)
        if limit:
            self.cycles[self.tags] = (name or opcode, limit)
        self.tags += 1

    def room(self, words: int) -> int:
        place, self.next_word = self.next_word, self.next_word + words
        assert self.next_word <= 24576
        return place

    def load(self, maps: Ints) -> list[int]:
        """Put maps (N, H, W) into the image region and LOAD them; the planes' addresses."""
        count, height, width = maps.shape
        words = height * width // 16
        first = self.room(count * words)
        offset = 16 * sum(len(part) // 16 for part in self.image)
        data = maps.astype(np.uint8).tobytes()
        self.image.append(data)
        self.op("LOAD", limit=2 * count * words + 80, act_addr=first, words=count * words,
                ddr_offset=offset, region=isa.REGIONS["image"])
        self.expected.append(("load", first, data))
        return [first + i * words for i in range(count)]

    def random_maps(self, count: int, height: int, width: int, signed: bool = False) -> Ints:
        low = -128 if signed else 0
        return self.rng.integers(low, low + 256, (count, height, width))

    def expect(self, name: str, place: int, plane: Ints) -> None:
        self.expected.append((name, place, plane.astype(np.uint8).tobytes()))

    def finish(self) -> None:
        self.op("END")


def shift_for(acc: Ints, rng: np.random.Generator) -> int:
    """A shift that brings most of acc into 8 bits, varied a little."""
    spread = int(np.abs(acc).max()).bit_length()
    return int(np.clip(spread - 8 + rng.integers(-1, 2), -7, 24))


def add_conv(
    p: Program, maps: Ints, planes: Sequence[int], oc: int, *, signed: bool = False,
    out_type: str = "u8", w8: bool = False, to_smap: bool = False, stride: int = 0, y0: int = 0,
    rows: int = 0, up: bool = False,
) -> tuple[list[int], Ints]:
    """A CONV with random weights; stride 0: linear (1x1), else windowed 3x3. Addresses and maps."""
    rng, ic = p.rng, len(planes)
    tile_oc = 12 if w8 else 24
    seen = np.stack([model.upsampled(m) for m in maps]) if up else maps
    _, height, width = seen.shape
    linear = stride == 0
    step = max(stride, 1)
    shape = (rows or -(-height // step), width // step)
    narrow = not linear and shape[1] == 8
    groups = shape[0] * shape[1] // 16
    limit = 127 if w8 else 7
    weights = rng.integers(-limit, limit + 1, (oc, ic, 1 if linear else 9))
    if out_type == "u3":
        weights = np.abs(weights).clip(1)  # a spread of values above 0
    if linear:
        sums = np.tensordot(weights[:, :, 0], seen, axes=(1, 0))
    else:
        windows = np.stack([model.taps(m, shape, step, y0).reshape(9, *shape) for m in seen])
        sums = np.tensordot(weights, windows, axes=((1, 2), (0, 1)))
    first = p.room(oc * groups)
    outs, results, records = [], [], []
    for c in range(oc):
        dst = first + c * groups
        bias = int(rng.integers(-20, 20) if out_type == "u3" else rng.integers(-4000, 4000))
        shift = shift_for(sums[c], rng) if out_type != "u3" else int(
            np.abs(sums[c]).max()).bit_length() - 3
        shift = int(np.clip(shift, -7, 24))
        result = model.requant(sums[c], bias, shift, out_type)
        outs.append(dst)
        results.append(result)
        records.append(isa.pack(isa.CHANNEL_RECORD, {
            "bias": bias, "shift": shift + isa.SHIFT_BIAS, "dst": dst}, "bench"))
        p.expect(f"CONV oc {c}", dst, result)
    two_pass = (stride == 4) or (narrow and stride == 2)
    halves = [1, 2] if two_pass else [0]
    words = [(c, t, h) for h in halves for c in range(ic) for t in range(weights.shape[2])]
    tiles = -(-oc // tile_oc)
    chunks = [min(512, len(words) - k) for k in range(0, len(words), 512)]
    cycles = 0
    for t in range(tiles):
        n_oc = min(tile_oc, oc - t * tile_oc)
        cycles += 16 + groups * max(len(words), sum(max(c, n_oc) for c in chunks))
    p.op(
        "CONV", limit=cycles + 110, name=f"CONV {ic}->{oc} stride {stride}", groups=groups,
        in_signed=int(signed), out_type=isa.OUT_TYPES[out_type],
        stride_log2=step.bit_length() - 1, up=int(up), narrow=int(narrow), in_w=maps.shape[2],
        in_h=height, y0=y0, row_words=max(shape[1] // 16, 1), windowed=int(not linear),
        w8=int(w8), to_smap=int(to_smap), k_words=len(words), tiles=tiles,
        last_oc=oc - (tiles - 1) * tile_oc,
    )
    for t in range(tiles):
        head = records[t * tile_oc : (t + 1) * tile_oc]
        head += [0] * (24 - len(head))
        for i in range(12):
            p.stream += (head[2 * i] | head[2 * i + 1] << 64).to_bytes(16, "little")
        for c, k, h in words:
            packed = 0
            for n, channel in enumerate(range(t * tile_oc, min(oc, (t + 1) * tile_oc))):
                width_bits = 8 if w8 else 4
                value = int(weights[channel, c, k]) & ((1 << width_bits) - 1)
                packed |= value << (width_bits * n)
            place = {"weights": packed, "plane": planes[c], "half": h}
            if not linear:
                place |= {"tap_i": k // 3, "tap_j": k % 3}
            p.stream += isa.pack(isa.WEIGHT_WORD, place, "bench").to_bytes(16, "little")
    return outs, np.stack(results)


def add_dw(
    p: Program, opcode: str, maps: Ints, planes: Sequence[int], *, signed: bool = False,
    out_type: str = "u8", stride: int = 1, up: bool = False, y0: int = 0, rows: int = 0,
    smap: Ints | None = None,
) -> tuple[list[int], Ints]:
    """A DW, DDW or POOL over the maps (N, H, W); smap: dilations in the stored map's shape."""
    rng = p.rng
    seen = np.stack([model.upsampled(m) for m in maps]) if up else maps
    _, height, width = seen.shape
    shape = (rows or -(-height // stride), width // stride)
    narrow = shape[1] == 8
    groups = shape[0] * shape[1] // 16
    dilation: Ints | int = 1
    passes = groups * 3 * (2 if narrow and stride == 2 else 1)
    if opcode == "DDW":
        assert smap is not None
        dilation = (model.upsampled(smap) if up else smap)[y0 : y0 + shape[0]]
        flat = dilation.reshape(-1, 16)
        passes = sum(1 + 2 * len(set(row.tolist())) for row in flat)
    fill = (-128 if signed else 0) if opcode == "POOL" else 0
    first = p.room(len(planes) * groups)
    outs, results, records = [], [], []
    for n, plane in enumerate(planes):
        values = model.taps(seen[n], shape, stride, y0, dilation, fill)
        weights = rng.integers(-7, 8, 9)
        bias, shift = int(rng.integers(-300, 300)), 0
        if opcode == "POOL":
            sums, bias = values.max(axis=(0, 1)), 0
        else:
            sums = np.tensordot(weights, values.reshape(9, *shape), axes=(0, 0))
            shift = shift_for(sums, rng)
        result = model.requant(sums, bias, shift, out_type)
        dst = first + n * groups
        packed = 0
        for k, value in enumerate(weights):
            packed |= (int(value) & 15) << (4 * k)
        records.append(isa.pack(isa.DW_RECORD, {
            "weights": packed, "src": plane, "dst": dst, "bias": bias,
            "shift": shift + isa.SHIFT_BIAS}, "bench"))
        p.expect(f"{opcode} channel {n}", dst, result)
        outs.append(dst)
        results.append(result)
    p.op(
        opcode, limit=len(planes) * (max(passes, 7) + 6) + 90,
        name=f"{opcode} {len(planes)} stride {stride} up {up}",
        groups=groups, in_signed=int(signed), out_type=isa.OUT_TYPES[out_type],
        stride_log2=stride.bit_length() - 1, up=int(up), narrow=int(narrow), in_w=maps.shape[2],
        in_h=height, y0=y0, row_words=max(shape[1] // 16, 1), channels=len(planes),
    )
    for record in records:
        p.stream += record.to_bytes(16, "little")
    return outs, np.stack(results)


def add_peak(p: Program, logits: Ints) -> None:
    """PEAK over (classes, H, W) with random regression maps."""
    classes, height, width = logits.shape
    hm = p.load(logits)[0]
    regressions = p.random_maps(4, height, width, signed=True)
    w, h, reg_x, reg_y = p.load(regressions)
    p.candidates = model.peaks(logits, list(regressions), isa.CANDIDATES)
    p.op("PEAK", groups=height * width // 16, in_signed=1, in_w=width, in_h=height,
         narrow=int(width == 8), row_words=max(width // 16, 1), classes=classes,
         hm=hm, w=w, h=h, reg_x=reg_x, reg_y=reg_y)


# ---- running and comparing


@pytest.fixture(scope="session")
def simulator() -> Build:
    return build("core_bench", [*(hdl_dir() / name for name in ENGINE), BENCH], optimise="-O2")


def write_words(path: Path, data: bytes) -> None:
    padded = data + bytes(-len(data) % 16)
    lines = (padded[i : i + 16][::-1].hex() for i in range(0, len(padded), 16))
    path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True)
class Outcome:
    status: list[dict[str, int]]
    memory: Mapping[int, bytes]  # activation word -> last value
    output: bytes  # the three regions
    op_cycles: Mapping[int, int]


def simulate(
    simulator: Build, program: Program, directory: Path, *, stall: int, frames: int = 1,
    env: Mapping[str, str] | None = None, plusargs: Sequence[str] = (),
) -> Outcome:
    directory.mkdir(parents=True, exist_ok=True)
    names = {n: directory / f"{n}.txt" for n in ("program", "image", "output", "trace", "ops")}
    write_words(names["program"], bytes(program.stream))
    write_words(names["image"], b"".join(program.image) or bytes(16))
    status = directory / "status.txt"
    status.unlink(missing_ok=True)
    run(
        simulator, Path(__file__), run_dir=directory, testcase="frames",
        plusargs=[*(f"+{n}={path}" for n, path in names.items()),
                  f"+words={len(program.stream) // 16}", f"+stall={stall}",
                  f"+seed={program.seed}", *plusargs],
        env={"FRAMES": str(frames), "STATUS": str(status), **(env or {})},
    )
    states = [
        {key: int(value) for key, value in (part.split("=") for part in line.split())}
        for line in status.read_text().splitlines()
    ]
    memory = {}
    for line in names["trace"].read_text().splitlines():
        _, addr, data = line.split()
        memory[int(addr, 16)] = bytes.fromhex(data)[::-1]
    marks = [tuple(map(int, line.split())) for line in names["ops"].read_text().splitlines()]
    spans = {tag: end - begin for (tag, begin), (_, end) in itertools.pairwise(marks)}
    words = [w for w in names["output"].read_text().split() if not w.startswith(("/", "@"))]
    return Outcome(states, memory, b"".join(bytes.fromhex(w)[::-1] for w in words), spans)


def check(program: Program, outcome: Outcome, cycles: bool) -> None:
    """Everything the program must leave behind; the first difference is named."""
    for state in outcome.status:
        assert state["done"] and not state["error"] and not state["busy"], state
        assert state["prog_hash"] == 0x0123456789ABCDEF
    for name, place, data in program.expected:
        for i in range(len(data) // 16):
            want, got = data[16 * i : 16 * i + 16], outcome.memory.get(place + i)
            assert got is not None, f"seed {program.seed}, {name}: word {i} was not written"
            assert got == want, (
                f"seed {program.seed}, {name}, word {i} at {place + i}:\n got {list(got)}\n"
                f"want {list(want)}"
            )
    if program.candidates is not None:
        assert outcome.status[-1]["cand_count"] == len(program.candidates)
        base = 2 * REGION_WORDS * 16
        found = []
        for i in range(len(program.candidates)):
            word = int.from_bytes(outcome.output[base + 16 * i : base + 16 * i + 16], "little")
            values = []
            for f in isa.CANDIDATE.values():
                value = (word >> f.lsb) & ((1 << f.width) - 1)
                values.append(value - (1 << f.width) if f.signed and value >> (f.width - 1)
                              else value)
            found.append(tuple(values))
        found.sort(key=lambda r: (-r[0], r[2], r[3], r[1]))
        assert found == program.candidates
    if cycles:
        for tag, (name, limit) in program.cycles.items():
            assert outcome.op_cycles[tag] <= limit, (name, outcome.op_cycles[tag], limit)


def linear_convs(p: Program) -> None:
    maps = p.random_maps(58, 4, 16)
    planes = p.load(maps)
    for ic, oc in ((1, 1), (1, 24), (24, 25), (58, 58), (3, 1)):
        add_conv(p, maps[:ic], planes[:ic], oc, out_type="i8" if oc == 25 else "u8")
    maps = p.random_maps(31, 2, 16, signed=True)
    planes = p.load(maps)
    add_conv(p, maps, planes, 7, signed=True, out_type="i8")
    many = p.rng.integers(0, 31, 1030)  # planes may be named more than once
    for ic in (513, 1030, 512):
        add_conv(p, maps[many[:ic]], [planes[i] for i in many[:ic]], 26, signed=True)
    add_conv(p, maps[:5], planes[:5], 14, signed=True, w8=True, out_type="i8")


def short_tiles(p: Program) -> None:
    """One group and one word in a tile: headers and drains follow each other closely."""
    maps = p.random_maps(2, 1, 16)
    planes = p.load(maps)
    add_conv(p, maps[:1], planes[:1], 121)
    add_conv(p, maps, planes, 49, w8=True)
    add_conv(p, maps, planes, 1)


def windowed_convs(p: Program) -> None:
    maps = p.random_maps(3, 16, 64)
    planes = p.load(maps)
    add_conv(p, maps, planes, 13, stride=4, w8=True)
    add_conv(p, maps, planes, 24, stride=2)
    add_conv(p, maps, planes, 3, stride=1, out_type="i8")
    add_conv(p, maps, planes, 2, stride=2, y0=2, rows=4)
    maps = p.random_maps(2, 8, 8)
    planes = p.load(maps)
    add_conv(p, maps, planes, 5, stride=1)
    add_conv(p, maps, planes, 5, stride=1, up=True)
    maps = p.random_maps(2, 8, 16)
    planes = p.load(maps)
    add_conv(p, maps, planes, 5, stride=2)


def depthwise(p: Program) -> None:
    for shape in ((6, 32), (8, 16), (8, 8)):
        maps = p.random_maps(3, *shape)
        planes = p.load(maps)
        add_dw(p, "DW", maps, planes)
        add_dw(p, "POOL", maps, planes)
        add_dw(p, "DW", maps, planes, up=True, out_type="i8")
        add_dw(p, "DW", maps, planes, y0=2, rows=4)
        if shape[1] > 8:
            add_dw(p, "DW", maps, planes, stride=2)
            add_dw(p, "POOL", maps, planes, stride=2)
        maps = p.random_maps(2, *shape, signed=True)
        planes = p.load(maps)
        add_dw(p, "DW", maps, planes, signed=True, out_type="i8")
        add_dw(p, "POOL", maps, planes, signed=True, out_type="i8")
        add_dw(p, "DW", maps[:1], planes[:1], signed=True, up=True, y0=3, rows=4)
    maps = p.random_maps(9, 2, 8)  # one word a channel
    planes = p.load(maps)
    add_dw(p, "DW", maps, planes)
    maps = p.random_maps(1, 60, 16)
    add_dw(p, "DW", maps, p.load(maps), y0=33, rows=8)
    maps = p.random_maps(2, 500, 48)  # only a band is held: addresses before it wrap around
    held = p.load(maps[:, 400:410])
    add_dw(p, "DW", maps, [(plane - 400 * 3) % 65536 for plane in held], y0=401, rows=8)
    add_dw(p, "DW", maps, [(plane - 400 * 3) % 65536 for plane in held], y0=801, rows=16, up=True)


def deformable(p: Program) -> None:
    for shape in ((16, 32), (24, 16), (16, 8)):
        maps = p.random_maps(3, *shape)
        planes = p.load(maps)
        source = p.random_maps(1, *shape)
        (plane,) = p.load(source)
        _, (smap,) = add_conv(p, source, [plane], 1, out_type="u3", to_smap=True)
        assert len(set(smap.reshape(-1).tolist())) > 4
        add_dw(p, "DDW", maps, planes, smap=smap)
        add_dw(p, "DDW", maps, planes, smap=smap, up=True, out_type="i8")
        add_dw(p, "DDW", maps[:1], planes[:1], smap=smap, y0=4, rows=6)


def all_dilations(p: Program) -> None:
    """A dilation map that holds each of 0..7 alone, in pairs and all together."""
    source = np.zeros((1, 16, 16), np.int64)
    for y in range(16):
        source[0, y] = y % 8 if y < 8 else p.rng.permutation(np.arange(16)) % 8
    source *= 32
    for shape in ((16, 16), (32, 8)):
        (plane,) = p.load(source.reshape(1, *shape))
        first = p.room(16)
        p.op("CONV", groups=16, in_signed=0, out_type=isa.OUT_TYPES["u3"], k_words=1, tiles=1,
             last_oc=1, to_smap=1)
        record = isa.pack(isa.CHANNEL_RECORD, {
            "bias": 0, "shift": 5 + isa.SHIFT_BIAS, "dst": first}, "bench")
        p.stream += record.to_bytes(16, "little") + bytes(16 * 11)
        p.stream += isa.pack(isa.WEIGHT_WORD, {"weights": 1, "plane": plane}, "bench").to_bytes(
            16, "little")
        smap = source.reshape(shape) // 32
        p.expect("dilations", first, smap)
        maps = p.random_maps(4, *shape, signed=True)
        planes = p.load(maps)
        add_dw(p, "DDW", maps, planes, smap=smap, signed=True, out_type="i8")
        add_dw(p, "DDW", maps[:2], planes[:2], smap=smap, signed=True, up=True)


def sparse_peaks(p: Program) -> None:
    add_peak(p, p.rng.integers(-128, -60, (3, 8, 32)))


def many_peaks(p: Program) -> None:
    add_peak(p, p.rng.integers(-20, 20, (5, 24, 32)))


def tied_peaks(p: Program) -> None:
    """Few values, many peaks: the threshold's ties do not all fit, in a word with many classes."""
    add_peak(p, p.rng.choice([-3, 5, 9], (7, 16, 16), p=[0.9, 0.08, 0.02]))


def flat_peaks(p: Program) -> None:
    add_peak(p, np.full((9, 4, 16), -128))


def narrow_peaks(p: Program) -> None:
    add_peak(p, p.rng.choice([-100, 0, 1, 2], (20, 12, 8), p=[0.7, 0.1, 0.1, 0.1]))


def few_peaks(p: Program) -> None:
    logits = np.full((2, 8, 16), -100)
    logits += np.arange(16) + 3 * np.arange(8)[:, None]  # a slope: one peak in each class
    add_peak(p, logits)


def stores(p: Program) -> None:
    maps = p.random_maps(2, 16, 16)
    first = p.load(maps)[0]
    p.op("STORE", act_addr=first + 3, words=27, ddr_offset=16 * 40,
         region=isa.REGIONS["scratch"])
    again = p.room(27)
    p.op("LOAD", act_addr=again, words=27, ddr_offset=16 * 40, region=isa.REGIONS["scratch"])
    p.expected.append(("store and load", again, maps.astype(np.uint8).tobytes()[48 : 48 + 27 * 16]))
    p.op("STORE", act_addr=first, words=1, ddr_offset=0, region=isa.REGIONS["output"])


def mixture(p: Program) -> None:
    """Operations of every kind in random order and size, one reading what another wrote."""
    rng = p.rng
    for _ in range(4):
        signed = bool(rng.integers(2))
        width = int(rng.choice([8, 16, 32, 48]))
        height = 2 * int(rng.integers(1, 7))
        maps = p.random_maps(int(rng.integers(1, 5)), height, width, signed)
        planes = p.load(maps)
        out_type = "i8" if signed else "u8"
        for kind in rng.permutation(["linear", "window", "DW", "POOL", "DDW"]):
            if kind == "linear":
                oc = int(rng.integers(1, 40))
                outs, made = add_conv(p, maps, planes, oc, signed=signed, out_type=out_type,
                                      w8=bool(rng.integers(2)))
                planes, maps = outs[:4], made[:4]
            elif kind == "window":
                stride = int(rng.choice([1, 2, 4]))
                stride = stride if width % (16 * stride) == 0 or width == 8 * stride else 1
                if not (stride == 4 and width == 32):
                    add_conv(p, maps, planes, int(rng.integers(1, 26)), signed=signed,
                             out_type=out_type, stride=stride, rows=2)
            elif kind == "DDW":
                _, smap = add_conv(p, maps, planes, 1, signed=signed, out_type="u3",
                                     to_smap=True)
                up = bool(rng.integers(2))
                add_dw(p, "DDW", maps, planes, smap=smap[0], signed=signed, up=up,
                       out_type=out_type)
            else:
                stride = 2 if width % 16 == 0 and width != 48 and height % 4 == 0 else 1
                outs, made = add_dw(p, str(kind), maps, planes, signed=signed, stride=stride,
                                    out_type=out_type)
                if stride == 1:
                    planes, maps = outs, made
    logits = np.rint(rng.normal(-30, rng.choice([3, 30]), (int(rng.integers(1, 8)), 8, 16)))
    add_peak(p, logits.clip(-128, 127).astype(np.int64))


PROGRAMS: list[Callable[[Program], None]] = [
    linear_convs, short_tiles, windowed_convs, depthwise, deformable, all_dilations, sparse_peaks,
    many_peaks, tied_peaks, flat_peaks, narrow_peaks, few_peaks, stores,
]


@pytest.mark.parametrize("stall", [0, 150], ids=["full speed", "stalls"])
@pytest.mark.parametrize("make", PROGRAMS, ids=lambda make: make.__name__)
def test_program(
    make: Callable[[Program], None], stall: int, simulator: Build, tmp_path: Path
) -> None:
    program = Program(seed=1 + stall)
    make(program)
    program.finish()
    outcome = simulate(simulator, program, tmp_path, stall=stall)
    check(program, outcome, cycles=stall == 0)


@pytest.mark.parametrize("seed", range(6))
def test_mixture(seed: int, simulator: Build, tmp_path: Path) -> None:
    program = Program(seed=1000 + seed)
    mixture(program)
    program.finish()
    stall = 30 * seed
    check(program, simulate(simulator, program, tmp_path, stall=stall), cycles=stall == 0)


@pytest.mark.parametrize(
    ("make", "seed"), [(deformable, 1), (tied_peaks, 2), (mixture, 3)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_any_state_at_power_up(
    make: Callable[[Program], None], seed: int, simulator: Build, tmp_path: Path
) -> None:
    """Registers and memories hold anything before the reset: nothing of it comes through."""
    program = Program(seed=40 + seed)
    make(program)
    program.finish()
    outcome = simulate(
        simulator, program, tmp_path, stall=20,
        plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed}"],
    )
    check(program, outcome, cycles=False)


def test_two_frames(simulator: Build, tmp_path: Path) -> None:
    program = Program(seed=5)
    for make in (stores, all_dilations, tied_peaks):
        make(program)
    program.finish()
    outcome = simulate(simulator, program, tmp_path, stall=60, frames=2)
    assert len(outcome.status) == 2
    check(program, outcome, cycles=False)


GOOD_DW = {"groups": 4, "in_w": 16, "in_h": 4, "row_words": 1, "channels": 1}
GOOD_CONV = {"groups": 4, "k_words": 1, "tiles": 1, "last_oc": 1}
BAD: list[tuple[str, int, list[tuple[str, dict[str, int]]]]] = [
    ("magic", 1, [("HEAD", {"isa_version": isa.ISA_VERSION, "magic": 1})]),
    ("version", 1, [("HEAD", {"isa_version": isa.ISA_VERSION + 1, "magic": isa.MAGIC})]),
    ("no head", 4, [("END", {})]),
    ("up with stride", 5, [("DW", {**GOOD_DW, "up": 1, "stride_log2": 1})]),
    ("narrow width", 5, [("DW", {**GOOD_DW, "narrow": 1})]),
    ("no channels", 5, [("POOL", {**GOOD_DW, "channels": 0})]),
    ("deformable stride", 5, [("DDW", {**GOOD_DW, "stride_log2": 1})]),
    ("no weights", 5, [("CONV", {**GOOD_CONV, "k_words": 0})]),
    ("too many channels", 5, [("CONV", {**GOOD_CONV, "w8": 1, "last_oc": 13})]),
    ("unsigned peaks", 5, [("PEAK", {**GOOD_DW, "in_signed": 0} | {"classes": 1})]),
    ("odd offset", 5, [("LOAD", {"words": 4, "ddr_offset": 8})]),
    ("region", 5, [("STORE", {"words": 4, "region": 3})]),
]


@pytest.mark.parametrize(("name", "code", "ops"), BAD, ids=[b[0] for b in BAD])
def test_bad_descriptor(
    name: str, code: int, ops: list[tuple[str, dict[str, int]]], simulator: Build, tmp_path: Path
) -> None:
    program = Program(seed=7)
    if code in (1, 4):
        program.stream.clear()
    for opcode, values in ops:
        given = {k: v for k, v in values.items() if k in isa.DESCRIPTORS[opcode]}
        program.op(opcode, **given)
    program.finish()
    program.stream += bytes(32)
    (state,) = simulate(simulator, program, tmp_path, stall=0).status
    assert (state["error"], state["done"], state["busy"]) == (1, 0, 0), name
    assert state["error_code"] == code
    assert state["tag"] == 1


def test_unknown_opcode(simulator: Build, tmp_path: Path) -> None:
    program = Program(seed=8)
    program.stream += (9 | 77 << 4).to_bytes(32, "little")
    (state,) = simulate(simulator, program, tmp_path, stall=0).status
    assert (state["error"], state["error_code"], state["tag"]) == (1, 2, 77)


@pytest.mark.parametrize(
    ("make", "cycle"),
    [(linear_convs, 40), (linear_convs, 3000), (deformable, 5000), (tied_peaks, 1200),
     (tied_peaks, 2900), (stores, 160)],
)
def test_memory_error_stops(
    make: Callable[[Program], None], cycle: int, simulator: Build, tmp_path: Path
) -> None:
    """An error of the bus in the middle of an operation; the next start runs well."""
    program = Program(seed=9)
    make(program)
    program.finish()
    outcome = simulate(
        simulator, program, tmp_path, stall=0, frames=2, env={"MEM_ERROR_AT": str(cycle)}
    )
    failed, good = outcome.status
    assert (failed["error"], failed["error_code"], failed["done"], failed["busy"]) == (1, 3, 0, 0)
    assert good["cycles"] > cycle
    check(program, replace(outcome, status=[good]), cycles=False)
