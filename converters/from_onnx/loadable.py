"""What exporters write and onnxruntime or ONNX's inference do not take, or no conversion does, set right on loading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeqwt.converters.from_onnx import windows
from edgeqwt.converters.from_onnx.dynamic import in_float
from edgeqwt.converters.from_onnx.nodes import attributes

ONE = "edgeqwt/one"


def loadable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with what torch's exporter writes and onnxruntime does not run set right, and dynamic ranges undone.

    ONNX's own rules ask for TopK's count as a vector, and onnxruntime for numbers where a Conv with gaps is padded.
    Inference of shapes forgets that an STFT that does not say so has one side only.
    The model itself comes back where nothing is wrong. Nodes that no runtime takes stay what they are: it names them.
    """
    ranks = {i.name: tuple(i.dims) for i in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            ranks[node.output[0]] = tuple(node.attribute[0].t.dims)
    nodes, changed = list[onnx.NodeProto](), False
    for node in model.graph.node:
        fixed = [*_fixed(node, ranks)]
        changed = changed or bool(fixed)
        nodes += fixed or [node]
    added = [numpy_helper.from_array(np.array([1], np.int64), ONE)] if any(ONE in n.input for n in nodes) else []
    if not changed:
        return in_float(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(added)
    return in_float(made)


def _fixed(node: onnx.NodeProto, ranks: Mapping[str, tuple[int, ...]]) -> Iterator[onnx.NodeProto]:
    """Nodes in place of one; none where it stays."""
    if node.op_type == "Conv" and len(node.input) > 1:
        padded = windows.explicitly_padded(node, ranks.get(node.input[1], ()))
        yield from [] if padded is None else [padded]
    elif node.op_type == "TopK" and len(node.input) > 1 and len(ranks.get(node.input[1], ())) != 1:
        vector = f"{node.output[0]}/count"
        yield helper.make_node("Reshape", [node.input[1], ONE], [vector])
        counted = onnx.NodeProto()
        counted.CopyFrom(node)
        counted.input[1] = vector
        yield counted
    elif node.op_type == "STFT" and "onesided" not in attributes(node):
        stated = onnx.NodeProto()
        stated.CopyFrom(node)
        stated.attribute.append(helper.make_attribute("onesided", 1))
        yield stated
