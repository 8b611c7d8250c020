# SPDX-License-Identifier: Apache-2.0
"""`python -m hwflow.toolchain.yosys_run SCRIPT`: run a Yosys script in a process of its own.

pyosys is a library without a command; a process of its own keeps its memory and its exit on
errors away from the flow.
"""

from __future__ import annotations

import sys

from pyosys import libyosys


def main() -> None:
    """Run the script named on the command line."""
    libyosys.run_pass(f"script {sys.argv[1]}", libyosys.Design())


if __name__ == "__main__":
    main()
