# SPDX-License-Identifier: Apache-2.0
"""Networks in torch and Brevitas: one file per model, found by its file name."""
