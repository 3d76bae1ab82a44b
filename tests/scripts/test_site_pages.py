"""Pages as the site has them."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.site_pages import ELSEWHERE, on_page_content, with_fences

ROOT = Path(__file__).resolve().parents[2]


def test_every_block_begins_as_the_site_reads_it() -> None:
    """Anything else after the language, and the block and what follows it become running text."""
    pages = [*ROOT.glob("docs/**/*.md"), *(ROOT / name for name in ELSEWHERE)]
    begins = [
        line
        for page in pages
        for line in with_fences(page.read_text(encoding="utf-8")).splitlines()
        if re.match(r" *```[^`]", line)
    ]
    assert len(begins) > 100
    assert [line for line in begins if not re.fullmatch(r' *```\w+( title="[^"]+")?', line)] == []
    assert with_fences("```sh exit=8\nfalse\n```") == '```sh title="Ends with exit code 8"\nfalse\n```'


def test_options_of_commands_stay_whole_and_nothing_else_changes() -> None:
    python = '<div class="language-python highlight"><pre>x --y</pre></div>'
    shell = (
        '<div class="language-sh highlight"><pre id="a--b">edgeqwt build<span> </span>--output-type float</pre></div>'
    )
    assert on_page_content(python + shell, None, None, None) == python + shell.replace(
        "--output-type", '<span class="option">--output-type</span>'
    )
