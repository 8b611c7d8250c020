# SPDX-License-Identifier: Apache-2.0
"""Boosted trees in logic: XGBoost's trees with few-bit features and leaves, in the manner of
TreeLUT (Khataei and Bazargan, FPGA 2025).

Each pair of feature and threshold is one comparator on the feature's upper bits; a tree is logic on
comparator results that gives a few-bit leaf code; the codes of a class are added; the class with
the largest sum wins. With two classes there is one sum and a threshold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwflow.errors import ToolError
from hwflow.peers import outside
from hwflow.peers.design import Data, Design, Place, argmax, flat

PACKAGES = ("xgboost-cpu",)
DEFAULTS: Mapping[str, Any] = {
    "feature_bits": 4, "leaf_bits": 3, "rounds": 30, "depth": 5, "eta": 0.8,
    "min_child_weight": 1.0, "l2": 1.0, "subsample": 1.0, "columns": 1.0, "threads": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """A tree of a class, node 0 its root.

    feature, threshold: int64; a sample goes left if its feature code is less than the threshold.
    left, right: int64, -1 at a leaf. leaf: float64, only meaningful at leaves.
    """

    group: int
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaf: np.ndarray


@dataclass(frozen=True)
class Forest:
    """Trees with integer leaves: scores of a group are the bias plus the sum of its leaves.

    codes: int64 leaf codes by node for each tree. bias: int64 (groups,).
    """

    trees: tuple[Tree, ...]
    codes: tuple[np.ndarray, ...]
    bias: np.ndarray
    feature_bits: int
    classes: int

    @property
    def groups(self) -> int:
        """Sums: one a class, one in all for two classes."""
        return 1 if self.classes == 2 else self.classes


def read(path: Path) -> tuple[Tree, ...]:
    """The trees of a file of XGBoost (`save_model` as JSON)."""
    try:
        model = json.loads(path.read_text())["learner"]["gradient_booster"]["model"]
        trees = []
        for group, tree in zip(model["tree_info"], model["trees"], strict=True):
            left = np.array(tree["left_children"], np.int64)
            conditions = np.array(tree["split_conditions"], np.float64)
            inner = left >= 0
            # Features are whole numbers: x < 3.5 is x < 4.
            threshold = np.where(inner, np.ceil(conditions), 0).astype(np.int64)
            trees.append(Tree(
                int(group), np.array(tree["split_indices"], np.int64), threshold, left,
                np.array(tree["right_children"], np.int64), np.where(inner, 0.0, conditions),
            ))  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolError(
            f"{path}: is not a model of boosted trees as XGBoost 3 writes it ({error}); delete its "
            "folder and train again"
        ) from error
    return tuple(trees)


def quantise(trees: tuple[Tree, ...], feature_bits: int, leaf_bits: int, classes: int) -> Forest:
    """Leaf codes of 0..2**leaf_bits - 1, one scale for the whole forest.

    A tree's smallest leaf goes into the bias of its group, so that codes start at 0; a bias common
    to all groups decides nothing and is dropped.
    """
    groups = 1 if classes == 2 else classes
    bias = np.zeros(groups)
    shifted = []
    for tree in trees:
        ends = tree.left < 0
        least = tree.leaf[ends].min()
        bias[tree.group] += least
        shifted.append(np.where(ends, tree.leaf - least, 0.0))
    span = max((values.max() for values in shifted), default=0.0)
    scale = ((1 << leaf_bits) - 1) / span if span > 0 else 1.0
    codes = tuple(np.floor(values * scale + 0.5).astype(np.int64) for values in shifted)
    whole = np.floor(bias * scale + 0.5).astype(np.int64)
    if groups > 1:
        whole -= whole.min()
    return Forest(trees, codes, whole, feature_bits, classes)


def predict(forest: Forest, x: np.ndarray) -> np.ndarray:
    """The class of each sample, int64 (N,), from bytes (N, F)."""
    features = x >> (8 - forest.feature_bits)
    scores = np.repeat(forest.bias[None], len(x), axis=0)
    rows = np.arange(len(x))
    for tree, codes in zip(forest.trees, forest.codes, strict=True):
        node = np.zeros(len(x), np.int64)
        while (inner := tree.left[node] >= 0).any():
            lower = features[rows, tree.feature[node]] < tree.threshold[node]
            node = np.where(inner, np.where(lower, tree.left[node], tree.right[node]), node)
        scores[:, tree.group] += codes[node]
    if forest.classes == 2:
        return np.asarray(scores[:, 0] >= 0, np.int64)
    return np.asarray(scores.argmax(axis=1), np.int64)


def verilog(forest: Forest, features: int, registers: tuple[bool, bool]) -> tuple[str, int]:
    """The module `boosted_trees` and its stages.

    registers: behind the comparators, and behind the trees; the class always has one.
    """
    drop = 8 - forest.feature_bits
    keys: dict[tuple[int, int], str] = {}
    lines = []

    def compare(feature: int, threshold: int) -> str:
        """A wire that says feature < threshold."""
        if threshold <= 0 or threshold >= 1 << forest.feature_bits:
            return "1'b0" if threshold <= 0 else "1'b1"
        if (feature, threshold) not in keys:
            keys[feature, threshold] = f"key[{len(keys)}]"
        return keys[feature, threshold]

    def choose(tree: Tree, codes: np.ndarray, node: int, width: int) -> str:
        """The leaf code of a tree below a node."""
        if tree.left[node] < 0:
            return f"{width}'d{codes[node]}"
        below, above = (choose(tree, codes, int(side[node]), width)
                        for side in (tree.left, tree.right))
        if below == above:
            return below
        return f"({compare(int(tree.feature[node]), int(tree.threshold[node]))} ? " \
               f"{below} : {above})"

    sums: list[list[str]] = [[] for _ in range(forest.groups)]
    most = [0] * forest.groups
    for number, (tree, codes) in enumerate(zip(forest.trees, forest.codes, strict=True)):
        top = int(codes.max())
        if top == 0:
            continue
        width = top.bit_length()
        lines.append(f"  wire [{width - 1}:0] t{number} = {choose(tree, codes, 0, width)};")
        lines += _register(f"t{number}", f"v{number}", width, registers[1])
        sums[tree.group].append(f"v{number}")
        most[tree.group] += top
    head = [
        "module boosted_trees (", "  input  logic clk,",
        f"  input  logic [{8 * features - 1}:0] pixels,",
        f"  output logic [{max(1, (forest.classes - 1).bit_length()) - 1}:0] out_class", ");",
        f"  wire [{max(1, len(keys)) - 1}:0] compared;",
    ]
    for (feature, threshold), name in keys.items():
        code = f"pixels[{8 * feature + drop} +: {forest.feature_bits}]"
        head.append(f"  assign {name.replace('key', 'compared')} = {code} < "
                    f"{forest.feature_bits}'d{threshold};")
    head += _register("compared", "key", max(1, len(keys)), registers[0])
    if forest.classes == 2:
        lines += _threshold(sums[0], most[0], -int(forest.bias[0]))
        extra = ""
    else:
        width = max(1, max(m + int(b) for m, b in zip(most, forest.bias, strict=True)).bit_length())
        for group, names in enumerate(sums):
            terms = [*names, *([f"{width}'d{forest.bias[group]}"] if forest.bias[group] else [])]
            lines.append(f"  wire [{width - 1}:0] sum{group} = {' + '.join(terms) or 0};")
        scores = ", ".join(f"sum{group}" for group in reversed(range(forest.groups)))
        lines += ["  wire [" f"{max(1, (forest.classes - 1).bit_length()) - 1}:0] best;",
                  f"  largest u_largest (.scores({{{scores}}}), .best(best));"]
        extra = argmax("largest", forest.classes, width, False)
    lines += ["  always_ff @(posedge clk) out_class <= best;", "endmodule", ""]
    return extra + "\n".join([*head, *lines]), 1 + sum(registers)


def _threshold(names: list[str], most: int, least: int) -> list[str]:
    """With two classes: whether the sum, at most `most`, reaches `least`."""
    if least <= 0 or least > most:
        return [f"  wire best = 1'b{int(least <= 0)};"]
    width = most.bit_length()
    return [f"  wire [{width - 1}:0] total = {' + '.join(names)};",
            f"  wire best = total >= {width}'d{least};"]


def _register(source: str, name: str, width: int, there: bool) -> list[str]:
    if not there:
        return [f"  wire [{width - 1}:0] {name} = {source};"]
    return [f"  logic [{width - 1}:0] {name};",
            f"  always_ff @(posedge clk) {name} <= {source};"]


def recipe(data: Data, settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """All that decides `build`; NotInstalled without XGBoost."""
    return {**DEFAULTS, **settings, **outside.versions(place.python, PACKAGES,
                                                       place.folder / "probe")}


def build(data: Data, settings: Mapping[str, Any], place: Place) -> Design:
    """Train, quantise and write the RTL. settings: those of DEFAULTS that differ, and `seed`."""
    chosen = {**DEFAULTS, **settings}
    outside.fit(
        "fit_trees.py", place.python, PACKAGES,
        {**chosen, **data.file(place), "classes": data.classes},
        ("model.json", "fit.json"), place.folder,
    )
    trees = read(place.folder / "model.json")
    fit = json.loads((place.folder / "fit.json").read_text())
    forest = quantise(trees, chosen["feature_bits"], chosen["leaf_bits"], data.classes)
    text, stages = verilog(forest, data.features, (False, True))
    return Design(
        {"boosted_trees.sv": text}, "boosted_trees", "pixels", {"clk": 0}, "out_class", stages,
        predict(forest, flat(data.test.images)), fit["minutes"],
        f"XGBoost {fit['version']}, RTL of hwflow",
        f"{len(trees)} trees of depth {chosen['depth']}, {chosen['feature_bits']}-bit features, "
        f"{chosen['leaf_bits']}-bit leaves, eta {chosen['eta']:g}",
    )

