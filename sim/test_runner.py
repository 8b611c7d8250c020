# SPDX-License-Identifier: Apache-2.0
"""The runner itself: every way in which a simulation fails to give results is an error."""

import os
from pathlib import Path

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hwflow.errors import ToolError
from hwflow.sim.runner import Build, build, run

SOURCE = """module dies (input logic clk, input logic now);
  always_ff @(posedge clk) if (now) $fatal(1, "dies: asked to");
endmodule
"""


@cocotb.test()
async def lives(dut):  # noqa: ANN001, ANN201
    """Passes, unless WISH says otherwise."""
    wish = os.environ["WISH"]
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.now.value = int(wish == "fatal")
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    if wish == "kill":
        os.kill(os.getpid(), 9)
    assert wish != "fail", "as wished"


@pytest.fixture(scope="module")
def dies(tmp_path_factory: pytest.TempPathFactory) -> Build:
    source = tmp_path_factory.mktemp("dies") / "dies.sv"
    source.write_text(SOURCE)
    return build("dies", [source], optimise="-O1")


def test_failures_are_tool_errors(dies: Build, tmp_path: Path) -> None:
    """In one folder, where the results of a good run lie already."""
    def go(wish: str, testcase: str | None = None) -> None:
        run(dies, Path(__file__), run_dir=tmp_path, env={"WISH": wish}, testcase=testcase)

    go("pass")
    with pytest.raises(ToolError, match=r"1 of 1 tests failed\n  lives: as wished"):
        go("fail")
    with pytest.raises(ToolError, match="dies: asked to"):
        go("fatal")
    with pytest.raises(ToolError, match="ended without results"):
        go("kill")
    with pytest.raises(ToolError, match=r"no test was run|ended without results|No tests"):
        go("pass", "nothing_of_that_name")
    go("pass")
