"""Why a tensor uses little of its integers."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.tensor import Quantization
from edgeqwt.report.shared_scales import range_reasons
from tests.chain import NONE, Chain


def joined(scales: dict[str, float]) -> Graph:
    """A RELU's output and a softmax's, moved, joined with another input."""
    chain = Chain()
    x, y = chain.input((1, 4), "x"), chain.input((1, 4), "y")
    shares = chain.op("SOFTMAX", x, name="shares", shape=(1, 4), beta=1.0)
    moved = chain.op("RESHAPE", chain.op("RELU", x, name="small", shape=(1, 4)), name="moved", shape=(1, 4))
    both = chain.op("CONCATENATION", moved, y, name="both", shape=(1, 8), axis=1, **NONE)
    graph = chain.graph(shares, both)
    tensors = [
        replace(t, dtype="int8", quantization=Quantization.per_tensor(scales[t.name], -128)) for t in graph.tensors
    ]
    return replace(graph, tensors=tuple(tensors))


SCALES = {"x": 1 / 255, "y": 0.1, "shares": 1 / 256, "small": 0.1, "moved": 0.1, "both": 0.1}
SPANS = {"x": (0, 1), "y": (0, 25), "shares": (0, 0.2), "small": (0, 2), "moved": (0, 2), "both": (0, 25)}


def reasons(graph: Graph, spans: dict[str, tuple[float, float]]) -> dict[str, str]:
    index = {t.name: i for i, t in enumerate(graph.tensors)}
    found = range_reasons(graph, {index[name]: span for name, span in spans.items()})
    return {graph.tensors[t].name: reason for t, reason in found.items()}


def test_a_tensor_that_is_joined_with_a_larger_one_shares_its_scale() -> None:
    found = reasons(joined(SCALES), SPANS)
    assert sorted(found) == ["moved", "shares", "small"]
    for name in ("small", "moved"):
        assert found[name].startswith(
            "It shares the scale of 'y', whose values reach from 0 to 25; what ties them: CONC"
        )
    assert found["shares"] == "SOFTMAX's kernel demands this scale."


def test_a_scale_of_its_own_has_no_such_reason() -> None:
    assert reasons(joined({**SCALES, "small": 0.02, "moved": 0.02}), {**SPANS, "shares": (0, 1)}) == {}
