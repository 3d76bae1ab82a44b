"""What of an output decides: values within a range, or some columns.

A detector's scores are near 0 nearly everywhere, and only those above a threshold become boxes. Where errors count
alike wherever they are, the many that nobody looks at decide how the few come out. What lies beyond the range that
decides counts as the range's end: the integers need not reach there, and an error that stays beyond it is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeqwt.errors import InputError, RecipeError
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES

MARGIN = 1 / 16
"""How far the integers reach beyond an end that decides, as a share of the values within: 16 steps at 8 bits keep what
lies beyond a threshold from coming out at the threshold."""


@dataclass(frozen=True)
class Deciding:
    """What of an output decides, in the source model's terms.

    Attributes:
        above: values below this are all alike, such as scores below a threshold.
        below: values above this are all alike.
        columns: those that decide, such as "4:84" or "4"; all without it.
        axis: of the columns, in the source model's array.

    Raises:
        RecipeError: a value makes no sense, or none is given.
    """

    above: float | None = None
    below: float | None = None
    columns: str = ""
    axis: int = -1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"|\d+(:\d+)?", self.columns) or (self.columns and self.span[0] >= self.span[1]):
            raise RecipeError(f"columns = {self.columns!r}", 'Write the first and the one behind the last: "4:84".')
        if self.above is None and self.below is None and not self.columns:
            raise RecipeError("nothing is said of what decides in an output", "Give above, below or columns.")
        if any(map(math.isnan, self.limits)):
            raise RecipeError("above or below is not a number (nan)", "Give a value such as above = 0.5.")
        if not self.limits[0] < self.limits[1]:
            raise RecipeError(f"no value is above {self.above} and below {self.below}", "Swap them.")

    @property
    def limits(self) -> tuple[float, float]:
        """The range that decides, which may be open."""
        return -math.inf if self.above is None else self.above, math.inf if self.below is None else self.below

    @property
    def span(self) -> tuple[int, int]:
        """The first column, and the one behind the last."""
        first, _, last = self.columns.partition(":")
        return int(first), int(last) if last else int(first) + 1

    def within(self, shape: Sequence[int | None], permutation: Sequence[int] | None) -> Within:
        """The same in terms of a graph's tensor.

        Args:
            shape: of the source model's array.
            permutation: as that of `converted.Binding`.

        Raises:
            InputError: the output has no such columns.
        """
        if not self.columns:
            return Within(*self.limits)
        length = shape[self.axis] if -len(shape) <= self.axis < len(shape) else None
        if length is None or self.span[1] > length:
            what = f"an output of shape {tuple(shape)} has no columns {self.columns} along axis {self.axis}"
            raise InputError(what, "Say with axis= which axis of the source model's output the columns are along.")
        axis = self.axis % len(shape)
        return Within(*self.limits, axis if permutation is None else list(permutation).index(axis), self.span)


@dataclass(frozen=True)
class Within:
    """The values of a tensor that decide.

    Attributes:
        low, high: what lies beyond counts as these.
        axis: of the columns; None where all values may decide.
        span: the first column, and the one behind the last.
    """

    low: float = -math.inf
    high: float = math.inf
    axis: int | None = None
    span: tuple[int, int] = (0, 0)

    def of(self, values: Array) -> Array:
        """What counts of the tensor's values, real ones."""
        return np.asarray(np.clip(self._columns(values), self.low, self.high))

    def needed(self, value: Array, values: Mapping[int, Array]) -> Array:
        """The values that the tensor's range is chosen for; beyond those that decide, as many a little further out."""
        value = self._columns(value).reshape(-1)
        inside = value[(value >= self.low) & (value <= self.high)]
        if not inside.size:
            return inside
        ends = [float(inside.max()), float(inside.min())]
        found = [inside]
        for end, other, sign in ((self.low, ends[0], -1), (self.high, ends[1], 1)):
            beyond = int((sign * value > sign * end).sum()) if math.isfinite(end) else 0
            far = end + sign * MARGIN * abs(other - end)
            found.append(np.full(min(beyond, inside.size), far, value.dtype))
        return np.concatenate(found)

    def _columns(self, values: Array) -> Array:
        if self.axis is None:
            return values
        return values[(slice(None),) * self.axis + (slice(*self.span),)]

    def __str__(self) -> str:
        parts = [f"above {self.low:g}"] * math.isfinite(self.low) + [f"below {self.high:g}"] * math.isfinite(self.high)
        columns = [f"in columns {self.span[0]}:{self.span[1]}"] if self.axis is not None else []
        return " and ".join(parts + columns)


def parse(texts: Sequence[str]) -> dict[str, Deciding]:
    """What a command line says of outputs, by name; "" for all.

    Args:
        texts: such as "above=0.5", "columns=4:84 axis=1 output=boxes", of one output each.

    Raises:
        InputError: a text is none of that.
    """
    found: dict[str, Deciding] = {}
    for text in texts:
        values: dict[str, Any] = {}
        for part in text.split():
            key, equals, value = part.partition("=")
            if not equals or key not in ("above", "below", "columns", "axis", "output"):
                what = f"--decides {part!r} is not above=, below=, columns=, axis= or output="
                raise InputError(what, "Write e.g. --decides 'above=0.5 columns=4:84 output=scores'.")
            try:
                values[key] = {"above": float, "below": float, "axis": int}.get(key, str)(value)
            except ValueError:
                raise InputError(f"--decides {part!r} is no number", f"Write e.g. {key}=1.") from None
        name = values.pop("output", "")
        if name in found:
            raise InputError(f"--decides is given twice for {name or 'all outputs'!r}", "Put it into one.")
        found[name] = Deciding(**values)
    return found


def around(graph: Graph, deciding: Mapping[int, Within]) -> dict[int, Within]:
    """The tensors whose ranges follow from what decides in outputs, and which of their values do.

    Outputs, and what becomes them by moves and by LOGISTIC or TANH alone.

    Args:
        graph: float.
        deciding: by the output's position.
    """
    producers, readers, found = graph.producers(), graph.consumers(), dict[int, Within]()
    todo = [(graph.outputs[position], within) for position, within in deciding.items()]
    while todo:
        t, within = todo.pop()
        found[t] = within
        if t in producers:
            for u, own in _before(graph, graph.ops[producers[t]], within):
                alone = set(readers.get(u, ())) == {producers[t]} and u not in graph.outputs
                todo += [(u, own)] if alone and not graph.tensors[u].is_constant else []
    return found


def _before(graph: Graph, op: Op, within: Within) -> Iterator[tuple[int, Within]]:
    """The tensors whose values an op passes on, and which of those decide."""
    rule = RULES.get(op.kind)
    if op.kind in INVERSES:
        ends = [float(INVERSES[op.kind](np.float64(end))) for end in (within.low, within.high)]
        yield op.inputs[0], replace(within, low=ends[0], high=ends[1])
    elif within.axis is not None and op.kind == "CONCATENATION":
        axis, start = op.options.get("axis", 0) % len(graph.tensors[op.outputs[0]].shape), 0
        for t in op.inputs:
            stop = start + graph.tensors[t].shape[axis]
            if axis == within.axis and within.span[0] <= start and stop <= within.span[1]:
                yield t, Within(within.low, within.high)
            start = stop
    elif within.axis is None and rule is not None and rule.bound == 0 and op.activation == "NONE":
        yield from ((op.inputs[slot], within) for slot in rule.tied_inputs(op) if op.inputs[slot] >= 0)


def _logit(p: float) -> float:
    return -math.inf if p <= 0 else math.inf if p >= 1 else math.log(p / (1 - p))


def _arctanh(y: float) -> float:
    return math.copysign(math.inf, y) if abs(y) >= 1 else math.atanh(y)


INVERSES = {"LOGISTIC": _logit, "TANH": _arctanh}
