# SPDX-License-Identifier: Apache-2.0
"""peak_emit: each candidate of the list becomes one record with the four bytes at its place."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import fields, pack, power_up, settle, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.driver.decode import candidates
from hwflow.sim.runner import build_and_test

FOUND, REQUEST = struct_layout("seq_pkg", "found_t"), struct_layout("seq_pkg", "lane_request_t")
META_W = sum(struct_layout("seq_pkg", "meta_t").values())  # below the fields of REQUEST
INSERT_LAT = 7
PLANES = (9000, 20000, 31000, 65000)
INPUTS = ("we", "we_index", "we_found", "count", "start", "planes", "hold", "word_valid", "word",
          "st_ready", "st_done")  # fmt: skip


def word_at(address: int) -> int:
    """16 bytes of the memory: any function of the address."""
    return random.Random(address).getrandbits(128)


def byte(part: int, g: int, lane: int) -> int:
    value = word_at((PLANES[part] + g) & 0xFFFF) >> (8 * lane) & 255
    return value - 256 if value > 127 else value


@cocotb.test()
async def records(dut):  # noqa: ANN001, ANN201
    """Lists of none to 100 candidates, a writer that comes and goes, a memory that is busy."""
    rng = random.Random(30)
    await power_up(dut, INPUTS)
    dut.planes.value = pack(PLANES, 16)
    for count in (100, 0, 1, 2, 37, 100):
        wanted = []
        for index in range(count):
            g, lane = rng.randrange(1 << 13), rng.randrange(16)
            values = {"logit": rng.randint(-128, 127), "class_id": rng.randrange(256), "g": g,
                      "y": rng.randrange(1023), "xo": rng.randrange(64), "lane": lane}  # fmt: skip
            dut.we.value, dut.we_index.value = 1, index
            dut.we_found.value = struct(FOUND, **values)
            await FallingEdge(dut.clk)
            bytes_at = [byte(part, g, lane) for part in range(4)]
            wanted.append((values["logit"], values["class_id"], values["y"],
                           16 * values["xo"] + lane, *bytes_at))  # fmt: skip
        dut.we.value, dut.count.value = 0, count
        await FallingEdge(dut.clk)
        pipe: list[int | None] = [None] * INSERT_LAT
        got: list[int] = []
        ready, held = [0, 0], [0, 0]
        dut.start.value = 1
        await settle()
        assert int(dut.st_req.value) == int(count > 0)
        await FallingEdge(dut.clk)
        dut.start.value = 0
        for cycle in range(6000):
            answer = pipe.pop(0)
            dut.word_valid.value = int(answer is not None)
            dut.word.value = answer or 0
            ready.append(int(rng.random() < (0.95 if cycle // 500 % 2 else 0.3)))
            held.append(int(rng.random() < 0.2))
            dut.st_ready.value, dut.hold.value = ready[-1], held[-1]
            await settle()
            assert not int(dut.st_req.value)
            request = fields(REQUEST, int(dut.request.value) >> META_W)
            if request["read"]:
                assert request["raw"] and not request["insert"]
                assert ready[-2] and not held[-3]
                pipe.append(word_at((request["plane"] + request["base8"] // 2) & 0xFFFF))
            else:
                pipe.append(None)
            if int(dut.st_valid.value):
                got.append(int(dut.st_data.value))
            assert int(dut.done.value) == int(count == 0)
            await FallingEdge(dut.clk)
            if len(got) == count and cycle > 20:
                break
        assert len(got) == count
        # the driver's decoder sorts, so records are compared one by one
        for record, want in zip(got, wanted, strict=True):
            raw = np.frombuffer(record.to_bytes(16, "little"), "u1")
            assert tuple(candidates(raw)[0]) == want
        dut.st_done.value = 1
        await FallingEdge(dut.clk)
        dut.st_done.value = 0
        assert int(dut.done.value)


def test_peak_emit(tmp_path: Path) -> None:
    build_and_test(
        "peak_emit",
        [Path(f"{name}.sv") for name in ("engine/isa_pkg", "engine/seq_pkg", "lib/delay",
                                         "engine/peak_emit")],
        Path(__file__), run_dir=tmp_path,
    )
