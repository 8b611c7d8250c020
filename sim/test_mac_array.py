# SPDX-License-Identifier: Apache-2.0
"""mac_array: tiles of every size, of int4, int8 and pairs of groups, against integer sums."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import cocotb
import numpy as np
from bench import engine_constant, pack, play, unpack

from hwflow.emit.isa import CHUNK
from hwflow.sim.runner import build_and_test

SIDE_W = 20
LANES = 16
SOURCES = ["engine/engine_pkg.sv", "lib/mac_pair.sv", "engine/mac_array.sv"]


@dataclass(frozen=True)
class Job:
    """One group of a tile, or two with pair: chunks of these many words, for n_oc channels."""

    chunks: tuple[int, ...]
    n_oc: int  # twice the channels with pair
    w8: bool = False
    signed: bool = False
    extreme: int = 0  # all products the greatest (1) or least (-1) there are
    gaps: bool = False
    pair: bool = False


def operands(job: Job, words: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights (words, columns) and pixels (words, 2, lanes): of the lower and the upper columns."""
    channels, top = (12, 128) if job.w8 else (24, 7)
    low, high = (-128, 127) if job.signed else (0, 255)
    weights = rng.integers(-top, min(top, 127) + 1, (words, channels))
    pixels = rng.integers(low, high + 1, (words, 2, LANES))
    if job.extreme:
        weights[:] = -top if job.extreme * (-1 if job.signed else 1) < 0 else min(top, 127)
        # neighbours of the opposite sign borrow from each other in every word
        weights[:, 1::4] = -weights[:, 1::4] if not job.w8 else weights[:, 1::4]
        pixels[:] = low if job.signed else high
    if not job.pair:
        pixels[:, 1] = pixels[:, 0]
    return weights, pixels


def channels(job: Job, weights: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Sums (n_oc, lanes) of the words, in the order in which they must come out."""
    if not job.pair:
        return (weights.T @ pixels[:, 0])[: job.n_oc]
    n = job.n_oc // 2
    lower, upper = weights[:, :n], weights[:, 12 : 12 + n]
    return np.concatenate([lower.T @ pixels[:, 0], upper.T @ pixels[:, 1]])


def play_list(jobs: list[Job], seed: int) -> tuple[list[dict], dict[int, tuple]]:
    """Beats, and cycle -> (channel, side, totals) of everything that must come out."""
    np_rng, rng = np.random.default_rng(seed), random.Random(seed)
    latency = engine_constant("MAC_LAT")
    beats: list[dict] = []
    due: dict[int, tuple] = {}
    free_at = 0  # earliest cycle of the next `last`
    for job in jobs:
        total = np.zeros((job.n_oc, LANES), np.int64)
        for number, words in enumerate(job.chunks):
            weights, pixels = operands(job, words, np_rng)
            total += channels(job, weights, pixels)
            for k in range(words):
                last = k == words - 1
                while job.gaps and rng.randrange(3) == 0:
                    beats.append({"weights": rng.getrandbits(96), "first": 1, "last": 1, "n_oc": 3})
                while last and len(beats) < free_at:
                    beats.append({"vec": rng.getrandbits(144), "first": 1, "pair": 1})
                beats.append({
                    "valid": 1, "first": k == 0, "last": last, "w8": job.w8,
                    "weights": pack(weights[k], 8 if job.w8 else 4), "vec": pack(pixels[k, 0], 9),
                    "vec_hi": pack(pixels[k, 1], 9),
                    "pair": job.pair if last else rng.getrandbits(1),
                    "chunk_first": number == 0 if last else rng.getrandbits(1),
                    "chunk_last": number == len(job.chunks) - 1 if last else rng.getrandbits(1),
                    "n_oc": job.n_oc if last else rng.randrange(1, 25),
                    "side": rng.getrandbits(SIDE_W),
                })
            at, side = len(beats) - 1, beats[-1]["side"]
            free_at = at + job.n_oc
            if number == len(job.chunks) - 1:
                for c in range(job.n_oc):
                    due[at + latency + c] = (c, side, [int(v) for v in total[c]])
    return beats, due


def check(seen: list[dict[str, int]], due: dict[int, tuple], where: str) -> None:
    """Exactly what is due, in exactly its cycle."""
    for cycle, row in enumerate(seen):
        assert row["d_valid"] == (cycle in due), f"{where}: d_valid in cycle {cycle}"
        if cycle in due:
            channel, side, total = due[cycle]
            assert (row["d_oc"], row["d_side"]) == (channel, side), f"{where}: cycle {cycle}"
            assert unpack(row["d_acc"], 26, LANES, True) == total, f"{where}: {cycle} {channel}"


OUTPUTS = ["d_valid", "d_oc", "d_side", "d_acc"]


async def run_jobs(dut, jobs: list[Job], seed: int) -> None:  # noqa: ANN001
    beats, due = play_list(jobs, seed)
    tail = engine_constant("MAC_LAT") + 30
    check(await play(dut, beats, OUTPUTS, tail), due, f"seed {seed}")


@cocotb.test()
async def chunks_at_their_limit(dut):  # noqa: ANN001, ANN201
    """512 words of the greatest products; partial sums over five chunks."""
    base = Job((CHUNK,), 24)
    jobs = [
        replace(base, extreme=1), replace(base, extreme=-1),
        replace(base, extreme=1, signed=True), replace(base, extreme=-1, signed=True),
        replace(base, extreme=1, w8=True, n_oc=12), replace(base, extreme=-1, w8=True, n_oc=12),
        replace(base, extreme=-1, w8=True, n_oc=12, signed=True),
        Job((CHUNK, CHUNK, CHUNK, CHUNK, 105), 24, extreme=-1),  # the 2153 channels
        Job((CHUNK, 1, 2), 24), Job((CHUNK, 47), 1), Job((1, 1, 1, 1), 1), Job((2, 1), 2),
        replace(base, extreme=1, pair=True), replace(base, extreme=-1, signed=True, pair=True),
        Job((CHUNK, CHUNK, 30), 22, pair=True), Job((CHUNK, 3), 2, pair=True),
    ]
    await run_jobs(dut, jobs, 3)


@cocotb.test()
async def any_jobs_back_to_back(dut):  # noqa: ANN001, ANN201
    """Random sizes, `last` as early as the rule allows, w8 and signs mixed, gaps."""
    rng = random.Random(5)
    jobs = []
    for number in range(250):
        w8 = rng.randrange(3) == 0
        sizes = tuple(rng.choice([1, 1, 2, 3, 24, 40]) for _ in range(rng.choice([1, 1, 2, 4])))
        n_oc = rng.choice([1, 2, 11, 12] if w8 else [1, 2, 3, 23, 24])
        pair = not w8 and rng.randrange(2) == 0
        if pair:
            n_oc = 2 * (number % 12 + 1)
        jobs.append(Job(sizes, n_oc, w8, rng.random() < 0.5, 0, rng.random() < 0.4, pair))
    assert {job.n_oc for job in jobs if job.pair} == set(range(2, 25, 2))
    await run_jobs(dut, jobs, 11)


@cocotb.test()
async def reset_forgets(dut):  # noqa: ANN001, ANN201
    """After a reset in the middle of chunks and of a drain nothing old comes out."""
    beats, due = play_list([Job((30,), 24), Job((30,), 24, pair=True)], 1)
    at = min(due) + 10  # the first drain runs, the second chunk is coming in
    again, due_again = play_list([Job((9, 8), 24)], 2)
    seen = await play(
        dut, [*beats[:at], {}, *again], OUTPUTS, engine_constant("MAC_LAT") + 30, reset_at=at
    )
    kept = {cycle: what for cycle, what in due.items() if cycle <= at}
    assert 0 < len(kept) < 24
    later = {cycle + at + 1: what for cycle, what in due_again.items()}
    check(seen, kept | later, "reset")


def test_mac_array(tmp_path: Path) -> None:
    build_and_test(
        "mac_array", [Path(name) for name in SOURCES], Path(__file__), {"SIDE_W": SIDE_W},
        run_dir=tmp_path,
    )
