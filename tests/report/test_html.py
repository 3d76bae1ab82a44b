from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape

from edgeqwt.pipeline import BuildResult
from edgeqwt.report.html import ends, page_html, snippet
from edgeqwt.report.page import Page
from edgeqwt.report.pages import build_page
from edgeqwt.verify.thresholds import Shortfall, Thresholds
from edgeqwt.web import chromium
from tests.browsers import needs_chromium

HOSTILE = "</script><img src=x onerror=alert(1)>\"'{{7*7}}&amp;<!--"


def hostile(page: Page) -> Page:
    """The page as if every name came from somebody who wants to run code in it."""
    ops = tuple(
        {**op, "tensor": HOSTILE, "measured": HOSTILE, "location": HOSTILE, "kind": HOSTILE, "dtype": "int8"}
        for op in page.ops
    )
    hints = tuple(replace(hint, tensor=HOSTILE, what=HOSTILE, todo=HOSTILE) for hint in page.hints)
    return replace(page, title=HOSTILE, headline=HOSTILE, ops=ops, hints=hints, origin=((HOSTILE, HOSTILE),))


@pytest.fixture(scope="module")
def page(result: BuildResult) -> Page:
    return build_page(result, (("made again by", "edgeqwt build model.tflite"),))


def test_a_page_needs_nothing_from_outside(page: Page) -> None:
    text = page_html(page)
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", text)
    assert "default-src &#39;none&#39;" in text


def test_values_that_are_no_numbers_are_shown_as_nothing(result: BuildResult) -> None:
    """A pitch tracker with errors that are no numbers inside ended in a traceback in place of the page."""
    own, nan = result.traced[result.choice.name], math.nan
    errors = [replace(op, own_db=nan, accumulated_db=nan, bias=nan, clipping=nan, rounding=nan) for op in own.ops]
    traces = [t and replace(t, low=nan, high=math.inf, own_db=(nan,), used=(nan,)) for t in own.traces]
    spoiled = replace(own, ops=tuple(errors), traces=tuple(traces))
    text = page_html(build_page(replace(result, traced=dict.fromkeys(result.traced, spoiled)), ()))
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert "NaN" not in text
    assert all(op["values"] is None for op in data["ops"])
    assert all(error["own_db"] is None for op in data["ops"] for error in op["errors"].values())


def test_names_are_data(page: Page) -> None:
    text = page_html(hostile(page))
    assert "<img src=x" not in text
    assert text.count("</script>") == 2
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", text)[0]
    assert json.loads(text.partition('id="data">')[2].partition("</script>")[0])["ops"][0]["tensor"] == HOSTILE
    assert "<img src=x" not in snippet(hostile(page))


def test_a_page_tells_what_was_measured(page: Page, result: BuildResult) -> None:
    text = page_html(page)
    kept = result.quality[result.choice.name]
    assert f"{kept.decisive[0].closeness.judged_db:.1f}" in text
    assert f"{result.sizes['float']:,}" in text
    assert "edgeqwt build model.tflite" in text
    worst = result.own.worst[0]
    assert f"alone would leave {worst.own_db:.1f} dB" in text
    assert [row["op"] for row in page.ops] == [None, *range(len(result.graph.ops))]
    assert page.ops[1]["errors"].keys() == {"uncompensated", "compensated"}
    values = page.ops[1]["values"]
    # Six held-out images of 8 x 8 x 6 features.
    assert sum(values["counts"]) == 6 * 8 * 8 * 6


def test_channels_show_what_was_folded_in(page: Page, result: BuildResult) -> None:
    assert result.outcome is not None
    for change in result.outcome.changes:
        channels = page.ops[change.op + 1]["channels"]
        assert sum(gain != 1 for gain in channels.get("gain", [])) <= change.with_gain  # four digits are kept
        assert len(channels.get("offset", [])) in (0, change.channels)


def test_samples_are_pictures(page: Page) -> None:
    assert len(page.samples) == 6
    assert sum(sample["share"] for sample in page.samples) <= 2.001  # a share at one of two outputs, four digits
    assert page.samples[0]["png"].startswith("iVBORw0KGgo")


def test_three_hundred_ops_are_less_than_three_megabytes(page: Page) -> None:
    channels = {
        "own_db": {name: [12.3] * 512 for name in page.series},
        "gain": [1.234] * 512,
        "offset": [-0.001234] * 512,
    }
    ops = tuple({**page.ops[1], "op": k, "tensor": f"tensor {k}" * 8, "channels": channels} for k in range(300))
    assert len(page_html(replace(page, ops=ops)).encode()) < 3_000_000


def test_long_names_keep_both_ends() -> None:
    assert ends("a" * 30 + "/" + "b" * 30, 20) == "aaaaaa…bbbbbbbbbbbbb"
    assert ends("short", 20) == "short"


def test_notebooks_show_the_same(result: BuildResult, page: Page) -> None:
    text = result._repr_html_()
    assert escape(page.headline) in text
    assert "<script" not in text
    assert text.count('class="dot ') == page_html(page).count('class="dot ')


@pytest.mark.parametrize(("below", "level"), [(True, "below"), (False, "poor")])
def test_a_verdict_that_no_figure_explains_says_why(result: BuildResult, below: bool, level: str) -> None:
    high = Thresholds(min_db=-300, warn_db=-300)
    fine = replace(result, recipe=replace(result.recipe, quality=high), shortfalls=())
    assert build_page(fine).level == "good"
    poor = build_page(replace(fine, shortfalls=(Shortfall("out", "scores", "part 'scores' has 3.0 dB", below),)))
    assert poor.level == level
    assert "because part 'scores' has 3.0 dB" in poor.headline


def test_what_the_samples_say_stands_beside_the_verdict(result: BuildResult) -> None:
    page = build_page(replace(result, warnings=("columns 1, 2 are lost",), remedy="Build with --a."))
    assert "Samples: columns 1, 2 are lost." in page.lead
    assert page.lead.index("What to do: Build with --a.") < page.lead.index("Samples: columns 1, 2 are lost.")
    assert not any("columns 1, 2" in said.sentence for said in page.advice)


def test_a_poor_page_does_not_say_that_nothing_is_to_be_done(page: Page) -> None:
    hints = tuple(replace(hint, todo="") for hint in page.hints)
    assert "there is nothing to do" in page_html(replace(page, hints=hints, together=""))
    text = page_html(replace(page, hints=hints, together="errors add up: --precision w8a16"))
    assert "there is nothing to do" not in text
    assert "errors add up" in text


READY = "document.readyState + location.protocol === 'completefile:'"


@needs_chromium
@pytest.mark.parametrize("spoiled", [False, True])
def test_a_browser_shows_it(page: Page, tmp_path: Path, spoiled: bool) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_html(hostile(page) if spoiled else page), encoding="utf-8")
    with chromium.browser() as shown:
        shown.open(path.as_uri())
        shown.wait(READY)
        assert shown.value("document.querySelectorAll('.chart .dot').length") >= 3
        assert shown.value("document.querySelectorAll('#detail .histogram .bar').length") > 5
        assert shown.value("document.querySelectorAll('img[onerror]').length") == 0
        # Sorting by own error, twice: the first row is the best one then.
        shown.value("document.querySelectorAll('.list th button')[2].click()")
        shown.value("document.querySelectorAll('.list th button')[2].click()")
        column = "[...document.querySelectorAll('.list tbody td:nth-child(3)')].map(x => x.dataset.value)"
        known = [float(value) for value in shown.value(column) if value]
        assert known == sorted(known, reverse=True)
        shown.value("document.querySelector('.list tbody tr:last-child').click()")
        before = shown.value("document.getElementById('detail').textContent")
        shown.value("document.querySelectorAll('.list tbody tr')[0].click()")
        assert shown.value("document.getElementById('detail').textContent") != before
        shown.value("document.getElementById('theme').click()")
        assert shown.value("document.documentElement.dataset.theme") in ("dark", "light")
        assert shown.value("document.documentElement.scrollWidth <= innerWidth")
        assert shown.problems == []
        assert [url for url in shown.requests if not url.startswith(("data:", path.as_uri()))] == []


CUT = "[...document.querySelectorAll('.scroll, .list')].filter(x => x.scrollWidth > x.clientWidth).length"
"""How many tables and charts are wider than what shows them."""


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_everything_is_seen_without_scrolling_sideways(page: Page, tmp_path: Path, width: int) -> None:
    ops = [{"name": op["tensor"], "kind": op["kind"], "where": "NPU", "cycles": 123_456} for op in page.ops]
    npu = {"ops": ops, "accelerator": "ethos-u55-128", "system_config": "a", "memory_mode": "b", "seconds": 0.1}
    npu["cycles"] = {"total": 12_345_678}
    long = tuple({**op, "tensor": "model/block" * 9, "location": "model/block" * 9} for op in page.ops)
    path = tmp_path / "report.html"
    path.write_text(page_html(replace(page, npu=npu, ops=long)), encoding="utf-8")
    with chromium.browser() as shown:
        shown.size(width, 800)
        shown.open(path.as_uri())
        shown.wait(READY)
        assert shown.value("document.documentElement.scrollWidth") <= width
        assert shown.value(CUT) == 0
        assert shown.value("document.querySelectorAll('.variants thead th').length") == 1 + len(page.columns)
        # Names of models stand above their figures, and the last one inside of the window.
        edges = "[...document.querySelectorAll('.variants %s')].map(x => ~~x.getBoundingClientRect().right)"
        names = shown.value(edges % "thead th:not(.text)")
        assert names == shown.value(edges % "tbody tr:first-child td:not(.text)")
        assert 0 < max(names) <= width
