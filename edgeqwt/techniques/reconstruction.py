"""Learned rounding: the integers of several layers' weights are chosen together, looking at what these compute."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Annotated

from annotated_types import Interval

from edgeqwt.autograd.memory import to_load
from edgeqwt.errors import InputError
from edgeqwt.extras import CONVERT
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.reconstruct import learned_rounding


@dataclass(frozen=True)
class Reconstruction(learned_rounding.Reconstruction, Technique):
    __doc__ = learned_rounding.Reconstruction.__doc__
    name = "reconstruction"
    title = "learn rounding"
    works = Works.INTEGER
    role = "learned rounding"
    slow = True
    paper = "AdaRound (Nagel et al. 2020); BRECQ (Li et al. 2021); MREM (Bai et al. 2022); QDrop (Wei et al. 2022)"
    measured = "ResNet-20 alone: w8a8 +1.0 dB, w4a8 +11.9 dB, in 7 minutes (docs/recipes.md)"
    gains_db = (1.0, 11.9)

    def memory(self, state: State) -> int:
        """See Technique; what learning itself takes is not foreseen."""
        return to_load()

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """Integers, scales and biases as learned, block by block; all of it, or none where held-out samples lose."""
        if find_spec("torch") is None:
            raise InputError(
                "learned rounding needs torch, which is not installed",
                f"Install it: {CONVERT}; or take a recipe that does without, such as balanced.",
            )
        from edgeqwt.reconstruct.reconstruct import reconstruct

        graph = state.integer_graph
        found = reconstruct(graph, state.graph, context.fit, self, state.precision, context.advance, state.structure)
        gain = context.gate.gain_db(graph, found.graph)
        kept = found.graph is not graph and gain >= 0
        said = (*_sentences(found.blocks), f"together {gain:+.2f} dB on held-out samples")
        account = Account(said, {"blocks": [_row(b) for b in found.blocks], "gain_db": gain}, kept, detail=found)
        return (replace(state, integer=found.graph) if kept else state), account


@dataclass(frozen=True)
class AdaRound(Reconstruction):
    """Learned rounding layer by layer, between two neighbouring integers (Nagel et al. 2020, eq. 21 to 25).

    Options are those of `reconstruction`.
    """

    name = "adaround"
    paper = "AdaRound (Nagel et al. 2020), eq. 21 to 25"
    scope: learned_rounding.Scope = "layer"
    rounding: learned_rounding.Order = "soft"
    iterations: Annotated[int, Interval(ge=1, le=1_000_000)] = 1000
    rate: Annotated[float, Interval(ge=1e-8, le=1)] = 0.1


@dataclass(frozen=True)
class Brecq(AdaRound):
    """Learned rounding block by block, errors weighed by the outputs' squared gradients (Li et al. 2021, eq. 10).

    Options are those of `reconstruction`.
    """

    name = "brecq"
    paper = "BRECQ (Li et al. 2021), eq. 10"
    scope: learned_rounding.Scope = "block"
    fisher: bool = True


@dataclass(frozen=True)
class FimaQ(Brecq):
    """As `brecq`, with errors of elements that count together: Fisher information of low rank beside its diagonal.

    Options are those of `reconstruction`.
    """

    name = "fima_q"
    paper = "FIMA-Q (Wu et al. 2025): diagonal plus low rank"
    measured = (
        "less than brecq: w4a8 14.6 dB for 17.5 on ResNet-20, 28.4 for 29.5 on a ViT (docs/literature-in-files.md)"
    )
    rank: Annotated[int, Interval(ge=0, le=256)] = 15


@dataclass(frozen=True)
class Mrem(Reconstruction):
    """Learned rounding of all blocks at the same time, in processes of their own (Bai et al. 2022, section 3.2).

    Each block learns from what the graph hands on before any has learned, half of the elements the float graph's; then
    blocks are judged in order. Options are those of `reconstruction`; any number of processes gives the same bytes.
    """

    name = "mrem"
    paper = "MREM (Bai et al. 2022), section 3.2"
    measured = "ResNet-20 w4a8: 12.6 dB for 14.3 block after block (docs/literature-in-files.md)"
    scope: learned_rounding.Scope = "block"
    rounding: learned_rounding.Order = "straight"
    iterations: Annotated[int, Interval(ge=1, le=1_000_000)] = 100
    drop: Annotated[float, Interval(ge=0, le=1)] = 0.5
    processes: Annotated[int, Interval(ge=0, le=1024)] = 2


def _sentences(blocks: tuple[learned_rounding.BlockResult, ...]) -> Iterator[str]:
    for block in blocks:
        layers = f"{len(block.ops)} layers up to {block.name!r}: "
        if block.kept:
            gain = 10 * math.log10(block.before / block.after) if block.after else math.inf
            changed = f"{block.changed:.0%} of the integers changed"
            yield layers + f"{gain:.2f} dB less error on samples that it did not learn from; {changed}"
        else:
            yield layers + f"left as they were: {block.reason}"


def _row(block: learned_rounding.BlockResult) -> dict[str, object]:
    return {
        "block": block.name,
        "layers": len(block.ops),
        "error": {"before": block.before, "after": block.after},
        "kept": block.kept,
        "reason": block.reason,
        "changed": block.changed,
    }
