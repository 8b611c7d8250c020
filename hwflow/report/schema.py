# SPDX-License-Identifier: Apache-2.0
"""The schema of report.json. A number nobody measured is null and has a reason, never 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from hwflow.errors import ConfigError
from hwflow.plan import write_atomic

Kind = Literal[
    "measured in simulation", "HLS estimate", "post-synthesis estimate", "pre-route estimate",
    "post-route", "estimate of the cycle model",
]


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False
    )


class _Measured(_Strict):
    """Either its numbers are given, or `reason` says why they are not."""

    reason: str | None = None

    def _numbers(self) -> tuple[object, ...]:
        return tuple(
            getattr(self, name) for name in type(self).model_fields if name not in ("reason",)
        )

    @model_validator(mode="after")
    def _null_has_a_reason(self) -> Self:
        if any(value is None for value in self._numbers()) and not self.reason:
            raise ValueError("a null number needs a reason")
        return self


class StageRow(_Strict):
    """One stage; seconds are those of its last run."""

    name: str
    status: Literal["done", "cached", "skipped", "failed"]
    seconds: NonNegativeFloat
    reason: str | None = None

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.status in ("skipped", "failed") and not self.reason:
            raise ValueError(f"stage {self.name} is {self.status} without a reason")
        return self


class Data(_Measured):
    """The photographs of this run."""

    spec: str
    source: str | None
    sha256: str | None
    bytes: NonNegativeInt | None
    classes: list[str] | None


class _ByTool(_Measured):
    """Numbers whose tool, with its version, is written where it is known."""

    tool: str | None = None

    def _numbers(self) -> tuple[object, ...]:
        others = set(type(self).model_fields) - {"reason", "tool"}
        return tuple(getattr(self, name) for name in others)

    @model_serializer(mode="wrap")
    def _without_absent_tool(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        if self.tool is None:
            written.pop("tool", None)
        return written


class Accuracy(_ByTool):
    """`value` of the quantised network, `float_value` of the float one, on the test split."""

    metric: str | None = None
    value: float | None = None
    float_value: float | None = None
    dataset: str | None = None
    images: NonNegativeInt | None = None


class ImagesChecked(_ByTool):
    """Every layer's output of `images` images compared with the integer graph."""

    images: NonNegativeInt | None = None
    mismatches: NonNegativeInt | None = None


class FramesChecked(_ByTool):
    """Every layer's output of `frames` simulated frames compared with the integer graph."""

    frames: NonNegativeInt | None = None
    mismatches: NonNegativeInt | None = None


class Verify(_Strict):
    """The three engines held to the integer graph."""

    qonnx: ImagesChecked
    hls: ImagesChecked
    rtl: FramesChecked


class Performance(_Measured):
    """Speed of one frame of the 20-class network."""

    kind: Kind | None = None
    tool: str | None = None
    cycles_per_frame: NonNegativeInt | None = None
    clock_mhz: NonNegativeFloat | None = None
    fps: NonNegativeFloat | None = None
    macs_per_frame: NonNegativeInt | None = None
    mac_utilisation: NonNegativeFloat | None = None
    ddr_bytes_per_frame: NonNegativeInt | None = None


class Layer(_Strict):
    """One node of the integer graph as the engine ran it.

    An engine with two queues runs layers at the same time: then `queue` says which one ran the
    layer, and `start_cycle` and `end_cycle` (the first cycle after it) when, counted from the start
    of the frame. All three are given, or none. A layer that is made piece by piece runs in turns
    with others: `spans` are its turns, [first cycle, cycle after the last] each, in order.
    """

    name: str
    op: str
    cycles: NonNegativeInt
    ideal_cycles: NonNegativeInt
    macs: NonNegativeInt
    ddr_bytes: NonNegativeInt
    queue: Literal["array", "lanes"] | None = None
    start_cycle: NonNegativeInt | None = None
    end_cycle: NonNegativeInt | None = None
    spans: list[list[NonNegativeInt]] | None = None

    @model_validator(mode="after")
    def _turns_in_order(self) -> Self:
        if self.spans is None:
            return self
        cycles = [cycle for span in self.spans for cycle in span]
        if not cycles or any(len(span) != 2 for span in self.spans) or cycles != sorted(cycles):
            raise ValueError(f"layer {self.name}: spans are no turns one after the other")
        if (cycles[0], cycles[-1]) != (self.start_cycle, self.end_cycle):
            raise ValueError(
                f"layer {self.name}: spans from {cycles[0]} to {cycles[-1]}, but start_cycle is "
                f"{self.start_cycle} and end_cycle {self.end_cycle}"
            )
        return self

    @model_validator(mode="after")
    def _placed_or_not(self) -> Self:
        placed = [value is not None for value in (self.queue, self.start_cycle, self.end_cycle)]
        if any(placed) != all(placed):
            raise ValueError(
                f"layer {self.name}: queue, start_cycle and end_cycle belong together; "
                "give all three or none"
            )
        start, end = self.start_cycle, self.end_cycle
        if start is not None and end is not None and end < start:
            raise ValueError(f"layer {self.name} ends (cycle {end}) before it starts ({start})")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_queue(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        if self.queue is None:
            for name in ("queue", "start_cycle", "end_cycle"):
                written.pop(name, None)
        if self.spans is None:
            written.pop("spans", None)
        return written


class Used(_Strict):
    """Of one resource; a BRAM36 may be used by halves. Null: the tool does not name its chip."""

    used: NonNegativeInt | NonNegativeFloat
    available: NonNegativeInt | NonNegativeFloat | None


class Resources(_Measured):
    """Logic the design takes; `other` are cells of the chip that have no column of their own."""

    kind: Kind | None = None
    tool: str | None = None
    lut: Used | None = None
    ff: Used | None = None
    bram36: Used | None = None
    dsp: Used | None = None
    other: dict[str, Used] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_available_has_a_reason(self) -> Self:
        rows = (self.lut, self.ff, self.bram36, self.dsp, *self.other.values())
        if not self.reason and any(one is not None and one.available is None for one in rows):
            raise ValueError("a null number needs a reason")
        return self


class TreeCells(_Strict):
    """Cells that are no tables, multiplexers of the fabric or flip-flops."""

    dsp: NonNegativeInt
    carry: NonNegativeInt
    memory: NonNegativeInt


class Tree(_Measured):
    """A network of tables: what its generated `modules` have besides tables, the sums left out.

    `sums`: the same of the adders of its groups; null: it has none, and no adder anywhere.
    """

    kind: Kind | None = None
    tool: str | None = None
    modules: list[str] | None = None
    dsp: NonNegativeInt | None = None
    carry: NonNegativeInt | None = None
    memory: NonNegativeInt | None = None
    sums: TreeCells | None = None

    def _numbers(self) -> tuple[object, ...]:
        return self.kind, self.tool, self.modules, self.dsp, self.carry, self.memory


class Timing(_Measured):
    """The clock the design reaches."""

    kind: Kind | None = None
    tool: str | None = None
    fmax_mhz: NonNegativeFloat | None = None


class Power(_Measured):
    """What the design is estimated to draw, in watts; `confidence` as the tool calls it."""

    kind: Kind | None = None
    tool: str | None = None
    total_w: NonNegativeFloat | None = None
    dynamic_w: NonNegativeFloat | None = None
    static_w: NonNegativeFloat | None = None
    confidence: str | None = None


class Bitstream(_Measured):
    """The file that configures the chip; `path` is relative to the run directory."""

    path: str | None = None
    status: Literal["done", "skipped", "failed"]


class Report(_Strict):
    """report.json."""

    schema_: Literal[1]
    model: str
    config: str | None
    board: str
    data: Data
    hwflow_version: str
    git: str | None
    stages: list[StageRow]
    accuracy: Accuracy
    verify: Verify
    performance: Performance
    layers: list[Layer]
    resources: Resources
    timing: Timing
    power: Power = Power(reason="no stage of hwflow estimates power")
    tree: Tree | None = None  # of networks of tables alone
    bitstream: Bitstream

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, populate_by_name=True,
        alias_generator=lambda name: "schema" if name == "schema_" else name,
    )

    @model_serializer(mode="wrap")
    def _without_absent_tree(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        if self.tree is None:
            written.pop("tree", None)
        return written


def write(report: Report, path: Path) -> None:
    """Write report.json, wholly or not at all."""
    text = json.dumps(report.model_dump(mode="json", by_alias=True), indent=1) + "\n"
    write_atomic(path, text.encode())


def read(path: Path) -> Report:
    """Read and check a report.json; ConfigError names the file and every wrong key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); run `hwflow build` first"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{path}: is not a report of schema 1: {problems(error)}") from error


def problems(error: ValidationError) -> str:
    """The first five keys that are wrong in a file, and why, in a line."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:5]
    )
