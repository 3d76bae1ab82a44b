"""Choices that rounding decides: where ARG_MAX, ARG_MIN and TOPK_V2 meet values that are equal within float error.

Two correct programs choose differently there (torch gives equal values in any order), and all that follows from the
choice differs: a codebook's row, a box. So the graph runs again with such values in other orders, in which each takes
another one's place. What changes in these runs is what another choice may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.runtime.interpreters import Runner, Values
from edgeqwt.runtime.runners import xnnpack

CHOOSING: Mapping[str, int] = {"ARG_MAX": 1, "ARG_MIN": -1, "TOPK_V2": 1}
"""Whether the largest or the smallest values are chosen."""
TINY = 1e-30
"""Kernels take smaller differences, of values around zero, for none."""

TURNS = (0.0, 0.3, 0.5)
"""By which share of their number equal values move on, by one at least: remainders and quotients of neighbours' indices
are equal at times."""

Floor = Callable[[int, Array], Array]
"""What rounding may do to elements of a tensor, by the tensor and their values."""


@dataclass(frozen=True)
class _Choice:
    """A place where a graph chooses."""

    op: int
    read: int
    axis: int
    count: int
    sign: int

    def rows(self, values: Array) -> Array:
        """Values among which is chosen along the last axis, the first one being the largest."""
        moved: Array = np.moveaxis(values, self.axis, -1)
        return moved.astype(np.float64) * self.sign

    def shifts(self, value: Array, others: Sequence[Array], floor: Floor) -> Array:
        """What is to be added for equal values to change places, for each of `TURNS`; 0 where none are equal."""
        rows = self.rows(value)
        shape, length = rows.shape, rows.shape[-1]
        rows = rows.reshape(-1, length)
        kept = min(self.count + 1, length)
        order = np.argsort(-rows, axis=-1, kind="stable")
        ordered = np.take_along_axis(rows, order, -1)
        explained = floor(self.read, np.abs(ordered[:, : kept - 1]))
        with np.errstate(invalid="ignore"):  # infinities fill what is not to be chosen
            gaps = -np.diff(ordered[:, :kept], axis=-1)
            for other in others:
                along = np.take_along_axis(self.rows(other).reshape(-1, length), order[:, :kept], -1)
                explained = explained + np.abs(-np.diff(along, axis=-1) - gaps) / len(others)
        shifts = np.zeros((len(TURNS), *rows.shape), np.float32)
        for row in np.flatnonzero((gaps <= explained).any(axis=-1)):
            with np.errstate(invalid="ignore"):
                equal = np.append(gaps[row] <= explained[row], np.diff(ordered[row, kept - 1 :]) == 0)
            for start, stop in _runs(equal):
                shifts[:, row, order[row, start:stop]] = _turned(ordered[row, start:stop])
        return np.moveaxis(shifts.reshape(-1, *shape) * np.float32(self.sign), -1, self.axis + 1)


def _turned(values: Array) -> Array:
    """What is to be added to values that are equal, shape (number,), for each of `TURNS`."""
    size, top = len(values), values[0]
    step = max(float(np.spacing(np.float32(abs(top)))) * 2, TINY)
    turns = np.array([max(1, round(size * turn)) for turn in TURNS])
    places = (np.arange(size) + turns[:, None]) % size
    found: Array = top - step * places - values
    return found


def _runs(equal: Array) -> Iterator[tuple[int, int]]:
    """Where neighbours that are equal begin and end."""
    edges = np.diff(np.concatenate([[0], equal.astype(np.int8), [0]]))
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        yield int(start), int(stop) + 1


class Ties:
    """A float graph's choices, and what it computes where those that rounding decides fall otherwise.

    Args:
        graph: a float graph.
        taps: tensors to look at besides the outputs.
    """

    def __init__(self, graph: Graph, taps: Sequence[int]) -> None:
        self.graph, self.taps = graph, tuple(taps)
        self.choices = tuple(_choices(graph))

    @property
    def read(self) -> tuple[int, ...]:
        """The tensors among whose values is chosen."""
        return tuple(dict.fromkeys(choice.read for choice in self.choices))

    def otherwise(self, inputs: Values, value: Values, others: Sequence[Values], floor: Floor) -> list[Values]:
        """The outputs and taps where equal values are chosen in other orders; none where no values are equal.

        Args:
            inputs: a sample.
            value: what the graph computes for it, `read` among it.
            others: what it computes with its weights moved by what rounding explains.
            floor: what rounding does to a value besides.
        """
        shifts = {c: c.shifts(value[c.read], [o[c.read] for o in others], floor) for c in self.choices}
        if not any(shift.any() for shift in shifts.values()):
            return []
        runner, added = self._shifted
        turned = ({added[c]: shift[turn] for c, shift in shifts.items()} for turn in range(len(TURNS)))
        return [runner.run({**inputs, **given}) for given in turned]

    @cached_property
    def _shifted(self) -> tuple[Runner, dict[_Choice, int]]:
        """The graph with an addition before each choice, and the inputs that are added."""
        tensors, ops, added = list(self.graph.tensors), list[Op](), dict[_Choice, int]()
        choices = {choice.op: choice for choice in self.choices}
        for i, op in enumerate(self.graph.ops):
            if i in choices:
                read, count = tensors[choices[i].read], len(tensors)
                tensors += [Tensor(f"{read.name}_{i}_{end}", read.shape, "float32") for end in ("shift", "shifted")]
                added[choices[i]] = count
                ops.append(Op("ADD", (choices[i].read, count), (count + 1,), {"fusedActivationFunction": "NONE"}))
                op = replace(op, inputs=(count + 1, *op.inputs[1:]))
            ops.append(op)
        graph = replace(
            self.graph, tensors=tuple(tensors), ops=tuple(ops), inputs=(*self.graph.inputs, *added.values())
        )
        return xnnpack(graph, self.taps), added


def _choices(graph: Graph) -> Iterator[_Choice]:
    for i, op in enumerate(graph.ops):
        if op.kind not in CHOOSING:
            continue
        read, how = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
        if read.dtype != "float32" or read.is_constant or not how.is_constant or not read.shape:
            continue
        number = int(how.stored.ravel()[0])
        axis, count = (len(read.shape) - 1, number) if op.kind == "TOPK_V2" else (number % len(read.shape), 1)
        yield _Choice(i, op.inputs[0], axis, count, CHOOSING[op.kind])
