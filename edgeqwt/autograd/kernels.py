"""The table of kernels: one row per kind of op that gradients can pass, or that only moves indices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeqwt.autograd import elementwise, linear, moving, reducing
from edgeqwt.autograd.call import FUSED, Call
from edgeqwt.graph.graph import Graph, Op

if TYPE_CHECKING:
    import torch

Run = Callable[[Call], "torch.Tensor | tuple[torch.Tensor, ...]"]


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
        "CONV_2D": Kernel(linear.conv_2d),
        "DEPTHWISE_CONV_2D": Kernel(linear.depthwise_conv_2d),
        "TRANSPOSE_CONV": Kernel(linear.transpose_conv),
        "FULLY_CONNECTED": Kernel(linear.fully_connected),
        "BATCH_MATMUL": Kernel(linear.batch_matmul),
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
        "EMBEDDING_LOOKUP": Kernel(moving.embedding_lookup),
        "PAD": Kernel(moving.pad, static=(1,)),
        "PADV2": Kernel(moving.pad, static=(1, 2)),
        "MIRROR_PAD": Kernel(moving.mirror_pad, static=(1,)),
        "TILE": Kernel(moving.tile, static=(1,)),
        "BROADCAST_TO": Kernel(moving.broadcast_to),
        "FILL": Kernel(moving.broadcast_to),
        "SPACE_TO_DEPTH": Kernel(moving.space_to_depth),
        "DEPTH_TO_SPACE": Kernel(moving.depth_to_space),
        "RESIZE_BILINEAR": Kernel(moving.resize),
        "RESIZE_NEAREST_NEIGHBOR": Kernel(moving.resize),
    }
)


def missing(graph: Graph, ops: range | list[int] | tuple[int, ...] | None = None) -> tuple[str, ...]:
    """The kinds of ops that cannot be run, or not in the way that the graph uses them; empty if all can.

    Args:
        graph: float.
        ops: indices of the ops that matter; all of them by default.
    """
    chosen = [graph.ops[i] for i in (range(len(graph.ops)) if ops is None else ops)]
    return tuple(sorted({op.kind for op in chosen if op.kind not in KERNELS or not KERNELS[op.kind].takes(graph, op)}))
