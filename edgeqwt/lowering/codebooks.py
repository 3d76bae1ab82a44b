"""Weights of few distinct sub-vectors as codewords and indices of 8 bits, which CAST and GATHER look up at each run.

The integers that FULLY_CONNECTED sees stay the same, and LiteRT's reference kernels give the same bytes. XNNPACK packs
constant weights alone: it leaves such a layer to LiteRT's own kernels, which take longer (docs/literature-in-files.md).
TFLite Micro has no CAST of uint8; its form is `lookup_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.linear import has_constant_weights, slots

MOST = 256  # codewords that 8 bits tell apart
OVERHEAD = 700
"""Bytes that the further tensors and ops of a layer add to a file, about; codewords and indices are counted exactly."""


@dataclass(frozen=True, eq=False)
class Looked:
    """Rows of weights as codewords.

    Attributes:
        codes: int8, shape (count, length).
        indices: uint8, shape (rows, pieces); what the last piece of a row has beyond its end counts for nothing.
    """

    codes: Array
    indices: Array


def with_codebooks(graph: Graph, length: int) -> tuple[Graph, int]:
    """The graph with dense layers' weights looked up where that takes fewer bytes, and how many layers' are now.

    Args:
        graph: an integer graph.
        length: of a sub-vector.
    """
    readers = graph.consumers()
    tensors, ops, count = list(graph.tensors), list[Op](), 0
    for op in graph.ops:
        t = slots(op).weight if op.kind == "FULLY_CONNECTED" and has_constant_weights(graph, op) else -1
        found = looked_up(graph.tensors[t], length) if t >= 0 and len(readers[t]) == 1 else None
        if found is not None and found.codes.size + found.indices.size + OVERHEAD < graph.tensors[t].size:
            ops += _lookup(tensors, t, found)
            count += 1
        ops.append(op)
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops)), count


def looked_up(weight: Tensor, length: int) -> Looked | None:
    """A dense layer's weights, shape (rows, terms), as codewords; None where 8 bits do not tell them apart.

    Args:
        weight: constant.
        length: of a sub-vector; a row's last one may be shorter, and takes any codeword that begins with it.
    """
    data = weight.data
    if data is None or weight.dtype != "int8":
        return None
    rows, terms = data.shape
    whole = terms // length
    codes, found = np.unique(data[:, : whole * length].reshape(-1, length), axis=0, return_inverse=True)
    indices, rest = found.reshape(rows, whole), data[:, whole * length :]
    if rest.shape[1] and len(codes) <= MOST:
        beginnings = np.concatenate([codes[:, : rest.shape[1]], rest])
        _, first, of = np.unique(beginnings, axis=0, return_index=True, return_inverse=True)
        new = np.unique(first[first >= len(codes)])
        codes = np.concatenate([codes, np.pad(rest[new - len(codes)], ((0, 0), (0, length - rest.shape[1])))])
        place = np.where(first < len(codes) - len(new), first, len(codes) - len(new) + np.searchsorted(new, first))
        indices = np.concatenate([indices, place[of.reshape(-1)[-rows:], None]], axis=1)
    return Looked(codes, indices.astype(np.uint8)) if len(codes) <= MOST else None


def _lookup(tensors: list[Tensor], weight: int, found: Looked) -> list[Op]:
    """The ops that compute a weight from its codewords; what they need is added to the tensors."""
    tensor = tensors[weight]

    def add(what: str, shape: tuple[int, ...], dtype: str, data: Array | None = None) -> int:
        tensors.append(Tensor(f"{tensor.name}/{what}" if tensor.name else "", shape, dtype, data))
        return len(tensors) - 1

    def numbers(what: str, values: tuple[int, ...]) -> int:
        return add(what, (len(values),), "int32", np.array(values, np.int32))

    rows, pieces = found.indices.shape
    length = found.codes.shape[1]
    narrow = add("indices", (rows, pieces), "uint8", found.indices)
    codes = add("codes", found.codes.shape, "int8", found.codes)
    wide, gathered = add("positions", (rows, pieces), "int32"), add("pieces", (rows, pieces, length), "int8")
    tensors[weight] = replace(tensor, data=None)
    whole = (rows, pieces * length)
    joined = weight if whole == tensor.shape else add("rows", whole, "int8")
    ops = [
        Op("CAST", (narrow,), (wide,), {"inDataType": "UINT8", "outDataType": "INT32"}),
        Op("GATHER", (codes, wide), (gathered,), {"axis": 0, "batchDims": 0}, version=2),
        Op("RESHAPE", (gathered, numbers("shape", whole)), (joined,), {"newShape": list(whole)}),
    ]
    if joined != weight:  # a row's last piece reaches beyond its end
        ends = numbers("begin", (0, 0)), numbers("size", tensor.shape)
        ops.append(Op("SLICE", (joined, *ends), (weight,), version=2))
    return ops
