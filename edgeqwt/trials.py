"""Remedies of a poor model, tried before they are named: each is built as plainly as may be, and judged.

What a message names has to help when it is followed. So the options that could are built one after the other on a part
of the samples, the cheapest first, with the recipe's quick techniques and without compensation, until one of them
brings every output and every part of one to `FINE_DB`. For what is not poor, and not that good, there is no more; of
large networks 16 bits alone are tried then. Where none does, fronts of the network stay float: the smallest that is
enough is searched for. Where none is, the best of all is tried with compensation, unless that cannot bring it there,
then 16 bits with all of the recipe but what is slow, and last fronts that are most of the network. Quick recipes try
no fronts of large networks.

The first of many that is enough on few samples is so by chance more often than one that was tried alone. So one that is
so by little is built on other samples, too, or with others held out, and is enough where it is by all of them. Where
rare samples have most of its error, so that fresh ones may well have less than is fine, options that cost more are
tried, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from edgeqwt.calibration.samples import HOLD_OUT_EVERY, Samples, turned
from edgeqwt.ceiling import Ceiling
from edgeqwt.errors import EdgeqwtError
from edgeqwt.float_fronts import MOST, entrances, fronts, lost_from, share
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import work
from edgeqwt.graph.saturation import before_saturation
from edgeqwt.graph.whole_numbers import counts
from edgeqwt.interface.bind import bound
from edgeqwt.interface.columns import column_warnings
from edgeqwt.interface.input_normalization import prepared
from edgeqwt.interface.options import Interface
from edgeqwt.interface.split import split_outputs
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import make
from edgeqwt.passes.technique import COMPENSATION, plain
from edgeqwt.possible_remedies import WIDE, Change, changes, few_layers, front, narrow, of_columns
from edgeqwt.prepare.prepare import prepare
from edgeqwt.progress import Advance, Stages
from edgeqwt.recipe.layers import integers_only, upto
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.techniques.equalization import Equalization
from edgeqwt.verify.op_errors import OwnErrors
from edgeqwt.verify.paired import STANDARD_ERRORS, least_db
from edgeqwt.verify.quality import OutputFigures, Quality
from edgeqwt.verify.thresholds import FINE_DB
from edgeqwt.widths.ports import Port, with_states
from edgeqwt.widths.precision import Widths

REPAIRING = ("equalization", "gptq")
"""Techniques that gain by weights of 8 bits where activations have 16."""
FEW_HELD_OUT = 4
"""Of 16 samples: files that were promised 30 dB by so few had 19 on fresh ones (docs/calibration.md, few_values)."""
CONFIRMED = 3
"""How often a remedy that is enough is built again: as often as other samples can be held out, of so many in four.

A sparse attention was promised 35.1 ± 2.1 dB by 16 of 64 samples, and had 8 dB with each of the 64 held out once.
"""
BRIEF_WORK = 1 << 24
"""Multiplications of a network from which on quick recipes try options, the best with compensation, and no fronts (that
would take as long as all the rest, and `balanced`, which they name, does), and 16 bits alone, where nothing is poor."""
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


Errors = tuple[tuple[float, ...], tuple[float, ...]]
"""What each sample adds to what varies, and its squared error."""


@dataclass(frozen=True)
class Trial:
    """A remedy that was tried.

    Attributes:
        options: of the command line.
        worst: the worst output or part with them.
        samples: held-out samples that say so.
        compensated: whether the recipe's compensation was tried with them.
        floats: the share of the layers' multiplications that a front in float has.
        errors: of each output and part, what each sample adds to what varies, and its squared error.
    """

    options: str
    worst: Place
    samples: int
    compensated: bool = False
    floats: float = 0.0
    errors: tuple[Errors, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether every output and part is fine with them."""
        return self.worst.db >= FINE_DB

    @property
    def unsure(self) -> bool:
        """Whether it is enough on the samples that it was tried on, and other samples may well say something else."""
        known = self.samples > FEW_HELD_OUT and self.worst.db - STANDARD_ERRORS * self.worst.standard_error >= FINE_DB
        return self.enough and not known  # of nan nothing is known

    @property
    def least_db(self) -> float:
        """What fresh samples may well have at some output or part (`paired.least_db`); nan where nothing is known."""
        return min((least_db(*errors) for errors in self.errors), default=math.nan)

    @property
    def rare(self) -> bool:
        """Whether it is enough but for samples so rare that fresh ones may well have less than is fine."""
        return self.enough and self.least_db < FINE_DB

    @property
    def mostly_float(self) -> bool:
        """Whether little of the network is integers with them."""
        return self.floats > MOST


Attempt = Callable[..., Trial | None]
"""Of a change, with compensation, with all of the recipe that is quick, and until it is sure; None where that way is
none."""


def tried(
    context: Context,
    samples: Samples,
    recipe: Recipe,
    quality: Quality,
    own: OwnErrors,
    advance: Advance,
    limit: Ceiling | None = None,
    *,
    brief: bool = False,
    every: bool = False,
) -> tuple[Trial, ...]:
    """The remedies that were tried, in order; the first that is enough, of rare samples too, comes last, where one is.

    Args:
        context: of the build.
        samples: all that it has.
        recipe: that it followed.
        quality: of what came out, by the context's graph or one that was made from it.
        own: errors of its ops; as many held-out samples judge.
        advance: shows how many were tried.
        limit: what 16 bits at single tensors promise; None where nobody knows.
        brief: whether no fronts are tried.
        every: whether single samples decide, so that what is enough is built on all of them, each held out once.
    """
    if recipe.mixed is not None or context.model.learned is not None:
        return ()  # the widths were chosen under a limit, or by training
    if not any(_judged(context.graph, quality)):
        return ()  # what has no dB cannot tell what helps it
    large = work(context.graph) > BRIEF_WORK
    columns = column_warnings(context.model, samples, recipe.precision)
    unlike = tuple(name for name, warning in columns.items() if warning.standardize)
    layers, count = few_layers(own, limit), max(2, own.samples) * HOLD_OUT_EVERY
    ways = [*of_columns(context, recipe, quality, own, unlike), *changes(context, recipe, quality, own, layers)]
    single = large and brief  # all that may help would take as long as the rest of the build
    if single:
        ways = [change for change in ways if change.options == (WIDE,)]

    def attempt(change: Change, compensated: bool = False, whole: bool = False, sure: bool = True) -> Trial | None:
        def on(some: Samples) -> Trial:
            return _tried(context, some if every else some.head(count), recipe, change, compensated, whole)

        with suppress(EdgeqwtError):  # that way is no way for this model or target
            trial = on(samples)
            doubtful = trial.unsure or every or not large  # of large networks, only what other samples may not confirm
            times = CONFIRMED if sure and trial.enough and doubtful and not single else 0
            return confirmed(trial, [on(turned(samples, k * (count + 1))) for k in range(1, 1 + times)])
        return None

    found = dict[Change, Trial]()
    brief = brief or (large and recipe.find(Equalization) is None)  # quick recipes name `balanced`, too
    for change, trial in _attempts(context, recipe, own, ways, found, attempt, advance, brief):
        found[change] = max(found.get(change, trial), trial, key=lambda trial: trial.worst.db)
        if trial.enough and not trial.rare:
            break
    return tuple(found.values())


def _attempts(
    context: Context,
    recipe: Recipe,
    own: OwnErrors,
    ways: Sequence[Change],
    found: Mapping[Change, Trial],
    attempt: Attempt,
    advance: Advance,
    brief: bool,
) -> Iterator[tuple[Change, Trial]]:
    """Remedies and what came of them, the cheapest first; `found` has what came of those before."""
    last = [change for change in ways if share(context.graph, upto(context.graph, change.floats)) > MOST]
    first = [change for change in ways if change not in last]
    for k, change in enumerate(first):
        trial = attempt(change)
        advance(k + 1, len(first))
        yield from _made(change, trial)
    if any(trial.enough for trial in found.values()):
        return
    if not brief:
        yield from _smallest_fronts(context, recipe, own, attempt)
    # What compensation gained in the build it may gain here: without it, nothing would seem better than the build.
    for change in _nearest(found) if recipe.of_role(COMPENSATION) is not None else ():
        yield from _made(change, attempt(change, compensated=True))
    if brief:
        return
    wide = [change for change in found if change.wide and not change.floats]
    if wide and any(not t.slow for t in recipe.techniques if t.name in REPAIRING):
        change = max(wide, key=lambda change: found[change].worst.db)
        yield from _made(change, attempt(change, compensated=True, whole=True))
    for change in last:
        yield from _made(change, attempt(change))


def _made(change: Change, trial: Trial | None) -> Iterator[tuple[Change, Trial]]:
    if trial is not None:
        yield change, trial


def confirmed(trial: Trial, again: Sequence[Trial]) -> Trial:
    """A trial with the figures of all times that it was built, on samples that are not the same ones.

    Args:
        trial: as it was found.
        again: the same remedy; none where nothing is to be confirmed.
    """
    if not again:
        return trial
    places = [each.worst for each in (trial, *again)]
    noise = [10 ** (-place.db / 10) for place in places]
    mean = sum(noise) / len(noise)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in noise) / (len(noise) * (len(noise) - 1)))
    error = 10 / math.log(10) * deviation / mean if mean else math.nan
    worst = Place(min(places, key=lambda place: place.db).name, -10 * math.log10(mean) if mean else math.inf, error)
    together = tuple(map(_joined, zip(*(each.errors for each in (trial, *again)), strict=True)))
    count = trial.samples + sum(each.samples for each in again)
    return replace(trial, worst=worst, samples=count, errors=together)


def _joined(errors: tuple[Errors, ...]) -> Errors:
    """Of one place in several builds."""
    return tuple(v for each in errors for v in each[0]), tuple(e for each in errors for e in each[1])


def _nearest(found: Mapping[Change, Trial]) -> list[Change]:
    """The best and the best with 16 bits, whose error compensation takes more of, where that may be enough."""
    ranked = sorted(found, key=lambda change: -found[change].worst.db)
    two = dict.fromkeys([*ranked[:1], *[change for change in ranked if change.wide][:1]])
    return [change for change in two if found[change].worst.db + COMPENSATED_DB >= FINE_DB]


def _smallest_fronts(
    context: Context, recipe: Recipe, own: OwnErrors, attempt: Attempt
) -> Iterator[tuple[Change, Trial]]:
    """The smallest front that is enough where it stays float, or the best where none is, in 8 bits and in 16."""
    start = None if integers_only(context.target) else lost_from(context.graph, own, recipe.quality.min_db)
    if start is None:
        return
    names = fronts(context.graph, start)
    for wide in (False, True)[: 2 if narrow(context, recipe) else 1]:
        best: tuple[Change, Trial] | None = None
        low, high, middle = 0, len(names), len(names) - 1  # the largest first: where it is not enough, none is
        while low < high:
            change = front(context, [names[middle]], wide)
            trial = attempt(change, sure=False)
            if trial is not None and (best is None or trial.enough):
                best = change, trial
            if trial is None or not trial.enough:
                low = middle + 1
            else:
                high = middle
            middle = (low + high) // 2
        if best is not None:
            change, trial = best
            yield change, (attempt(change) or trial) if trial.enough else trial


def worst_place(graph: Graph, quality: Quality) -> Place:
    """The worst of the outputs and their parts; where an output ends in softmax, what goes into that counts.

    Args:
        graph: float, with the outputs of `quality`, in its order.
        quality: on held-out samples.
    """
    found = [Place("", math.inf)]
    found += [Place(name, at.closeness.judged_db, at.standard_error) for name, at in _judged(graph, quality)]
    return min(found, key=lambda place: (not math.isnan(place.db), place.db))


def _judged(graph: Graph, quality: Quality) -> Iterator[tuple[str, OutputFigures]]:
    """The outputs and parts of them that count, by name; of choices what they are made among, of integers numbers."""
    for t, output, judged in zip(graph.outputs, quality.outputs, quality.decisive, strict=True):
        if not graph.tensors[t].is_float:
            chosen = graph.tensors[before_saturation(graph, t)[0]].is_float
            yield from [(output.name, judged)] if chosen and judged.unresolved is None else []
            yield from [(output.name, output)] if not chosen and counts(graph, t) else []
        else:
            ends = (judged,) if "SOFTMAX" in before_saturation(graph, t)[1] else (judged, output)
            yield from ((output.name, at) for at in ends if at.unresolved is None)
            yield from ((at.name, at) for at in output.judged_parts)


def _tried(
    context: Context, samples: Samples, recipe: Recipe, change: Change, compensated: bool = False, whole: bool = False
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
    types |= {graph.tensors[graph.inputs[k]].name: "float" for k in entrances(graph, change.floats)}
    ports = {name: replace(precision.ports.get(name, Port()), type=kind) for name, kind in types.items() if kind}
    precision = replace(precision, ports=with_states(graph, {**precision.ports, **ports}))
    quick = tuple(t for t in recipe.techniques if not t.slow)
    simple = plain(recipe.techniques) if change.wide and not whole else quick
    last = tuple(t for t in recipe.techniques if t.role == COMPENSATION) if compensated else ()
    used = (*(t for t in simple if t.role != COMPENSATION), *last)
    small = Context.of(model, graph, samples, context.target, context.preserve, context.ranges)
    made = make(small, used, precision, Stages())
    quality = small.gate.quality(made.reference, {"": made.graph})[""]
    floats = share(graph, upto(graph, change.floats)) if change.floats else 0.0
    errors = tuple(at.paired for _, at in _judged(made.reference, quality))
    worst = worst_place(made.reference, quality)
    return Trial(" ".join(change.options), worst, quality.samples, compensated, floats, errors)
