"""Several graphs of one model in one file: a signature and a subgraph for each, and constants of equal values once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph, Signature, Tensor

Constants = dict[tuple[str, tuple[int, ...], bytes], Array]


def joined(graphs: Mapping[str, Graph]) -> Graph:
    """One model with a signature per graph; the first graph is its main subgraph.

    Constants of the same values share a buffer of the file, so that graphs with the same weights hold them once.
    Signatures of the same graph share its subgraph.

    Args:
        graphs: by the keys of their signatures, with the same inputs and outputs.

    Raises:
        InputError: a graph has control flow, or its inputs or outputs are others than the first one's.
    """
    distinct = list({id(graph): graph for graph in graphs.values()}.values())
    for key, graph in graphs.items():
        if graph.others:
            raise InputError(f"{key}: a model with control flow cannot be joined", "Join models without If and While.")
        if _ends(graph) != _ends(distinct[0]):
            raise InputError(f"{key} has other inputs or outputs than {next(iter(graphs))}", "Join files of one model.")
    known: Constants = {}
    parts = [
        replace(
            graph,
            tensors=tuple(_shared(tensor, known) for tensor in graph.tensors),
            signatures=tuple(_signature(graph, key) for key, other in graphs.items() if other is graph),
            metadata={},
        )
        for graph in distinct
    ]
    main, *others = parts
    return replace(main, metadata=distinct[0].metadata, others=tuple(others))


def _ends(graph: Graph) -> tuple[object, ...]:
    signature = _signature(graph, "")
    ends = (*signature.inputs, *signature.outputs)
    return tuple((name, graph.tensors[t].shape) for name, t in ends)


def _signature(graph: Graph, key: str) -> Signature:
    """The graph's signature with another key; one by the names of its tensors where it has none."""
    if graph.signatures:
        return replace(graph.signatures[0], key=key)
    inputs, outputs = (tuple((graph.tensors[t].name, t) for t in ends) for ends in (graph.inputs, graph.outputs))
    return Signature(key, inputs, outputs)


def _shared(tensor: Tensor, known: Constants) -> Tensor:
    """The tensor; where an earlier one has the same constant, with that one's memory."""
    if tensor.data is None:
        return tensor
    key = tensor.dtype, tensor.data.shape, tensor.data.tobytes()
    return replace(tensor, data=known.setdefault(key, tensor.data))
