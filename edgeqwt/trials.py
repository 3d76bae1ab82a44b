"""Remedies of a poor model, tried before they are named: each is built as plainly as may be, and judged.

What a message names has to help when it is followed. So the options that could are built one after the other on a part
of the samples, the cheapest first, with the recipe's quick techniques and without compensation, until one of them
brings every output and every part of one to `FINE_DB`. Where none does, fronts of the network stay float: the smallest
that is enough is searched for. Where none is, the best of all is tried with compensation, unless that cannot bring it
there, and last 16 bits with all of the recipe but what is slow.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from glob import escape

from edgeqwt.calibration.columns import UNLIKE, column_warnings
from edgeqwt.calibration.samples import HOLD_OUT_EVERY, Samples
from edgeqwt.ceiling import Ceiling
from edgeqwt.errors import EdgeqwtError
from edgeqwt.float_fronts import fronts, share
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.saturation import before_saturation
from edgeqwt.interface.bind import bound, coarse_inputs
from edgeqwt.interface.input_normalization import prepared
from edgeqwt.interface.options import Interface
from edgeqwt.interface.split import split_outputs
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import make
from edgeqwt.passes.technique import COMPENSATION, plain
from edgeqwt.prepare.prepare import prepare
from edgeqwt.progress import Advance, Stages
from edgeqwt.recipe.layers import KEEP_FLOAT, UPTO, integers_only, upto
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.verify.op_errors import OwnErrors
from edgeqwt.verify.quality import Quality, TensorQuality
from edgeqwt.verify.thresholds import FINE_DB, coarse_outputs
from edgeqwt.widths.ports import Port
from edgeqwt.widths.precision import Widths

WIDE = "--precision w8a16"
LOST_COLUMN_DB = 10.0
"""What varies of an output's column over what the last op rounds: below this it is lost."""
MOST_COLUMNS = 64
REPAIRING = ("equalization", "gptq")
"""Techniques that gain by weights of 8 bits where activations have 16."""
COMPENSATED_DB = 10.0
"""What compensation adds at most: twice what it adds to ResNet-20 with weights of 4 bits rounded to nearest."""


@dataclass(frozen=True)
class Place:
    """Where a model comes out worst.

    Attributes:
        name: of the output, or of the part of one.
        db: SQNR of what varies that it has.
        standard_error: of that, in dB; nan where samples are too few to know.
    """

    name: str
    db: float
    standard_error: float = math.nan


@dataclass(frozen=True)
class Trial:
    """A remedy that was tried.

    Attributes:
        options: of the command line.
        worst: the worst output or part with them.
        samples: held-out samples that say so.
        compensated: whether the recipe's compensation was tried with them.
        floats: the share of the layers' multiplications that a front in float has.
    """

    options: str
    worst: Place
    samples: int
    compensated: bool = False
    floats: float = 0.0

    @property
    def enough(self) -> bool:
        """Whether every output and part is fine with them."""
        return self.worst.db >= FINE_DB


@dataclass(frozen=True, eq=False)
class _Change:
    """What a remedy changes.

    Attributes:
        options: of the command line.
        split: whether parts become outputs.
        types: of outputs, by name in the source model; "" for all.
        wide: whether all activations have 16 bits.
        floats: names of tensors that stay float, with all that leads to them, and the model's inputs.
        ends: names of tensors whose op alone stays float.
        standardize: names of inputs whose columns are standardized.
        layers: names of tensors that have 16 bits, with the ops that compute them.
    """

    options: tuple[str, ...]
    split: bool = False
    types: Mapping[str, str] = field(default_factory=dict)
    wide: bool = False
    floats: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    standardize: tuple[str, ...] = ()


def tried(
    context: Context,
    samples: Samples,
    recipe: Recipe,
    quality: Quality,
    own: OwnErrors,
    advance: Advance,
    limit: Ceiling | None = None,
) -> tuple[Trial, ...]:
    """The remedies that were tried, in order; the first that is enough comes last, where one is.

    Args:
        context: of the build.
        samples: all that it has.
        recipe: that it followed.
        quality: of what came out, by the context's graph or one that was made from it.
        own: errors of its ops; as many held-out samples judge.
        advance: shows how many were tried.
        limit: what 16 bits at single tensors promise; None where nobody knows.
    """
    if recipe.mixed is not None or context.model.learned is not None:
        return ()  # the widths were chosen under a limit, or by training
    layers, coarse = _few_layers(own, limit), coarse_inputs(context.model, recipe.precision)
    unlike = (*column_warnings(samples, coarse),)
    changes = [*_of_columns(context, recipe, quality, own, unlike), *_changes(context, recipe, quality, own, layers)]
    few, found = samples.head(max(2, own.samples) * HOLD_OUT_EVERY), dict[_Change, Trial]()

    def attempt(change: _Change, compensated: bool = False, whole: bool = False) -> Trial | None:
        with suppress(EdgeqwtError):  # that way is no way for this model or target
            return _tried(context, few, recipe, change, compensated, whole)
        return None

    for k, change in enumerate(changes):
        if (trial := attempt(change)) is not None:
            found[change] = trial
        advance(k + 1, len(changes))
        if trial is not None and trial.enough:
            return tuple(found.values())
    for change, trial in _smallest_fronts(context, recipe, own, attempt):
        found[change] = trial
        if trial.enough:
            return tuple(found.values())
    if recipe.of_role(COMPENSATION) is not None:
        for change in _nearest(found):
            again = attempt(change, compensated=True)
            found[change] = max(found[change], again or found[change], key=lambda trial: trial.worst.db)
            if found[change].enough:
                return tuple(found.values())
    wide = [change for change in found if change.wide and not change.floats]
    if wide and any(not t.slow for t in recipe.techniques if t.name in REPAIRING):
        change = max(wide, key=lambda change: found[change].worst.db)
        found[change] = attempt(change, compensated=True, whole=True) or found[change]
    return tuple(found.values())


def _nearest(found: Mapping[_Change, Trial]) -> list[_Change]:
    """The best and the best with 16 bits, whose error compensation takes more of, where that may be enough."""
    ranked = sorted(found, key=lambda change: -found[change].worst.db)
    two = dict.fromkeys([*ranked[:1], *[change for change in ranked if change.wide][:1]])
    return [change for change in two if found[change].worst.db + COMPENSATED_DB >= FINE_DB]


def _smallest_fronts(
    context: Context, recipe: Recipe, own: OwnErrors, attempt: Callable[[_Change], Trial | None]
) -> Iterator[tuple[_Change, Trial]]:
    """The smallest front that is enough where it stays float, or the best where none is, in 8 bits and in 16."""
    lost = own.collapsed(recipe.quality.min_db) or own.collapsed(FINE_DB)
    index = {tensor.name: t for t, tensor in enumerate(context.graph.tensors)}
    if integers_only(context.target) or lost is None or lost.reference not in index:
        return
    names = fronts(context.graph, index[lost.reference])
    narrow = recipe.precision.activation_bits == 8 and context.target.limits.get("activation_bits", 16) != 8
    for wide in (False, True)[: 2 if narrow else 1]:
        best: tuple[_Change, Trial] | None = None
        low, high, middle = 0, len(names), len(names) - 1  # the largest first: where it is not enough, none is
        while low < high:
            change = _front([names[middle]], wide)
            trial = attempt(change)
            if trial is not None and (best is None or trial.enough):
                best = change, trial
            if trial is None or not trial.enough:
                low = middle + 1
            else:
                high = middle
            middle = (low + high) // 2
        if best is not None:
            yield best


def _front(names: Sequence[str], wide: bool = False) -> _Change:
    options = [f"--layer {shlex.quote(f'{UPTO}{escape(name)}={KEEP_FLOAT}')}" for name in names]
    more = [WIDE] if wide else []
    return _Change((*options, "--input float", *more), floats=(*names,), wide=wide)


def worst_place(graph: Graph, quality: Quality) -> Place:
    """The worst of the outputs and their parts; where an output ends in softmax, what goes into that counts.

    Args:
        graph: float, with the outputs of `quality`, in its order.
        quality: on held-out samples.
    """
    found = [Place("", math.inf)]
    for t, output, judged in zip(graph.outputs, quality.outputs, quality.decisive, strict=True):
        if graph.tensors[t].is_float:
            places = [at for at in _places(graph, t, output, judged) if judged.unresolved is None]
            found += [Place(output.tensor, at.closeness.judged_db, at.standard_error) for at in places]
            found += [Place(at.name, at.closeness.judged_db, at.standard_error) for at in output.judged_parts]
    return min(found, key=lambda place: (not math.isnan(place.db), place.db))


def _places(graph: Graph, t: int, output: TensorQuality, judged: TensorQuality) -> Iterator[TensorQuality]:
    yield judged
    if "SOFTMAX" not in before_saturation(graph, t)[1]:
        yield output


def lost_logarithms(graph: Graph, own: OwnErrors, min_db: float) -> tuple[str, ...]:
    """The results of LOG at which a model errs most, or loses what varies: such values have no place in few bits.

    A logarithm makes small values count as much as large ones; steps of one size leave them nothing.

    Args:
        graph: the float graph: the file has a table in place of most functions.
        own: errors of the file's ops.
        min_db: below this all is lost.
    """
    lost = own.collapsed(min_db)
    names = {op.reference for op in (*own.worst[:1], *([] if lost is None else [lost]))}
    found = (graph.tensors[t].name for op in graph.ops if op.kind == "LOG" for t in op.outputs)
    return tuple(name for name in found if name in names)


def _few_layers(own: OwnErrors, limit: Ceiling | None) -> tuple[str, ...]:
    """The few tensors at which 16 bits promise to be enough, by their names in the float graph; none where none do."""
    promised = () if limit is None else next((w.tensors for w in limit.wider if w.db >= FINE_DB), ())
    names = {op.tensor: op.reference for op in own.ops if op.kind != "INPUT"}
    return tuple(names[name] for name in promised) if all(name in names for name in promised) else ()


def lost_columns(own: OwnErrors, quality: Quality) -> dict[str, tuple[int, ...]]:
    """Columns of outputs that the op before them rounds away, as others are larger by orders of magnitude.

    Of quantities in one tensor, each in its own unit, the largest alone decides what an SQNR of the whole is.

    Args:
        own: errors of the file's ops.
        quality: on held-out samples.

    Returns:
        By the tensor that decides; not of tensors with known parts, which are judged one by one.
    """
    paired = zip(own.ops, own.traces, strict=True) if own.traces else ()
    traces, found = {op.tensor: trace for op, trace in paired if trace is not None}, {}
    for output, judged in zip(quality.outputs, quality.decisive, strict=True):
        trace = traces.get(judged.tensor)
        if trace is None or output.parts or not 2 <= len(trace.used) <= MOST_COLUMNS:
            continue
        columns = enumerate(zip(trace.own_db, trace.used, strict=True))
        most = max(trace.used) / UNLIKE
        if lost := tuple(k for k, (db, used) in columns if db < LOST_COLUMN_DB and used < most):
            found[judged.tensor] = lost
    return found


def _of_columns(
    context: Context, recipe: Recipe, quality: Quality, own: OwnErrors, unlike: tuple[str, ...]
) -> Iterator[_Change]:
    """What could help where quantities of their own units share an input's scale, or an output's."""
    lost, references = lost_columns(own, quality), {op.tensor: op.reference for op in own.ops}
    outputs = zip(quality.outputs, context.model.outputs, strict=True)
    ends = {references[o.tensor]: b.spec.name for o, b in outputs if o.tensor in lost}
    ends = {} if integers_only(context.target) else ends
    standard = tuple(f"--standardize {shlex.quote(name)}" for name in unlike)
    floats = tuple(f"--layer {shlex.quote(f'{escape(tensor)}={KEEP_FLOAT}')}" for tensor in ends)
    floats += tuple(f"--output-type {shlex.quote(f'{name}=float')}" for name in ends.values())
    types = dict.fromkeys(ends.values(), "float")
    if ends:  # what is lost there, no figure of the whole output shows
        yield _Change((*standard, *floats), standardize=unlike, ends=(*ends,), types=types)
    elif standard:
        yield _Change(standard, standardize=unlike)
    if standard and recipe.precision.activation_bits == 8 and context.target.limits.get("activation_bits", 16) != 8:
        yield _Change((*standard, WIDE), standardize=unlike, wide=True)


def _changes(
    context: Context, recipe: Recipe, quality: Quality, own: OwnErrors, layers: tuple[str, ...]
) -> Iterator[_Change]:
    """What could help, the cheapest first."""
    narrow = recipe.precision.activation_bits == 8 and context.target.limits.get("activation_bits", 16) != 8
    logarithms = () if integers_only(context.target) else lost_logarithms(context.graph, own, recipe.quality.min_db)
    if logarithms:
        yield _front(logarithms)
        if narrow:
            yield _front(logarithms, wide=True)
    names = {context.graph.tensors[t].name: b.spec.name for t, b in zip(
        context.graph.outputs, context.model.outputs, strict=True
    )}  # fmt: skip
    coarse = [names[name] for name in coarse_outputs(context.graph, quality) if name in names]
    named = tuple(f"--output-type {shlex.quote(f'{name}=int16')}" for name in coarse)
    parts = any(part.closeness.judged_db < FINE_DB for output in quality.outputs for part in output.judged_parts)
    splits = parts and not recipe.interface.split and not context.model.deciding
    if coarse and narrow:
        yield _Change(named, types=dict.fromkeys(coarse, "int16"))
    if splits:
        yield _Change(("--split-outputs",), split=True)
    if splits and narrow:
        yield _Change(("--split-outputs", "--output-type int16"), split=True, types={"": "int16"})
    if layers and narrow:
        named = tuple(f"--layer {shlex.quote(f'{escape(name)}=w8a16')}" for name in layers)
        yield _Change(named, layers=layers)
    if narrow:
        yield _Change((WIDE,), wide=True)
    if splits and narrow:
        yield _Change(("--split-outputs", WIDE), split=True, wide=True)


def _tried(
    context: Context, samples: Samples, recipe: Recipe, change: _Change, compensated: bool = False, whole: bool = False
) -> Trial:
    """Builds with a change, with the recipe's compensation where that is asked for, or with all of it that is quick.

    Raises:
        EdgeqwtError: that cannot be.
    """
    model, graph = context.model.on(context.graph), context.graph
    if change.split:
        model = split_outputs(model)
        graph = prepare(model.graph).graph
    precision = recipe.precision
    if change.standardize:
        found = bound(model, samples, Interface(standardize=change.standardize))
        graph = prepared(found.model, {**precision.ports, **found.ports}).graph
        model = found.model.on(graph)
    if change.ends:
        precision = replace(precision, floats=precision.floats | {*change.ends})
    if change.floats:
        precision = replace(precision, floats=precision.floats | upto(graph, change.floats))
    if change.layers:
        precision = replace(precision, layers={**precision.layers, **dict.fromkeys(change.layers, Widths(8, 16))})
    if change.wide:
        precision = replace(precision, weight_bits=8, activation_bits=16, layers={}, pack_int4=False)
    outputs = zip(graph.outputs, model.outputs, strict=True)
    types = {graph.tensors[t].name: change.types.get(b.spec.name, change.types.get("", "")) for t, b in outputs}
    types |= {graph.tensors[t].name: "float" for t in graph.inputs if change.floats and graph.tensors[t].is_float}
    ports = {name: replace(precision.ports.get(name, Port()), type=kind) for name, kind in types.items() if kind}
    precision = replace(precision, ports={**precision.ports, **ports})
    quick = tuple(t for t in recipe.techniques if not t.slow)
    simple = plain(recipe.techniques) if change.wide and not whole else quick
    last = tuple(t for t in recipe.techniques if t.role == COMPENSATION) if compensated else ()
    used = (*(t for t in simple if t.role != COMPENSATION), *last)
    small = Context.of(model, graph, samples, context.target, context.preserve, context.ranges)
    made = make(small, used, precision, Stages())
    quality = small.gate.quality(made.reference, {"": made.graph})[""]
    floats = share(graph, upto(graph, change.floats)) if change.floats else 0.0
    return Trial(" ".join(change.options), worst_place(made.reference, quality), quality.samples, compensated, floats)
