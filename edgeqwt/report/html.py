"""A page as one HTML file: opens offline, asks nobody for anything, prints.

Charts are static SVG (`charts.py`); a script of our own sorts, filters and draws the op that is clicked. A plotting
library would weigh more than all of the rest, and draw nothing where scripts do not run: in print preview of some
programs, in notebooks that are not trusted. Names come from files of others: jinja2 escapes them all, data for the
script is JSON without `<`, the script writes text and never markup, and a content security policy that knows only the
hashes of our own script and style refuses what would get through all the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeqwt.output import ends_of, first_name
from edgeqwt.report.page import Page, accumulated_of, level_of, own_of

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
CHANNELS = 120_000  # figures of channels that a page holds; of more, those of the worst ops
CODE = re.compile(
    r"`([^`]+)`"
    r"|(?<![\w-])--(?:layer (?:&#39;.*?&#39;|\w)\S*\w"
    r"|(?:recipe|precision|input|output-type|ranges|target|standardize) [\w=.:-]*\w|[a-z][a-z0-9-]*)"
)
"""What is code in an escaped sentence: what stands between backticks, and options, of some with the value."""
WHOLE = 24  # characters of an option that stay on one line
REFUSED = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"


def page_html(page: Page) -> str:
    """The file."""
    return rendered("report.html.j2", page=page, data=inert(_data(page)), **_helpers(page))


def snippet(page: Page) -> str:
    """The verdict, the worst ops and the chart of errors, for a notebook's cell; no script."""
    scoped = (TEMPLATES / "snippet.css").read_text(encoding="utf-8")
    return rendered("snippet.html.j2", page=page, scoped=scoped, **_helpers(page))


def rendered(template: str, **values: Any) -> str:
    """A template with the style and the script of all pages, and the policy that lets only these in."""
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = f"{REFUSED}; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    text = _environment().get_template(template).render(style=style, script=script, policy=policy, **values)
    return text.encode("utf-8", "replace").decode()  # names of files that are no UTF-8


def _helpers(page: Page) -> dict[str, Any]:
    from edgeqwt.report import charts

    gains = [abs(step.gain_db) for step in page.steps if step.gain_db is not None]
    return {
        "chart": charts.error_chart(page),
        "share": charts.share_bar,
        "gain": charts.gain_bar,
        "most_gain": max(gains, default=0.0),
        "memory": None if page.memory is None else charts.memory_chart(page.memory),
        "rows": _table(page),
        "shown": charts.BANDS,
    }


def _table(page: Page) -> list[dict[str, Any]]:
    """The ops as rows of the table: only those that something is known of."""
    last, first = page.series[-1], page.series[0]
    cycles = _cycles(page)
    rows = []
    for k, op in enumerate(page.ops):
        own, after, before = own_of(op, last), accumulated_of(op, last), accumulated_of(op, first)
        where, count = cycles.get(op["tensor"], ("", None))
        error = op["errors"].get(last)
        rows.append(
            {
                "row": k, "op": op, "own": own, "before": before, "after": after, "where": where, "cycles": count,
                "level": level_of(own, page.thresholds) if own is not None else "",
                "behind": level_of(after, page.thresholds) if after is not None else "",
                "moves": bool(error and error["moves"]),
            }
        )  # fmt: skip
    return rows


def _cycles(page: Page) -> dict[str, tuple[str, float]]:
    """Where Vela places ops, and its estimate, by output tensor."""
    return {} if page.npu is None else {op["name"]: (op["where"], op["cycles"]) for op in page.npu["ops"]}


def _data(page: Page) -> dict[str, Any]:
    """What the script draws of each op."""
    left = CHANNELS
    order = sorted(range(len(page.ops)), key=lambda k: _rank(page, k))
    channels: dict[int, Mapping[str, Any]] = {}
    for k in order:
        found = page.ops[k]["channels"]
        size = sum(map(len, (*found.get("own_db", {}).values(), found.get("gain", ()), found.get("offset", ()))))
        if size <= left:
            channels[k], left = found, left - size
    ops = [{**op, "channels": channels.get(k)} for k, op in enumerate(page.ops)]
    limits = {"min": page.thresholds.min_db, "warn": page.thresholds.warn_db}
    return {"series": list(page.series), "limits": limits, "ops": ops}


def _rank(page: Page, k: int) -> float:
    own = own_of(page.ops[k], page.series[-1])
    return float("inf") if own is None else own


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["db"] = _decibels
    found.filters["ends"] = ends
    found.filters["options"] = options
    return found


def ends(name: str, most: int = 44) -> str:
    """A long name with both ends: which layer it is stands at one of them, and what of it at the other."""
    return ends_of(first_name(name), most)


def options(sentence: str) -> Markup:
    """A sentence in which commands (between backticks) and options with their values stand out as code."""
    from markupsafe import Markup, escape

    return Markup(CODE.sub(_code, str(escape(sentence))))


def _code(found: re.Match[str]) -> str:
    if found[1]:
        return f"<code>{found[1]}</code>"
    whole = " whole" if len(found[0]) <= WHOLE else ""  # or lines would end within the two hyphens
    return f'<code class="option{whole}">{found[0]}</code>'


def _decibels(value: float | None) -> str:
    if value is None:
        return ""
    return "exact" if value >= 999 else "none" if value <= -999 else f"{value:.1f}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def inert(value: Any) -> Markup:
    """Data for a script as JSON in which nothing can end the element that it stands in."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # what else could matter, json escapes itself
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
