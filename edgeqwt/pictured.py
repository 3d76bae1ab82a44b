"""Results as notebooks show them."""

from __future__ import annotations

from importlib import import_module


class Pictured:
    """A result that notebooks show as the head of its report."""

    def _repr_html_(self) -> str:
        # The report is a view of results and lies above them: it is looked up when somebody looks.
        shown: str = import_module("edgeqwt.report.notebook").html(self)
        return shown
