# SPDX-License-Identifier: Apache-2.0
"""Networks of tables of hwflow itself, by the same bench as everything else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwflow import train_tables
from hwflow.data.samples import Samples
from hwflow.emit import tables
from hwflow.errors import ConfigError
from hwflow.ir import Graph, GraphBuilder, IntType
from hwflow.models import dtnn
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.patches import PatchesAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.ops.tables import TablesAttrs
from hwflow.ops.threshold import ThresholdAttrs
from hwflow.peers.design import Data, Design, Place
from hwflow.train_tables import TableTraining

SHIPPED = Path(dtnn.__file__).parents[1] / "checkpoints"


def graph(net: dtnn.Tables, name: str = "dtnn") -> Graph:
    """The integer graph of the network (ops rearrange, threshold, concat, patches, tables, maxpool,
    group_sum)."""
    builder = GraphBuilder(name)
    features = math.prod(net.shape)
    x = builder.input("image", net.shape, IntType(8, False))
    if net.flat and net.shape != (features, 1, 1):
        attrs = RearrangeAttrs(net.shape, (0, 1, 2), (features, 1, 1))
        x = builder.add("flat", "rearrange", [x], attrs)
    bit = IntType(1, False)
    levels = [
        builder.add(f"bits{i}", "threshold", [x], ThresholdAttrs(0, bit),
                    {"thresholds": np.ascontiguousarray(column[:, None])})
        for i, column in enumerate(net.thresholds.T)
    ]  # fmt: skip
    x = levels[0] if len(levels) == 1 else builder.add("bits", "concat", levels, ConcatAttrs())
    read = 1
    for place, layer in enumerate(net.layers):
        if layer.window is not None:
            one = layer.window
            window = PatchesAttrs((one.kernel,) * 2, (one.stride,) * 2, (one.pad,) * 4, (1, 1))
            x = builder.add(f"window{place}", "patches", [x], window)
        elif x.shape[1:] != (1, 1):
            attrs = RearrangeAttrs(x.shape, (0, 1, 2), (math.prod(x.shape), 1, 1))
            x = builder.add(f"flat{place}", "rearrange", [x], attrs)
        x = builder.add(
            f"tables{place}", "tables", [x], TablesAttrs(read, IntType(layer.bits, layer.signed)),
            {"wires": layer.wires, "values": layer.values},
        )
        if layer.pool > 1:
            pool = MaxpoolAttrs(layer.pool, layer.pool, 0)
            x = builder.add(f"pool{place}", "maxpool", [x], pool)
        read = layer.bits
    if net.groups:
        x = builder.add("scores", "group_sum", [x], GroupSumAttrs(net.groups))
    return builder.build([builder.add("class", "argmax", [x], ArgmaxAttrs(False))])


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


def build(data: Data, settings: Mapping[str, Any], place: Place) -> Design:
    """Train and emit. settings: `seed`, `luts`, `levels` and `precision` of thresholds; options of
    TableTraining.

    A complete training of this size and with these options below `place` is not repeated.
    """
    rest = dict(settings)
    levels, precision = int(rest.pop("levels", 1)), int(rest.pop("precision", 8))
    luts, images = int(rest.pop("luts")), data.train.images
    made = dtnn.DtnnConfig("thresholds", (data.classes,), data.train.shape, data.classes, levels,
                           precision=precision)  # fmt: skip
    options = train_tables.recipe(made, rest)
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
    same = dtnn.from_description(meta["config"]) == cfg
    return same and meta["options"] == train_tables.plain(options)


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
