"""What conversion and preparation made of the source, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgeqwt.output import most

if TYPE_CHECKING:
    from edgeqwt.converted import ConvertedModel
    from edgeqwt.verify.parity import Parity

FEW_CHANGES = 3  # rewrites of the float model that are all named


def converter_sentences(model: ConvertedModel) -> Iterator[str]:
    """Which converter was taken, and what went wrong with those before it; nothing where the first one did it."""
    if model.attempts:
        yield f"{model.converter}, as others failed:"
    for attempt in model.attempts:
        yield f"{attempt.converter} {attempt.version}: {attempt.error}"


def rewritten(changes: Sequence[str]) -> Sequence[str]:
    """What preparation did to the float model; of many rewrites only how many."""
    if len(changes[: most(FEW_CHANGES)]) == len(changes):
        return changes
    return (
        f"{len(changes)} kinds of rewrites, which leave the function as it is: report.html and --verbose list them",
    )


def parity_sentence(parity: Parity) -> str:
    """How far the float model is from its source, at the output that used most of its tolerance."""
    worst = max(parity.outputs, key=lambda output: output.used)
    return (
        f"the float model is at most {worst.max_abs:.2g} from it, where rounding explains "
        f"{worst.tolerance:.2g}; {parity.samples} samples"
    )
