# SPDX-License-Identifier: Apache-2.0
"""From a graph to a program: the operations of all nodes, then their order in two queues."""

import logging
import math

from hwflow.emit.engine.chains import OPCODES
from hwflow.emit.engine.encode import Encoder
from hwflow.emit.engine.order import arrange
from hwflow.emit.engine.planes import VIEW_OPS, Memory, aliases, count_uses, stored_outputs
from hwflow.emit.engine.program import EngineParams, Program
from hwflow.emit.engine.schedule import MarkedError, Scheduler
from hwflow.emit.engine.words import gather
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph

LOG = logging.getLogger(__name__)


def compile_graph(graph: Graph, params: EngineParams | None = None) -> Program:
    """The program of a lowered network, or of its form (passes/engine_form.py).

    Raises GraphError for what the engine cannot run (naming the node and the way out) and
    ResourceError when it does not fit its memories.
    """
    params = params or EngineParams()
    encoder = Encoder(graph, params)
    if any(n.op == "gather_pw" for n in graph.nodes):
        return _program(graph, encoder, gather(graph, encoder, params), 0, params)
    known = ("conv", "pw", *OPCODES, "peaks", *VIEW_OPS)
    foreign = [f"{n.name} ({n.op})" for n in graph.nodes if n.op not in known]
    if foreign:
        raise GraphError(f"the engine does not run: {', '.join(foreign)}; use the HLS backend")
    apart: frozenset[str] = frozenset()
    while True:
        scheduler = Scheduler(
            graph, Encoder(graph, params), Memory(params.act_words), apart, uses=count_uses(graph)
        )
        victim = _walk(scheduler)
        if victim is None:
            break
        LOG.info("%s goes to DDR", victim)
        apart |= {victim}
    return _program(graph, scheduler.encoder, scheduler.memory, scheduler.scratch_words, params)


def _program(
    graph: Graph, encoder: Encoder, memory: Memory, scratch_words: int, params: EngineParams
) -> Program:
    queues = arrange(encoder.operations, params)
    peaks = [n for n in graph.nodes if n.op == "peaks"]
    classes = graph.tensors[peaks[0].inputs[0]].shape[0] if peaks else 0
    heads = [key.removeprefix("output.") for key in graph.meta if key.startswith("output.")]
    scales = {head: float(graph.meta[f"scale.{head}"]) for head in heads}
    shape = graph.tensors[graph.inputs[0]].shape
    stored = [graph.tensors[name].shape for name in stored_outputs(graph)]
    return Program(
        queues.array, queues.lanes, queues.steps, memory.peak,
        (shape[0], shape[1], shape[2]), classes, scales, queues.digest,
        16 * scratch_words, sum(map(math.prod, stored)), queues.cycles,
    )  # fmt: skip


def _walk(scheduler: Scheduler) -> str | None:
    """Schedules every node; returns a map that has to go to DDR when there is no room."""
    graph = scheduler.graph
    for name in graph.inputs:
        scheduler.begin(name)
    for node in graph.nodes:
        if node.op in VIEW_OPS:
            view = aliases(graph, node, scheduler.views)
            if view is not None:
                scheduler.views[node.output] = view
            continue
        try:
            scheduler.run(node)
        except MarkedError as marked:
            return marked.name
        except ResourceError:
            victim = scheduler.victim(node)
            if victim is None:
                raise
            return victim
    scheduler.store_outputs()
    return None
