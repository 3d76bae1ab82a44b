"""How much quality a network can have at these widths: its float weights, and activations rounded as the file has them.

What is missing from there to the file is what rounding of weights costs; what is missing beyond is what only wider
activations can give. Without it nobody knows when to stop searching.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.pairing import partners
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.mixed.degradation import degradations, with_rounded_activations
from edgeqwt.runtime.runners import InterpreterError
from edgeqwt.verify.op_errors import OwnErrors

CANDIDATES = 5  # tensors that are left unrounded one at a time: those with the largest own errors


@dataclass(frozen=True)
class Wider:
    """What 16 bits would give.

    Attributes:
        tensors: names in the file; one, or the worst few together.
        db: SQNR of what varies at the outputs with these alone not rounded.
    """

    tensors: tuple[str, ...]
    db: float


@dataclass(frozen=True)
class Ceiling:
    """The best that activations of these widths leave.

    Attributes:
        samples: held-out samples that were run.
        rounded: how many tensors are rounded.
        db: SQNR of what varies at the outputs, before a softmax; float weights.
        wider: what 16 bits give at single tensors, the best first, then at the best two and at all of these together.
    """

    samples: int
    rounded: int
    db: float
    wider: tuple[Wider, ...]


def alone(found: Ceiling | None) -> dict[str, tuple[float, float]]:
    """What 16 bits at single tensors leave, and what is left without, in dB, by the tensor's name."""
    return {} if found is None else {w.tensors[0]: (w.db, found.db) for w in found.wider if len(w.tensors) == 1}


def ceiling(reference: Graph, integer: Graph, own: OwnErrors, samples: Iterable[Mapping[int, Array]]) -> Ceiling | None:
    """The ceiling of an integer graph; None where it has no rounded activations or no real outputs.

    Args:
        reference: the float graph that it was lowered from.
        integer: whose activations' scales count.
        own: errors of its ops, which say where to look.
        samples: inputs by tensor index of `reference`; the first few are read.
    """
    few = [*islice(samples, own.samples)]  # fewer of large networks
    counterparts = _counterparts(reference, integer, own)
    if not few or not counterparts or not decision_tensors(reference):
        return None
    names = {integer.tensors[t].name: a for a, t in counterparts.items()}
    worst = [op.tensor for op in own.worst if op.tensor in names][:CANDIDATES]
    rounded = partial(_rounded, reference, integer, counterparts)
    singles = [partial(rounded, [names[name]]) for name in worst]
    try:
        whole, *alone = [_db(found) for found in degradations(reference, [partial(rounded, []), *singles], few)]
    except InterpreterError:  # an op whose kernel cannot stand what it is given: no figure is better than no build
        return None
    order = sorted(range(len(worst)), key=lambda k: (-alone[k], k))
    best = [worst[k] for k in order]
    groups = [best[:n] for n in sorted({2, len(best)}) if 2 <= n <= len(best)]
    together = degradations(reference, [partial(rounded, [names[name] for name in group]) for group in groups], few)
    wider = [Wider((worst[k],), alone[k]) for k in order]
    wider += [Wider(tuple(group), _db(found)) for group, found in zip(groups, together, strict=True)]
    return Ceiling(len(few), len(counterparts), whole, tuple(wider))


def _counterparts(reference: Graph, integer: Graph, own: OwnErrors) -> dict[int, int]:
    """The reference's activations that the integer graph rounds, each once, and where it has them."""
    moved = {op.tensor for op in own.ops if op.moves}
    found: dict[int, int] = {}
    for t, a in sorted(partners(reference, integer).items()):
        q = integer.tensors[t].quantization
        rounds = q is not None and q.axis is None and integer.tensors[t].dtype in ("int8", "int16", "uint8")
        real = reference.tensors[a].is_float and not reference.tensors[a].is_constant  # an output may be a constant
        if rounds and real and integer.tensors[t].name not in moved:
            found.setdefault(a, t)
    return found


def _rounded(reference: Graph, integer: Graph, counterparts: Mapping[int, int], but: Sequence[int]) -> Graph:
    """The reference with its activations rounded, but for some."""
    found = {a: (integer.tensors[t].quantization, integer.tensors[t].dtype) for a, t in counterparts.items()}
    return with_rounded_activations(reference, {a: (q, d) for a, (q, d) in found.items() if q and a not in but})


def _db(noise: float) -> float:
    return math.inf if noise == 0 else -10 * math.log10(noise)
