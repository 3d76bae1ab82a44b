"""docs/literature.md is what the code and its figures say."""

from __future__ import annotations

import runpy

from tests.small import ROOT


def test_the_page_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "literature_page.py"))["page"]()
    assert (ROOT / "docs" / "literature.md").read_text(encoding="utf-8") == page, (
        "run: python scripts/literature_page.py"
    )
