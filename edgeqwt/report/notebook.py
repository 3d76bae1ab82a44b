"""What notebooks show of results: the head of the report, without scripts."""

from __future__ import annotations

from edgeqwt.pipeline import BuildResult
from edgeqwt.repair import CompensationResult
from edgeqwt.report.html import snippet
from edgeqwt.report.page import Page
from edgeqwt.report.pages import build_page, comparison_page, compensation_page
from edgeqwt.verify.compare import Comparison


def html(result: object) -> str:
    """The verdict, models side by side, where the error is born, the worst ops.

    Raises:
        TypeError: there is no picture of such a result.
    """
    return snippet(page_of(result))


def page_of(result: object) -> Page:
    """The page of a result.

    Raises:
        TypeError: there is none.
    """
    match result:
        case BuildResult():
            return build_page(result)
        case CompensationResult():
            return compensation_page(result, "compensated file")
        case Comparison():
            return comparison_page(result, None, "the first file", "the second file")
    raise TypeError(f"there is no picture of {type(result).__name__}")
