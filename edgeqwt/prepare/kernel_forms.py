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
from edgeqwt.prepare.rewriting import NONE, activation_like, constant, float32, integers, reshape
from edgeqwt.profile import Kernels
from edgeqwt.widths.precision import Precision


@dataclass(frozen=True)
class _Form:
    """How the ops that stand in for another one are added.

    Attributes:
        editor: takes them.
        graph: has the op that they stand in for.
        op: that op.
    """

    editor: Editor
    graph: Graph
    op: Op

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the op's output."""
        return self.graph.tensors[self.op.outputs[0]].shape

    def number(self, value: float) -> int:
        """A constant of one number."""
        return constant(self.editor, f"{self.graph.tensors[self.op.outputs[0]].name}/{value:g}", float32([value]))

    def add(
        self, kind: str, inputs: tuple[int, ...], suffix: str, shape: tuple[int, ...] | None = None, act: str = "NONE"
    ) -> int:
        """Adds an op whose output is named after the old one's; without a suffix its output is the old one's."""
        shape = self.shape if shape is None else shape
        made = activation_like(self.editor, self.graph, self.op.outputs[0], suffix, shape) if suffix else -1
        options = {**NONE, "fusedActivationFunction": act} if kind in ("ADD", "SUB", "MUL") else {}
        self.editor.add_op(Op(kind, inputs, (made if suffix else self.op.outputs[0],), options))
        return made


def _prelu(form: _Form) -> None:
    """relu(x) + alpha (x - relu(x))."""
    x, alpha = form.op.inputs
    positive = form.add("RELU", (x,), "positive")
    negative = form.add("SUB", (x, positive), "negative")
    form.add("ADD", (positive, form.add("MUL", (negative, alpha), "scaled")), "")


def _hard_swish(form: _Form) -> None:
    """x relu6(x + 3) / 6."""
    x = form.op.inputs[0]
    gate = form.add("ADD", (x, form.number(3.0)), "gate", act="RELU6")
    form.add("MUL", (form.add("MUL", (x, gate), "product"), form.number(1 / 6)), "")


def _elu(form: _Form) -> None:
    """max(x, exp(min(x, 0)) - 1)."""
    x = form.op.inputs[0]
    power = form.add("EXP", (form.add("MINIMUM", (x, form.number(0.0)), "negative"),), "exp")
    form.add("MAXIMUM", (x, form.add("SUB", (power, form.number(1.0)), "curve")), "")


def _squared_difference(form: _Form) -> None:
    difference = form.add("SUB", form.op.inputs, "difference")
    form.add("MUL", (difference, difference), "")


def _l2_normalization(form: _Form) -> None:
    """x rsqrt(sum(x x)), the sum as MEAN, whose scale is its own, and its number of elements in a constant."""
    x, n = form.op.inputs[0], form.shape[-1]
    square = form.add("MUL", (x, x), "squares")
    last = integers(form.editor, f"{form.graph.tensors[form.op.outputs[0]].name}/axis", [len(form.shape) - 1])
    mean = activation_like(form.editor, form.graph, form.op.outputs[0], "mean", (*form.shape[:-1], 1))
    form.editor.add_op(Op("MEAN", (square, last), (mean,), {"keepDims": True}))
    root = form.add("RSQRT", (mean,), "root", form.editor.tensors[mean].shape)
    form.add("MUL", (form.add("MUL", (x, root), "standard"), form.number(n**-0.5)), "")


def _tile(form: _Form) -> None:
    """Copies of the whole, joined axis by axis."""
    t = form.op.inputs[0]
    counts = form.graph.tensors[form.op.inputs[1]].stored.reshape(-1)
    axes = [axis for axis, count in enumerate(counts) if count > 1]
    for axis in axes:
        shape = tuple(n * int(counts[axis]) if i == axis else n for i, n in enumerate(form.editor.tensors[t].shape))
        made = form.op.outputs[0]
        if axis != axes[-1]:
            made = activation_like(form.editor, form.graph, made, f"axis{axis}", shape)
        form.editor.add_op(Op("CONCATENATION", (t,) * int(counts[axis]), (made,), {**NONE, "axis": axis}))
        t = made


def _space_to_depth(form: _Form) -> None:
    """RESHAPE to blocks, TRANSPOSE, RESHAPE."""
    editor, x, out = form.editor, form.op.inputs[0], form.op.outputs[0]
    (b, h, w, c), n, name = form.graph.tensors[x].shape, int(form.op.options["blockSize"]), form.graph.tensors[out].name
    parts = activation_like(editor, form.graph, out, "apart", (b, h // n, n, w // n, n, c))
    order = integers(editor, f"{name}/order", (0, 1, 3, 2, 4, 5))
    blocks = (reshape(editor, x, parts, f"{name}/blocks"), order)
    turned = form.add("TRANSPOSE", blocks, "turned", (b, h // n, w // n, n, n, c))
    reshape(editor, turned, out, f"{name}/shape")


@dataclass(frozen=True)
class Written:
    """What stands in for a kind of op.

    Attributes:
        write: adds it.
        needs: the kinds that it is made of.
        narrow: whether it loses nothing worth its time at 8 bits, either.
    """

    write: Callable[[_Form], None]
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
        FORMS[op.kind].write(_Form(editor, graph, op))
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
