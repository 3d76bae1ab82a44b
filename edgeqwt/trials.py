"""Choices that are made by lowering both ways and looking at held-out samples: what clearly loses is not done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from edgeqwt.autograd.weighted import Weighting, weighted
from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.equalize.equalize import Equalization, Equalized, equalize
from edgeqwt.equalize.splits import split
from edgeqwt.graph.ends import before_saturation
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.job import Fed, Ground, Job, lowered
from edgeqwt.prepare.steps import share_weights
from edgeqwt.progress import Advance
from edgeqwt.quantize.curves import Curves
from edgeqwt.quantize.curves import finer_curves as curves_to_refine
from edgeqwt.quantize.islands import RECURRENCE, Island, Islands, islands, widened
from edgeqwt.quantize.joins import Joins, finer_inputs
from edgeqwt.quantize.judge import Judge
from edgeqwt.quantize.reround import reround
from edgeqwt.quantize.rounding import RoundingRule
from edgeqwt.quantize.row_weights import RowWeights
from edgeqwt.quantize.widths import planned
from edgeqwt.target import missing_ops

EQUALIZATION_LOSS_DB = 1.5  # more than one unusual sample among few held out makes of it


@dataclass(frozen=True)
class RoleChoice:
    """Islands of one role, and whether they have 16-bit activations.

    Attributes:
        role: of `islands.ROLES`.
        islands: how many there are.
        ops: how many ops they have.
        gain_db: SQNR at the outputs that they gain, on held-out samples; all other wide islands being wide.
        wide: whether that was enough.
    """

    role: str
    islands: int
    ops: int
    gain_db: float
    wide: bool


@dataclass(frozen=True)
class JoinChoice:
    """Whether inputs of joining ops have scales of their own.

    Attributes:
        inputs: how many there are whose own scale is twice as fine or finer.
        gain_db: SQNR at the outputs that it gains, on held-out samples.
        kept: whether that was enough.
    """

    inputs: int
    gain_db: float
    kept: bool


@dataclass(frozen=True)
class CurveChoice:
    """Whether bounded functions are tables, whose outputs have scales of their own.

    Attributes:
        ops: how many use half of their kernel's output range or less.
        gain_db: SQNR at the outputs that it gains, on held-out samples.
        kept: whether that was enough.
    """

    ops: int
    gain_db: float
    kept: bool


@dataclass(frozen=True)
class Widened:
    """What 16-bit islands are for.

    Attributes:
        roles: what was tried.
        skipped: why nothing was; empty otherwise.
    """

    roles: tuple[RoleChoice, ...] = ()
    skipped: str = ""


def wide_islands(job: Job, ground: Ground, options: Islands) -> tuple[Ground, tuple[Island, ...], Widened | None]:
    """All islands with 16-bit activations, if that gains enough; the last is None where there are no islands."""
    precision, found = ground.recipe.precision, islands(ground.graph)
    if not found:
        return ground, (), None
    if precision.activation_bits != 8 or precision.layers:
        return ground, (), Widened(skipped="widths are given")
    if job.target.limits.get("activation_bits") == 8:
        return ground, (), Widened(skipped=f"{job.target.name} has no 16-bit activations")
    wide = _with(ground, found)
    gain = _gain(job, ground, wide)
    if not gain >= options.min_gain:  # nan as well
        return ground, (), Widened(skipped=f"16 bits between matrix products gain {gain:.2f} dB on held-out samples")
    return wide, found, Widened()


def worthwhile_islands(job: Job, ground: Ground, options: Islands) -> tuple[Ground, Widened]:
    """The islands whose 16 bits still gain enough, role by role, after what equalization and ranges have done."""
    found, told = islands(ground.graph), []  # with what equalization added
    kept = list(found)
    with _judge(job) as judge:
        noise = judge.noise(lowered(job, _with(ground, kept)))
        for role in dict.fromkeys(sorted((i.role for i in found), key=list(_ORDER).index)):
            mine = [i for i in found if i.role == role]
            rest = [i for i in kept if i.role != role]
            without = judge.noise(lowered(job, _with(ground, rest)))
            gain = 10 * math.log10(without / noise) if without > 0 < noise else 0.0
            wide = gain >= options.min_gain
            told.append(RoleChoice(role, len(mine), sum(len(i.ops) for i in mine), gain, wide))
            if not wide:
                kept, noise = rest, without
    return _with(ground, kept), Widened(tuple(told))


_ORDER = {"activation": 0, "softmax": 1, "normalization": 2, RECURRENCE: 3}
"""The least likely to pay first."""


def _with(ground: Ground, wide: Iterable[Island]) -> Ground:
    """The same with these islands wide, and nothing else."""
    precision = widened(ground.graph, replace(ground.recipe.precision, layers={}), wide)
    return replace(ground, recipe=replace(ground.recipe, precision=precision))


def finer_joins(job: Job, ground: Ground, options: Joins) -> tuple[Ground, JoinChoice | None]:
    """Inputs of joining ops at scales of their own, if that gains enough; the last is None where there is no such."""
    precision, lacking16 = ground.recipe.precision, missing_ops(job.target)[1]
    plan = planned(ground.graph, precision, lacking16)
    inputs = finer_inputs(ground.graph, ground.statistics, ground.recipe.ranges, plan)
    if not inputs:
        return ground, None
    after = replace(ground, recipe=replace(ground.recipe, precision=replace(precision, finer_joins=True)))
    gain = _gain(job, ground, after)
    kept = gain >= options.min_gain  # false for nan
    return after if kept else ground, JoinChoice(len(inputs), gain, kept)


def finer_curves(job: Job, ground: Ground, options: Curves) -> tuple[Ground, CurveChoice | None]:
    """TANH and LOGISTIC as tables, if that gains enough; the last is None where there is nothing to choose."""
    precision, (lacking, lacking16) = ground.recipe.precision, missing_ops(job.target)
    if job.target.npu is not None or "GATHER" in lacking:  # NPUs have these curves, and leave tables to the CPU
        return ground, None
    plan = planned(ground.graph, precision, lacking16)
    ops = curves_to_refine(ground.graph, ground.statistics, ground.recipe.ranges, plan)
    if not ops:
        return ground, None
    after = replace(ground, recipe=replace(ground.recipe, precision=replace(precision, finer_curves=True)))
    gain = _gain(job, ground, after, ends(job.graph, bounded=True))
    kept = gain >= options.min_gain  # false for nan
    return after if kept else ground, CurveChoice(len(ops), gain, kept)


def equalized(job: Job, ground: Ground, wide: tuple[Island, ...], options: Equalization) -> tuple[Ground, Equalized]:
    """The equalized graph, unless it clearly loses when both are lowered and no other lever acts.

    The levers that follow gain from it even where it makes no difference yet. At the shores of wide islands places
    are made for factors that cost a multiplication (`equalize.splits`).
    """
    start = _split(job, ground, wide)
    found = equalize(start.graph, Fed(job, job.fit), start.statistics, options, start.recipe.precision)
    if found.skipped:
        return ground, replace(found, graph=ground.graph)
    # Steps of a recurrence got the same factors, each into weights of its own.
    found = replace(found, graph=share_weights(found.graph)[0])
    again, _ = observe(found.graph, job.feeds(job.fit))
    precision = found.precision or start.recipe.precision
    recipe = replace(start.recipe, precision=precision)
    after = replace(start, graph=found.graph, statistics=again, recipe=recipe)
    gain = _gain(job, ground, after)
    if gain >= -EQUALIZATION_LOSS_DB:  # false for nan
        return after, found
    return ground, Equalized(ground.graph, skipped=f"it loses {-gain:.2f} dB on held-out samples")


def _split(job: Job, ground: Ground, wide: tuple[Island, ...]) -> Ground:
    inside = {i for island in wide if island.role == "normalization" for i in island.ops}
    graph, names = split(ground.graph, inside)
    if not names:
        return ground
    statistics, _ = observe(graph, job.feeds(job.fit))
    return _with(replace(ground, graph=graph, statistics=statistics), islands(graph))


def weighted_ranges(job: Job, ground: Ground, options: Weighting) -> tuple[Ground, str]:
    """Statistics in which values count as the outputs feel them, if ranges are better so; else why not."""
    try:
        import torch  # noqa: F401 (whether it is there)
    except ImportError:
        return ground, "gradients need torch, which is not installed"
    decisive = ends(ground.graph)
    if not decisive:
        return ground, "no output is a real number"
    some = islice(job.feeds(job.fit), options.samples)
    found: Mapping[int, Statistics] = weighted(ground.graph, some, decisive, ground.statistics)
    after = replace(ground, statistics=found)
    gain = _gain(job, ground, after)
    return (after, "") if gain > 0 else (ground, f"otherwise {gain:+.2f} dB on held-out samples")


def rounded(
    job: Job, ground: Ground, plain: Graph, rule: RoundingRule, felt: RowWeights | None, advance: Advance
) -> tuple[Graph, str]:
    """The integer graph with its weights rounded by a rule, if that does not lose against nearest; else why not."""
    found = reround(
        plain, ground.graph, job.feeds(job.fit), rule, ground.recipe.precision, advance, felt=felt, kept=ground.kept
    )
    if not ends(job.graph):
        return found, ""
    with _judge(job) as judge:
        before, after = judge.noise(plain), judge.noise(found)
    if after <= before:
        return found, ""
    if before == 0:
        return plain, "to nearest there is no error on held-out samples"
    return plain, f"it loses {10 * math.log10(after / before):.2f} dB on held-out samples"


def _gain(job: Job, before: Ground, after: Ground, decisive: tuple[int, ...] = ()) -> float:
    """Decibels of SQNR at the outputs, on held-out samples."""
    with _judge(job, decisive) as judge:
        old, new = judge.noise(lowered(job, before)), judge.noise(lowered(job, after))
    return 10 * math.log10(old / new) if new > 0 < old else 0.0


def _judge(job: Job, decisive: tuple[int, ...] = ()) -> Judge:
    """Of what compensation cannot take away, whether it follows or not: with and without it all else is the same."""
    return Judge(job.graph, job.feeds(job.held_out), decisive or ends(job.graph), centered=True)


def ends(graph: Graph, bounded: bool = False) -> tuple[int, ...]:
    """Where errors count: before a softmax or the like; `bounded`: behind TANH and LOGISTIC."""
    found: list[int] = []
    for t in graph.outputs:
        if graph.tensors[t].is_float:
            end, passed = before_saturation(graph, t)
            found.append(t if bounded and any(RULES[kind].elementwise for kind in passed) else end)
    return tuple(dict.fromkeys(found))
