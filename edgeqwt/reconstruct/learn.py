"""Adam on the variables of linear ops, towards the float model's activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from edgeqwt.autograd.evaluate import Program
from edgeqwt.autograd.simulate import FakeQuantized, quantizing
from edgeqwt.reconstruct.blocks import Block
from edgeqwt.reconstruct.codewords import Coded
from edgeqwt.reconstruct.learned_rounding import Reconstruction
from edgeqwt.reconstruct.variables import Variables

Batch = dict[int, torch.Tensor]
WARM_UP = 0.2  # share of the steps in which nothing pulls soft weights to integers


@dataclass(frozen=True, eq=False)
class Objective:
    """What a block is to compute.

    Attributes:
        block: of the reference's ops.
        pair: the reference with the integer graph's constants and steps.
        inputs: some samples' inputs of the block, real values that the integer graph computes.
        floats: the same of the float graph.
        targets: the same samples' outputs and taps, from the float graph.
        weights: of squared errors: one number per output and tap, or per element of it.
        factors: of outputs and taps where errors e of several elements count together: U in |U e|^2, which is added,
            shape (rank, elements).
        count: number of samples; they are chosen by numbers below it.
    """

    block: Block
    pair: FakeQuantized
    inputs: Callable[[Sequence[int]], Batch]
    floats: Callable[[Sequence[int]], Batch]
    targets: Callable[[Sequence[int]], Batch]
    weights: Mapping[int, torch.Tensor]
    factors: Mapping[int, torch.Tensor]
    count: int

    def program(self) -> Program:
        """The block, ready to run."""
        return Program(self.pair.graph, (*self.block.outputs, *self.block.taps), self.block.given)

    def loss(
        self, found: Mapping[int, torch.Tensor], chosen: Sequence[int], only: Sequence[int] | None = None
    ) -> torch.Tensor:
        """The weighted squared error of some samples' outputs and taps, or of `only` some of them."""
        targets = self.targets(chosen)
        wanted = targets.keys() if only is None else only
        terms = []
        for t in wanted:
            error = found[t] - targets[t]
            terms.append((self.weights[t] * error**2).mean())
            if t in self.factors:
                terms.append((error.flatten(1) @ self.factors[t].T).square().sum(dim=1).mean())
        return torch.stack(terms).sum()


def learn(
    objective: Objective, learned: Sequence[Variables], rule: Reconstruction, iterations: int, chooser: torch.Generator
) -> None:
    """Adam on the squared error of the block's outputs and taps, with its activations rounded.

    Args:
        objective: what to learn.
        learned: the variables of the block's linear ops; changed in place. Scales of weights that are still
            free, and integers of fixed ones, stay.
        rule: options.
        iterations: steps; step sizes fall to zero along a cosine.
        chooser: of the samples.
    """
    program, hook = objective.program(), quantizing(objective.pair.steps)
    soft = [v for v in learned if v.kind in ("soft", "codebook")]
    adam, rates = _optimizer(learned, rule)
    for step in range(iterations if rates else 0):
        done = step / iterations
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))
        chosen = torch.randint(objective.count, (rule.batch,), generator=chooser).tolist()
        constants = {t: c for v in learned for t, c in v.constants().items()}
        loss = objective.loss(program.many(_inputs(objective, chosen, rule, chooser), constants, hook), chosen)
        if soft and done >= WARM_UP:
            pulled = torch.stack([v.pull((done - WARM_UP) / (1 - WARM_UP)) for v in soft]).sum()
            loss = loss + rule.pull * pulled / sum(v.latent.numel() for v in soft)
        adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()


def _optimizer(learned: Sequence[Variables], rule: Reconstruction) -> tuple[torch.optim.Adam, list[float]]:
    """Adam on what may change, and its step sizes; none where nothing may."""
    groups = [
        ([v.latent for v in learned if v.kind != "fixed"], rule.rate),
        ([v.codes for v in learned if isinstance(v, Coded)], rule.rate),
        ([v.log_gain for v in learned if v.kind != "free"], rule.scale_rate),
        ([v.shift for v in learned if v.bias >= 0], rule.bias_rate),
    ]
    used = [(params, rate) for params, rate in groups if params and rate]
    nothing = {"params": [torch.zeros(()).requires_grad_()], "lr": 0.0}
    adam = torch.optim.Adam([{"params": params, "lr": rate} for params, rate in used] or [nothing])
    return adam, [rate for _, rate in used]


def _inputs(objective: Objective, chosen: Sequence[int], rule: Reconstruction, chooser: torch.Generator) -> Batch:
    """The block's inputs, some elements the float model's."""
    values = objective.inputs(chosen)
    if not rule.drop:
        return values
    floats = objective.floats(chosen)
    return {
        t: torch.where(_drawn(v, chooser) < rule.drop, floats[t], v) if v.is_floating_point() else v
        for t, v in values.items()
    }


def _drawn(like: torch.Tensor, chooser: torch.Generator) -> torch.Tensor:
    """Numbers from 0 to 1, the same on all devices."""
    return torch.rand(like.shape, generator=chooser).to(like.device)
