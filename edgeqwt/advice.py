"""What to do about a model that comes out poor: where its error is born, and what would help."""

from __future__ import annotations

from edgeqwt.recipes.recipe import Recipe
from edgeqwt.verify.layers import Quality


def advice(quality: Quality, recipe: Recipe) -> str:
    """The first layer where little is left of the float model's values, and what may help, as a hint.

    Args:
        quality: of the model, on held-out samples.
        recipe: that it was built by.
    """
    lost = [place for place in quality.layers if not place.closeness.sqnr_db >= recipe.bar.min_db]
    where = f"The first layer below {recipe.bar.min_db:g} dB is {lost[0].kind} {lost[0].tensor!r}. " if lost else ""
    return f"{where}{_remedies(quality, recipe)} --accept writes it as it is."


def _remedies(quality: Quality, recipe: Recipe) -> str:
    bits = recipe.precision.activation_bits
    found = ["more and more varied calibration samples"] if quality.samples < 32 else []
    if recipe.precision.weight_bits < 8:
        found.append("8-bit weights (--precision w8a8)")
    if bits == 8:
        found.append("16-bit activations (--precision w8a16)")
    if recipe.equalization is None or recipe.name in ("fast", "plain"):
        found.append("--recipe balanced")
    elif recipe.reconstruction is None:
        found.append("--recipe best")
    return f"Try {', '.join(found)}."
