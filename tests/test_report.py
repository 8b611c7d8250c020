# SPDX-License-Identifier: Apache-2.0
"""report.json has the schema or is refused; the page holds everything and says what is missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hwflow.errors import ConfigError
from hwflow.report import page, schema, terminal
from hwflow.stages.summary import git_commit

TOOL = {"kind": "measured in simulation", "tool": "Verilator 5.48.0"}
LAYERS = [
    {"name": "layer0.conv", "op": "conv", "cycles": 900, "ideal_cycles": 800, "macs": 300_000,
     "ddr_bytes": 4_000},
    {"name": "layer1.dw", "op": "dw", "cycles": 100, "ideal_cycles": 90, "macs": 4_000,
     "ddr_bytes": 100},
    {"name": "end", "op": "end", "cycles": 0, "ideal_cycles": 0, "macs": 0, "ddr_bytes": 32},
]


def content(**changes: object) -> dict:
    """A report as plain JSON, by hand in the words of the schema."""
    report = {
        "schema": 1, "model": "codenet", "config": "b", "board": "pynq-z2",
        "data": {"spec": "trees", "source": "somewhere", "sha256": "ab" * 32, "bytes": 10,
                 "classes": ["Tree"], "reason": None},
        "hwflow_version": "0.1.0", "git": None,
        "stages": [
            {"name": "sim", "status": "done", "seconds": 1.5, "reason": None},
            {"name": "bitstream", "status": "skipped", "seconds": 0.1,
             "reason": "vivado not found"},
        ],
        "accuracy": {"metric": "AP50", "value": 0.5, "float_value": 0.51, "dataset": "trees",
                     "images": 56, "reason": None},
        "verify": {
            "qonnx": {"images": 8, "mismatches": 0, "reason": None},
            "hls": {"images": 8, "mismatches": 0, "reason": None},
            "rtl": {"frames": 3, "mismatches": 0, "reason": None},
        },
        "performance": {**TOOL, "cycles_per_frame": 1000, "clock_mhz": 150.0, "fps": 150_000.0,
                        "macs_per_frame": 304_000, "mac_utilisation": 0.7,
                        "ddr_bytes_per_frame": 4_132, "reason": None},
        "layers": LAYERS,
        "resources": {"kind": "post-synthesis estimate", "tool": "Yosys 0.70",
                      "lut": {"used": 16_298, "available": 53_200},
                      "ff": {"used": 24_930, "available": 106_400},
                      "bram36": {"used": 106.5, "available": 140},
                      "dsp": {"used": 193, "available": 220}, "other": {}, "reason": None},
        "timing": {"kind": None, "tool": None, "fmax_mhz": None, "reason": "vivado not found"},
        "power": {"kind": None, "tool": None, "total_w": None, "dynamic_w": None,
                  "static_w": None, "confidence": None, "reason": "no stage estimates power"},
        "bitstream": {"path": None, "status": "skipped", "reason": "vivado not found"},
    }
    return {**report, **changes}


def write(tmp_path: Path, report: object) -> Path:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    return path


def test_the_schema_is_that_of_the_design(tmp_path: Path) -> None:
    report = schema.read(write(tmp_path, content()))
    schema.write(report, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == content()


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("performance", "fps"), None, "null number needs a reason"),
        (("accuracy", "value"), None, "null number needs a reason"),
        (("verify", "rtl", "mismatches"), None, "null number needs a reason"),
        (("bitstream", "reason"), None, "null number needs a reason"),
        (("power", "reason"), None, "null number needs a reason"),
        (("resources", "lut", "available"), None, "null number needs a reason"),
        (("stages", 1, "reason"), None, "skipped without a reason"),
        (("stages", 0, "status"), "ok", "stages.0.status"),
        (("performance", "kind"), "guessed", "performance.kind"),
        (("performance", "fps"), "150", "performance.fps"),
        (("verify", "rtl", "frames"), -1, "verify.rtl.frames"),
        (("extra",), 1, "extra"),
        (("schema",), 2, "schema"),
    ],
)
def test_what_breaks_the_schema(
    tmp_path: Path, where: tuple, value: object, message: str
) -> None:
    report = content()
    target = report
    for key in where[:-1]:
        target = target[key]
    target[where[-1]] = value
    with pytest.raises(ConfigError, match=re.escape(message)):
        schema.read(write(tmp_path, report))


@pytest.mark.parametrize("key", sorted(content().keys() - {"power"}))  # power came later
def test_every_key_is_needed(tmp_path: Path, key: str) -> None:
    report = content()
    del report[key]
    with pytest.raises(ConfigError, match=key):
        schema.read(write(tmp_path, report))


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_unreadable_reports(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"report\.json"):
        schema.read(path)
    with pytest.raises(ConfigError, match="hwflow build"):
        schema.read(tmp_path / "none.json")


class Tags(HTMLParser):
    """Checks that tags nest, and collects what loads from elsewhere."""

    VOID = frozenset({"meta", "img", "br", "path", "use", "rect", "circle", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.seen: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.links += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def frames() -> list[dict[str, np.ndarray]]:
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    return [{"image": image, "boxes": np.array([[4.0, 5, 30, 40]]), "scores": np.array([0.8]),
             "truth": np.array([[3.0, 4, 31, 41]])}]


def test_the_page_is_whole_and_self_contained(tmp_path: Path) -> None:
    report = schema.read(write(tmp_path, content()))
    extras = {"frames": frames(), "made": {"sim": "3 frames <all equal>"}}
    text = page.render(report, extras)
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert tags.seen["svg"] == 4
    assert tags.seen["img"] == 1
    assert all(link.startswith(("data:", "#")) for link in tags.links)
    assert "3 frames &lt;all equal&gt;" in text
    for shown in ("150000.0", "0 / 0 / 0", "50.0 %", "31 % LUT", "vivado not found",
                  "post-synthesis estimate", "Verilator 5.48.0", "layer0.conv", "16,298"):
        assert shown in text, shown


def test_the_page_is_the_same_every_time(tmp_path: Path) -> None:
    report = schema.read(write(tmp_path, content()))
    assert page.render(report, {"frames": frames()}) == page.render(report, {"frames": frames()})


def test_the_page_of_a_build_that_failed_early(tmp_path: Path) -> None:
    why = "stage sim skipped: the stage hls failed"
    nothing = {"kind": None, "tool": None, "reason": why}
    report = schema.read(write(tmp_path, content(
        stages=[{"name": "hls", "status": "failed", "seconds": 1.0, "reason": "g++ <missing>"}],
        accuracy=dict.fromkeys(content()["accuracy"], None) | {"reason": why},
        performance=dict.fromkeys(content()["performance"], None) | nothing,
        resources=dict.fromkeys(content()["resources"], None) | nothing | {"other": {}}, layers=[],
        verify={k: dict.fromkeys(v, None) | {"reason": why}
                for k, v in content()["verify"].items()},
    )))
    text = page.render(report, {})
    assert "<svg" not in text
    assert "g++ &lt;missing&gt;" in text
    assert text.count("not measured") == 4


def shown(table: object, width: int = 160) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(table)
    return console.export_text()


def test_terminal_table_and_difference(tmp_path: Path) -> None:
    a = schema.read(write(tmp_path, content()))
    text = shown(terminal.numbers(a))
    assert "16,298 of 53,200" in text
    assert "not measured" in text  # the clock: no place and route
    other = content()
    other["performance"] = {**other["performance"], "cycles_per_frame": 1100}
    other["resources"] = {**other["resources"], "kind": "post-route"}
    b = schema.read(write(tmp_path, other))
    text = shown(terminal.difference(a, b))
    assert re.search(r"cycles per frame.*1,000.*1,100.*\+100 \(\+10\.0 %\)", text)
    assert re.search(r"LUT.*post-synthesis estimate beside post-route", text)


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80])
def test_no_number_is_cut_off(tmp_path: Path, width: int) -> None:
    long = content()
    long["accuracy"] = {**long["accuracy"], "value": 0.18162545774718347}
    report = schema.read(write(tmp_path, long))
    for table in (terminal.numbers(report), terminal.difference(report, report)):
        assert "…" not in shown(table, width)


def test_git_commit_of_files(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert git_commit(tmp_path) is None
    (git / "packed-refs").write_text("# pack-refs\n" + "1" * 40 + " refs/heads/main\n")
    assert git_commit(tmp_path) == "1" * 40
    (git / "refs/heads/main").write_text("2" * 40 + "\n")
    assert git_commit(tmp_path) == "2" * 40
    (git / "HEAD").write_text("3" * 40 + "\n")
    assert git_commit(tmp_path) == "3" * 40
