"""Writing nodes into an ONNX model, and what can be known of its values without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeqwt.graph.graph import Array

NUM_OUTPUTS = 18  # the opset from which on Split must be given how many parts it makes
LARGEST_FOLDED = 1 << 22  # elements of a value that is worth computing beforehand


@dataclass(frozen=True, eq=False)
class Written:
    """Nodes that stand for one node of the original model.

    Attributes:
        original: the model that the node is of.
        model: the model that grows.
        prefix: that the names of values begin with.
        opset: of the model.
        location: that the names of nodes begin with: the original node's name.
        taken: names of values so far; shared by all that write into the model.
    """

    original: onnx.ModelProto
    model: onnx.ModelProto
    prefix: str
    opset: int
    location: str
    taken: set[str] = field(default_factory=set)
    constants: dict[tuple[bytes, tuple[int, ...], str], str] = field(default_factory=dict)

    def below(self, label: str) -> Written:
        """Names with something more in front."""
        return replace(self, prefix=f"{self.prefix}{label}")

    def step(self, t: int) -> Written:
        """The same for step t, counted from 0."""
        return self.below(f".{t}")

    def op(self, kind: str, inputs: Sequence[str], name: str, *, named: bool = False, **attributes: Any) -> str:
        """Writes a node with one output, named behind the prefix (`named`: as it is); returns the output's name."""
        return self._node(kind, inputs, [name if named else self._free(name)], attributes)[0]

    def split(self, source: str, parts: int, axis: int, name: str) -> list[str]:
        """Equal parts."""
        attributes = {"axis": axis, **({"num_outputs": parts} if self.opset >= NUM_OUTPUTS else {})}
        return self._node("Split", [source], [self._free(f"{name}{k}") for k in range(parts)], attributes)

    def concat(self, parts: Sequence[str], axis: int, name: str) -> str:
        """One value of several, which may be one."""
        return parts[0] if len(parts) == 1 else self.op("Concat", parts, name, axis=axis)

    def reshape(self, source: str, shape: Sequence[int], name: str, *, named: bool = False) -> str:
        """The value in another shape."""
        wanted = self.constant(np.array(shape, np.int64), "shape")
        return self.op("Reshape", [source, wanted], name, named=named)

    def gemm(self, rows: str, weights: Array, bias: Array | None, name: str) -> str:
        """rows @ weights^T + bias."""
        zeros = np.zeros(len(weights), np.float32)
        constants = [self.constant(weights, "w"), self.constant(zeros if bias is None else bias, "b")]
        return self.op("Gemm", [rows, *constants], name, transB=1)

    def constant(self, value: Array, name: str) -> str:
        """A constant; asked for again, it is the same one."""
        key = value.tobytes(), value.shape, value.dtype.name
        if key not in self.constants:
            self.constants[key] = self._free(name)
            self.model.graph.initializer.append(numpy_helper.from_array(value, self.constants[key]))
        return self.constants[key]

    def _node(self, kind: str, inputs: Sequence[str], outputs: list[str], attributes: Mapping[str, Any]) -> list[str]:
        label = outputs[0].strip("/").replace("/", ".")  # slashes would be taken for modules
        name = f"{self.location} {kind} {label}"
        self.model.graph.node.append(onnx.helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    def _free(self, name: str) -> str:
        if not self.taken:
            self.taken.update(_names(self.original))
            self.taken.update(_names(self.model))
        wanted = f"{self.prefix}.{name}"
        found = next(
            c for k in range(len(self.taken) + 1) if (c := wanted if k == 0 else f"{wanted}_{k}") not in self.taken
        )
        self.taken.add(found)
        return found


def _names(model: onnx.ModelProto) -> set[str]:
    graph = model.graph
    held = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    return held | {name for node in graph.node for name in (*node.input, *node.output)}


def constant_value(model: onnx.ModelProto, name: str, sizes: Mapping[str, tuple[int, ...]]) -> Array | None:
    """What a value always is, or None where it depends on the model's inputs.

    Args:
        model: any.
        name: of the value.
        sizes: the shapes that are known.
    """
    given = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    known: dict[str, Array | None] = {}

    def value(wanted: str) -> Array | None:
        if wanted not in known:
            known[wanted] = None  # a graph has no cycles; a broken one does not hang here
            known[wanted] = computed(wanted)
        return known[wanted]

    def computed(wanted: str) -> Array | None:
        if wanted in given:
            return numpy_helper.to_array(given[wanted])
        node = makers.get(wanted)
        if node is None or node.domain or any(a.HasField("g") for a in node.attribute):
            return None
        if node.op_type == "Shape" and node.input[0] in sizes and not node.attribute:
            return np.array(sizes[node.input[0]], np.int64)
        if int(np.prod(sizes.get(wanted, (1,)))) > LARGEST_FOLDED or "Random" in node.op_type:
            return None
        inputs = {source: value(source) for source in node.input if source}
        if any(found is None for found in inputs.values()):
            return None
        try:
            results = _alone(model, node, ReferenceEvaluator).run(None, inputs)
        except Exception:  # an op that the evaluator does not know: it is not known beforehand then
            return None
        return np.asarray(results[list(node.output).index(wanted)])

    return value(name)


def _alone(model: onnx.ModelProto, node: onnx.NodeProto, evaluator: Any) -> Any:
    """A model of one node."""

    def info(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_empty_tensor_value_info(name)

    graph = onnx.helper.make_graph(
        [node], "one", [info(name) for name in node.input if name], [info(name) for name in node.output if name]
    )
    return evaluator(onnx.helper.make_model(graph, opset_imports=model.opset_import))


def with_whole_shapes(model: onnx.ModelProto, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Gives, in place, every Reshape the shape that it has: 0 and -1 go wrong in onnxsim where it joins several.

    Args:
        model: to change.
        sizes: the shapes that are known.
    """
    for k, node in enumerate(model.graph.node):
        if node.op_type == "Reshape" and not node.domain and node.output[0] in sizes:
            name = f"{node.output[0]}.shape"
            value = numpy_helper.from_array(np.array(sizes[node.output[0]], np.int64), name)
            model.graph.initializer.append(value)
            model.graph.node[k].input[1] = name


def without_dead(model: onnx.ModelProto) -> None:
    """Drops, in place, the initializers that nothing reads."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    inner = {name for node in graph.node for a in node.attribute for sub in (a.g, *a.graphs) for name in _reads(sub)}
    kept = [tensor for tensor in graph.initializer if tensor.name in read | inner]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _reads(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input}
