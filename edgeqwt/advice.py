"""What to do about a model that comes out poor: where its error arises, and what would help."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from glob import escape

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.passes.technique import COMPENSATION
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.techniques.equalization import Equalization
from edgeqwt.techniques.reconstruction import Reconstruction
from edgeqwt.verify.op_errors import OpError, OwnErrors
from edgeqwt.verify.quality import Quality, TensorQuality
from edgeqwt.verify.thresholds import Thresholds, coarse_outputs


def advice(reference: Graph, quality: Quality, own: OwnErrors, recipe: Recipe) -> str:
    """Where the error comes from, and what may help, as a hint.

    Args:
        reference: the float graph.
        quality: of the model, on held-out samples.
        own: errors of its ops.
        recipe: that it was built by.
    """
    ranked = [*error_sources(own, recipe.quality.min_db), remedies(reference, quality, own, recipe)]
    return " ".join([*ranked, "--accept writes it as it is."])


def error_sources(own: OwnErrors, min_db: float) -> Iterator[str]:
    """Sentences: the op that errs most by itself, and the first behind which less than `min_db` dB are left."""
    if own.worst:
        worst = own.worst[0]
        yield f"{worst.kind} {worst.tensor!r} errs most by itself: {worst.own_db:.1f} dB, {causes(worst)}."
    lost = own.collapsed(min_db)
    if lost is not None:
        yield f"Less than {min_db:g} dB of what varies are left from {lost.kind} {lost.tensor!r} on."


def causes(op: OpError) -> str:
    """What an op's own error is made of, the largest part first."""
    shares = {"rounding": op.rounding, "clipping": op.clipping, "bias": op.bias}
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{share:.0%} {name}" for name, share in ranked if share >= 0.005) or "nothing"


def what_to_do(op: OpError, recipe: Recipe | None, wider_db: float | None = None) -> str:
    """What may help one op, by the largest part of its own error.

    Args:
        op: one of the worst.
        recipe: that the file was built by; None where another tool made it.
        wider_db: what 16 bits at its output alone would leave of the whole model, in dB, where that was measured.
    """
    gain = "" if wider_db is None else f": the outputs then have {wider_db:.1f} dB with float weights"
    if op.kind == "INPUT":
        return f"Give the input finer steps: --input-type int16, or float{gain}."
    layer = f"--layer {shlex.quote(escape(op.reference))}"
    wide = f"Give it 16-bit activations: {layer}=w8a16{gain}."
    if recipe is None:
        return f"Build from the float file (edgeqwt build) with {wide[0].lower()}{wide[1:]}"
    largest = max((op.clipping, "clipping"), (op.bias, "bias"), (op.rounding, "rounding"))[1]
    if largest == "clipping":
        return (
            "Values lie beyond its range: calibrate with samples that reach as far as real ones do, or choose a range "
            f"that cuts nothing off (--ranges minmax). {wide}"
        )
    if largest == "bias" and recipe.of_role(COMPENSATION) is None:
        return f"Its error is the same for all samples: let CWAC take it away (--compensation). {wide}"
    if recipe.precision.weight_bits < 8 and op.kind in RULES and RULES[op.kind].linear:
        return f"Give its weights 8 bits: {layer}=w8a8."
    return wide


def remedies(reference: Graph, quality: Quality, own: OwnErrors, recipe: Recipe) -> str:
    """What may help a model that comes out poor, what helps most first; empty where nothing is left to try.

    Arguments as those of `advice`.
    """
    found = ["more and more varied calibration samples"] if quality.samples < 8 else []
    lost = own.collapsed(recipe.quality.min_db)
    # The file has a table in place of most functions: the float graph knows what it stands for.
    names = {op.reference for op in (*own.worst[:1], *([] if lost is None else [lost]))}
    logarithms = [t for op in reference.ops if op.kind == "LOG" for t in op.outputs]
    if any(reference.tensors[t].name in names for t in logarithms):
        # A logarithm makes small values count as much as large ones; steps of one size leave them nothing.
        found.append(
            "the model without what comes before its logarithm: let the application compute the logarithm in float and "
            "feed it as the input"
        )
    found += [f"16 bits at that output (--output-type {name}=int16)" for name in coarse_outputs(reference, quality)]
    if any(_poor_part(location, recipe.quality) for location in quality.outputs):
        found.append("--split-outputs, an output of its own for each part")
    if recipe.precision.weight_bits < 8:
        found.append("8-bit weights (--precision w8a8)")
    if recipe.precision.activation_bits == 8:
        found.append("16-bit activations (--precision w8a16)")
    if recipe.find(Equalization) is None:
        found.append("--recipe balanced")
    elif recipe.find(Reconstruction) is None:
        found.append("--recipe best")
    return f"Try {'' if len(found) == 1 else 'one or several of: '}{', '.join(found)}." if found else ""


def _poor_part(location: TensorQuality, thresholds: Thresholds) -> bool:
    """Whether some part of an output is poor, which shares its scale with others."""
    return any(not part.closeness.judged_db >= thresholds.warn_db for part in location.parts)
