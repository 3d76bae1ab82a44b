"""What fresh samples will have, where held-out ones are too few to tell: each quarter of the samples held out in turn.

The error of a small network is often that of a few samples, whose values lie beyond all ranges that the others ask for.
One in a hundred is not among 16 that are held out, as a rule, and their figure then promises what fresh samples do not
have: 24.5 ± 1.5 dB were promised of dense layers on values by Student's t, and fresh ones had 6.1. So four builds hold
out a quarter each, by which every sample is judged once by ranges that others chose (cross-validation: Stone 1974). The
largest value of all is then beyond the ranges once, as it will be for the next largest one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from edgeqwt.calibration.samples import HOLD_OUT_EVERY, Samples, turned
from edgeqwt.errors import EdgeqwtError
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import work
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import make
from edgeqwt.passes.technique import Techniques
from edgeqwt.progress import Advance, Stages
from edgeqwt.verify.paired import gain, least_db
from edgeqwt.verify.quality import Quality
from edgeqwt.widths.precision import Precision

LEAST = 12  # samples: of fewer a quarter says nothing
WORTH = 1 << 30
"""Multiplications of all samples together that this is worth: some seconds for networks of few values. Larger ones have
enough of them to show their tails."""
OF_AN_OP = 1 << 17  # multiplications in the time that an op takes at least, with what is observed of it


@dataclass(frozen=True)
class Expected:
    """What an output has with every sample held out once.

    Attributes:
        db: SQNR of what varies; inf where nobody knows: of integers, and where nothing varies, less than a step of a
            probability varies or nothing errs.
        standard_error: of it, in dB; nan where samples are too few to know.
        samples: how many.
        least_db: what fresh ones may well have (`paired.least_db`); nan where nobody knows.
        slow_db: how much of it slow techniques gain, which are left out here, on the build's own held-out samples.
    """

    db: float
    standard_error: float
    samples: int
    slow_db: float = 0.0
    least_db: float = math.nan


def worth_it(graph: Graph, count: int) -> bool:
    """Whether so many samples of a float graph are enough for this, and not too much."""
    return count >= LEAST and count * (work(graph) + OF_AN_OP * len(graph.ops)) <= WORTH


def possible(context: Context, samples: Samples, precision: Precision) -> bool:
    """Whether a build's model and samples are such; samples are counted where some number of them would be enough."""
    if context.model.learned is not None or precision.dynamic or not worth_it(context.graph, LEAST):
        return False
    return worth_it(context.graph, sum(1 for _ in samples) if samples.count is None else samples.count)


def cross_validated(
    context: Context, samples: Samples, techniques: Techniques, precision: Precision, found: Quality, advance: Advance
) -> tuple[Expected, ...]:
    """What each output has, or what goes into its softmax, with every sample held out once; empty where nobody knows.

    Args:
        context: of the build; its held-out samples are the first quarter.
        samples: all that it has, as many as are `possible`.
        techniques: that made the model that is kept; slow ones are left out.
        precision: that they began with.
        found: what the build's own held-out samples say of it.
        advance: shows how many quarters are judged.
    """
    quick = tuple(technique for technique in techniques if not technique.slow)
    parts = [found] if len(quick) == len(techniques) else []
    with suppress(EdgeqwtError):  # a quarter that cannot be built without says nothing of the others
        for k in range(len(parts), HOLD_OUT_EVERY):
            parts.append(_of_quarter(context, turned(samples, k), quick, precision))
            advance(k, HOLD_OUT_EVERY - 1)
        return tuple(_together(context.graph, parts, found))
    return ()


def _of_quarter(context: Context, samples: Samples, techniques: Techniques, precision: Precision) -> Quality:
    small = Context.of(context.model, context.graph, samples, context.target, context.preserve, context.ranges)
    made = make(small, techniques, precision, Stages())
    return small.gate.quality(made.reference, {"": made.graph})[""]


def _together(graph: Graph, parts: Sequence[Quality], found: Quality) -> Iterator[Expected]:
    """The figure of each output over all quarters; what a quarter's first sample adds to what varies is not known."""
    samples = sum(part.samples for part in parts)
    for t, kept, *outputs in zip(graph.outputs, found.decisive, *(part.decisive for part in parts), strict=True):
        variations, errors = (
            tuple(chain.from_iterable(some)) for some in zip(*(o.paired for o in outputs), strict=True)
        )
        figure, slow = gain(variations, errors), kept.closeness.judged_db - outputs[0].closeness.judged_db
        judged = all(each.unresolved is None and each.closeness.varying_db is not None for each in outputs)
        if graph.tensors[t].is_float and judged and math.isfinite(figure.db) and math.isfinite(slow):
            least = least_db(variations, errors) + slow
            yield Expected(figure.db + slow, figure.standard_error, samples, slow, least)
        else:
            yield Expected(math.inf, math.nan, samples)
