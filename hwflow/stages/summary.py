# SPDX-License-Identifier: Apache-2.0
"""Stage report: the numbers of all stages in report.json, and the page people look at."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hwflow
from hwflow.build import Context, Outcome, Record
from hwflow.fingerprint import source_files
from hwflow.plan import write_atomic
from hwflow.report import schema
from hwflow.stages import accuracy, unseen
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import read_json


def report(ctx: Context) -> Outcome:
    """report.json, always; report.html when anything on it changed."""
    content = collect(ctx)
    schema.write(content, ctx.run / "report.json")
    digest = page_digest(ctx, content)
    stamp, page = ctx.run / ".stamps" / "page", ctx.run / "report.html"
    if not (page.is_file() and stamp.is_file() and stamp.read_text() == digest):
        stamp.unlink(missing_ok=True)
        ctx.say("drawing report.html")
        from hwflow.report import page as pages

        write_atomic(page, pages.render(content, extras(ctx)).encode())
        write_atomic(stamp, digest.encode())
    return Outcome("report.json, report.html")


def page_digest(ctx: Context, content: schema.Report) -> str:
    """What decides the page: the numbers, the photographs, the code; not how long it took."""
    dump = content.model_dump(mode="json")
    for row in dump["stages"]:
        row["seconds"] = 0
        row["status"] = "done" if row["status"] == "cached" else row["status"]
    parts = [json.dumps(dump, sort_keys=True)]
    folder = Path(hwflow.__file__).parent / "report"
    files = sorted(source_files(("hwflow.report.page",))) + sorted(folder.glob("templates/*"))
    files += [path for path in [ctx.folder("sim") / "frames.npz"] if path.is_file()]
    for path in files:
        parts.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def extras(ctx: Context) -> dict[str, Any]:
    """What the page shows beside the report: photographs, boxes, details of the stages."""
    shown: dict[str, Any] = {"made": {r.name: r.made for r in ctx.records.values() if r.made}}
    if ctx.made("sim") and (ctx.folder("sim") / "frames.npz").is_file():
        from hwflow.report import photographs

        shown["frames"] = photographs.read(ctx.run, annotated=ctx.options.file is None)
    return shown


def collect(ctx: Context) -> schema.Report:
    """The report of what the stages of this build left, and of why the rest is missing."""
    options: BuildOptions = ctx.options
    rows = [
        schema.StageRow(
            name=r.name, status=r.status, seconds=round(r.seconds, 3),  # type: ignore[arg-type]
            reason=r.reason,
        )
        for r in ctx.records.values()
    ]
    sim = _result(ctx, "sim", "result.json")
    resources, timing = _hardware(ctx)
    return schema.Report(
        schema_=1,
        model=str(options.file) if options.file else options.model,
        config=options.size,
        board=options.board,
        data=_data(ctx),
        hwflow_version=hwflow.__version__,
        git=git_commit(Path(hwflow.__file__).resolve().parents[1]),
        stages=rows,
        accuracy=_accuracy(ctx),
        verify=schema.Verify(
            qonnx=_images(ctx, "verify", "qonnx.json", "main"),
            hls=_images(ctx, "hls", "result.json", None),
            rtl=schema.FramesChecked(
                frames=sim["frames"], mismatches=sim["mismatches"], tool=sim["performance"]["tool"]
            ) if sim else schema.FramesChecked(reason=why_not(ctx, "sim")),
        ),
        performance=schema.Performance(**sim["performance"]) if sim
        else schema.Performance(reason=why_not(ctx, "sim")),
        layers=[schema.Layer(**row) for row in sim["layers"]] if sim else [],
        resources=resources,
        timing=timing,
        tree=_tree(ctx),
        bitstream=_bitstream(ctx),
    )


def why_not(ctx: Context, stage: str) -> str:
    """Why a stage left no number in this build."""
    record: Record | None = ctx.records.get(stage)
    if record is None:
        return f"the stage {stage} has not run"
    return f"stage {stage} {record.status}: {record.reason}"


def _result(ctx: Context, stage: str, file: str) -> dict[str, Any] | None:
    return read_json(ctx.folder(stage) / file) if ctx.made(stage) else None


def _data(ctx: Context) -> schema.Data:
    found = _result(ctx, "data", "provenance.json")
    spec = "random" if ctx.options.file else ctx.options.data
    if ctx.options.inputs is not None:
        spec = f"inputs:{ctx.options.inputs.name}"
    if found is None:
        return schema.Data(spec=spec, source=None, sha256=None, bytes=None, classes=None,
                           reason=why_not(ctx, "data"))
    missing = None if found["sha256"] else "this source has no single file to check"
    return schema.Data(
        spec=spec, source=found["source"], sha256=found["sha256"] or None, bytes=found["bytes"],
        classes=found["classes"], reason=missing,
    )


def _accuracy(ctx: Context) -> schema.Accuracy:
    if ctx.options.file is not None:
        return _accuracy_of_file(ctx)
    found = _result(ctx, "train", "metrics.json")
    if found is None:
        return schema.Accuracy(reason=why_not(ctx, "train"))
    names = schema.Accuracy.model_fields
    numbers = {key: value for key, value in found.items() if key in names}
    smaller = unseen.said(ctx)
    if smaller is not None:
        numbers |= {
            "metric": f"{found['metric']} with statistical don't-cares",
            "value": smaller["value"],
            "dataset": f"{found['dataset']}; {smaller['free']:,} of {smaller['addresses']:,} "
            f"addresses of tables are free because none of {smaller['samples']:,} training samples "
            f"goes there, {100 * smaller['exact']:.2f} % without",
        }
    tool = None if found.get("value") is None else _versions("torch", "brevitas")
    return schema.Accuracy(**numbers, tool=tool)


def _accuracy_of_file(ctx: Context) -> schema.Accuracy:
    """Of the integer graph, on the labelled vectors that came with the file."""
    found = _if_there(ctx, "verify", accuracy.FILE)
    if found is not None:
        names = schema.Accuracy.model_fields
        return schema.Accuracy(**{key: value for key, value in found.items() if key in names})
    if ctx.made("verify"):
        return schema.Accuracy(reason="a QONNX file is built without labels; --inputs takes an npz "
                                      "with `labels`, the number of the right class of each vector")
    return schema.Accuracy(reason=why_not(ctx, "verify"))


def _versions(*tools: str) -> str:
    """Distributions with their versions; those of a cached stage too, whose key has them."""
    return ", ".join(f"{tool} {importlib.metadata.version(tool)}" for tool in tools)


def _compiler(ctx: Context) -> str | None:
    """The compiler of the C++ and its version, from the stamp of that plan."""
    path = ctx.folder("hls") / ".hls-csim.stamp.json"
    if not path.is_file():
        return None
    line = read_json(path)["versions"].get("g++", "").split()
    return f"g++ {line[-1]}" if line else None


def _images(ctx: Context, stage: str, file: str, key: str | None) -> schema.ImagesChecked:
    found = _result(ctx, stage, file)
    record, path = ctx.records.get(stage), ctx.folder(stage) / file
    reason = None
    if found is None and record is not None and record.status == "failed" and record.made:
        # It measured before it failed: what differs is counted, never left open.
        found, reason = (read_json(path) if path.is_file() else None), record.reason
    if found is None:
        return schema.ImagesChecked(reason=why_not(ctx, stage))
    row = found[key] if key else found
    tool: str | None = _versions("qonnx", "onnxruntime")
    if stage == "hls":
        tool = row.get("tool") or _compiler(ctx)
    return schema.ImagesChecked(images=row["images"], mismatches=row["mismatches"], tool=tool,
                                reason=reason)


def _left(ctx: Context, stage: str, file: str) -> dict[str, Any] | None:
    """A result of a stage that may leave files although it is marked as skipped."""
    record = ctx.records.get(stage)
    path = ctx.folder(stage) / file
    if record is None or record.status == "failed" or not path.is_file():
        return None
    stamped = (ctx.run / ".stamps" / f"{stage}.json").is_file()
    return read_json(path) if stamped and record.made else None


def _hardware(ctx: Context) -> tuple[schema.Resources, schema.Timing]:
    routed: Mapping[str, Any] = _left(ctx, "bitstream", "result.json") or {}
    timing = schema.Timing(reason=f"no place and route: {why_not(ctx, 'bitstream')}")
    if routed.get("timing"):
        timing = schema.Timing(**routed["timing"])
    elif (before := _if_there(ctx, "synth", "timing.json")) is not None:
        timing = schema.Timing(kind="pre-route estimate", tool="hwflow (docs/timing.md)",
                               fmax_mhz=before["fmax_mhz"])
    if routed.get("resources"):
        return schema.Resources(**routed["resources"]), timing
    found = _if_there(ctx, "synth", "resources.json")
    if found is None:
        return schema.Resources(reason=why_not(ctx, "synth")), timing
    return schema.Resources(**found), timing


def _if_there(ctx: Context, stage: str, file: str) -> dict[str, Any] | None:
    """A file that a stage leaves for some boards only."""
    return _result(ctx, stage, file) if (ctx.folder(stage) / file).is_file() else None


def _tree(ctx: Context) -> schema.Tree | None:
    """The parts of a network of tables; None for the engine, which has none."""
    if ctx.options.backend != "tables":
        return None
    found = _if_there(ctx, "synth", "tree.json")
    return schema.Tree(**found) if found else schema.Tree(reason=why_not(ctx, "synth"))


def _bitstream(ctx: Context) -> schema.Bitstream:
    record = ctx.records.get("bitstream")
    found = _left(ctx, "bitstream", "result.json")
    if record is not None and record.status == "failed":
        return schema.Bitstream(status="failed", reason=record.reason)
    if found is None or not found.get("path"):
        return schema.Bitstream(status="skipped", reason=why_not(ctx, "bitstream"))
    return schema.Bitstream(path=f"bitstream/{found['path']}", status="done")


def git_commit(root: Path) -> str | None:
    """Commit of the checkout hwflow runs from, read from its files; None outside of one."""
    folder = root / ".git"
    try:
        if folder.is_file():  # a linked working tree
            folder = (root / folder.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        common = folder / "commondir"
        base = (folder / common.read_text().strip()).resolve() if common.is_file() else folder
        if (base / name).is_file():
            return (base / name).read_text().strip()
        for line in (base / "packed-refs").read_text().splitlines():
            commit, _, ref = line.partition(" ")
            if ref == name:
                return commit
    except OSError:
        return None
    return None
