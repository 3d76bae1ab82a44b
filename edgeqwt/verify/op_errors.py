"""Each op's own error, beside the error that it is handed.

An op is fed with the reference's values, quantized to its input scales, so that its output errs by what it does
itself: what its input's scale rounds, its weights, its bias and its output's scale. The error of a network that runs
freely hides that: behind a bad layer everything looks bad, and an average makes errors small that it adds to.

All ops run in one interpreter: a copy of the graph in which every tensor that has a partner in the reference is both
an input, which its readers read, and an output of its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from edgeqwt.calibration.clipped import spared
from edgeqwt.graph.graph import DTYPES, Array, Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.pairing import partners
from edgeqwt.graph.positions import thinned
from edgeqwt.output import first_name
from edgeqwt.runtime.boundary import graph_feed, limits, to_real
from edgeqwt.runtime.runners import InterpreterError, Values
from edgeqwt.runtime.subprocess_runners import litert_host
from edgeqwt.verify.running import side_by_side
from edgeqwt.verify.spread import Spread
from edgeqwt.verify.traces import Trace, Tracing

SAMPLES = 8
ELEMENTS = 1 << 25  # of activations, over all samples, beyond which fewer are run; never fewer than two
LOOKED_AT = 1 << 15  # values of an activation and sample, about: neighbours on large maps say nearly the same
MORE, CHEAP = 128, 1 << 19
"""Samples of small networks, as far as they have no more activations than so many: clipping is rare."""


@dataclass(frozen=True)
class OpError:
    """One op of the graph under test; an input of the graph counts as an op that rounds it.

    Attributes:
        op: its index; None for an input.
        kind: its kind, "INPUT" for an input.
        tensor: its output in the graph under test.
        reference: the partner of that output in the reference.
        own_db: what varies in the reference over the op's own error, in dB; None where nothing varies.
        accumulated_db: the same of the graph that runs freely.
        bias: share of the own error that is the mean error of its channels (last axis).
        clipping: share of it on values beyond the output's range.
        rounding: the rest.
        moves: whether it only moves values, so that its own error is its input's rounding.
        median_used: how many of its output's steps half of the channels use at most; None where nobody knows.
    """

    op: int | None
    kind: str
    tensor: str
    reference: str
    own_db: float | None
    accumulated_db: float | None
    bias: float
    clipping: float
    rounding: float
    moves: bool
    median_used: float | None

    @property
    def name(self) -> str:
        """The output's for people: a copy in another width goes by the name of what it copies."""
        return first_name(self.reference if self.tensor.startswith(f"{self.reference}/") else self.tensor)


@dataclass(frozen=True)
class OwnErrors:
    """Own errors of a graph's ops.

    Attributes:
        samples: how many were run.
        ops: in the graph's order, inputs first.
        unpaired: ops whose output has no partner in the reference; their errors count for the next that has one.
        skipped: why nothing is known; empty otherwise.
        traces: values and channels of each of `ops`, in the same order; None where there were no values.
    """

    samples: int
    ops: tuple[OpError, ...]
    unpaired: int
    skipped: str = ""
    traces: tuple[Trace | None, ...] = field(default=(), repr=False)

    @property
    def worst(self) -> tuple[OpError, ...]:
        """The ops that compute something, the largest own error first."""
        known = [op for op in self.ops if op.own_db is not None and op.own_db < math.inf and not op.moves]
        return tuple(sorted(known, key=lambda op: op.own_db if op.own_db is not None else math.inf))

    def collapsed(self, min_db: float) -> OpError | None:
        """The first op at which the accumulated error leaves less than so many dB."""
        lost = (op for op in self.ops if op.accumulated_db is not None and op.accumulated_db < min_db)
        return next(lost, None)


def enough_samples(graph: Graph) -> int:
    """How many samples `own_errors` reads of a graph under test, where there are as many."""
    size = sum(graph.tensors[t].size for op in graph.ops for t in op.outputs) or 1
    return max(2, min(SAMPLES, ELEMENTS // size), min(MORE, CHEAP // size))


def own_errors(first: Graph, second: Graph, samples: Iterable[Mapping[int, Array]]) -> OwnErrors:
    """Own and accumulated error of every op of the second graph, in LiteRT with its default kernels.

    Args:
        first: the reference, usually float.
        second: the graph under test; inputs correspond by position.
        samples: what the first graph is fed, by tensor index; the first few are read (`enough_samples`).
    """
    return own_errors_of(first, {"": second}, samples)[""]


def own_errors_of(
    first: Graph, graphs: Mapping[str, Graph], samples: Iterable[Mapping[int, Array]]
) -> dict[str, OwnErrors]:
    """`own_errors` of several graphs by name, on the same samples; the reference runs once for all."""
    few = [*islice(samples, max(map(enough_samples, graphs.values()), default=0))]
    try:
        tests = {name: _Test(first, second) for name, second in graphs.items()}

        def work(values: Values, runs: dict[str, Values]) -> None:
            for name, test in tests.items():
                test.add(values, runs[name])

        taps = {t for test in tests.values() for t in test.taps}
        tested = {name: (test.second, test.cut) for name, test in tests.items()}
        deque(side_by_side(first, taps, tested, few, work, threads=1), maxlen=0)
    except InterpreterError as error:
        if len(graphs) == 1:
            return {name: OwnErrors(0, (), len(second.ops), error.message) for name, second in graphs.items()}
        return {name: own_errors(first, second, few) for name, second in graphs.items()}
    return {name: test.result(len(few)) for name, test in tests.items()}


class _Test:
    """A graph under test, and what was found of it by now.

    Args:
        first: the reference.
        second: the graph.

    Raises:
        InterpreterError: LiteRT refuses it with its ops apart.
    """

    def __init__(self, first: Graph, second: Graph) -> None:
        self.first, self.second, self.pairs = first, second, partners(first, second)
        written = [t for op in second.ops for t in op.outputs]
        without = {t for t in written if second.tensors[t].dtype not in DTYPES or second.tensors[t].is_variable}
        self.cut = [t for t in written if t in self.pairs and t not in without]  # those that have values
        others = {*self.pairs.values()}
        self.partly = {a: need for a, need in spared(first).items() if a in others and first.tensors[a].is_float}
        read = {a for need in self.partly.values() for a in need.reads if a not in first.inputs}
        self.taps = {self.pairs[t] for t in self.cut} | read
        self.apart, self.counterparts = _apart(second, self.cut)
        # It meets values that the graph itself does not: those of the reference.
        self.alone = litert_host().runner("xnnpack", self.apart)
        self.totals = {t: _Total() for t in (*second.inputs, *self.cut)}

    def add(self, values: Values, found: Values) -> None:
        """Takes in one sample: values of the reference, and of the graph that runs freely."""
        first, second, cut, pairs = self.first, self.second, self.cut, self.pairs
        reference = {t: values[pairs[t]] for t in (*second.inputs, *cut) if t in pairs}
        real = {t: to_real(first, pairs[t], value) for t, value in reference.items()}
        fed = {t: found[t] for t in second.inputs}
        given = {t: real[t] for t in cut if t in self.apart.inputs}
        own = self.alone.run({**fed, **graph_feed(second, given)})
        for t in real:
            judged = fed[t] if t in fed else own[self.counterparts[t]]
            three = [(first, pairs[t], reference[t]), (second, t, judged), (second, t, found[t])]
            if need := self.partly.get(pairs[t]):  # what a reader clips away, or multiplies by zero, may be anything
                looked = [thinned(need.needed(to_real(*value), values), LOOKED_AT) for value in three]
            else:
                looked = [to_real(graph, k, thinned(value, LOOKED_AT)) for graph, k, value in three]
            self.totals[t].add(second, t, *looked)

    def result(self, samples: int) -> OwnErrors:
        """What so many samples said."""
        first, second, pairs, totals = self.first, self.second, self.pairs, self.totals
        producers, unpaired = second.producers(), sum(not any(t in pairs for t in op.outputs) for op in second.ops)
        inputs = [t for t in second.inputs if t in pairs and second.tensors[t].quantization is not None]
        traces = {t: totals[t].tracing.result() for t in (*inputs, *self.cut)}
        rows = [(totals[t].row(first, second, producers.get(t), t, pairs[t], traces[t]), traces[t]) for t in traces]
        known = [(row, trace) for row, trace in rows if row is not None]
        return OwnErrors(samples, tuple(row for row, _ in known), unpaired, traces=tuple(trace for _, trace in known))


def without_repairs(compensated: OwnErrors, before: OwnErrors) -> OwnErrors:
    """The errors of a compensated graph, each op's own one as before compensation, but for the bias that it repairs.

    Fed with the reference's values, a compensated op errs by what its gains and offsets make good of the ops before it:
    the better the repair, the worse the op would look.
    """
    rows = {op.tensor: (op, trace) for op, trace in zip(before.ops, before.traces, strict=True)}
    if compensated.skipped or any(op.tensor not in rows for op in compensated.ops):
        return compensated
    ops, traces = [], []
    for op, trace in zip(compensated.ops, compensated.traces, strict=True):
        first, first_trace = rows[op.tensor]
        repaired = first.bias if op.kind in RULES and RULES[op.kind].linear else 0.0
        ops.append(replace(_less_bias(first, repaired), accumulated_db=op.accumulated_db, median_used=op.median_used))
        traces.append(replace(trace, own_db=first_trace.own_db) if trace and first_trace else trace)
    return replace(compensated, ops=tuple(ops), traces=tuple(traces))


def _less_bias(op: OpError, share: float) -> OpError:
    """An op's error without so large a share of bias."""
    left = 1.0 - share
    if op.own_db is None or not share or left <= 0:
        return op
    rest = {name: getattr(op, name) / left for name in ("rounding", "clipping")}
    return replace(op, own_db=op.own_db - 10 * math.log10(left), bias=(op.bias - share) / left, **rest)


def _apart(graph: Graph, cut: list[int]) -> tuple[Graph, dict[int, int]]:
    """The graph with every cut tensor read from outside, and the tensor that its op writes instead."""
    counterparts = {t: len(graph.tensors) + k for k, t in enumerate(cut)}
    tensors = (*graph.tensors, *(replace(graph.tensors[t], name=f"{graph.tensors[t].name}/own") for t in cut))
    ops = tuple(replace(op, outputs=tuple(counterparts.get(t, t) for t in op.outputs)) for op in graph.ops)
    read = {t for op in ops for t in op.inputs}
    inputs = (*graph.inputs, *(t for t in cut if t in read))
    return replace(
        graph, tensors=tensors, ops=ops, inputs=inputs, outputs=tuple(counterparts.values()), signatures=()
    ), counterparts


@dataclass
class _Total:
    """Sums of one tensor over samples."""

    spread: Spread | None = None
    own: float = 0.0
    free: float = 0.0
    clipped: float = 0.0
    sums: Array = field(default_factory=lambda: np.zeros(1))
    counts: Array = field(default_factory=lambda: np.zeros(1))
    tracing: Tracing = field(default_factory=Tracing)

    def add(self, graph: Graph, t: int, wanted: Array, own: Array, free: Array) -> None:
        """Takes in one sample: the reference's values, and both of the graph under test."""
        spread = Spread(1, wanted)
        self.spread = spread if self.spread is None else self.spread.plus(spread)
        with np.errstate(all="ignore"):
            error = own.astype(np.float64) - wanted
            self.own += float(np.square(error).sum())
            self.free += float(np.square(free.astype(np.float64) - wanted).sum())
            inside = _inside(graph, t, wanted)
            self.tracing.add(graph, t, wanted, own, free, inside)
            self.clipped += float(np.square(error[~inside]).sum())
            rows = (-1, error.shape[-1] if error.ndim else 1)
            self.sums = self.sums + np.where(inside, error, 0).reshape(rows).sum(axis=0)
            self.counts = self.counts + inside.reshape(rows).sum(axis=0)

    def row(self, first: Graph, second: Graph, op: int | None, t: int, a: int, trace: Trace | None) -> OpError | None:
        """What was found; None of tensors that hold no real numbers."""
        if self.spread is None or not (second.tensors[t].is_float or second.tensors[t].quantization is not None):
            return None
        kind = "INPUT" if op is None else second.ops[op].kind
        bias = float((np.square(self.sums) / np.maximum(self.counts, 1)).sum())
        bias, clipping = (part / self.own if self.own > 0 else 0.0 for part in (bias, self.clipped))
        rounding = max(0.0, 1.0 - bias - clipping) if self.own > 0 else 0.0
        moves = op is not None and _moves(second, op)
        own, free = (_db(self.spread.varying, noise) for noise in (self.own, self.free))
        names = second.tensors[t].name, first.tensors[a].name
        used = None if trace is None else trace.median_used
        return OpError(op, kind, *names, own, free, bias, clipping, rounding, moves, used)


def _moves(graph: Graph, i: int) -> bool:
    """Whether an op hands on its input's integers."""
    op, scale = graph.ops[i], graph.tensors[graph.ops[i].outputs[0]].quantization
    if op.kind not in RULES or RULES[op.kind].bound != 0 or op.activation != "NONE":
        return False
    scales = (graph.tensors[t].quantization for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant)
    return all(q is None or q.same_as(scale) for q in scales)


def _inside(graph: Graph, t: int, values: Array) -> Array:
    """Which values the tensor's integers reach, to half a step."""
    q = graph.tensors[t].quantization
    if q is None or graph.tensors[t].is_float:
        return np.ones(values.shape, bool)
    (low, high), (scale, zero) = limits(graph.tensors[t].dtype), q.broadcast(values.ndim)
    inside: Array = (values >= (low - 0.5 - zero) * scale) & (values <= (high + 0.5 - zero) * scale)
    return inside


def _db(signal: float, noise: float) -> float | None:
    if signal == 0 or math.isnan(signal):
        return None
    if not math.isfinite(noise):
        return -math.inf
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)
