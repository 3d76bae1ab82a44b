"""The table of kernels: one row per kind of op that gradients can pass, or that only moves indices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from edgeqwt.autograd import convolutions, elementwise, moving, reducing
from edgeqwt.autograd.call import FUSED, Call
from edgeqwt.autograd.opaque import opaque
from edgeqwt.graph.graph import Graph, Op

Run = Callable[[Call], torch.Tensor | tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Kernel:
    """How one kind of op runs.

    Attributes:
        run: computes the output, or the outputs.
        static: input slots that must be constants.
        refused: options that are not understood unless they are zero or absent.
    """

    run: Run
    static: tuple[int, ...] = ()
    refused: tuple[str, ...] = ()

    def takes(self, graph: Graph, op: Op) -> bool:
        """Whether this very op can be run."""
        constant = all(graph.tensors[op.inputs[slot]].is_constant for slot in self.static)
        plain = not any(op.options.get(name) for name in self.refused)
        return constant and plain and op.activation in FUSED


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "CONV_2D": Kernel(convolutions.conv_2d),
        "DEPTHWISE_CONV_2D": Kernel(convolutions.depthwise_conv_2d),
        "TRANSPOSE_CONV": Kernel(convolutions.transpose_conv),
        "FULLY_CONNECTED": Kernel(convolutions.fully_connected),
        "BATCH_MATMUL": Kernel(convolutions.batch_matmul),
        **{kind: Kernel(elementwise.unary(function)) for kind, function in elementwise.UNARY.items()},
        **{kind: Kernel(elementwise.binary(function)) for kind, function in elementwise.BINARY.items()},
        "GELU": Kernel(elementwise.gelu),
        "LEAKY_RELU": Kernel(elementwise.leaky_relu),
        "PRELU": Kernel(elementwise.prelu),
        "SELECT": Kernel(elementwise.select),
        "SELECT_V2": Kernel(elementwise.select_v2),
        "CAST": Kernel(elementwise.cast),
        "MEAN": Kernel(reducing.mean, static=(1,)),
        "SUM": Kernel(reducing.total, static=(1,)),
        "REDUCE_MAX": Kernel(reducing.largest, static=(1,)),
        "REDUCE_MIN": Kernel(reducing.smallest, static=(1,)),
        "REDUCE_PROD": Kernel(reducing.product, static=(1,)),
        "REDUCE_ALL": Kernel(reducing.all_of, static=(1,)),
        "REDUCE_ANY": Kernel(reducing.any_of, static=(1,)),
        "CUMSUM": Kernel(reducing.running_sum, static=(1,)),
        "ARG_MAX": Kernel(reducing.arg_max, static=(1,)),
        "ARG_MIN": Kernel(reducing.arg_min, static=(1,)),
        "AVERAGE_POOL_2D": Kernel(reducing.average_pool),
        "MAX_POOL_2D": Kernel(reducing.max_pool),
        "SOFTMAX": Kernel(reducing.softmax),
        "LOG_SOFTMAX": Kernel(reducing.log_softmax),
        "L2_NORMALIZATION": Kernel(reducing.l2_normalization),
        "RESHAPE": Kernel(moving.reshape),
        "SQUEEZE": Kernel(moving.reshape),
        "EXPAND_DIMS": Kernel(moving.reshape),
        "TRANSPOSE": Kernel(moving.transpose, static=(1,)),
        "CONCATENATION": Kernel(moving.concatenation),
        "PACK": Kernel(moving.pack),
        "UNPACK": Kernel(moving.unpack),
        "SPLIT": Kernel(moving.split, static=(0,)),
        "SPLIT_V": Kernel(moving.split_v, static=(2,)),
        "SLICE": Kernel(moving.slice_, static=(1, 2)),
        "STRIDED_SLICE": Kernel(moving.strided_slice, static=(1, 2, 3), refused=("ellipsisMask", "newAxisMask")),
        "GATHER": Kernel(moving.gather, refused=("batchDims",)),
        "GATHER_ND": Kernel(moving.gather_nd, static=(1,)),
        "TOPK_V2": Kernel(moving.top_k, static=(1,)),
        "REVERSE_V2": Kernel(moving.reverse, static=(1,)),
        "DYNAMIC_UPDATE_SLICE": Kernel(moving.update, static=(2,)),
        "ONE_HOT": Kernel(moving.one_hot, static=(1, 2, 3)),
        "EMBEDDING_LOOKUP": Kernel(moving.embedding_lookup),
        "PAD": Kernel(moving.pad, static=(1,)),
        "PADV2": Kernel(moving.pad, static=(1, 2)),
        "MIRROR_PAD": Kernel(moving.mirror_pad, static=(1,)),
        "TILE": Kernel(moving.tile, static=(1,)),
        "BROADCAST_TO": Kernel(moving.broadcast_to),
        "FILL": Kernel(moving.broadcast_to),
        "SPACE_TO_DEPTH": Kernel(moving.space_to_depth),
        "DEPTH_TO_SPACE": Kernel(moving.depth_to_space),
        "SPACE_TO_BATCH_ND": Kernel(moving.space_to_batch, static=(1, 2)),
        "BATCH_TO_SPACE_ND": Kernel(moving.batch_to_space, static=(1, 2)),
        "RESIZE_BILINEAR": Kernel(moving.resize),
        "RESIZE_NEAREST_NEIGHBOR": Kernel(moving.resize),
    }
)


def missing(graph: Graph, ops: range | list[int] | tuple[int, ...] | None = None) -> tuple[str, ...]:
    """The kinds of ops that gradients do not pass, or not in the way that the graph uses them; empty if they pass all.

    Args:
        graph: float.
        ops: indices of the ops that matter; all of them by default.
    """
    chosen = range(len(graph.ops)) if ops is None else ops
    return tuple(sorted({graph.ops[i].kind for i in chosen if not _passed(graph, graph.ops[i])}))


def kernel(graph: Graph, op: Op) -> Run:
    """How an op runs: in torch, or in LiteRT, where gradients stop."""
    return KERNELS[op.kind].run if _passed(graph, op) else opaque


def _passed(graph: Graph, op: Op) -> bool:
    return op.kind in KERNELS and KERNELS[op.kind].takes(graph, op)


def stops(graph: Graph, outputs: Sequence[int]) -> dict[int, int]:
    """Where gradients of some tensors stop on their way back through real values.

    Returns:
        Op index to the number of activations that those tensors depend on only through ops that gradients do not
        pass, of which this is the last one.
    """
    producers = graph.producers()
    reached, at = _before(graph, producers, outputs, through=False), dict[int, int]()
    for i in sorted({i for t in reached if (i := producers.get(t, -1)) >= 0 and not _passed(graph, graph.ops[i])}):
        hidden = _before(graph, producers, graph.ops[i].inputs, through=True) - reached
        if hidden:
            at[i] = len(hidden)
    return at


def _before(graph: Graph, producers: Mapping[int, int], tensors: Sequence[int], *, through: bool) -> set[int]:
    """Real-valued activations that some tensors are computed from, and those themselves."""
    found: set[int] = set()
    todo = list(tensors)
    while todo:
        t = todo.pop()
        if t < 0 or t in found or graph.tensors[t].is_constant or not graph.tensors[t].is_float:
            continue
        found.add(t)
        i = producers.get(t, -1)
        if i >= 0 and (through or _passed(graph, graph.ops[i])):
            todo += graph.ops[i].inputs
    return found
