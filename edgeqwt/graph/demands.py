"""What the ops of a file demand of their tensors: a table, for files whose parts contradict each other.

Only what every reader of a graph relies on: inputs that must be there, ranks, axes, and the shapes of the constants
that say how values move. Sizes that follow from these are LiteRT's to check when it allocates. Source: the Prepare
functions of tensorflow/lite/kernels. A tensor of shape () that is no constant may be of any rank: writers leave out
shapes that only running tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.graph.opset import JOINS, MOVES, SPLITS

Check = Callable[[Graph, Op], str]


@dataclass(frozen=True)
class Demand:
    """One row.

    Attributes:
        needed: so many inputs, from the first, must be there.
        more: so many inputs may follow those.
        positive: options that are positive numbers where they are given.
        ranks: input slot to the lowest and highest rank that it may have.
        sizes: options that count or measure something: from 1 to `LARGEST_SIZE`. They must be there.
        given: options that must be there.
        several: whether it may have more outputs than one.
        indices: input slots that hold indices, sizes or axes: integers, which must be constant or computed.
        check: what else may be wrong, in words; empty where nothing is.
    """

    needed: int = 1
    ranks: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    several: bool = False
    indices: tuple[int, ...] = ()
    more: int = 0
    positive: tuple[str, ...] = ()
    check: Check = lambda graph, op: ""


def check_demands(graph: Graph, what: str) -> None:
    """Refuses a graph one of whose ops contradicts its tensors.

    Raises:
        InputError: it names the op; `what` is the file.
    """
    for i in range(len(graph.ops)):
        if wrong := contradiction(graph, i):
            raise InputError(
                f"{what}: {graph.describe(i)} contradicts its tensors: {wrong}", "Convert the model again."
            )


def contradiction(graph: Graph, i: int) -> str:
    """What is wrong about op i, in words that name the tensor; empty where nothing is."""
    op = graph.ops[i]
    row = DEMANDS.get(op.kind)
    if not op.outputs and op.kind not in WITHOUT_OUTPUT:
        return "it has no output"
    if row is None:  # recurrent ops, which have states, are among them
        return ""
    for t in op.inputs:
        if t >= 0 and graph.tensors[t].is_variable:
            return f"it reads {graph.tensors[t].name!r}, which is a variable"
    if len(op.outputs) > 1 and not row.several:
        return f"it has {len(op.outputs)} outputs"
    for slot in range(row.needed):
        if slot >= len(op.inputs) or op.inputs[slot] < 0:
            return f"its input {slot} is missing"
    if len(op.inputs) > row.needed + row.more:
        return f"it has {len(op.inputs)} inputs"
    for slot, (low, high) in row.ranks.items():
        if slot < len(op.inputs) and op.inputs[slot] >= 0:
            tensor = graph.tensors[op.inputs[slot]]
            if _known(tensor) and not low <= len(tensor.shape) <= high:
                wanted = f"{low}" if low == high else f"at least {low}" if high == ANY else f"{low} to {high}"
                return f"{tensor.name!r} has shape {tensor.shape}, its input {slot} has {wanted} dimensions"
    return (
        _options(op, row) or _indices(graph, op, row) or _moved(graph, op) or _result(graph, op) or row.check(graph, op)
    )


def _moved(graph: Graph, op: Op) -> str:
    """What an op moves about keeps its type."""
    if op.kind not in MOVING:
        return ""
    source = graph.tensors[op.inputs[1 if op.kind == "SPLIT" else 0]]
    for t in op.outputs:
        if graph.tensors[t].dtype != source.dtype:
            return (
                f"{source.name!r} is of type {source.dtype}, and {graph.tensors[t].name!r} of {graph.tensors[t].dtype}"
            )
    return ""


def _result(graph: Graph, op: Op) -> str:
    """What gives one type whatever it reads states that type."""
    types = RESULTS.get(op.kind)
    for t in op.outputs if types else ():
        tensor = graph.tensors[t]
        if types and tensor.dtype not in types:
            return f"{tensor.name!r} is of type {tensor.dtype}, its results are of type {' or '.join(types)}"
    return ""


def _options(op: Op, row: Demand) -> str:
    for name in (*row.given, *row.sizes):
        if name not in op.options:
            return f"its option {name} is missing"
    for name in row.sizes:
        if not 1 <= op.options[name] <= LARGEST_SIZE:
            return f"its option {name} is {op.options[name]}, it must be from 1 to {LARGEST_SIZE}"
    for name in row.positive:
        if name in op.options and not 0 < op.options[name] < math.inf:
            return f"its option {name} is {op.options[name]}"
    return ""


def _indices(graph: Graph, op: Op, row: Demand) -> str:
    for slot in row.indices:
        tensor = graph.tensors[op.inputs[slot]] if slot < len(op.inputs) and op.inputs[slot] >= 0 else None
        if tensor is not None and tensor.dtype not in INTEGERS:
            return f"its input {slot} {tensor.name!r} is of type {tensor.dtype}, and must be of integers"
    return ""


def _known(tensor: Tensor) -> bool:
    """Whether a shape in the file is one."""
    return bool(tensor.shape) or tensor.is_constant


def _rank(graph: Graph, op: Op, slot: int = 0) -> int | None:
    tensor = graph.tensors[op.inputs[slot]]
    return len(tensor.shape) if _known(tensor) else None


def _constant(graph: Graph, op: Op, slot: int) -> Tensor | None:
    t = op.inputs[slot] if slot < len(op.inputs) else -1
    return graph.tensors[t] if t >= 0 and graph.tensors[t].is_constant else None


def _axis(option: str, more: int = 0, slot: int = 0) -> Check:
    """An option that names an axis of the input; `more`: of one dimension more than it has."""

    def check(graph: Graph, op: Op) -> str:
        rank, axis = _rank(graph, op, slot), op.options.get(option, 0)
        if rank is None or -(rank + more) <= axis < rank + more:
            return ""
        name = graph.tensors[op.inputs[slot]].name
        return f"its axis {axis} is none of {name!r}, which has {rank} dimensions"

    return check


def _axes(slot: int = 1, data: int = 0) -> Check:
    """A constant input that names axes of another."""

    def check(graph: Graph, op: Op) -> str:
        rank, axes = _rank(graph, op, data), _constant(graph, op, slot)
        if rank is None or axes is None or axes.data is None or axes.data.dtype.kind not in "iu":
            return ""
        wrong = [int(axis) for axis in axes.data.ravel() if not -max(rank, 1) <= axis < max(rank, 1)]
        name = graph.tensors[op.inputs[data]].name
        return f"axis {wrong[0]} in {axes.name!r} is none of {name!r}, which has {rank} dimensions" if wrong else ""

    return check


def _permutation(graph: Graph, op: Op) -> str:
    rank, axes = _rank(graph, op), _constant(graph, op, 1)
    if rank is None or axes is None or axes.data is None:
        return ""
    order = sorted(int(axis) % max(rank, 1) for axis in axes.data.ravel())
    shape = graph.tensors[op.inputs[0]].shape
    return "" if order == list(range(rank)) else f"{axes.name!r} is no order of the axes of shape {shape}"


def _paddings(graph: Graph, op: Op) -> str:
    rank, padding = _rank(graph, op), _constant(graph, op, 1)
    if rank is None or padding is None or padding.shape == (rank, 2):
        return ""
    return f"{padding.name!r} has shape {padding.shape}, {rank} dimensions are padded by shape ({rank}, 2)"


def _bounds(*slots: int) -> Check:
    """Constant inputs of one number per dimension."""

    def check(graph: Graph, op: Op) -> str:
        rank = _rank(graph, op)
        for slot in slots:
            bound = _constant(graph, op, slot)
            if rank is not None and bound is not None and len(bound.shape) == 1 and bound.size > rank:
                return f"{bound.name!r} has {bound.size} numbers, its input has {rank} dimensions"
        return ""

    return check


def _channels(axis: int, grouped: bool) -> Check:
    """Weights whose output channels are the output's, and whose input channels divide the input's."""

    def check(graph: Graph, op: Op) -> str:
        weights, output = graph.tensors[op.inputs[1]], graph.tensors[op.outputs[0]]
        if not weights.is_constant:
            return ""
        if _known(output) and output.shape[-1] not in (-1, weights.shape[axis]):
            return f"{weights.name!r} of shape {weights.shape} gives {output.shape[-1]} channels: {output.name!r}"
        data = graph.tensors[op.inputs[0]]
        if grouped and _known(data) and (not weights.shape[-1] or data.shape[-1] % weights.shape[-1]):
            return f"{weights.name!r} of shape {weights.shape} does not fit {data.name!r} of shape {data.shape}"
        return ""

    return check


def _rows(graph: Graph, op: Op) -> str:
    """Rows as long as those of the weights, where dimensions are kept: else LiteRT writes beyond its output."""
    data, weights = (graph.tensors[t] for t in op.inputs[:2])
    kept = op.options.get("keepNumDims") and weights.is_constant and _known(data) and data.shape
    if not kept or data.shape[-1] in (-1, weights.shape[-1]):
        return ""
    return f"{weights.name!r} of shape {weights.shape} does not fit {data.name!r} of shape {data.shape}"


def _split(slot: int) -> Check:
    """As many outputs as parts."""
    axes = _axes(0, 1) if slot == 0 else _axes(2)

    def check(graph: Graph, op: Op) -> str:
        parts = op.options["numSplits"]
        return f"it has {len(op.outputs)} outputs for {parts} parts" if parts != len(op.outputs) else axes(graph, op)

    return check


LARGEST_SIZE = 1 << 16
"""Of a stride, a dilation, a pooling window, a block: beyond it kernels' own arithmetic overflows."""
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
WITHOUT_OUTPUT = ("ASSIGN_VARIABLE", "CALL_ONCE", "CUSTOM", "IF", "WHILE", "CALL", "HASHTABLE_IMPORT")
MOVING = frozenset(
    {
        *MOVES, *SPLITS, *JOINS, "GATHER", "GATHER_ND", "REVERSE_V2", "TILE", "PAD", "PADV2", "MIRROR_PAD",
        "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "BROADCAST_TO",
    }
)  # fmt: skip
_COUNTS, _TRUTHS = ("int32", "int64"), ("bool",)
RESULTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("SHAPE", "RANK", "ARG_MAX", "ARG_MIN"), _COUNTS),
        **dict.fromkeys(("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"), _TRUTHS),
        **dict.fromkeys(("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "REDUCE_ANY", "REDUCE_ALL"), _TRUTHS),
    }
)
"""The types of results that do not depend on what is read."""
STRIDES = ("strideH", "strideW")
DILATED = (*STRIDES, "dilationHFactor", "dilationWFactor")
POOLED = (*STRIDES, "filterHeight", "filterWidth")
ANY = np.iinfo(np.int32).max
FOUR = (4, 4)
_UNARY = (
    "ABS CEIL COS DEQUANTIZE ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGICAL_NOT LOGISTIC NEG QUANTIZE RELU RELU6 "
    "RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SHAPE SIGN SIN SQRT SQUARE TANH CAST SQUEEZE LOG_SOFTMAX "
    "L2_NORMALIZATION ZEROS_LIKE RANK"
)
_BINARY = (
    "ADD SUB MUL DIV POW MAXIMUM MINIMUM SQUARED_DIFFERENCE FLOOR_DIV FLOOR_MOD EQUAL NOT_EQUAL LESS LESS_EQUAL "
    "GREATER GREATER_EQUAL LOGICAL_AND LOGICAL_OR PRELU FILL BROADCAST_TO EXPAND_DIMS GATHER_ND TILE"
)
_REDUCING = "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL ARG_MAX ARG_MIN"

DEMANDS: Mapping[str, Demand] = MappingProxyType(
    {
        **dict.fromkeys(_UNARY.split(), Demand()),
        "RESHAPE": Demand(more=1, indices=(1,)),
        "SOFTMAX": Demand(given=("beta",), positive=("beta",)),
        **dict.fromkeys(_BINARY.split(), Demand(2)),
        **dict.fromkeys(_REDUCING.split(), Demand(2, indices=(1,), check=_axes())),
        "CONV_2D": Demand(2, {0: FOUR, 1: FOUR}, DILATED, check=_channels(0, grouped=True), more=1),
        "DEPTHWISE_CONV_2D": Demand(2, {0: FOUR, 1: FOUR}, DILATED, check=_channels(3, grouped=False), more=1),
        "TRANSPOSE_CONV": Demand(
            3, {1: FOUR, 2: FOUR}, STRIDES, indices=(0,), check=_channels(0, grouped=False), more=1
        ),
        "CONV_3D": Demand(2, {0: (5, 5), 1: (5, 5)}, (*DILATED, "strideD", "dilationDFactor"), more=1),
        "FULLY_CONNECTED": Demand(2, {1: (2, 2)}, check=_rows, more=1),
        "BATCH_MATMUL": Demand(2, {0: (2, ANY), 1: (2, ANY)}),
        "AVERAGE_POOL_2D": Demand(1, {0: FOUR}, POOLED),
        "MAX_POOL_2D": Demand(1, {0: FOUR}, POOLED),
        "L2_POOL_2D": Demand(1, {0: FOUR}, POOLED),
        "RESIZE_BILINEAR": Demand(2, {0: FOUR}, indices=(1,)),
        "RESIZE_NEAREST_NEIGHBOR": Demand(2, {0: FOUR}, indices=(1,)),
        "SPACE_TO_DEPTH": Demand(1, {0: FOUR}, ("blockSize",)),
        "DEPTH_TO_SPACE": Demand(1, {0: FOUR}, ("blockSize",)),
        "SPACE_TO_BATCH_ND": Demand(3, {0: (3, 4)}, indices=(1, 2)),
        "BATCH_TO_SPACE_ND": Demand(3, {0: (3, 4)}, indices=(1, 2)),
        "TRANSPOSE": Demand(2, indices=(1,), check=_permutation),
        "PAD": Demand(2, indices=(1,), check=_paddings),
        "PADV2": Demand(3, indices=(1,), check=_paddings),
        "MIRROR_PAD": Demand(2, indices=(1,), check=_paddings),
        "SLICE": Demand(3, indices=(1, 2), check=_bounds(1, 2)),
        "STRIDED_SLICE": Demand(4, indices=(1, 2, 3)),
        "CONCATENATION": Demand(1, more=ANY, given=("axis",), check=_axis("axis")),
        "GATHER": Demand(2, indices=(1,), check=_axis("axis")),
        "PACK": Demand(1, more=ANY, given=("axis",), check=_axis("axis", more=1)),
        "UNPACK": Demand(1, given=("axis",), several=True, check=_axis("axis")),
        "SPLIT": Demand(2, given=("numSplits",), several=True, indices=(0,), check=_split(0)),
        "SPLIT_V": Demand(3, given=("numSplits",), several=True, indices=(1, 2), check=_split(2)),
        "SELECT": Demand(3),
        "SELECT_V2": Demand(3),
        "RANGE": Demand(3),
        "ATAN2": Demand(2),
        "CUMSUM": Demand(2, indices=(1,)),
        "DYNAMIC_UPDATE_SLICE": Demand(3, indices=(2,)),
        "EMBEDDING_LOOKUP": Demand(2, indices=(0,)),
        "ONE_HOT": Demand(4, indices=(0, 1)),
        "REVERSE_V2": Demand(2, indices=(1,), check=_axes()),
        "TOPK_V2": Demand(2, indices=(1,), several=True),
    }
)
