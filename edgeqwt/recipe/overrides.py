"""What a call of the API or a command line puts over a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeqwt.calibration.deciding import Deciding
from edgeqwt.errors import InputError
from edgeqwt.interface.options import Interface
from edgeqwt.recipe import recipe as recipes
from edgeqwt.recipe.layers import range_rule
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.techniques.cwac import Cwac
from edgeqwt.widths.precision import Mixed


def overridden(
    recipe: str | Recipe,
    *,
    precision: str | None = None,
    mixed: Mixed | None = None,
    layers: Mapping[str, object] | None = None,
    ranges: str | None = None,
    compensation: bool | None = None,
    float_io: bool | None = None,
    preserve: Sequence[str] | None = None,
    interface: Interface | None = None,
    outputs: Mapping[str, Deciding] | None = None,
) -> Recipe:
    """The recipe with what a call or a command line says in place of what its file says; None leaves the file's.

    Raises:
        RecipeError: a value or a combination that no recipe may have.
        InputError: a limit for mixed precision without mixed precision.
    """
    chosen = recipes.load(recipe) if isinstance(recipe, str) else recipe
    if precision is not None:
        chosen = recipes.with_precision(chosen, precision, mixed)
    elif mixed is not None:
        raise InputError("a limit for mixed precision was given without it", "Give --precision mixed with it.")
    if layers:
        chosen = recipes.with_layers(chosen, layers)
    if ranges is not None:
        chosen = chosen.with_technique(range_rule(ranges))
    if compensation is not None:
        chosen = _compensating(chosen, compensation)
    if preserve is not None:
        chosen = replace(chosen, preserve=recipes.preserved(list(preserve), "--preserve"))
    if interface is not None:
        chosen = replace(chosen, interface=interface.over(chosen.interface))
    if outputs:
        chosen = replace(chosen, outputs={**chosen.outputs, **outputs})
    return recipes.checked(chosen if float_io is None else replace(chosen, float_io=float_io))


def _compensating(recipe: Recipe, wanted: bool) -> Recipe:
    """The recipe with CWAC, at the end where it has none, or without compensation."""
    found = recipe.of_role(Cwac.role)
    if wanted:
        return recipe if found is not None else recipe.with_technique(Cwac())
    return recipe if found is None else recipe.without(found.name)
