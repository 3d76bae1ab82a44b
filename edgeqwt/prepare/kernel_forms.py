"""Ops that kernels lack at the width that they are to have, written as ops that kernels have.

No kernel has PRELU or HARD_SWISH with 16-bit activations. At 8 bits each is one op, and better so. Where it is to have
16, it would stay at 8 bits otherwise and round what its neighbours hold in 16: a network of them gains nothing by 16
bits then. At 8 bits, too, an accelerator may leave one of them over and take what it can be written with: XNNPACK runs
HARD_SWISH in ADD and MUL in a third of the time that LiteRT's kernel takes. (PRELU would take a sixth, and lose 1 to
2 dB in networks of it.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.opset import RULES, Form
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.prepare.rewriting import StandIn, activation_like, reshape, reshaping
from edgeqwt.profile import Kernels
from edgeqwt.widths.precision import Precision


def _prelu(ops: StandIn) -> Op:
    """relu(x) + alpha (x - relu(x))."""
    x, alpha = ops.op.inputs
    positive = ops.add("RELU", (x,), "positive")
    negative = ops.add("SUB", (x, positive), "negative")
    return ops.end("ADD", (positive, ops.add("MUL", (negative, alpha), "scaled")))


def _hard_swish(ops: StandIn) -> Op:
    """x relu6(x + 3) / 6."""
    x = ops.op.inputs[0]
    gate = ops.add("ADD", (x, ops.number(3.0)), "gate", fusedActivationFunction="RELU6")
    return ops.end("MUL", (ops.add("MUL", (x, gate), "product"), ops.number(1 / 6)))


def _elu(ops: StandIn) -> Op:
    """max(x, exp(min(x, 0)) - 1)."""
    x = ops.op.inputs[0]
    power = ops.add("EXP", (ops.add("MINIMUM", (x, ops.number(0.0)), "negative"),), "exp")
    return ops.end("MAXIMUM", (x, ops.add("SUB", (power, ops.number(1.0)), "curve")))


def _squared_difference(ops: StandIn) -> Op:
    difference = ops.add("SUB", ops.op.inputs, "difference")
    return ops.end("MUL", (difference, difference))


def _l2_normalization(ops: StandIn) -> Op:
    """x rsqrt(sum(x x)), the sum as MEAN, whose scale is its own, and its number of elements in a constant."""
    x, shape = ops.op.inputs[0], ops.out.shape
    last, one = len(shape) - 1, (*shape[:-1], 1)
    square = ops.add("MUL", (x, x), "squares")
    mean = ops.add("MEAN", (square, ops.integers("axis", [last])), "mean", one, keepDims=True)
    standard = ops.add("MUL", (x, ops.add("RSQRT", (mean,), "root", one)), "standard")
    return ops.end("MUL", (standard, ops.number(shape[-1] ** -0.5)))


def _tile(ops: StandIn) -> Op:
    """Copies of the whole, joined axis by axis."""
    t = ops.op.inputs[0]
    counts = ops.graph.tensors[ops.op.inputs[1]].stored.reshape(-1)
    *axes, last = [axis for axis, count in enumerate(counts) if count > 1] or [0]  # one copy is the whole
    for axis in axes:
        shape = tuple(n * int(counts[axis]) if i == axis else n for i, n in enumerate(ops.shape(t)))
        t = ops.add("CONCATENATION", (t,) * int(counts[axis]), f"axis{axis}", shape, axis=axis)
    return ops.end("CONCATENATION", (t,) * int(counts[last]), axis=last)


def _space_to_depth(ops: StandIn) -> Op:
    """RESHAPE to blocks, TRANSPOSE, RESHAPE."""
    (b, h, w, c), n = ops.shape(ops.op.inputs[0]), int(ops.op.options["blockSize"])
    parts = activation_like(ops.editor, ops.graph, ops.op.outputs[0], "apart", (b, h // n, n, w // n, n, c))
    order = ops.integers("order", (0, 1, 3, 2, 4, 5))
    blocks = (reshape(ops.editor, ops.op.inputs[0], parts, f"{ops.out.name}/blocks"), order)
    turned = ops.add("TRANSPOSE", blocks, "turned", (b, h // n, w // n, n, n, c))
    return reshaping(ops.editor, turned, ops.op.outputs[0], f"{ops.out.name}/shape")


@dataclass(frozen=True)
class Written:
    """What stands in for a kind of op.

    Attributes:
        write: adds it.
        needs: the kinds that it is made of.
        narrow: whether it loses nothing worth its time at 8 bits, either.
    """

    write: Callable[[StandIn], Op]
    needs: frozenset[str]
    narrow: bool = False


FORMS: Mapping[str, Written] = MappingProxyType(
    {
        "PRELU": Written(_prelu, frozenset({"RELU", "SUB", "MUL", "ADD"})),
        "HARD_SWISH": Written(_hard_swish, frozenset({"ADD", "RELU6", "MUL"}), narrow=True),
        "ELU": Written(_elu, frozenset({"MINIMUM", "EXP", "SUB", "MAXIMUM"})),
        "SQUARED_DIFFERENCE": Written(_squared_difference, frozenset({"SUB", "MUL"})),
        "L2_NORMALIZATION": Written(_l2_normalization, frozenset({"MUL", "MEAN", "RSQRT"})),
        "TILE": Written(_tile, frozenset({"CONCATENATION"})),
        "SPACE_TO_DEPTH": Written(_space_to_depth, frozenset({"RESHAPE", "TRANSPOSE"})),
    }
)


def for_kernels(graph: Graph, precision: Precision, kernels: Kernels) -> tuple[Graph, Precision]:
    """The graph with such ops written otherwise, and widths for what they became.

    Args:
        graph: float, prepared.
        precision: widths of its ops.
        kernels: of the target; where it lacks what a form needs, the op stays.

    Returns:
        The very same graph and precision where there is nothing to do.
    """
    editor, layers = Editor(graph), dict(precision.layers)
    found = {i for i, op in enumerate(graph.ops) if _to_be_written(graph, op, precision, kernels)}
    if not found:
        return graph, precision
    for i, op in enumerate(graph.ops):
        if i not in found:
            editor.add_op(op)
            continue
        first = len(editor.tensors)
        editor.add_op(FORMS[op.kind].write(StandIn(editor, graph, op)))
        name = graph.tensors[op.outputs[0]].name
        if name in precision.layers:
            layers |= {t.name: precision.layers[name] for t in editor.tensors[first:] if not t.is_constant}
    return editor.finish(), replace(precision, layers=layers)


def _to_be_written(graph: Graph, op: Op, precision: Precision, kernels: Kernels) -> bool:
    name = graph.tensors[op.outputs[0]].name
    if op.kind not in FORMS or name in precision.floats or op.activation != "NONE":
        return False
    form, bits = FORMS[op.kind], precision.of(name).activations
    if bits == 16:
        lacking, without = op.kind not in RULES16, kernels.missing16 & form.needs
    else:
        lacking = bits == 8 and form.narrow and op.kind in kernels.left_over
        # What clips is written as an ADD that does.
        without = kernels.left_over & {"ADD" if RULES[kind].form is Form.CLAMP else kind for kind in form.needs}
    return lacking and not without and (op.kind != "TILE" or graph.tensors[op.inputs[1]].is_constant)
