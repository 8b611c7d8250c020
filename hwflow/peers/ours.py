# SPDX-License-Identifier: Apache-2.0
"""Networks of tables of hwflow itself, by the same bench as everything else."""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwflow import ingest, passes, train_tables
from hwflow.data.samples import Samples
from hwflow.emit import tables
from hwflow.errors import ConfigError
from hwflow.export_tables import export_qonnx
from hwflow.ir import Graph
from hwflow.models import dtnn
from hwflow.peers.design import Data, Design, Place
from hwflow.train_tables import TableTraining

SHIPPED = Path(dtnn.__file__).parents[1] / "checkpoints"


def graph(net: dtnn.Tables) -> Graph:
    """The integer graph of a network, by the road of every build: torch, QONNX, ingest, passes."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        export_qonnx(dtnn.network(net), file, net.shape)
        return passes.lower(ingest.read(file))


def design(
    net: dtnn.Tables, test: Samples, train_minutes: float | None, source: str, notes: str = ""
) -> Design:
    """The core of a trained network, and the class its arrays give for each test sample."""
    core = tables.emit(graph(net), tables.Options())
    predicted = dtnn.scores(net, test.images).argmax(axis=1)
    return Design(
        core.files, core.top, "in_pixels", {"clk": 0, "rst": 0, "en": 1, "in_valid": 1},
        "out_class", core.latency, np.asarray(predicted, np.int64), train_minutes, source, notes,
        {name: part.luts for name, part in core.parts.items()},
    )


def _options(
    data: Data, settings: Mapping[str, Any]
) -> tuple[int, dtnn.DtnnConfig, TableTraining]:
    """The budget, how samples are encoded, and how the network is trained."""
    rest = dict(settings)
    levels, precision = int(rest.pop("levels", 1)), int(rest.pop("precision", 8))
    luts = int(rest.pop("luts"))
    made = dtnn.DtnnConfig("thresholds", (data.classes,), data.train.shape, data.classes, levels,
                           precision=precision)  # fmt: skip
    return luts, made, train_tables.recipe(made, rest)


def recipe(data: Data, settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """All that decides `build`."""
    luts, made, options = _options(data, settings)
    return {"luts": luts, "levels": made.levels, "precision": made.precision,
            **train_tables.plain(options)}


def build(data: Data, settings: Mapping[str, Any], place: Place) -> Design:
    """Train and emit. settings: `seed`, `luts`, `levels` and `precision` of thresholds; options of
    TableTraining.

    A complete training of this size and with these options below `place` is not repeated.
    """
    luts, made, options = _options(data, settings)
    images = data.train.images
    kept = len(images) - round(len(images) * options.validation)
    cfg = train_tables.sized(luts, made, images[:kept])
    out = place.folder / "train"
    done = out / train_tables.CHECKPOINT
    if not _trained(done, cfg, options):
        train_tables.train(cfg, images, data.train.labels, out, place.cache, options)
    net, meta = dtnn.load_checkpoint(done)
    return design(net, data.test, meta["seconds"] / 60, "hwflow", _notes(cfg, options))


def _trained(path: Path, cfg: dtnn.DtnnConfig, options: TableTraining) -> bool:
    """Whether a checkpoint is of this size and was trained so."""
    if not path.is_file():
        return False
    meta = dtnn.load_checkpoint(path)[1]
    # An option that is newer than the training had its default then.
    had = {**train_tables.plain(TableTraining()), **meta["options"]}
    return dtnn.from_description(meta["config"]) == cfg and had == train_tables.plain(options)


def shipped_recipe(data: Data, settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """All that decides `shipped`."""
    file = SHIPPED / settings["file"]
    return {**settings, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def shipped(data: Data, settings: Mapping[str, Any], place: Place) -> Design:
    """A checkpoint that comes with hwflow. settings: its `file`; the seed is that of its training.
    """
    net, meta = dtnn.load_checkpoint(SHIPPED / settings["file"])
    features = math.prod(net.shape)
    if features != data.features or (net.groups or data.classes) != data.classes:
        raise ConfigError(f"{settings['file']} is for {features} bytes a sample, {data.spec} has "
                          f"{data.features}")
    minutes = meta["seconds"] / 60 if "seconds" in meta else None
    nodes = " + ".join(str(len(layer.wires)) for layer in net.layers)
    return design(net, data.test, minutes, "hwflow, shipped checkpoint",
                  f"{nodes} tables, {net.thresholds.shape[1]} thresholds a byte")


def _notes(cfg: dtnn.DtnnConfig, options: TableTraining) -> str:
    nodes = " + ".join(str(width) for width in cfg.widths)
    bits = "" if cfg.precision == 8 else f" of its upper {cfg.precision} bits"
    text = (f"{nodes} tables, {cfg.levels} thresholds a byte{bits}, {options.sweeps} sweeps, "
            f"{options.epochs} epochs")
    if options.distil:
        text += f", {options.teachers} float teachers"
    return f"{text}, noise {options.noise:g}" if options.noise else text
