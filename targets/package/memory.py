"""How large an arena a package asks for, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.runtime.arena import measure_arena
from edgeqwt.target.package.compiled import Contents

_ALIGNMENT = 16
# Channels that CMSIS-NN's depthwise kernel for Helium works on at a time; its scratch is sized by them
# (CMSIS-NN, arm_depthwise_conv_get_buffer_sizes_s8.c).
_DEPTHWISE_BLOCK = 124
# Generous guesses at what TFLite Micro keeps with 32-bit pointers: for itself, per op and per tensor.
_RECORDS, _PER_OP, _PER_TENSOR = 2048, 256, 64


@dataclass(frozen=True)
class ArenaSize:
    """The arena that a package asks for.

    Attributes:
        size: bytes, a multiple of 16.
        reason: where the figure comes from, in sentences.
    """

    size: int
    reason: str


def measured_arena(graph: Graph) -> ArenaSize:
    """What TFLite Micro needs here, and a margin for the scratch memory of optimized kernels.

    Raises:
        InterpreterError: TFLite Micro refuses the model.
    """
    measured = measure_arena(flatbuffer.to_bytes(graph))
    margin = max((scratch(graph, op) for op in graph.ops), default=0)
    return ArenaSize(
        _aligned(measured.bytes + margin),
        f"{measured.bytes} bytes were measured in TFLite Micro's interpreter on a 64-bit machine, with reference "
        f"kernels; with 32-bit pointers it is about {measured.bytes32}. A margin of {margin} bytes is for scratch "
        "memory of optimized kernels, an upper bound taken from CMSIS-NN's sources.",
    )


def compiled_arena(found: Contents) -> ArenaSize:
    """An upper bound for a model that Vela compiled, which no interpreter runs here.

    Vela's scratch tensor is as large as its whole plan of activations, and the model's inputs and
    outputs lie inside it; they are counted again, in case an interpreter places them by itself.
    """
    activations = sum(map(_aligned, found.activations))
    records = _RECORDS + _PER_OP * len(found.ops) + _PER_TENSOR * found.tensors
    return ArenaSize(
        _aligned(activations + records),
        f"The arena is an upper bound and not measured: {activations} bytes for Vela's scratch memory, inputs and "
        f"outputs, and {records} for TFLite Micro's records.",
    )


def scratch(graph: Graph, op: Op) -> int:
    """Bytes of scratch that CMSIS-NN asks for at most for an op, on any Cortex-M.

    Source: the `*_get_buffer_size` functions of CMSIS-NN 7 (im2col of four columns for Helium, of two columns
    in 16 bits for DSP; blocks of channels of depthwise convolutions; sums of FULLY_CONNECTED's rows).
    """
    if not op.inputs or op.inputs[0] < 0:
        return 0
    width = 2 if graph.tensors[op.inputs[0]].dtype == "int16" else 1
    if op.kind == "CONV_2D":
        column = math.prod(graph.tensors[op.inputs[1]].shape[1:])
        return 4 * (column + _ALIGNMENT) * width
    if op.kind == "DEPTHWISE_CONV_2D":
        _, height, wide, channels = graph.tensors[op.inputs[1]].shape
        return 4 * height * wide * max(channels, _DEPTHWISE_BLOCK) * width + _ALIGNMENT
    if op.kind == "TRANSPOSE_CONV":
        _, height, wide, depth = graph.tensors[op.inputs[1]].shape
        row = graph.tensors[op.outputs[0]].shape
        return 4 * (height * row[2] * row[3] + height * wide * depth * row[3])
    if op.kind in ("FULLY_CONNECTED", "BATCH_MATMUL"):
        return 4 * max(graph.tensors[t].shape[-2] if len(graph.tensors[t].shape) > 1 else 1 for t in op.inputs[:2])
    if op.kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        return 4 * graph.tensors[op.inputs[0]].shape[-1]
    return 0


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
