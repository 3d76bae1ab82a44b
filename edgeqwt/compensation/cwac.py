"""CWAC: channel-wise affine compensation of every linear op and constant per channel, in topological order.

For each such op, on every sample: x_q comes from the integer graph with
everything before the op already compensated, y from the float graph. The op's correction is
fitted, confirmed on samples that it was not fitted on, and folded into scales and biases before the next op is
looked at. Every op of both graphs runs once per sample (`SegmentedRun`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.compensation.channel_constants import channel_slots_of, is_constant_op, realized
from edgeqwt.compensation.fold import fold, headroom, quantization
from edgeqwt.compensation.layer import Layer, Totals
from edgeqwt.compensation.match import OTHER_MODEL, match
from edgeqwt.compensation.probe import unfused
from edgeqwt.compensation.rescale import differs, preferred, rewrite, tied
from edgeqwt.compensation.solve import Correction, Options, solve
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.interface import check_interfaces
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.layerwise.segmented_run import SegmentedRun, feed_both
from edgeqwt.progress import Advance, quiet
from edgeqwt.rounding.row_weights import RowWeights, counting, noting
from edgeqwt.scales.activation_roles import curves, unsaturated
from edgeqwt.scales.before_curves import BeforeCurves
from edgeqwt.scales.ranges import RangeRule, rule_for


@dataclass(frozen=True)
class Change:
    """What was done to one op.

    Attributes:
        op: index in the integer graph.
        name: the op's output tensor.
        kind: the op's kind.
        channels: output channels; `with_gain` and `with_offset` of them were changed.
        gain_low, gain_high: range of the gains.
        error_before, error_after: SQNR of the op's output before its activation, in dB; after, each sample with what
            was fitted without it and those of its fold.
        scale: (old, new) scale of the output where it was rewritten.
        gains, offsets: of each channel, as they were folded in; offsets in real values.
    """

    op: int
    name: str
    kind: str
    channels: int
    with_gain: int
    with_offset: int
    gain_low: float
    gain_high: float
    error_before: float
    error_after: float
    scale: tuple[float, float] | None = None
    gains: tuple[float, ...] = field(default=(), repr=False)
    offsets: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Skip:
    """What was left alone: an op, or some of its channels, and why."""

    op: int
    name: str
    kind: str
    channels: int
    reason: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """The compensated graph, with the same ops and the same size, and the account of it."""

    graph: Graph
    changes: tuple[Change, ...]
    skips: tuple[Skip, ...]
    samples: int

    @property
    def has_gains(self) -> bool:
        """Whether any channel got a gain."""
        return any(change.with_gain for change in self.changes)


def compensate(
    graph: Graph,
    reference: Graph,
    samples: Iterable[Mapping[int, Array]],
    statistics: Mapping[int, Statistics],
    rule: RangeRule,
    options: Options,
    on_layer: Advance = quiet,
    token_weights: RowWeights | None = None,
) -> Outcome:
    """Fits and folds a correction into every linear op of an integer graph, and into constants per channel.

    Args:
        graph: full-integer graph, ours or another tool's.
        reference: the float graph that it came from; inputs correspond by position.
        samples: to fit on; real-valued inputs by the reference's input tensor index; read once.
        statistics: of the reference's activations, for rewriting output scales.
        rule: chooses ranges when output scales are rewritten.
        options: what the fit may do.
        on_layer: called after each layer.
        token_weights: how much the rows that the reference's dense layers meet count; None: all alike.

    Raises:
        InputError: there are no samples, the two graphs do not belong together, or the disk is full.
    """
    check_interfaces(graph, reference, OTHER_MODEL, inputs_alone=True)
    pairs, alone = match(graph, reference, options.constants)
    skips = [_skip(graph, i, reason) for i, reason in alone.items()]
    changes: list[Change] = []
    rows: list[list[Array]] = [[] for _ in pairs]
    summed, read = unsaturated(reference), curves(reference)
    wide, before = unfused(reference, [p.reference for p in pairs])
    with ActivationStore() as store:
        integer = SegmentedRun("integer", graph, [channel_slots_of(graph, p.integer).data for p in pairs], store)
        floating = SegmentedRun("float", wide, [before[p.reference] for p in pairs], store)
        watched = noting(samples, token_weights, [reference.ops[p.reference] for p in pairs], rows)
        count = feed_both(graph, reference, watched, integer, floating)
        on_layer(0, len(pairs))
        for k, pair in enumerate(pairs):
            layer = Layer(pair, k, integer, floating, count, counting(rows[k]))
            graph, change, skipped = _corrected(graph, pair.integer, layer.run(graph, wide), options)
            wanted = None if pair.output is None else statistics.get(pair.output)
            scaled = not graph.tensors[graph.ops[pair.integer].outputs[0]].is_float
            if scaled and options.rewrite_scales and wanted is not None and pair.output is not None:
                own = rule_for(rule, [reference.tensors[pair.output].name])
                suited = own if pair.output in summed else BeforeCurves(own, read.get(pair.output, frozenset()))
                graph, change = _rescaled(graph, change, layer, wanted, suited, options)
            layer.finish()
            changes.append(change)
            skips += skipped
            on_layer(k + 1, len(pairs), reference.tensors[reference.ops[pair.reference].outputs[0]].name)
    return Outcome(graph, tuple(changes), tuple(skips), count)


def offsets_where_gains_lose(
    outcome: Outcome,
    before: Graph,
    options: Options,
    again: Callable[[Options], Outcome],
    noise: Callable[[Graph], float],
) -> Outcome:
    """What offsets alone make of a graph, where gains and offsets lose at its outputs and they do not.

    Least squares on noisy values gives slopes that are too small. Where layers err much, as in transformers that are
    int8 throughout, that shrinks what they hand on, although each layer by itself comes out closer (MiniLM: -1.0 dB
    with gains, +0.1 dB with offsets).

    Args:
        outcome: what `options` made; it has gains.
        before: the graph that it was made of.
        options: that it was made with.
        again: compensates the graph with other options.
        noise: error at the outputs, on samples that were not fitted on.
    """
    limit = noise(before)
    if not options.offset or noise(outcome.graph) <= limit:
        return outcome
    offsets = again(replace(options, gain=False))
    return offsets if noise(offsets.graph) <= limit else outcome


def _corrected(graph: Graph, i: int, totals: Totals, options: Options) -> tuple[Graph, Change, list[Skip]]:
    """The graph with op i's correction fitted and folded in, and the account of it."""
    space = headroom(graph, i)
    rounding = {"realized": partial(realized, graph, i)} if is_constant_op(graph, i) else {}
    correction = solve(totals.evened, options, space.gain, space.offset, **rounding)
    if not correction.is_identity:
        graph, correction = fold(graph, i, correction)
    channels = len(correction.gain)
    reasons = {**correction.refused, **dict.fromkeys(space.missing, channels)}
    skips = [_skip(graph, i, reason, n) for reason, n in reasons.items()]
    return graph, _change(graph, i, correction, totals), skips


def _rescaled(
    graph: Graph, change: Change, layer: Layer, wanted: Statistics, rule: RangeRule, options: Options
) -> tuple[Graph, Change]:
    """The graph with the op's output at the scale that `rule` chooses, if that helps."""
    old = quantization(graph, graph.ops[change.op].outputs[0])
    new = preferred(graph, graph.ops[change.op].outputs[0], wanted, rule)
    group = tied(graph, change.op, options.rewrite_outputs)
    candidate = None if group.fixed or not differs(old, new) else rewrite(graph, group.tensors, new)
    if candidate is None:
        return graph, change
    error_before, error_after = layer.storage_errors(graph, [old, new])
    if error_after >= error_before * (1 - options.margin):
        return graph, change
    return candidate, replace(change, scale=(float(old.scale[0]), float(new.scale[0])))


def _change(graph: Graph, i: int, correction: Correction, totals: Totals) -> Change:
    op = graph.ops[i]
    ones, zeros = np.ones_like(correction.gain), np.zeros_like(correction.gain)
    # A fold none of whose rows count for the outputs confirms nothing.
    parts = [plain for plain, evened in zip(totals.plain, totals.evened, strict=True) if evened.n > 0]
    signal = sum(float(part.yy.sum()) for part in parts)
    before = sum(float(part.error(ones, zeros).sum()) for part in parts)
    # Where the file cannot hold a channel's correction, it has none.
    held = (correction.gain != 1) | (correction.offset != 0)
    lines = [(np.where(held, g, 1.0), np.where(held, o, 0.0)) for g, o in correction.confirmed]
    after = sum(float(part.error(*line).sum()) for part, line in zip(parts, lines, strict=True))
    return Change(
        op=i,
        name=graph.tensors[op.outputs[0]].name,
        kind=op.kind,
        channels=len(correction.gain),
        with_gain=int((correction.gain != 1).sum()),
        with_offset=int((correction.offset != 0).sum()),
        gain_low=float(correction.gain.min()),
        gain_high=float(correction.gain.max()),
        error_before=decibel(signal, before),
        error_after=decibel(signal, after),
        gains=tuple(map(float, correction.gain)),
        offsets=tuple(map(float, correction.offset)),
    )


def _skip(graph: Graph, i: int, reason: str, channels: int | None = None) -> Skip:
    op = graph.ops[i]
    out = graph.tensors[op.outputs[0]]
    return Skip(i, out.name, op.kind, out.shape[-1] if channels is None else channels, reason)


def decibel(signal: float, error: float) -> float:
    """10 log10(signal / error); infinite where there is no error."""
    if error <= 0:
        return float("inf")
    return float(10 * np.log10(max(signal, float(np.finfo(np.float64).tiny)) / error))
