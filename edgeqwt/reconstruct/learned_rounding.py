"""What a reconstruction does: options, and what became of each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

Scope = Literal["layer", "block", "network"]
Order = Literal["progressive", "straight", "soft", "fixed", "codebook"]


@dataclass(frozen=True)
class Reconstruction:
    """How weights' integers are learned.

    Attributes:
        scope: what is learned at a time: "layer" (AdaRound, Nagel et al. 2020), "block" (BRECQ, Li et
            al. 2021; MREM, Bai et al. 2022), or "network": all layers together, towards the float
            outputs and the outputs of all blocks.
        rounding: "progressive": layer by layer, what is not rounded yet makes up for it (see there);
            "straight": real weights, rounded in every step, gradients straight through;
            "soft": AdaRound's rectified sigmoid between two neighbouring integers;
            "fixed": integers stay, scales and biases are learned;
            "codebook": codewords and assignments of what `codebook` made, as in VQ4DiT (Deng et al. 2024).
        iterations: Adam steps, per layer, block or network; "progressive": after each layer's rounding.
        finish: Adam steps on scales and biases when all is rounded ("progressive").
        batch: samples per step.
        rate: Adam's step size for weights, in steps of the weight's scale.
        scale_rate: for the logarithm of the weights' scales per channel; 0 keeps them.
        bias_rate: for biases, in steps of the layer's output; 0 keeps them.
        taps: weight of the blocks' outputs against the network's ("network").
        largest: neighbouring blocks are put together up to so many linear ops ("block").
        fisher: weigh errors of activations by the outputs' mean squared gradients.
        rank: with `fisher`, how many directions of errors count beside each element's own: 0 keeps the diagonal
            (BRECQ), up to 15 are FIMA-Q's (Wu et al. 2025). Blocks are then judged by such errors, too.
        drop: probability that an input element of a block is the float model's instead of the integer
            model's (QDrop, Wei et al. 2022).
        pull: strength of what pulls soft weights to integers.
        length: terms of a sub-vector ("codebook"), as `codebook` has it.
        candidates: codewords that a sub-vector may have ("codebook").
        samples: how many samples are learned from at most.
        seed: of the choice of samples.
        processes: 0: block after block, each from what learned blocks before it hand on; more: blocks learn at the same
            time in so many processes, from what the graph hands on before any has learned (MREM's parallel training),
            with the same result for any number. Samples are in memory then.
        threads: torch's; results are the same for the same number. Where other programs run, several wait for each
            other most of the time.
    """

    scope: Scope = "network"
    rounding: Order = "progressive"
    iterations: Annotated[int, Interval(ge=1, le=1_000_000)] = 40
    finish: Annotated[int, Interval(ge=0, le=1_000_000)] = 200
    batch: Annotated[int, Interval(ge=1, le=65_536)] = 32
    rate: Annotated[float, Interval(ge=1e-8, le=1)] = 5e-3
    scale_rate: Annotated[float, Interval(ge=0, le=1)] = 1e-3
    bias_rate: Annotated[float, Interval(ge=0, le=1)] = 1e-2
    taps: Annotated[float, Interval(ge=0, le=1e6)] = 1.0
    largest: Annotated[int, Interval(ge=1, le=1_000_000)] = 2
    fisher: bool = False
    rank: Annotated[int, Interval(ge=0, le=256)] = 0
    drop: Annotated[float, Interval(ge=0, le=1)] = 0.0
    pull: Annotated[float, Interval(ge=0, le=1e6)] = 1.0
    length: Annotated[int, Interval(ge=1, le=16)] = 4
    candidates: Annotated[int, Interval(ge=1, le=256)] = 2
    samples: Annotated[int, Interval(ge=1, le=1_000_000_000)] = 1024
    seed: Annotated[int, Interval(ge=0, le=2**63 - 1)] = 0
    processes: Annotated[int, Interval(ge=0, le=1024)] = 0
    threads: Annotated[int, Interval(ge=1, le=1024)] = 1


@dataclass(frozen=True)
class BlockResult:
    """What became of one block.

    Attributes:
        name: its last output tensor.
        ops: indices of its linear ops in the integer graph.
        before: squared error over squared signal of its outputs on samples that it did not learn from, in the
            real interpreter, before.
        after: the same with what was learned; `before` again where nothing was.
        kept: whether what was learned was kept.
        reason: why not, empty where it was.
        changed: share of the block's weights whose integers are others now.
    """

    name: str
    ops: tuple[int, ...]
    before: float
    after: float
    kept: bool
    reason: str = ""
    changed: float = 0.0
