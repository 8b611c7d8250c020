# SPDX-License-Identifier: Apache-2.0
"""HGQ-LUT and HGQ: networks with learned bit widths, compiled by da4ml (both LGPL-3.0, from PyPI).

HGQ-LUT puts a table on every edge and adds; HGQ multiplies by constants, which da4ml turns into
shifts and adders. Both train in a process of their own, and so their packages never come into ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwflow import arrays
from hwflow.errors import ToolError
from hwflow.peers import outside
from hwflow.peers.design import Data, Design, Place, argmax

PACKAGES = ("HGQ2", "da4ml", "jax", "keras")
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu",
}  # fmt: skip
DEFAULTS: Mapping[str, Any] = {
    "kind": "tables", "hidden": (16,), "inner": 8, "epochs": 30, "batch": 256, "rate": 3e-3,
    "beta": (1e-7, 1e-5), "table_bits": 6, "data_bits": 4, "input_bits": 4, "learn_input": True,
    "latency_cutoff": 8,
}  # fmt: skip
# Yosys finds no memory for this attribute; without it, it makes logic of the table.
ROM_STYLE = '(* rom_style = (BW_IN <= 999) ? "distributed" : "block" *)'


def recipe(data: Data, settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """All that decides `build`; NotInstalled without the packages."""
    return {**DEFAULTS, **settings, **outside.versions(place.python, PACKAGES,
                                                       place.folder / "probe")}


def build(data: Data, settings: Mapping[str, Any], place: Place) -> Design:
    """Train, compile and wrap. settings: those of DEFAULTS that differ, and `seed`."""
    chosen = {**DEFAULTS, **settings}
    have = outside.fit(
        "fit_hgq.py", place.python, PACKAGES, {**chosen, **data.file(place),
                                               "classes": data.classes},
        ("result.npz", "rtl/metadata.json"), place.folder, env=ONE_THREAD,
    )
    return design(data, chosen, place.folder, f"HGQ2 {have['HGQ2']}, da4ml {have['da4ml']}")


def design(data: Data, chosen: Mapping[str, Any], folder: Path, source: str) -> Design:
    """The design of what the training left in a folder."""
    found = arrays.read(folder / "result.npz")
    files = _files(folder / "rtl/src")
    text, registers = top(data, found)
    files["hgq_top.sv"] = text
    number = sum(name.startswith("network_stage") for name in files)
    scores = found["scores"]
    odd = int((scores.argmax(axis=1) != found["keras_class"]).sum())
    shown = "-".join(str(n) for n in (data.features, *chosen["hidden"], data.classes))
    return Design(
        files, "hgq_top", "pixels", {"clk": 0}, "out_class", number + 1 + registers,
        scores.argmax(axis=1), float(found["minutes"]), source,
        f"{shown}, {chosen['epochs']} epochs, beta to {chosen['beta'][1]:g}; {odd} of "
        f"{len(scores)} classes of da4ml's interpreter differ from Keras'",
    )


def _files(folder: Path) -> dict[str, str | bytes]:
    """The sources of da4ml and the files of its tables, as Yosys can read them."""
    files: dict[str, str | bytes] = {}
    for path in sorted(folder.glob("static/*.v")) + sorted(folder.glob("network*.v")):
        if path.name != "network_wrapper.v":
            files[path.name] = path.read_text().replace(ROM_STYLE, "")
    if "network.v" not in files:
        raise ToolError(f"{folder}: da4ml left no network.v; delete the folder and train again")
    # The memory module is read with its default parameters first, which name a file.
    files["whatever.mem"] = "0\n"
    for path in sorted(folder.glob("memfiles/*")):
        files[path.name] = path.read_bytes()
    return files


def top(data: Data, found: Mapping[str, np.ndarray]) -> tuple[str, int]:
    """The module `hgq_top`: the network, the scores in one format, argmax; and its registers."""
    sign, whole, part = (found[name].astype(int) for name in ("sign", "whole", "part"))
    fraction = int(part.max())
    width = int((sign + whole).max()) + fraction + int(not sign.all())
    widths = sign + whole + part
    bits = max(1, (data.classes - 1).bit_length())
    lines = [
        "module hgq_top (", "  input  logic clk,",
        f"  input  logic [{8 * data.features - 1}:0] pixels,",
        f"  output logic [{bits - 1}:0] out_class", ");",
        f"  wire [{max(1, int(widths.sum())) - 1}:0] packed_scores;",
        f"  network u_network (.clk(clk), .model_inp({_inputs(found)}), "
        ".model_out(packed_scores));",
    ]
    names = []
    at = 0
    for n in range(data.classes):
        size, low = int(widths[n]), fraction - int(part[n])
        names.append(f"score{n}")
        lines.append(f"  wire signed [{width - 1}:0] score{n};")
        if size == 0:
            lines.append(f"  assign score{n} = '0;")
            continue
        fill = width - low - size
        upper = f"{{{fill}{{packed_scores[{at + size - 1}]}}}}" if sign[n] else f"{fill}'d0"
        pieces = [*([upper] if fill else []), f"packed_scores[{at} +: {size}]",
                  *([f"{low}'d0"] if low else [])]
        lines.append(f"  assign score{n} = {{{', '.join(pieces)}}};")
        at += size
    lines += [
        f"  wire [{bits - 1}:0] best;",
        f"  largest u_largest (.scores({{{', '.join(reversed(names))}}}), .best(best));",
        "  always_ff @(posedge clk) out_class <= best;", "endmodule", "",
    ]
    return argmax("largest", data.classes, width, True) + "\n".join(lines), 1


def _inputs(found: Mapping[str, np.ndarray]) -> str:
    """The bits of the pixels that the network takes, the first input lowest: a pixel is 0.8 bits.
    """
    pieces = [
        f"pixels[{8 * n + 8 - part} +: {whole + part}]"
        for n, (whole, part) in enumerate(zip(found["in_whole"].tolist(), found["in_part"].tolist(),
                                              strict=True))
        if whole + part > 0
    ]
    if not pieces:
        raise ToolError("the network that HGQ2 trained reads no pixel: every bit was given up; "
                        "lower beta")
    return f"{{{', '.join(reversed(pieces))}}}"
