# SPDX-License-Identifier: Apache-2.0
"""The command `hwflow train`: detectors and networks of lookup tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hwflow.cli_options import resumable
from hwflow.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from hwflow.stages.options import BuildOptions
    from hwflow.train import Progress
    from hwflow.train_tables import Progress as TablesProgress

EPILOG = ("Examples: `hwflow train codenet --config b --data trees` - "
          "`hwflow train dtnn --config medium --data fashion` - "
          "`hwflow train dtnn --luts 1500 --node affine --out runs/affine`")  # fmt: skip
DETECTOR, TABLES = "codenet", "dtnn"
ENCODER_BITS = 4


class Device(StrEnum):
    """Where training runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def train(
    model: Annotated[str, typer.Argument(help="codenet or dtnn.")],
    config: Annotated[
        str | None, typer.Option("--config", "-c", "--preset", "--presets",
                                 help="codenet: a to g. dtnn: small, medium, large, lenet5, vgg.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="codenet: trees, voc:PATH, digits[:SCENES]. dtnn: "
                                 "mnist, fashion, digits, cifar10, keel:NAME, csv:FILE.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; an interrupted run goes on there.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads of torch.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Where downloads are kept; default ~/.cache/hwflow."),
    ] = None,
    float_steps: Annotated[
        int, typer.Option(help="Steps in floating point.", rich_help_panel=DETECTOR)
    ] = 7200,
    qat_steps: Annotated[
        int, typer.Option(help="Steps of quantisation-aware training.", rich_help_panel=DETECTOR)
    ] = 600,
    size: Annotated[
        int | None, typer.Option(help="Side of the test images.", rich_help_panel=DETECTOR)
    ] = None,
    plain_dw: Annotated[
        bool, typer.Option("--plain-dw", help="Plain depthwise layers (the ablation).",
                           rich_help_panel=DETECTOR)
    ] = False,
    device: Annotated[
        Device, typer.Option(help="cpu, cuda, or auto: where torch trains. The C++ loops of most "
                             "networks of tables run on the CPU.")
    ] = Device.AUTO,
    eval_every: Annotated[
        int, typer.Option(help="Steps between AP on the test split.", rich_help_panel=DETECTOR)
    ] = 500,
    luts: Annotated[
        int | None, typer.Option("--luts", help="Size it to so many LUT6.", rich_help_panel=TABLES)
    ] = None,
    node: Annotated[
        str, typer.Option(help="lookup, affine, polynomial or mlp.", rich_help_panel=TABLES)
    ] = "lookup",
    wiring: Annotated[
        str, typer.Option(help="learned, random or patches.", rich_help_panel=TABLES)
    ] = "learned",
    head: Annotated[
        str, typer.Option(help="sum of the votes, or codes: one root a class.",
                          rich_help_panel=TABLES)
    ] = "sum",
    widths: Annotated[
        str | None, typer.Option(help="Nodes of each layer, as 600,300; in place of a size.",
                                 rich_help_panel=TABLES)
    ] = None,
    bits: Annotated[
        str | None, typer.Option(help="Bits of the codes of each layer, as 3,1.",
                                 rich_help_panel=TABLES)
    ] = None,
    inputs: Annotated[
        int | None, typer.Option(help="Children of a node.", rich_help_panel=TABLES)
    ] = None,
    levels: Annotated[
        int | None, typer.Option(help="Thresholds of a pixel; 1 is its top bit, a wire.",
                                 rich_help_panel=TABLES)
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="thermometer (a bit for each threshold) or linear (the bits of a "
                          "uniform code).", rich_help_panel=TABLES)
    ] = "thermometer",
    encoder_bits: Annotated[
        int | None, typer.Option(help="Bits of the linear encoder's codes; default 4.",
                                 rich_help_panel=TABLES)
    ] = None,
    precision: Annotated[
        int | None, typer.Option(help="Upper bits of a pixel that thresholds look at.",
                                 rich_help_panel=TABLES)
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="descent (the default where it can be) or gradient: torch.",
                                 rich_help_panel=TABLES)
    ] = None,
    learn_thresholds: Annotated[
        bool, typer.Option("--learn-thresholds", help="Train the encoder, too; by torch.",
                           rich_help_panel=TABLES)
    ] = False,
    sweeps: Annotated[
        int | None, typer.Option(help="Sweeps of coordinate descent.", rich_help_panel=TABLES)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of minibatches.", rich_help_panel=TABLES)
    ] = None,
    validation: Annotated[
        float, typer.Option(help="Share of the samples held back.", rich_help_panel=TABLES)
    ] = 0.0,
    distil: Annotated[
        float | None, typer.Option(help="Weight of float teachers in the targets, 0 to 1; 1 for "
                                   "rows of a table.", rich_help_panel=TABLES)
    ] = None,
    teachers: Annotated[
        int | None, typer.Option(help="How many teachers.", rich_help_panel=TABLES)
    ] = None,
    teacher_epochs: Annotated[
        int | None, typer.Option(help="Epochs of each.", rich_help_panel=TABLES)
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="On each element, as a share of its spread.",
                                   rich_help_panel=TABLES)
    ] = None,
    lut_weight: Annotated[
        float | None, typer.Option(help="Loss that a LUT of the encoder must save.",
                                   rich_help_panel=TABLES)
    ] = None,
) -> None:  # fmt: skip
    """Train a detector (float, then quantisation-aware) or a network of tables; resumable."""
    from hwflow.stages.options import options

    if widths is not None and (config is not None or luts is not None):
        raise ConfigError("--widths stands in place of --config and --luts; give one of them")
    chosen = options(model, "pynq-z2", config, data, seed=seed, cache=cache, luts=luts)
    if chosen.model == TABLES:
        shape = {
            "node": node, "wiring": wiring, "head": head, "inputs": inputs,
            "widths": _numbers("--widths", widths), "bits": _numbers("--bits", bits),
        }
        given = {
            "sweeps": sweeps, "epochs": epochs, "threads": threads, "distil": distil,
            "teachers": teachers, "teacher_epochs": teacher_epochs, "noise": noise,
            "lut_weight": lut_weight, "learn_thresholds": learn_thresholds or None,
            "method": method or ("gradient" if learn_thresholds else None),
        }
        _tables(
            chosen, out, {k: v for k, v in shape.items() if v is not None}, encoder,
            _levels(encoder, encoder_bits, levels),
            8 if learn_thresholds and precision is None else precision,
            {**{k: v for k, v in given.items() if v is not None}, "validation": validation},
            device.value,
        )
        return
    _detector(chosen, out, {
        "plain_dw": plain_dw, "input_size": size, "float_steps": float_steps,
        "qat_steps": qat_steps, "device": device.value, "threads": threads,
        "eval_every": eval_every,
    })


@contextlib.contextmanager
def _bar() -> Iterator[Bar]:
    """The progress of a training that can be interrupted; tasks have a `note`."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with resumable(), Bar(*columns, console=Console()) as bar:
        yield bar


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"{option} {text!r}: give whole numbers with commas, as 600,300")
    return tuple(int(part) for part in parts)


def _levels(encoder: str, bits: int | None, levels: int | None) -> int | None:
    """Thresholds of a pixel: those of a linear encoder follow from its bits."""
    if encoder != "linear":
        if bits is not None:
            raise ConfigError(f"--encoder-bits {bits}: a thermometer has --levels; leave it out, "
                              "or give --encoder linear")
        return levels
    if levels is not None:
        raise ConfigError(f"--levels {levels}: a linear encoder has --encoder-bits; leave it out")
    bits = ENCODER_BITS if bits is None else bits
    if not 1 <= bits <= 8:
        raise ConfigError(f"--encoder-bits {bits}: a byte has codes of 1 to 8 bits")
    return (1 << bits) - 1


def _tables(
    chosen: BuildOptions, out: Path | None, shape: dict[str, Any], encoder: str,
    levels: int | None, precision: int | None, given: dict[str, Any], device: str,
) -> None:
    import dataclasses

    from hwflow.data import default_cache, samples
    from hwflow.models import dtnn
    from hwflow.stages.sizes import size_of
    from hwflow.train_tables import recipe
    from hwflow.train_tables import train as run

    cache = chosen.cache or default_cache()
    parts = {split: samples.load(chosen.data, split, cache) for split in ("train", "test")}
    training, test = parts["train"], parts["test"]
    held = round(len(training) * min(1.0, max(0.0, given["validation"])))
    kept = training.images[: max(1, len(training) - held)]
    cfg = size_of(chosen, training.shape, len(training.classes), levels, precision, kept,
                  encoder)
    if "widths" in shape:
        cfg = dataclasses.replace(cfg, name="own", bits=(), luts=None)
    if shape.keys() & {"widths", "bits", "inputs"} or shape["node"] != "lookup":
        shape.setdefault("bits", ())
    cfg = dataclasses.replace(cfg, **shape)
    own = out or Path("runs") / f"{chosen.name}_{chosen.data.replace('/', '_')}_{chosen.seed}"
    with _bar() as bar:
        task = bar.add_task("training", total=None, note="")

        def show(now: TablesProgress) -> None:
            bar.update(task, description=now.phase, completed=now.step, total=now.steps,
                       note=f"loss {now.loss:.3f}")

        result = run(cfg, training.images, training.labels, own, cache,
                     recipe(cfg, {"seed": chosen.seed, **given}), show, device)
    console = Console()
    if result.validation_accuracy is not None:
        console.print(f"validation: {100 * result.validation_accuracy:.2f} %")
    console.print(f"test: {100 * dtnn.accuracy(result.net, test.images, test.labels):.2f} % of "
                  f"{len(test):,}; about {result.estimate:,} LUT6; {result.seconds:,.0f} s")
    console.print(f"checkpoint: {result.checkpoint}", soft_wrap=True)


def _detector(chosen: BuildOptions, out: Path | None, given: dict[str, Any]) -> None:
    from hwflow.train import TrainOptions
    from hwflow.train import train as run

    target = out or Path("runs") / f"{chosen.name}_{chosen.data.split(':')[0]}_{chosen.seed}"
    with _bar() as bar:
        tasks = {}

        def show(progress: Progress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bar.add_task(progress.phase, total=progress.steps, note="")
            loss = progress.loss.get("total")
            note = "" if loss is None else f"loss {loss:.3f}"
            if progress.ap50 is not None:
                note += f"  AP50 {100 * progress.ap50:.1f} %"
            bar.update(tasks[progress.phase], completed=progress.step,
                       note=f"{note}  {progress.images_per_s:.1f} images/s")

        result = run(
            TrainOptions(target, str(chosen.config), chosen.data, chosen.cache, seed=chosen.seed,
                         **given), show,
        )
    console = Console()
    for name, measured in (("float", result.float_ap), ("quantised", result.qat_ap)):
        if measured is not None and measured["ap50"] is not None:
            console.print(f"{name}: AP50 {100 * measured['ap50']:.1f} %")
    console.print(f"checkpoint: {result.checkpoint}", soft_wrap=True)
