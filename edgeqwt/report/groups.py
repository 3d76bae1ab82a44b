"""What scales per group of samples came to, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeqwt.report.variants import decibels

if TYPE_CHECKING:
    from edgeqwt.pipeline import BuildResult


def group_sentences(result: BuildResult) -> Iterator[str]:
    """What scales per group came to; nothing where none were asked for."""
    groups = result.groups
    if groups is None:
        return
    if not groups.found:
        yield groups.reason
        return
    one, size = result.sizes[result.choice.name], len(result.to_bytes())
    yield f"{size:,} bytes with a signature for each group of {groups.input!r}, {size / one:.2f} times those of one"
    for group in groups.found:
        values = f"{groups.input} from {group.lowest:g}" if math.isfinite(group.lowest) else groups.input
        values += f" below {group.below:g}" if math.isfinite(group.below) else ""
        what = f"scales of its own, {group.gain_db:+.2f} dB" if group.own else "the scales of all samples"
        yield f"{group.key}: {values}: {decibels(group.quality.worst_db)} with {what}"
