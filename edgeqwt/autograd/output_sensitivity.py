"""Output sensitivity: how much an error of each activation changes the outputs, as mean squared gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.autograd.evaluate import Program, as_tensor
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.threads import torch_threads

if TYPE_CHECKING:
    import torch

BATCH = 16  # samples in memory at a time, at most
ELEMENTS = 2**25  # of activations in memory at a time; gradients and what they need take several times as much


def output_sensitivity(
    graph: Graph, samples: Iterable[Mapping[int, Array]], outputs: Sequence[int], draws: int = 2, seed: int = 0
) -> dict[int, Array]:
    """Mean over samples of the squared gradient of the outputs with respect to every element of every activation.

    For an error e at one element, independent of all else, the outputs' expected squared error is
    e^2 times this: the diagonal of the Gauss-Newton Hessian of their squared error. It is estimated
    with random signs: E[(d(v . y)/dx)^2] = sum_j (dy_j/dx)^2 for v of independent +-1 (Hutchinson 1990).

    Where an activation is exactly zero, as behind a RELU, it counts as 0: zero is always exact.

    Args:
        graph: float; where an op has no kernel, gradients stop (`autograd.kernels.stops`).
        samples: graph inputs by tensor index.
        outputs: tensors whose squared errors count.
        draws: random sign vectors per sample.
        seed: of the signs.

    Returns:
        float64 by tensor index (the inputs and whatever leads to the outputs), of the tensor's shape.
    """
    import torch

    program = Program(graph, outputs)
    computed = (t for i in program.ops for t in graph.ops[i].outputs)
    watched = [t for t in (*program.given, *computed) if graph.tensors[t].is_float]
    generator = torch.Generator().manual_seed(seed)

    def slopes(
        values: dict[int, torch.Tensor], signs: list[dict[int, torch.Tensor]]
    ) -> tuple[list[dict[int, torch.Tensor]], dict[int, torch.Tensor]]:
        """One sample's gradients for each of some signs, from one run forward, and its activations."""

        def shifted(shifts: dict[int, torch.Tensor]) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
            seen: dict[int, torch.Tensor] = {}

            def shift(t: int, value: torch.Tensor) -> torch.Tensor:
                if t in shifts:
                    seen[t] = value
                    return value + shifts[t]
                return value

            found = program.one({t: shift(t, v) for t, v in values.items()}, hook=shift)
            return {t: found[t] for t in outputs}, seen

        _, back, seen = torch.func.vjp(shifted, zeros, has_aux=True)  # type: ignore[misc]  # three with has_aux
        return [back(drawn)[0] for drawn in signs], seen

    zeros = {t: torch.zeros(graph.tensors[t].shape) for t in watched}
    total = {t: torch.zeros(graph.tensors[t].shape, dtype=torch.float64) for t in watched}
    count = 0
    size = max(1, min(BATCH, ELEMENTS // max(1, sum(value.numel() for value in zeros.values()))))
    with torch_threads(1):
        for chunk in batched(samples, size):
            values = {t: torch.stack([as_tensor(sample[t]) for sample in chunk]) for t in program.given}
            signs = [
                {t: _signs((len(chunk), *graph.tensors[t].shape), generator) for t in outputs} for _ in range(draws)
            ]
            gradients, seen = torch.func.vmap(slopes)(values, signs)
            for found in gradients:
                for t in watched:
                    total[t] += torch.where(seen[t] != 0, found[t], 0.0).double().square().sum(dim=0)
            count += len(chunk)
    return {t: np.asarray(value.numpy()) / (draws * max(count, 1)) for t, value in total.items()}


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    import torch

    return 2.0 * torch.randint(0, 2, shape, generator=generator) - 1.0
