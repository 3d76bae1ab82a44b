"""Values as notebooks show them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType


class Pictured:
    """What notebooks show as a picture: of a result the head of its report, of a graph or a recipe a table."""

    def _repr_html_(self) -> str:
        shown: str = _notebook().html(self)
        return shown


class Tabular(Pictured):
    """A result that can be a table, too."""

    def to_dataframe(self) -> Any:
        """A pandas.DataFrame with a row for each op: its own error, the error behind it, and what causes it.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return _notebook().frame(self)


def _notebook() -> ModuleType:
    # The report is a view of values and lies above them: it is looked up when somebody looks.
    return import_module("edgeqwt.report.notebook")
