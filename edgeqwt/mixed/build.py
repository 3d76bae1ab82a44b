"""A graph of mixed widths within a limit: choose by what was measured, build with all techniques, check, correct."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgeqwt.errors import RecipeError
from edgeqwt.graph.graph import Graph
from edgeqwt.mixed.cost import file_size
from edgeqwt.mixed.knapsack import Choice
from edgeqwt.mixed.problem import Problem, measured
from edgeqwt.mixed.solutions import Solution, within_cost, within_degradation
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import Made, make
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.techniques.regions16 import Regions16
from edgeqwt.verify.quality import layer_quality
from edgeqwt.widths.plan import copy_ops
from edgeqwt.widths.precision import Mixed, Precision, Widths

TRIES = 4  # builds, at most, until a limit holds
CLOSE = 0.25  # decibels above what was asked for that no further build is made to save


@dataclass(frozen=True)
class LayerChoice:
    """One layer, and what it could have been.

    Attributes:
        name: of the tensor that it computes.
        kind: of the op.
        options: with cost and degradation, as measured.
        chosen: its widths.
    """

    name: str
    kind: str
    options: tuple[Choice, ...]
    chosen: Widths


@dataclass(frozen=True)
class Assignment:
    """Which widths were chosen under a limit, and why.

    Attributes:
        layers: in the order of the ops.
        wide: tensors that are computed with 16 bits.
        copies: QUANTIZE ops between widths.
        bytes: of the file.
        relative_time: of a run, by the recipe's `op_times`, in that with 8 bits everywhere.
        predicted_db: SQNR at the outputs as the measured degradations add up to it, all outputs' errors together.
        measured_db: SQNR of the built file on samples to fit on, of the worst output.
        builds: how many it took until the limit held.
    """

    layers: tuple[LayerChoice, ...]
    wide: tuple[str, ...]
    copies: int
    bytes: int
    relative_time: float
    predicted_db: float
    measured_db: float
    builds: int


Result = tuple[Made, Recipe, Assignment]


def make_mixed(context: Context, recipe: Recipe, goal: Mixed, stages: Stages) -> Result:
    """The integer graph that a recipe makes with the best widths within a limit.

    Returns:
        The graph, the recipe with its precision, and the account.

    Raises:
        RecipeError: no widths hold the limit; the message says what is possible.
        EdgeqwtError: as `passes.run.make`.
    """
    with stages("sensitivity") as advance:
        problem = measured(context, recipe, goal, advance)
    if goal.min_sqnr:
        return _to_sqnr(context, recipe, goal, problem, stages)
    if goal.max_latency:
        return _built(context, recipe, goal, problem, within_cost(problem, problem.time, goal.max_latency), stages, 1)
    return _to_size(context, recipe, goal, problem, stages)


def _to_size(context: Context, recipe: Recipe, goal: Mixed, problem: Problem, stages: Stages) -> Result:
    """Within bytes, checked on the built graph."""
    wanted, size = goal.max_size, 0
    for tries in range(1, TRIES + 1):
        built = _built(context, recipe, goal, problem, within_cost(problem, problem.size, wanted), stages, tries)
        size = built[2].bytes
        if size <= goal.max_size:
            return built
        # A technique took bytes that lowering alone does not: where it parts biases that were one, say.
        wanted -= size - goal.max_size
    message = f"no file of at most {goal.max_size} bytes was found in {TRIES} builds: the last has {size}"
    raise RecipeError(message, f"Allow {size}.")


def _to_sqnr(context: Context, recipe: Recipe, goal: Mixed, problem: Problem, stages: Stages) -> Result:
    """The smallest file that is measured to be good enough; what techniques gain corrects the prediction."""
    ahead = 0.0  # decibels by which builds come out better than predicted
    kept: Result | None = None
    seen: list[tuple[Precision, Result]] = []
    for tries in range(1, TRIES + 1):
        solution = within_degradation(problem, problem.size, 10 ** (-(goal.min_sqnr - ahead) / 10))
        if any(precision == solution.precision for precision, _ in seen):
            break
        built = _built(context, recipe, goal, problem, solution, stages, tries)
        seen.append((solution.precision, built))
        account = built[2]
        ahead = account.measured_db - account.predicted_db
        if account.measured_db >= goal.min_sqnr and (kept is None or account.bytes < kept[2].bytes):
            kept = built
        if 0 <= account.measured_db - goal.min_sqnr < CLOSE:
            break
    if kept is None:
        best = max(account.measured_db for _, (_, _, account) in seen)
        raise RecipeError(
            f"{goal.min_sqnr:g} dB were not reached in {len(seen)} builds: the best has {best:.2f} dB",
            "Ask for less, allow 16-bit activations (wide), or use a recipe with more techniques.",
        )
    return kept


def _built(
    context: Context, recipe: Recipe, goal: Mixed, problem: Problem, solution: Solution, stages: Stages, tries: int
) -> Result:
    ports = recipe.precision.ports
    used = replace(recipe.without(Regions16.name), precision=replace(solution.precision, ports=ports))
    own = replace(context, limits=context.limits.part(1 / (TRIES + 1 - tries)))
    made = make(own, used.techniques, used.precision, stages)
    with stages("sensitivity"):
        size = file_size(made.graph, used, context.target)
        account = _account(context, goal, problem, solution, made.reference, made.graph, size, tries)
    return made, used, account


def _account(
    context: Context,
    goal: Mixed,
    problem: Problem,
    solution: Solution,
    reference: Graph,
    graph: Graph,
    size: int,
    tries: int,
) -> Assignment:
    parts, plan = problem.parts, problem.plan(solution.precision)
    names = (parts.graph.tensors[op.outputs[0]].name for op in parts.graph.ops)
    quality = layer_quality(reference, {"": graph}, context.fit.head(goal.samples))[""]
    return Assignment(
        layers=tuple(
            LayerChoice(la.name, la.kind, solution.options[la.name], solution.chosen[la.name].widths)
            for la in parts.layers
        ),
        wide=tuple(name for name, bits in zip(names, plan.ops, strict=True) if bits == 16),
        copies=copy_ops(parts.graph, plan),
        bytes=size,
        relative_time=problem.time.exact(solution.precision),
        predicted_db=-10 * math.log10(solution.degradation) if solution.degradation > 0 else math.inf,
        measured_db=quality.worst_db,
        builds=tries,
    )
