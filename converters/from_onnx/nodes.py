"""What rewrites of ONNX models are made of: shapes, constants, and nodes that take the place of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from edgeqwt.graph.graph import Array

Shape = tuple[int, ...]
Rule = Callable[["Editing", "onnx.NodeProto"], bool]
"""Adds what stands in for a node and returns True, or returns False; see `Editing.replaced`."""

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
SIZED = frozenset({"TopK", "Reshape", "Expand", "Tile", "Slice", "Resize", "Pad", "Range", "ConstantOfShape", "OneHot"})
NESTED = frozenset({"If", "Loop", "Scan"})


class Values:
    """What is known of a model's values before any sample is.

    Args:
        model: with static input shapes; its own record of shapes is completed by inference.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.opset = operator_set(model)
        self._producers = {name: node for node in model.graph.node for name in node.output if name}
        self._initializers = {i.name: i for i in model.graph.initializer}
        self._computed: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}
        self._read(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
        self._static = self._follows()
        self._read_behind_computed_sizes()

    def _read_behind_computed_sizes(self) -> None:
        """Shapes behind sizes that are computed, of which inference loses track; behind these others become known."""
        asked = {n for node in self.model.graph.node if node.op_type in SIZED for n in node.input[1:]}
        known, plain = set(self._initializers), onnx.ModelProto()
        while sizes := (asked & self._static) - known:
            known |= sizes
            if not plain.graph.node:
                plain.CopyFrom(self.model)
            kept = [node for node in plain.graph.node if sizes.isdisjoint(node.output)]
            del plain.graph.node[:]
            plain.graph.node.extend(kept)
            plain.graph.initializer.extend(
                onnx.numpy_helper.from_array(array, name)
                for name in sorted(sizes)
                if (array := self.constant(name)) is not None
            )
            self._read(onnx.shape_inference.infer_shapes(plain, data_prop=True).graph)
            self._static = self._follows()

    def _read(self, graph: onnx.GraphProto) -> None:
        """Takes down the types and shapes that inference found."""
        for value in (*graph.value_info, *graph.input, *graph.output):
            tensor = value.type.tensor_type
            self.types[value.name] = tensor.elem_type
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                self.shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
        for initializer in graph.initializer:
            self.shapes[initializer.name] = tuple(initializer.dims)
            self.types[initializer.name] = initializer.data_type

    def constant(self, name: str) -> Array | None:
        """A value that depends on no input, computed by onnxruntime; None for others."""
        if name in self._initializers:
            return np.asarray(numpy_helper.to_array(self._initializers[name]))
        if name not in self._static:
            return None
        if name not in self._computed:
            self._computed[name] = self._run(name)
        return self._computed[name]

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a value."""
        return self._producers.get(name)

    def _follows(self) -> frozenset[str]:
        """The values that follow from constants and shapes alone."""
        known = set(self._initializers)
        for node in self.model.graph.node:
            of_shape = node.op_type == "Shape" and node.input[0] in self.shapes
            alone = node.op_type not in RANDOM | NESTED and all(name in known for name in node.input if name)
            if of_shape or alone:
                known.update(node.output)
        return frozenset(known)

    def _run(self, name: str) -> Array:
        needed, shapes, todo = dict[int, onnx.NodeProto](), dict[str, onnx.TensorProto](), [name]
        used = set[str]()
        while todo:
            value = todo.pop()
            node = self._producers.get(value)
            if node is None or value in used:
                used.add(value)
                continue
            used.add(value)
            if node.op_type == "Shape" and node.input[0] in self.shapes:
                part = attributes(node)
                shape = self.shapes[node.input[0]][part.get("start", 0) : part.get("end")]
                shapes[value] = onnx.numpy_helper.from_array(np.array(shape, np.int64), value)
            else:
                needed[id(node)] = node
                todo.extend(n for n in node.input if n)
        ordered = [node for node in self.model.graph.node if id(node) in needed]
        held = [self._initializers[n] for n in sorted(used) if n in self._initializers]
        output = onnx.helper.make_tensor_value_info(name, self.types.get(name, 0), None)
        graph = onnx.helper.make_graph(ordered, "constants", [], [output], [*held, *shapes.values()])
        model = onnx.helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run([name], {})[0])


class Editing:
    """A model that is written anew, node by node.

    Args:
        values: of the model.
    """

    def __init__(self, values: Values) -> None:
        self.values = values
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._taken = {*values.shapes, *values.types}
        self._location: onnx.NodeProto | None = None

    def at(self, node: onnx.NodeProto) -> None:
        """Names what is added from now on after a node, and puts it at the node's location in the source."""
        self._location = node

    def replaced(self, rule: Rule | None, node: onnx.NodeProto) -> bool:
        """Whether a rule put something else in the node's place; where it did not, nothing that it added stays."""
        before = len(self.nodes), len(self.initializers)
        if rule is not None and rule(self, node):
            return True
        del self.nodes[before[0] :], self.initializers[before[1] :]
        return False

    def array(self, data: Array) -> str:
        """A new constant's name."""
        name = self._name("constant")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(data), name))
        self.values.shapes[name] = data.shape
        return name

    def integers(self, *values: int) -> str:
        """A new constant vector of int64."""
        return self.array(np.array(values, np.int64))

    def add(
        self, kind: str, inputs: Sequence[str], shape: Shape | None = None, output: str | None = None, **attributes: Any
    ) -> str:
        """Adds a node with one output, and returns the output's name.

        Args:
            kind: of the node.
            inputs: names.
            shape: of the output, where somebody asks for it later.
            output: its name; a new one by default.
            attributes: those that are None are left out.
        """
        name = self._name(kind.lower()) if output is None else output
        given = {key: value for key, value in attributes.items() if value is not None}
        node = onnx.helper.make_node(kind, list(inputs), [name], name=self._name(kind), **given)
        if self._location is not None:
            node.metadata_props.extend(self._location.metadata_props)
        self.nodes.append(node)
        if shape is not None:
            self.values.shapes[name] = shape
        return name

    def reshaped(self, x: str, shape: Shape, output: str | None = None) -> str:
        """The values in another shape; x itself where it has that shape and no name is asked for."""
        if output is None and self.values.shapes.get(x) == shape:
            return x
        return self.add("Reshape", [x, self.integers(*shape)], shape, output)

    def sliced(self, x: str, axis: int, start: int, stop: int, step: int = 1) -> str:
        """Part of the values along an axis, stop excluded; x itself where that is all of them."""
        shape = self.values.shapes[x]
        if (start, step) == (0, 1) and stop >= shape[axis]:
            return x
        size = len(range(start, min(stop, shape[axis]), step))
        new = (*shape[:axis], size, *shape[axis + 1 :])
        ends = [self.integers(n) for n in (start, stop, axis, step)]
        return self.add("Slice", [x, *ends], new)

    def joined(self, parts: Sequence[str], axis: int, output: str | None = None) -> str:
        """Values one behind the other along an axis."""
        if len(parts) == 1 and output is None:
            return parts[0]
        shapes = [self.values.shapes[p] for p in parts]
        total = sum(s[axis] for s in shapes)
        return self.add("Concat", parts, (*shapes[0][:axis], total, *shapes[0][axis + 1 :]), output, axis=axis)

    def finish(self) -> onnx.ModelProto:
        """The model with the new nodes."""
        model = onnx.ModelProto()
        model.CopyFrom(self.values.model)
        del model.graph.node[:]
        model.graph.node.extend(self.nodes)
        model.graph.initializer.extend(self.initializers)
        read = {name for node in self.nodes for name in node.input} | {o.name for o in model.graph.output}
        kept = [i for i in model.graph.initializer if i.name in read or self.nested]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        return model

    @property
    def nested(self) -> bool:
        """Whether bodies of control flow may read what no node of the main graph does."""
        return any(node.op_type in NESTED for node in self.nodes)

    def _name(self, what: str) -> str:
        location = "" if self._location is None else self._location.name or self._location.output[0]
        name, k = f"{location}/{what}", 1
        while name in self._taken:
            name, k = f"{location}/{what}_{k}", k + 1
        self._taken.add(name)
        return name


def operator_set(model: onnx.ModelProto) -> int:
    """The version of ONNX's own ops; 0 where the model states none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name; strings as str."""
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}
