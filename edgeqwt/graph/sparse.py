"""Constants that are stored without their zeros, as pruned models have them.

Layout: SparsityParameters of the TFLite schema and tensorflow/lite/kernels/internal/utils/sparsity_format_converter.cc.
Dimensions are listed in the order in which they are traversed, those of blocks last. A dense level has all its indices;
a sparse one has, for each place of the level above it, a segment of a list of indices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.tensor import Array

MOST_ZEROS = 256
"""How many elements there may be for each that is stored: a damaged file claims any number."""


@dataclass(frozen=True, eq=False)
class Level:
    """One traversed dimension.

    Attributes:
        size: of a dense one; a sparse one's is known from the shape.
        segments, indices: of a sparse one: place p of the level above has indices[segments[p]:segments[p + 1]].
    """

    size: int
    segments: Array | None = None
    indices: Array | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """How a constant's elements are stored.

    Attributes:
        order: the dimension of each level; from the tensor's rank on, those of blocks.
        blocks: the dimension that each block dimension divides.
        levels: in the order of traversal.
    """

    order: Sequence[int]
    blocks: Sequence[int]
    levels: Sequence[Level]

    def places(self, shape: tuple[int, ...]) -> Array:
        """Where stored elements lie in the dense tensor, as flat indices.

        Raises:
            ValueError: the layout contradicts itself or the shape.
        """
        rank = len(shape)
        if sorted(self.order) != [*range(rank + len(self.blocks))] or len(self.levels) != len(self.order):
            raise ValueError("its order of dimensions is no order of its dimensions")
        levels = [*zip(self.order, self.levels, strict=True)]
        inner = {self.blocks[d - rank]: level.size for d, level in levels if d >= rank}
        if any(not size or shape[d] % size for d, size in inner.items()) or len(inner) != len(self.blocks):
            raise ValueError("its blocks do not divide it")
        found: Array = np.zeros(1, np.int64)  # flat index so far
        above: Array = np.zeros(1, np.int64)  # place in the level above
        steps = [math.prod(shape[d + 1 :]) for d in range(rank)]
        for dimension, level in levels:
            block = dimension >= rank
            d = self.blocks[dimension - rank] if block else dimension
            size = inner[d] if block else shape[d] // inner.get(d, 1)
            step = steps[d] if block else steps[d] * inner.get(d, 1)
            parents, index, above = _level(level, above, size)
            if len(index) > math.prod(shape):
                raise ValueError("it stores more elements than it has")
            found = found[parents] + step * index
        return found


def _level(level: Level, above: Array, size: int) -> tuple[Array, Array, Array]:
    """For each place of a level: which one of those above it belongs to, its index in the dimension, its number."""
    if level.segments is None or level.indices is None:
        if level.size != size:
            raise ValueError("a dense dimension has another size than the tensor")
        index = np.tile(np.arange(size), len(above))
        parents = np.repeat(np.arange(len(above)), size)
        return parents, index, above[parents] * size + index
    segments, indices = level.segments.astype(np.int64), level.indices.astype(np.int64)
    counts = np.diff(segments)
    if segments[:1].any() or (counts < 0).any() or segments[-1:].sum() != len(indices) or len(counts) != len(above):
        raise ValueError("its segments do not fit its indices")
    if ((indices < 0) | (indices >= size)).any():
        raise ValueError("an index lies beyond its dimension")
    return np.repeat(np.arange(len(above)), counts), indices, np.arange(len(indices))


def dense(stored: Array, shape: tuple[int, ...], layout: Layout) -> Array:
    """The constant with its zeros.

    Args:
        stored: its elements, in the order of traversal.
        shape: of the constant.
        layout: how they are stored.

    Raises:
        ValueError: they do not fit together.
    """
    if math.prod(shape) > MOST_ZEROS * max(len(stored), 16):
        raise ValueError("hardly any of its elements are stored")
    places = layout.places(shape)
    if len(places) != len(stored):
        raise ValueError(f"its layout has {len(places)} elements, its data {len(stored)}")
    found = np.zeros(math.prod(shape), stored.dtype)
    found[places] = stored
    return found.reshape(shape)
