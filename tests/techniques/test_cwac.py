"""Compensation: of a network that takes long for each sample, some samples are enough."""

from __future__ import annotations

import pytest

from edgeqwt.graph.linear import work
from edgeqwt.techniques import cwac
from tests import small
from tests.techniques.test_regions16 import begin, work_on


@pytest.mark.parametrize(("samples_worth", "fitted"), [(100, 12), (5, 5), (0, 3)])
def test_a_costly_network_is_fitted_on_some_samples(
    monkeypatch: pytest.MonkeyPatch, samples_worth: int, fitted: int
) -> None:
    graph = small.graph()
    context = work_on(graph, small.images(16))  # 12 of them to fit on
    monkeypatch.setattr("edgeqwt.passes.context.WORK", samples_worth * work(graph))
    monkeypatch.setattr("edgeqwt.passes.context.LEAST", 3)
    _, account = cwac.Cwac().apply(context.with_integer(begin(context)), context)
    assert account.data is not None
    assert account.data["samples"] == fitted
