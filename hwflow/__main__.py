# SPDX-License-Identifier: Apache-2.0
"""`python -m hwflow`."""

from hwflow.cli import main

main()
