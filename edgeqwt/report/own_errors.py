"""What the errors of single ops, and the ceiling above them all, say to people."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeqwt.output import most
from edgeqwt.report.variants import decibels, in_db

if TYPE_CHECKING:
    from edgeqwt.ceiling import Ceiling
    from edgeqwt.pipeline import BuildResult
    from edgeqwt.verify.op_errors import OwnErrors
    from edgeqwt.verify.quality import Quality
    from edgeqwt.verify.thresholds import Thresholds


def ceiling_sentences(found: Ceiling | None, kept: Quality) -> Iterator[str]:
    """What activations of these widths leave at best, and where wider ones would pay; nothing where nobody asked."""
    if found is None:
        return
    if found.db == math.inf:
        yield (
            f"with float weights, rounding the activations as here changes no output of {found.samples} samples: what "
            "is missing is the weights' rounding, and wider activations would give nothing"
        )
        return
    singles = [wider for wider in found.wider if len(wider.tensors) == 1]
    more = f"; 16 bits at {singles[0].tensors[0]!r} alone {_left(singles[0].db)}" if singles else ""
    best = found.wider[-1] if len(found.wider) > 1 else None
    all_of = "" if best is None else f", at the {len(best.tensors)} worst {_left(best.db)}"
    yield (
        f"activations rounded as here leave {in_db(found.db)} of what varies with float weights, all outputs of "
        f"{found.samples} samples together (this model has {decibels(kept.worst_db)} at the worst output, on "
        f"{kept.samples}){more}{all_of}"
    )


def _left(db: float) -> str:
    return "leave no error" if db == math.inf else in_db(db)


def own_sentences(
    found: OwnErrors,
    count: int,
    thresholds: Thresholds,
    db: float,
    built: BuildResult | None = None,
    repaired: bool = False,
) -> Iterator[str]:
    """The ops that err most by themselves, and what to do about those that are poor.

    Args:
        found: errors of all ops.
        count: how many are shown.
        thresholds: which are poor.
        db: SQNR of what varies at the worst output.
        built: the build; None: the file is another tool's.
        repaired: whether such a file was compensated.
    """
    from edgeqwt.advice import added_up, advice_on, causes
    from edgeqwt.ceiling import alone

    names, wider = names_in(found, built), alone(None if built is None else built.ceiling)
    said = set[str]()  # what to do is often the same for several
    if found.skipped:
        yield f"not known: {found.skipped}"
    for op in found.worst[: most(count)]:
        behind = "" if op.accumulated_db is None else f"; {in_db(op.accumulated_db)} with all before it"
        recipe, pays = None if built is None else built.recipe, wider.get(op.tensor)
        todo = advice_on(op, found, thresholds, recipe, names, wider_db=pays, repaired=repaired)
        advised = f". {'As above.' if todo in said else todo}" if todo else ""
        said.add(todo)
        yield f"{op.kind} {op.name!r}: {in_db(op.own_db or 0.0)}, {causes(op)}{behind}{advised}"
    if why := added_up(found, db, thresholds, built is None, repaired):
        yield why


def names_in(own: OwnErrors, result: BuildResult | None) -> dict[str, str]:
    """What the ops of the float graph compute, by name, and what that is in the source where a build knows it."""
    if result is None:
        return {op.reference: "" for op in own.ops}
    graph, locations = result.prepared.graph, result.model.locations
    names = [graph.tensors[t].name for op in graph.ops for t in op.outputs]
    return {name: locations.get(name, "") for name in names}
