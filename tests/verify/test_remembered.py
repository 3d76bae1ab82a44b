from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.verify.remembered import Remembered
from tests import small


def test_values_are_of_a_graph_and_a_sample() -> None:
    graph, known = small.graph(), Remembered()
    known.put(graph, 3, {5: np.arange(4), 6: np.arange(2)})
    found = known.of(graph, 3, {5})
    assert found is not None
    np.testing.assert_array_equal(found[5], np.arange(4))
    assert known.of(graph, 3, {5, 7}) is None
    assert known.of(graph, 2, {5}) is None
    assert known.of(replace(graph), 3, {5}) is None
    known.put(graph, 3, {7: np.zeros(1)})
    assert known.of(graph, 3, {5, 6, 7}) is not None


def test_what_is_kept_is_bounded_and_goes_with_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeqwt.verify.remembered.MOST", 10)
    graph, known = small.graph(), Remembered()
    for sample in range(4):
        for _ in range(2):  # again is no more
            known.put(graph, sample, {5: np.zeros(4)})
    assert [known.of(graph, sample, {5}) is not None for sample in range(4)] == [True, True, False, False]
    values = known._values[graph][0][5]
    gone = weakref.ref(values)
    del graph, values
    gc.collect()
    assert gone() is None
