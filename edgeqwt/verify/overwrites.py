"""Integer graphs that LiteRT is seen to lose values of get copies, after everything else was done to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.overwritten import guarded
from edgeqwt.verify.bitexact import BitExactness


def without_overwrites(
    variants: Mapping[str, Graph], chosen: str, compared: Callable[[Graph], BitExactness]
) -> tuple[dict[str, Graph], BitExactness, tuple[str, ...]]:
    """The graphs as LiteRT computes them rightly, the runtimes' comparison of the chosen one, and what was changed.

    Lowering copies what LiteRT's plan of that graph loses (`runtime.overwritten.protected`). What was rewritten since,
    or is planned in another way by XNNPACK, shows here only: then every tensor whose value could be lost gets a copy,
    in all graphs alike. Where that helps nothing, they stay as they are.

    Args:
        variants: integer graphs of the same ops.
        chosen: the name of the one that is compared.
        compared: compares the runtimes on a graph (`compare_runtimes`).
    """
    runtimes = compared(variants[chosen])
    if not runtimes.overwritten:
        return dict(variants), runtimes, ()
    safe = {name: guarded(graph) for name, graph in variants.items()}
    count = len(safe[chosen].ops) - len(variants[chosen].ops)
    again = compared(safe[chosen]) if count else runtimes
    if again.overwritten:
        return dict(variants), runtimes, ()
    output = runtimes.overwritten[0]
    return safe, again, (f"LiteRT wrote over values that output {output!r} still needs: {count} copies prevent it.",)
