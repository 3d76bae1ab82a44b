"""How far two correct float32 evaluations of one graph may lie apart: measured, not guessed.

Two programs that compute the same function in float32 differ in the order in which they sum.
Backward error analysis says what that can do: whatever the order, a computed dot product of K
terms is the exact dot product of weights that differ from the true ones, each relatively, by
about sqrt(K)·u with u = 2^-24 (with high probability: Higham and Mary, "A new approach to
probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019). So the graph is run again
with its weights moved by that much, in random directions and once more in the opposite ones.
What its tensors move by is what rounding in all layers before them can do, amplification by the
depth, cancellation and saturation included; it scales with the tensors and needs no constant
in their units.

`SAFETY` multiplies the moves. It covers sums whose partial sums grow (all terms of one sign:
up to sqrt(K/3) times more in the worst order, which blocked sums never come near), elementary
functions that are a few units off in the last place, and that two evaluations both err.

A second term, SAFETY·sqrt(K)·u·max|y| with the K of the op that computes y, keeps the tolerance
from vanishing where moves happen to cancel (outputs of one element) or nothing has weights. Runtimes
compute sigmoids and tangents by approximations that err by units of 1, however small all outputs are
(onnxruntime's kernel by 1.4e-7 where none is above 0.03): there, and where such values are moved or averaged, |y|
counts as 1 at least.

Integer and bool tensors (ARG_MAX, comparisons) must be equal, except for elements that the moves
change too: those are ties that rounding decides. Where the graph chooses among values that are equal within rounding,
it runs again with other choices (`verify.ties`): what these change may be anything of that size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.fills import HUGE, LARGE
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.runtime.parallel import each
from edgeqwt.runtime.runners import Values, xnnpack
from edgeqwt.verify.ties import Ties

UNIT = 2.0**-24
SAFETY = 16.0
SEED = 0
TIED = 4.0
"""How many times farther than in runs with other choices a value may lie: they take some of many."""


@dataclass(frozen=True)
class Verdict:
    """One tensor of one sample against what it should be.

    Attributes:
        ok: whether rounding explains the difference.
        max_abs: largest absolute difference; nan when a value is NaN, inf when the shapes differ.
        tolerance: what rounding explains; 0 for integer and bool tensors.
        ties: elements of an integer or bool tensor that differ because rounding decides them.
    """

    ok: bool
    max_abs: float
    tolerance: float
    ties: int = 0

    @property
    def used(self) -> float:
        """The share of the tolerance that was used."""
        return self.max_abs / self.tolerance if self.tolerance > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Bounded:
    """A tensor's value and what rounding can do to it.

    Attributes:
        value: as the graph computes it.
        tolerance: largest difference that rounding explains; 0 for integer and bool tensors.
        undecided: the elements that rounding decides: of integers and bools, and of floats where it decides a choice.
        chosen: of floats, what another choice explains there.
    """

    value: Array
    tolerance: float
    undecided: Array | None = None
    chosen: float = 0.0

    def judge(self, expected: Array) -> Verdict:
        """Compares with what another evaluation of the same function gives; NaN never agrees."""
        if expected.shape != self.value.shape:
            return Verdict(False, math.inf, self.tolerance)
        if self.value.dtype.kind != "f":
            differs = expected != self.value
            size = np.abs(expected.astype(np.float64) - self.value).max(where=differs, initial=0.0)
            explained = not bool((differs if self.undecided is None else differs & ~self.undecided).any())
            return Verdict(explained, float(size), 0.0, int(differs.sum()) if explained else 0)
        with np.errstate(invalid="ignore"):  # equal infinities differ by nothing
            error = np.abs(np.where(expected == self.value, 0.0, expected.astype(np.float64) - self.value))
            # Where there was nothing to choose but a fill, prepare writes it at a size of its own.
            filled = (np.abs(self.value) >= HUGE) & (expected * np.sign(self.value) >= LARGE)
        error = np.where(filled, 0.0, error)
        if self.undecided is not None:
            chosen = error.max(where=self.undecided, initial=0.0)
            error = np.where(self.undecided & bool(chosen <= self.chosen), 0.0, error)
        largest = float(error.max(initial=0.0))
        return Verdict(largest <= self.tolerance, largest, self.tolerance)


class Rounding:
    """A float graph prepared for runs that tell what rounding can do to its tensors.

    Args:
        graph: a float graph.
        taps: tensors to look at besides the outputs.

    Raises:
        ToolError: LiteRT refuses the graph.
    """

    def __init__(self, graph: Graph, taps: Sequence[int] = ()) -> None:
        self.graph = graph
        sums = [terms(graph, op) for op in graph.ops]
        self.terms = {t: k for op, k in zip(graph.ops, sums, strict=True) for t in op.outputs}
        self.ties, self.looked = Ties(graph, taps), {*graph.outputs, *taps}
        seen = (*taps, *(t for t in self.ties.read if t not in self.looked))
        self.plain = xnnpack(graph, seen)
        self.moved = each(lambda sign: xnnpack(moved(graph, sign * SAFETY), seen), (1, -1))
        self.move = SAFETY * math.sqrt(max(sums, default=1)) * UNIT
        self.least = _least(graph)
        self.directions = {t: _directions(SEED + t, graph.tensors[t].shape) for t in graph.inputs}

    def run(self, inputs: Values) -> dict[int, Bounded]:
        """The outputs and taps on one sample, each with what rounding can do to it."""
        runners = zip((self.plain, *self.moved), (0, 1, -1), strict=True)
        values, *others = each(lambda run: run[0].run(self._moved_inputs(inputs, run[1])), runners)
        tied = self.ties.otherwise(inputs, values, others, self._floor)
        found = {t: self._bounded(t, value, others) for t, value in values.items() if t in self.looked}
        return {t: _either(one, [values[t] for values in tied]) for t, one in found.items()} if tied else found

    def _moved_inputs(self, inputs: Values, sign: int) -> Values:
        moving = {t: value for t, value in inputs.items() if sign and value.dtype.kind == "f"}
        return inputs | {t: _scaled(value, sign * self.move * self.directions[t]) for t, value in moving.items()}

    def _bounded(self, tensor: int, value: Array, others: Sequence[Values]) -> Bounded:
        if value.dtype.kind != "f":
            undecided = np.zeros(value.shape, np.bool_)
            for other in others:
                undecided |= other[tensor] != value
            return Bounded(value, 0.0, undecided)
        with np.errstate(invalid="ignore"):
            reach = max(_largest(other[tensor].astype(np.float64) - value) for other in others)
        return Bounded(value, reach + float(self._floor(tensor, np.array(_largest(value)))))

    def _floor(self, tensor: int, sizes: Array) -> Array:
        """What computing elements of such sizes rounds off at least."""
        least = np.maximum(sizes, self.least.get(tensor, 0.0))
        return SAFETY * math.sqrt(self.terms.get(tensor, 1)) * UNIT * least


def _either(found: Bounded, tied: Sequence[Array]) -> Bounded:
    """What rounding explains where it decides a choice, too."""
    if found.value.dtype.kind != "f":
        undecided = np.any([found.value != value for value in tied], axis=0)
        return replace(found, undecided=undecided if found.undecided is None else undecided | found.undecided)
    with np.errstate(invalid="ignore"):
        apart = np.max([np.abs(value.astype(np.float64) - found.value) for value in tied], axis=0)
    undecided = apart > found.tolerance
    return replace(found, undecided=undecided, chosen=TIED * _largest(apart)) if undecided.any() else found


def _least(graph: Graph) -> dict[int, float]:
    """What |y| counts as at least, of tensors that hold approximations of curves up to 1, as they are or averaged."""
    found = dict[int, float]()
    for op in graph.ops:
        if op.kind in ("LOGISTIC", "TANH"):
            found |= dict.fromkeys(op.outputs, 1.0)
        elif op.kind == "MEAN" or (op.kind in RULES and RULES[op.kind].bound == 0 and op.activation == "NONE"):
            found |= dict.fromkeys(op.outputs, max((found.get(t, 0.0) for t in op.inputs), default=0.0))
    return found


def terms(graph: Graph, op: Op) -> int:
    """How many terms each element of an op's output sums up; 1 where it sums nothing."""
    if is_linear(op):
        weights = graph.tensors[slots(op).weight]
        return max(1, weights.size // max(1, weights.shape[slots(op).axis]))
    if op.kind in ("BATCH_MATMUL", "SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"):
        return max(1, *graph.tensors[op.inputs[0]].shape[-2:])
    sizes = [graph.tensors[t].size for t in op.inputs if t >= 0 and graph.tensors[t].is_float]
    return max(1, max(sizes, default=1) // max(1, graph.tensors[op.outputs[0]].size)) if op.outputs else 1


def moved(graph: Graph, strength: float) -> Graph:
    """The graph with every float32 constant moved relatively by strength·u, weights of K terms by sqrt(K) times that.

    Directions are random, the same in every call; a negative strength gives the opposite ones.
    """
    reach: dict[int, float] = {
        t: 1.0 for t, tensor in enumerate(graph.tensors) if tensor.is_constant and tensor.is_float
    }
    for op in graph.ops:
        if is_linear(op) and slots(op).weight in reach:
            t = slots(op).weight
            reach[t] = max(reach[t], math.sqrt(terms(graph, op)))
    changes = {}
    for t, factor in reach.items():
        data = graph.tensors[t].stored
        step = strength * factor * UNIT * _directions(SEED + t, data.shape)
        changes[t] = replace(graph.tensors[t], data=_scaled(data, step))
    return graph.with_tensors(changes)


def _directions(seed: int, shape: tuple[int, ...]) -> Array:
    signs: Array = np.random.default_rng(seed).integers(0, 2, shape, np.int8) * 2 - 1
    return signs


def _scaled(value: Array, relative: Array) -> Array:
    limit = np.finfo(np.float32).max
    finite = np.clip(value * (1.0 + relative), -limit, limit)  # masks of -3.4e38 must stay finite
    return np.where(np.isfinite(value), finite, value).astype(np.float32)


def _largest(values: Array) -> float:
    return float(np.abs(values).max(where=np.abs(values) < HUGE, initial=0.0))
