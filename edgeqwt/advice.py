"""What to do about a model that comes out poor: where its error is born, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from edgeqwt.recipes.recipe import Recipe
from edgeqwt.techniques.equalization import Equalization
from edgeqwt.techniques.reconstruction import Reconstruction
from edgeqwt.verify.layers import Quality
from edgeqwt.verify.own import OpError, OwnErrors


def advice(quality: Quality, own: OwnErrors, recipe: Recipe) -> str:
    """Where the error comes from, and what may help, as a hint.

    Args:
        quality: of the model, on held-out samples.
        own: errors of its ops.
        recipe: that it was built by.
    """
    return " ".join([*born(own, recipe.bar.min_db), _remedies(quality, own, recipe), "--accept writes it as it is."])


def born(own: OwnErrors, bar: float) -> Iterator[str]:
    """Sentences: the op that errs most by itself, and the first behind which less than `bar` dB are left."""
    if own.worst:
        worst = own.worst[0]
        yield f"{worst.kind} {worst.tensor!r} errs most by itself: {worst.own_db:.1f} dB, {causes(worst)}."
    lost = own.collapsed(bar)
    if lost is not None:
        yield f"Less than {bar:g} dB of what varies are left from {lost.kind} {lost.tensor!r} on."


def causes(op: OpError) -> str:
    """What an op's own error is made of, the largest part first."""
    shares = {"rounding": op.rounding, "clipping": op.clipping, "bias": op.bias}
    told = sorted(shares.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{share:.0%} {name}" for name, share in told if share >= 0.005) or "nothing"


def _remedies(quality: Quality, own: OwnErrors, recipe: Recipe) -> str:
    found = ["more and more varied calibration samples"] if quality.samples < 8 else []
    lost = own.collapsed(recipe.bar.min_db)
    if "LOG" in {op.kind for op in (*own.worst[:1], *([] if lost is None else [lost]))}:
        # A logarithm makes small values count as much as large ones; steps of one size leave them nothing.
        found.append("the logarithm as the model's input, computed by the application in float")
    if recipe.precision.weight_bits < 8:
        found.append("8-bit weights (--precision w8a8)")
    if recipe.precision.activation_bits == 8:
        found.append("16-bit activations (--precision w8a16)")
    if recipe.find(Equalization) is None:
        found.append("--recipe balanced")
    elif recipe.find(Reconstruction) is None:
        found.append("--recipe best")
    if any(output.parts for output in quality.outputs):
        found.append("--split-outputs, an output of its own for each part")
    return f"Try {', '.join(found)}." if found else ""
