# SPDX-License-Identifier: Apache-2.0
"""report.json has the schema or is refused; the page holds everything and says what is missing."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from rich.console import Console

from hwflow.errors import ConfigError
from hwflow.report import compare, figures, page, schema, terminal
from hwflow.report.schema import Layer
from hwflow.stages.summary import git_commit
from tests import reports

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
        (("resources", "lut", "used"), -5, "resources.lut.used"),
        (("resources", "bram36", "available"), -0.5, "resources.bram36.available"),
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

    VOID = frozenset({"meta", "img", "br", "input"})

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


def read(tmp_path: Path, report: dict) -> schema.Report:
    return schema.read(write(tmp_path, report))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queue": "array"}, "belong together"),
        ({"start_cycle": 1, "end_cycle": 2}, "belong together"),
        ({"queue": "array", "start_cycle": 5, "end_cycle": 4}, "before it starts"),
        ({"queue": "gpu", "start_cycle": 0, "end_cycle": 4}, "layers.0.queue"),
    ],
)
def test_a_layer_is_placed_wholly_or_not(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(tmp_path, content(layers=[{**LAYERS[0], **change}]))


def test_the_queue_of_a_layer_is_kept(tmp_path: Path) -> None:
    rows = [{**LAYERS[0], "queue": "lanes", "start_cycle": 0, "end_cycle": 900}, LAYERS[1]]
    schema.write(read(tmp_path, content(layers=rows)), tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["layers"] == rows


def test_the_tool_of_a_check_is_kept(tmp_path: Path) -> None:
    checked = {"tool": "g++ 12.2.0", "images": 8, "mismatches": 0, "reason": None}
    report = read(tmp_path, content(verify={**content()["verify"], "hls": checked}))
    schema.write(report, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["verify"]["hls"] == checked


def layer(name: str, op: str, cycles: int, start: int | None = None, **more: object) -> Layer:
    """By hand; with a start it runs in the queue "lanes" if it is depthwise, else in the array."""
    placed = {} if start is None else {
        "queue": "lanes" if op == "dw" else "array", "start_cycle": start,
        "end_cycle": start + cycles,
    }
    rest = {"ideal_cycles": cycles // 2, "macs": 0, "ddr_bytes": 0}
    return Layer(name=name, op=op, cycles=cycles, **{**rest, **placed, **more})


def test_one_track_in_the_order_of_the_layers() -> None:
    line = figures.timeline([layer("a", "pw", 60), layer("b", "dw", 20)], 100, 50.0)
    assert [(track.name, track.busy) for track in line.tracks] == [("engine", 80.0)]
    assert [(bar.x, bar.width) for bar in line.tracks[0].bars] == [(0, 60), (60, 20)]
    assert line.overlap is None
    assert [(tick.at, tick.text, tick.more) for tick in line.ticks[:2]] == [
        (0, "0", "0 ms"), (20, "20", "0.0004 ms")]
    assert [(share.op, share.percent) for share in line.shares] == [("pw", 75), ("dw", 25)]


def test_two_tracks_that_overlap() -> None:
    rows = [layer("a", "pw", 60, 0), layer("b", "dw", 40, 40), layer("c", "pw", 100, 100),
            layer("d", "dw", 50, 110), layer("e", "load", 7), layer("f", "dw", 0, 0)]
    line = figures.timeline(rows, 200, None, span=400)
    assert [(track.name, track.busy, len(track.bars)) for track in line.tracks] == [
        ("array", 80.0, 2), ("lanes", 45.0, 2)]
    assert line.overlap == 35.0  # cycles 40 to 60 and 110 to 160 of 200
    assert line.unplaced == 1
    assert line.width == 50.0  # of the drawing, which another run fills
    assert (line.tracks[1].bars[1].x, line.tracks[1].bars[1].width) == (27.5, 12.5)


def test_a_layer_in_turns_is_drawn_turn_by_turn() -> None:
    """A layer made piece by piece leaves its queue to others in between."""
    rows = [layer("a", "pw", 30, 0, end_cycle=80, spans=[[0, 10], [40, 50], [70, 80]]),
            layer("b", "pw", 30, 10, end_cycle=40, spans=[[10, 40]]),
            layer("c", "dw", 50, 0, end_cycle=100, spans=[[0, 20], [70, 100]])]
    line = figures.timeline(rows, 100, None)
    array, lanes = line.tracks
    assert [(bar.name, bar.x, bar.width) for bar in array.bars] == [
        ("a", 0, 10), ("a", 40, 10), ("a", 70, 10), ("b", 10, 30)]
    assert (array.busy, array.layers, lanes.busy, lanes.layers) == (60, 2, 50, 1)
    assert line.overlap == 30  # cycles 0 to 20 and 70 to 80
    assert "one of 3 turns" in array.bars[0].tip
    assert "turns" not in array.bars[3].tip
    close = [layer("a", "pw", 9_999, 0, end_cycle=10_000, spans=[[0, 5_000], [5_001, 10_000]])]
    assert len(figures.timeline(close, 10_000, None).tracks[0].bars) == 1  # nobody sees the gap


@pytest.mark.parametrize(
    ("spans", "message"),
    [([[0, 50], [40, 80]], "no turns"), ([[0, 50], [80, 60]], "no turns"), ([[0]], "no turns"),
     ([], "no turns"), ([[0, 70]], "end_cycle 80"), ([[5, 80]], "start_cycle is 0")],
)
def test_turns_that_cannot_be(spans: list[list[int]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        layer("a", "pw", 60, 0, end_cycle=80, spans=spans)


def test_roofline_places() -> None:
    rows = [layer("a", "pw", 100, macs=10_000, ddr_bytes=100),
            layer("b", "dw", 100, macs=100, ddr_bytes=1_000)]
    roof = figures.roofline(rows, 200, 1000, 10.0)
    assert roof is not None
    fast, slow = roof.points
    assert fast.x > roof.whole.x > slow.x
    assert fast.y < roof.whole.y < slow.y  # downwards
    # a: 100 MACs a byte is the ridge, 100 of 1000 MACs a cycle; b: 0.1 a byte, 1 of 1 a cycle
    assert "10 % of its roof" in fast.tip
    assert "100 % of its roof" in slow.tip
    (left, _), (ridge, top), (right, end) = roof.roof
    assert left < slow.x < ridge == pytest.approx(fast.x)
    assert (right, end) == (100, top)
    share = (slow.x - left) / (ridge - left)  # b touches the roof of the DDR
    assert slow.y == pytest.approx(roof.roof[0][1] + share * (top - roof.roof[0][1]))
    assert figures.roofline([layer("a", "pool", 9)], 9, 1000, 10.0) is None


def test_losses_are_those_above_the_bound() -> None:
    rows = [layer("a", "pw", 100), layer("b", "pw", 10), layer("c", "pw", 80, ideal_cycles=80),
            layer("d", "pw", 300, ideal_cycles=20), layer("e", "pw", 4)]
    assert [found.name for found in figures.losses(rows)] == ["d", "a", "b"]
    assert [(cost.name, cost.measured) for cost in figures.costs(rows, 2)] == [
        ("d", 100.0), ("a", pytest.approx(100 / 3))]


def test_changes_of_layers() -> None:
    before = [layer("a", "pw", 100), layer("b", "pw", 100), layer("c", "pw", 100)]
    after = [layer("a", "pw", 110), layer("b", "pw", 80), layer("c", "pw", 100),
             layer("new", "pw", 9)]
    assert [(row.name, row.text, row.x, row.width, row.worse)
            for row in figures.changes(before, after)] == [
        ("b", "-20, -20.0 %", 0.0, 50.0, False), ("a", "+10, +10.0 %", 50.0, 25.0, True)]


@pytest.mark.parametrize(("scores", "least"), [
    ([0.9, 0.31, 0.3, 0.2], 0.3), ([0.2, 0.1], 0.1), ([], 0.3),
    ([n / 100 for n in range(25)], 0.15),
])
def test_which_boxes_show_at_first(scores: list[float], least: float) -> None:
    count = len(scores)
    photo = figures.annotate(np.zeros((3, 8, 8), np.uint8), np.zeros((count, 4)), np.array(scores))
    assert photo.least == least
    assert photo.shown == min(sum(score >= least for score in scores), count)


def test_the_photograph_is_kept_pixel_for_pixel() -> None:
    frame = reports.frames(1)[0]
    photo = figures.annotate(**frame)
    with Image.open(io.BytesIO(base64.b64decode(photo.png))) as opened:
        assert np.array_equal(np.asarray(opened).transpose(2, 0, 1), frame["image"])
    assert photo.found[0] == figures.Box(4, 5, 26, 35, 0.8)
    assert photo.truth == (figures.Box(3, 4, 28, 37),)


def test_boxes_are_drawn_into_a_picture() -> None:
    image = np.zeros((3, 32, 64), np.uint8)
    boxes, scores = np.array([[4.0, 5, 20, 25], [30, 2, 60, 30]]), np.array([0.9, 0.1])
    drawn = figures.photograph(image, boxes, scores, np.array([[40.0, 4, 50, 12]]))
    with Image.open(io.BytesIO(base64.b64decode(drawn["png"]))) as opened:
        pixels = np.asarray(opened)
    assert pixels.shape == (384, 768, 3)
    assert tuple(pixels[25 * 12, 10 * 12]) == (0x00, 0xE6, 0x76)  # lower edge of the first box
    assert tuple(pixels[4 * 12, 45 * 12]) == (255, 255, 255)  # upper edge of the annotated one
    assert not pixels[20 * 12, 30 * 12:].any()  # no second box: its score is too small
    assert drawn["caption"].startswith("1 boxes")
    assert figures.photograph(image, boxes, scores, least=0.05)["caption"].startswith("2 boxes")
    assert figures.photograph(image, boxes, scores, least=0.95)["caption"].startswith("0 boxes")


@pytest.mark.parametrize("peak", [1, 383, 432, 528, 999])
@pytest.mark.parametrize("utilisation", [0.1, 0.3123, 0.9999])
def test_the_engine_that_ran_is_in_the_report(peak: int, utilisation: float) -> None:
    macs = round(utilisation * peak * 1_000_000)
    speed = schema.Performance(
        kind="measured in simulation", tool="x", cycles_per_frame=1_000_000, clock_mhz=1.0, fps=1.0,
        macs_per_frame=macs, mac_utilisation=round(macs / (1_000_000 * peak), 4),
        ddr_bytes_per_frame=0,
    )
    assert page.peak_macs(speed) == peak
    assert page.peak_macs(schema.Performance(reason="none")) is None


def test_the_page_is_whole_and_self_contained(tmp_path: Path) -> None:
    report = read(tmp_path, reports.run())
    extras = {"frames": reports.frames(), "made": {"sim": "3 frames <all equal>"}}
    text = page.render(report, extras)
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert tags.seen["figure"] == 6  # two photographs, timeline, costs, roofline, resources
    assert tags.seen["img"] == 2
    assert all(link.startswith(("data:", "#")) for link in tags.links)
    assert "3 frames &lt;all equal&gt;" in text
    for shown in ("0 mismatches", "50.0 %", "31 % LUT", "vivado not found",
                  "post-synthesis estimate", "5.48.0", "stem.conv", "16,298"):
        assert shown in text, shown


def test_every_number_has_its_origin(tmp_path: Path) -> None:
    verify = {**content()["verify"], "hls": {"tool": "g++ 12.2.0", "images": 8, "mismatches": 0,
                                             "reason": None}}
    text = page.render(read(tmp_path, content(verify=verify)), {})
    table = text[text.index('<table id="origins0"'):]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row)
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table)]
    found = {row[0]: row[1:] for row in rows if len(row) == 6}
    assert found["HLS C++: images"] == ["verification", "8", "g++", "12.2.0", "counted"]
    assert found["LUT"] == ["resources", "16,298 of 53,200 (31 %)", "Yosys", "0.70",
                            "post-synthesis estimate"]
    assert found["cycles a frame"] == ["speed", "1,000", "Verilator", "5.48.0",
                                       "measured in simulation"]
    assert found["clock, MHz"] == ["speed", "150.0", "board file of hwflow", "0.1.0",
                                   "set for the board, not measured"]
    assert found["Fmax, MHz"] == ["timing", "null", "", "", "vivado not found"]
    assert found["QONNX: images"][3] == "not recorded"


def test_the_page_is_the_same_every_time(tmp_path: Path) -> None:
    report = read(tmp_path, reports.run(queued=True))
    extras = {"frames": reports.frames()}
    assert page.render(report, extras) == page.render(report, extras)


def failed() -> dict:
    """A build whose third stage failed: nothing was measured."""
    why = "stage sim skipped: the stage hls failed"
    nothing = {"kind": None, "tool": None, "reason": why}
    return content(
        stages=[{"name": "hls", "status": "failed", "seconds": 1.0, "reason": "g++ <missing>"}],
        accuracy=dict.fromkeys(content()["accuracy"], None) | {"reason": why},
        performance=dict.fromkeys(content()["performance"], None) | nothing,
        resources={"lut": None, "ff": None, "bram36": None, "dsp": None} | nothing, layers=[],
        verify={k: dict.fromkeys(v, None) | {"reason": why}
                for k, v in content()["verify"].items()},
    )


def test_the_page_of_a_build_that_failed_early(tmp_path: Path) -> None:
    text = page.render(read(tmp_path, failed()), {})
    assert "<svg" not in text
    assert "g++ &lt;missing&gt;" in text
    assert text.count("not measured") == 5
    assert text.count("not checked") == 3


def test_mismatches_are_shown(tmp_path: Path) -> None:
    verify = {**content()["verify"], "hls": {"images": 8, "mismatches": 1234, "reason": None}}
    text = page.render(read(tmp_path, content(verify=verify)), {})
    assert re.search(r'class="proof bad"><p>HLS C\+\+</p><b>1,234 mismatches', text)


def test_a_board_without_a_file_has_no_roofs(tmp_path: Path) -> None:
    text = page.render(read(tmp_path, reports.run(board="elsewhere")), {})
    assert 'id="timeline"' in text
    assert 'id="roofline"' not in text
    assert "elsewhere" in text


def differences(text: str) -> dict[str, list[str]]:
    table = text[text.index('<table id="differences"'):]
    table = table[:table.index("</table>")]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall("<tr.*</tr>", table)]
    return {row[0]: row[1:] for row in rows if row}


def test_two_runs_beside_each_other(tmp_path: Path) -> None:
    a = read(tmp_path, content())
    other = content()
    other["performance"] = {**other["performance"], "cycles_per_frame": 1100}
    other["layers"] = [{**LAYERS[0], "cycles": 1000}, *LAYERS[1:]]
    other["resources"] = {**other["resources"], "kind": "post-route", "tool": "Vivado 2024.1"}
    other["accuracy"] = {"reason": "no test images"}
    b = read(tmp_path, other)
    text = page.compare([page.Run("old", a), page.Run("<new>", b)])
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    rows = differences(text)
    assert rows["cycles a frame"] == ["numbers", "1,000", "1,100", "+100", "+10.0 %", ""]
    assert rows["frames a second"] == ["numbers", "150,000", "150,000", "0", "0 %", ""]
    assert rows["LUT"][1:3] == ["16,298", "16,298"]
    assert "post-synthesis estimate (Yosys 0.70)" in rows["LUT"][-1]
    assert "post-route (Vivado 2024.1)" in rows["LUT"][-1]
    assert rows["accuracy"] == ["numbers", "0.5", "null", "", "", "B: no test images"]
    assert compare.TITLES["fmax"] not in rows
    assert f"in no run: {compare.TITLES['fmax']}" in text
    assert "B: &lt;new&gt;" in text
    assert "different kinds of numbers" in text
    assert "layer0.conv: +100, +11.1 %" in text
    assert 'id="limits"' not in text
    with pytest.raises(ConfigError, match="at least one report"):
        page.compare([])


def test_broken_limits_come_first(tmp_path: Path) -> None:
    run = page.Run("run", read(tmp_path, content()))
    text = page.compare([run, run], ["cycles > <limit>"], limits=2)
    assert "1 of 2 limits broken" in text
    assert text.index("cycles &gt; &lt;limit&gt;") < text.index('class="cards"')
    assert "All limits hold (2)" in page.compare([run, run], limits=2)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2.1 defines it."""
    parts = [int(colour[n:n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(dark: bool) -> None:
    css = (Path(page.__file__).parent / "templates" / "report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours: dict[str, str] = {}
    for block in blocks[: 1 + dark]:
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    for text in ("ink", "soft", "accent", "good", "warn", "bad"):
        for ground in ("paper", "wash"):
            assert contrast(text, ground) >= 4.5, (text, ground)
    for text in ("head-ink", "head-soft"):
        assert contrast(text, "head") >= 4.5, text
    for op in (*figures.OPS, "other"):
        assert contrast(f"op-{op}", "on-bar") >= 4.5, op
        assert contrast(f"op-{op}", "paper") >= 3, op


def shown(table: object, width: int = 160) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(table)
    return console.export_text()


def test_terminal_table(tmp_path: Path) -> None:
    text = shown(terminal.numbers(schema.read(write(tmp_path, content()))))
    assert "16,298 of 53,200" in text
    assert "not measured" in text  # the clock: no place and route


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80])
def test_no_number_is_cut_off(tmp_path: Path, width: int) -> None:
    long = content()
    long["accuracy"] = {**long["accuracy"], "value": 0.18162545774718347}
    report = schema.read(write(tmp_path, long))
    assert "…" not in shown(terminal.numbers(report), width)


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
