# SPDX-License-Identifier: Apache-2.0
"""`hwflow build dtnn --statistical-dont-cares`: smaller tables, counted and said in the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hwflow import build as runner
from hwflow import interp, stages
from hwflow.data import samples
from hwflow.emit.tables import estimate
from hwflow.errors import ConfigError
from hwflow.ir import Graph
from hwflow.models import dtnn
from hwflow.report import schema
from hwflow.stages.options import options
from hwflow.train_tables import TableTraining, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of quickly trained weights, up to the comparison with the QONNX file."""
    place = tmp_path_factory.mktemp("place")
    digits = samples.load("digits", "train", place)
    quick = TableTraining(sweeps=6, copies=1, epochs=4, batch=64, threads=1)
    weights = train(dtnn.sized(250, (1, 8, 8)), digits.images, digits.labels, place / "weights",
                    place, quick).checkpoint  # fmt: skip
    chosen = options("dtnn", "pynq-z2", "small", "digits", weights, cache=place,
                     statistical_dont_cares=True)  # fmt: skip
    records = runner.build(stages.of(chosen), chosen, place / "run", "verify")
    assert {r.name: r.reason for r in records if r.status == "failed"} == {}
    return place / "run"


def test_what_is_free_is_counted_and_said(run: Path) -> None:
    found = json.loads((run / "lower" / "unseen.json").read_text())
    exact, small = (Graph.load(run / "lower" / name) for name in ("exact", "graph"))
    digits = samples.load("digits", "train", run)
    # once more, sample by sample and table by table
    free = addresses = 0
    values = interp.run_many(exact, {exact.inputs[0]: digits.images}, keep=True)
    for node in exact.nodes:
        if node.op == "tables":
            codes = np.moveaxis(values[node.inputs[0]], 0, -1).reshape(-1, len(digits))
            for wires in exact.const(node, "wires"):
                at = sum(codes[wire].astype(int) << place for place, wire in enumerate(wires))
                addresses += 2 ** len(wires)
                free += 2 ** len(wires) - len(np.unique(at))
    assert found["samples"] == len(digits) == 1400
    # addresses that no input reaches are not counted as free
    assert 0 < found["free"] <= free and found["free"] <= found["addresses"] <= addresses
    assert free - found["free"] == addresses - found["addresses"]
    report = schema.read(run / "report.json")
    assert report.accuracy.metric == "top-1 accuracy with statistical don't-cares"
    assert f"{found['free']:,} of {found['addresses']:,} addresses" in str(report.accuracy.dataset)
    assert "statistical_dont_cares" in small.meta and "statistical_dont_cares" not in exact.meta


def test_training_samples_keep_their_class_and_the_file_its_proof(run: Path) -> None:
    exact, small = (Graph.load(run / "lower" / name) for name in ("exact", "graph"))
    for split in ("train", "test"):
        part = samples.load("digits", split, run)
        scores = [interp.run_many(one, {one.inputs[0]: part.images})[one.outputs[0]]
                  for one in (exact, small)]
        if split == "train":
            np.testing.assert_array_equal(*scores)
        else:
            found = scores[1].reshape(len(part), 10).argmax(axis=1)
    report = schema.read(run / "report.json")
    assert report.accuracy.value == pytest.approx((found == part.labels).mean())
    assert (report.verify.qonnx.images, report.verify.qonnx.mismatches) == (8, 0)
    luts = [sum(part.luts for part in estimate(one).values()) for one in (exact, small)]
    assert luts[1] <= luts[0]  # nearly all addresses of a first layer occur


def test_only_our_networks_of_tables_have_training_data() -> None:
    for model in ("codenet", "./file.onnx"):
        with pytest.raises(ConfigError, match="--statistical-dont-cares belongs to dtnn"):
            options(model, "pynq-z2", statistical_dont_cares=True)
