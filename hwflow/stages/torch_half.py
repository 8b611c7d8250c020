# SPDX-License-Identifier: Apache-2.0
"""Stages data, train and export: from photographs and weights to model.onnx and vectors.npz."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwflow.build import Context, Outcome
from hwflow.errors import DataError
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from hwflow.models.codenet import CoDeNet

SPEED_CLASSES = 20  # the head of the paper, which speed figures are about
CALIBRATION_IMAGES = 8
UNTRAINED_PIXELS = 4 * 256 * 256  # all that untrained weights are calibrated with
VECTORS = 2
METRIC = "AP50 (VOC 2007, 11 points)"


def data_state(options: BuildOptions) -> dict[str, str]:
    """What decides the photographs beside the option: for a folder, its files' sizes and times."""
    kind, _, argument = options.data.partition(":")
    if kind != "voc":
        return {}
    lines = [
        f"{path.relative_to(argument)} {state.st_size} {state.st_mtime_ns}"
        for path in sorted(Path(argument).rglob("*"))
        if path.is_file() and (state := path.stat())
    ]
    return {f"data {argument}": hashlib.sha256("\n".join(lines).encode()).hexdigest()}


def data(ctx: Context) -> Outcome:
    """Photographs: provenance.json, test.npz (the split), tiles.npz (those verified)."""
    options: BuildOptions = ctx.options
    if options.inputs is not None:
        from hwflow.stages import vectors

        return vectors.data(ctx)
    if options.file is not None:
        return Outcome("", True, "a QONNX file is built: its inputs are seeded random images")
    import numpy as np

    from hwflow import data as sources
    from hwflow.models import codenet

    assert options.config is not None  # it is None for a file only
    size = codenet.config(options.config).input_size
    ctx.say(f"reading {options.data} at {size} pixels")
    test = sources.load(options.data, "test", size, options.cache)
    training = sources.load(options.data, "train", size, options.cache)
    if len(test) < options.tiles:
        tiles = np.arange(len(test))
    else:
        tiles = np.linspace(0, len(test) - 1, options.tiles).round().astype(int)
    rng = np.random.default_rng(options.seed)
    count = min(CALIBRATION_IMAGES, len(training))
    calibration = np.sort(rng.choice(len(training), count, replace=False))
    counts = np.array([len(boxes) for boxes in test.boxes])
    np.savez(
        ctx.work / "test.npz", images=test.images, counts=counts,
        boxes=np.concatenate(test.boxes), labels=np.concatenate(test.labels),
        difficult=np.concatenate(test.difficult),
    )
    np.savez(
        ctx.work / "tiles.npz", images=test.images[tiles], indices=tiles, counts=counts[tiles],
        boxes=np.concatenate([test.boxes[i] for i in tiles]),
    )
    np.savez(ctx.work / "calibration.npz", images=training.images[calibration])
    write_json(
        ctx.work / "provenance.json",
        {
            "spec": options.data, "source": test.source, "sha256": test.sha256,
            "bytes": test.bytes, "classes": list(test.classes), "size": size,
            "train_images": len(training), "test_images": len(test),
            "test_boxes": int(counts.sum()), "tiles": [int(i) for i in tiles],
        },
    )
    return Outcome(
        f"{test.source}, {test.bytes:,} bytes, sha256 {test.sha256[:12]}...; "
        f"{len(test)} test images of {size} pixels, {int(counts.sum())} boxes"
    )


def train(ctx: Context) -> Outcome:
    """Weights: model.safetensors and metrics.json (measured here on the whole test split)."""
    options: BuildOptions = ctx.options
    if options.file is not None:
        return Outcome("", True, "a QONNX file is built: it brings its weights")
    from hwflow.models.codenet import save_checkpoint

    path = options.weights
    target = ctx.work / "model.safetensors"
    if path is None:
        reason = (
            f"no checkpoint for config {options.config} on {options.data}: seeded untrained "
            "weights with calibrated quantisers"
        )
        model = _untrained(ctx)
        save_checkpoint(model, target, {"seed": options.seed, "note": "untrained"})
        metrics: dict[str, Any] = {
            "metric": METRIC, "value": None, "float_value": None, "dataset": None, "images": None,
            "reason": reason,
        }
        write_json(ctx.work / "metrics.json", metrics)
        return Outcome(f"untrained weights, seed {options.seed} (no checkpoint for this config)")
    ctx.say(f"measuring {path.name} on the test split")
    metrics = _measure(ctx, path)
    shutil.copyfile(path, target)
    write_json(ctx.work / "metrics.json", metrics)
    value = metrics["value"]
    shown = "undefined" if value is None else f"{100 * value:.1f} %"
    return Outcome(f"{path.name}: {METRIC} {shown} on {metrics['images']} test images")


def _measure(ctx: Context, path: Path) -> dict[str, Any]:
    import numpy as np

    from hwflow import arrays
    from hwflow.data import Dataset
    from hwflow.models.codenet import load_checkpoint
    from hwflow.train import evaluate

    options: BuildOptions = ctx.options
    model, meta = load_checkpoint(path)
    provenance = read_json(ctx.folder("data") / "provenance.json")
    classes = tuple(provenance["classes"])
    cfg = model.cfg
    if cfg.name != options.config or cfg.classes != len(classes) or not model.quantised:
        raise DataError(
            f"{path}: holds a {'quantised' if model.quantised else 'float'} network of config "
            f"{cfg.name} for {cfg.classes} classes; this build needs a quantised one of config "
            f"{options.config} for {len(classes)} ({', '.join(classes)}); train it with "
            f"`hwflow train codenet --config {options.config} --data {options.data}`"
        )
    test = arrays.read(ctx.folder("data") / "test.npz", most_bytes=1 << 36)  # ours, and large
    ends = np.cumsum(test["counts"])[:-1]
    dataset = Dataset(
        options.data, "test", classes, provenance["source"], provenance["sha256"],
        provenance["bytes"], test["images"], tuple(np.split(test["boxes"], ends)),
        tuple(np.split(test["labels"], ends)), tuple(np.split(test["difficult"], ends)),
    )
    value = evaluate(model, dataset)["ap50"]
    before = meta.get("float_ap50")
    return {
        "metric": METRIC, "value": value, "float_value": before,
        "dataset": f"{options.data} test split", "images": len(dataset),
        "reason": None if value is not None and before is not None
        else "the checkpoint does not tell the accuracy of its float network",
        "checkpoint": {key: meta[key] for key in ("command", "seed", "steps") if key in meta},
    }


def _untrained(ctx: Context) -> CoDeNet:
    from hwflow import arrays
    from hwflow.export import to_input

    options: BuildOptions = ctx.options
    classes = len(read_json(ctx.folder("data") / "provenance.json")["classes"])
    photographs = arrays.read(ctx.folder("data") / "calibration.npz", ("images",))["images"]
    # Calibration only has to give live scales here; large photographs take long.
    images = to_input(photographs[: UNTRAINED_PIXELS // (photographs.shape[-1] ** 2)])
    assert options.config is not None  # it is None for a file only
    return untrained(options.config, classes, images, options.seed, ctx.say)


def untrained(
    config: str, classes: int = SPEED_CLASSES, images: Tensor | None = None, seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> CoDeNet:
    """Seeded random weights that still make every layer work: live scales, spread dilations.

    `images` (N, 3, H, W), pixel / 256, calibrate the quantisers; without them, seeded noise does.
    """
    import torch

    from hwflow.export import enforce_bounds
    from hwflow.models import codenet

    torch.manual_seed(seed)
    model = codenet.CoDeNet(codenet.config(config, classes))
    if images is None:
        # Any multiple of 32 will do; a small one is quick.
        images = torch.randint(0, 256, (2, 3, 128, 128)).float() / 256
    with torch.no_grad():
        # A fresh network has dilation 1 everywhere, which would leave its hardware untested.
        for name, parameter in model.named_parameters():
            if name.endswith("scale.conv.weight"):
                parameter.normal_(0, 2 / parameter.shape[1] ** 0.5)
            elif name.endswith("scale.conv.bias"):
                parameter.fill_(3.0)
        model.train()
        say("batch statistics of the untrained network")
        model(images)
    model = codenet.quantise(model.eval())
    say("calibrating the quantisers")
    codenet.calibrate(model, images.split(2))
    enforce_bounds(model)
    return model


def export(ctx: Context) -> Outcome:
    """model.onnx and vectors.npz, and speed/model.onnx: the same network with 20 classes."""
    options: BuildOptions = ctx.options
    if not ctx.made("train"):
        return Outcome("", True, "a QONNX file is built: nothing to export")
    import logging

    from hwflow import arrays
    from hwflow.export import enforce_bounds, export_qonnx, export_vectors, extend_classes
    from hwflow.models.codenet import load_checkpoint

    # The exporter warns of optional packages that nothing here needs.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model, _ = load_checkpoint(ctx.folder("train") / "model.safetensors")
    size = model.cfg.input_size
    ctx.say("model.onnx")
    export_qonnx(model, ctx.work / "model.onnx", size)
    ctx.say("vectors.npz")
    images = arrays.read(ctx.folder("data") / "tiles.npz", ("images",))["images"][:VECTORS]
    export_vectors(model, images, ctx.work / "vectors.npz")
    (ctx.work / "speed").mkdir()
    ctx.say(f"speed/model.onnx ({SPEED_CLASSES} classes)")
    wide = extend_classes(model, SPEED_CLASSES, options.seed)
    enforce_bounds(wide)
    export_qonnx(wide, ctx.work / "speed" / "model.onnx", size)
    return Outcome(f"model.onnx, vectors.npz, speed/model.onnx ({SPEED_CLASSES} classes)")
