# SPDX-License-Identifier: Apache-2.0
"""The core engine on small programs, against numpy: every written plane, every candidate.

The stream, LOAD and STORE stall at random; each program runs at full speed too, where its cycles
are held to the table of docs/engine.md.
"""

from __future__ import annotations

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
from hwflow.sim.runner import Build, build, engine_sources, run

BENCH = Path(__file__).parent / "models" / "core_bench.sv"
REGION_WORDS = 65536
# Cycles beside those of docs/engine.md; CONV's last tile drains besides
CONV_EXTRA = 34
LANES_EXTRA = 42
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
        names = ("done", "error", "error_code", "error_tag", "prog_hash", "cand_count", "cycles",
                 "busy")  # fmt: skip
        line = " ".join(f"{name}={int(getattr(dut, name).value)}" for name in names)
        with Path(os.environ["STATUS"]).open("a") as status:
            status.write(line + "\n")


# ---- programs


@dataclass
class Program:
    """Both streams under construction, the image region, and what the memory must hold.

    Every operation waits for those of the other queue that made what it reads; with `serial`
    for all that came before it.
    """

    seed: int
    serial: bool = False
    rng: np.random.Generator = field(init=False)
    streams: dict[str, bytearray] = field(default_factory=dict)
    places: dict[str, list[int]] = field(default_factory=lambda: {q: [] for q in isa.QUEUES})
    image: list[bytes] = field(default_factory=list)
    next_word: int = 0
    tags: int = 0
    ops: dict[str, int] = field(default_factory=lambda: dict.fromkeys(isa.QUEUES, 0))
    makers: dict[int, tuple[str, int]] = field(default_factory=dict)  # plane -> queue, operations
    smap_users: dict[str, int] = field(default_factory=lambda: dict.fromkeys(isa.QUEUES, 0))
    cycles: dict[int, tuple[str, int]] = field(default_factory=dict)  # tag -> name, most cycles
    expected: list[tuple[str, int, bytes]] = field(default_factory=list)
    candidates: list[tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        for name, queue in isa.QUEUES.items():
            head = {"isa_version": isa.ISA_VERSION, "magic": isa.MAGIC, "queue": queue,
                    "hash": 0x0123456789ABCDEF}
            self.streams[name] = bytearray(isa.descriptor("HEAD", self.tags, "bench", **head))
            self.tags += 1

    def op(
        self, opcode: str, limit: int = 0, name: str = "", reads: Sequence[int] = (),
        makes: Sequence[int] = (), smap: bool = False, body: Sequence[int] = (), **values: int,
    ) -> None:
        """Add an operation with the words that follow it. smap: it uses the dilation map."""
        queue, other = ("array", "lanes") if opcode == "CONV" else ("lanes", "array")
        waits = [0, self.smap_users[other] if smap else 0, self.ops[other] if self.serial else 0]
        for place in reads:
            maker, done = self.makers.get(place, (queue, 0))
            waits.append(done if maker == other else 0)
        self.places[queue].append(len(self.streams[queue]))  # bytes before the descriptor
        self.streams[queue] += isa.descriptor(opcode, self.tags, "bench", wait=max(waits), **values)
        self.streams[queue] += b"".join(word.to_bytes(16, "little") for word in body)
        self.ops[queue] += 1
        if smap:
            self.smap_users[queue] = self.ops[queue]
        self.makers |= dict.fromkeys(makes, (queue, self.ops[queue]))
        if limit:
            self.cycles[self.tags] = (name or opcode, limit)
        self.tags += 1

    def room(self, words: int) -> int:
        place, self.next_word = self.next_word, self.next_word + words
        assert self.next_word <= 24576
        return place

    def put(self, data: bytes) -> int:
        """Append to the image region; the offset."""
        offset = 16 * sum(len(part) // 16 for part in self.image)
        self.image.append(data)
        return offset

    def load(self, maps: Ints) -> list[int]:
        """Put maps (N, H, W) into the image region and LOAD them; the planes' addresses."""
        count, height, width = maps.shape
        words = height * width // 16
        first = self.room(count * words)
        data = maps.astype(np.uint8).tobytes()
        planes = [first + i * words for i in range(count)]
        self.op("LOAD", limit=count * words + 20, act_addr=first, words=count * words, runs=1,
                ddr_offset=self.put(data), region=isa.REGIONS["image"], makes=planes)
        self.expected.append(("load", first, data))
        return planes

    def random_maps(self, count: int, height: int, width: int, signed: bool = False) -> Ints:
        low = -128 if signed else 0
        return self.rng.integers(low, low + 256, (count, height, width))

    def expect(self, name: str, place: int, plane: Ints) -> None:
        self.expected.append((name, place, plane.astype(np.uint8).tobytes()))

    def finish(self) -> None:
        for stream in self.streams.values():
            stream += isa.descriptor("END", self.tags, "bench")
            self.tags += 1


def shift_for(acc: Ints, rng: np.random.Generator) -> int:
    """A shift that brings most of acc into 8 bits, varied a little."""
    spread = int(np.abs(acc).max()).bit_length()
    return int(np.clip(spread - 8 + rng.integers(-1, 2), -7, 24))


def add_conv(
    p: Program, maps: Ints, planes: Sequence[int], oc: int, *, signed: bool = False,
    out_type: str = "u8", w8: bool = False, to_smap: bool = False, stride: int = 0, y0: int = 0,
    rows: int = 0, up: bool = False, pair: bool = False, smap_base: int = 0,
) -> tuple[list[int], Ints]:
    """A CONV with random weights; stride 0: linear (1x1), else windowed 3x3. Addresses and maps.

    With pair two groups at once: each channel has a second column and record, for the next word.
    """
    rng, ic = p.rng, len(planes)
    body: list[int] = []
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
    if pair:
        records += [record + (1 << isa.CHANNEL_RECORD["dst"].lsb) for record in records]
    columns = 2 * oc if pair else oc
    items = groups // 2 if pair else groups
    two_pass = (stride == 4) or (narrow and stride == 2)
    halves = [1, 2] if two_pass else [0]
    words = [(c, t, h) for h in halves for c in range(ic) for t in range(weights.shape[2])]
    tiles = -(-oc // tile_oc)
    chunks = [min(512, len(words) - k) for k in range(0, len(words), 512)]
    cycles = 0
    for t in range(tiles):
        n_oc = min(tile_oc, columns - t * tile_oc)
        cycles += 16 + items * max(len(words), sum(max(c, n_oc) for c in chunks))
    for t in range(tiles):
        head = records[t * tile_oc : (t + 1) * tile_oc]
        head += [0] * (24 - len(head))
        body += [head[2 * i] | head[2 * i + 1] << 64 for i in range(12)]
        for c, k, h in words:
            packed = 0
            for n, channel in enumerate(range(t * tile_oc, min(oc, (t + 1) * tile_oc))):
                width_bits = 8 if w8 else 4
                value = int(weights[channel, c, k]) & ((1 << width_bits) - 1)
                packed |= value << (width_bits * n)
                packed |= value << (width_bits * (n + 12)) if pair else 0
            place = {"weights": packed, "plane": planes[c], "half": h}
            if not linear:
                place |= {"tap_i": k // 3, "tap_j": k % 3}
            body.append(isa.pack(isa.WEIGHT_WORD, place, "bench"))
    p.op(
        "CONV", limit=cycles + CONV_EXTRA + n_oc, name=f"CONV {ic}->{oc} stride {stride}",
        reads=planes, makes=outs, smap=to_smap, body=body, groups=groups,
        in_signed=int(signed), out_type=isa.OUT_TYPES[out_type],
        stride_log2=step.bit_length() - 1, up=int(up), narrow=int(narrow), in_w=maps.shape[2],
        in_h=height, y0=y0, row_words=max(shape[1] // 16, 1), windowed=int(not linear),
        w8=int(w8), to_smap=int(to_smap), k_words=len(words), tiles=tiles,
        last_oc=columns - (tiles - 1) * tile_oc, pair=int(pair), smap_base=smap_base,
    )
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
    reach = 7 if opcode == "DDW" else 1
    if opcode == "DDW":
        assert smap is not None
        dilation = (model.upsampled(smap) if up else smap)[y0 : y0 + shape[0]]
    top = max(0, stride * y0 - reach)
    bottom = min(height - 1, stride * (y0 + shape[0] - 1) + reach)
    entries = max(shape[1] // 16, 1) * (bottom - top + 1)
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
        opcode, limit=len(planes) * max(entries, 7) + reach + LANES_EXTRA,
        name=f"{opcode} {len(planes)} stride {stride} up {up}", reads=planes, makes=outs,
        smap=opcode == "DDW", body=records, rows=shape[0],
        groups=groups, in_signed=int(signed), out_type=isa.OUT_TYPES[out_type],
        stride_log2=stride.bit_length() - 1, up=int(up), narrow=int(narrow), in_w=maps.shape[2],
        in_h=height, y0=y0, row_words=max(shape[1] // 16, 1), channels=len(planes),
    )
    return outs, np.stack(results)


def add_peak(p: Program, logits: Ints) -> None:
    """PEAK over (classes, H, W) with random regression maps."""
    classes, height, width = logits.shape
    hm = p.load(logits)[0]
    regressions = p.random_maps(4, height, width, signed=True)
    w, h, reg_x, reg_y = p.load(regressions)
    p.candidates = model.peaks(logits, list(regressions), isa.CANDIDATES)
    words = height * width // 16
    p.op("PEAK", reads=[hm], groups=words, in_signed=1, in_w=width, in_h=height,
         row_words=width // 16, classes=classes, hm=hm)
    p.op("EMIT", limit=4 * isa.CANDIDATES + 40, reads=[w, h, reg_x, reg_y],
         w=w, h=h, reg_x=reg_x, reg_y=reg_y)


# ---- running and comparing


@pytest.fixture(scope="session")
def simulator() -> Build:
    return build("core_bench", [*engine_sources(), BENCH], optimise="-O2")


def write_words(path: Path, data: bytes) -> None:
    padded = data + bytes(-len(data) % 16)
    lines = (padded[i : i + 16][::-1].hex() for i in range(0, len(padded), 16))
    path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True)
class Outcome:
    status: list[dict[str, int]]
    memory: Mapping[int, bytes]  # activation word -> last value
    output: bytes  # the three regions
    spans: Mapping[int, tuple[int, int]]  # of each operation, by tag


def simulate(
    simulator: Build, program: Program, directory: Path, *, stall: int, frames: int = 1,
    env: Mapping[str, str] | None = None, plusargs: Sequence[str] = (),
) -> Outcome:
    directory.mkdir(parents=True, exist_ok=True)
    names = {n: directory / f"{n}.txt"
             for n in ("array", "lanes", "image", "output", "trace", "ops")}  # fmt: skip
    for name, stream in program.streams.items():
        write_words(names[name], bytes(stream))
    write_words(names["image"], b"".join(program.image) or bytes(16))
    status = directory / "status.txt"
    status.unlink(missing_ok=True)
    run(
        simulator, Path(__file__), run_dir=directory, testcase="frames",
        plusargs=[*(f"+{n}={path}" for n, path in names.items()),
                  *(f"+{n}_words={len(s) // 16}" for n, s in program.streams.items()),
                  f"+stall={stall}", f"+seed={program.seed}", *plusargs],
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
    spans = {tag: (begin, end) for _, tag, begin, end in marks}
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
            begin, end = outcome.spans[tag]
            assert end - begin <= limit, (name, end - begin, limit)


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
        record = isa.pack(isa.CHANNEL_RECORD, {
            "bias": 0, "shift": 5 + isa.SHIFT_BIAS, "dst": first}, "bench")
        weight = isa.pack(isa.WEIGHT_WORD, {"weights": 1, "plane": plane}, "bench")
        p.op("CONV", groups=16, in_signed=0, out_type=isa.OUT_TYPES["u3"], k_words=1, tiles=1,
             last_oc=1, to_smap=1, reads=[plane], makes=[first], smap=True,
             body=[record, *[0] * 11, weight])
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


def few_peaks(p: Program) -> None:
    logits = np.full((2, 8, 16), -100)
    logits += np.arange(16) + 3 * np.arange(8)[:, None]  # a slope: one peak in each class
    add_peak(p, logits)


def stores(p: Program) -> None:
    """STORE and LOAD back, in one run and in several with gaps on both sides."""
    maps = p.random_maps(2, 16, 16)
    first = p.load(maps)[0]
    data = maps.astype(np.uint8).tobytes()
    scratch = isa.REGIONS["scratch"]
    p.op("STORE", act_addr=first + 3, words=27, runs=1, ddr_offset=16 * 40, region=scratch)
    again = p.room(27)
    p.op("LOAD", act_addr=again, words=27, runs=1, ddr_offset=16 * 40, region=scratch)
    p.expected.append(("store and load", again, data[48 : 48 + 27 * 16]))
    for words, runs, step, ddr_step in ((1, 5, 6, 9), (3, 4, 8, 3), (2, 3, 2, 20)):
        p.op("STORE", act_addr=first, words=words, runs=runs, act_stride=step,
             ddr_offset=16 * 900, ddr_stride=ddr_step, region=scratch)
        place = p.room(runs * (words + 2))
        p.op("LOAD", act_addr=place, words=words, runs=runs, act_stride=words + 2,
             ddr_offset=16 * 900, ddr_stride=ddr_step, region=scratch)
        for run_number in range(runs):
            begin = 16 * run_number * step
            p.expected.append((f"run {run_number}", place + run_number * (words + 2),
                               data[begin : begin + 16 * words]))
    p.op("STORE", act_addr=first, words=1, runs=1, ddr_offset=0, region=isa.REGIONS["output"])


def pairs(p: Program) -> None:
    """Two groups at once; their dilations too, and those of a band at its place in the map."""
    for shape, oc, ic in (((4, 16), 1, 1), ((6, 32), 12, 30), ((16, 16), 7, 5), ((2, 16), 3, 600)):
        maps = p.random_maps(min(ic, 31), *shape)
        loaded = p.load(maps)
        chosen = p.rng.integers(0, len(loaded), ic)
        add_conv(p, maps[chosen], [loaded[i] for i in chosen], oc, pair=True)
    maps, source = p.random_maps(2, 16, 32), p.random_maps(1, 16, 32)
    planes, (place,) = p.load(maps), p.load(source)
    parts = []
    for half in range(2):  # 8 rows of 2 words each
        band = source[:, 8 * half : 8 * half + 8]
        _, (made,) = add_conv(p, band, [place + 16 * half], 1, out_type="u3", to_smap=True,
                              pair=bool(half), smap_base=16 * half)
        parts.append(made)
    add_dw(p, "DDW", maps, planes, smap=np.concatenate(parts))


def both_queues(p: Program) -> None:
    """CONVs beside everything else: reads of both sides in the same banks, the memory is shared."""
    maps = p.random_maps(6, 16, 32)
    planes = p.load(maps)
    made, outs = maps, planes
    for n in range(6):
        add_conv(p, maps, planes, 24)
        add_conv(p, maps[:1], planes[:1], 30)  # a word a cycle
        outs, made = add_dw(p, "DW", made, outs)
        add_conv(p, made, outs, 3, stride=1)
        p.random_maps(1, 1, 16)
        if n % 2:
            add_dw(p, "POOL", maps, planes)
        p.load(p.random_maps(20, 4, 16))
        p.op("STORE", act_addr=planes[0], words=60, runs=1, region=isa.REGIONS["scratch"])
    add_peak(p, p.rng.integers(-20, 20, (5, 24, 32)))
    for _ in range(4):
        add_conv(p, maps, planes, 24, pair=False)


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
    many_peaks, tied_peaks, flat_peaks, few_peaks, stores, pairs, both_queues,
]


@pytest.mark.parametrize("stall", [0, 150], ids=["full speed", "stalls"])
@pytest.mark.parametrize("make", PROGRAMS, ids=lambda make: make.__name__)
def test_program(
    make: Callable[[Program], None], stall: int, simulator: Build, tmp_path: Path
) -> None:
    program = Program(seed=1 + stall, serial=stall == 0)
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
    check(program, simulate(simulator, program, tmp_path, stall=stall), cycles=False)


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


@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_peak_cycles(kind: str, simulator: Build, tmp_path: Path) -> None:
    """Two reads of every logit and little more, however many peaks there are."""
    program = Program(seed=3)
    if kind == "noise":
        logits = np.rint(program.rng.normal(-60, 12, (20, 64, 64))).clip(-128, 127)
    else:  # all but some cells equal their neighbours
        logits = np.where(program.rng.random((20, 64, 64)) < 0.001, 20, -128)
    add_peak(program, logits.astype(np.int64))
    program.finish()
    outcome = simulate(simulator, program, tmp_path, stall=0)
    check(program, outcome, cycles=True)
    begin, end = outcome.spans[max(outcome.spans) - 1]  # the last one is EMIT
    assert end - begin < 2 * 20 * 256 + 2000


def test_two_frames(simulator: Build, tmp_path: Path) -> None:
    program = Program(seed=5)
    for make in (stores, all_dilations, tied_peaks):
        make(program)
    program.finish()
    outcome = simulate(simulator, program, tmp_path, stall=60, frames=2)
    assert len(outcome.status) == 2
    check(program, outcome, cycles=False)


def test_queues_overlap(simulator: Build, tmp_path: Path) -> None:
    """At full speed the two queues run different work at the same time, and all of it is right."""
    alone, together = Program(seed=11, serial=True), Program(seed=11)
    for program in (alone, together):
        both_queues(program)
        program.finish()
    first = simulate(simulator, alone, tmp_path / "serial", stall=0)
    second = simulate(simulator, together, tmp_path / "overlapping", stall=0)
    check(alone, first, cycles=False)
    check(together, second, cycles=False)
    assert second.status[0]["cycles"] < 0.8 * first.status[0]["cycles"]


def test_wrong_tokens_are_seen(simulator: Build, tmp_path: Path) -> None:
    """Without its tokens a program computes from words that are not there yet."""
    program = Program(seed=12)
    maps = program.random_maps(3, 16, 32)
    planes = program.load(maps)
    outs, made = add_conv(program, maps, planes, 3)
    add_dw(program, "DW", made, outs)
    program.finish()
    check(program, simulate(simulator, program, tmp_path / "right", stall=0), cycles=False)
    for name, stream in program.streams.items():
        fields = isa.COMMON["wait"]
        words = int.from_bytes(stream, "little")
        for place in program.places[name]:
            words &= ~(((1 << fields.width) - 1) << (8 * place + fields.lsb))
        program.streams[name] = bytearray(words.to_bytes(len(stream), "little"))
    outcome = simulate(simulator, program, tmp_path / "wrong", stall=0)
    with pytest.raises(AssertionError, match=r"CONV|DW"):
        check(program, outcome, cycles=False)


GOOD_ROWS = {"in_w": 16, "in_h": 4, "row_words": 1, "channels": 1, "rows": 4}
GOOD_CONV = {"groups": 4, "k_words": 1, "tiles": 1, "last_oc": 2}
GOOD_PAIR = {**GOOD_CONV, "pair": 1}
GOOD_PEAK = {"groups": 4, "in_w": 16, "in_h": 4, "row_words": 1, "classes": 1, "in_signed": 1}
GOOD_MOVE = {"words": 4, "runs": 1}
NARROW = {**GOOD_ROWS, "in_w": 8, "narrow": 1}
BAD: list[tuple[str, int, str, dict[str, int]]] = [
    ("up with stride", 5, "DW", {**GOOD_ROWS, "up": 1, "stride_log2": 1}),
    ("narrow width", 5, "DW", {**GOOD_ROWS, "narrow": 1}),
    ("narrow rows", 5, "DW", {**NARROW, "rows": 3}),
    ("narrow from an odd row", 5, "POOL", {**NARROW, "y0": 1, "rows": 2}),
    ("no rows", 5, "DW", {**GOOD_ROWS, "rows": 0}),
    ("rows beyond the map", 5, "DW", {**GOOD_ROWS, "y0": 1}),
    ("no channels", 5, "POOL", {**GOOD_ROWS, "channels": 0}),
    ("deformable stride", 5, "DDW", {**GOOD_ROWS, "stride_log2": 1, "in_w": 32, "rows": 2}),
    ("large dilation map", 5, "DDW", {**GOOD_ROWS, "in_w": 256, "in_h": 66, "row_words": 16}),
    ("no weights", 5, "CONV", {**GOOD_CONV, "k_words": 0}),
    ("too many channels", 5, "CONV", {**GOOD_CONV, "w8": 1, "last_oc": 13}),
    ("odd pair", 5, "CONV", {**GOOD_PAIR, "groups": 3}),
    ("pair of odd channels", 5, "CONV", {**GOOD_PAIR, "last_oc": 3}),
    ("pair of tiles", 5, "CONV", {**GOOD_PAIR, "tiles": 2}),
    ("pair of int8", 5, "CONV", {**GOOD_PAIR, "w8": 1}),
    ("pair of windows", 5, "CONV", {**GOOD_PAIR, "windowed": 1, "in_w": 16, "row_words": 1}),
    ("dilations beyond the map", 5, "CONV", {**GOOD_CONV, "to_smap": 1, "smap_base": 1021}),
    ("unsigned peaks", 5, "PEAK", {**GOOD_PEAK, "in_signed": 0}),
    ("narrow peaks", 5, "PEAK", {**GOOD_PEAK, "in_w": 8, "narrow": 1}),
    ("odd offset", 5, "LOAD", {**GOOD_MOVE, "ddr_offset": 8}),
    ("region", 5, "STORE", {**GOOD_MOVE, "region": 3}),
    ("no runs", 5, "STORE", {"words": 4}),
    ("words beyond the memory", 5, "LOAD", {**GOOD_MOVE, "act_addr": 65533}),
    ("runs beyond the memory", 5, "STORE", {**GOOD_MOVE, "runs": 300, "act_stride": 200}),
    ("DW in the array's queue", 2, "array DW", GOOD_ROWS),
    ("CONV in the lanes' queue", 2, "lanes CONV", GOOD_CONV),
    ("no head", 4, "first DW", GOOD_ROWS),
    ("magic", 1, "first HEAD", {"isa_version": isa.ISA_VERSION, "magic": 1, "queue": 1}),
    ("version", 1, "first HEAD", {"isa_version": 1, "magic": isa.MAGIC, "queue": 1}),
    ("queue", 1, "first HEAD", {"isa_version": isa.ISA_VERSION, "magic": isa.MAGIC}),
]


@pytest.mark.parametrize(("name", "code", "opcode", "values"), BAD, ids=[b[0] for b in BAD])
def test_bad_descriptor(
    name: str, code: int, opcode: str, values: dict[str, int], simulator: Build, tmp_path: Path
) -> None:
    """The other queue is at work meanwhile: it stops too, and the tag is that of the bad one."""
    program = Program(seed=7)
    where, _, kind = opcode.rpartition(" ")
    queue = where if where in isa.QUEUES else "array" if kind == "CONV" else "lanes"
    maps = program.random_maps(20, 16, 16)
    planes = program.load(maps)
    if queue == "lanes":
        add_conv(program, maps, planes, 60)
    else:
        add_dw(program, "DW", maps, planes)
    if where == "first":
        program.streams[queue].clear()
    program.streams[queue] += isa.descriptor(kind, 0x777, "bench", **values) + bytes(64)
    program.finish()
    program.streams[queue] += bytes(64)
    (state,) = simulate(simulator, program, tmp_path, stall=0).status
    assert (state["error"], state["done"], state["busy"]) == (1, 0, 0), name
    assert (state["error_code"], state["error_tag"]) == (code, 0x777)


@pytest.mark.parametrize("queue", isa.QUEUES)
def test_unknown_opcode(queue: str, simulator: Build, tmp_path: Path) -> None:
    program = Program(seed=8)
    program.streams[queue] += (9 | 77 << 4).to_bytes(32, "little")
    program.finish()
    (state,) = simulate(simulator, program, tmp_path, stall=0).status
    assert (state["error"], state["error_code"], state["error_tag"]) == (1, 2, 77)


@pytest.mark.parametrize(
    ("make", "cycle"),
    [(linear_convs, 40), (linear_convs, 3000), (deformable, 1200), (tied_peaks, 1200),
     (tied_peaks, 1900), (stores, 160), (both_queues, 2500)],
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
