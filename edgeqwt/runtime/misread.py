"""Convolutions that XNNPACK computes wrongly, and how they are written so that every kernel computes them.

Padding SAME adds nothing along an axis on which kernels end before the image does (`graph.padding.margins` is negative:
kernels smaller than strides). XNNPACK then takes the whole image for padding, and gives the bias everywhere; the other
kernels of LiteRT, and TFLite Micro, are right. It happens in float32 and int8, in CONV_2D and DEPTHWISE_CONV_2D, with
dilation and without, whichever axis it is; kernels of 1x1, pools and TRANSPOSE_CONV are right. Measured with LiteRT 2.1
(tests/runtime/test_misread.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset16 import BITS, rule_at
from edgeqwt.graph.padding import margins

MISREAD = "Convolutions with padding SAME that XNNPACK computes wrongly were written otherwise"


def misread(graph: Graph, any_size: bool = False) -> tuple[int, ...]:
    """The convolutions of a graph, float or integer, that XNNPACK computes wrongly, by their indices.

    Args:
        graph: with the shapes that its tensors have.
        any_size: those, too, that it would compute wrongly for images of other sizes.
    """
    return tuple(i for i, op in enumerate(graph.ops) if min(_margins(graph, op, any_size)) < 0)


def _margins(graph: Graph, op: Op, any_size: bool = False) -> tuple[int, int]:
    """See `padding.margins`; zeros for ops that XNNPACK computes rightly."""
    if op.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D") or op.options.get("padding") != "SAME":
        return 0, 0
    x, w = (graph.tensors[t].shape[1:3] for t in (slots(op).data, slots(op).weight))
    # An image of one stride leaves the most lines unread.
    image = (int(op.options["strideH"]), int(op.options["strideW"])) if any_size else x
    return margins(op, image, w) if w != (1, 1) else (0, 0)


def read_rightly(graph: Graph) -> tuple[Graph, list[str]]:
    """The graph with such convolutions written otherwise, and the names of their outputs; as it was without any."""
    wrong = misread(graph)
    if not wrong:
        return graph, []
    editor = Editor(graph)
    for i, op in enumerate(graph.ops):
        editor.add_op(rightly(editor, graph, op) if i in wrong else op)
    return editor.finish(), [graph.tensors[graph.ops[i].outputs[0]].name for i in wrong]


def rightly(editor: Editor, graph: Graph, op: Op) -> Op:
    """Such a convolution with padding VALID, or, where the other axis is padded, behind a SLICE, which is added.

    As many positions fit into an image of which some lines are read by none as SAME asks for, and they begin at its
    first line: without padding on the other axis VALID is the same. With such padding, the SLICE drops what none
    reads: kernels end with the image then.
    """
    margin = _margins(graph, op)
    if max(margin) <= 0:
        return op.with_options(padding="VALID")
    x, name = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]].name
    rows, columns = (n + min(m, 0) for n, m in zip(x.shape[1:3], margin, strict=True))
    shape = (x.shape[0], rows, columns, x.shape[3])
    read = editor.add_tensor(replace(x, name=f"{name}/read", shape=shape, data=None, shape_signature=None))
    ends = (
        editor.add_tensor(Tensor(f"{name}/{what}", (4,), "int32", np.array(numbers, np.int32)))
        for what, numbers in (("begin", (0, 0, 0, 0)), ("size", shape))
    )
    version = rule_at("SLICE", BITS[x.dtype]).version if x.dtype in BITS else 1
    editor.add_op(Op("SLICE", (op.inputs[0], *ends), (read,), {}, version))
    return replace(op, inputs=(read, *op.inputs[1:]))
