# SPDX-License-Identifier: Apache-2.0
"""Parts of the training of lookup tables; hwflow/train_tables.py puts them together.

kernels: the inner loops, compiled or in numpy. descent: coordinate descent on hard tables, wires
and contents. gradient: straight-through training of nodes that compute.
"""
