# SPDX-License-Identifier: Apache-2.0
"""Parts of the training of lookup tables; hwflow/train_tables.py is the way in.

Three roads: sweeps (coordinate descent on hard tables, descent.py, with kernels.py), windows
(tables that slide over maps, with window_loops.py) and gradient (torch, any node). All of them use
options, run (progress, resuming), copies (distorted samples, teachers.py), encoders (thresholds),
wiring (prune and regrow) and loops (how the C++ is built).
"""
