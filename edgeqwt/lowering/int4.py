"""Store 4-bit weights as packed int4: half the bytes, the same integers.

CONV_2D and DEPTHWISE_CONV_2D take int4 weights per channel in LiteRT and TFLite Micro, FULLY_CONNECTED in LiteRT
alone: TFLite Micro and CMSIS-NN take one scale there, so that its weights stay int8 where they are needed. With 16-bit
activations LiteRT takes int4 weights in CONV_2D and FULLY_CONNECTED, and TFLite Micro in no op.

In LiteRT, XNNPACK runs an int4 FULLY_CONNECTED with an even number of inputs as fast as an int8 one, and no int4
convolution: those are unpacked at every run. So there a 1×1 convolution is written as FULLY_CONNECTED
(`with_dense_pointwise`), and another convolution is packed only where that makes a notable part of the file.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.graph.linear import has_constant_weights, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import bits_of

# Operator versions of the int4 forms (tensorflow/lite/tools/versioning/op_version.cc).
VERSIONS = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 10}
IN_MICRO = ("CONV_2D", "DEPTHWISE_CONV_2D")
WITH_INT16 = ("CONV_2D", "FULLY_CONNECTED")
LIMIT = 7
SHARES = {"CONV_2D": 1 / 100, "DEPTHWISE_CONV_2D": 1 / 20, "FULLY_CONNECTED": 0.0}
"""Part of all weights that an op must have to be packed where int4 convolutions are slow.

Depthwise ones have few weights and much to compute: in a MobileNetV2-style network those in int4 took 0.09 ms of 0.14,
and all in int8 0.02.
"""


def takes_int4(kind: str, weights: tuple[int, ...], bits: int, tflm: bool) -> bool:
    """Whether the kernels run an op on int4 weights with a scale per channel, and a dense one not slower than on int8.

    Args:
        kind: of a linear op.
        weights: their shape.
        bits: width of its activations.
        tflm: whether TFLite Micro must be able to run it.
    """
    if tflm:
        return kind in IN_MICRO and bits == 8
    if kind != "FULLY_CONNECTED":
        return kind in (VERSIONS if bits == 8 else WITH_INT16)
    # With an odd number of inputs XNNPACK leaves it to a kernel that takes several times as long. A single scale is one
    # per tensor to it, with which it refuses int4, and then the whole file.
    return weights[-1] % 2 == 0 and (bits == 16 or weights[0] > 1)


def with_packed_weights(graph: Graph, tflm: bool = True) -> Graph:
    """The graph with weights as int4 where all of them lie within +-7 and the kernels take it.

    Args:
        graph: an integer graph.
        tflm: whether TFLite Micro must be able to run it.
    """
    count = 0 if tflm else _weights(graph)
    packed = {i: slots(op).weight for i, op in enumerate(graph.ops) if _is_packed(graph, op, tflm, count)}
    # A tensor that another op reads too has to stay what that op takes.
    others = {t for i, op in enumerate(graph.ops) if i not in packed for t in op.inputs}
    kept = {i: t for i, t in packed.items() if t not in others}
    ops = {i: replace(graph.ops[i], version=max(graph.ops[i].version, VERSIONS[graph.ops[i].kind])) for i in kept}
    return graph.with_tensors({t: replace(graph.tensors[t], dtype="int4") for t in kept.values()}).with_ops(ops)


def with_dense_pointwise(graph: Graph) -> Graph:
    """The graph with 1×1 convolutions of 4-bit weights as FULLY_CONNECTED: XNNPACK's bytes are the same.

    Args:
        graph: an integer graph. Reference kernels differ by up to two steps: they round the two ops' sums differently.
    """
    readers = graph.consumers()
    tensors, ops = dict[int, Tensor](), dict[int, Op]()
    for i, op in enumerate(graph.ops):
        t = slots(op).weight if op.kind == "CONV_2D" else -1
        if t < 0 or readers[t] != [i] or not _is_pointwise(graph, op):
            continue
        weight = graph.tensors[t]
        channels, _, _, inputs = weight.shape
        tensors[t] = replace(weight, shape=(channels, inputs), data=weight.stored.reshape(channels, inputs))
        options = {
            "fusedActivationFunction": op.activation,
            "weightsFormat": "DEFAULT",
            "keepNumDims": True,
            "asymmetricQuantizeInputs": False,
        }
        kind = "FULLY_CONNECTED"
        extra = {"optionsType": "FullyConnectedOptions"}
        ops[i] = replace(op, kind=kind, options=options, version=RULES[kind].version, extra=extra)
    return graph.with_tensors(tensors).with_ops(ops) if ops else graph


def _is_pointwise(graph: Graph, op: Op) -> bool:
    """Whether a CONV_2D computes each point from itself alone, and would be packed as FULLY_CONNECTED."""
    weight = graph.tensors[slots(op).weight]
    steps = [op.options.get(name, 1) for name in ("strideH", "strideW", "dilationHFactor", "dilationWFactor")]
    channels = graph.tensors[slots(op).data].shape[-1:]
    return (
        weight.shape[1:3] == (1, 1)
        and set(steps) == {1}
        and weight.shape[3:] == channels  # no groups
        and bits_of(graph, op) == 8
        and _is_narrow(weight)
        and takes_int4("FULLY_CONNECTED", weight.shape, 8, tflm=False)
    )


def _is_packed(graph: Graph, op: Op, tflm: bool, count: int) -> bool:
    """Whether an op's weights are packed, in a graph that has so many weights."""
    if op.kind not in VERSIONS:
        return False
    weight = graph.tensors[slots(op).weight]
    return (
        takes_int4(op.kind, weight.shape, bits_of(graph, op), tflm)
        and _is_narrow(weight)
        and weight.size >= SHARES[op.kind] * count
    )


def _is_narrow(weight: Tensor) -> bool:
    data = weight.data
    return weight.dtype == "int8" and data is not None and np.abs(data.astype(np.int16)).max(initial=0) <= LIMIT


def _weights(graph: Graph) -> int:
    """How many weights the linear ops have."""
    return sum(graph.tensors[t].size for t in {slots(op).weight for op in graph.ops if has_constant_weights(graph, op)})
