"""What to do about a model that comes out poor: where its error arises, and what would help."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.passes.technique import COMPENSATION
from edgeqwt.possible_remedies import WIDE, lost_logarithms
from edgeqwt.recipe.layers import UPTO, pattern_of
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.techniques.equalization import Equalization
from edgeqwt.techniques.reconstruction import Reconstruction
from edgeqwt.trials import FEW_HELD_OUT, Trial, worst_place
from edgeqwt.verify.op_errors import OpError, OwnErrors
from edgeqwt.verify.paired import STANDARD_ERRORS
from edgeqwt.verify.quality import Quality, TensorQuality
from edgeqwt.verify.thresholds import FINE_DB, Thresholds, coarse_outputs

CONSTANT_DB = 30.0
"""By how much the whole of an output outweighs what varies of it where that is said."""
WORTH_DB = 1.0
"""What 16 bits at one op have to gain to be advised."""
CHOOSING = frozenset({"ARG_MAX", "ARG_MIN", "TOPK_V2"})
"""Ops that give places."""
USING = frozenset({"EQUAL", "NOT_EQUAL", "ONE_HOT", "GATHER", "GATHER_ND", "SCATTER_ND"})
"""Ops that choose by places, as do unpooling and the rows of a codebook."""
SINGLE_DB = 3.0
"""Standard error from which on single samples have most of the error: it halves or doubles with one of them."""
FEW_STEPS = 64.0
"""Of the 256 that an 8-bit scale has: channels that use fewer have lost two bits to larger ones."""


def advice(reference: Graph, quality: Quality, own: OwnErrors, recipe: Recipe, trials: Sequence[Trial] = ()) -> str:
    """Where the error comes from, and what may help, as a hint.

    Args:
        reference: the float graph.
        quality: of the model, on held-out samples.
        own: errors of its ops.
        recipe: that it was built by.
        trials: remedies that were tried.
    """
    found = [*unchanging(quality), *error_sources(own, recipe.quality.min_db), *choices(reference)]
    ranked = [*found, remedies(reference, quality, own, recipe, trials)]
    return " ".join([*ranked, "--accept writes it as it is."])


def unchanging(quality: Quality) -> Iterator[str]:
    """Sentences about outputs that are nearly the same for all samples: no integers may have steps so small."""
    for output in quality.outputs:
        varying, whole = output.closeness.varying_db, output.closeness.sqnr_db
        if varying is not None and whole - varying > CONSTANT_DB:
            share = 10 ** ((varying - whole) / 20)
            yield (
                f"Output {output.name!r} is nearly the same for all samples: it changes by {share:.1%} of its size. "
                "Calibrate with samples of all that the model is to tell apart; if these are, let it return values "
                "less their mean."
            )


def error_sources(own: OwnErrors, min_db: float) -> Iterator[str]:
    """Sentences: the op that errs most by itself, and the first behind which less than `min_db` dB are left."""
    if own.worst:
        worst = own.worst[0]
        yield f"{worst.kind} {worst.name!r} errs most by itself: {worst.own_db:.1f} dB, {causes(worst)}."
    lost = own.collapsed(min_db)
    if lost is not None:
        yield f"Less than {min_db:g} dB of what varies are left from {lost.kind} {lost.name!r} on."


def choices(reference: Graph) -> Iterator[str]:
    """A sentence on places that are chosen inside the network: finer steps help little where values are close."""
    readers = reference.consumers()
    for op in reference.ops:
        used = {reference.ops[i].kind for i in readers.get(op.outputs[-1], ())}
        if op.kind in CHOOSING and used & USING:
            yield (
                f"{op.kind} {reference.tensors[op.outputs[-1]].name!r} chooses places inside the network: where values "
                "are nearly equal, any rounding chooses others, and what follows is that of another place. Let it go "
                "on with values: upsampling, say, in place of unpooling by indices."
            )
            return


def causes(op: OpError) -> str:
    """What an op's own error is made of, the largest part first."""
    shares = {"rounding": op.rounding, "clipping": op.clipping, "bias": op.bias}
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{share:.0%} {name}" for name, share in ranked if share >= 0.005) or "nothing"


def clipped(op: OpError) -> bool:
    """Whether values beyond its range are the largest part of an op's own error."""
    return op.clipping >= max(op.bias, op.rounding)


def unlike(op: OpError) -> str:
    """That channels of unlike size share an op's steps, as a sentence; empty where they do not, or nobody knows."""
    if op.median_used is None or op.median_used >= FEW_STEPS or clipped(op):
        return ""
    return f"Its channels are of unlike size: half of them use at most {math.ceil(op.median_used)} of its 256 steps."


def advice_on(
    op: OpError,
    found: OwnErrors,
    thresholds: Thresholds,
    recipe: Recipe | None,
    names: Mapping[str, str],
    *,
    wider_db: tuple[float, float] | None = None,
    repaired: bool = False,
) -> str:
    """What may help one op that is poor; empty for others.

    Args:
        op: one of the worst.
        found: errors of all ops.
        thresholds: what is poor.
        recipe: that the file was built by; None where another tool made it.
        names: as for `what_to_do`.
        wider_db: likewise.
        repaired: as for `what_to_do_with`.
    """
    if (op.own_db or 0.0) >= thresholds.warn_db:
        return ""
    if recipe is None:
        return what_to_do_with(op, found, repaired, names)
    return what_to_do(op, recipe, wider_db, names)


def what_to_do_with(
    op: OpError, found: OwnErrors, repaired: bool, names: Mapping[str, str] = MappingProxyType({})
) -> str:
    """What may help one op of another tool's file, by the largest part of its own error.

    Args:
        op: one of the worst.
        found: errors of all ops: where one cuts values off, compensation restores nothing.
        repaired: whether compensation has done what it can.
        names: as for `what_to_do`.
    """
    if clipped(op):
        return _beyond(op, found, repaired)
    if op.kind == "INPUT":
        return "Build from the float file with finer steps for the input: edgeqwt build --input int16, or float."
    if op.bias >= op.rounding and not repaired and not any(map(clipped, found.worst)):
        return "Its error is the same for all samples: edgeqwt compensate takes that away."
    if unlike(op):
        return f"{unlike(op)} Build from the float file, which makes channels alike first: edgeqwt build."
    layer = shlex.quote(pattern_of(op.reference, names))
    return f"Build from the float file, with 16-bit activations for it: edgeqwt build --layer {layer}=w8a16."


def _beyond(op: OpError, found: OwnErrors, repaired: bool) -> str:
    """What helps an op of another tool's file whose range is too small: compensation gives some of them wider ones.

    Not where the input is cut off already: nothing behind it restores that.
    """
    anew = "build from the float file with these samples, which chooses all ranges anew (`edgeqwt build`)"
    if repaired:
        return f"Samples go beyond its range, and compensation did not widen that: {anew}."
    before = any(other.kind == "INPUT" and clipped(other) for other in found.worst)
    if not before and op.kind in RULES and RULES[op.kind].linear:
        return (
            "Samples go beyond its range: it was calibrated with others. `edgeqwt compensate` widens it where that "
            f"helps held-out samples and the range is not that of the file's own output; or {anew}."
        )
    more = " They go beyond the range of the file's input, too." if before and op.kind != "INPUT" else ""
    return f"Samples go beyond its range: it was calibrated with others, and no repair mends that: {anew}.{more}"


def added_up(found: OwnErrors, db: float, thresholds: Thresholds, foreign: bool, repaired: bool = False) -> str:
    """Why a model is poor although none of its ops is, and what to do; empty where an op is, or the model is not.

    Args:
        found: errors of its ops.
        db: SQNR of what varies at its worst output.
        thresholds: what is poor.
        foreign: whether another tool made it.
        repaired: whether such a file was compensated.
    """
    if not found.worst or not db < thresholds.warn_db or not (found.worst[0].own_db or 0.0) >= thresholds.warn_db:
        return ""
    why = (
        f"No op is poor by itself, and the model is: each op adds its error to those before it, and {len(found.worst)} "
        "ops compute something. No single op mends that"
    )
    if not foreign:  # what helps was tried
        return f"{why}."
    wide = "build from the float file with finer steps for all activations: `edgeqwt build --precision w8a16`"
    return f"{why}: {wide}." if repaired else f"{why}. `edgeqwt compensate` takes a part of it away; else {wide}."


def what_to_do(
    op: OpError,
    recipe: Recipe,
    wider_db: tuple[float, float] | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """What may help one op of a build, by the largest part of its own error.

    Args:
        op: one of the worst.
        recipe: that the file was built by.
        wider_db: what 16 bits at its output alone would leave of the whole model, and what is left without, in dB, as
            `ceiling.alone` has it.
        names: of the float graph's ops, and what they are in the source; empty where nobody knows.
    """
    layer = f"--layer {shlex.quote(pattern_of(op.reference, names))}"
    finer = "--input int16, or float" if op.kind == "INPUT" else f"{layer}=w8a16"
    wide = f"Give {'the input finer steps' if op.kind == 'INPUT' else 'it 16-bit activations'}: {finer}"
    if wider_db is not None:
        then, now = wider_db
        figures = f"with float weights the outputs then have {then:.1f} dB, {now:.1f} without"
        wide = (
            f"{wide}; {figures}" if then > now + WORTH_DB else f"Finer steps here alone do not pay ({finer}): {figures}"
        )
    wide += "."
    if op.kind == "INPUT":
        return wide
    if clipped(op):
        return (
            "Values lie beyond its range: calibrate with samples that reach as far as real ones do, or choose a range "
            f"that cuts nothing off (--ranges minmax). {wide}"
        )
    if op.bias > op.rounding and recipe.of_role(COMPENSATION) is None:
        return f"Its error is the same for all samples: let CWAC take it away (--compensation). {wide}"
    if unlike(op) and recipe.find(Equalization) is None:
        return f"{unlike(op)} Make them alike: --recipe balanced. {wide}"
    if recipe.precision.weight_bits < 8 and op.kind in RULES and RULES[op.kind].linear:
        return f"Give its weights 8 bits: {layer}=w8a8."
    return wide


def remedies(
    reference: Graph,
    quality: Quality,
    own: OwnErrors,
    recipe: Recipe,
    trials: Sequence[Trial] = (),
    has: float = math.inf,
) -> str:
    """What helps a model that comes out poor, or may help, or that nothing is left to try.

    Arguments as those of `advice`, and what fresh samples are expected to have at the worst output.
    """
    has, messages = min(worst_place(reference, quality).db, has), list[str]()
    better = [trial for trial in trials if trial.enough or trial.worst.db > has]
    if any(trial.enough for trial in better):
        logarithms = lost_logarithms(reference, own, recipe.quality.min_db) if UPTO in better[-1].options else ()
        why = [f"LOG {name!r} makes small values count as much as large ones, which steps of one size do not hold."
               for name in logarithms[:1]]  # fmt: skip
        return " ".join([*why, f"Build with {_measured(better, quality.samples)}"])
    found = [*_untried(reference, quality, own, recipe, tried=bool(trials))]
    if recipe.find(Equalization) is None and (wide := [trial for trial in better if WIDE in trial.options]):
        best = max(wide, key=lambda trial: trial.worst.db)
        found = [f"--recipe balanced {best.options}", *(way for way in found if way != "--recipe balanced")]
    if better:
        messages.append(
            f"No remedy that was tried gives {FINE_DB:g} dB everywhere: {_measured(better, quality.samples)}"
        )
    elif trials:
        messages.append(f"Nothing that was tried is better: {', '.join(trial.options for trial in trials)}.")
    if found:
        messages.append(f"Try {'' if len(found) == 1 else 'one or several of: '}{', '.join(found)}.")
    return " ".join(messages) or "Nothing is left to try of what a build can change."


def _measured(trials: Sequence[Trial], samples: int) -> str:
    """What was tried, the best first, and how sure it is: it is all that is to be done where it is enough.

    Args:
        trials: remedies.
        samples: held-out ones of the build.
    """
    best, *others = sorted(trials, key=lambda t: (not t.enough, t.rare, t.mostly_float, -t.worst.db))
    how = "with" if best.compensated else "without"
    where = f"at the worst output or part, {best.worst.name!r}, on {best.samples} held-out samples {how} compensation"
    where += f", {best.floats:.0%} of the layers' multiplications in float" if best.floats else ""
    where += ", so that devices of integers alone run little of it" if best.mostly_float else ""
    less = f"; {', '.join(f'{t.options} {t.worst.db:.1f} dB' for t in others)}" if others else ""
    error = best.worst.standard_error
    sure = "" if math.isnan(error) else f" ± {error:.1f}"
    few = (
        f" So few samples ({samples} held out) do not tell how far others reach: fresh ones may have 10 dB less. "
        "Calibrate with some hundred before you rely on it."
    )
    few = few if samples <= FEW_HELD_OUT else ""
    if not few and best.rare:
        few = f" Rare samples have most of the error: fresh ones may have {best.least_db:.1f} dB."
    elif not few and not best.enough and error > SINGLE_DB and best.worst.db + STANDARD_ERRORS * error >= FINE_DB:
        few = (
            " Single samples, with values beyond what the others reach, have most of that error: calibrate with more "
            "samples, rare ones among them, and it may be enough."
        )
    return f"{best.options}: {best.worst.db:.1f}{sure} dB of what varies {where}{less}.{few}"


def _untried(reference: Graph, quality: Quality, own: OwnErrors, recipe: Recipe, tried: bool) -> Iterator[str]:
    """What may help, what helps most first."""
    if quality.samples < 8:
        yield "more and more varied calibration samples"
    if lost_logarithms(reference, own, recipe.quality.min_db):
        yield (
            "the model without what comes before its logarithm: let the application compute the logarithm in float and "
            "feed it as the input"
        )
    if not tried:
        coarse = coarse_outputs(reference, quality)
        yield from (f"16 bits at that output (--output-type {name}=int16)" for name in coarse)
        if any(_poor_part(location, recipe.quality) for location in quality.outputs):
            yield "--split-outputs, an output of its own for each part"
    if recipe.precision.weight_bits < 8:
        yield "8-bit weights (--precision w8a8)"
    if recipe.precision.activation_bits == 8 and not tried:
        yield f"16-bit activations ({WIDE})"
    if recipe.find(Equalization) is None:
        yield "--recipe balanced"
    elif recipe.find(Reconstruction) is None:
        yield "--recipe best"


def _poor_part(location: TensorQuality, thresholds: Thresholds) -> bool:
    """Whether some part of an output is poor, which shares its scale with others."""
    return any(not part.closeness.judged_db >= thresholds.warn_db for part in location.judged_parts)
