"""Sentences on what was found when the integer graph ran in each runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edgeqwt.output import most

if TYPE_CHECKING:
    from edgeqwt.graph.graph import Graph
    from edgeqwt.verify.bitexact import BitExactness, Difference

NAMED = 3  # differences between runtimes that are reported one by one


def runtime_sentences(graph: Graph, found: BitExactness) -> list[tuple[str, str]]:
    """Runtime, and what was found when the graph that was kept ran in it; a runtime may have several lines."""
    listed = []
    if found.ops:
        bytes_ = "same bytes as" if found.ok else "DIFFERENT bytes from"
        but = " but for known steps" if found.ok and found.differences else ""
        listed.append(
            f"{bytes_} LiteRT's reference kernels in {found.ops} of {len(graph.ops)} ops{but}; {found.samples} samples"
        )
    listed += some(_differing(found))
    listed += [f"LiteRT WRITES OVER values that output {name!r} still needs" for name in found.overwritten]
    if found.unavailable and not found.lacking:
        listed.append(f"does not run the whole model: {found.unavailable}")
    listed += _lacking(found)
    named = [("TFLite Micro" if k == 0 else "", sentence) for k, sentence in enumerate(listed)]
    return [*named, *(("XNNPACK", sentence) for sentence in _xnnpack_sentence(graph, found))]


def _differing(found: BitExactness) -> Iterator[str]:
    """The ops that differ from the reference kernels; those that are known to, by kind."""
    groups: dict[object, list[Difference]] = {}
    for d in found.differences:
        groups.setdefault(d.kind if d.known else (d.op, d.tensor), []).append(d)
    for same in groups.values():
        first, values = same[0], sum(d.elements for d in same)
        where = f"{first.kind} #{first.op} {first.tensor!r}" if len(same) == 1 else f"{first.kind}, {len(same)} ops"
        largest = max(d.largest for d in same)
        yield f"{where}: {sum(d.differing for d in same):,} of {values:,} values differ, by {largest:g} at most"


def _lacking(found: BitExactness) -> Iterator[str]:
    """The ops that TFLite Micro does not take, those together that it says the same of."""
    reasons: dict[tuple[str, str], list[int]] = {}
    for lack in found.lacking:
        reasons.setdefault((lack.kind, lack.reason), []).append(lack.op)
    for (kind, reason), ops in reasons.items():
        yield f"does not have {kind} {', '.join(some(f'#{op}' for op in ops))}: {reason}"


def _xnnpack_sentence(graph: Graph, found: BitExactness) -> Iterator[str]:
    from edgeqwt.report.document import largest_steps

    within, at_end = (largest_steps(graph, found.xnnpack), largest_steps(graph, found.xnnpack_outputs))
    if within == 0:
        yield "identical to the reference kernels"
    elif within is not None:
        end = "" if at_end is None else f", {at_end:g} at the outputs"
        yield f"up to {within:g} step{'s' if within > 1 else ''} from the reference kernels{end}"


def some(sentences: Iterable[str]) -> list[str]:
    """The first few, and how many more there are; all of them with --verbose."""
    listed = list(sentences)
    named = most(NAMED)
    return listed if named is None or len(listed) <= named else [*listed[:named], f"and {len(listed) - named} more"]
