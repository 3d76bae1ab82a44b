"""What a target does not take of a graph, before anything is built or compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeqwt.errors import TargetError
from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.profile import Budget, Finding, TargetProfile
from edgeqwt.target.constraints import CONSTRAINTS
from edgeqwt.target.model import Model, is_float
from edgeqwt.target.rule import ERROR, WARNING, Constraint, Hit

EVERYWHERE: Mapping[str, object] = {"integer_form": True}
"""Limits of every target."""

TYPICAL = ("ram", "flash")
"""Limits that differ from board to board."""


def check(graph: Graph, profile: TargetProfile, *, bits: int = 8, budget: Budget | None = None) -> tuple[Finding, ...]:
    """Everything that stands in a graph's way, errors first, then in the order of the ops.

    A float graph is judged by what it will become: it is prepared as a build prepares it, and each op counts as
    the integer ops that the op table says it is written with.

    Args:
        graph: integer, or float.
        profile: the target.
        bits: width of the activations that a float graph will get, 8 or 16.
        budget: its RAM and flash take the place of the profile's.
    """
    limits = {**EVERYWHERE, **profile.limits}
    given = {} if budget is None else {"ram": budget.ram, "flash": budget.flash}
    own = {name: limit for name, limit in given.items() if limit is not None}
    limits |= own
    seen = prepare(graph).graph if is_float(graph) and not graph.others else graph
    model = Model(seen, profile, bits)
    found = {
        _finding(model, CONSTRAINTS[name], limit, hit, graph)
        for name, limit in limits.items()
        for hit in CONSTRAINTS[name].find(model, limit)
    }
    # What a profile says of memory is a typical board's; the user's own board may have more.
    found = {(i, replace(f, severity=WARNING) if f.rule in TYPICAL and f.rule not in own else f) for i, f in found}
    return tuple(
        finding for _, finding in sorted(found, key=lambda pair: (pair[1].severity != ERROR, pair[0], str(pair[1])))
    )


def require(
    graph: Graph, profile: TargetProfile, *, bits: int = 8, budget: Budget | None = None, fixing: bool = False
) -> tuple[Finding, ...]:
    """What a target takes at a price, where nothing stands in the way.

    Ops without an integer form on any target pass: lowering refuses them with their location in the source model.

    Args:
        graph: as for `check`.
        profile: as for `check`.
        bits: as for `check`.
        budget: as for `check`.
        fixing: whether errors that have a fix will be fixed.

    Raises:
        TargetError: naming the first error, and how many others there are.
    """
    findings = check(graph, profile, bits=bits, budget=budget)
    errors = [
        found
        for found in findings
        if found.severity == ERROR and found.rule not in EVERYWHERE and not (fixing and found.fix)
    ]
    if errors:
        first, others = errors[0], len(errors) - 1
        where = f"{first.op} ({first.tensor}): " if first.op else ""
        count = "is 1" if others == 1 else f"are {others}"
        more = f" There {count} more: `edgeqwt check FILE --target {profile.name}` lists all." if others else ""
        fixes = " --fix does that." if first.fix else ""
        raise TargetError(f"target {profile.name} does not take {where}{first.reason}", f"{first.remedy}{fixes}{more}")
    return findings


def _finding(model: Model, constraint: Constraint, limit: object, hit: Hit, original: Graph) -> tuple[int, Finding]:
    """What is reported of a hit, and the op's index in the graph that was given."""
    tensor = hit.tensor
    if tensor < 0 and hit.op >= 0:
        tensor = next(iter(model.graph.ops[hit.op].outputs), -1)
    rule = constraint.rule.replace("{limit}", str(limit))
    detail = hit.detail[:1].upper() + hit.detail[1:]
    index, kind = _original_op(model.graph, hit.op, original)
    return index, Finding(
        rule=constraint.name,
        severity=hit.severity or constraint.severity,
        op=f"{kind} {index}" if index >= 0 else "",
        tensor=model.tensor(tensor).name if tensor >= 0 else "",
        reason=f"{detail}: {rule[:1].lower() + rule[1:] if not rule[:2].isupper() else rule}",
        remedy=hit.remedy or constraint.remedy.replace("{limit}", str(limit)),
        fix=hit.fix,
    )


def _original_op(seen: Graph, i: int, original: Graph) -> tuple[int, str]:
    """The op of the given graph that an op of the prepared graph comes from, by the names of their outputs."""
    if i < 0 or seen is original:
        return i, seen.ops[i].kind if i >= 0 else ""
    writers = {original.tensors[t].name: k for k, op in enumerate(original.ops) for t in op.outputs}
    name = next((seen.tensors[t].name for t in seen.ops[i].outputs), "")
    while name and name not in writers:
        name = name.rpartition("/")[0]  # what preparation adds is named after the op that it stands for
    k = writers.get(name, -1)
    return (k, original.ops[k].kind) if k >= 0 else (-1, "")
