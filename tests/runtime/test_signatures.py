"""Signatures of files beside the graphs that they were joined from."""

from __future__ import annotations

import pytest

from edgeqwt.errors import InvariantError
from edgeqwt.graph.joined import joined
from edgeqwt.runtime.signatures import require_same
from tests.chain import noise
from tests.graph.test_joined import dense


def test_each_signature_is_held_against_its_graph() -> None:
    graphs = {"a": dense(1), "b": dense(2)}
    feeds = {key: [{0: noise(1, 64, seed=k)} for k in range(3)] for key in graphs}
    assert require_same(joined(graphs), graphs, feeds) == 6
    with pytest.raises(InvariantError, match="signature b"):
        require_same(joined(graphs), {"a": graphs["a"], "b": graphs["a"]}, feeds)
    with pytest.raises(InvariantError, match="has the signatures"):
        require_same(joined(graphs), {"a": graphs["a"]}, feeds)
