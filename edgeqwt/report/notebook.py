"""What notebooks show of results: the head of the report, without scripts; and of graphs and recipes, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import import_module
from typing import Any

from edgeqwt.errors import printable
from edgeqwt.extras import need
from edgeqwt.graph.graph import Graph
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.repair import CompensationResult
from edgeqwt.report.html import snippet
from edgeqwt.report.page import Page
from edgeqwt.report.pages import build_page, comparison_page, compensation_page
from edgeqwt.techniques.registry import changed_options, first_line
from edgeqwt.verify.compare import Comparison
from edgeqwt.verify.op_errors import OwnErrors

MOST = 200  # ops of a graph that are listed
COLUMNS = ("op", "kind", "tensor", "own_db", "accumulated_db", "rounding", "clipping", "bias", "moves")
"""Of the rows of ops."""


def html(value: object) -> str:
    """Of results the verdict, models side by side, where the error is born, the worst ops; of others a table.

    Raises:
        TypeError: there is no picture of such a value.
    """
    match value:
        case Graph():
            return _graph(value)
        case Recipe():
            return _recipe(value)
    return snippet(page_of(value))


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


def rows(result: object) -> list[dict[str, object]]:
    """A row for each op of the integer graph, in its order; decibels, and shares of the own error.

    Raises:
        TypeError: it has no ops.
    """
    return [{name: getattr(op, name) for name in COLUMNS} for op in _own(result).ops]


def frame(result: object) -> Any:
    """The rows as a pandas.DataFrame.

    Raises:
        MissingPackageError: pandas is not installed.
        TypeError: as `rows`.
    """
    need("pandas")
    return import_module("pandas").DataFrame(rows(result))


def _own(result: object) -> OwnErrors:
    match result:
        case BuildResult() | Comparison():
            return result.own
        case CompensationResult():
            return result.traced.get(result.choice.name, OwnErrors(0, (), 0))
    raise TypeError(f"{type(result).__name__} has no errors of ops")


def _graph(graph: Graph) -> str:
    from edgeqwt.report.inspect import describe

    found = describe(graph, 0)
    ends = [("", end, t.name, t.shape, t.dtype, t.scale) for end, ts in
            (("input", found.inputs), ("output", found.outputs)) for t in ts]  # fmt: skip
    ops = [
        (str(op.index), op.kind, t.name, t.shape, t.dtype, t.scale) for op in found.ops if (t := op.output) is not None
    ]
    cells = [
        (index, kind, name, "×".join(map(str, shape)), dtype, "" if scale is None else f"{scale:.4g}")
        for index, kind, name, shape, dtype, scale in (*ends, *ops[:MOST])
    ]
    more = f", the first {MOST} listed" if len(ops) > MOST else ""
    caption = f"{len(graph.ops)} ops, {len(graph.tensors)} tensors{more}"
    return _table(caption, ("#", "", "tensor", "shape", "type", "scale"), cells)


def _recipe(recipe: Recipe) -> str:
    cells = [
        (technique.name, first_line(type(technique)), changed_options(technique)) for technique in recipe.techniques
    ]
    bits = recipe.precision
    caption = f"{recipe.name}: weights of {bits.weight_bits} bits, activations of {bits.activation_bits}"
    return _table(caption, ("technique", "what it does", "options"), cells)


def _table(caption: str, header: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    def row(tag: str, values: Sequence[str]) -> str:
        inside = "".join(f'<{tag} style="text-align:left">{escape(printable(value))}</{tag}>' for value in values)
        return f"<tr>{inside}</tr>"

    body = "".join(row("td", values) for values in cells)
    head = f"<caption>{escape(printable(caption))}</caption><thead>{row('th', header)}</thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>"
