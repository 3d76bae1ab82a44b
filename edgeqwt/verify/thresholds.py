"""The quality gate: a file whose outputs have little to do with the float model's does not leave unasked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from edgeqwt.errors import QualityError
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.saturation import before_saturation
from edgeqwt.graph.whole_numbers import back_to_cast
from edgeqwt.verify.metrics import Closeness
from edgeqwt.verify.paired import CHANCE, tail
from edgeqwt.verify.quality import Quality, TensorQuality

FINE_DB, LOST_DB = 25.0, 3.0  # an output that has less, and loses so much to the steps of its scale, is reported
CLASSIFIERS = ("SOFTMAX", "LOG_SOFTMAX")
REDUCING = ("REDUCE_MAX", "REDUCE_MIN")


@dataclass(frozen=True)
class Thresholds:
    """How close outputs have to come to the float model's, on held-out samples.

    Attributes:
        min_db: SQNR of what varies between samples, at every output or what goes into its softmax, and at every
            part of an output.
        min_agreement: share of rows whose largest element is the float model's, where outputs are classes.
        warn_db: below this a file is called poor.
        accept: a file below the quality thresholds is written all the same.
    """

    min_db: Annotated[float, Interval(ge=-300, le=300)] = 10.0
    min_agreement: Annotated[float, Interval(ge=0, le=1)] = 0.9
    warn_db: Annotated[float, Interval(ge=-300, le=300)] = 20.0
    accept: bool = False


@dataclass(frozen=True)
class Shortfall:
    """Something that is not as it should be at one output.

    Attributes:
        output: its tensor in the file.
        part: of the output; empty: the whole.
        sentence: what was found.
        below: whether it is below the quality thresholds; a warning otherwise.
        chance: whether it may be chance, as few rows say so.
    """

    output: str
    part: str
    sentence: str
    below: bool
    chance: bool = False


def shortfalls(reference: Graph, quality: Quality, thresholds: Thresholds) -> tuple[Shortfall, ...]:
    """What is poor or worse about an integer graph, output by output.

    Args:
        reference: the float graph, with the outputs of `quality`, in its order.
        quality: of the integer graph, on held-out samples.
        thresholds: what is asked for.
    """
    found: list[Shortfall] = []
    for t, output, judged in zip(reference.outputs, quality.outputs, quality.decisive, strict=True):
        name, known = output.tensor, output.name  # a file's copy in other bits has a name of its own
        passed = before_saturation(reference, t)[1][-1:] or ["the end"]
        at = "" if judged.tensor == name else f", judged at {judged.name!r} before its {passed[0]},"
        where = f"output {known!r}{at}"
        if judged.unresolved is None and (reference.tensors[t].is_float or back_to_cast(reference, t)):
            found += [Shortfall(name, "", *messages) for messages in _poor(where, judged.closeness, thresholds)]
        for part in output.judged_parts:
            where = f"part {part.name!r} of output {known!r}"
            found += [Shortfall(name, part.name, *messages) for messages in _poor(where, part.closeness, thresholds)]
        found += [Shortfall(name, "", *messages) for messages in _agreement(reference, t, output, thresholds)]
    coarse = coarse_outputs(reference, quality)
    for t, output, judged in zip(reference.outputs, quality.outputs, quality.decisive, strict=True):
        if (known := reference.tensors[t].name) in coarse:
            messages = (
                f"output {output.name!r} has {_db(output.closeness.judged_db)} SQNR of what varies where "
                f"{_db(judged.closeness.judged_db)} go into its {coarse[known]}: its steps are fixed, and "
                "coarse for so small differences"
            )
            found.append(Shortfall(output.tensor, "", messages, False))
    return tuple(found)


def coarse_outputs(reference: Graph, quality: Quality, lost_db: float = LOST_DB) -> dict[str, str]:
    """The float graph's outputs that the fixed scale of the function behind what decides rounds too coarsely.

    Args:
        reference: the float graph, with the outputs of `quality`, in its order.
        quality: of the integer graph.
        lost_db: what that function has to lose; minus infinity: any that ends below `FINE_DB`.

    Returns:
        That function, by the output's name in the float graph.
    """
    found = {}
    for t, output, judged in zip(reference.outputs, quality.outputs, quality.decisive, strict=True):
        passed = before_saturation(reference, t)[1] if reference.tensors[t].is_float else []
        # Of probabilities the largest count, which steps of SOFTMAX tell; logarithms are asked for the small ones.
        curve = next((kind for kind in passed if RULES[kind].fixed_output is not None and kind != "SOFTMAX"), "")
        db = output.closeness.judged_db
        if curve and judged.tensor != output.tensor and db < FINE_DB and db + lost_db < judged.closeness.judged_db:
            found[reference.tensors[t].name] = curve
    return found


def require(found: tuple[Shortfall, ...], advice: str) -> None:
    """Stops where something is below the quality thresholds.

    Args:
        found: of the file that would be written.
        advice: where the error comes from and what would help.

    Raises:
        QualityError: it is.
    """
    below = [f.sentence for f in found if f.below]
    if below:
        more = f"; and {len(below) - 3} more" if len(below) > 3 else ""
        raise QualityError("; ".join(below[:3]) + more, advice)


def _poor(where: str, closeness: Closeness, thresholds: Thresholds) -> Iterator[tuple[str, bool]]:
    db = closeness.judged_db
    if math.isnan(db):
        yield f"{where} has values that are not finite", True
        return
    what = "SQNR" if closeness.varying_db is None else "SQNR of what varies"
    still = "" if closeness.varying_db is not None else ", where nothing varies between samples"
    if closeness.varying_db is None and closeness.max_steps is not None and closeness.max_steps <= 1:
        return  # a constant, and the nearest integer or its neighbour stands for it
    if db < thresholds.min_db:
        yield f"{where} has {_db(db)} {what}{still}, below {thresholds.min_db:g} dB", True
    elif db < thresholds.warn_db:
        yield f"{where} has {_db(db)} {what}{still}: that is poor", False


def _agreement(
    reference: Graph, t: int, output: TensorQuality, thresholds: Thresholds
) -> Iterator[tuple[str, bool, bool]]:
    """Whether the largest element is the float model's often enough.

    Rows that float decides by less than a step of the output are left out (`Closeness.clear_rows`), and few rows say
    little: too few agree where a file at the threshold would show so few less often than once in twenty times.
    """
    c, classes, known = output.closeness, _classes(reference, t), output.name
    if classes is None or c.clear_top1 is None:
        if classes and c.rows and not c.clear_rows:
            messages = "cannot tell its classes apart: the two largest lie closer than one of its steps"
            yield f"output {known!r} {messages} on all {c.samples} held-out samples", False, False
        return
    if c.clear_top1 >= thresholds.min_agreement:
        return
    agreeing = round(c.clear_top1 * c.clear_rows)
    chance = thresholds.min_agreement < 1 and tail(agreeing, c.clear_rows, thresholds.min_agreement) > CHANCE
    same, of = ("largest element", "rows") if reference.tensors[t].is_float else ("integer", "elements")
    messages = f"output {known!r} has the float model's {same} in {agreeing} of {c.clear_rows} {of}"
    if chance:
        yield f"{messages}, fewer than {thresholds.min_agreement:g}, which may be chance with so few", False, True
    elif classes:
        yield f"{messages}, fewer than {thresholds.min_agreement:g}", True, False
    else:
        yield f"{messages}: that is poor, if its elements are classes", False, False


def _classes(reference: Graph, t: int) -> bool | None:
    """Whether an output's rows hold classes; False where they may, None where they do not."""
    if back_to_cast(reference, t):
        return None  # numbers
    tensor, passed = reference.tensors[t], before_saturation(reference, t)[1]
    if not tensor.is_float or any(kind in CLASSIFIERS for kind in passed):
        # What is left of the largest probability in each row is one number, which is no class.
        return None if tensor.is_float and any(kind in REDUCING for kind in passed) else True
    op = reference.producers().get(t)
    dense = op is not None and reference.ops[op].kind == "FULLY_CONNECTED"
    return False if dense and len(tensor.shape) == 2 and tensor.shape[-1] > 1 else None


def _db(value: float) -> str:
    return "no" if value == -math.inf else f"{value:.1f} dB"
