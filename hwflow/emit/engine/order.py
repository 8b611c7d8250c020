# SPDX-License-Identifier: Apache-2.0
"""Puts the operations into two queues that run at the same time, with the tokens that keep order.

The network's own order says what depends on what: an operation follows those that wrote what it
reads or overwrites, and those that read what it overwrites. Within that, each queue takes next what
can start first (list scheduling with the cycle model), and a token in each descriptor says how many
of the other queue's descriptors must have been completed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.operation import DDR_PLACE, Operation
from hwflow.emit.engine.program import TRANSFER_CYCLES, EngineParams, Step
from hwflow.emit.engine.timeline import timeline
from hwflow.errors import ResourceError

# How much the lanes slow down when the array writes a word every cycle, measured on whole frames
WRITE_SHARE = 0.2


@dataclass(frozen=True)
class Queues:
    """The two streams, and what is known of each descriptor."""

    array: bytes
    lanes: bytes
    steps: tuple[Step, ...]
    digest: str
    cycles: int  # of a frame, by the model


def dependencies(operations: Sequence[Operation]) -> list[np.ndarray]:
    """For each operation, in the network's order, those that have to be completed before it.

    Two reads of one place by the same queue keep their order, too: so the last reader of each queue
    stands for all earlier ones when the place is overwritten.
    """
    top = max((int(op.reads.max(initial=0)) for op in operations), default=0)
    top = max(top, max((int(op.writes.max(initial=0)) for op in operations), default=0), DDR_PLACE)
    writer = np.full(top + 1, -1, np.int32)
    reader = {queue: np.full(top + 1, -1, np.int32) for queue in isa.QUEUES}
    result = []
    for index, op in enumerate(operations):
        mark = np.zeros(len(operations) + 1, bool)  # the last one stands for "none", index -1
        mark[writer[op.reads]] = True
        mark[reader[op.queue][op.reads]] = True
        mark[writer[op.writes]] = True
        for last in reader.values():
            mark[last[op.writes]] = True
        mark[-1] = False
        result.append(np.flatnonzero(mark))
        reader[op.queue][op.reads] = index
        writer[op.writes] = index
        for last in reader.values():
            last[op.writes] = -1
    return result


def arrange(operations: Sequence[Operation], params: EngineParams) -> Queues:
    """Both queues as streams of words. Raises ResourceError when there are too many operations."""
    limit = 1 << isa.COMMON["tag"].width
    if len(operations) + 4 > limit:
        raise ResourceError(
            f"the program has {len(operations)} operations, the engine numbers {limit - 4}: choose "
            "a smaller input or a board with more activation memory"
        )
    needs = dependencies(operations)
    orders = _schedule(operations, needs, params)
    starts, ends = timeline(operations, needs, orders, params)
    place = {}
    for order in orders.values():
        for position, index in enumerate(order):
            place[index] = position
    steps, bodies = [], {}
    tag = 0
    for queue, order in orders.items():
        blocks = []
        steps.append(_plain_step(tag, "HEAD", queue))
        tag += 1
        for index in order:
            op = operations[index]
            others = [place[d] + 1 for d in needs[index] if operations[d].queue != queue]
            wait = max(others, default=0)
            descriptor = isa.descriptor(op.opcode, tag, op.node, wait=wait, **op.fields)
            blocks.append(descriptor + op.payload)
            steps.append(
                Step(tag, op.opcode, op.node, op.tensor, op.channels, op.dst, op.first_word,
                     op.words, op.stream_words, op.moved_words, op.macs, op.ideal,
                     ends[index] - starts[index], starts[index], queue)
            )  # fmt: skip
            tag += 1
        blocks.append(isa.descriptor("END", tag, "end"))
        steps.append(_plain_step(tag, "END", queue))
        tag += 1
        bodies[queue] = b"".join(blocks)
    digest = hashlib.sha256(bodies["array"] + bodies["lanes"])
    streams, first = {}, 0
    for queue, number in isa.QUEUES.items():
        head = isa.descriptor(
            "HEAD", first, "head", isa_version=isa.ISA_VERSION, magic=isa.MAGIC, queue=number,
            hash=int.from_bytes(digest.digest()[:8], "little"),
        )  # fmt: skip
        streams[queue] = head + bodies[queue]
        first += len(orders[queue]) + 2
    return Queues(
        streams["array"], streams["lanes"], tuple(steps), digest.hexdigest(), max(ends, default=0)
    )


def _plain_step(tag: int, opcode: str, queue: str) -> Step:
    return Step(tag, opcode, opcode.lower(), "", (), (), 0, 0, 2, 0, 0, 0, None, None, queue)


def _schedule(
    operations: Sequence[Operation], needs: Sequence[np.ndarray], params: EngineParams
) -> dict[str, list[int]]:
    """The order within each queue: again and again the operation that can start first."""
    missing = [len(before) for before in needs]
    after: list[list[int]] = [[] for _ in operations]
    for index, before in enumerate(needs):
        for earlier in before:
            after[earlier].append(index)
    ready = {i: 0 for i, count in enumerate(missing) if not count}  # -> earliest start
    free = dict.fromkeys(isa.QUEUES, 0)
    ends = [0] * len(operations)
    orders: dict[str, list[int]] = {queue: [] for queue in isa.QUEUES}
    for _ in operations:
        start, index = min((max(t, free[operations[i].queue]), i) for i, t in ready.items())
        del ready[index]
        op = operations[index]
        beside = None
        if op.queue != "array" and orders["array"] and free["array"] > start:
            beside = operations[orders["array"][-1]]
        ends[index] = free[op.queue] = start + _cycles(op, start, beside, params)
        orders[op.queue].append(index)
        for later in after[index]:
            missing[later] -= 1
            if not missing[later]:
                ready[later] = max(ends[earlier] for earlier in needs[later])
    return orders


def _cycles(op: Operation, start: int, beside: Operation | None, params: EngineParams) -> int:
    """Cycles of an operation while the array runs `beside`, with which it shares DDR and memory."""
    if op.queue == "array":
        return op.cycles
    if not op.moved_words:
        # the array's results take ports of the activation memory
        writes = len(beside.dst) * beside.words / beside.cycles if beside else 0.0
        return round(op.cycles * (1 + WRITE_SHARE * writes**2))
    word = isa.WORD_BITS // 8
    whole = params.bytes_per_cycle
    streamed = word * beside.stream_words / beside.cycles if beside else 0.0
    rate = max(whole - streamed, whole / 2)
    # as the frame begins the array's ring is filled: both take turns
    shared = max(0.0, 2 * word * params.stream_words / whole - start)
    amount = word * op.moved_words
    turns = min(shared, amount / (whole / 2))
    return round(turns + (amount - turns * whole / 2) / rate) + TRANSFER_CYCLES
