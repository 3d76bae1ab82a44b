from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Signature
from edgeqwt.target.package.details import of_graph
from tests.targets.package import common


def test_a_file_is_named_by_its_tensors() -> None:
    graph = replace(common.int8(), signatures=())
    details = of_graph(graph)
    assert [p.name for p in details.inputs] == [graph.tensors[t].name for t in graph.inputs]
    assert [p.shape for p in details.outputs] == [graph.tensors[t].shape for t in graph.outputs]
    assert details.inputs[0].permutation is None


def test_or_by_its_signature() -> None:
    graph = common.int8()
    signature = Signature("serve", (("picture", graph.inputs[0]),), (("scores", graph.outputs[0]),))
    details = of_graph(replace(graph, signatures=(signature,)))
    assert (details.inputs[0].name, details.outputs[0].name) == ("picture", "scores")
