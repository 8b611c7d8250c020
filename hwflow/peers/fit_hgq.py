# SPDX-License-Identifier: Apache-2.0
"""Train with HGQ2, compile with da4ml: `python fit_hgq.py SETTINGS.json` in the results' folder.

Run as a file by an interpreter that has HGQ2, da4ml and jax; it imports nothing of hwflow. Leaves
the Verilog of da4ml below rtl/ and result.npz:

scores: int64 (N, classes), by da4ml's interpreter for each test sample, in units of 2**-fraction
keras_class: int64 (N,), the class by the trained model; minutes of training
sign, whole, part: bits of each output as da4ml packs them: sign, before and after the point
in_whole, in_part: of each input; an input that nothing depends on has none
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from da4ml.codegen import RTLModel
from da4ml.converter import trace_model
from da4ml.trace import comb_trace
from da4ml.types import minimal_kif
from hgq.config import LayerConfigScope, QuantizerConfig, QuantizerConfigScope
from hgq.layers import QDense, QDenseT
from hgq.utils import trace_minmax
from hgq.utils.sugar import BetaScheduler, FreeEBOPs, PieceWiseSchedule


def network(settings: dict[str, Any], features: int, classes: int) -> keras.Model:
    """Tables on every edge, or multiplications; bit widths are learned either way."""
    scopes = (
        QuantizerConfigScope(place="all", default_q_type="kbi", overflow_mode="SAT_SYM"),
        QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP",
                             f0=settings["data_bits"], i0=2),
        LayerConfigScope(enable_ebops=True, beta0=settings["beta"][0]),
    )  # fmt: skip
    sizes = (*settings["hidden"], classes)
    pixels = QuantizerConfig("kif", "datalane", k0=False, i0=0, f0=settings["input_bits"],
                             overflow_mode="WRAP", trainable=settings["learn_input"])
    width = features
    with scopes[0], scopes[1], scopes[2]:
        layers = [keras.layers.Input((features,))]
        for n, size in enumerate(sizes):
            last = n == len(sizes) - 1
            if settings["kind"] == "tables":
                # A layer normalises its tables to a deviation of 1 / sqrt(inputs).
                table = QuantizerConfig(place="table", b0=settings["table_bits"],
                                        i0=round(2 - math.log2(width) / 2))
                layers.append(QDenseT(size, n_hl=1, d_hl=settings["inner"], batch_norm=True,
                                      bn_momentum=0.9, toq_conf=table))
            else:
                extra = {"iq_conf": pixels} if n == 0 else {}
                layers.append(QDense(size, activation=None if last else "relu", **extra))
            width = size
        return keras.Sequential(layers)


def main() -> None:
    """Train, trace, write."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    keras.utils.set_random_seed(settings["seed"])
    with np.load(settings["data"]) as data:
        x, y = data["x_train"].astype(np.float32) / 256, data["y_train"]
        x_test = data["x_test"].astype(np.float32) / 256
    classes, epochs = int(settings["classes"]), int(settings["epochs"])
    start = time.monotonic()
    model = network(settings, x.shape[1], classes)
    steps = -(-len(x) // settings["batch"])
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(settings["rate"], steps * epochs, alpha=0.02)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
    )
    first, last = settings["beta"]
    beta = PieceWiseSchedule([(0, first, "log"), (int(0.8 * epochs), last, "constant")])
    history = model.fit(
        x, y, batch_size=settings["batch"], epochs=epochs, verbose=2,
        callbacks=[BetaScheduler(beta), FreeEBOPs()],
    )
    minutes = (time.monotonic() - start) / 60
    trace_minmax(model, x, batch_size=settings["batch"], verbose=0)
    solution = comb_trace(*trace_model(model, inputs_kif=(0, 0, 8)))
    rtl = RTLModel(solution, "network", "rtl", latency_cutoff=settings["latency_cutoff"],
                   print_latency=False)
    rtl.write()
    kif = np.array([minimal_kif(one) for one in solution.out_qint], np.int64)
    taken = np.array([minimal_kif(one) for one in solution.inp_qint], np.int64)
    fraction = int(kif[:, 2].max())
    scores = solution.predict(x_test.astype(np.float64), n_threads=1) * 2.0**fraction
    whole = np.rint(scores).astype(np.int64)
    if not np.array_equal(whole, scores):
        raise SystemExit("a score of da4ml's interpreter is no multiple of the last bit")
    keras_class = model.predict(x_test, batch_size=1024, verbose=0).argmax(axis=1)
    np.savez("result.npz", scores=whole, keras_class=keras_class, minutes=np.float64(minutes),
             sign=kif[:, 0], whole=kif[:, 1], part=kif[:, 2], in_whole=taken[:, 1],
             in_part=taken[:, 2],
             ebops=np.float64(history.history["ebops"][-1]),
             estimate=np.float64(solution.cost))  # fmt: skip


if __name__ == "__main__":
    main()
