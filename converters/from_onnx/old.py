"""ONNX models of old operator sets as those of today: onnxruntime has kernels from set 7 on, and rewrites from 13 on.

Model zoos and exporters of 2017 to 2020 wrote sets 1 to 11. onnx2tf reads several ops of theirs by today's rules:
Softmax over the last axis alone, Pad with zeros, and no Upsample at all. ONNX's own version converter knows the
differences from 7 on; before it, and where it errs, the rules here do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from edgeqwt.converters.from_onnx.nodes import attributes, operator_set
from edgeqwt.graph.graph import Array

FIRST = 7  # the first set that onnxruntime runs
TODAY = 13  # the set that all rewrites know
IR = 7  # of files of that set
LISTED = 4  # the first IR version whose initializers need not be inputs, too
RESIZE_STATED = 11  # the first set whose Resize says where elements lie
HELD = 1 << 10  # elements of a constant that adapters may have to read: sizes, scales, limits
GONE = frozenset({"consumed_inputs", "is_test", "broadcast", "output_sequence"})
"""Attributes that said what is always so since."""
ALONG = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "PRelu"})
"""Ops whose second input was spread along an axis that they named; PRelu's along the channels."""
Constant = Callable[[str, Array], str]
"""Adds a constant by a hint of its name; returns its name."""
Form = Callable[[onnx.NodeProto, Mapping[str, Any], Constant], list[onnx.NodeProto]]


def with_kernels(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of a set below 7 as one of 7, without ops that were experiments; the model itself where it is neither.

    Args:
        model: as it was loaded, unchecked.
    """
    old, tried = 0 < operator_set(model) < FIRST, any(node.op_type in TRIED for node in model.graph.node)
    if not old and not tried:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constant = _constants(made)
    nodes = list[onnx.NodeProto]()
    for node in made.graph.node:
        given, form = attributes(node), (BELOW_SEVEN if old else TRIED).get(node.op_type)
        nodes += [node] if form is None else form(node, given, constant)
    if old:
        axes = {node.output[0]: attributes(node).get("axis", 1) for node in nodes if _spreads(node)}
        for node in nodes:
            gone = GONE | {"axis"} if node.op_type in ALONG else GONE
            _set(node, {name: value for name, value in attributes(node).items() if name not in gone})
        _set_opset(made, FIRST)
        nodes = [*_spread(made, nodes, axes, constant)]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def renewed(
    model: onnx.ModelProto, agrees: Callable[[onnx.ModelProto], bool]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A model of a set from 7 to 12 as one of 13, and sentences on that; the model itself where that cannot be.

    Args:
        model: with static input shapes.
        agrees: whether a model computes what this one does.
    """
    opset = operator_set(model)
    if not FIRST <= opset < TODAY:
        return model, ()
    with suppress(Exception):  # the converter's exceptions are RuntimeErrors of many texts; what it cannot do stays old
        made = _converted(_as_sevens(model))
        if opset < RESIZE_STATED:
            for node in made.graph.node:
                if node.op_type == "Resize":
                    where = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                    _set(node, {**attributes(node), **where})
        if agrees(made):
            return made, (f"the ops of ONNX's operator set {opset} were written as those of {TODAY}",)
    return model, ()


def _as_sevens(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in forms that the version converter knows."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constant, nodes = _constants(made), list[onnx.NodeProto]()
    held = {i.name: i for i in made.graph.initializer}
    for node in made.graph.node:
        whole = node.op_type == "BatchNormalization" and attributes(node).get("spatial", 1) == 0
        nodes += _each_by_itself(node, held, constant) if whole else [node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _each_by_itself(
    node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto], constant: Constant
) -> list[onnx.NodeProto]:
    """Batch normalization with numbers of each position; itself where they are no constants."""
    if not all(name in held for name in node.input[1:]):
        return [node]
    scale, bias, mean, variance = (numpy_helper.to_array(held[name]) for name in node.input[1:])
    factor = scale / np.sqrt(variance + np.float32(attributes(node).get("epsilon", 1e-5)))
    names = [
        constant(f"{node.output[0]}/{what}", v[None]) for what, v in (("by", factor), ("plus", bias - mean * factor))
    ]
    between = f"{node.output[0]}/scaled"
    return [
        helper.make_node("Mul", [node.input[0], names[0]], [between], node.name and f"{node.name}/Mul"),
        helper.make_node("Add", [between, names[1]], node.output, node.name),
    ]


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """By ONNX's version converter, which asks for weights as inputs, and need not see large ones."""
    graph = model.graph
    listed = {value.name for value in graph.input}
    graph.input.extend(
        helper.make_tensor_value_info(i.name, i.data_type, i.dims) for i in graph.initializer if i.name not in listed
    )
    large = [i for i in graph.initializer if np.prod(i.dims) > HELD]
    names = {i.name for i in graph.initializer}
    small = [i for i in graph.initializer if np.prod(i.dims) <= HELD]
    del graph.initializer[:]
    graph.initializer.extend(small)
    made = version_converter.convert_version(model, TODAY)
    del made.graph.value_info[:]
    made = onnx.shape_inference.infer_shapes(made, data_prop=True)  # before there are copies of weights to be made
    made.graph.initializer.extend(large)
    inputs = [value for value in made.graph.input if value.name not in names]
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    made.ir_version = max(made.ir_version, IR)
    return made


# -- sets below 7 --------------------------------------------------------------------


def _spreads(node: onnx.NodeProto) -> bool:
    given = attributes(node)
    return node.op_type == "PRelu" or (node.op_type in ALONG and "axis" in given and bool(given.get("broadcast")))


def _spread(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], axes: Mapping[str, int], constant: Constant
) -> Iterator[onnx.NodeProto]:
    """Nodes whose second inputs have the rank that today's rules for spreading ask for."""
    if not axes:
        yield from nodes
        return
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.graph.node[:]
    plain.graph.node.extend(  # what is spread has the shape of what it is spread over
        helper.make_node("Identity", n.input[:1], n.output[:1]) if n.output[0] in axes else n for n in nodes
    )
    graph = onnx.shape_inference.infer_shapes(plain).graph
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.input, *graph.output)}
    ranks |= {i.name: len(i.dims) for i in graph.initializer}
    for node in nodes:
        if node.output[0] in axes and {*node.input[:2]} <= ranks.keys():
            rank, own = ranks[node.input[0]], ranks[node.input[1]]
            behind = rank - axes[node.output[0]] % rank - own if own else 0
            if behind > 0:
                sizes = constant(f"{node.output[0]}/sizes", np.array([*[0] * own, *[1] * behind], np.int64))
                wide = f"{node.output[0]}/spread"
                yield helper.make_node("Reshape", [node.input[1], sizes], [wide], node.name and f"{node.name}/Reshape")
                node.input[1] = wide
        yield node


def _renamed(names: Mapping[str, str], **more: Any) -> Form:
    """The node with other names of attributes, and with those that it lacks."""

    def form(node: onnx.NodeProto, given: Mapping[str, Any], constant: Constant) -> list[onnx.NodeProto]:
        _set(node, {**more, **{names.get(name, name): value for name, value in given.items()}})
        return [node]

    return form


def _reshape(node: onnx.NodeProto, given: Mapping[str, Any], constant: Constant) -> list[onnx.NodeProto]:
    """The shape as an input."""
    if "shape" in given:
        node.input.append(constant(f"{node.output[0]}/shape", np.array(given["shape"], np.int64)))
        _set(node, {})
    return [node]


def _upsample(node: onnx.NodeProto, given: Mapping[str, Any], constant: Constant) -> list[onnx.NodeProto]:
    """Scales of all axes."""
    if "height_scale" in given:
        scales = [1.0, 1.0, given["height_scale"], given["width_scale"]]
        mode = given.get("mode", "nearest")
        _set(node, {"mode": {"bilinear": "linear"}.get(mode, mode), "scales": scales})
    return [node]


def _cast(node: onnx.NodeProto, given: Mapping[str, Any], constant: Constant) -> list[onnx.NodeProto]:
    """The type as a number."""
    if isinstance(given.get("to"), str):
        _set(node, {"to": onnx.TensorProto.DataType.Value(given["to"])})
    return [node]


def _line(node: onnx.NodeProto, given: Mapping[str, Any], constant: Constant) -> list[onnx.NodeProto]:
    """Experiments that multiply and add: Affine, Scale, and ImageScaler, which adds to each channel."""
    factor = given.get("alpha", given.get("scale", 1.0))
    offset = np.array(given.get("bias", given.get("beta", 0.0)), np.float32)
    scaled = f"{node.output[0]}/scaled"
    by = constant(f"{node.output[0]}/by", np.array(factor, np.float32))
    plus = constant(f"{node.output[0]}/plus", offset.reshape(1, -1, 1, 1) if offset.ndim else offset)
    return [
        helper.make_node("Mul", [node.input[0], by], [scaled], node.name and f"{node.name}/Mul"),
        helper.make_node("Add", [scaled, plus], node.output, node.name),
    ]


TRIED: Mapping[str, Form] = MappingProxyType({"Affine": _line, "ImageScaler": _line, "Scale": _line})
"""Experiments that were never of the standard."""
BELOW_SEVEN: Mapping[str, Form] = MappingProxyType(
    {
        **TRIED,
        "Cast": _cast,
        "Concat": _renamed({}, axis=1),
        "Pad": _renamed({"paddings": "pads"}),
        "Reshape": _reshape,
        "Upsample": _upsample,
    }
)
"""What is written otherwise from set 7 on, or asks for what could be left out."""


# -- details ---------------------------------------------------------------------------


def _constants(model: onnx.ModelProto) -> Constant:
    """Adds constants to a model."""
    taken = {i.name for i in model.graph.initializer} | {n for node in model.graph.node for n in node.output}

    def constant(hint: str, value: Array) -> str:
        name, k = hint, 1
        while name in taken:
            name, k = f"{hint}_{k}", k + 1
        taken.add(name)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        if model.ir_version < LISTED:
            found = model.graph.initializer[-1]
            model.graph.input.append(helper.make_tensor_value_info(name, found.data_type, found.dims))
        return name

    return constant


def _set(node: onnx.NodeProto, given: Mapping[str, Any]) -> None:
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in given.items())


def _set_opset(model: onnx.ModelProto, version: int) -> None:
    for imported in model.opset_import:
        if imported.domain in ("", "ai.onnx"):
            imported.version = version
