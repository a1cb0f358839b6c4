"""The HTML report, in Chromium: looked at, clicked, typed into and printed as a user does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import plans
import pytest
from recordings import NAMES, recorded

from autohybrid import plan
from autohybrid.report import html, rows
from autohybrid.report.html import page as page_module
from autohybrid.report.html.markup import element, json_script
from autohybrid.report.tree import eager_boxes, hybrid_boxes, totals

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\u2028&amp;<b>"
)
"""A name that would be markup if it could."""


def hostile() -> plan.Plan:
    """A plan whose texts all try to be more than text."""
    path = f"a{HOSTILE}"
    return plans.whole(
        [
            plans.model(
                [plans.region(path, {"constant": HOSTILE}, class_name=HOSTILE, engine=HOSTILE)],
                id=HOSTILE,
                class_name=HOSTILE,
                ranking=[plans.ranked(""), plans.ranked(path, class_name=HOSTILE), plans.ranked(f"b{HOSTILE}")],
                rejected=[
                    plans.rejected(f"b{HOSTILE}", HOSTILE, detail=HOSTILE, hint=HOSTILE, evidence=HOSTILE),
                ],
            )
        ],
        script=plan.Script(command=[HOSTILE], seconds=1.0, exit_code=0),
        notes=[HOSTILE],
    )


def large(layers: int) -> plan.Plan:
    """A plan that only ranks: blocks of ten Layers, as many as it takes."""
    blocks = layers // 10
    ranking = [plans.ranked("", inclusive_seconds=1.1 * blocks, self_seconds=0.0)]
    for block in range(blocks):
        ranking.append(plans.ranked(f"blocks.{block}", inclusive_seconds=1.1, self_seconds=0.2))
        ranking += [
            plans.ranked(f"blocks.{block}.sub{each}", inclusive_seconds=0.1, self_seconds=0.1) for each in range(9)
        ]
    rejected = [plans.rejected(row.path, "dry_run", hint="run without --dry-run to try it") for row in ranking]
    return plans.whole([plans.model([], ranking=ranking, rejected=rejected, confirmation=None)], trials=0)


# Without a browser: what is in the file.


def test_texts_are_text_in_markup_and_data() -> None:
    assert element("b", "<i>", title='"<') == '<b title="&quot;&lt;">&lt;i&gt;</b>'
    assert element("p", element("b", "x"), hidden=True, id=None) == "<p hidden><b>x</b></p>"
    written = json_script({"name": HOSTILE})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {"name": HOSTILE}


def test_hostile_names_add_no_element_to_the_page() -> None:
    text = html.render(hostile())
    assert text.count("<script") == html.render(plans.example()).count("<script") == 2
    assert "<img" not in text


@pytest.mark.parametrize("name", NAMES)
def test_the_summary_and_the_tables_stand_without_a_script(name: str) -> None:
    made = recorded(name)
    text = html.render(made)
    still = re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.DOTALL)
    assert escape(rows.headline(made)) in still
    for model in made.models:
        assert all(region.name in still for region in rows.region_rows(model))
        assert model.confirmation is None or ">eager<" in still
    assert not re.search(r"<(link|img|iframe)|\bsrc=|url\(|@import", still + page_module._style())


def test_each_embedded_library_is_listed_with_version_and_licence() -> None:
    vendor = Path(page_module.__file__).parent / "vendor"
    listed = (vendor / "README.md").read_text()
    for name in page_module.LIBRARIES:
        version = re.search(r" v([\d.]+) Copyright", (vendor / f"{name}.min.js").read_text())
        assert version is not None
        assert f"| {name} | {version[1]} | ISC |" in listed
        assert "Permission to use, copy, modify" in (vendor / f"{name}.LICENSE").read_text()
    assert html.render(plans.example()).count("Permission to use, copy, modify") == len(page_module.LIBRARIES)


# In a browser.

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser for all tests of this file."""
    browser = pytest.importorskip("browser", reason="needs selenium")
    found = browser.started(tmp_path_factory.mktemp("chromium"))
    yield found
    found.driver.quit()


@pytest.fixture
def show(chromium: Any, tmp_path: Path) -> Any:
    """Opens the page of a plan."""

    def opened(made: plan.Plan) -> Any:
        place = tmp_path / "report.html"
        place.write_text(html.render(made), encoding="utf-8")
        chromium.sized(1280)
        chromium.prefers("light")
        chromium.open(place)
        return chromium

    return opened


WIDTHS = (
    "Array.from(document.querySelectorAll('.model')[0].querySelectorAll('.tree')[arguments[0]].children,"
    " box => box.getBoundingClientRect().width)"
)


def _busiest() -> plan.Plan:
    """Of the recorded plans the one with regions, rejections and fallbacks."""
    return recorded("bad_conversions")


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_a_real_plan_opens_in_silence_and_asks_for_nothing(name: str, show: Any) -> None:
    browser = show(recorded(name))
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.run("document.querySelectorAll('.chart .tree').length") >= len(recorded(name).models)


@pytest.mark.browser
def test_a_page_that_did_ask_for_something_would_be_found_out(chromium: Any, tmp_path: Path) -> None:
    outside = '<img src="http://127.0.0.1:9/a.png">'
    place = tmp_path / "report.html"
    place.write_text(f"<!DOCTYPE html><body>{outside}</body>")
    chromium.open(place)
    assert chromium.requests() == ["http://127.0.0.1:9/a.png"]
    place.write_text(html.render(plans.example()).replace("<main>", f"<main>{outside}"))
    chromium.open(place)
    assert any("Content Security Policy" in each for each in chromium.complaints()), "the page forbids it"


@pytest.mark.browser
def test_hostile_names_are_shown_as_they_are(show: Any) -> None:
    browser = show(hostile())
    browser.click(".box.region")
    assert browser.run("document.querySelector('#panel h2').textContent") == f"a{HOSTILE}"
    assert HOSTILE in browser.run("document.querySelector('#panel').textContent")
    assert browser.run("document.title") != "owned"
    assert browser.run("document.querySelectorAll('img, b').length") == 0
    assert browser.complaints() == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["bad_conversions", "greedy_decode", "chained", "small"])
def test_every_box_is_there_and_as_wide_as_its_time(name: str, show: Any) -> None:
    made = recorded(name)
    model = made.models[0]
    browser = show(made)
    eager = eager_boxes(model)
    longest = totals(eager)[0]
    sides = [eager, hybrid_boxes(model, eager)] if model.regions else [eager]
    for side, boxes in enumerate(sides):
        widths = browser.run(WIDTHS, side)
        assert len(widths) == len(boxes)
        full = browser.run("document.querySelector('.tree').getBoundingClientRect().width")
        # The page lays them out level by level, the plan lists them branch by branch.
        assert sorted(widths) == pytest.approx(sorted(full * each / longest for each in totals(boxes)), abs=1.0)


@pytest.mark.browser
def test_a_click_opens_a_layer_and_escape_closes_it(show: Any) -> None:
    browser = show(_busiest())
    browser.click(".box.region")
    said = browser.run("document.querySelector('#panel').innerText")
    assert "As a region" in said
    assert "Signature" in said
    assert "float32[" in said
    assert browser.run("document.querySelectorAll('#panel .sample').length") > 4
    browser.press("\ue00c")
    assert browser.run("document.querySelector('#panel').hidden")
    assert browser.run("document.activeElement.className").startswith("box region")


@pytest.mark.browser
def test_a_chain_is_opened_by_its_name_in_the_table(show: Any) -> None:
    browser = show(recorded("chained"))
    browser.click("td.region button")
    said = browser.run("document.querySelector('#panel').innerText")
    assert "entry..blocks.5" in said
    assert "As a region" in said
    assert browser.run("document.querySelectorAll('.box.chosen').length") == 1
    browser.press("\ue00c")
    assert browser.run("document.activeElement.className") == "link", "back where it was opened"


@pytest.mark.browser
def test_a_passed_over_layer_tells_reason_hint_and_reproduction(show: Any) -> None:
    browser = show(_busiest())
    browser.click(".tree .box")
    said = browser.run("document.querySelector('#panel').innerText")
    assert "crashed: the conversion killed its process" in said
    assert "reproduced alone by" in said
    assert "bad_conversions.py:" in said


@pytest.mark.browser
def test_a_search_marks_what_matches_and_counts_it(show: Any) -> None:
    browser = show(_busiest())
    browser.press("/")
    assert browser.run("document.activeElement.type") == "search"
    browser.press("linear")
    matching = [
        row
        for row in recorded("bad_conversions").models[0].ranking
        if "linear" in f"{row.name} {row.class_name}".lower()
    ]
    assert browser.run("document.querySelector('.tree').querySelectorAll('.hit').length") == len(matching)
    assert browser.run("document.querySelector('.found').textContent").startswith(f"{len(matching)} of ")
    browser.press("\ue007")
    assert "linear" in browser.run("document.activeElement.title").lower()


@pytest.mark.browser
def test_a_double_click_zooms_and_escape_goes_back(show: Any) -> None:
    browser = show(_busiest())
    before = browser.run(WIDTHS, 0)
    browser.double_click(".tree .box", 1)
    browser.press("\ue00c")
    after = browser.run(WIDTHS, 0)
    full = browser.run("document.querySelector('.tree').getBoundingClientRect().width")
    assert after[1] == pytest.approx(full, abs=1.0)
    assert not browser.run("document.querySelector('.whole').disabled")
    browser.press("\ue00c")
    assert browser.run(WIDTHS, 0) == pytest.approx(before, abs=0.5)


@pytest.mark.browser
def test_a_zoomed_layer_and_its_counterpart_have_the_same_seconds_to_a_pixel(show: Any) -> None:
    ranking = [
        plans.ranked("", self_seconds=0.2),
        plans.ranked("body", self_seconds=0.4),
        plans.ranked("head", self_seconds=0.1),
        plans.ranked("head.part", self_seconds=0.3),
    ]
    structure = [". Root", "body A", "head B", "head.part C"]
    browser = show(plans.whole([plans.model([plans.region("body", None)], ranking=ranking, structure=structure)]))
    heads = (
        "Array.from(document.querySelectorAll('.box'))"
        ".filter(box => box.textContent === 'head').map(box => box.getBoundingClientRect())"
    )
    before = browser.run(heads)
    browser.double_click(
        ".tree .box", browser.run("Array.from(document.querySelectorAll('.box'), b => b.textContent)").index("head")
    )
    eager, hybrid = browser.run(heads)
    assert eager["width"] > 2 * before[0]["width"]
    assert hybrid["width"] / eager["width"] == pytest.approx(before[1]["width"] / before[0]["width"], rel=0.01)
    assert eager["left"] == pytest.approx(hybrid["left"], abs=0.5)


@pytest.mark.browser
def test_the_tree_is_walked_with_the_keyboard_alone(show: Any) -> None:
    browser = show(_busiest())
    browser.run("document.querySelector('.tree .box').focus()")
    focused = "[document.activeElement.title, +document.activeElement.getAttribute('aria-level')]"
    root = browser.run(focused)
    browser.press("\ue015")
    child, level = browser.run(focused)
    assert (root[1], level) == (1, 2)
    browser.press("\ue012")
    browser.press("\ue014")
    assert browser.run(focused)[0] == child or browser.run(focused)[1] == 2
    outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus can be seen"
    browser.press("\ue007")
    assert not browser.run("document.querySelector('#panel').hidden")
    browser.press("\ue00c", "\ue013")
    assert browser.run(focused) == root
    assert browser.run("document.querySelectorAll('.tree .box[tabindex=\"0\"]').length") == 2, "a stop for each tree"


@pytest.mark.browser
def test_a_table_is_sorted_by_its_headers(show: Any) -> None:
    browser = show(recorded("small"))
    browser.click("details:last-of-type summary")
    shares = "Array.from(document.querySelectorAll('details[open] td.share'), cell => +cell.dataset.value)"
    index = browser.run(
        "Array.from(document.querySelectorAll('details[open] th button'), b => b.textContent).indexOf('share')"
    )
    for descending in (True, False):
        browser.click("details[open] th button", index)
        values = browser.run(shares)
        assert len(values) > 3
        assert values == sorted(values, reverse=descending)
    assert browser.run("document.querySelectorAll('details[open] th[aria-sort=ascending]').length") == 1


@pytest.mark.browser
def test_an_empty_cell_comes_last_whichever_way_it_is_sorted(show: Any) -> None:
    browser = show(_busiest())
    browser.click("details:last-of-type summary")
    names = browser.run("Array.from(document.querySelectorAll('details[open] th button'), b => b.textContent)")
    index = names.index("speedup")
    for _ in range(2):
        browser.click("details[open] th button", index)
        values = browser.run("Array.from(document.querySelectorAll('details[open] td.speedup'), c => c.dataset.value)")
        filled = [value for value in values if value]
        assert 0 < len(filled) < len(values)
        assert values[: len(filled)] == filled


COLOURS = "['backgroundColor', 'color'].map(name => getComputedStyle(document.documentElement)[name])"


def _luminance(colour: str) -> float:
    """Of ``rgb(…)``, as WCAG 2 has it."""
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.browser
def test_the_theme_follows_the_system_and_a_switch(show: Any) -> None:
    browser = show(_busiest())
    light = browser.run(COLOURS)
    browser.prefers("dark")
    dark = browser.run(COLOURS)
    assert _luminance(light[0]) > 0.8 > 0.1 > _luminance(dark[0])
    browser.click("#theme")
    assert browser.run(COLOURS) == light
    browser.click("#theme")
    browser.prefers("light")
    assert browser.run(COLOURS) == dark


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_can_be_read_against_what_is_behind_it(theme: str, show: Any) -> None:
    browser = show(_busiest())
    browser.prefers(theme)
    behind = (
        "Array.from(document.querySelectorAll('.box, .note, .caption, h1, td, .link, dt, .tile span'), element => {"
        "  let under = element;"
        "  while (getComputedStyle(under).backgroundColor === 'rgba(0, 0, 0, 0)') under = under.parentNode;"
        "  return [getComputedStyle(element).color, getComputedStyle(under).backgroundColor, element.className];"
        "})"
    )
    poor = {(name, colour, under) for colour, under, name in browser.run(behind) if _contrast(colour, under) < 4.5}
    assert poor == set(), "WCAG 2 AA asks for 4.5"


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_nothing_sticks_out_of_a_narrow_window(name: str, show: Any) -> None:
    browser = show(recorded(name))
    for width in (390, 1280):
        browser.sized(width)
        assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext")
def test_the_printed_page_has_all_tables_and_no_controls(show: Any, tmp_path: Path) -> None:
    browser = show(_busiest())
    browser.prefers("dark")
    (tmp_path / "page.pdf").write_bytes(browser.printed())
    done = subprocess.run(
        ["pdftotext", "-layout", str(tmp_path / "page.pdf"), "-"], capture_output=True, text=True, check=True
    )
    for part in ("as fast", "comprehends.linear", "SIGABRT", "What to run next", "Hybrid:", "All that was tried"):
        assert part in done.stdout
    assert "Theme" not in done.stdout
    assert "Search" not in done.stdout


@pytest.mark.browser
def test_opening_grows_no_faster_than_the_model(show: Any) -> None:
    seconds = {}
    for layers in (200, 2000):
        spent = []
        for _ in range(3):
            browser = show(large(layers))
            # From the first byte to the chart on the screen.
            spent.append(browser.run("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
        seconds[layers] = min(spent)
        assert browser.run("document.querySelectorAll('.box').length") == layers + 1
        assert browser.complaints() == []
    print(f"opening 2,000 Layers takes {seconds[2000] / seconds[200]:.1f} times as long as 200", file=sys.stderr)
    assert seconds[2000] < 20 * seconds[200]
