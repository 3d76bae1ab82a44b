"""What notebooks show, and tables for pandas."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from edgeqwt import progress
from edgeqwt.extras import MissingPackageError
from edgeqwt.graph.graph import Graph
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe import recipe as recipes
from edgeqwt.report import notebook

HOSTILE = "<img src=x onerror=alert(1)>\x1b[2J"


def test_rows_are_the_ops_with_their_errors(result: BuildResult) -> None:
    rows = notebook.rows(result)
    assert [row["tensor"] for row in rows] == [op.tensor for op in result.own.ops]
    assert rows[1]["own_db"] == result.own.ops[1].own_db
    assert all(set(row) == set(rows[0]) for row in rows)
    with pytest.raises(TypeError, match="has no errors of ops"):
        notebook.rows(result.graph)


def test_a_table_is_a_data_frame_or_the_error_says_what_is_missing(
    result: BuildResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("edgeqwt.extras.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError) as error:
        result.to_dataframe()
    assert "pip install pandas" in error.value.hint
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas")
    frame = result.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == len(result.own.ops)


def test_graphs_and_recipes_are_tables(result: BuildResult) -> None:
    tensors = (replace(result.graph.tensors[result.graph.inputs[0]], name=HOSTILE),)
    graph = Graph(tensors, (), (0,), (0,))
    assert f"{len(result.graph.ops)} ops" in result.graph._repr_html_()
    assert "<img" not in graph._repr_html_()
    assert "&lt;img" in graph._repr_html_()
    shown = recipes.load("balanced")._repr_html_()
    assert "<caption>balanced: weights of 8 bits, activations of 8</caption>" in shown
    assert "<td" in shown


def test_progress_in_a_notebook_is_a_bar_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython is no dependency: what is asked of it is noted down here."""
    seen: list[str] = []
    with progress.automatic("fit") as advance:  # no notebook: nothing is shown
        advance(1, 2)

    def display(value: str, display_id: bool) -> Any:
        seen.append(value)
        return SimpleNamespace(update=seen.append)

    shell = SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display, HTML=str))
    with progress.automatic("fit") as advance:
        advance(1, 4)
    assert seen[0] == "fit …"
    assert 'value="1" max="4"' in seen[1]
    assert seen[-1] == ""
