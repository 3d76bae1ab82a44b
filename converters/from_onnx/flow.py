"""If, Loop and Scan of ONNX models, written out: loops whose course is known before any sample is, and branches.

The bodies' nodes take the places of the nodes: ONNX operators If-11, Loop-11 and Scan-9. Where the inputs decide which
branch is taken, both are computed, and Where chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx

from edgeqwt.converters.from_onnx.edit import Written, constant_value, without_dead
from edgeqwt.converters.from_onnx.nodes import Values, attributes
from edgeqwt.errors import UnsupportedError

FLOW = ("If", "Loop", "Scan")
LARGEST_UNROLLED = 4096  # nodes that a loop may become
AXES_AS_INPUT = 13  # the opset from which on Unsqueeze reads its axes


def resolved(
    model: onnx.ModelProto, same: Callable[[], Collection[str]] = tuple
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model without If, Loop and Scan nodes that can be written out, and a sentence on each; it is not changed.

    Args:
        model: with static shapes.
        same: gives the inputs that have one value in all samples, of which a branch is no choice.

    Raises:
        UnsupportedError: how often a loop runs depends on the inputs, or it would become too long; or which branch is
            taken on inputs of one value alone.
    """
    notes: list[str] = []
    while any(node.op_type in FLOW for node in model.graph.node):
        found = _first(model, notes, known=True)
        if found is None:
            _check_choices(model, same)
            found = _first(model, notes, known=False)
        if found is None:
            break
        model = found
    for node in model.graph.node:
        if node.op_type in ("Loop", "Scan") and not node.domain:
            raise UnsupportedError(
                f"{node.op_type} {node.name or node.output[0]!r}",
                "tflite",
                f"how often it runs depends on the values of the inputs, or it becomes over {LARGEST_UNROLLED} nodes",
                "Give the loop a fixed number of steps, or export a model of one step, with its states in and out.",
            )
    return model, tuple(notes)


def _check_choices(model: onnx.ModelProto, same: Callable[[], Collection[str]]) -> None:
    """Refuses branches that samples do not choose: both computed, a file would be twice as large for nothing."""
    for node in model.graph.node:
        deciding = _read_by(model, node.input[0]) if node.op_type == "If" and not node.domain else set()
        if deciding and deciding <= {*same()}:
            names = ", ".join(map(repr, sorted(deciding)))
            raise UnsupportedError(
                f"If {node.name or node.output[0]!r}",
                "tflite",
                f"which branch it takes depends on {names} alone, which all samples have the same value of",
                "Build a model of each branch.",
            )


def _read_by(model: onnx.ModelProto, name: str) -> set[str]:
    """The model's inputs from which a value is computed."""
    makers = {output: node for node in model.graph.node for output in node.output}
    todo, seen = [name], {name}
    while todo:
        node = makers.get(todo.pop())
        if node is not None:
            graphs = [g for a in node.attribute for g in ((a.g,) if a.HasField("g") else a.graphs)]
            read = {*node.input, *(n for graph in graphs for inner in graph.node for n in inner.input)} - seen
            seen |= read
            todo += read
    return {value.name for value in model.graph.input} & seen


def _first(model: onnx.ModelProto, notes: list[str], *, known: bool) -> onnx.ModelProto | None:
    """The model with the first node that can be resolved written out; None where none can.

    Args:
        model: it is not changed.
        notes: get a sentence on the node.
        known: whether its course has to be known; else it is a branch that the inputs decide.
    """
    values = Values(model)
    for k, node in enumerate(model.graph.node):
        if node.op_type not in (FLOW if known else ("If",)) or node.domain:
            continue
        grown = onnx.ModelProto()
        grown.CopyFrom(model)
        del grown.graph.node[k:]
        prefix = node.name or node.output[0]
        writing = _Writing(values, node, Written(model, grown, prefix, values.opset, prefix))
        ways = {"If": writing.branch, "Loop": writing.loop, "Scan": writing.scan}
        said = ways[node.op_type]() if known else writing.both()
        if said is not None:
            notes.append(f"{node.op_type} {prefix!r} {said}")
            grown.graph.node.extend(model.graph.node[k + 1 :])
            without_dead(grown)
            return grown
    return None


class _Writing:
    """One node that is written out; its methods return what was done, None where it cannot be."""

    def __init__(self, values: Values, node: onnx.NodeProto, written: Written) -> None:
        self.values, self.node, self.written = values, node, written
        self.attributes = {a.name: a for a in node.attribute}

    def branch(self) -> str | None:
        """An If."""
        condition = self.values.constant(self.node.input[0])
        if condition is None:
            return None
        name = "then" if condition.any() else "else"
        self.deliver(self.body(self.attributes[f"{name}_branch"].g, [], ""))
        return f"always takes its {name} branch, which was put in its place"

    def both(self) -> str | None:
        """An If, both branches computed: what they give has to have one shape, as Where would repeat values."""
        graphs = [self.attributes[f"{name}_branch"].g for name in ("then", "else")]
        given = [self.body(graph, [], f".{name}") for name, graph in zip(("then", "else"), graphs, strict=True)]
        seen = Values(self.written.model)
        shapes = [(seen.shapes.get(a), seen.shapes.get(b)) for a, b in zip(*given, strict=True)]
        if any(a is None or a != b for a, b in shapes):
            return None
        condition = self.written.reshape(self.node.input[0], (), "condition")
        self.deliver([self.written.op("Where", [condition, a, b], "chosen") for a, b in zip(*given, strict=True)])
        return "takes the branch that the inputs decide: both are computed, and one is chosen"

    def loop(self) -> str | None:
        """A Loop: inputs are the trip count, the first condition and the states."""
        count = self.known(self.node.input[0]) if self.node.input[0] else LARGEST_UNROLLED + 1
        first = self.node.input[1] if len(self.node.input) > 1 else ""
        goes_on = self.known(first) if first else 1
        graph, states = self.attributes["body"].g, list(self.node.input[2:])
        joined: list[list[str]] = []
        steps = 0
        while goes_on and count is not None and steps < count:
            if (steps + 1) * max(len(graph.node), 1) > LARGEST_UNROLLED:
                return None
            index = self.written.constant(np.array(steps, np.int64), "step")
            outputs = self.body(graph, [index, self.written.constant(np.array(True), "on"), *states], f".{steps}")
            goes_on, states = self.known(outputs[0]), outputs[1 : 1 + len(states)]
            joined.append(outputs[1 + len(states) :])
            steps += 1
        if count is None or goes_on is None:
            return None
        return self.finished(states, joined, steps)

    def scan(self) -> str | None:
        """A Scan: inputs are the states, and what is read a slice at a step, along any axis and from either end."""
        given = attributes(self.node)
        read, graph = given["num_scan_inputs"], self.attributes["body"].g
        states, scanned = list(self.node.input[:-read]), list(self.node.input[-read:])
        shape, axes = self.values.shapes.get(scanned[0]), given.get("scan_input_axes") or [0] * read
        if not shape:
            return None
        steps, results = shape[axes[0]], len(self.node.output) - len(states)
        if steps * max(len(graph.node), 1) > LARGEST_UNROLLED:
            return None
        backward = given.get("scan_input_directions") or [0] * read
        joined = []
        for t in range(steps):
            slices = []
            for source, axis, reverse in zip(scanned, axes, backward, strict=True):
                index = self.written.constant(np.array(steps - 1 - t if reverse else t, np.int64), "step")
                slices.append(self.written.step(t).op("Gather", [source, index], "slice", axis=axis))
            outputs = self.body(graph, [*states, *slices], f".{t}")
            states = outputs[: len(states)]
            joined.append(outputs[len(states) :])
        out_axes = given.get("scan_output_axes") or [0] * results
        last_first = given.get("scan_output_directions") or [0] * results
        return self.finished(states, joined, steps, [*zip(out_axes, last_first, strict=True)])

    def known(self, name: str) -> int | None:
        """A number or a condition, where it is constant."""
        value = constant_value(self.written.model, name, self.values.shapes)
        return None if value is None else int(value.reshape(-1)[0])

    def finished(
        self, states: Sequence[str], joined: Sequence[Sequence[str]], steps: int, how: Sequence[tuple[int, int]] = ()
    ) -> str | None:
        """Writes a loop's outputs: the last states, and what its steps gave, side by side.

        Args:
            states: the last ones.
            joined: of each step, its results.
            steps: how many there were.
            how: for each result the new axis along which its parts lie, and whether the last comes first.
        """
        if not joined and len(self.node.output) > len(states):
            return None
        results = [*zip(*joined, strict=True)]
        ways = how or [(0, 0)] * len(results)
        parts = [
            self.stacked(part[::-1] if last else part, axis) for part, (axis, last) in zip(results, ways, strict=True)
        ]
        self.deliver([*states, *parts])
        return f"always runs {steps} times: it was unrolled"

    def stacked(self, parts: Sequence[str], axis: int) -> str:
        """Values as the slices of one, along a new axis."""
        if self.written.opset >= AXES_AS_INPUT:
            axes = self.written.constant(np.array([axis], np.int64), "axes")
            rows = [self.written.op("Unsqueeze", [part, axes], "row") for part in parts]
        else:
            rows = [self.written.op("Unsqueeze", [part], "row", axes=[axis]) for part in parts]
        return self.written.concat(rows, axis, "rows")

    def deliver(self, values: Sequence[str]) -> None:
        """Gives values the names of the node's outputs."""
        for value, name in zip(values, self.node.output, strict=False):
            if name:
                self.written.op("Identity", [value], name, named=True)

    def body(self, graph: onnx.GraphProto, feeds: Sequence[str], label: str) -> list[str]:
        """Writes a subgraph's nodes and initializers under names of their own; returns where its outputs are."""
        new = dict(zip((value.name for value in graph.input), feeds, strict=True))
        nodes, initializers = self.written.model.graph.node, self.written.model.graph.initializer
        mine = [i.name for i in graph.initializer] + [name for node in graph.node for name in node.output if name]
        new |= {name: f"{self.written.prefix}{label}/{name}" for name in mine if name not in new}
        for tensor in graph.initializer:
            initializers.add().CopyFrom(tensor)
            initializers[-1].name = new[tensor.name]
        for node in graph.node:
            nodes.add().CopyFrom(node)
            nodes[-1].name = f"{self.written.prefix}{label}/{node.name or node.output[0]}"
            _rename(nodes[-1], new)
        return [new.get(value.name, value.name) for value in graph.output]


def _rename(node: onnx.NodeProto, new: Mapping[str, str]) -> None:
    """Renames values in a node, and where subgraphs of it read them; what these define themselves is theirs."""
    for names in (node.input, node.output):
        for i, name in enumerate(names):
            names[i] = new.get(name, name)
    for graph in (g for a in node.attribute for g in ((a.g,) if a.HasField("g") else a.graphs)):
        own = {v.name for v in (*graph.input, *graph.initializer)} | {name for n in graph.node for name in n.output}
        outer = {name: to for name, to in new.items() if name not in own}
        for inner in graph.node:
            _rename(inner, outer)
        for value in graph.output:
            value.name = outer.get(value.name, value.name)
