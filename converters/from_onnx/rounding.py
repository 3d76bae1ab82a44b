"""ONNX models that round on the way: QuantizeLinear and DequantizeLinear in a row (QDQ), and the float model below."""

from __future__ import annotations

import onnx


def without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every QuantizeLinear and the DequantizeLinear behind it taken out; constants stay rounded.

    The very same model where it has none.
    """
    nodes = model.graph.node
    producers = {value: i for i, node in enumerate(nodes) for value in node.output}
    activations = {*producers, *(value.name for value in model.graph.input)}
    moved: dict[str, str] = {}
    dropped = set[int]()
    for i, node in enumerate(nodes):
        before = producers.get(node.input[0], -1) if node.op_type == "DequantizeLinear" else -1
        if before >= 0 and nodes[before].op_type == "QuantizeLinear" and nodes[before].input[0] in activations:
            moved[node.output[0]] = nodes[before].input[0]
            dropped |= {i, before}
    if not moved:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    for i, node in enumerate(nodes):
        if i not in dropped:
            kept = result.graph.node.add()
            kept.CopyFrom(node)
            for k, name in enumerate(kept.input):
                kept.input[k] = _last(moved, name)
    for output in _ends(model, moved):
        result.graph.node.append(onnx.helper.make_node("Identity", [_last(moved, output.name)], [output.name]))
    return result


def rounds(model: onnx.ModelProto) -> bool:
    """Whether a model rounds on the way."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _ends(model: onnx.ModelProto, moved: dict[str, str]) -> list[onnx.ValueInfoProto]:
    """Outputs that were rounded: they keep their names."""
    return [output for output in model.graph.output if output.name in moved]


def _last(moved: dict[str, str], name: str) -> str:
    while name in moved:
        name = moved[name]
    return name
