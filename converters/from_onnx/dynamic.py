"""ONNX models that dynamic quantization rounded, as float models: weights keep their values, activations their bits.

onnxruntime's `quantize_dynamic` keeps weights in 8 bits and takes the range of each activation at run time. No kernel
of TFLite does that in integers: a file whose ranges are calibrated is made of the float model.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from edgeqwt.converters.from_onnx.edit import constant_value
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

PRODUCTS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
RANGES, LSTM = "DynamicQuantizeLinear", "DynamicQuantizeLSTM"
FLOAT_MODEL = "Give the float model that it was made of."


def in_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with products of the values themselves, whose scale is then 1, and weights that are whole numbers.

    What weights are multiplied by follows in the graph, as before. The model itself where it has no such products.

    Raises:
        InputError: weights are computed, or the integers of a range of the moment are used in another way.
    """
    given = model.graph.node
    if not any(node.op_type in (RANGES, LSTM) for node in given):
        return model
    rounded, biases, added = {n.output[0] for n in given if n.op_type == RANGES}, _biases(model), dict[str, Array]()
    nodes = list[NodeProto]()
    for node in given:
        if node.op_type == LSTM or (node.op_type in PRODUCTS and node.input[0] in rounded):
            try:
                nodes.append((_lstm if node.op_type == LSTM else _product)(model, node, added))
            except ValueError as error:  # of arrays that do not fit each other
                raise InputError(f"{node.op_type} {node.name!r} has weights of wrong shapes", FLOAT_MODEL) from error
        elif node.op_type == RANGES:
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))
            nodes.append(
                helper.make_node(
                    "Constant", [], [node.output[1]], value=numpy_helper.from_array(np.array(1, np.float32))
                )
            )
        elif not biases.isdisjoint(node.output):
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))
        elif rounded.isdisjoint(node.input):
            nodes.append(node)
        else:
            raise InputError(
                f"{node.op_type} {node.name!r} reads integers whose range is taken at run time", FLOAT_MODEL
            )
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.value_info[:]  # some were integers
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in added.items())
    return made


def _product(model: onnx.ModelProto, node: NodeProto, added: dict[str, Array]) -> NodeProto:
    """A convolution or matrix product of floats."""
    zero = _constant(model, node, 3) if len(node.input) > 3 and node.input[3] else np.zeros((), np.float32)
    weights = _constant(model, node, 1)
    if node.op_type == "ConvInteger" and zero.ndim:  # one for each output channel, the first axis there
        zero = zero.reshape(-1, *[1] * (weights.ndim - 1))
    name = f"{node.input[1]}/float32"
    added[name] = weights - zero
    made = helper.make_node(PRODUCTS[node.op_type], [node.input[0], name], node.output, node.name)
    made.attribute.extend(node.attribute)
    return made


def _lstm(model: onnx.ModelProto, node: NodeProto, added: dict[str, Array]) -> NodeProto:
    """The LSTM of floats: weights there are (directions, inputs, gates), in ONNX (directions, gates, inputs)."""
    names = []
    for weights, scale in ((1, 8), (2, 10)):
        parts = [_constant(model, node, k) for k in (weights, scale, scale + 1)]
        spread = [part.reshape(part.shape[0] if part.ndim else 1, 1, -1) for part in parts[1:]]
        names.append(f"{node.input[weights]}/float32")
        added[names[-1]] = np.ascontiguousarray(((parts[0] - spread[1]) * spread[0]).transpose(0, 2, 1))
    made = helper.make_node("LSTM", [node.input[0], *names, *node.input[3:8]], node.output, node.name)
    made.attribute.extend(node.attribute)
    return made


def _constant(model: onnx.ModelProto, node: NodeProto, position: int) -> Array:
    """What an input always is, as float32."""
    found = constant_value(model, node.input[position], {}) if position < len(node.input) else None
    if found is None:
        raise InputError(f"the weights of {node.op_type} {node.name!r} are computed, or not there", FLOAT_MODEL)
    return found.astype(np.float32)


def _biases(model: onnx.ModelProto) -> set[str]:
    """What rounds biases to the steps of products: the outputs of a Floor and of the Cast to integers behind it."""
    makers = {output: node for node in model.graph.node for output in node.output}
    scales = {node.output[1] for node in model.graph.node if node.op_type == RANGES}

    def chain(node: NodeProto, kinds: tuple[str, ...]) -> Iterator[NodeProto]:
        """The producers of first inputs, as far as they are of these kinds in turn."""
        for kind in kinds:
            found = makers.get(node.input[0])
            if found is None or found.op_type != kind:
                return
            node = found
            yield node

    found = set[str]()
    for node in model.graph.node:
        before = [*chain(node, ("Floor", "Div"))] if node.op_type == "Cast" else []
        step = makers.get(before[1].input[1]) if len(before) == 2 else None
        if step is not None and not scales.isdisjoint(step.input):
            found |= {node.output[0], before[0].output[0]}
    return found
