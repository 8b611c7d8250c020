# SPDX-License-Identifier: Apache-2.0
"""The part of the hls4ml backend that runs hls4ml: a program of its own, started by a plan.

hls4ml prints, compiles in the working directory and keeps global state, so it gets a process. Works
in the current directory: reads model.onnx, inputs.npy and options.json, writes the project to
project/ and the results of its C simulation to outputs.npy; with the option `trace` instead the
values of every layer to traces.npz, and layers.json, which says what the layers are.

What hls4ml itself cannot do ends in failure.txt, one line, and exit code 3.
"""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

FAILURE = "failure.txt"
CANNOT = 3


def main() -> int:
    """Convert, compile and predict."""
    Path(FAILURE).unlink(missing_ok=True)
    try:
        return _run()
    except Exception as error:
        # hls4ml raises anything on a network it has no way with; the traceback goes to the log.
        traceback.print_exc()
        frames = traceback.extract_tb(error.__traceback__)
        place = next((f for f in reversed(frames) if "hls4ml" in Path(f.filename).parts), None)
        where = f" in {Path(place.filename).stem}.{place.name}" if place else ""
        line = " ".join(str(error).split())[:300]
        Path(FAILURE).write_text(f"{type(error).__name__}{where}: {line}\n", encoding="utf-8")
        if isinstance(error, OSError):
            raise
        return CANNOT


def _run() -> int:
    # Imported here: unknown on a machine that only uses the other backends.
    import hls4ml
    from qonnx.core.modelwrapper import ModelWrapper

    options = json.loads(Path("options.json").read_text(encoding="utf-8"))
    model = ModelWrapper("model.onnx")
    config = hls4ml.utils.config.config_from_onnx_model(
        model,
        granularity="name",
        backend=options["backend"],
        default_precision=options["precision"],
    )
    config["Model"]["Strategy"] = options["strategy"]
    if options["trace"]:
        for layer in config["LayerName"].values():
            layer["Trace"] = True
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
    inputs = np.load("inputs.npy", allow_pickle=False)
    if options["trace"]:
        _, traces = converted.trace(inputs)
        named: dict[str, Any] = {name: np.asarray(values) for name, values in traces.items()}
        np.savez("traces.npz", **named)
        layers = [
            {"name": layer.name, "kind": layer.class_name, "inputs": list(layer.inputs),
             "outputs": list(layer.outputs)}
            for layer in converted.get_layers()
        ]
        Path("layers.json").write_text(json.dumps(layers, indent=1) + "\n", encoding="utf-8")
        return 0
    converted.compile()
    np.save("outputs.npy", np.asarray(converted.predict(inputs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
