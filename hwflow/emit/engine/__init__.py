# SPDX-License-Identifier: Apache-2.0
"""The integer graph as a program for the engine: where planes live, and the stream of words.

*planes* say which stored planes make up each tensor, *compile* walks the nodes and *schedule* or
*words* gives each its memory: *first_layer* and *chains*, which *bands* cut to fit. *encode* makes
each *operation* of the words of `emit/isa.py`, *order* puts them into the two queues. The cycle
model is *timeline*, with *banks* and *peak_cycles*; *trace* compares a simulated frame.
docs/engine.md describes the machine.
"""

from hwflow.emit.engine.compile import compile_graph
from hwflow.emit.engine.program import ARRAY_MACS, DW_MACS, EngineParams, Program, Step
from hwflow.emit.engine.trace import check_trace

__all__ = [
    "ARRAY_MACS",
    "DW_MACS",
    "EngineParams",
    "Program",
    "Step",
    "check_trace",
    "compile_graph",
]
