"""The signatures of a file in LiteRT, each beside the graph that it was joined from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgeqwt.errors import InvariantError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import xnnpack

Feeds = Iterable[Mapping[int, Array]]


def require_same(file: Graph, graphs: Mapping[str, Graph], feeds: Mapping[str, Feeds]) -> int:
    """Runs each signature of a file as programs do, by its key, and the graph that it was joined from.

    Args:
        file: what `joined` made of the graphs.
        graphs: by the keys of the signatures.
        feeds: samples of each, real values by input tensor of its graph.

    Returns:
        How many outputs were compared.

    Raises:
        InvariantError: one computes another byte than its graph, or the file has other signatures.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer.to_bytes(file), num_threads=1)
    if {*interpreter.get_signature_list()} != {*graphs}:
        raise InvariantError(f"the file has the signatures {sorted(interpreter.get_signature_list())}")
    signatures = {s.key: s for part in (file, *file.others) for s in part.signatures}
    compared = 0
    for key, graph in graphs.items():
        runner, alone, names = interpreter.get_signature_runner(key), xnnpack(graph), signatures[key]
        for feed in feeds[key]:
            values = graph_feed(graph, feed)
            wanted = alone.run(values)
            found = runner(**{name: values[t] for name, t in names.inputs})
            for name, t in names.outputs:
                compared += 1
                if not np.array_equal(found[name], wanted[t]):
                    raise InvariantError(f"signature {key} of the file computes other values than its graph alone")
    return compared
