# SPDX-License-Identifier: Apache-2.0
"""docs/engine.md in numpy: executes an instruction stream, to test the compiler alone.

Written from the page, not from the compiler: it knows streams, planes and words, no graphs.
"""

from collections.abc import Iterator

import numpy as np

from hwflow.emit import isa


def _get(word: int, field: isa.Field) -> int:
    value = (word >> field.lsb) & ((1 << field.width) - 1)
    return value - (1 << field.width) if field.signed and value >> (field.width - 1) else value


def _requantise(acc: np.ndarray, bias: int, code: int, out_type: int) -> np.ndarray:
    shift = code - isa.SHIFT_BIAS
    total = acc + bias
    if shift <= 0:
        value = total << -shift
    else:
        floor, rest, half = total >> shift, total & ((1 << shift) - 1), 1 << (shift - 1)
        value = floor + ((rest > half) | ((rest == half) & (floor & 1 == 1)))
    low, high = {0: (0, 255), 1: (-128, 127), 2: (0, 7)}[out_type]
    return np.clip(value, low, high)


class EngineModel:
    """One engine: act is (65536, 16) bytes; run() returns candidates, `writes` lists each word.

    The two queues run side by side: `seed` draws which of those that may start does, and which of
    those under way is completed next. An operation reads when it starts and again when it is
    completed; both must give the same, or a token is missing.
    """

    def __init__(self, act_words: int, seed: int | None = None) -> None:
        self.act = np.zeros((1 << 16, isa.LANES), np.uint8)
        self.act_words = act_words
        self.rng = np.random.default_rng(seed)
        self.twice = seed is not None
        self.smap = np.zeros((1024, isa.LANES), np.int64)
        self.scratch: dict[int, np.ndarray] = {}
        self.writes: list[tuple[int, int, np.ndarray]] = []

    def run(self, array: bytes, lanes: bytes, image: np.ndarray) -> np.ndarray:
        """Runs a frame; image is uint8 (C, H, W). Returns candidate rows, sorted."""
        self.image = image.tobytes()
        self.output = b""
        self.candidates = np.zeros((0, 8), np.int64)
        self.found: list[tuple[int, ...]] = []
        queues = [list(operations(stream, q)) for q, stream in enumerate((array, lanes))]
        completed, under_way = [0, 0], [None, None]
        while any(completed[q] < len(queues[q]) for q in (0, 1)):
            starts = [
                q for q in (0, 1)
                if under_way[q] is None and completed[q] < len(queues[q])
                and queues[q][completed[q]][1]["wait"] <= completed[1 - q]
            ]  # fmt: skip
            ends = [q for q in (0, 1) if under_way[q] is not None]
            assert starts or ends, f"both queues wait: {completed}"
            # without a seed: one operation at a time
            choices = [("start", q) for q in starts] + [("end", q) for q in ends]
            if not self.twice:
                choices = choices[-1:]
            what, q = choices[int(self.rng.integers(len(choices)))]
            name, fields, words = queues[q][completed[q]]
            if what == "start":
                under_way[q] = self.effect(name, fields, words)
                continue
            effect = under_way[q]
            if self.twice:
                again = self.effect(name, fields, words)
                assert all(map(_same, effect, again)), f"tag {self.tag}: what it read changed"
            for kind, where, value in effect:
                self.apply(kind, where, value)
            under_way[q] = None
            completed[q] += 1
        return self.candidates

    def effect(self, name: str, fields: dict, words: list[int]) -> list[tuple[str, int, object]]:
        """What an operation would write now."""
        self.tag = fields["tag"]
        self.pending: list[tuple[str, int, object]] = []
        if name == "CONV":
            self.conv(fields, words)
        elif name in ("DW", "DDW", "POOL"):
            self.depthwise(name, fields, words)
        elif name in ("LOAD", "STORE"):
            self.transfer(name, fields)
        elif name == "PEAK":
            self.peak(fields)
        else:
            assert name == "EMIT", name
            self.send(fields)
        return [(kind, (self.tag << 16) + where if kind == "act" else where, value)
                for kind, where, value in self.pending]  # fmt: skip

    def apply(self, kind: str, where: int, value: object) -> None:
        if kind == "act":
            tag, addr = where >> 16, where & 0xFFFF
            assert addr < self.act_words, f"tag {tag}: write to word {addr}"
            self.act[addr] = value
            self.writes.append((tag, addr, np.array(value)))
        elif kind == "smap":
            self.smap[where] = value
        elif kind == "scratch":
            self.scratch[where] = value
        elif kind == "output":
            assert where == len(self.output)
            self.output += value.tobytes()
        elif kind == "found":
            self.found = value
        else:
            self.candidates = value

    def write(self, addr: int, values: np.ndarray) -> None:
        low = (values.astype(np.int64) & 0xFF).astype(np.uint8)
        self.pending.append(("act", addr & 0xFFFF, low))

    def transfer(self, name: str, f: dict) -> None:
        region = next(k for k, v in isa.REGIONS.items() if v == f["region"])
        for run in range(f["runs"]):
            for i in range(f["words"]):
                act = f["act_addr"] + run * f["act_stride"] + i
                at = f["ddr_offset"] + 16 * (run * f["ddr_stride"] + i)
                if name == "STORE":
                    assert region in ("scratch", "output")
                    self.pending.append((region, at, self.act[act & 0xFFFF].copy()))
                elif region == "image":
                    self.write(act, np.frombuffer(self.image[at : at + 16], np.uint8))
                else:
                    assert region == "scratch"
                    self.write(act, self.scratch[at])

    def taps(self, f: dict, plane: int, g: int, i: int, dil: np.ndarray, fill: int) -> np.ndarray:
        """(3, 16) pixels of tap row i for output word g of a plane; out of map: fill."""
        stride, lane = 1 << f["stride_log2"], np.arange(isa.LANES)
        if f["narrow"]:
            row, col = f["y0"] + 2 * g + lane // 8, lane % 8
        else:
            row = np.full(isa.LANES, f["y0"] + g // f["row_words"])
            col = 16 * (g % f["row_words"]) + lane
        width = f["in_w"] << f["up"]
        vrow = row * stride + (i - 1) * dil
        out = np.full((3, isa.LANES), fill, np.int64)
        for j in range(3):
            vcol = col * stride + (j - 1) * dil
            ok = (vrow >= 0) & (vrow < f["in_h"]) & (vcol >= 0) & (vcol < width)
            pixel = (vrow >> f["up"]) * f["in_w"] + (vcol >> f["up"])
            word = (plane + (pixel >> 4)) & 0xFFFF
            value = self.act[word, pixel & 15].astype(np.int64)
            if f["in_signed"]:
                value = (value ^ 0x80) - 0x80
            out[j, ok] = value[ok]
        return out

    def conv(self, f: dict, words: list[int]) -> None:
        size = isa.HEADER_WORDS + f["k_words"]
        per_tile, bits = (12, 8) if f["w8"] else (24, 4)
        for t in range(f["tiles"]):
            tile = words[t * size : (t + 1) * size]
            count = f["last_oc"] if t == f["tiles"] - 1 else per_tile
            weights = np.zeros((f["k_words"], per_tile), np.int64)
            for k, word in enumerate(tile[isa.HEADER_WORDS :]):
                for oc in range(per_tile):
                    weights[k, oc] = (word >> (bits * oc)) & ((1 << bits) - 1)
            weights = (weights ^ (1 << (bits - 1))) - (1 << (bits - 1))
            spots = [
                {k: _get(word, v) for k, v in isa.WEIGHT_WORD.items()}
                for word in tile[isa.HEADER_WORDS :]
            ]
            planes = np.array([s["plane"] for s in spots])
            for g in range(0, f["groups"], 2 if f["pair"] else 1):
                acc = weights.T @ self.vectors(f, spots, planes, g)
                half = count // 2
                if f["pair"]:  # columns 12.. work on the next group
                    other = weights.T @ self.vectors(f, spots, planes, g + 1)
                    acc = np.concatenate([acc[:half], other[12 : 12 + half]])
                for oc in range(count):
                    record = tile[oc // 2] >> (64 * (oc % 2))
                    c = {k: _get(record, v) for k, v in isa.CHANNEL_RECORD.items()}
                    out = _requantise(acc[oc], c["bias"], c["shift"], f["out_type"])
                    self.write(c["dst"] + g, out)
                    if f["to_smap"] and t == 0 and (oc == 0 or (f["pair"] and oc == half)):
                        index = f["smap_base"] + g + (1 if oc else 0)
                        self.pending.append(("smap", index, out))

    def vectors(self, f: dict, spots: list[dict], planes: np.ndarray, g: int) -> np.ndarray:
        """(k, 16) pixels that group g of a convolution multiplies."""
        if not f["windowed"]:
            vectors = self.act[(planes + g) & 0xFFFF].astype(np.int64)
            return (vectors ^ 0x80) - 0x80 if f["in_signed"] else vectors
        ones = np.ones(isa.LANES, np.int64)
        vectors = np.zeros((f["k_words"], isa.LANES), np.int64)
        for k, s in enumerate(spots):
            vector = self.taps(f, s["plane"], g, s["tap_i"], ones, 0)[s["tap_j"]]
            lanes = {0: slice(0, 16), 1: slice(0, 8), 2: slice(8, 16)}[s["half"]]
            vectors[k, lanes] = vector[lanes]
        return vectors

    def dilations(self, f: dict, g: int) -> np.ndarray:
        lane = np.arange(isa.LANES)
        row = f["y0"] + (2 * g if f["narrow"] else g // f["row_words"])
        first = 16 * (g % f["row_words"])
        linear = (row >> f["up"]) * f["in_w"] + (first >> f["up"])
        if f["up"]:
            return self.smap[linear >> 4][(linear & 8) + lane // 2]
        return self.smap[linear >> 4]

    def depthwise(self, name: str, f: dict, records: list[int]) -> None:
        fill = (-128 if f["in_signed"] else 0) if name == "POOL" else 0
        for word in records:
            r = {k: _get(word, v) for k, v in isa.DW_RECORD.items()}
            weights = np.array([(r["weights"] >> (4 * tap)) & 15 for tap in range(9)]).reshape(3, 3)
            weights = (weights ^ 8) - 8
            groups = f["rows"] // 2 if f["narrow"] else f["rows"] * f["row_words"]
            for g in range(groups):
                dil = self.dilations(f, g) if name == "DDW" else np.ones(isa.LANES, np.int64)
                window = np.stack([self.taps(f, r["src"], g, i, dil, fill) for i in range(3)])
                if name == "POOL":
                    acc = window.max(axis=(0, 1))
                else:
                    acc = (window * weights[:, :, None]).sum(axis=(0, 1))
                self.write(r["dst"] + g, _requantise(acc, r["bias"], r["shift"], f["out_type"]))

    def peak(self, f: dict) -> None:
        ones = np.ones(isa.LANES, np.int64)
        found = []
        for c in range(f["classes"]):
            for g in range(f["groups"]):
                plane = f["hm"] + c * f["groups"]
                window = np.stack([self.taps(f, plane, g, i, ones, -128) for i in range(3)])
                for lane in np.flatnonzero(window[1, 1] == window.max(axis=(0, 1))):
                    y, x = g // f["row_words"], 16 * (g % f["row_words"]) + int(lane)
                    found.append((-int(window[1, 1, lane]), y, x, c, g, int(lane)))
        self.pending.append(("found", 0, sorted(found)[: isa.CANDIDATES]))

    def send(self, f: dict) -> None:
        rows = [
            (-m, c, y, x, *(int(self.act[f[name] + g, lane].astype(np.int8))
                            for name in ("w", "h", "reg_x", "reg_y")))
            for m, y, x, c, g, lane in self.found
        ]  # fmt: skip
        self.pending.append(("candidates", 0, np.array(rows, np.int64).reshape(-1, 8)))


def operations(stream: bytes, queue: int) -> Iterator[tuple[str, dict, list[int]]]:
    """Opcode, fields and payload words of each descriptor between HEAD and END."""
    words = [int.from_bytes(stream[i : i + 16], "little") for i in range(0, len(stream), 16)]
    position, first = 0, True
    while True:
        descriptor = words[position] | words[position + 1] << 128
        position += 2
        opcode = _get(descriptor, isa.COMMON["opcode"])
        name = next(k for k, v in isa.OPCODES.items() if v == opcode)
        layout = {**isa.COMMON, **isa.DESCRIPTORS[name]}
        f = {k: _get(descriptor, v) for k, v in layout.items()}
        assert (name == "HEAD") == first
        first = False
        if name == "HEAD":
            assert f["magic"] == isa.MAGIC and f["isa_version"] == isa.ISA_VERSION
            assert f["queue"] == queue
            continue
        if name == "END":
            assert position == len(words)
            return
        assert (name == "CONV") == (queue == isa.QUEUES["array"])
        size = 0
        if name == "CONV":
            size = f["tiles"] * (isa.HEADER_WORDS + f["k_words"])
        elif name in ("DW", "DDW", "POOL"):
            size = f["channels"]
        yield name, f, words[position : position + size]
        position += size


def _same(one: tuple[str, int, object], two: tuple[str, int, object]) -> bool:
    if one[:2] != two[:2]:
        return False
    return one[2] == two[2] if isinstance(one[2], list) else bool(np.array_equal(one[2], two[2]))
