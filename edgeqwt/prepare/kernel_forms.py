"""Ops that kernels lack at the width that they are to have, written as ops that kernels have.

No kernel has PRELU or HARD_SWISH with 16-bit activations, and a table of quotients has 256 entries. At 8 bits each is
one op, and better so. Where it is to have 16, it would stay at 8 bits otherwise and round what its neighbours hold in
16: a network of them gains nothing by 16 bits then. At 8 bits, too, an accelerator may leave one of them over and take
what it can be written with: XNNPACK runs HARD_SWISH in ADD and MUL in a third of the time that LiteRT's kernel takes.
(PRELU would take a sixth, and lose 1 to 2 dB in networks of it.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.opset import RULES, Form
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.graph.reach import reach
from edgeqwt.prepare.rewriting import Site, reshape
from edgeqwt.profile import Kernels
from edgeqwt.widths.precision import Precision


def _prelu(at: Site) -> Op:
    """relu(x) + alpha (x - relu(x))."""
    x, alpha = at.op.inputs
    positive = at.add("RELU", (x,), "positive")
    negative = at.add("SUB", (x, positive), "negative")
    return at.end("ADD", (positive, at.add("MUL", (negative, alpha), "scaled")))


def _hard_swish(at: Site) -> Op:
    """x relu6(x + 3) / 6."""
    x = at.op.inputs[0]
    gate = at.add("ADD", (x, at.number(3.0)), "gate", fusedActivationFunction="RELU6")
    return at.end("MUL", (at.add("MUL", (x, gate), "product"), at.number(1 / 6)))


def _elu(at: Site) -> Op:
    """max(x, exp(min(x, 0)) - 1)."""
    x = at.op.inputs[0]
    power = at.add("EXP", (at.add("MINIMUM", (x, at.number(0.0)), "negative"),), "exp")
    return at.end("MAXIMUM", (x, at.add("SUB", (power, at.number(1.0)), "curve")))


def _squared_difference(at: Site) -> Op:
    difference = at.add("SUB", at.op.inputs, "difference")
    return at.end("MUL", (difference, difference))


def _l2_normalization(at: Site) -> Op:
    """x rsqrt(sum(x x)), the sum as MEAN, whose scale is its own, and its number of elements in a constant."""
    x, shape = at.op.inputs[0], at.out.shape
    last, one = len(shape) - 1, (*shape[:-1], 1)
    square = at.add("MUL", (x, x), "squares")
    mean = at.add("MEAN", (square, at.integers("axis", [last])), "mean", one, keepDims=True)
    standard = at.add("MUL", (x, at.add("RSQRT", (mean,), "root", one)), "standard")
    return at.end("MUL", (standard, at.number(shape[-1] ** -0.5)))


def _tile(at: Site) -> Op:
    """Copies of the whole, joined axis by axis."""
    t = at.op.inputs[0]
    counts = at.tensor(at.op.inputs[1]).stored.reshape(-1)
    *axes, last = [axis for axis, count in enumerate(counts) if count > 1] or [0]  # one copy is the whole
    for axis in axes:
        shape = tuple(n * int(counts[axis]) if i == axis else n for i, n in enumerate(at.shape(t)))
        t = at.add("CONCATENATION", (t,) * int(counts[axis]), f"axis{axis}", shape, axis=axis)
    return at.end("CONCATENATION", (t,) * int(counts[last]), axis=last)


def _space_to_depth(at: Site) -> Op:
    """RESHAPE to blocks, TRANSPOSE, RESHAPE."""
    (b, h, w, c), n = at.shape(at.op.inputs[0]), int(at.op.options["blockSize"])
    parts, order = at.activation("apart", (b, h // n, n, w // n, n, c)), at.integers("order", (0, 1, 3, 2, 4, 5))
    reshape(at.editor, at.op.inputs[0], parts, f"{at.out.name}/blocks")
    return at.end_reshape(at.add("TRANSPOSE", (parts, order), "turned", (b, h // n, w // n, n, n, c)))


def _quotient(at: Site) -> Op:
    """c rsqrt(y) rsqrt(y) of divisors that are positive; of others c s / |y|, where s = y / |y| is their sign."""
    c, y = at.op.inputs
    positive = reach(at.graph, y)[0] >= 0
    size = y if positive else at.add("ABS", (y,), "size", at.shape(y))
    root = at.add("RSQRT", (size,), "root", at.shape(y))
    reciprocal = at.add("MUL", (root, root), "reciprocal", at.shape(y))
    if not positive:
        sign = at.add("MUL", (y, reciprocal), "sign", at.shape(y))
        reciprocal = at.add("MUL", (sign, reciprocal), "signed", at.shape(y))
    return at.end("MUL", (reciprocal, c))


def _of_a_number(graph: Graph, op: Op) -> bool:
    c = graph.tensors[op.inputs[0]]
    return c.is_constant and c.size == 1


def _repeated(graph: Graph, op: Op) -> bool:
    return graph.tensors[op.inputs[1]].is_constant


@dataclass(frozen=True)
class Written:
    """What stands in for a kind of op.

    Attributes:
        write: adds it.
        needs: the kinds that it is made of.
        narrow: whether it loses nothing worth its time at 8 bits, either.
        applies: whether it can be written so.
    """

    write: Callable[[Site], Op]
    needs: frozenset[str]
    narrow: bool = False
    applies: Callable[[Graph, Op], bool] = lambda graph, op: True


FORMS: Mapping[str, Written] = MappingProxyType(
    {
        "PRELU": Written(_prelu, frozenset({"RELU", "SUB", "MUL", "ADD"})),
        "HARD_SWISH": Written(_hard_swish, frozenset({"ADD", "RELU6", "MUL"}), narrow=True),
        "ELU": Written(_elu, frozenset({"MINIMUM", "EXP", "SUB", "MAXIMUM"})),
        "SQUARED_DIFFERENCE": Written(_squared_difference, frozenset({"SUB", "MUL"})),
        "L2_NORMALIZATION": Written(_l2_normalization, frozenset({"MUL", "MEAN", "RSQRT"})),
        "TILE": Written(_tile, frozenset({"CONCATENATION"}), applies=_repeated),
        "DIV": Written(_quotient, frozenset({"ABS", "RSQRT", "MUL"}), applies=_of_a_number),
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
        editor.add_op(FORMS[op.kind].write(Site(editor, graph, op)))
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
    return lacking and not without and form.applies(graph, op)
