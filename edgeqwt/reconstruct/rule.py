"""What a reconstruction does: options, and what became of each block."""

from __future__ import annotations

from dataclasses import dataclass

SCOPES = ("layer", "block", "network")
ORDERS = ("progressive", "straight", "soft", "fixed")


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
            "fixed": integers stay, scales and biases are learned.
        iterations: Adam steps, per layer, block or network; "progressive": after each layer's rounding.
        finish: Adam steps on scales and biases when all is rounded ("progressive").
        batch: samples per step.
        rate: Adam's step size for weights, in steps of the weight's scale.
        scale_rate: for the logarithm of the weights' scales per channel; 0 keeps them.
        bias_rate: for biases, in steps of the layer's output; 0 keeps them.
        taps: weight of the blocks' outputs against the network's ("network").
        largest: neighbouring blocks are put together up to so many linear ops ("block").
        fisher: weigh errors of activations by the outputs' mean squared gradients.
        drop: probability that an input element of a block is the float model's instead of the integer
            model's (QDrop, Wei et al. 2022).
        pull: strength of what pulls soft weights to integers.
        samples: how many samples are learned from at most.
        seed: of the choice of samples.
        threads: torch's; results are the same for the same number. Where other programs run, several wait for each
            other most of the time.
    """

    scope: str = "network"
    rounding: str = "progressive"
    iterations: int = 40
    finish: int = 200
    batch: int = 32
    rate: float = 5e-3
    scale_rate: float = 1e-3
    bias_rate: float = 1e-2
    taps: float = 1.0
    largest: int = 2
    fisher: bool = False
    drop: float = 0.0
    pull: float = 1.0
    samples: int = 1024
    seed: int = 0
    threads: int = 1


LIMITS = {
    "iterations": (1, 1_000_000),
    "finish": (0, 1_000_000),
    "batch": (1, 65_536),
    "rate": (1e-8, 1.0),
    "scale_rate": (0.0, 1.0),
    "bias_rate": (0.0, 1.0),
    "taps": (0.0, 1e6),
    "largest": (1, 1_000_000),
    "drop": (0.0, 1.0),
    "pull": (0.0, 1e6),
    "samples": (1, 1_000_000_000),
    "seed": (0, 2**63 - 1),
    "threads": (1, 1024),
}
"""Field of Reconstruction to the smallest and the largest value that makes sense, both allowed."""


@dataclass(frozen=True)
class BlockResult:
    """What became of one block.

    Attributes:
        name: its last output tensor.
        ops: indices of its linear ops in the integer graph.
        before: squared error over squared signal of its outputs on the samples held out, in the real
            interpreter, before.
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
