"""Weights of few distinct values as indices into a table, which TFLite Micro looks up at each run (its op TFLM_DECODE).

The integers that the kernels see stay the same. Clustered weights and weights of 4 bits or fewer take a half of their
bytes or less; a run takes longer, and the arena needs room for one op's unpacked weights.

The form is that of "TFLM DECODE Operator Design" as TFLite Micro's package writes it (compression/decode.py, lut.py): a
tensor of packed indices, most significant bit first, and one of 16 bytes of header with the table behind. Measured in
tflite-micro's kernel: where the unpacked tensor has a scale per channel, it takes one table per channel of the
quantized axis, whatever the header says of the axis; a stride of 0 makes all channels use the first table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.linear import has_constant_weights, slots

DECODE = "TFLM_DECODE"
MOST_BITS = 7  # of an index; LutAncillaryData.MAX_BITWIDTH
OVERHEAD = 300
"""Bytes that two more tensors and an op add to a file, about; tables and indices are counted exactly."""
LUT, VERSION, ONE_TABLE = 0, 1, 0xF


@dataclass(frozen=True, eq=False)
class Lookup:
    """A weight as a table and indices.

    Attributes:
        bits: of an index.
        indices: packed, most significant bit first.
        table: of int8, one for all channels or one after the other.
        stride: values per channel; 0: one table for all.
    """

    bits: int
    indices: Array
    table: Array
    stride: int

    @property
    def header(self) -> Array:
        """The second input of the op: 16 bytes, and the tables."""
        head = bytes([LUT, VERSION, 0, 0, VERSION, ONE_TABLE << 4 | self.bits, self.stride]) + bytes(9)
        return np.frombuffer(head + self.table.astype(np.int8).tobytes(), np.uint8)

    @property
    def size(self) -> int:
        """Bytes of both."""
        return int(self.indices.size + self.header.size)


def with_lookup_tables(graph: Graph) -> tuple[Graph, int]:
    """The graph with weights behind lookup tables where that takes fewer bytes, and how many weights have one now.

    Args:
        graph: an integer graph for TFLite Micro; its int4 weights are looked up, too, as int8.
    """
    found = dict(_lookups(graph))
    tensors, ops = list(graph.tensors), list[Op]()
    for op in graph.ops:
        weight = slots(op).weight if has_constant_weights(graph, op) else -1
        if weight in found:
            ops.append(_decode(tensors, weight, found[weight]))
        ops.append(op)
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops)), len(found)


def _lookups(graph: Graph) -> Iterator[tuple[int, Lookup]]:
    """Weights that one linear op reads, and nothing else: an unpacked tensor lives until the next op."""
    readers = Counter(t for op in graph.ops for t in set(op.inputs))
    for op in graph.ops:
        t = slots(op).weight if has_constant_weights(graph, op) else -1
        if t < 0 or readers[t] != 1 or t in graph.outputs or graph.tensors[t].dtype not in ("int8", "int4"):
            continue
        least = min(_forms(graph.tensors[t]), key=lambda lookup: lookup.size, default=None)
        if least is not None and least.size + OVERHEAD < graph.tensors[t].bytes:
            yield t, least


def _forms(weight: Tensor) -> Iterator[Lookup]:
    """One table for all channels, and one for each, as far as indices have bits enough."""
    data = weight.stored
    values, indices = np.unique(data, return_inverse=True)
    if (bits := _bits(len(values))) <= MOST_BITS:
        yield Lookup(bits, packed(indices, bits), values, 0)
    axis = None if weight.quantization is None else weight.quantization.axis
    if axis is None:
        return
    channels = [np.unique(channel, return_inverse=True) for channel in np.moveaxis(data, axis, 0)]
    stride = max(len(table) for table, _ in channels)
    if (bits := _bits(stride)) > MOST_BITS:
        return
    table = np.stack([np.pad(table, (0, stride - len(table))) for table, _ in channels])
    shape = np.moveaxis(data, axis, 0).shape[1:]
    order = np.moveaxis(np.stack([index.reshape(shape) for _, index in channels]), 0, axis)
    yield Lookup(bits, packed(order, bits), table.reshape(-1), stride)


def packed(indices: Array, bits: int) -> Array:
    """Indices of so many bits one after the other, most significant bit first, as bytes."""
    spread = indices.reshape(-1, 1) >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1))


def _bits(values: int) -> int:
    return max(1, (values - 1).bit_length())


def _decode(tensors: list[Tensor], weight: int, lookup: Lookup) -> Op:
    """The op that unpacks a weight into its own tensor; its two inputs are added to the tensors."""
    name = tensors[weight].name
    for suffix, data in (("indices", lookup.indices), ("table", lookup.header)):
        tensors.append(Tensor(f"{name}/{suffix}" if name else "", data.shape, "uint8", data))
    tensors[weight] = replace(tensors[weight], data=None, dtype="int8")
    return Op("CUSTOM", (len(tensors) - 2, len(tensors) - 1), (weight,), custom_code=DECODE)
