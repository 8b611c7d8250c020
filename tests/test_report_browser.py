# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: from disk, without network, on a screen, a phone and paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwflow.report import page as pages
from hwflow.report import schema
from tests import chromium, reports

CHROMIUM = chromium.find()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium: install chromium or google-chrome, or name one in CHROMIUM",
)
NAMES = ("one", "queued", "failed", "two", "foreign")
A4_TEXT_PX = (186 * 96 / 25.4, 269 * 96 / 25.4)  # of the style sheet's page, without its margins


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.browser(str(CHROMIUM), tmp_path_factory.mktemp("chromium") / "profile") as page:
        yield page


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run, one with two queues, one that failed early, two compared, one of another board."""
    folder = tmp_path_factory.mktemp("pages with a space")

    def load(**changes: object) -> schema.Report:
        path = folder / "report.json"
        path.write_text(json.dumps(reports.run(**changes)))
        return schema.read(path)

    why = "stage sim skipped: the stage hls failed"
    nothing = {"reason": why}
    failed = load(
        accuracy=nothing, performance=nothing, resources=nothing, layers=[],
        verify={"qonnx": nothing, "hls": nothing, "rtl": nothing},
        stages=[{"name": "hls", "status": "failed", "seconds": 1.0, "reason": "x" * 200}],
    )
    other = reports.layers(queued=True)
    other[1]["cycles"] += 1_000
    extras = {"frames": reports.frames(3), "made": {"sim": "3 frames </script> <b>equal</b>"}}
    texts = {
        "one": pages.render(load(), extras),
        "queued": pages.render(load(queued=True), extras),
        "failed": pages.render(failed, {}),
        "two": pages.compare([
            pages.Run("a" * 40, load(), extras),
            pages.Run("two queues", load(queued=True, layers=other), extras),
            pages.Run("failed", failed),
        ]),
        "foreign": pages.render(load(board="a-board-that-has-no-file"), {}),
    }
    paths = {name: folder / f"{name}.html" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text, encoding="utf-8")
    return paths


def complaints(page: chromium.Page) -> list[dict]:
    """What the browser has on its console, exceptions and blocked things among it."""
    kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    return [event for event in page.events if event["method"] in kinds]


def requests(page: chromium.Page) -> list[str]:
    return [
        event["params"]["request"]["url"] for event in page.events
        if event["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_loads_from_disk_alone(
    browser: chromium.Page, files: dict[str, Path], name: str
) -> None:
    browser.open(files[name])
    assert browser.run("document.readyState") == "complete"
    assert not complaints(browser)
    elsewhere = [url for url in requests(browser) if not url.startswith("data:")]
    assert elsewhere == [files[name].as_uri()]


def test_the_complaints_and_requests_would_be_seen(browser: chromium.Page, tmp_path: Path) -> None:
    """The check above can fail: a page that complains and asks for something."""
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='none.png'><script>console.error('x'); throw new Error('y')</script>")
    browser.open(bad)
    assert len(complaints(browser)) >= 2
    assert (tmp_path / "none.png").as_uri() in requests(browser)


@pytest.mark.parametrize(
    ("name", "sections", "drawings"),
    [
        ("one", {"photographs", "timeline", "costs", "roofline", "resources"}, 4),
        ("queued", {"photographs", "timeline", "costs", "roofline", "resources"}, 4),
        ("failed", set(), 0),
        ("two", {"photographs", "timeline", "costs", "roofline", "resources", "changes"}, 8),
        ("foreign", {"timeline", "costs", "resources"}, 3),
    ],
)
def test_figures_are_there(
    browser: chromium.Page, files: dict[str, Path], name: str, sections: set[str], drawings: int
) -> None:
    browser.open(files[name])
    found = browser.run(
        "[...document.querySelectorAll('section:has(figure)')].map((one) => one.id)")
    assert set(found) == sections
    boxes = browser.run("""[...document.querySelectorAll('svg[role=img]')].map((one) => {
        const box = one.getBoundingClientRect();
        return [box.width, box.height, one.getAttribute('aria-label').length];
    })""")
    assert len(boxes) == drawings
    assert all(width > 300 and height > 40 and label > 30 for width, height, label in boxes)
    photos = browser.run("""[...document.images].map((one) =>
        [one.complete && one.naturalWidth, one.alt.length, one.width / one.height])""")
    assert all(width == 64 and alt > 20 and aspect == 1 for width, alt, aspect in photos)
    assert len(photos) == {"one": 3, "queued": 3, "two": 6}.get(name, 0)


@pytest.mark.parametrize(("name", "tracks"), [("one", ["engine"]), ("queued", ["array", "lanes"])])
def test_tracks_of_the_timeline(
    browser: chromium.Page, files: dict[str, Path], name: str, tracks: list[str]
) -> None:
    browser.open(files[name])
    found = browser.run("""[...document.querySelectorAll('#timeline svg.timeline > text.strong')]
        .map((one) => one.firstChild.textContent.trim())""")
    assert found == tracks
    bars = browser.run("""[...document.querySelectorAll('.bar')].map((one) => {
        const box = one.querySelector('rect').getBoundingClientRect();
        return [box.x, box.width, box.y];
    })""")
    rows = [row for row in reports.layers(name == "queued") if row["cycles"]]
    assert len(bars) == len(rows)
    assert len({round(y) for _, _, y in bars}) == len(tracks)
    # the drawing is to scale: widths are as the cycles
    drawn = sum(width for _, width, _ in bars) / sum(row["cycles"] for row in rows)
    longest = max(rows, key=lambda row: row["cycles"])["cycles"]
    assert max(width for _, width, _ in bars) == pytest.approx(longest * drawn, rel=0.02)


def click(page: chromium.Page, what: str) -> None:
    page.run(f"document.querySelector({json.dumps(what)}).click()")


def column(page: chromium.Page, table: str, number: int) -> list[str]:
    return page.run(f"""[...document.querySelectorAll('#{table} tbody tr:not([hidden])')]
        .map((row) => row.cells[{number}].textContent)""")


def test_sorting(browser: chromium.Page, files: dict[str, Path]) -> None:
    browser.open(files["one"])
    rows = reports.layers()
    cycles = [f"{row['cycles']:,}" for row in sorted(rows, key=lambda r: -r["cycles"])]
    title = "#layers0 th:nth-child(4) button"
    click(browser, title)  # numbers: the largest first
    assert column(browser, "layers0", 3) == cycles
    order = "document.querySelector('#layers0 th:nth-child(4)').ariaSort"
    assert browser.run(order) == "descending"
    click(browser, title)
    assert column(browser, "layers0", 3) == cycles[::-1]
    click(browser, "#layers0 th:nth-child(2) button")  # words: from a to z
    assert column(browser, "layers0", 1)[0] == "end"
    assert column(browser, "layers0", 1)[-1] == "up0.deform"
    assert browser.run("document.querySelectorAll('#layers0 [aria-sort]').length") == 1
    ideal = "#layers0 th:nth-child(8) button"  # ideal / cycles: `end` has none
    for _ in range(2):
        click(browser, ideal)
        assert column(browser, "layers0", 7)[-1] == ""


def test_null_sorts_last_both_ways(browser: chromium.Page, files: dict[str, Path]) -> None:
    browser.open(files["one"])
    for _ in range(2):
        click(browser, "#origins0 th:nth-child(3) button")
        values = column(browser, "origins0", 2)
        first = values.index("null")
        assert first > 0
        assert set(values[first:]) == {"null"}


def test_search_and_choice(browser: chromium.Page, files: dict[str, Path]) -> None:
    browser.open(files["one"])
    tools = "document.querySelector('[data-for=layers0]')"
    browser.run(f"""{{
        const search = {tools}.querySelector('input');
        search.value = 'STAGE2 pw1';
        search.dispatchEvent(new Event('input'));
    }}""")
    assert column(browser, "layers0", 1) == [f"stage2.{n}.pw1" for n in range(7)]
    assert browser.run(f"{tools}.querySelector('output').textContent") == "7 of 46"
    browser.run(f"""{{
        const search = {tools}.querySelector('input'), list = {tools}.querySelector('select');
        search.value = '';
        list.value = 'deform_dw';
        list.dispatchEvent(new Event('change'));
    }}""")
    assert column(browser, "layers0", 1) == ["up0.deform"]
    browser.run(f"""{{
        const list = {tools}.querySelector('select');
        list.value = '';
        list.dispatchEvent(new Event('change'));
    }}""")
    assert len(column(browser, "layers0", 1)) == 46


def test_every_table_can_be_sorted_and_searched(
    browser: chromium.Page, files: dict[str, Path]
) -> None:
    browser.open(files["two"])
    ids = browser.run("[...document.querySelectorAll('table')].map((one) => one.id)")
    assert len(ids) == len(set(ids)) == 2 + 3 * 2 + 2
    for table in ids:
        click(browser, f"#{table} th:last-child button")
    assert browser.run("document.querySelectorAll('th[aria-sort]').length") == len(ids)
    assert not complaints(browser)


def test_boxes_from_a_score_on(browser: chromium.Page, files: dict[str, Path]) -> None:
    browser.open(files["one"])
    visible = """[...document.querySelectorAll('.found > g')].filter(
        (one) => getComputedStyle(one).display !== 'none').length"""
    assert browser.run(visible) == 3  # one of each photograph
    for value, count in ((0.2, 9), (0.25, 6), (0, 12), (0.9, 0)):
        browser.run(f"""{{
            const slider = document.querySelector('input[type=range]');
            slider.value = {value};
            slider.dispatchEvent(new Event('input'));
        }}""")
        assert browser.run(visible) == count


def test_the_timeline_is_enlarged_in_its_own_box(
    browser: chromium.Page, files: dict[str, Path]
) -> None:
    browser.open(files["queued"], width=375)
    named = "document.querySelectorAll('.bar.named').length"
    before = browser.run(named)
    width = "document.getElementById('line1').getBoundingClientRect().width"
    small = browser.run(width)
    click(browser, "[data-zoom] button[value='8']")
    assert browser.run(width) == pytest.approx(8 * small)
    assert browser.run(named) > before
    assert browser.run("document.documentElement.scrollWidth") == 375


def test_a_layer_says_its_numbers(browser: chromium.Page, files: dict[str, Path]) -> None:
    browser.open(files["one"])
    browser.run("""document.querySelectorAll('.bar')[1].querySelector('rect').dispatchEvent(
        new PointerEvent('pointerover', { bubbles: true }))""")
    told = browser.run("document.querySelector('#timeline .readout').textContent")
    assert told == ("stem.conv (conv): cycles 30,000 to 162,710, 132,710 measured, "
                    "106,168 ideal, 26,542 lost")


@pytest.mark.parametrize("width", [320, 375, 768])
@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_as_wide_as_the_screen(
    browser: chromium.Page, files: dict[str, Path], name: str, width: int
) -> None:
    browser.open(files[name], width=width)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == width
    # nothing sticks out either, except inside a box that scrolls by itself
    out = browser.run("""[...document.querySelectorAll('body *')].filter((one) =>
        one.getBoundingClientRect().right > innerWidth + 1
        && !one.closest('.wide, .scroll, nav, svg, caption')).map((one) => one.outerHTML)""")
    assert out == []


def test_dark_mode(browser: chromium.Page, files: dict[str, Path]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(files["one"])
    light = browser.run(ground)
    browser.open(files["one"], dark=True)
    assert sum(map(int, re.findall(r"\d+", browser.run(ground)))) < 150
    assert sum(map(int, re.findall(r"\d+", light))) > 600


@pytest.mark.parametrize("name", NAMES)
def test_prints(browser: chromium.Page, files: dict[str, Path], name: str) -> None:
    browser.open(files[name])
    data = browser.pdf()
    assert data.startswith(b"%PDF-")
    count = len(re.findall(rb"/Type\s*/Page\b", data))
    assert count >= 1
    sizes = {tuple(round(float(value)) for value in box.split())
             for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", data)}
    assert sizes == {(0, 0, 595, 842)}  # A4 in points
    # what was folded is back after printing
    assert browser.run("document.querySelectorAll('details[open]').length") == (
        {"failed": 0, "two": 0}.get(name, 1))


def test_no_figure_is_cut_on_paper(browser: chromium.Page, files: dict[str, Path]) -> None:
    width, height = A4_TEXT_PX
    for name in NAMES:
        browser.open(files[name], width=int(width))
        browser.call("Emulation.setEmulatedMedia", media="print")
        found = browser.run("""[...document.querySelectorAll('figure')].map((one) =>
            [one.getBoundingClientRect().height, getComputedStyle(one).breakInside])""")
        assert all(rule == "avoid" and tall < height for tall, rule in found), name


def test_paper_is_light_and_shows_every_row(browser: chromium.Page, files: dict[str, Path]) -> None:
    browser.open(files["one"], dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('h2')).color") == "rgb(24, 33, 43)"
    button = "getComputedStyle(document.querySelector('th button')).display"
    assert browser.run(button) == "contents"  # else Chromium does not repeat a table's titles
    browser.run("""document.querySelector('#layers0 tr').hidden = true;
        dispatchEvent(new Event('beforeprint'))""")
    assert browser.run("document.querySelectorAll('tr[hidden]').length") == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("document.querySelectorAll('tr[hidden]').length") == 1
