# SPDX-License-Identifier: Apache-2.0
"""docs/engine.md in numpy: executes an instruction stream, to test the compiler alone.

Written from the page, not from the compiler: it knows streams, planes and words, no graphs.
"""

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
    """One engine: act is (65536, 16) bytes; run() returns candidates, `writes` lists each word."""

    def __init__(self, act_words: int) -> None:
        self.act = np.zeros((1 << 16, isa.LANES), np.uint8)
        self.act_words = act_words
        self.smap = np.zeros((1024, isa.LANES), np.int64)
        self.writes: list[tuple[int, int, np.ndarray]] = []

    def run(self, stream: bytes, image: np.ndarray) -> np.ndarray:
        """Runs a frame; image is uint8 (C, H, W). Returns candidate rows, sorted."""
        words = [int.from_bytes(stream[i : i + 16], "little") for i in range(0, len(stream), 16)]
        self.image = image.tobytes()
        self.output = b""
        self.candidates = np.zeros((0, 8), np.int64)
        position = 0
        while True:
            desc = words[position] | words[position + 1] << 128
            position += 2
            opcode = _get(desc, isa.COMMON["opcode"])
            name = next(k for k, v in isa.OPCODES.items() if v == opcode)
            self.tag = _get(desc, isa.COMMON["tag"])
            f = {k: _get(desc, v) for k, v in isa.DESCRIPTORS[name].items()}
            if name == "END":
                return self.candidates
            if name == "HEAD":
                assert f["magic"] == isa.MAGIC and f["isa_version"] == isa.ISA_VERSION
            elif name == "CONV":
                size = f["tiles"] * (isa.HEADER_WORDS + f["k_words"])
                self.conv(f, words[position : position + size])
                position += size
            elif name in ("DW", "DDW", "POOL"):
                self.depthwise(name, f, words[position : position + f["channels"]])
                position += f["channels"]
            elif name == "LOAD":
                assert f["region"] == isa.REGIONS["image"]
                for i in range(f["words"]):
                    at = f["ddr_offset"] + 16 * i
                    self.write(f["act_addr"] + i, np.frombuffer(self.image[at : at + 16], np.uint8))
            elif name == "STORE":
                assert f["region"] == isa.REGIONS["output"] and f["ddr_offset"] == len(self.output)
                for i in range(f["words"]):
                    self.output += self.act[f["act_addr"] + i].tobytes()
            elif name == "PEAK":
                self.peak(f)
            else:
                raise AssertionError(name)

    def write(self, addr: int, values: np.ndarray) -> None:
        addr &= 0xFFFF
        assert addr < self.act_words, f"tag {self.tag}: write to word {addr}"
        self.act[addr] = values.astype(np.int64) & 0xFF
        self.writes.append((self.tag, addr, self.act[addr].copy()))

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
        ones = np.ones(isa.LANES, np.int64)
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
            for g in range(f["groups"]):
                if f["windowed"]:
                    vectors = np.zeros((f["k_words"], isa.LANES), np.int64)
                    for k, s in enumerate(spots):
                        vector = self.taps(f, s["plane"], g, s["tap_i"], ones, 0)[s["tap_j"]]
                        lanes = {0: slice(0, 16), 1: slice(0, 8), 2: slice(8, 16)}[s["half"]]
                        vectors[k, lanes] = vector[lanes]
                else:
                    vectors = self.act[(planes + g) & 0xFFFF].astype(np.int64)
                    if f["in_signed"]:
                        vectors = (vectors ^ 0x80) - 0x80
                acc = weights.T @ vectors
                for oc in range(count):
                    record = tile[oc // 2] >> (64 * (oc % 2))
                    c = {k: _get(record, v) for k, v in isa.CHANNEL_RECORD.items()}
                    out = _requantise(acc[oc], c["bias"], c["shift"], f["out_type"])
                    self.write(c["dst"] + g, out)
                    if f["to_smap"] and t == 0 and oc == 0:
                        self.smap[g] = out

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
            for g in range(f["groups"]):
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
                    if f["narrow"]:
                        y, x = 2 * g + lane // 8, lane % 8
                    else:
                        y = g // f["row_words"]
                        x = 16 * (g % f["row_words"]) + lane
                    rest = [
                        int(self.act[f[name] + g, lane].astype(np.int8))
                        for name in ("w", "h", "reg_x", "reg_y")
                    ]
                    found.append((-int(window[1, 1, lane]), int(y), int(x), c, *rest))
        found.sort()
        rows = [(-m, c, y, x, *rest) for m, y, x, c, *rest in found[: isa.CANDIDATES]]
        self.candidates = np.array(rows, np.int64).reshape(-1, 8)
