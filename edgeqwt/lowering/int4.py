"""Store 4-bit weights as packed int4: half the bytes, the same integers.

CONV_2D and DEPTHWISE_CONV_2D take int4 weights per channel in LiteRT and TFLite Micro.
FULLY_CONNECTED takes them per tensor only (TFLite Micro, CMSIS-NN), so its weights stay int8.
With 16-bit activations LiteRT takes int4 weights in CONV_2D, and TFLite Micro in no op.
LiteRT's kernels unpack at every invocation: on phones this saves storage, not time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset16 import bits_of

# Operator versions of the int4 forms (tensorflow/lite/tools/versioning/op_version.cc).
VERSIONS = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 6}
WITH_INT16 = ("CONV_2D",)
LIMIT = 7


def with_packed_weights(graph: Graph, tflm: bool = True) -> Graph:
    """The graph with every convolution's weights as int4 where all of them lie within +-7 and the kernels take it.

    Args:
        graph: an integer graph.
        tflm: whether TFLite Micro must be able to run it.
    """
    wide = () if tflm else WITH_INT16

    def takes_int4(op: Op) -> bool:
        return op.kind in (VERSIONS if bits_of(graph, op) == 8 else wide)

    tensors, ops = {}, {}
    for i, op in enumerate(graph.ops):
        if not takes_int4(op):
            continue
        t = slots(op).weight
        data = graph.tensors[t].data
        if (
            graph.tensors[t].dtype == "int8"
            and data is not None
            and np.abs(data.astype(np.int16)).max(initial=0) <= LIMIT
        ):
            tensors[t] = replace(graph.tensors[t], dtype="int4")
            ops[i] = replace(op, version=max(op.version, VERSIONS[op.kind]))
    # A tensor that another op reads too has to stay what that op takes.
    others = {t for op in graph.ops if not takes_int4(op) for t in op.inputs}
    kept = {t: tensor for t, tensor in tensors.items() if t not in others}
    return graph.with_tensors(kept).with_ops({i: op for i, op in ops.items() if set(op.inputs) & set(kept)})
