# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of networks of lookup tables: one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwflow.errors import DataError
from hwflow.models.table_arrays import Layer, Tables, Window

FORMAT = 3  # 1 knew no windows, 2 no linear encoder
THERMOMETER = 2  # the format that suffices without one, for readers of before


def save_checkpoint(net: Tables, path: Path, meta: Mapping[str, Any]) -> None:
    """Write arrays and meta (JSON values) to one safetensors file, whole or not at all.

    Its tensors: thresholds int64 (F, L); wires.I int32 (N, K) and values.I int16 (N, 2**K) of layer
    I. The metadata "hwflow" is JSON: shape, groups, whether the encoder is linear, and of the
    layers bits, signs, windows (null, or kernel, stride and pad) and pools; meta.
    """
    from safetensors.numpy import save_file

    header = {
        "format": FORMAT if net.linear else THERMOMETER, "model": "dtnn",
        "shape": list(net.shape), "groups": net.groups, "linear": net.linear,
        "bits": [one.bits for one in net.layers], "signed": [one.signed for one in net.layers],
        "windows": [one.window and asdict(one.window) for one in net.layers],
        "pools": [one.pool for one in net.layers], "meta": dict(meta),
    }
    arrays = {"thresholds": net.thresholds}
    for place, layer in enumerate(net.layers):
        arrays |= {f"wires.{place}": layer.wires, f"values.{place}": layer.values}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    made = path.with_name(f".{path.name}")
    save_file(arrays, made, metadata={"hwflow": json.dumps(header)})
    made.replace(path)


def load_checkpoint(path: Path) -> tuple[Tables, dict[str, Any]]:
    """What `save_checkpoint` wrote: the network and meta. DataError if the file is not of ours."""
    from safetensors import SafetensorError, safe_open

    rule = "expected a checkpoint of a dtnn that `hwflow train` wrote"
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["hwflow"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format"] not in range(1, FORMAT + 1) or header["model"] != "dtnn":
            raise DataError(f"{path}: a {header['model']} checkpoint of format {header['format']}; "
                            f"{rule}, of format 1 to {FORMAT} (a newer hwflow may read others)")
        if not isinstance(header["meta"], dict):
            raise DataError(f"{path}: {rule}: its meta is no table")
        count = len(header["bits"])
        windows = header.get("windows", [None] * count)
        parts = zip(header["bits"], header["signed"], windows, header.get("pools", [1] * count),
                    strict=True)
        layers = [
            Layer(arrays[f"wires.{i}"], arrays[f"values.{i}"], int(bits), bool(signed),
                  window and Window(**{key: int(n) for key, n in window.items()}), int(pool))
            for i, (bits, signed, window, pool) in enumerate(parts)
        ]  # fmt: skip
        shape = tuple(int(side) for side in header["shape"])
        if len(shape) != 3:
            raise DataError(f"{path}: {rule}: images of shape {shape}")
        net = _network(path, shape, arrays["thresholds"], tuple(layers), int(header["groups"]),
                       bool(header.get("linear", False)))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such checkpoint; train the model first") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    except KeyError as error:
        raise DataError(f"{path}: {rule}: {error} is missing") from error
    except (SafetensorError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{path}: {rule}: {error}") from error
    return net, header["meta"]


def _network(
    path: Path, shape: tuple[int, int, int], thresholds: np.ndarray, layers: tuple[Layer, ...],
    groups: int, linear: bool,
) -> Tables:  # fmt: skip
    """The network of a file, which an error names."""
    try:
        return Tables(shape, thresholds, layers, groups, linear)
    except DataError as error:
        raise DataError(f"{path}: {error}; train it again, or give another file") from error
