# SPDX-License-Identifier: Apache-2.0
"""The part of the hls4ml backend that runs hls4ml: a program of its own, started by a plan.

hls4ml prints, compiles in the working directory and keeps global state, so it gets a process. Works
in the current directory: reads model.onnx, inputs.npy and options.json, writes the project to
project/ and the results of its C simulation to outputs.npy.
"""

import json
import sys
from pathlib import Path

import numpy as np


def main() -> int:
    """Convert, compile and predict; an exception of hls4ml ends the program with its traceback."""
    # Imported here: unknown on a machine that only uses the other backends.
    import hls4ml
    from qonnx.core.modelwrapper import ModelWrapper

    options = json.loads(Path("options.json").read_text())
    model = ModelWrapper("model.onnx")
    config = hls4ml.utils.config.config_from_onnx_model(
        model,
        granularity="name",
        backend=options["backend"],
        default_precision=options["precision"],
    )
    converted = hls4ml.converters.convert_from_onnx_model(
        model,
        output_dir="project",
        project_name=options["name"],
        backend=options["backend"],
        io_type=options["io_type"],
        part=options["part"],
        clock_period=options["clock_ns"],
        hls_config=config,
    )
    converted.compile()
    np.save("outputs.npy", np.asarray(converted.predict(np.load("inputs.npy"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
