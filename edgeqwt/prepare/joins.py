"""CONCATENATIONs of many tensors, for runtimes that take only some at a time."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Editor, Graph, Op, Tensor
from edgeqwt.prepare.rewriting import Site, rewrites


def in_trees(graph: Graph, most: int) -> tuple[Graph, list[str]]:
    """Joins tensors group by group, and then the groups, so that no CONCATENATION has more inputs than `most`. Exact.

    Args:
        graph: float or integer; the groups have the scale of the whole, which all its inputs have.
        most: at least 2.
    """

    def rewrite(at: Site) -> Op | None:
        return tree(at.editor, at.graph, at.op, most) if len(at.op.inputs) > most else None

    return rewrites("CONCATENATION")(rewrite)(graph)


def tree(editor: Editor, graph: Graph, op: Op, most: int) -> Op:
    """The last CONCATENATION of the tree of one, whose others are added."""
    out = graph.tensors[op.outputs[0]]
    axis, parts, made = int(op.options["axis"]) % len(out.shape), list(op.inputs), 0
    while len(parts) > most:
        groups = [parts[k : k + most] for k in range(0, len(parts), most)]
        parts = []
        for group in groups:
            if len(group) == 1:
                parts += group
                continue
            shape = list(out.shape)
            shape[axis] = sum(editor.tensors[t].shape[axis] for t in group)
            name, made = f"{out.name}/part{made}", made + 1
            parts.append(editor.add_tensor(Tensor(name, tuple(shape), out.dtype, None, out.quantization)))
            options = {"axis": axis, "fusedActivationFunction": "NONE"}
            editor.add_op(replace(op.with_options(**options), inputs=tuple(group), outputs=(parts[-1],)))
    return replace(op, inputs=tuple(parts))
