# SPDX-License-Identifier: Apache-2.0
"""Train boosted trees: `python fit_trees.py SETTINGS.json`, in the folder of the results.

Run as a file by an interpreter that has XGBoost; it imports nothing of hwflow.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import xgboost


def main() -> None:
    """Write model.json (XGBoost's own form) and fit.json."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    with np.load(settings["data"]) as data:
        x, y = data["x_train"], data["y_train"]
    drop = 8 - settings["feature_bits"]
    classes = int(settings["classes"])
    parameters = {
        "max_depth": settings["depth"], "eta": settings["eta"], "tree_method": "hist",
        "max_bin": 257, "seed": settings["seed"], "nthread": settings["threads"],
        "min_child_weight": settings["min_child_weight"], "lambda": settings["l2"],
        "subsample": settings["subsample"], "colsample_bytree": settings["columns"],
        "base_score": 0.5,
    }  # fmt: skip
    if classes == 2:
        parameters["objective"] = "binary:logistic"
    else:
        parameters |= {"objective": "multi:softmax", "num_class": classes}
    start = time.monotonic()
    matrix = xgboost.QuantileDMatrix((x >> drop).astype(np.float32), y, max_bin=257,
                                     nthread=settings["threads"])
    model = xgboost.train(parameters, matrix, settings["rounds"])
    minutes = (time.monotonic() - start) / 60
    model.save_model("model.json")
    Path("fit.json").write_text(json.dumps({"minutes": minutes, "version": xgboost.__version__}))


if __name__ == "__main__":
    main()
