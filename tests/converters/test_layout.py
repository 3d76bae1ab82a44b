from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.converted import Binding
from edgeqwt.converters.layout import named_after_locations, named_as_in_source, without_transposes
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack
from tests.chain import CONV, Chain, noise


def ends(order: Sequence[int] = (0, 2, 3, 1), *, read_twice: bool = False, back: bool = True) -> Graph:
    """An image (1, 3, 4, 4), transposed, through a convolution to (1, 4, 4, 5), and back to (1, 5, 4, 4)."""
    chain = Chain()
    x = chain.input((1, 3, 4, 4), "image")
    moved = chain.op("TRANSPOSE", x, chain.constant(np.array(order)), name="moved")
    filters = chain.constant(noise(5, 3, 3, chain.tensors[moved].shape[3], seed=1)[:, :, :, :], "filters")
    y = chain.op("CONV_2D", moved, filters, chain.constant(noise(5, seed=2)), name="features", **CONV)
    outputs = [chain.op("TRANSPOSE", y, chain.constant(np.array((0, 3, 1, 2))), name="map") if back else y]
    if read_twice:
        outputs.append(chain.op("RELU", x, name="other"))
    return chain.graph(*outputs)


def run(graph: Graph, image: Array) -> Array:
    return xnnpack(graph).run({graph.inputs[0]: image})[graph.outputs[0]]


def test_transposes_at_the_ends_go_into_the_interface() -> None:
    graph, image = ends(), noise(1, 3, 4, 4, seed=3)
    found, inputs, outputs = without_transposes(graph)
    assert [op.kind for op in found.ops] == ["CONV_2D"]
    assert inputs == {found.inputs[0]: (0, 2, 3, 1)}
    assert outputs == {found.outputs[0]: (0, 2, 3, 1)}
    source = Binding(InputSpec("map", (1, 5, 4, 4), "float32"), found.outputs[0], (0, 2, 3, 1))
    fed = Binding(InputSpec("image", (1, 3, 4, 4), "float32"), found.inputs[0], (0, 2, 3, 1))
    np.testing.assert_array_equal(source.to_source(run(found, fed.to_graph(image, found))), run(graph, image))


def test_an_input_that_something_else_reads_stays() -> None:
    graph = ends(read_twice=True)
    found, inputs, outputs = without_transposes(graph)
    assert not inputs
    assert list(outputs.values()) == [(0, 2, 3, 1)]
    assert [op.kind for op in found.ops] == ["TRANSPOSE", "CONV_2D", "RELU"]


def test_other_orders_stay() -> None:
    chain = Chain()
    x = chain.input((1, 3, 4, 4), "image")
    y = chain.op("RELU", chain.op("TRANSPOSE", x, chain.constant(np.array((0, 1, 3, 2)))), name="y")
    graph = chain.graph(y)
    assert without_transposes(graph)[0] is graph


def test_tensors_are_called_after_the_source() -> None:
    graph = ends()
    found, where = named_after_locations(graph, {"moved": "stem (TRANSPOSE)", "features": "stem", "map": "head"})
    assert [found.tensors[op.outputs[0]].name for op in found.ops] == ["stem", "stem_1", "map"]
    assert where == {"stem": "stem (TRANSPOSE)", "stem_1": "stem", "map": "head"}
    named = named_as_in_source(graph, [Binding(InputSpec("x", (1, 3, 4, 4), "float32"), graph.inputs[0])])
    assert named.tensors[named.inputs[0]].name == "x"
