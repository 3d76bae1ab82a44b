"""Columns that one scale cannot serve."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.columns import column_axis, unlike_columns
from edgeqwt.calibration.samples import Samples
from edgeqwt.graph.graph import Array


def message(values: Array, names: tuple[str, ...] = ("x",)) -> tuple[str, ...]:
    kept = [{"x": value[None].astype(np.float32)} for value in values]
    return tuple(unlike_columns(Samples("test", lambda: iter(kept), len(kept)), names).values())


@pytest.mark.parametrize("shape", [(40, 4), (10, 5, 4)])
def test_columns_of_other_magnitude(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape) * [1.0, 1e5, 3.0, 5e4]
    (sentence,) = message(values)
    assert "columns 0, 2 vary by less than 2 of its steps" in sentence
    assert "as column 1 reaches" in sentence
    assert message(values, ()) == ()


def test_columns_lie_where_magnitudes_differ() -> None:
    """Channels first: quantities along the second axis, time along the last."""
    values = np.random.default_rng(0).normal(size=(10, 4, 5)) * np.array([1.0, 1e5, 3.0, 5e4])[:, None]
    (sentence,) = message(values)
    assert "columns 0, 2 vary by less than 2 of its steps" in sentence
    assert column_axis([value[None] for value in values]) == -2
    assert column_axis([value[None] for value in values.transpose(0, 2, 1)]) == -1
    assert column_axis([np.ones((1, 4, 5)), np.zeros((1, 4, 5))]) == -1
    assert column_axis([np.ones((1, 4, 5)), np.ones((1, 4, 7))]) == -1


def test_columns_of_one_magnitude_leave_no_doubt() -> None:
    rng = np.random.default_rng(0)
    assert message(rng.normal(size=(40, 4)) * [1.0, 10.0, 3.0, 5.0]) == ()
    assert message(rng.normal(size=(40, 1))) == ()
    constant = rng.normal(size=(40, 3)) * [1.0, 0.0, 1.0] + [0.0, 5.0, 0.0]
    assert message(constant) == ()


def test_one_peak_among_many_places_is_no_matter_of_columns() -> None:
    signal = np.random.default_rng(0).normal(size=(40, 200)) * 0.01
    signal[:, 0] = 5 * np.random.default_rng(1).random(40) * 0.01
    assert message(signal) == ()
