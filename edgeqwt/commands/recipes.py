"""`edgeqwt recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

import edgeqwt
from edgeqwt.commands.app import command, group
from edgeqwt.commands.completion import offered, recipes_and_techniques
from edgeqwt.commands.options import Json
from edgeqwt.output import console, plain, print_json, show_facts


@group("recipes", "edgeqwt recipes", "edgeqwt recipes show balanced", "edgeqwt recipes show gptq")
def recipes(context: typer.Context, json: Json = False) -> None:
    """List recipes, and the techniques that they may use.

    `edgeqwt recipes show NAME` explains one of them, technique by technique.
    """
    from edgeqwt.techniques.registry import registered

    if context.invoked_subcommand is not None:
        return
    found, known = edgeqwt.recipes(), registered()
    if json:
        names = {recipe.name: [technique.name for technique in recipe.techniques] for recipe in found}
        print_json({"recipes": plain(names), "techniques": list(known)})
        return
    facts = [(recipe.name, " → ".join(technique.name for technique in recipe.techniques)) for recipe in found]
    used = {technique.name for recipe in found for technique in recipe.techniques}
    out = console()
    show_facts(out, facts)
    out.print(f"In no recipe, for your own: {', '.join(name for name in known if name not in used)}.")
    out.print("Next: edgeqwt recipes show NAME; your own recipe is a .toml file, see docs/recipes.md.")


@command("edgeqwt recipes show balanced", "edgeqwt recipes show mine.toml", of=recipes)
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A recipe, a .toml file, or a technique.",
            metavar="NAME",
            autocompletion=offered(recipes_and_techniques),
        ),
    ],
    json: Json = False,
) -> None:
    """Explain a recipe, or a technique and its options."""
    from edgeqwt.options import meanings, values_of
    from edgeqwt.techniques.registry import changed_options, first_line, registered

    out = console()
    if json:
        chosen = registered()[name]() if name in registered() else edgeqwt.load_recipe(name)
        print_json(plain(chosen))
        return
    if name in registered():
        cls = registered()[name]
        out.print(first_line(cls))
        message, defaults = meanings(cls), values_of(cls())
        show_facts(out, [(key, f"{message[key]} [default: {value}]") for key, value in defaults.items()])
        return
    recipe = edgeqwt.load_recipe(name)
    bits = recipe.precision
    out.print(f"{recipe.name}: weights of {bits.weight_bits} bits, activations of {bits.activation_bits}")
    facts = []
    for technique in recipe.techniques:
        changed = changed_options(technique)
        facts.append((technique.name, first_line(type(technique)) + (f" ({changed})" if changed else "")))
    show_facts(out, facts)
